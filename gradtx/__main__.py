"""The command line.

    python -m gradtx list '*adam*'                               optimizers: bytes of state, source
    python -m gradtx show config.yaml                            what an optimizer does
    python -m gradtx plot config.yaml --steps 10000 --out x.png  its schedules
    python -m gradtx convert old.npz --out new.npz               a state dict with plain arrays alone

A config is what `gradtx.to_config` makes, as JSON or YAML, or the name of an optimizer. The last one undoes
the formats of `gradtx.stored`. It needs the extra `cli`: pip install "gradtx[cli]".
"""

import json
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gradtx.core.transformation import GradientTransformation
from gradtx.explaining.catalogue import optimizers
from gradtx.explaining.explanation import explain
from gradtx.plot import schedule
from gradtx.state.forms import decoded
from gradtx.values.config import from_config


class Mistake(Exception):
    """What is wrong with a command line, in words."""


def list_optimizers(pattern: str = "*") -> None:
    """One line for each optimizer."""
    found = list(optimizers(pattern))
    if not found:
        raise Mistake(f"no optimizer is called {pattern!r}; list shows all, list '*adam*' some")
    width = max(len(one.name) for one in found)
    print(f"{'optimizer':{width}}  bytes  source")
    for one in found:
        print(f"{one.name:{width}}  {one.bytes_each:5.1f}  {one.source or one.summary}")


def show_config(config: str) -> None:
    """The optimizer as source, and what it does."""
    tx = read(config)
    print(tx, end="\n\n")
    if isinstance(tx, GradientTransformation):
        print(explain(tx))


def plot_config(config: str, *, steps: int, out: str) -> None:
    """A picture of its schedules."""
    path = Path(out or "schedules.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    schedule(read(config), steps).savefig(path)
    print(path)


def convert_states(old: str, *, out: str) -> None:
    """A state dict with plain arrays alone, which loads into any state, whatever its formats are."""
    if not out or Path(out).resolve() == Path(old).resolve():
        raise Mistake("convert: say where the result goes: --out new.npz")
    with np.load(old) as entries:
        flat = {name: entries[name] for name in entries.files}
    plain, slots = decoded(flat)
    np.savez(out, **plain)
    print(f"{out}: {len(plain)} entries, {len(slots)} of them were in codes")


def read(config: str) -> Any:
    """The value that a file describes, or the optimizer of this name."""
    path = Path(config)
    if not path.is_file():
        for one in optimizers(config):
            return one.made()
        raise Mistake(f"{config}: there is no such file, and no optimizer of this name")
    text = path.read_text()
    return from_config(json.loads(text) if path.suffix == ".json" else _extra("yaml").safe_load(text))


def _extra(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise SystemExit(f'python -m gradtx needs {error.name}: pip install "gradtx[cli]"') from None


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_optimizers,
    "show": show_config,
    "plot": plot_config,
    "convert": convert_states,
}
OPTIONS = {"plot": ("steps", "out"), "convert": ("out",)}


def run(arguments: Sequence[str], **options: Any) -> int:
    """Run a command; returns the exit status.

    Args:
        arguments: the command, and what it is given.
        **options: the flags.
    """
    command, *given = arguments or ("",)
    if command not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    chosen = {name: options[name] for name in OPTIONS.get(command, ())}
    try:
        COMMANDS[command](*given, **chosen)
    except (Mistake, OSError, ValueError, TypeError, ModuleNotFoundError) as error:
        print(f"gradtx {command}: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> None:
    """Read the flags and run."""
    app, flags = _extra("absl.app"), _extra("absl.flags")
    flags.DEFINE_integer("steps", 10_000, "how many updates a plot shows", lower_bound=1)
    flags.DEFINE_string("out", "", "the file to write")
    # A program for a terminal has no use for an accelerator.
    jax.config.update("jax_platforms", "cpu")
    app.run(lambda argv: run(argv[1:], steps=flags.FLAGS.steps, out=flags.FLAGS.out))


if __name__ == "__main__":
    main()
