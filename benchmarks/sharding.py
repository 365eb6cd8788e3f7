"""State and matrix work over devices, counted; and a section of docs/sharding.md.

    python benchmarks/sharding.py --page docs/sharding.md
    python benchmarks/sharding.py --parts checked --parts none

On a CPU it runs on 64 devices that XLA makes of it; elsewhere on those that there are. What is counted does
not depend on how busy the machine is; only the part `processes` is timed, in processor time. Numbers go to
results/sharding.json beside this file; each that is taken replaces the old one.
"""

import json
import math
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# Before JAX: on a CPU these are the devices, elsewhere it says nothing.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=64"

import jax
import jax.numpy as jnp
import report
import sharding_page as page
import sharding_processes as processes
from absl import app, flags
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from sharding_programs import collectives, in_jit, in_shard_map, loss, mesh_of
from trees import gpt2, norm

import gradtx

PARTS = (
    "planned",
    "matrices",
    "checked",
    "memory",
    "muon",
    "balance",
    "compilations",
    "one device",
    "processes",
)

WANTED = flags.DEFINE_multi_enum(
    "parts", PARTS, [*PARTS, "none"], "what to count; may be given several times"
)
PAGE = flags.DEFINE_string("page", None, "the page whose tables and picture to write")

RESULTS = Path(__file__).parent / "results" / "sharding.json"

GPTS = {"1.3B": (2048, 24), "7B": (4096, 33), "70B": (8192, 86)}
"""Width and blocks."""
MODEL = 8
"""Devices that share each matrix of the largest."""
DEVICES = (8, 64, 512, 4096)

Numbers = dict[str, Any]


def clipped_adamw() -> gradtx.GradientTransformation:
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(3e-4))


def shared_muon() -> gradtx.GradientTransformation:
    return gradtx.sharding.shared_out(gradtx.contrib.muon(0.02), "data")


def muon_of_blocks() -> gradtx.GradientTransformation:
    """Embeddings by AdamW, as its authors have it."""
    muon = gradtx.muon(0.02, muon_weight_dimension_numbers={".*/kernel": True})
    return gradtx.sharding.shared_out(muon, "data")


def zero_adamw() -> gradtx.GradientTransformation:
    return gradtx.sharding.zero(clipped_adamw(), "data", gradients="local")


def abstract(shapes: Any, dtype: Any = jnp.float32) -> Any:
    return jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s, dtype), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def split(params: Any, mesh: AbstractMesh) -> Any:
    """Matrices cut along their longer side over the axis `model`."""

    def cut(x: Any) -> Any:
        if x.ndim < 2:
            return x
        i = max(range(x.ndim), key=lambda i: x.shape[i])
        spec = PartitionSpec(*("model" if j == i else None for j in range(x.ndim)))
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(cut, params)


def numbers_of(plan: gradtx.sharding.Plan) -> Numbers:
    return {
        "params": plan.params,
        "state": plan.state.per_device,
        "state alone": plan.state.total,
        "collectives": {x.kind: {"count": x.count, "size": x.size, "sent": x.sent} for x in plan.collectives},
        "flops": plan.flops,
        "flops alone": plan.flops_alone,
    }


