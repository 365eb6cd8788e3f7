"""The tables and the picture of docs/sharding.md, from what was counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure
from storage_page import STYLE
from tables import filled, table, where

Numbers = dict[str, Any]
MIB, GB = 2**20, 1e9


def planned(numbers: Numbers) -> str:
    """Bytes of each device, of models that are not here."""
    rows = [("params", "devices", "params, GB", "AdamW's state, GB", "sent in a step, GB")]
    for name, own in numbers["planned"].items():
        cells = (own["params"] / GB, own["state"] / GB, sent(own) / GB)
        rows.append((*name.split(", "), *(f"{x:.3g}" for x in cells)))
    return table(*rows)


def matrices(numbers: Numbers) -> str:
    """Matrix work of each device, and what it sends."""
    rows = [("params", "devices", "matrix operations, 10¹²", "than alone", "sent in a step, GB")]
    for name, own in numbers["matrices"].items():
        cells = (f"{own['flops'] / 1e12:.3g}", f"÷ {own['flops alone'] / own['flops']:.1f}")
        rows.append((*name.split(", "), *cells, f"{sent(own) / GB:.3g}"))
    return table(*rows)


def sent(own: Numbers) -> float:
    """What each device sends in a step."""
    return sum(x["sent"] for x in own["collectives"].values())


def checked(numbers: Numbers) -> str:
    """Bytes of collectives: planned, and in the text of the compiled program."""
    rows = [("step", "devices", "collective", "in the program", "bytes planned", "compiled")]
    for name, kinds in numbers["checked"].items():
        step, devices = name.rsplit(", ", 1)
        for kind, x in kinds.items():
            rows.append(
                (f"`{step}`", devices, kind, str(x["count"]), f"{x['planned']:,}", f"{x['compiled']:,}")
            )
    return table(*rows)


def asked(numbers: Numbers) -> str:
    """Each demand beside what was found."""
    rows = [("", "found", "asked")]
    for name, own in numbers["memory"].items():
        limits = ("≤ 10.0", "≤ 9.0") if name == "state in shards, all donated" else ("", "")
        for kind, limit in zip(("arguments", "temporary"), limits, strict=True):
            rows.append((f"{name}: {kind}, MiB", f"{own[kind] / MIB:.1f}", limit))
        together = own["arguments"] + own["temporary"] + own["new"]
        rows.append((f"{name}: with what is new, MiB", f"{together / MIB:.1f}", ""))
    for name, own in numbers["muon"].items():
        found, limit = own["flops"] / own["flops alone"], own["share"] * 1.02
        rows.append((f"Muon, {name}: operations of each of 8, × all", f"{found:.4f}", f"≤ {limit:.4f}"))
        rows.append((f"Muon, {name}: largest difference", f"{own['largest difference']:.1g}", "0"))
        for kind, of in {"alone": "alone", "shared": "shared out"}.items():
            counts, sizes = own["cut"][kind]
            said = ", ".join(f"{count} {name}" for name, count in counts.items())
            size = sum(sizes.values()) / MIB
            rows.append(
                (f"Muon, {name}, cut by the axis, {of}: collectives, MiB", f"{size:.1f} ({said})", "")
            )
    busiest = numbers["balance"]["busiest"] / numbers["balance"]["mean"]
    rows.append(("Muon, 12 blocks: operations of the busiest of 8, × the mean", f"{busiest:.3f}", ""))
    for name, own in numbers["compilations"].items():
        rows.append((f"{name}: compilations in three steps", str(own), "[1, 0, 0]"))
    for name, same in numbers["one device"].items():
        rows.append((f"{name} on one device: the same program", "yes" if same else "no", "yes"))
    if "processes" in numbers:
        rows.append(
            ("Muon in two processes: processor time, × all", f"{numbers['processes']['ratio']:.2f}", "≤ 0.6")
        )
    return table(*rows)


TABLES: dict[str, Callable[[Numbers], str]] = {
    "planned": planned,
    "matrices": matrices,
    "checked": checked,
    "asked": asked,
    "where": where,
}
"""By the name that stands in the page's marks."""


def write(path: Path, numbers: Numbers) -> None:
    """Put each table between its marks, and draw the picture."""
    tables = {name: make(numbers) for name, make in TABLES.items()}
    path.write_text(filled(path, "sharding", tables), encoding="utf-8")
    draw(path.parent / "assets" / "sharding.png", numbers["planned"])


def draw(path: Path, planned: Numbers) -> None:
    """Over the number of devices: what each keeps, and sends."""
    matplotlib.style.use(STYLE)
    figure = Figure(figsize=(9, 4))
    kept, passed = figure.subplots(1, 2, sharex=True)
    for size in dict.fromkeys(name.split(", ")[0] for name in planned):
        own = {int(name.split(", ")[1]): x for name, x in planned.items() if name.startswith(f"{size},")}
        kept.loglog(list(own), [x["state"] / GB for x in own.values()], "o-", label=size)
        some = {devices: sent(x) / GB for devices, x in own.items() if sent(x)}
        passed.semilogx(list(some), list(some.values()), "o-")
    kept.set(title="AdamW's state on each, GB", xlabel="Devices")
    passed.set(title="Sent by each in a step, GB", xlabel="Devices", ylim=(0, None))
    kept.set_xticks([8, 64, 512, 4096], ["8", "64", "512", "4096"])
    kept.legend(title="Params")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
