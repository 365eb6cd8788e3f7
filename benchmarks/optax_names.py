"""Whether gradtx has every public name of the installed Optax, with its arguments: docs/optax_names.md.

    python benchmarks/optax_names.py [--out docs/optax_names.md]

It exits with 1 if a name is missing, or differs in its signature, without a reason that stands here; and
if a reason stands here that is none any more.
"""

import inspect
import sys
import typing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import optax
from absl import app, flags
from tables import table

import gradtx
from gradtx.moved import LEFT_OUT, MOVED

OUT = flags.DEFINE_string("out", None, "file for the page; without one it is printed")

PAGE = """\
# Optax's names, one by one

`python benchmarks/optax_names.py --out docs/optax_names.md` (or `make parity`) wrote this page, from Optax
{optax}; a test fails if a name is missing.

{summary}
Where nothing is said about arguments, their names, order and defaults are Optax's. What behaves otherwise on
purpose stands in [Coming from Optax](from_optax.md).

{namespaces}"""

# --- what differs on purpose ------------------------------------------------------------------------

WIDE = "default: the params' dtype, at least float32"
NO_SEED = "deprecated in Optax: give `key`, a seed or a JAX key"
SEED = "a seed or a JAX key; in Optax, none warns or is seed 0"
UNNAMED = "a function with a name, which does the same"

DIFFERENCES: dict[str, dict[str, str]] = {
    "LookaheadState": {"slow_params": "the state keeps the slow params"},
    "MultiSteps": {"opt": "called `inner`, as in every wrapper, and understood", "accumulator_dtype": WIDE},
    "adafactor": {"dtype_momentum": WIDE},
    "scale_by_distance_over_gradients": {"param_dtype": WIDE},
    "add_noise": {"key": SEED, "seed": NO_SEED},
    "noisy_sgd": {"key": SEED, "seed": NO_SEED},
    "scale_by_lbfgs": {"unit_start": "also: a first step of length 1, in any unit of the objective"},
    "inject_hyperparams": {"schedules": "also: schedules by name"},
    "inject_stateful_hyperparams": {"schedules": "also: schedules by name"},
    "scale_by_factored_rms": {"decay_rate_fn": "None stands for the same function"},
    "contrib.adopt": {"clip_value_fn": "None stands for the same function"},
    "contrib.scale_by_adopt": {"clip_value_fn": "None stands for the same function"},
    "contrib.prodigy": {"bias_correction": "also: without, as the authors' package has it by default"},
    "contrib.differentially_private_aggregate": {
        "key": "required: with a known key, the noise can be taken away",
        "seed": NO_SEED,
    },
    "contrib.muon": {
        "ns_beyond": "also: how lists of coefficients go on",
        "ns_dtype": "also: the dtype of the products",
        "method": "also: exact factors",
        "scale": "also: other factors for the shape",
    },
    "contrib.scale_by_muon": {
        "ns_beyond": "also: how lists of coefficients go on",
        "ns_dtype": "also: the dtype of the products",
        "method": "also: exact factors",
    },
    "microbatching.micro_grad": {"transform_fn": UNNAMED, "metrics_fn": UNNAMED},
    "contrib.hutchinson_estimator_diag_hessian": {"random_seed": "None is seed 0 in Optax too"},
}
"""By name and argument, why a signature differs. It holds for the name in all namespaces."""

# --- the names of Optax -----------------------------------------------------------------------------


def namespaces(module: ModuleType = optax, name: str = "") -> Iterator[tuple[str, ModuleType]]:
    """The public modules of Optax by their names without ``optax.``, which is itself the first."""
    yield name, module
    for inner, value in sorted(vars(module).items()):
        below = isinstance(value, ModuleType) and value.__name__.startswith(f"{module.__name__}.")
        if below and not inner.startswith("_"):
            yield from namespaces(value, f"{name}.{inner}" if name else inner)


def names(module: ModuleType) -> list[str]:
    """The public names of a module of Optax, without other modules, and what it imports from Python."""
    found = {*vars(module), *vars(module).get("_deprecations", {}), *vars(module).get("__all__", ())}
    return sorted(
        name
        for name in found
        if not name.startswith("_")
        and not isinstance(x := vars(module).get(name), ModuleType)
        and (x is None or getattr(typing, name, None) is not x)
    )


# --- the comparison ---------------------------------------------------------------------------------