def planned(make: Callable[[], gradtx.GradientTransformation] = zero_adamw) -> Numbers:
    """What is bought with more devices, of models that are not here."""
    found = {}
    for name, (width, blocks) in GPTS.items():
        params = abstract(gpt2(width, blocks, 50304, 2048))
        for devices in DEVICES:
            model = MODEL if name == "70B" else 1
            mesh = AbstractMesh((devices // model, model), ("data", "model"))
            placed = split(params, mesh) if model > 1 else params
            found[f"{name}, {devices}"] = numbers_of(gradtx.sharding.plan(make(), placed, mesh, "data"))
            print(name, devices, file=sys.stderr, flush=True)
    return found


def checked() -> Numbers:
    """The plan beside the text of the compiled program."""
    params = abstract(gpt2(width=128, blocks=8, vocabulary=1024, context=128))
    cases: dict[str, tuple[Any, Callable[..., Any]]] = {
        "of_state(adamw)": (clipped_adamw(), in_jit),
        "zero(adamw)": (zero_adamw(), lambda _, *given: in_shard_map(clipped_adamw(), *given)),
        "shared_out(muon)": (shared_muon(), lambda *given: in_jit(*given, min_size=10**9)),
    }
    found = {}
    for devices in sorted({min(n, jax.device_count()) for n in (8, 64)}):
        for name, (tx, make) in cases.items():
            mesh = mesh_of(devices)
            with jax.set_mesh(mesh):
                step, *given = make(tx, params, mesh)
                counts, sizes = collectives(step.lower(params, *given).compile().as_text(), devices)
            plan = gradtx.sharding.plan(tx, params, mesh, "data")
            found[f"{name}, {devices}"] = {
                x.kind: {"planned": x.size, "compiled": sizes[x.kind], "count": counts[x.kind]}
                for x in plan.collectives
            } | {
                kind: {"planned": 0, "compiled": size, "count": counts[kind]}
                for kind, size in sizes.items()
                if kind not in {x.kind for x in plan.collectives}
            }
            print(name, devices, file=sys.stderr, flush=True)
    return found


def memory() -> Numbers:
    """Arguments, temporary buffers and new ones of a compiled step: eight layers of 512 × 512, on 8
    devices."""
    params = abstract({f"layer{i}": {"kernel": (512, 512), "bias": (512,)} for i in range(8)})
    mesh, clipped, bare = mesh_of(min(8, jax.device_count())), clipped_adamw(), gradtx.adamw(3e-4)
    steps = {
        f"{name}, {kind}": in_jit(tx, params, mesh, donate=donated, min_size=min_size)
        for name, min_size in {"state whole": 10**9, "state in shards": 1}.items()
        for kind, (tx, donated) in {
            "all donated": (clipped, (0, 1)),
            "state donated": (clipped, (1,)),
            "no clip, all donated": (bare, (0, 1)),
        }.items()
    }
    steps["state in shards, `zero`, all donated"] = in_shard_map(clipped, params, mesh)
    found = {}
    for name, (step, state, batch) in steps.items():
        program = step.lower(params, state, batch).compile()
        taken = program.memory_analysis()
        found[name] = {
            "arguments": taken.argument_size_in_bytes,
            "temporary": taken.temp_size_in_bytes,
            "new": taken.output_size_in_bytes - taken.alias_size_in_bytes,
            "flops": program.cost_analysis()["flops"],
        }
    return found


def muon() -> Numbers:
    """Operations of each device, alone and shared out, how far their results are apart, and the bytes of
    collectives where the axis cuts the params."""
    mesh, found = mesh_of(min(8, jax.device_count())), {}
    plain = gradtx.contrib.muon(0.02)
    updates = {"alone": plain.update, "shared": shared_muon().update}
    for count, shape in ((16, (256, 256)), (12, (128, 512))):
        keys = jax.random.split(jax.random.key(0), count)
        params = {f"w{i}": jax.random.normal(key, shape) for i, key in enumerate(keys)}
        whole = {name: compiled(update, plain, params, mesh) for name, update in updates.items()}
        cut = {name: compiled(update, plain, params, mesh, "data") for name, update in updates.items()}
        results = {name: jax.block_until_ready(step(*given)) for name, (step, given) in whole.items()}
        found[f"{count} of {shape[0]} × {shape[1]}"] = {
            "flops alone": whole["alone"][0].cost_analysis()["flops"],
            "flops": whole["shared"][0].cost_analysis()["flops"],
            "share": math.ceil(count / mesh.size) / count,
            "collectives": dict(collectives(whole["shared"][0].as_text(), mesh.size)[0]),
            "largest difference": largest_difference(results["alone"], results["shared"]),
            "cut": {
                name: [dict(x) for x in collectives(step.as_text(), mesh.size)]
                for name, (step, _) in cut.items()
            },
        }
    return found


def compiled(update: Any, tx: Any, params: Any, mesh: Any, *cuts: str) -> tuple[Any, Any]:
    """An update of matrices that are cut so, or not at all, and what it is given."""
    matrix, other = (NamedSharding(mesh, spec) for spec in (PartitionSpec(*cuts), PartitionSpec()))
    with jax.set_mesh(mesh):
        given = (params, tx.init(params), params)
        where = jax.tree.map(lambda x: matrix if x.ndim == 2 else other, given)
        given = jax.device_put(given, where)
        return jax.jit(update, out_shardings=where[:2]).lower(*given).compile(), given


def largest_difference(one: Any, other: Any) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.max(abs(x - y))), one, other)))


