"""The laws: what every transformation of `table.py` obeys.

Those that ask for nothing but the transformation are public, in `gradtx.checking`, and asked of rows here.
A law takes a row and asserts. Bounds: two compilations of one formula differ by roundings, of which the
formula may make much, so that they are compared in float64, as `closeness.py` says: 1e-11 is five digits
above a rounding of the terms, which are of order 1, and as many below a mistake.
"""

import dataclasses
import gc
import json
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from gradtx.checking import laws as checked
from gradtx.checking.case import Case
from gradtx.checking.case import assert_close as assert_close
from gradtx.checking.case import assert_finite as assert_finite
from gradtx.checking.case import assert_same_layout as assert_same_layout
from gradtx.checking.case import numbers as numbers
from gradtx.core.layout import is_coded
from gradtx.core.leafwise import Leafwise
from tests import given
from tests.closeness import double_precision
from tests.compiling import USUAL
from tests.table import Row

Law = Callable[[Row], None]
LAWS: list[Law] = []
OF_STAGES: list[Law] = []
"""Those that a chain obeys if its stages do."""
APART: list[Law] = []
"""Those that take long: a test of its own for each."""
VARIED: list[Law] = []
"""Of those, the ones that ask what another law asks, in another way."""


def law(function: Law) -> Law:
    LAWS.append(function)
    return function


def law_of_stages(function: Law) -> Law:
    OF_STAGES.append(function)
    return law(function)


def apart(function: Law) -> Law:
    APART.append(function)
    return function


def varied(function: Law) -> Law:
    VARIED.append(function)
    return apart(function)


# --- trees to run on: the same for most laws, whose programs are then compiled once for all ------------


def normal(shapes: dict[str, tuple[int, ...]], seed: int, dtype: Any = jnp.float64) -> dict[str, jax.Array]:
    """Standard normal tensors of these shapes."""
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}


def tree(seed: int = 0, dtype: Any = None) -> Any:
    """Three tensors of a small model: a matrix, a vector, a scalar; of the default dtype."""
    rng = np.random.default_rng(seed)
    make = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype=dtype)  # noqa: E731
    return {"dense": {"kernel": make(3, 4), "bias": make(4)}, "scale": make()}


def dense(seed: int = 0, dtype: Any = None) -> Any:
    """The matrix and the vector of that model."""
    return tree(seed, dtype)["dense"]


def pair(seed: int = 0, dtype: Any = None) -> Any:
    """A matrix and a scalar of that model, for what takes long for each shape."""
    whole = tree(seed, dtype)
    return {"kernel": whole["dense"]["kernel"], "scale": whole["scale"]}


@dataclasses.dataclass(frozen=True)
class Drawn(Case):
    """A row as the laws that are public take it, on these trees."""

    draw: Callable[..., Any] = tree

    def tree(self, seed: int, dtype: Any = None) -> Any:
        return self.draw(seed, dtype)


def zeros(params: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, params)


def run(tx: Any, params: Any, grads: Any, **extra: Any) -> tuple[Any, Any]:
    """Params and state after these updates."""
    state = tx.init(params)
    for grad in grads:
        updates, state = tx.update(grad, state, params, **extra)
        params = gradtx.apply_updates(params, updates)
    return params, state


def looped(tx: Any, params: Any, grads: Any) -> tuple[Any, Any]:
    """`run` as one program, where an eager one compiles some for each shape and dtype."""
    return jax.jit(Case(tx, params).loop)(params, grads)


# --- 1. fixed points --------------------------------------------------------------------------------


@law_of_stages
def layout_is_a_fixed_point(row: Row) -> None:
    floats_of_a_byte = [(dtype, dtype) for dtype in (jnp.float8_e4m3fn, jnp.float8_e5m2)]
    for param_dtype, grad_dtype in [*checked.DTYPES, *floats_of_a_byte]:
        _assert_fixed_layout(row(), tree(0, param_dtype), tree(1, grad_dtype), row.like_torch)


