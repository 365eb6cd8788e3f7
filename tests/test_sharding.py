"""States over the devices of a mesh: where they lie, and that their numbers are those of one device."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharding_programs  # noqa: E402
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from trees import gpt2  # noqa: E402

import gradtx
from tests.laws import Compilations, assert_close, normal, numbers
from tests.table import ROWS, Row

sharding = gradtx.sharding


def params_of(seed: int, dtype: Any = jnp.float64) -> Any:
    flat = normal({"w": (16, 24), "v": (40,), "t": (2, 8, 3), "odd": (3, 5), "s": ()}, seed, dtype)
    return {"w": flat["w"], "cut": {"v": flat["v"], "t": flat["t"]}, "odd": flat["odd"], "s": flat["s"]}


def mesh_of(axes: Any, shape: tuple[int, ...] = (8,), names: tuple[str, ...] = ("data",)) -> Any:
    return jax.make_mesh(shape, names, axis_types=(axes,) * len(shape))


FEW = ("adamw", "adafactor", "contrib.muon", "partition", "stored")
"""The rows whose programs on eight devices are compiled in `make test`."""


def rows(of: list[Row]) -> list[Any]:
    return [pytest.param(row, id=row.name, marks=[pytest.mark.extra] * (row.name not in FEW)) for row in of]


def step_of(tx: Any) -> Any:
    def step(params: Any, state: Any, grad: Any) -> Any:
        updates, state = tx.update(grad, state, params)
        return gradtx.apply_updates(params, updates), state

    return step


def in_bowl(tx: Any) -> Any:
    """A step down a bowl whose centre moves: of gradients that the params have no part in, some would make
    an ulp ten times as much at each step."""

    def step(params: Any, state: Any, centre: Any) -> Any:
        grad = jax.tree.map(jnp.subtract, params, centre)
        return step_of(tx)(params, state, grad)

    return step


STEPS = 20


def assert_same_way(step: Any, on_mesh: Any, start: Any, state: Any, placed: Any, place: Any) -> None:
    """Twenty steps on the mesh lead where those of one device do, to 1e-12 of the way; one compilation."""
    centres = [
        jax.tree.map(lambda x, like: x[tuple(map(slice, like.shape))], params_of(i + 1), start)
        for i in range(4)
    ]
    alone = jax.jit(step)
    expected, found = start, place(start)
    for i in range(STEPS):
        expected, state = alone(expected, state, centres[i % 4])
    centres = [place(centre) for centre in centres]
    with Compilations() as compilations:
        # In one process many collectives at once would wait for each other's threads.
        found, placed = jax.block_until_ready(on_mesh(found, placed, centres[0]))
    assert compilations.count == 1
    with Compilations() as compilations:
        for i in range(1, STEPS):
            found, placed = jax.block_until_ready(on_mesh(found, placed, centres[i % 4]))
    assert compilations.count == 0
    pairs = zip(numbers(expected), numbers(start), strict=True)
    way = max(np.max(np.abs(x - y), initial=0) for x, y in pairs)
    assert np.isfinite(way)
    for x, y in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-12 * way)


GROWS = ("hutchinson", "param_block")
"""In the names of rows that hand out more the larger the params are, so that these would not stay finite."""


FOLLOWS = ("soap", "kl_")
"""In the names of rows with bases that follow gradients. In directions that no gradient has had yet they are
what rounding makes of them, so that theirs are square."""


def finite(row: Row) -> Any:
    tx = row()
    return gradtx.chain(tx, gradtx.scale(-1e-3)) if any(name in row.name for name in GROWS) else tx


@pytest.mark.parametrize("row", rows(ROWS))
def test_a_sharded_state_has_the_numbers_of_one_device(row: Row, x64: None) -> None:
    tx, mesh, params = finite(row), mesh_of(AxisType.Auto), params_of(0)
    if any(name in row.name for name in FOLLOWS):
        params["w"] = params["w"][:, :16]
    everywhere = NamedSharding(mesh, P())
    shardings = sharding.of_state(tx, params, mesh, "data", min_size=0)
    step = in_bowl(tx)
    on_mesh = jax.jit(lambda *args: step(*args), out_shardings=(everywhere, shardings))
    placed = sharding.init(tx, params, shardings)
    assert_same_way(step, on_mesh, params, tx.init(params), placed, lambda x: jax.device_put(x, everywhere))


# --- zero -------------------------------------------------------------------------------------------


def works_on_shards(row: Row) -> bool:
    try:
        sharding.zero(row(), "data")
    except ValueError as error:
        assert "looks at a whole tensor" in str(error)
        return False
    return True


ON_SHARDS = [row for row in ROWS if row.name != "stored" and works_on_shards(row)]
"""Without the row of blocks of 32, which the shards of these small tensors would cut."""


@pytest.mark.parametrize("row", rows(ON_SHARDS))
def test_shards_are_updated_as_whole_tensors_are(row: Row, x64: None) -> None:
    tx, mesh, params = row(), mesh_of(AxisType.Auto), params_of(0)
    zero = sharding.zero(tx, "data", min_size=0)
    shardings = sharding.of_state(zero, params, mesh, "data", min_size=0)
    specs = jax.tree.map(lambda x: x.spec, shardings)
    mapped = jax.shard_map(in_bowl(zero), mesh=mesh, in_specs=(P(), specs, P()), out_specs=(P(), specs))
    placed, everywhere = sharding.init(zero, params, shardings), NamedSharding(mesh, P())
    place = lambda x: jax.device_put(x, everywhere)  # noqa: E731
    assert_same_way(in_bowl(tx), jax.jit(mapped), params, tx.init(params), placed, place)


def run_zero(
    tx: Any,
    params: Any,
    grads: Any,
    *,
    gradients: str,
    specs_of_grads: Any,
    min_size: int = 0,
    dtype: Any = None,
) -> Any:
    """Params, state and the text of one compiled step of `zero`, on eight devices."""
    mesh = mesh_of(AxisType.Auto)
    zero = sharding.zero(tx, "data", gradients, min_size=min_size, dtype=dtype)
    shardings = sharding.of_state(zero, params, mesh, "data", min_size=min_size)
    specs = jax.tree.map(lambda x: x.spec, shardings)

    mapped = jax.shard_map(
        step_of(zero), mesh=mesh, in_specs=(P(), specs, specs_of_grads), out_specs=(P(), specs)
    )
    compiled = jax.jit(mapped).lower(params, sharding.init(zero, params, shardings), grads).compile()
    found, state = compiled(params, sharding.init(zero, params, shardings), grads)
    return jax.block_until_ready(found), state, compiled.as_text()


def times(text: str, collective: str) -> int:
    return len(
        [line for line in text.splitlines() if f" {collective}(" in line or f" {collective}-start(" in line]
    )


CLIPPED = gradtx.chain(gradtx.clip_by_global_norm(0.5), gradtx.adamw(0.1, eps=1e-6))


def test_local_gradients_are_reduced_and_scattered_at_once(x64: None) -> None:
    params = {**params_of(0), "s": jnp.ones(1)}
    local = jax.tree.map(lambda x: jnp.concatenate([x * k for k in range(8)]), params)
    mean = jax.tree.map(lambda x, p: x.reshape(8, *p.shape).mean(0), local, params)
    found, _, text = run_zero(CLIPPED, params, local, gradients="local", specs_of_grads=P("data"))
    updates, _ = CLIPPED.update(mean, CLIPPED.init(params), params)
    assert_close(found, gradtx.apply_updates(params, updates), rtol=1e-12, atol=1e-12)
    # w, v and t are cut; the mean of the other two and one norm of all remain.
    assert times(text, "reduce-scatter") <= 3 and times(text, "all-gather") <= 3
    assert times(text, "all-reduce") <= 3 and not times(text, "all-to-all")


def test_gradients_may_come_as_shards(x64: None) -> None:
    params = {"w": params_of(0)["w"]}
    found, _, text = run_zero(CLIPPED, params, params, gradients="scattered", specs_of_grads=P(None, "data"))
    updates, _ = CLIPPED.update(params, CLIPPED.init(params), params)
    assert_close(found, gradtx.apply_updates(params, updates), rtol=1e-12, atol=1e-12)
    assert times(text, "reduce-scatter") == 0 and times(text, "all-reduce") == 1


def test_what_travels_in_bfloat16_is_half_as_much() -> None:
    params = {"w": params_of(0, jnp.bfloat16)["w"]}
    local = {"w": jnp.concatenate([params["w"] * k for k in range(8)])}
    sizes = {}
    for dtype in (None, "bfloat16"):
        run = partial(run_zero, CLIPPED, params, dtype=dtype)
        whole, _, _ = run(params, gradients="whole", specs_of_grads=P())
        mean, _, _ = run(local, gradients="local", specs_of_grads=P("data"))
        updates, _ = CLIPPED.update(params, CLIPPED.init(params), params)
        assert_close(whole, gradtx.apply_updates(params, updates), rtol=0, atol=0)
        updates, _ = CLIPPED.update({"w": 3.5 * params["w"]}, CLIPPED.init(params), params)
        assert_close(mean, gradtx.apply_updates(params, updates))
        zero = sharding.zero(CLIPPED, "data", "local", min_size=0, dtype=dtype)
        plan = sharding.plan(zero, params, AbstractMesh((8,), ("data",)), "data")
        sizes[dtype] = {x.kind: x.size for x in plan.collectives if x.kind != "all-reduce"}
    assert sizes[None] == {"reduce-scatter": 4 * 384, "all-gather": 4 * 384}
    assert sizes["bfloat16"] == {"reduce-scatter": 2 * 384, "all-gather": 2 * 384}


def test_stored_slots_work_in_shards_of_whole_blocks() -> None:
    kept = {"mu": gradtx.formats.companded(), "nu": gradtx.formats.square_root()}
    tx = gradtx.stored(gradtx.adamw(0.1), kept)
    params = normal({"w": (64, 256), "b": (16,)}, 0, jnp.float32)
    found, state, _ = run_zero(tx, params, params, gradients="whole", specs_of_grads=P(), min_size=1024)
    updates, _ = tx.update(params, tx.init(params), params)
    assert_close(found, gradtx.apply_updates(params, updates))
    assert state[0].mu["w"].parts["codes"].sharding.spec == P(None, "data")
    with pytest.raises(
        ValueError, match="scale_by_adam/mu/w is whole on every device, and w, .33, 200., is cut along"
    ):
        run_zero(
            tx,
            normal({"w": (33, 200)}, 0, jnp.float32),
            normal({"w": (33, 200)}, 0, jnp.float32),
            gradients="whole",
            specs_of_grads=P(),
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: gradtx.lamb(0.1),
        lambda: gradtx.adafactor(0.1),
        lambda: gradtx.contrib.muon(0.1),
        lambda: gradtx.masked(gradtx.lars(0.1), True),
    ],
)
def test_what_looks_at_whole_tensors_is_refused_by_name(make: Any) -> None:
    with pytest.raises(
        ValueError, match="sharding.zero: .* looks at a whole tensor .* gradtx.sharding.of_state"
    ):
        sharding.zero(make(), "data")


def test_what_was_said_of_gradients_is_checked() -> None:
    params = {"w": jnp.ones((16, 8))}
    for gradients, specs in (("whole", P("data")), ("local", P())):
        with pytest.raises(ValueError, match=f"gradients='{gradients}' says that"):
            grads = {"w": jnp.ones((128 if gradients == "whole" else 16, 8))}
            run_zero(gradtx.sgd(0.1), params, grads, gradients=gradients, specs_of_grads=specs)
    with pytest.raises(ValueError, match="gradients must be 'whole', 'local' or 'scattered'"):
        sharding.zero(gradtx.sgd(0.1), "data", "mean")
    with pytest.raises(
        ValueError, match="update runs inside of jax.shard_map over 'data', and this is outside"
    ):
        zero = sharding.zero(gradtx.sgd(0.1), "data")
        zero.update(params, zero.init(params), params)
    with pytest.raises(
        ValueError, match="of jax.shard_map over 'rows', and this is inside of one over 'data'"
    ):
        rows = sharding.zero(gradtx.sgd(0.1), "rows", "scattered")
        run = lambda grads: rows.update(grads, rows.init(params), params)[0]  # noqa: E731
        jax.shard_map(run, mesh=mesh_of(AxisType.Auto), in_specs=P(), out_specs=P())(params)


def test_a_state_that_another_axis_cuts_is_refused() -> None:
    mesh, params = mesh_of(AxisType.Auto, (4, 2), ("data", "model")), {"w": jnp.ones((64, 32))}
    zero = sharding.zero(gradtx.adam(0.1), "data")
    specs = jax.tree.map(lambda x: x.spec, sharding.of_state(zero, params, mesh, "model"))
    mapped = jax.shard_map(zero.update, mesh=mesh, in_specs=(P(), specs, P()), out_specs=(P(), specs))
    with pytest.raises(
        ValueError,
        match=r"scale_by_adam/mu/w is \(32, 32\) on each device, and w, \(64, 32\), is cut along dimension 0 "
        r"over 'data', to \(16, 32\). Place the state by gradtx.sharding.of_state over 'data'",
    ):
        mapped(params, zero.init(params), params)


# --- where a state lies -----------------------------------------------------------------------------

BIG = {"w": (256, 512), "b": (512,), "odd": (33, 1001), "s": ()}


@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_slots_lie_beside_their_params_and_over_one_axis_more(axes: Any) -> None:
    mesh = mesh_of(axes, (4, 2), ("data", "model"))
    params = jax.device_put(normal(BIG, 0, jnp.float32), NamedSharding(mesh, P()))
    params["w"] = jax.device_put(params["w"], NamedSharding(mesh, P(None, "model")))
    shardings = sharding.of_state(gradtx.adamw(0.1), params, mesh, "data")
    mu = jax.tree.map(lambda x: x.spec, shardings[0].mu)
    assert mu == {"w": P("data", "model"), "b": P(), "odd": P(), "s": P()}
    assert shardings[0].count.spec == P()
    with jax.set_mesh(mesh):
        state = sharding.init(gradtx.adamw(0.1), params, shardings)
    for x, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
        assert x.sharding.is_equivalent_to(wanted, x.ndim)
    assert {shard.data.shape for shard in state[0].mu["w"].addressable_shards} == {(64, 256)}
    both = sharding.of_state(gradtx.adamw(0.1), {"w": params["b"]}, mesh, ("data", "model"), min_size=0)
    assert both[0].mu["w"].spec == P(("data", "model"))


def test_slots_of_another_shape_are_cut_along_their_longest_dimension() -> None:
    mesh, params = mesh_of(AxisType.Auto), {"w": jnp.ones((256, 512))}
    found = sharding.of_state(
        gradtx.adafactor(0.1, min_dim_size_to_factor=8), params, mesh, "data", min_size=0
    )
    factored = next(part for part in found if hasattr(part, "v_row"))
    assert (factored.v_row["w"].spec, factored.v_col["w"].spec) == (P("data"), P("data"))
    chosen = {".*": P("data", None)}
    assert (
        sharding.of_state(gradtx.adam(0.1), params, mesh, "data", overrides=chosen)[0].mu["w"].spec
        == chosen[".*"]
    )


def test_a_report_says_what_each_device_has_and_what_stays_whole() -> None:
    mesh = AbstractMesh((8,), ("data",))
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in BIG.items()}
    tx = gradtx.adam(0.1)
    found = sharding.report(tx, params, sharding.of_state(tx, params, mesh, "data"))
    whole = 2 * 4 * (512 + 33 * 1001 + 1) + 4
    assert found.total == 2 * 4 * (256 * 512 + 512 + 33 * 1001 + 1) + 4
    assert found.per_device == 2 * 4 * 256 * 512 // 8 + whole == sum(x.on_each for x in found.arrays)
    assert sum(x.size for x in found.whole) == whole
    text = str(found)
    assert "scale_by_adam/mu/odd: 132,132 bytes, no dimension of (33, 1001) is a multiple of 8" in text
    assert "on each of 8" in text and "scale_by_adam/count: 4 bytes, a number" in text


GPT = jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
    gpt2(width=64, blocks=4, vocabulary=512, context=64),
    is_leaf=lambda x: isinstance(x, tuple),
)
PLANNED: dict[str, Any] = {
    "of_state": (lambda: CLIPPED, sharding_programs.in_jit),
    "zero": (lambda: CLIPPED, sharding_programs.in_shard_map),
    "shared_out": (
        lambda: sharding.shared_out(gradtx.contrib.muon(0.02), "data"),
        partial(sharding_programs.in_jit, min_size=10**9),
    ),
}


@pytest.mark.parametrize("kind", PLANNED)
def test_a_plan_has_the_collectives_of_the_compiled_step(kind: str) -> None:
    make, steps = PLANNED[kind]
    mesh, tx = sharding_programs.mesh_of(8), make()
    planned = sharding.zero(tx, "data", gradients="local") if kind == "zero" else tx
    plan = sharding.plan(planned, GPT, AbstractMesh((8,), ("data",)), "data")
    with jax.set_mesh(mesh):
        step, *given = steps(tx, GPT, mesh)
        text = step.lower(GPT, *given).compile().as_text()
    counts, sizes = sharding_programs.collectives(text, 8)
    assert {x.kind for x in plan.collectives} == set(sizes)
    for x in plan.collectives:
        assert sizes[x.kind] == pytest.approx(x.size, rel=0.05, abs=64) and counts[x.kind] <= x.count + 1
    assert (plan.flops > 0) == (kind == "shared_out") and plan.flops <= plan.flops_alone
    text = str(plan)
    assert "on each of 8" in text and all(x.kind in text for x in plan.collectives)


def on(mesh: Any, params: Any) -> Any:
    return jax.device_put(params, NamedSharding(mesh, P()))


def on_another(params: Any) -> Any:
    return on(mesh_of(AxisType.Auto, (4, 2), ("a", "b")), params)


def half(i: int) -> Any:
    """A mesh of four of the eight devices."""
    return jax.sharding.Mesh(np.asarray(jax.devices()[4 * i : 4 * i + 4]), ("data",))


def halves(params: Any) -> Any:
    """Two params, on two meshes."""
    return {name: on(half(i), params["w"]) for i, name in enumerate("ab")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda mesh, p: sharding.plan(gradtx.adam(0.1), p, mesh, "rows"),
            "the mesh has no axis 'rows'; it has 'data'",
        ),
        (
            lambda mesh, p: sharding.of_state(gradtx.adam(0.1), p, mesh, "rows"),
            "the mesh has no axis 'rows'; it has 'data'",
        ),
        (
            lambda mesh, p: sharding.of_state(gradtx.adam(0.1), p, mesh, "data", overrides={"v": P()}),
            "overrides: 'v' matches none of the paths: w",
        ),
        (
            lambda mesh, p: sharding.of_state(
                gradtx.adam(0.1), p, mesh, "data", overrides={"w": P(None, "data")}
            ),
            r"cuts w, \(16, 12\), in 8 parts, and 12",
        ),
        (
            lambda mesh, p: sharding.of_state(gradtx.adam(0.1), p, mesh, "data", overrides={"w": P("rows")}),
            "the mesh has no axis 'rows'",
        ),
        (
            lambda mesh, p: sharding.init(
                gradtx.sgd(0.1), p, sharding.of_state(gradtx.adam(0.1), p, mesh, "data")
            ),
            "not those of a state of sgd",
        ),
        (
            lambda mesh, p: sharding.report(
                gradtx.sgd(0.1), p, sharding.of_state(gradtx.adam(0.1), p, mesh, "data")
            ),
            "a state of sgd has 0 arrays",
        ),
        (
            lambda mesh, p: sharding.of_state(gradtx.adam(0.1), on_another(p), mesh, "data"),
            r"of_state: w, \(16, 12\), is on the mesh .*'a': 4, 'b': 2.* the state is to be on .*'data': 8.*"
            r"jax.device_put\(params",
        ),
        (
            lambda mesh, p: sharding.of_state(gradtx.adam(0.1), p | halves(p), half(0), "data"),
            r"b, \(16, 12\), is on the mesh {'data': 4} of devices 4, 5, 6, 7, and the state is to be on "
            r"{'data': 4} of devices 0, 1, 2, 3",
        ),
        (
            lambda mesh, p: sharding.init(
                gradtx.adam(0.1), on_another(p), sharding.of_state(gradtx.adam(0.1), p, mesh, "data")
            ),
            r"init: w, \(16, 12\), is on the mesh .*'a': 4, 'b': 2",
        ),
        (
            # What JAX says by itself.
            lambda mesh, p: jax.jit(gradtx.adam(0.1).update)(
                on(mesh, p), gradtx.adam(0.1).init(on(half(0), p))
            ),
            r"incompatible devices .*updates\['w'\].*\[0, 1, 2, 3, 4, 5, 6, 7\].*state\[0\].*\[0, 1, 2, 3\]",
        ),
    ],
)
def test_bad_input_is_said(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(mesh_of(AxisType.Auto), {"w": jnp.ones((16, 12))})


# --- matrix work shared out -------------------------------------------------------------------------

MATRICES = {f"w{i}": (32, 32) for i in range(10)} | {f"v{i}": (16, 48) for i in range(8)} | {"b": (32,)}


@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_each_device_computes_its_share_of_the_matrices(axes: Any, x64: None) -> None:
    mesh, tx = mesh_of(axes), gradtx.contrib.muon(0.02)
    everywhere = NamedSharding(mesh, P())
    params = jax.device_put(normal(MATRICES, 0), everywhere)
    shared = sharding.shared_out(tx, "data")
    with jax.set_mesh(mesh):
        state = shared.init(params)
        with gradtx.batching(gradtx.Stack()):
            compiled = {
                one: jax.jit(step_of(one), out_shardings=everywhere).lower(params, state, params).compile()
                for one in (shared, tx)
            }
        flops = {one: program.cost_analysis()["flops"] for one, program in compiled.items()}
        found, _ = jax.block_until_ready(compiled[shared](params, state, params))
        expected, _ = jax.block_until_ready(compiled[tx](params, state, params))
    # Two of sixteen places for ten matrices, one of eight for eight; products are all but a little of it.
    assert flops[shared] <= flops[tx] * (2 * 32 + 16 * 48 / 32) / (10 * 32 + 8 * 16 * 48 / 32) * 1.1
    text = compiled[shared].as_text()
    assert times(text, "all-gather") == 2 and not times(text, "all-to-all") and not times(text, "all-reduce")
    # Products of few matrices are rounded in another order than those of many.
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


FEW_AND_MANY = {f"w{i}": (16, 24) for i in range(10)} | {f"u{i}": (24, 16) for i in range(3)}
"""Ten of a shape, more than devices, and three, which are so few that they are summed."""


def test_shares_are_bit_for_bit_what_each_device_would_compute() -> None:
    tx = gradtx.contrib.muon(0.02, ns_steps=3)
    params = normal(FEW_AND_MANY, 0, jnp.float32)
    state = tx.init(params)
    expected = jax.jit(tx.update)(params, state, params)
    shared = sharding.shared_out(tx, "data")
    for name in ("shard_map", "jit", "FSDP"):
        mesh, update = mesh_of(AxisType.Explicit if name == "jit" else AxisType.Auto), shared.update
        if name == "shard_map":
            update = jax.shard_map(update, mesh=mesh, in_specs=P(), out_specs=P())
        other, matrix = (NamedSharding(mesh, spec) for spec in (P(), P("data") if name == "FSDP" else P()))
        where = jax.tree.map(lambda x, lie=(other, matrix): lie[x.ndim == 2], (params, state))
        with jax.set_mesh(mesh):
            given = *jax.device_put((params, state), where), jax.device_put(params, where[0])
            compiled = jax.jit(update, out_shardings=where).lower(*given).compile()
            found = jax.block_until_ready(compiled(*given))
        for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(x, y, err_msg=name)
        # Of params that the axis cuts, one brings the matrices of a shape together, and one takes them back.
        text = compiled.as_text()
        assert times(text, "all-to-all") == (2 if name == "FSDP" else 0) and times(text, "all-reduce") == 1
        assert name == "FSDP" or times(text, "all-gather") == 1


@pytest.mark.parametrize("spec", [P("data"), P(None, "model"), P("model", "data")], ids=str)
@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_params_that_axes_cut_are_shared_out(axes: Any, spec: Any, x64: None) -> None:
    mesh, tx = mesh_of(axes, (4, 2), ("data", "model")), gradtx.contrib.muon(0.02)
    params = normal(MATRICES, 0)
    state = tx.init(params)
    expected = jax.jit(tx.update)(params, state, params)
    where = jax.tree.map(lambda x: NamedSharding(mesh, spec if x.ndim == 2 else P()), (params, state))
    with jax.set_mesh(mesh):
        given = *jax.device_put((params, state), where), jax.device_put(params, where[0])
        update = sharding.shared_out(tx, "data").update
        compiled = jax.jit(update, out_shardings=where).lower(*given).compile()
        assert_close(jax.block_until_ready(compiled(*given)), expected, rtol=1e-12, atol=1e-12)
    counts = {kind: times(compiled.as_text(), kind) for kind in ("all-to-all", "all-gather")}
    # Of two shapes, there and back; along the other axis XLA gathers what it multiplies.
    assert counts["all-to-all"] == (4 if "data" in spec else 0)
    assert "model" in spec or not counts["all-gather"]


def test_matrices_that_lie_in_different_ways_share_a_shape(x64: None) -> None:
    mesh, tx = mesh_of(AxisType.Explicit), gradtx.contrib.muon(0.02)
    params = normal({f"w{i}": (32, 32) for i in range(4)}, 0)
    expected, _ = tx.update(params, tx.init(params), params)
    specs = dict(zip(params, (P("data"), P(), P(None, "data"), P("data")), strict=True))
    with jax.set_mesh(mesh):
        given = {name: jax.device_put(x, NamedSharding(mesh, specs[name])) for name, x in params.items()}
        found, _ = jax.jit(sharding.shared_out(tx, "data").update)(given, tx.init(given), given)
        assert_close(jax.block_until_ready(found), expected, rtol=1e-12, atol=1e-12)
    assert {name: x.sharding.spec for name, x in found.items()} == {
        "w0": P("data", None), "w1": P(None, None), "w2": P(None, "data"), "w3": P("data", None)
    }  # fmt: skip


WIDE = {"up": (8, 32), "down": (32, 8), "attention": (8, 24), "out": (8, 8)}
BLOCKS = {f"{name}{i}": shape for name, shape in WIDE.items() for i in range(12)}


@pytest.mark.parametrize("is_mapped", [False, True], ids=["jit", "shard_map"])
def test_what_is_left_over_of_shapes_goes_to_the_devices_with_the_least(is_mapped: bool) -> None:
    done: list[tuple[int, int]] = []

    @gradtx.leafwise(batch=True)
    def recorded() -> Any:
        def update(grad: Any) -> Any:
            device = jax.lax.axis_index("data")
            jax.debug.callback(lambda device: done.append((int(device), grad.size)), device)
            wide = grad if grad.shape[0] < grad.shape[1] else grad.T
            return ((wide @ wide.T) @ wide).reshape(grad.shape)

        return update

    mesh, tx = mesh_of(AxisType.Auto), sharding.shared_out(recorded(), "data")
    params, update = normal(BLOCKS, 0, jnp.float32), tx.update
    state = tx.init(params)
    if is_mapped:
        update = jax.shard_map(update, mesh=mesh, in_specs=P(), out_specs=P())
    with jax.set_mesh(mesh):
        jax.block_until_ready(jax.jit(update)(params, state))
        jax.effects_barrier()
    # With one side of 8 a matrix costs what it holds, 4, 4, 3 or 1. Each is computed once. Every device has
    # one of each, 12; what is left over, 6 on the mean, is 7 at most, where two of each would be 12.
    loads = np.bincount([device for device, _ in done], [size for _, size in done])
    assert len(done) == len(BLOCKS) and loads.sum() == 12 * 8 * (32 + 32 + 24 + 8)
    assert loads.max() / loads.mean() == pytest.approx(19 / 18)
    plan = sharding.plan(tx, params, AbstractMesh((8,), ("data",)), "data")
    assert plan.flops / plan.flops_alone == pytest.approx(loads.max() / loads.sum())


def test_shared_out_says_what_it_lacks() -> None:
    params = normal(MATRICES, 0, jnp.float32)
    shared = sharding.shared_out(gradtx.contrib.muon(0.02), "data")
    with pytest.raises(ValueError, match="no mesh with an axis 'data' is set, the axes here are: none"):
        shared.update(params, shared.init(params), params)
    local = jax.shard_map(
        lambda grads: shared.update(grads, shared.init(params), params)[0],
        mesh=mesh_of(AxisType.Auto), in_specs=P("data"), out_specs=P("data"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="gradients or params differ along 'data'.*jax.lax.pmean"):
        local(jax.tree.map(lambda x: jnp.concatenate([x] * 8), params))