def balance() -> Numbers:
    """Matrix work of the busiest of 8 devices over the mean: 12 blocks, of four shapes, leave four matrices
    of each over."""
    params = abstract(gpt2(width=768, blocks=12, vocabulary=50257, context=1024))
    plan = gradtx.sharding.plan(muon_of_blocks(), params, AbstractMesh((8,), ("data",)), "data")
    return {"busiest": plan.flops, "mean": plan.flops_alone / 8}


def compilations() -> Numbers:
    """What XLA compiles in three steps with the state in shards."""
    total = 0

    def listen(event: str, duration: float, **_: Any) -> None:
        nonlocal total
        total += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    mesh, found = mesh_of(min(8, jax.device_count())), {}
    everywhere = NamedSharding(mesh, PartitionSpec())
    for name, tx in {
        "adamw": clipped_adamw(),
        "adafactor": gradtx.adafactor(1e-3),
        "muon": gradtx.contrib.muon(0.02),
    }.items():
        params = jax.device_put({"w": jnp.ones((64, 64)), "b": jnp.ones(64)}, everywhere)
        shardings = gradtx.sharding.of_state(tx, params, mesh, "data", min_size=0)
        state = gradtx.sharding.init(tx, params, shardings)
        batch = jax.device_put(jnp.ones((16, 64)), NamedSharding(mesh, PartitionSpec("data")))
        step = jax.jit(step_of(tx), out_shardings=(everywhere, shardings))
        found[name] = []
        for _ in range(3):
            before = total
            params, state = jax.block_until_ready(step(params, state, batch))
            found[name].append(total - before)
    return found


def step_of(tx: Any) -> Callable[..., Any]:
    def step(params: Any, state: Any, batch: Any) -> Any:
        updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
        return gradtx.apply_updates(params, updates), state

    return step


def one_device() -> Numbers:
    """Whether on one device the compiled step is the same text with and without sharding."""
    params, mesh = abstract({"w": (64, 64), **norm(64)}), mesh_of(1)
    batch = jax.ShapeDtypeStruct((16, 64), jnp.float32)
    tx, muon = clipped_adamw(), gradtx.contrib.muon(0.02)
    found = {}
    for name, plain, other in (("of_state", tx, tx), ("shared_out", muon, shared_muon())):
        with jax.set_mesh(mesh):
            bare = (
                jax.jit(step_of(plain), donate_argnums=(0, 1))
                .lower(params, plain.init(params), batch)
                .compile()
            )
            jitted, *given = in_jit(other, params, mesh)
            found[name] = instructions(bare.as_text()) == instructions(
                jitted.lower(params, given[0], batch).compile().as_text()
            )
    return found


def instructions(text: str) -> list[str]:
    """The lines of a program, without the names of places in the source and of shardings."""
    body = text[text.index("\n") :]
    for noise in (
        r", metadata=\{.*?\}",
        r", frontend_attributes=\{.*\}",
        r", sharding=\{.*?\}\}?",
        r"stack_frame_id=\d+",
        r"\.\d+",
    ):
        body = re.sub(noise, "", body)
    return [line for line in body.splitlines() if " = " in line]


MEASURES: dict[str, Callable[[], Numbers]] = {
    "planned": planned,
    "matrices": partial(planned, muon_of_blocks),
    "checked": checked,
    "memory": memory,
    "muon": muon,
    "balance": balance,
    "compilations": compilations,
    "one device": one_device,
    "processes": processes.ratio,
    "none": dict,
}


def main(_: list[str]) -> None:
    numbers = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in WANTED.value:
        if found := MEASURES[part]():
            numbers[part] = found
            numbers["where"] = report.surroundings()
            RESULTS.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
            print(part, "done", file=sys.stderr, flush=True)
    if PAGE.value:
        page.write(Path(PAGE.value), numbers)


if __name__ == "__main__":
    app.run(main)
