"""Trees: each function against Optax in double precision, None and dtypes, and what errors say."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import tree
from tests import laws

ROWS = {
    "add": lambda t, x, y, z: t.add(x, y, z),
    "sub": lambda t, x, y, z: t.sub(x, y),
    "mul": lambda t, x, y, z: t.mul(x, y),
    "div": lambda t, x, y, z: t.div(x, y),
    "scale": lambda t, x, y, z: t.scale(0.3, x),
    "add_scale": lambda t, x, y, z: t.add_scale(x, 0.3, y),
    "clip": lambda t, x, y, z: t.clip(t.real(x), -0.5, 0.2),
    "clip below": lambda t, x, y, z: t.clip(t.real(x), min_value=0.1),
    "conj": lambda t, x, y, z: t.conj(x),
    "real": lambda t, x, y, z: t.real(x),
    "where": lambda t, x, y, z: (t.where(True, x, y), t.where(jnp.array(False), x, y)),
    "vdot": lambda t, x, y, z: t.vdot(x, y),
    "sum": lambda t, x, y, z: (t.sum(x), t.sum(x, associative_reduction=True)),
    "max": lambda t, x, y, z: t.max(t.real(x)),
    "min": lambda t, x, y, z: t.min(t.real(x)),
    "size": lambda t, x, y, z: t.size(x),
    "norm": lambda t, x, y, z: [t.norm(x, ord) for ord in (None, 1, 2, "inf", "infinity", jnp.inf)],
    "squared norm": lambda t, x, y, z: [t.norm(x, ord, squared=True) for ord in (None, 1, 2, jnp.inf)],
    "allclose": lambda t, x, y, z: [
        t.allclose(x, x),
        t.allclose(x, y),
        t.allclose(x, y, 0.0, 100.0),
        t.allclose([jnp.nan], [jnp.nan], equal_nan=True),
    ],
    "batch_shape": lambda t, x, y, z: (t.batch_shape(x), t.batch_shape(x, (2, 3))),
    "zeros_like": lambda t, x, y, z: (t.zeros_like(x), t.zeros_like(x, jnp.float16)),
    "ones_like": lambda t, x, y, z: (t.ones_like(x), t.ones_like(x, dtype=jnp.int32)),
    "full_like": lambda t, x, y, z: (t.full_like(x, 3.5), t.full_like(x, 3.5, dtype=jnp.float32)),
    "cast": lambda t, x, y, z: (t.cast(x, None), t.cast(t.real(x), jnp.bfloat16)),
    "cast_like": lambda t, x, y, z: t.cast_like(t.real(x), t.cast(t.real(y), jnp.float16)),
    "update_moment": lambda t, x, y, z: [t.update_moment(x, y, 0.9, order) for order in (1, 2, 3)],
    "update_moment_per_elem_norm": lambda t, x, y, z: [
        t.update_moment_per_elem_norm(x, t.real(y), 0.9, order) for order in (2, 3)
    ],
    "update_infinity_moment": lambda t, x, y, z: t.update_infinity_moment(x, t.real(y), 0.9, 1e-3),
    "bias_correction": lambda t, x, y, z: [t.bias_correction(x, 0.9, jnp.int32(n)) for n in (1, 7)],
    "random_like": lambda t, x, y, z: [
        t.random_like(jax.random.key(3), t.real(x)),
        t.random_like(jax.random.key(3), t.real(x), jax.random.uniform, jnp.float32),
    ],
    "random keys": lambda t, x, y, z: t.unwrap_random_key_data((t.split_key_like(jax.random.key(3), x), x)),
}


def trees(dtype=jnp.float64):
    rng = np.random.default_rng(0)

    def one():
        real, imag, matrix = (rng.normal(size=shape) for shape in ((3,), (3,), (2, 3)))
        return {"w": jnp.asarray(matrix, dtype), "z": jnp.asarray(real + 1j * imag), "b": None}

    return [one() for _ in range(3)]


@pytest.mark.parametrize("name", ROWS)
def test_is_that_of_optax(x64, name) -> None:
    """In float64 within 1e-14: the two differ in the order of sums and in how averages are written."""
    ours, theirs = (ROWS[name](library.tree, *trees()) for library in (gradtx, optax))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert jnp.result_type(x) == jnp.result_type(y) and jnp.shape(x) == jnp.shape(y)
        np.testing.assert_allclose(x, y, rtol=1e-14, atol=1e-15)


def test_every_name_of_optax_is_compared() -> None:
    compared = {name.split(" ")[0] for name in ROWS} | {"unwrap_random_key_data", "split_key_like"}
    elsewhere = {"dtype", "get", "get_all_with_path", "map_params", "set"}
    assert {name for name in dir(optax.tree) if not name.startswith("_")} <= compared | elsewhere


@pytest.mark.parametrize("handler", [None, "promote", "highest", "lowest"])
@pytest.mark.parametrize(
    "dtypes",
    [("float32",), ("float32", "bfloat16"), ("int32", "uint32"), ("bfloat16", "float16"), ()],
)
def test_dtype_is_that_of_optax(handler, dtypes) -> None:
    leaves = [jnp.zeros(2, dtype) for dtype in dtypes]
    try:
        wanted = optax.tree.dtype(leaves, handler)
    except ValueError:
        with pytest.raises(ValueError, match=r"tree.dtype: .*\[1\] is .*handler='promote'"):
            tree.dtype(leaves, handler)
    else:
        assert tree.dtype(leaves, handler) == wanted


def test_none_passes() -> None:
    """Also where only one of the trees has it."""
    x, y = {"w": jnp.ones(2), "b": None}, {"w": jnp.ones(2), "b": jnp.ones(3)}
    for function in (tree.add, tree.sub, tree.mul, tree.div):
        assert function(x, y)["b"] is None and function(y, x)["b"] is None
    assert tree.where(True, x, y)["b"] is None
    assert tree.add_scale(y, 2.0, x)["b"] is None
    assert tree.update_moment(x, y, 0.9, 1)["b"] is None
    assert tree.vdot(x, y) == 2 and tree.norm({"b": None}) == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float64])
def test_a_nan_among_many_numbers_is_seen(dtype, x64) -> None:
    # XLA's maximum on a CPU loses it in float32.
    numbers = {"w": jnp.ones((400, 300), dtype).at[123, 45].set(jnp.nan), "b": jnp.ones(3, dtype)}
    for reduction in (tree.max, tree.min, tree.norm, partial(tree.norm, ord=jnp.inf), jax.jit(tree.max)):
        assert jnp.isnan(reduction(numbers))


def test_empty_trees() -> None:
    for empty in ({}, {"w": jnp.zeros((0, 2))}, {"b": None}):
        assert tree.sum(empty) == tree.vdot(empty, empty) == tree.norm(empty, 1) == tree.size(empty) == 0
        assert tree.max(empty) == -jnp.inf and tree.min(empty) == jnp.inf and tree.norm(empty, "inf") == 0
        assert tree.allclose(empty, empty)


def test_sums_of_half_precision_are_in_float32() -> None:
    """In bfloat16 neither 256 + 1 nor 512·512 sums of ones are whole."""
    x = {"w": jnp.ones((512, 512), jnp.bfloat16), "b": jnp.ones([], jnp.bfloat16)}
    for total in (tree.sum(x), tree.vdot(x, x), tree.norm(x, 1), tree.norm(x, squared=True)):
        assert total.dtype == jnp.float32 and total == 512 * 512 + 1
    assert tree.sum([jnp.arange(3)]).dtype == jnp.int32
    assert tree.max([jnp.arange(3)]) == 2 and tree.min([jnp.arange(3)]).dtype == jnp.arange(3).dtype


def test_numbers_keep_dtypes_and_moments_keep_theirs() -> None:
    half = {"w": jnp.ones(2, jnp.bfloat16)}
    single = {"w": jnp.zeros(2, jnp.float32)}
    assert tree.scale(0.5, half)["w"].dtype == tree.add_scale(half, 0.5, half)["w"].dtype == jnp.bfloat16
    assert tree.add(half, single)["w"].dtype == jnp.float32
    for moments in (half, single):
        for grads in (half, single):
            for moved in (
                tree.update_moment(grads, moments, 0.999, 2),
                tree.update_moment_per_elem_norm(grads, moments, 0.999, 2),
                tree.update_infinity_moment(grads, moments, 0.999, 1e-8),
            ):
                assert moved["w"].dtype == moments["w"].dtype and not moved["w"].weak_type


def test_bias_correction_is_exact_in_single_precision() -> None:
    """Four roundings of 6e-8 here; Optax's 1 − 0.999 in float32 has lost four digits."""
    moment = {"w": jnp.float32((1 - 0.999) * 3)}
    far = [
        abs(float(t.bias_correction(moment, 0.999, jnp.int32(1))["w"]) / 3 - 1) for t in (tree, optax.tree)
    ]
    assert far[0] < 2.4e-7 and far[1] > 1e-6