@dataclass
class Row:
    """What there is to say of a name: where it is in gradtx, or why it is not; and of each argument."""

    name: str
    where: str = ""
    reason: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The heading that it counts under."""
        if not self.where:
            return "missing" if self.wrong else self.reason.partition(":")[0]
        if self.where != self.name:
            return "under another name"
        return "present, with other arguments" if self.arguments else "present"

    @property
    def remark(self) -> str:
        """The last column of its line."""
        where = f"`gradtx.{self.where}`" if self.where and self.where != self.name else ""
        arguments = [f"`{name}`: {reason}" for name, reason in self.arguments.items()]
        return "; ".join(filter(None, [where, self.reason, *arguments, *self.wrong]))


def compare(namespace: str, module: ModuleType, name: str) -> Row:
    """One name of Optax with what gradtx has."""
    full = f"{namespace}.{name}" if namespace else name
    where = MOVED.get(full, full)
    found = lookup(where)
    if found is not None:
        reasons = DIFFERENCES.get(full) or DIFFERENCES.get(name, {})
        return Row(
            full, where, **differences(vars(module)[name] if name in vars(module) else found, found, reasons)
        )
    if full in LEFT_OUT:
        return Row(full, reason=f"left out: {LEFT_OUT[full]}")
    return Row(full, wrong=["**missing**"])


def lookup(where: str) -> Any:
    """What gradtx has under this name; None if nothing."""
    found: Any = gradtx
    for part in where.split("."):
        found = getattr(found, part, None)
    return found


def differences(theirs: Any, ours: Any, reasons: dict[str, str]) -> dict[str, Any]:
    """How the signature differs: the arguments with a reason for it, and complaints about the others."""
    found = set(differing(theirs, ours))
    return {
        "arguments": {name: reason for name, reason in reasons.items() if name in found},
        "wrong": [f"**`{name}` differs, without a reason**" for name in sorted(found - reasons.keys())],
    }


def differing(theirs: Any, ours: Any) -> Iterator[str]:
    """The arguments that are not the same: by name, kind, place and default."""
    try:
        a, b = (list(inspect.signature(x).parameters.values()) for x in (theirs, ours))
    except (TypeError, ValueError):
        return  # an alias of a type, or a class of Python's
    by_name = {shown(p): p for p in b}
    common = [shown(p) for p in a if shown(p) in by_name]
    for p in a:
        q = by_name.get(shown(p))
        if q is None or p.kind != q.kind or default(p) != default(q):
            yield p.name
    yield from (q.name for q in b if shown(q) not in map(shown, a) and not renamed(q, a, b))
    if common != [name for name in by_name if name in common]:
        yield "the order"


def renamed(q: inspect.Parameter, a: list[inspect.Parameter], b: list[inspect.Parameter]) -> bool:
    """Whether an argument of ours stands in the place of one of theirs of another name."""
    place = b.index(q)
    return place < len(a) and shown(a[place]) not in map(shown, b)


def shown(p: inspect.Parameter) -> str:
    """What a caller knows an argument by: its name, or that it takes all the others."""
    return p.kind.name if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) else p.name


def default(p: inspect.Parameter) -> str:
    """A default, in words that two libraries can share."""
    x = p.default
    if hasattr(x, "init") and hasattr(x, "update"):  # a transformation, by its factory
        return getattr(x, "name", x.init.__qualname__).rpartition("contrib.")[2].split(".")[0]
    if type(x).__module__.split(".")[0] in ("optax", "gradtx"):
        return type(x).__name__ if "Type" not in type(x).__name__ else x.name
    return (
        getattr(x, "__name__", "")
        if callable(x) and x is not p.empty and not isinstance(x, type)
        else repr(x)
    )


def comparison() -> dict[str, list[Row]]:
    """By namespace, what there is to say of each name."""
    return {space: [compare(space, module, name) for name in names(module)] for space, module in namespaces()}


def stale(rows: list[Row]) -> Iterator[str]:
    """Reasons for what is not so."""
    there = {row.name: row for row in rows}
    for name, reasons in DIFFERENCES.items():
        for argument in reasons:
            if name not in there or argument not in there[name].arguments:
                yield f"{name}: {argument} does not differ"
    yield from (f"{name} is no name of Optax's that is elsewhere" for name in MOVED if name not in there)
    yield from (f"{name} is not left out" for name in LEFT_OUT if name not in there or there[name].where)


def complaints() -> list[str]:
    """What is wrong; nothing, it is hoped."""
    rows = [row for group in comparison().values() for row in group]
    return [*(f"{row.name}: {row.remark}" for row in rows if row.wrong), *stale(rows)]


# --- the page ---------------------------------------------------------------------------------------


def section(space: str, rows: list[Row]) -> str:
    """A namespace: the names of which there is nothing to say, and the others."""
    said = [(f"`{row.name}`", row.remark) for row in rows if row.remark]
    silent = ", ".join(f"`{row.name.removeprefix(f'{space}.')}`" for row in rows if not row.remark)
    title = f"## {'.'.join(filter(None, ['optax', space]))}\n"
    parts = [
        f"As in Optax: {silent}.\n" if silent else "",
        table(("name", "in gradtx"), *said) + "\n" if said else "",
    ]
    return "\n".join([title, *filter(None, parts)])


def page() -> str:
    """The whole of it."""
    groups = {space: rows for space, rows in comparison().items() if rows}
    counts = Counter(row.kind for rows in groups.values() for row in rows)
    summary = table(("", "names"), *((kind, str(n)) for kind, n in counts.most_common())) + "\n"
    sections = "\n".join(section(space, rows) for space, rows in groups.items())
    return PAGE.format(optax=version("optax"), summary=summary, namespaces=sections)


def main(_: list[str]) -> None:
    if OUT.value:
        Path(OUT.value).write_text(page())
    else:
        print(page())
    found = complaints()
    print(*found, sep="\n", file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    app.run(main)
