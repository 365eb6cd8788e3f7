"""The engine's hooks: layouts, leaf-aligned extras, keys, paths, periodic work, batches, sums over shards."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradtx
from gradtx.arrays.loops import at_most_once
from gradtx.arrays.select import select
from tests.laws import Compilations, assert_close, assert_same_layout, normal, tree

# --- layouts ----------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bytes(gradtx.Coded):
    """A tensor as a scale and whole numbers of a byte."""

    codes: jax.Array
    scale: jax.Array

    def decode(self) -> jax.Array:
        return self.codes * self.scale

    def encode(self, x: jax.Array) -> "Bytes":
        scale = jnp.max(jnp.abs(x), initial=1e-30) / 127
        return Bytes(jnp.round(x / scale).astype(jnp.int8), scale)


class TraceState(NamedTuple):
    trace: gradtx.Params


@dataclass(frozen=True)
class InBytes(gradtx.Layout):
    """Slots that `init` makes as tensors begin, and so stay, as `Bytes`."""

    def make(self, init: Any, param: Any, fields: tuple[str, ...]) -> Any:
        empty = Bytes(jnp.zeros([], jnp.int8), jnp.ones([]))
        return jax.tree.map(empty.encode, super().make(init, param, fields))


def momentum(layout: gradtx.Layout) -> gradtx.GradientTransformation:
    @gradtx.leafwise(state=TraceState, layout=layout, elementwise=True)
    def momentum(decay: gradtx.Decay = 0.9):
        def init(param):
            return dict(trace=jnp.zeros_like(param))

        def update(grad, trace):
            trace = grad + decay * trace
            return trace, dict(trace=trace)

        return init, update

    return momentum()


INSIDE = {
    "a chain": lambda tx: gradtx.chain(gradtx.clip(10.0), tx, gradtx.scale(-0.1)),
    "a mask": lambda tx: gradtx.masked(tx, {"scale": False, ".*": True}),
    "accumulation": lambda tx: gradtx.MultiSteps(tx, 1),
    "a finite guard": lambda tx: gradtx.apply_if_finite(tx, 3),
    "a partition": lambda tx: gradtx.partition({"x": tx}, {".*": "x"}),
    "groups outside": lambda tx: gradtx.groups(tx, {"scale": {"decay": 0.5}, ".*/bias": None}),
}


@pytest.mark.parametrize("inside", INSIDE.values(), ids=INSIDE.keys())
@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_slot_may_be_a_node_that_knows_its_form(inside: Any, mode: Any) -> None:
    plain, coded = inside(momentum(gradtx.Layout())), inside(momentum(InBytes()))
    params, expected_state, state = tree(0), plain.init(tree(0)), coded.init(tree(0))
    assert sum(leaf.dtype == jnp.int8 for leaf in jax.tree.leaves(state)) in (2, 3)
    for i in (1, 2, 3):
        expected, expected_state = mode(plain.update)(tree(i), expected_state, params)
        updates, after = mode(coded.update)(tree(i), state, params)
        assert_same_layout(after, state)
        state = after
        # A code is off by half a 127th of the largest number, of the momentum of three steps.
        assert_close(updates, expected, rtol=0, atol=3 * 4 / 254)


def test_a_node_goes_through_vmap_names_and_gradients() -> None:
    tx, params = momentum(InBytes()), tree(0)
    state = tx.init(params)
    names = gradtx.state_dict(tx, state)
    assert "momentum/trace/dense/kernel/codes" in names and "momentum/trace/scale/scale" in names
    assert_close(gradtx.load_state_dict(tx, tx.init(params), names), state)
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    updates, states = jax.vmap(tx.update)(many, jax.vmap(tx.init)(many), many)
    alone, _ = tx.update(params, state, params)
    assert_close(jax.tree.map(lambda x: x[0], updates), alone)
    assert gradtx.tree.get(states, "trace")["scale"].codes.dtype == jnp.int8


def test_equal_layouts_share_programs_and_values() -> None:
    tx, params = momentum(InBytes()), tree(0)
    state = tx.init(params)
    tx.update(params, state, params)
    with Compilations() as compilations:
        tx.replace().update(params, state, params)
    assert compilations.count == 0


# --- what a rule may name ---------------------------------------------------------------------------


@gradtx.leafwise
def newton(eps=1e-8):
    def update(grad, hessian, damping=0.0):
        return grad / (hessian + damping + eps)

    return update


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_an_extra_that_is_a_tree_like_the_params_comes_leaf_by_leaf(mode: Any) -> None:
    params, hessian = {"a": jnp.ones(2), "b": [jnp.ones(3), None]}, {"a": 2.0, "b": [4.0, None]}
    update = mode(lambda h, d: newton().update(params, gradtx.EmptyState(), hessian=h, damping=d)[0])
    updates = update(jax.tree.map(jnp.asarray, hessian), 1.0)
    assert_close(updates, {"a": jnp.full(2, 1 / 3), "b": [jnp.full(3, 1 / 5), None]})
    assert_close(update(jnp.asarray(1.0), 1.0), jax.tree.map(lambda x: x / 2, params))
    with pytest.raises(gradtx.arrays.errors.NotGiven, match="newton needs hessian"):
        newton().update(params, gradtx.EmptyState())


def test_leaf_aligned_extras_are_seen_within_masks_of_them() -> None:
    params, mask = {"a": jnp.ones(2), "b": jnp.ones(3)}, {"a": True, "b": False}
    tx = gradtx.masked(newton(), mask, mask_compatible_extra_args=True)
    updates, _ = tx.update(params, tx.init(params), hessian={"a": jnp.asarray(4.0), "b": jnp.asarray(9.0)})
    assert_close(updates, {"a": jnp.full(2, 0.25), "b": jnp.ones(3)})


class SeededState(NamedTuple):
    count: jax.Array
    seed: jax.Array


@gradtx.leafwise(state=SeededState)
def jitter(size: gradtx.NonNegative, seed: int = 0):
    def update(grad, key):
        return grad + size * jax.random.normal(key, grad.shape, grad.dtype)

    return update


def noise(tx: Any, params: Any, steps: int = 2, mode: Any = lambda f: f) -> list[Any]:
    state, found = tx.init(params), []
    for _ in range(steps):
        updates, state = mode(tx.update)(jax.tree.map(jnp.zeros_like, params), state, params)
        found.append(updates)
    return found


def test_a_key_is_of_the_tensor_the_step_and_the_seed_alone() -> None:
    params = normal({"a": (8, 2), "b": (8, 2), "c": (4,)}, 0, jnp.float32)
    first, second = noise(jitter(1.0, 3), params)
    for a in (*first.values(), *second.values()):
        assert 0.3 < float(jnp.std(a)) < 2
    assert not np.allclose(first["a"], first["b"]) and not np.allclose(first["a"], second["a"])
    assert not np.allclose(first["a"], noise(jitter(1.0, 4), params)[0]["a"])
    # In jit, without the other tensors, within other stages, over a mesh: the same bits.
    assert_close(noise(jitter(1.0, 3), params, mode=jax.jit), [first, second], rtol=0, atol=0)
    alone = noise(jitter(1.0, 3), {"a": params["a"]})
    assert_close([x["a"] for x in alone], [first["a"], second["a"]], rtol=0, atol=0)
    chained = noise(gradtx.chain(gradtx.trace(0.0), jitter(1.0, 3)), params)
    assert_close(chained, [first, second], rtol=0, atol=0)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.device_put({"a": params["a"], "b": params["b"]}, NamedSharding(mesh, P("data")))
    shared = noise(jitter(1.0, 3), split, mode=jax.jit)
    assert_close([x["a"] for x in shared], [first["a"], second["a"]], rtol=0, atol=0)


def test_seeds_are_a_batch_under_vmap() -> None:
    params = {"a": jnp.zeros(3)}
    one = lambda seed: noise(jitter(1.0, seed), params, 1)[0]["a"]  # noqa: E731
    together = jax.vmap(one)(jnp.arange(3, dtype=jnp.uint32))
    assert_close(together, jnp.stack([one(i) for i in range(3)]), rtol=0, atol=1e-7)


def test_a_rule_that_names_key_needs_a_seed() -> None:
    @gradtx.leafwise
    def unseeded():
        return lambda grad, key: grad

    with pytest.raises(TypeError, match="unseeded: a rule that names key needs a field seed in its state"):
        unseeded()


class WidthState(NamedTuple):
    width: gradtx.Params


@gradtx.leafwise(state=WidthState)
def by_path():
    def init(param, path):
        return dict(width=jnp.asarray(float(len(path))))

    def update(grad, width, path):
        return width * grad if path.endswith("bias") else grad, dict(width=width)

    return init, update


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_rule_may_name_the_path(mode: Any) -> None:
    params = {"dense": {"bias": jnp.ones(2), "kernel": jnp.ones(2)}}
    tx = by_path()
    updates, _ = mode(tx.update)(params, tx.init(params), params)
    assert_close(updates, {"dense": {"bias": jnp.full(2, 10.0), "kernel": jnp.ones(2)}})


# --- periodic work ----------------------------------------------------------------------------------


class BasisState(NamedTuple):
    count: jax.Array
    total: gradtx.Params
    basis: gradtx.Params
    times: gradtx.Params


def refreshing(every: int, spread: bool) -> gradtx.GradientTransformation:
    @gradtx.leafwise(state=BasisState, every="every", spread="spread")
    def with_basis(every: gradtx.Static[int] = 4, spread: gradtx.Static[bool] = True):
        def init(param):
            return dict(total=jnp.zeros_like(param), basis=jnp.eye(len(param)), times=jnp.zeros([]))

        def update(grad, total, basis, times):
            total = total + grad
            return basis @ grad, dict(total=total, basis=basis, times=times)

        def refresh(total, basis, times):
            return dict(basis=jnp.linalg.qr(basis + total @ total.T)[0], times=times + 1)

        return init, update, refresh

    return with_basis(every, spread)


def matrices(count: int) -> dict[str, jax.Array]:
    return normal({f"w{i}": (3, 3) for i in range(count)} | {"other": (2, 2)}, 0, jnp.float32)


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("batch", [gradtx.Batch(), gradtx.Stack()], ids=["loop", "stack"])
@pytest.mark.parametrize("count", [1, 4, 6])
def test_refreshes_take_turns(count: int, batch: gradtx.Batch, mode: Any) -> None:
    params, tx = matrices(count), refreshing(4, True)
    state, seen = tx.init(params), []
    with gradtx.batching(batch):
        for _ in range(8):
            _, state = mode(tx.update)(params, state, params)
            seen.append({name: int(x) for name, x in state.times.items()})
    # Each tensor once in four steps, and of tensors of one shape about a fourth at each.
    assert seen[3] == dict.fromkeys(params, 1) and seen[7] == dict.fromkeys(params, 2)
    of_one_shape = [sum(times[f"w{i}"] for i in range(count)) for times in seen]
    due = np.diff([0, *of_one_shape])
    assert due.max() <= -(-count // 4) and due.sum() == 2 * count


def test_what_is_not_due_is_not_computed() -> None:
    """A rule that asks whether it is due skips what costs much; shapes take turns with each other."""
    seen = []

    @gradtx.leafwise(state=BasisState, every="every", spread="spread")
    def counting(every: gradtx.Static[int] = 3, spread: gradtx.Static[bool] = True):
        def init(param):
            return dict(total=jnp.zeros_like(param), basis=jnp.eye(len(param)), times=jnp.zeros([]))

        def update(grad, total, basis, times):
            return grad, dict(total=total, basis=basis, times=times)

        def costly(times):
            jax.debug.callback(lambda: seen.append(1))
            return times + 1

        def refresh(times, due):
            return dict(times=at_most_once(due, costly, times))

        return init, update, refresh

    for tx, expected in ((counting(), [1, 2, 2, 3, 4, 4]), (counting(3, False), [2, 2, 2, 4, 4, 4])):
        params, found = matrices(1), []
        seen.clear()
        state = tx.init(params)
        for _ in range(6):
            _, state = tx.update(params, state, params)
            jax.effects_barrier()
            found.append(len(seen))
        assert found == expected
        assert set(map(int, state.times.values())) == {2}


class DueState(NamedTuple):
    """A slot by the name with which a refresh asks whether it is due."""

    due: gradtx.Params


def test_a_slot_called_due_is_a_slot() -> None:
    @gradtx.leafwise(state=DueState, every="every", spread="spread")
    def with_due(every: gradtx.Static[int] = 1, spread: gradtx.Static[bool] = True):
        def init(param):
            return dict(due=jnp.zeros_like(param))

        def update(grad, due):
            return grad, dict(due=due)

        def refresh(due):
            return dict(due=due + 1)

        return init, update, refresh

    tx, grads = with_due(), {"w": jnp.ones(3)}
    _, state = tx.update(grads, tx.init(grads))
    np.testing.assert_array_equal(gradtx.tree.get(state, "due")["w"], np.ones(3))


def test_refreshes_of_all_at_once_are_those_of_each_alone() -> None:
    params, tx = matrices(3), refreshing(3, False)
    state = tx.init(params)
    for step in range(1, 5):
        updates, state = tx.update(params, state, params)
        assert set(map(int, state.times.values())) == {1 + (step - 1) // 3}
    total, basis = np.zeros((3, 3)), np.eye(3)
    for step in range(1, 5):
        direction, total = basis @ params["w0"], total + params["w0"]
        if step % 3 == 1:
            basis = np.linalg.qr(basis + total @ total.T)[0]
    # QR leaves signs to the implementation; both are LAPACK here. 1e-4: 20 roundings of numbers near 10.
    np.testing.assert_allclose(updates["w0"], direction, atol=1e-4)


def test_spread_refreshes_need_no_branch_and_one_compilation_for_any_number() -> None:
    def program(count: int) -> Any:
        params = matrices(count)
        tx = refreshing(4, True)
        return jax.make_jaxpr(tx.update)(params, tx.init(params), params)

    def primitives(jaxpr: Any) -> set[str]:
        inner = [
            p for eqn in jaxpr.eqns for p in jax.tree.leaves(list(eqn.params.values())) if hasattr(p, "eqns")
        ]
        inner += [p.jaxpr for eqn in jaxpr.eqns for p in eqn.params.values() if hasattr(p, "jaxpr")]
        return {eqn.primitive.name for eqn in jaxpr.eqns}.union(*map(primitives, inner))

    found = primitives(program(8).jaxpr)
    assert "cond" not in found and "qr" in found | {"householder_product", "geqrf"}


def test_a_refresh_under_a_closed_guard_does_not_happen() -> None:
    params = matrices(2)
    tx = gradtx.apply_if_finite(refreshing(1, True), 5)
    state = tx.init(params)
    bad = {**params, "other": params["other"] * jnp.nan}
    _, after = tx.update(bad, state, params)
    assert_close(after.inner_state, state.inner_state, rtol=0, atol=0)


def test_refresh_and_every_belong_together() -> None:
    with pytest.raises(TypeError, match="a rule has a refresh if and only if leafwise is told every"):

        @gradtx.leafwise
        def one():
            return (lambda param: {}), (lambda grad: grad), (lambda: {})

        one()


@pytest.mark.parametrize(("every", "message"), [(0, "it is 0"), ("evry", "it is None"), (2.0, "it is 2.0")])
def test_a_period_is_a_whole_number_of_an_argument(every: Any, message: str) -> None:
    name = every if isinstance(every, str) else "every"

    @gradtx.leafwise(state=TraceState, every=name)
    def periodic(every: gradtx.Static[Any] = 1):
        init = lambda param: dict(trace=param)  # noqa: E731
        return init, lambda grad, trace: (grad, dict(trace=trace)), lambda trace: dict(trace=trace)

    with pytest.raises(ValueError, match=f"must name an argument that is gradtx.Static.*{message}"):
        periodic(every)


def test_a_refresh_returns_what_it_names() -> None:
    @gradtx.leafwise(state=TraceState, every="every")
    def periodic(every: gradtx.Static[int] = 1):
        init = lambda param: dict(trace=param)  # noqa: E731
        return init, lambda grad, trace: (grad, dict(trace=trace)), lambda trace: dict(other=trace)

    params = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"periodic: refresh must return a dict of slots that it names"):
        periodic().update(params, periodic().init(params))


def test_jit_step_goes_by_the_batch_around_it() -> None:
    seen: list[Any] = []
    params = {"a": jnp.eye(2), "b": jnp.ones((2, 2))}
    tx = gradtx.contrib.scale_by_muon()

    def step() -> None:
        gradtx.jit_step(tx, params, tx.init(params), jax.tree.map(jnp.copy, params))

    step()
    with gradtx.batching(gradtx.Stack(lambda x: seen.append(x) or x)):
        step()
    assert seen


# --- a choice for each leaf -------------------------------------------------------------------------


def read(name: str, argument: str, selector: Any, params: Any) -> list[Any]:
    return select(name, argument, selector, params, default="once")


@gradtx.leafwise(state=TraceState, by_leaf={"kind": read})
def counted_by_kind(kind: Any, rate: gradtx.Number = 1.0):
    factor = {"once": 1.0, "twice": 2.0}.get(str(kind), 0.0)
    init = lambda param: dict(trace=jnp.full_like(param, factor))  # noqa: E731
    return init, lambda grad, trace: (rate * factor * grad, dict(trace=trace + factor))


def test_each_leaf_has_its_choice_in_init_and_update() -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones(2), "c": None, "d": jnp.ones(2)}
    tx = counted_by_kind({"a|d": "twice"}, gradtx.linear_schedule(1.0, 0.0, 2))
    for update in (tx.update, jax.jit(tx.update)):
        state = tx.init(params)
        updates, after = update(params, state, params)
        found = [state.inner_state.trace, updates, after.inner_state.trace]
        for own, (a, b) in zip(found, [(2, 1), (2, 1), (4, 2)], strict=True):
            assert own["c"] is None and own["a"][0] == own["d"][0] == a and own["b"][0] == b
    with pytest.raises(ValueError, match="counted_by_kind: kind: the pattern 'x' matches none"):
        counted_by_kind({"x": "twice"}).init(params)


def test_numbers_differ_by_group_beside_choices() -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones(2), "d": jnp.ones(2)}
    tx = gradtx.groups(counted_by_kind({"a|d": "twice"}), {"d": {"rate": 5.0}})
    updates, _ = tx.update(params, tx.init(params), params)
    assert [float(updates[name][0]) for name in "abd"] == [2.0, 1.0, 10.0]


# --- batches ----------------------------------------------------------------------------------------


def test_a_batch_has_a_place_for_the_sharding_of_stacks() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    params = jax.device_put(normal({f"w{i}": (4, 4) for i in range(8)}, 0, jnp.float32), everywhere)
    tx = gradtx.contrib.scale_by_muon()
    state = tx.init(params)
    shared = gradtx.Stack(lambda x: jax.lax.with_sharding_constraint(x, split))

    def flops(batch: gradtx.Batch) -> float:
        with gradtx.batching(batch):
            compiled = jax.jit(tx.update, out_shardings=everywhere).lower(params, state, params).compile()
        return compiled.cost_analysis()["flops"]

    # Each device computes its matrix alone: an eighth, and what it takes to hand over.
    assert flops(shared) < 0.2 * flops(gradtx.Stack())
    with gradtx.batching(shared):
        updates, _ = jax.jit(tx.update)(params, state, params)
    assert_close(updates, tx.update(params, state, params)[0], rtol=1e-4, atol=1e-5)


# --- sums over shards -------------------------------------------------------------------------------


def norms(x: Any) -> dict[str, jax.Array]:
    return {
        "global_norm": gradtx.global_norm(x),
        "norm 1": gradtx.tree.norm(x, 1),
        "norm inf": gradtx.tree.norm(x, "inf"),
        "sum": gradtx.tree.sum(x),
        "vdot": gradtx.tree.vdot(x, x),
        "max": gradtx.tree.max(x),
        "min": gradtx.tree.min(x),
    }


def test_sums_over_the_tree_are_of_the_whole_inside_shard_map() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    params = {"cut": normal({"x": (16, 2)}, 0, jnp.float32)["x"], "whole": jnp.arange(3.0)}
    specs = {"cut": P("data"), "whole": P()}

    @jax.jit
    def of_shards(x: Any) -> Any:
        def inside(x: Any) -> Any:
            with gradtx.over_shards("data"):
                return norms(x)

        return jax.shard_map(inside, mesh=mesh, in_specs=(specs,), out_specs=P())(x)

    assert_close(of_shards(params), norms(params), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gradtx.clip_by_global_norm(0.5),
        lambda: gradtx.apply_if_finite(gradtx.scale(2.0), 3),
        lambda: gradtx.contrib.normalize(),
        lambda: gradtx.contrib.prodigy(0.1),
    ],
    ids=["clip_by_global_norm", "apply_if_finite", "normalize", "prodigy"],
)
def test_transformations_that_look_across_tensors_are_exact_over_shards(make: Any, x64: None) -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    params = {"cut": normal({"x": (16, 2)}, 0)["x"], "whole": jnp.arange(3.0, dtype=jnp.float64)}
    specs = {"cut": P("data"), "whole": P()}
    tx = make()

    def updated(params: Any) -> Any:
        return tx.update(params, tx.init(params), params)[0]

    def inside(params: Any) -> Any:
        with gradtx.over_shards("data"):
            return updated(params)

    cut = jax.jit(jax.shard_map(inside, mesh=mesh, in_specs=(specs,), out_specs=specs))
    assert_close(cut(params), updated(params), rtol=1e-12, atol=1e-12)


# --- a wide last update -----------------------------------------------------------------------------


@gradtx.leafwise(wide=True)
def as_it_is():
    return lambda grad: grad


def test_the_last_stage_may_hand_out_its_update_in_float32() -> None:
    params = {"w": jnp.full(2, 1.0, jnp.bfloat16)}
    grads = {"w": jnp.full(2, 1 + 2**-7, jnp.bfloat16)}
    wide = gradtx.chain(gradtx.scale(1 / 3), as_it_is())
    narrow = gradtx.chain(as_it_is(), gradtx.scale(1 / 3))
    for mode in (lambda f: f, jax.jit):
        updates, _ = mode(wide.update)(grads, wide.init(params), params)
        assert updates["w"].dtype == jnp.float32
        np.testing.assert_allclose(updates["w"], (1 + 2**-7) / 3, rtol=1e-7)
        assert mode(narrow.update)(grads, narrow.init(params), params)[0]["w"].dtype == jnp.bfloat16
        assert gradtx.apply_updates(params, updates)["w"].dtype == jnp.bfloat16