@pytest.mark.parametrize("ord", [None, 1, "inf"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_norms_have_derivatives_at_0(ord, dtype) -> None:
    zeros = {"w": jnp.zeros(2, dtype)}
    for squared in (False, True):
        slope = jax.grad(partial(tree.norm, ord=ord, squared=squared))(zeros)
        assert np.all(np.isfinite(slope["w"]))


def test_jit_and_shapes_alone() -> None:
    x, y, _ = trees(jnp.float32)
    laws.assert_close(jax.jit(tree.add)(x, y), tree.add(x, y), rtol=0, atol=0)
    shapes = jax.eval_shape(lambda: x)
    assert tree.size(shapes) == tree.size(x)
    laws.assert_close(tree.zeros_like(shapes), tree.zeros_like(x), rtol=0, atol=0)


def test_filters_see_the_named_tuple() -> None:
    """A key of a path is that of Optax where a named tuple is; the others are JAX's own."""
    tx = gradtx.chain(gradtx.trace(0.9), gradtx.adam(1e-3), gradtx.ema(0.9))
    state = tx.init({"w": jnp.zeros(2)})

    def in_adam(path, value):
        return any(isinstance(k, tree.NamedTupleKey) and k.tuple_name == "ScaleByAdamState" for k in path)

    (path, found), *others = tree.get_all_with_path(state, "count", in_adam)
    assert (
        others == []
        and found is state[1][0].count
        and jax.tree_util.keystr(path) == "[1][0]ScaleByAdamState.count"
    )
    theirs = optax.tree.get_all_with_path(state, "count")
    ours = tree.get_all_with_path(state, "count")
    assert [[type(key).__name__ for key in path] for path, _ in ours] == [
        [type(key).__name__ for key in path] for path, _ in theirs
    ]
    changed = tree.set(state, in_adam, count=jnp.int32(5))
    assert changed[1][0].count == 5 and changed[2].count == 0


MISTAKES = {
    "another key": (
        lambda: tree.add({"w": 1.0}, {"w": 1.0, "b": 2.0}),
        r"tree.add: tree_x have no \['b'\], tree_y do",
    ),
    "another container": (
        lambda: tree.vdot([1.0], (1.0,)),
        "tree.vdot: tree_x and tree_y have different structures",
    ),
    "a tree for a leaf": (
        lambda: tree.where(True, {"w": 1.0}, {"w": {"x": 1.0}}),
        "tree.where: tree_x and tree_y have different structures",
    ),
    "a third tree": (
        lambda: tree.add({"w": 1.0}, {"w": 1.0}, {"v": 1.0}),
        r"tree.add: tree_x have no \['v'\], other_trees\[0\] do",
    ),
    "another shape": (
        lambda: tree.mul({"w": jnp.ones(2)}, {"w": jnp.ones(3)}),
        r"tree.mul: \['w'\]: tree_x has shape \(2,\), tree_y has shape \(3,\)",
    ),
    "moments of others": (
        lambda: tree.update_moment({"w": 1.0}, {"v": 1.0}, 0.9, 2),
        r"tree.update_moment: updates have no \['v'\], moments do",
    ),
    "None in one": (lambda: tree.allclose([None], [1.0]), "tree.allclose: a and b have different structures"),
    "another norm": (lambda: tree.norm([1.0], 3), "tree.norm: ord must be 1, 2 or inf, got 3"),
    "another handler": (lambda: tree.dtype([1.0], "lower"), "mixed_dtype_handler must be .* got 'lower'"),
    "another dtype": (
        lambda: tree.dtype({"w": jnp.zeros(2), "b": jnp.zeros(2, jnp.int32)}),
        r"tree.dtype: the dtypes differ: \['b'\] is int32, \['w'\] is float32; mixed_dtype_handler='promote'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors(name) -> None:
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_found_comes_in_the_order_of_optax() -> None:
    """First what is within nothing of that name, then what is."""
    deep = {"a": {"mu": {"mu": 1, "b": {"mu": 2}}}, "b": [{"mu": 3}], "c": optax.TraceState({"mu": 4})}
    for found in (deep, {"x": {"mu": deep}, "mu": 5}, optax.TraceState({"trace": deep})):
        for key in ("mu", "trace", "TraceState", "a"):
            ours, theirs = (x.get_all_with_path(found, key) for x in (tree, optax.tree))
            named = [[jax.tree_util.keystr(path) for path, _ in pairs] for pairs in (ours, theirs)]
            assert named[0] == named[1] and [x for _, x in ours] == [x for _, x in theirs]