def _assert_fixed_layout(tx: Any, params: Any, grads: Any, like_torch: bool = False) -> None:
    state = jax.eval_shape(tx.init, params)
    checked.assert_kept_layout(Case(tx, params), state, params, grads)
    floating = [x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(dtype.itemsize >= (2 if like_torch else 4) or dtype == jnp.bfloat16 for dtype in floating)


@apart
@law_of_stages
def layout_is_a_fixed_point_in_double_precision(row: Row) -> None:
    with double_precision():
        for param_dtype, grad_dtype in [
            (jnp.float64, jnp.float64),
            (jnp.float64, jnp.float32),
            (jnp.float32, jnp.float64),
        ]:
            params, grads = tree(0, param_dtype), tree(1, grad_dtype)
            _assert_fixed_layout(row(), params, grads)
        jax.block_until_ready(looped(row(), params, [grads]))


@law_of_stages
def weak_types_become_strong(row: Row) -> None:
    params = {"w": jnp.asarray(1.0), "v": jnp.full((2, 3), 0.5)}
    assert params["w"].weak_type
    _assert_fixed_layout(row(), params, zeros(params))


@law_of_stages
def sharding_is_a_fixed_point(row: Row) -> None:
    _assert_fixed_on(jax.sharding.AxisType.Explicit, row())


@varied
@law_of_stages
def sharding_is_a_fixed_point_on_automatic_axes(row: Row) -> None:
    _assert_fixed_on(jax.sharding.AxisType.Auto, row())


def _assert_fixed_on(axes: Any, tx: Any) -> None:
    """`init` puts everything where updates leave it, says so of shapes, and a step is compiled once."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axes,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = {"w": np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2), "v": np.ones(16, np.float32)}
    grads, params = jax.device_put(whole, split), jax.device_put(whole, split)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params)
    state, counts = tx.init(params), []
    for real, abstract in zip(jax.tree.leaves(state), jax.tree.leaves(tx.init(shapes)), strict=True):
        assert abstract.sharding.is_equivalent_to(real.sharding, real.ndim), (abstract, real.sharding)

    @jax.jit
    def step(grads: Any, state: Any, params: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return gradtx.apply_updates(params, updates), state

    with jax.set_mesh(mesh):
        for _ in range(3):
            before = jax.tree.map(lambda x: x.sharding, (params, state))
            with Compilations() as compilations:
                params, state = jax.block_until_ready(step(grads, state, params))
            counts.append(compilations.count)
            for old, new in zip(jax.tree.leaves(before), jax.tree.leaves((params, state)), strict=True):
                assert old.is_equivalent_to(new.sharding, new.ndim), (old, new.sharding)
    assert counts[1:] == [0, 0], counts


# --- 2. transformations of JAX ----------------------------------------------------------------------


@apart
@law_of_stages
def jit_is_eager(row: Row) -> None:
    # Compiled as users have it.
    checked.jit_is_eager(Drawn(row()), compiler_options=USUAL)


@law_of_stages
def a_passed_in_value_is_a_closed_over_one(row: Row) -> None:
    checked.numbers_may_be_traced(Drawn(row()))


@varied
@law_of_stages
def vmap_over_params_is_a_loop(row: Row) -> None:
    checked.vmap_over_params_is_a_loop(Drawn(row(), draw=pair))


@apart
@law_of_stages
def vmap_over_numbers_is_a_loop(row: Row) -> None:
    checked.vmap_over_numbers_is_a_loop(Drawn(row(), draw=pair))


@apart
@law_of_stages
def gradients_through_updates_are_finite(row: Row) -> None:
    checked.derivatives_through_updates_are_finite(Drawn(row(), draw=pair))


# --- 3. compilations --------------------------------------------------------------------------------


class Compilations:
    """Counts what XLA compiles while it is entered."""

    total = 0

    def __enter__(self) -> "Compilations":
        self.start = Compilations.total
        return self

    def __exit__(self, *_: Any) -> None:
        self.count = Compilations.total - self.start


def _listen(event: str, duration: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        Compilations.total += 1


jax.monitoring.register_event_duration_secs_listener(_listen)


@law
def nothing_is_compiled_twice(row: Row) -> None:
    params, grads = tree(0), tree(1)
    tx = row()
    state = tx.init(params)
    step = jax.jit(lambda tx, grads, state, params: tx.update(grads, state, params))
    _, after = jax.block_until_ready(step(tx, grads, state, params))
    # Whole numbers that choose nothing (a seed, k) are leaves too, and may change.
    changed = jax.tree.map(lambda x: x + 1 if isinstance(x, int) else x * 0.9, row())
    with Compilations() as compilations:
        jax.block_until_ready(step(row(), grads, after, params))
        jax.block_until_ready(step(changed, grads, after, params))
    assert compilations.count == 0


@law
def eager_updates_compile_nothing_for_numbers_old_or_new(row: Row) -> None:
    params, grads = pair(0), pair(1)

    def updated(i: int) -> None:
        scaled = lambda x: x * (1 - 0.01 * i if x < 1 else 1 + 0.01 * i)  # noqa: E731
        tx = jax.tree.map(lambda x: scaled(x) if type(x) is float else x, row())
        state = tx.init(params)
        for _ in range(5):  # so that what happens now and then, such as a step after accumulation, happens
            _, state = tx.update(grads, state, params)

    updated(0)
    updated(1)  # a number is a constant until it has changed once
    with Compilations() as compilations:
        updated(0)
        updated(2)
    assert compilations.count == 0


@law
def no_tracer_is_kept(row: Row) -> None:
    params, tx = tree(0), jax.tree.map(lambda x: x, row())  # what it keeps of itself, it makes in the trace
    gc.freeze()  # JAX collects at the end of each trace: what was there before need not be gone through
    with jax.checking_leaks():
        _, state = jax.make_jaxpr(tx.init, return_shape=True)(params)
        jax.make_jaxpr(tx.update)(params, state, params)
    jax.block_until_ready(tx.update(params, tx.init(params), params))


@law_of_stages
@double_precision()
def elementwise_rules_see_each_number_alone(row: Row) -> None:
    grads, params = np.random.default_rng(0).normal(size=(2, 6))
    in_parts = lambda x: {"whole": x, "parts": [x[:2], x[2:]]}  # noqa: E731
    for stage in row().stages:
        if isinstance(stage, Leafwise) and stage.elementwise:
            after, _ = looped(stage, in_parts(params), [in_parts(grads), in_parts(params)])
            assert_close(jnp.concatenate(after["parts"]), after["whole"], rtol=1e-13, atol=1e-14)


# --- 4. odd trees -----------------------------------------------------------------------------------


@apart
@law
def zero_gradients_give_finite_updates(row: Row) -> None:
    checked.zero_gradients_give_finite_updates(Drawn(row()))


@law_of_stages
def odd_shapes_work(row: Row) -> None:
    params = {
        "0-d": jnp.asarray(0.5),
        "none": jnp.zeros((0,)),
        "none of 2": jnp.zeros((3, 0)),
        "ones": jnp.ones((1, 1)),
    }
    after, _ = looped(row(), params, [params, params])
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, params)
    assert_finite(after)


@law_of_stages
def none_is_left_alone(row: Row) -> None:
    checked.none_is_left_alone(Drawn(row(), draw=dense))


@law_of_stages
def a_missing_gradient_skips_its_param(row: Row) -> None:
    checked.a_missing_gradient_skips_its_param(Drawn(row(), draw=dense))


class Pair(NamedTuple):
    first: Any
    second: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Model:
    weight: Any
    layers: list[Any]


@law_of_stages
@double_precision()
def containers_do_not_matter(row: Row) -> None:
    w, b = tree(0)["dense"]["kernel"], tree(0)["dense"]["bias"]
    updates, _ = row().update([w, b], row().init([w, b]), [w, b])
    for make in (lambda x, y: (x, y), lambda x, y: {"x": x, "y": y}, Pair, lambda x, y: Model(x, [y])):
        params = make(w, b)
        tx = row()
        state = tx.init(params)
        other, after = tx.update(params, state, params)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert jax.tree.structure(other) == jax.tree.structure(params)
        if not row.draws:
            assert_close(jax.tree.leaves(other), updates)


@law
def an_empty_tree_works(row: Row) -> None:
    if row.name == "groups":
        return  # its pattern has nothing to match, which is an error for every tree but this
    for params in ({}, [], None, {"a": {}}):
        updates, _ = row().update(params, row().init(params), params)
        assert updates == params


@law_of_stages
@double_precision()
def what_is_left_out_passes_by(row: Row) -> None:
    """Integers, keys and None that are masked out beside the params: nothing else changes."""
    own = {"own": tree(0)["dense"]}
    others = {"ids": jnp.arange(3), "key": jax.random.key(0), "none": None}
    both, tx, masked = {**own, "others": others}, row(), gradtx.masked(row(), {"own": True, "others": False})
    updates, state = tx.update(own, tx.init(own), own)
    passed, after = masked.update(both, masked.init(both), both)
    assert_close(passed["own"], updates["own"])
    assert_close(after, state)
    assert all(passed["others"][name] is x for name, x in others.items())


@apart
@law_of_stages
def complex_tensors_work(row: Row) -> None:
    if row.supports_complex:
        params = jax.tree.map(lambda re, im: re + 1j * im, tree(0), tree(1))
        _assert_fixed_layout(row(), params, params)
        assert_finite(looped(row(), params, [params, zeros(params)]))


# --- NaN and infinity -------------------------------------------------------------------------------


@law_of_stages
def a_nan_or_an_infinity_shows(row: Row) -> None:
    """In the update of that number or in the next; and what it does not reach is as it is without it."""
    tx, params = row(), tree(0)
    three = jax.tree.map(lambda *grads: jnp.stack(grads), tree(1), tree(2), tree(3))
    alone = all(isinstance(stage, Leafwise) and stage.elementwise for stage in tx.stages)
    slots = jax.tree.leaves(jax.eval_shape(tx.init, params), is_leaf=is_coded)
    share_scales = any(is_coded(x) and "block_size" in x.form.format.arguments for x in slots)

    @jax.jit
    def updates_with(number: Any) -> Any:
        kernel = three["dense"]["kernel"].at[1, 0, 1].set(number)  # after an update without it
        grads = {**three, "dense": {**three["dense"], "kernel": kernel}}

        def step(carry: Any, grad: Any) -> Any:
            params, state = carry
            updates, state = tx.update(grad, state, params)
            return (gradtx.apply_updates(params, updates), state), updates

        return jax.lax.scan(step, (params, tx.init(params)), grads)[1]

    usual = jax.device_get(updates_with(0.5))
    for number in (np.nan, np.inf, -np.inf):
        found = jax.tree.map(np.array, updates_with(number))
        shown = found["dense"]["kernel"][1:, 0, 1]
        if any(np.array_equal(number, x, equal_nan=True) for x in row.removes):
            assert np.all(np.isfinite(shown)), f"{number} is not removed: {shown}"
            continue
        seen = np.isnan(shown) if np.isnan(number) else ~np.isfinite(shown)
        assert np.any(seen), f"{number} has become {shown}"
        if share_scales:
            continue  # the numbers of its block are rounded otherwise, or NaN too
        found["dense"]["kernel"][:, 0, 1] = usual["dense"]["kernel"][:, 0, 1]
        for x, before in zip(jax.tree.leaves(found), jax.tree.leaves(usual), strict=True):
            # An infinite norm makes a step of 0 of all that is finite.
            reached = False if alone else np.isnan(x) | np.isinf(number)
            assert np.all((x == before) | reached), f"{number} elsewhere has changed {before} to {x}"


# --- 5. buffers -------------------------------------------------------------------------------------


@law_of_stages
def donation_works(row: Row) -> None:
    checked.donation_works(Drawn(row()))


def _is_plain(x: Any) -> bool:
    return not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


@law_of_stages
def init_is_abstract_evaluable(row: Row) -> None:
    mesh = jax.make_mesh((8,), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    shapes = {
        "w": jax.ShapeDtypeStruct((8, 2), jnp.bfloat16, sharding=split),
        "v": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=split),
    }
    params = jax.tree.map(lambda s: jax.device_put(np.ones(s.shape, s.dtype), s.sharding), shapes)
    tx = row()
    abstract = tx.init(shapes)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(abstract))
    state = tx.init(params)
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(abstract)] == [
        (x.shape, x.dtype) for x in jax.tree.leaves(state)
    ]
    assert_same_layout(jax.eval_shape(tx.init, params), jax.eval_shape(lambda: tx.init(params)))


# --- 6. extra arguments -----------------------------------------------------------------------------


@law
def unknown_extra_arguments_are_ignored(row: Row) -> None:
    tx, params, grads = row(), tree(0), tree(1)
    plain = tx.update(grads, tx.init(params), params)
    extra = tx.update(grads, tx.init(params), params, loss_scale=jnp.asarray(2.0), note="a string", f=abs)
    assert_close(extra, plain, rtol=0, atol=0)  # the same programs


# --- 7. values --------------------------------------------------------------------------------------


@law
def a_value_is_its_repr(row: Row) -> None:
    names = {**vars(gradtx.contrib), **vars(given), **vars(gradtx)}
    assert eval(repr(row()), names) == row()


@law
def a_rebuilt_value_is_equal(row: Row) -> None:
    tx = row()
    assert tx == row() and hash(tx) == hash(row())
    leaves, treedef = jax.tree.flatten(tx)
    assert treedef.unflatten(leaves) == tx
    if leaves:
        assert tx != treedef.unflatten([leaves[0] + 1, *leaves[1:]])
    assert pickle.loads(pickle.dumps(tx)) == tx


@law
def a_value_survives_json(row: Row) -> None:
    tx = row()
    if row.is_data:
        assert gradtx.from_config(json.loads(json.dumps(gradtx.to_config(tx)))) == tx


# --- states -----------------------------------------------------------------------------------------


@law
def a_state_loads_by_name(row: Row) -> None:
    tx, params = row(), tree(0)
    _, state = run(tx, params, [tree(1), tree(2)])
    flat = gradtx.state_dict(tx, state)
    coded = sum(map(is_coded, jax.tree.leaves(state, is_leaf=is_coded)))  # each has an entry that says how
    assert len(flat) == len(jax.tree.leaves(state)) + coded
    hosted = {name: np.asarray(x) if _is_plain(x) else x for name, x in flat.items()}
    loaded = gradtx.load_state_dict(tx, tx.init(params), hosted)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert_close(loaded, state, rtol=0, atol=0)


@law_of_stages
def unsigned_slots_are_never_below_zero(row: Row) -> None:
    tx, params = row(), tree(0)
    state = run(tx, params, [tree(1), tree(2)])[1]
    for stage, part in zip(tx.stages, tx.unpack(state), strict=True):
        for slot in stage.unsigned if isinstance(stage, Leafwise) else ():
            for x in jax.tree.leaves(getattr(stage.form.inner(part), slot), is_leaf=is_coded):
                assert np.all(np.asarray(x.decode() if is_coded(x) else x) >= 0), slot


@law
def counters_saturate(row: Row) -> None:
    tx, params = row(), tree(0)
    largest = jnp.iinfo(jnp.int32).max

    def is_counter(path: Any) -> bool:
        return getattr(path[-1], "name", "") in (
            "count",
            "t",
            "gradient_step",
            "finite_count",
            "notfinite_count",
            "total_notfinite",
        )

    state = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.full_like(x, largest) if is_counter(path) else x, tx.init(params)
    )
    updates, after = tx.update(tree(1), state, params)
    assert_finite(updates)
    for path, leaf in jax.tree_util.tree_flatten_with_path(after)[0]:
        assert not is_counter(path) or leaf in (largest, 0)


@law
def every_number_may_be_a_schedule(row: Row) -> None:
    tx, params = row(), pair(0)
    given = {name: tx.arguments[name] for name in tx.factory.numeric - {"seed"}}
    scheduled = tx.replace(
        **{name: gradtx.constant_schedule(x) for name, x in given.items() if type(x) in (int, float)}
    )
    before = jax.eval_shape(scheduled.init, params)
    _, after = jax.eval_shape(scheduled.update, params, before, params)
    assert jax.tree.structure(before) == jax.tree.structure(after)


@law
def hyperparams_are_readable(row: Row) -> None:
    tx, params = row(), tree(0)
    _, state = run(tx, params, [tree(1)])
    last, after = gradtx.hyperparams(tx, state)
    assert last.keys() == after.keys()
    assert all(np.ndim(x) == 0 for x in (*last.values(), *after.values()))
