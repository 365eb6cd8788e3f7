"""What can be counted of an update, where timings scatter: one version gives the same numbers anywhere.

    python benchmarks/counts.py [--write]

compares the present tree with benchmarks/results/counts.json, or writes that file anew. It exits with 1
where a number differs, whether it grew or shrank: a change that means to change it writes the file. With
other versions of JAX or Python than those of the file it compares nothing, and says so.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "JAX_ENABLE_COMPILATION_CACHE": "0"}

import jax
import jax.numpy as jnp
import trees
from absl import app, flags
from cases import CASES, RECIPES
from speed import Compilations

import gradtx

WRITE = flags.DEFINE_bool("write", False, "write the file instead of comparing with it")

FILE = Path(__file__).parent / "results" / "counts.json"
PACKAGE = str(Path(gradtx.__file__).parent)
OPTIMIZERS = [
    "sgd(momentum)",
    "adamw",
    "adamw(schedule)",
    "lion",
    "lamb",
    "radam",
    "adafactor",
    "muon",
    "chain(clip, adamw)",
    "adamw, two groups",
    "apply_if_finite(adamw)",
    "MultiSteps(adamw, 4)",
]
SHAPES = trees.gpt2(width=8, blocks=1, vocabulary=16, context=8)


def versions() -> dict[str, str]:
    """On what the numbers depend besides the code."""
    return {"jax": jax.__version__, "python": "{}.{}".format(*sys.version_info)}


# --- of each optimizer ------------------------------------------------------------------------------


def counts(name: str) -> dict[str, float]:
    """Of one step, and of the update in it."""
    make = {**CASES, **RECIPES}[name].make
    params, grads = trees.normal(SHAPES, seed=0), trees.normal(SHAPES, seed=1)
    tx, tensors = make(gradtx), len(jax.tree.leaves(params))

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return gradtx.apply_updates(params, updates), state

    jax.clear_caches()
    state, compilations = tx.init(params), Compilations()
    update = lambda: jax.block_until_ready(tx.update(grads, state, params))  # noqa: E731
    eager, again = compilations.during(update), compilations.during(update)
    calls = python_calls(update)
    traced = python_calls(lambda: jax.make_jaxpr(tx.update)(grads, state, params))
    jitted = jax.jit(step)
    first = compilations.during(lambda: jax.block_until_ready(jitted(params, state, grads)))
    after = jitted(params, state, grads)
    second = compilations.during(lambda: jax.block_until_ready(jitted(*after, grads)))
    cost = jitted.lower(params, state, grads).compile().cost_analysis()
    return {
        "equations per tensor": equations(jax.make_jaxpr(step)(params, state, grads).jaxpr) / tensors,
        "bytes accessed": cost["bytes accessed"],
        "flops": cost["flops"],
        "compilations, eager": eager,
        "again": again,
        "compilations, jitted": first,
        "jitted again": second,
        "Python calls per tensor, eager": calls / tensors,
        "traced": traced / tensors,
    }


def equations(jaxpr: Any) -> int:
    """Those that compute something, in each place where they are called."""
    inner = [[sub for value in eqn.params.values() for sub in jaxprs(value)] for eqn in jaxpr.eqns]
    return sum(sum(map(equations, subs)) if subs else 1 for subs in inner)


def jaxprs(value: Any) -> Iterator[Any]:
    """The jaxprs in a parameter of an equation."""
    for item in value if isinstance(value, tuple | list) else [value]:
        item = getattr(item, "jaxpr", item)
        if hasattr(item, "eqns"):
            yield item


# --- of Python --------------------------------------------------------------------------------------


def ours(code: Any) -> bool:
    """Whether this is a function of gradtx. Comprehensions are not: newer Pythons call none for them."""
    return code.co_filename.startswith(PACKAGE) and not code.co_name.endswith(("comp>", "genexpr>"))


def python_calls(work: Callable[[], Any]) -> int:
    """Functions of gradtx that are called meanwhile."""
    count = 0

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and ours(frame.f_code)

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


DEPTHS: list[int] = []


class SeenState(NamedTuple):
    """seen: a tree like the params, the sum of the updates."""

    seen: Any


@gradtx.leafwise(state=SeenState)
def by_tensor():
    """A formula of one tensor that notes how deep it stands."""

    def update(grad, seen):
        note()
        return grad, {"seen": seen + grad}

    return lambda param: {"seen": jnp.zeros_like(param)}, update


@gradtx.treewise()
def by_tree():
    """The same of a tree."""

    def update(updates, state, params):
        note()
        return updates, state

    return lambda params: (), update


def note() -> None:
    """The frames of gradtx between the caller, which is the formula, and `depth_of`."""
    frame, depth = sys._getframe(2), 0
    while frame is not None and frame.f_code is not depth_of.__code__:
        depth += ours(frame.f_code)
        frame = frame.f_back
    DEPTHS.append(depth)


WRAPPED = {
    "leafwise": lambda: by_tensor(),
    "treewise": lambda: by_tree(),
    "chain(clip, leafwise, scale)": lambda: gradtx.chain(
        gradtx.clip_by_global_norm(1.0), by_tensor(), gradtx.scale(-0.1)
    ),
    "apply_if_finite(leafwise)": lambda: gradtx.apply_if_finite(by_tensor(), 5),
    "MultiSteps(leafwise, 2)": lambda: gradtx.MultiSteps(by_tensor(), 2),
    "groups(leafwise)": lambda: gradtx.groups(gradtx.chain(by_tensor(), gradtx.scale(0.1)), {".*": {}}),
}


def depth_of(work: Callable[[], Any]) -> int:
    """How many functions of gradtx stand between a call and the formula: what a traceback shows of it."""
    DEPTHS.clear()
    work()
    return max(DEPTHS)


def frames(name: str) -> dict[str, int]:
    """From `update` to the formula, when it is traced outside of `jit`, and within it."""
    jax.clear_caches()
    tx, params = WRAPPED[name](), {"w": jnp.ones((2, 3))}
    state = tx.init(params)

    def twice() -> None:  # in the first, `MultiSteps` does not come to it
        tx.update(params, tx.update(params, state, params)[1], params)

    eager = depth_of(twice)
    jax.clear_caches()
    return {"eager": eager, "traced": depth_of(lambda: jax.make_jaxpr(tx.update)(params, state, params))}


# --- the file ---------------------------------------------------------------------------------------


def measured() -> dict[str, Any]:
    """All of it."""
    return {
        "versions": versions(),
        "of a step": {name: counts(name) for name in OPTIMIZERS},
        "frames to the formula": {name: frames(name) for name in WRAPPED},
    }


def written(found: dict[str, Any]) -> str:
    """As JSON, with a line for each optimizer."""
    parts = [
        f" {json.dumps(part)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in own.items())
        + "\n }"
        for part, own in found.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def differences(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Where two trees of numbers differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            yield from differences(before.get(name), after.get(name), (*path, name))
    elif before != after:
        yield f"{': '.join(path)}: {before} → {after}"


def main(_: list[str]) -> None:
    if WRITE.value:
        FILE.write_text(written(measured()))
        return
    before = json.loads(FILE.read_text())
    if before["versions"] != versions():
        print(f"not compared: counted with {before['versions']}, here are {versions()}")
        return
    found = list(differences(before, json.loads(written(measured()))))
    print("\n".join(found) or f"all as in {FILE.name}")
    if found:
        sys.exit("If the change means this, write them anew: make counts ARGS=--write")


if __name__ == "__main__":
    app.run(main)
