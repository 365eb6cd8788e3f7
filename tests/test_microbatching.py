"""Microbatches: the results of whole batches, and Optax's."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import microbatching
from gradtx.microbatching import AccumulationType, Accumulator, micro_grad, micro_vmap, reshape_batch_axis
from tests import laws

KINDS = [kind.name for kind in AccumulationType]
LIBRARIES = (microbatching, optax.microbatching)


def batch(rows=12):
    rng = np.random.default_rng(0)
    return {"x": jnp.asarray(rng.normal(size=(rows, 3))), "y": jnp.asarray(rng.normal(size=rows))}


def loss(params, data):
    """The mean over examples of a loss that is not quadratic."""
    return jnp.mean(jnp.cosh(data["x"] @ params["w"] - data["y"]))


def params():
    return {"w": jnp.array([0.3, -0.2, 0.5])}


def kind_of(library, name):
    return getattr(library.AccumulationType, name)


@pytest.mark.parametrize("real", [None, 3, 0])
@pytest.mark.parametrize("name", KINDS)
def test_microbatch_is_that_of_optax(x64, name, real) -> None:
    """Also where not all of them run. The order of the sums is the same, but for the running mean's."""

    def run(library):
        def fun(params, data):
            return (jax.grad(loss)(params, data), data["x"] * 2)

        how = (kind_of(library, name), kind_of(library, "CONCAT"))
        return library.microbatch(fun, 1, 3, how, num_real_microbatches=real)(params(), batch())

    laws.assert_close(*map(run, LIBRARIES), rtol=1e-14, atol=1e-15)


def test_the_mean_over_microbatches_is_that_over_the_batch(x64) -> None:
    grad = jax.grad(loss)
    whole = grad(params(), batch())
    for size in (1, 4, 12):
        for kind in (AccumulationType.MEAN, AccumulationType.RUNNING_MEAN):
            parts = jax.jit(gradtx.microbatch(grad, 1, size, kind))
            laws.assert_close(parts(params(), batch()), whole, rtol=1e-14, atol=1e-15)
    assert gradtx.microbatch(grad, 1, None) is grad


def test_concatenated_rows_are_in_the_order_of_the_batch() -> None:
    x = jnp.arange(24.0).reshape(8, 3)
    double = gradtx.microbatch(lambda x: 2 * x, 0, 2, AccumulationType.CONCAT)
    np.testing.assert_array_equal(double(x), 2 * x)
    sums = gradtx.microbatch(jnp.sum, 0, 2, AccumulationType.CONCAT)
    np.testing.assert_array_equal(sums(jnp.arange(6)), [0 + 3, 1 + 4, 2 + 5])


def test_axes_names_and_several_batches(x64) -> None:
    x, y = batch()["x"], batch()["y"]

    def run(library):
        def fun(scale, x, *, y):
            return (scale * x, jnp.sum(y))

        how = (kind_of(library, "SUM"), kind_of(library, "CONCAT"))
        return library.microbatch(fun, (1,), 4, how, argnames="y", in_axes=(1, 0))(3.0, x.T, y=y)

    laws.assert_close(*map(run, LIBRARIES), rtol=1e-14, atol=1e-15)


def test_axes_are_counted_from_the_end() -> None:
    x = {"a": jnp.arange(24.0).reshape(2, 3, 4), "b": jnp.arange(4.0)}
    how = AccumulationType.CONCAT
    rows = gradtx.microbatch(lambda x: (x["a"].sum((0, 1)), x["b"]), 0, 2, how, in_axes=-1)(x)
    laws.assert_close(rows, (x["a"].sum((0, 1)), x["b"]), rtol=0, atol=0)
    mapped = micro_vmap(jnp.sum, in_axes=-1, microbatch_size=2)(x["a"])
    np.testing.assert_array_equal(mapped, x["a"].sum((0, 1)))
    laws.assert_close(reshape_batch_axis(x["a"], 2, -1), reshape_batch_axis(x["a"], 2, 2), rtol=0, atol=0)


@pytest.mark.parametrize("axis", [0, 1])
def test_reshape_is_that_of_optax(axis) -> None:
    x = {"x": jnp.arange(24).reshape(4, 6)}
    laws.assert_close(*(library.reshape_batch_axis(x, 2, axis) for library in LIBRARIES), rtol=0, atol=0)


def test_an_accumulator_of_ones_own(x64) -> None:
    largest = Accumulator(
        init=lambda x: jnp.full(x.shape, -jnp.inf, x.dtype),
        update=lambda carry, x, i: jnp.maximum(carry, x + 0 * i),
        finalize=lambda carry: -carry,
        aggregate=lambda xs: jnp.max(xs, axis=0),
    )
    x = batch()["x"]
    how = {"max": largest, "sum": AccumulationType.SUM}
    found = gradtx.microbatch(lambda x: {"max": jnp.max(x), "sum": jnp.sum(x)}, 0, 3, how)(x)
    laws.assert_close(found, {"max": -jnp.max(x), "sum": jnp.sum(x)}, rtol=1e-14, atol=0)
    found = micro_vmap(jnp.sum, microbatch_size=3, accumulator=largest)(x)
    np.testing.assert_allclose(found, -jnp.max(jnp.sum(x, axis=1)), rtol=1e-14)


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("name", KINDS)
def test_micro_vmap_is_that_of_optax(x64, name, size) -> None:
    def run(library):
        def fun(w, x):
            return (x @ w, x * 2)

        how = (kind_of(library, "CONCAT"), kind_of(library, name))
        mapped = library.micro_vmap(fun, (None, 0), microbatch_size=size, accumulator=how)
        return mapped(params()["w"], batch()["x"])

    laws.assert_close(*map(run, LIBRARIES), rtol=1e-14, atol=1e-15)


def test_micro_vmap_maps_all_arguments_by_default() -> None:
    x = jnp.arange(6.0)
    found = micro_vmap(lambda x, y, *, z: x + y * z, microbatch_size=2)(x, x, z=x)
    np.testing.assert_array_equal(found, x + x * x)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("has_aux", [False, True])
def test_micro_grad_is_that_of_optax(x64, name, size, has_aux) -> None:
    def run(library):
        fun = (lambda *args: (loss(*args), {"twice": 2 * loss(*args)})) if has_aux else loss
        grads = library.micro_grad(
            fun,
            has_aux,
            microbatch_size=size,
            accumulator=kind_of(library, name),
            transform_fn=lambda g: (g, jax.tree.map(jnp.square, g)),
            metrics_fn=lambda g: jnp.linalg.norm(g["w"]),
        )
        grads, outputs = jax.jit(grads)(params(), batch())
        return grads, tuple(outputs)

    laws.assert_close(*map(run, LIBRARIES), rtol=1e-14, atol=1e-15)


def test_micro_grad_of_examples_without_the_axis_and_with_more_arguments(x64) -> None:
    def scaled(params, data, scale):
        return scale * jnp.cosh(data["x"] @ params["w"] - data["y"])

    run = micro_grad(scaled, keep_batch_dim=False, microbatch_size=3, accumulator=AccumulationType.MEAN)
    grads, outputs = run(params(), batch(), 2.0)
    laws.assert_close(grads, jax.grad(lambda p: 2 * loss(p, batch()))(params()), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(jnp.mean(outputs.values), 2 * loss(params(), batch()), rtol=1e-14)
    assert outputs.metrics is None and outputs.aux is None


def test_half_precision_is_summed_in_float32() -> None:
    """512 ones: a bfloat16 sum stands still at 256."""
    ones = jnp.ones((512, 2), jnp.bfloat16)
    for kind, wanted in (("SUM", 512), ("MEAN", 1), ("RUNNING_MEAN", 1)):
        found = gradtx.microbatch(lambda x: x[0], 0, 1, AccumulationType[kind])(ones)
        assert found.dtype == jnp.bfloat16
        np.testing.assert_array_equal(found, wanted)


def test_padded_batches_compile_once() -> None:
    compiled = []

    @jax.jit
    def mean(x, n):
        compiled.append(n)
        how = AccumulationType.RUNNING_MEAN
        return gradtx.microbatch(jnp.mean, 0, 2, how, num_real_microbatches=n)(x)

    # Microbatch i of 3 has the examples i and i + 3.
    x = jnp.array([1.0, 2.0, 9.0, 3.0, 4.0, 9.0])
    assert mean(x, jnp.int32(1)) == 2 and mean(x, jnp.int32(2)) == 2.5 and len(compiled) == 1


def test_a_sharded_batch_stays_where_it_is() -> None:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x = jax.device_put(jnp.arange(16.0), sharding)
    split = jax.jit(lambda x: reshape_batch_axis(x, 4))(x)
    assert split.sharding.is_equivalent_to(
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "data")), split.ndim
    )


MISTAKES = {
    "a size that does not divide": (
        lambda: gradtx.microbatch(jnp.sum, 0, 4)(jnp.ones(6)),
        "microbatch: microbatch_size must divide the batch, got 4, and argument 0 has 6 examples",
    ),
    "no size": (lambda: gradtx.microbatch(jnp.sum, 0, 0)(jnp.ones(6)), "must divide the batch, got 0"),
    "batches of two sizes": (
        lambda: gradtx.microbatch(loss, (0, 1), 2)({"w": jnp.ones(2)}, {"x": jnp.ones(4)}),
        r"the same number of examples: argument 0\['w'\] has 2, argument 1\['x'\] has 4",
    ),
    "an argument that is not there": (
        lambda: gradtx.microbatch(jnp.sum, 1, 2)(jnp.ones(4)),
        "microbatch: there is no argument 1 in this call",
    ),
    "axes for others": (
        lambda: gradtx.microbatch(jnp.sum, 0, 2, in_axes=(0, 1)),
        r"in_axes must have an axis for each of argnums and argnames, got \(0, 1\) for \(0,\)",
    ),
    "too many": (
        lambda: gradtx.microbatch(jnp.sum, 0, 2, num_real_microbatches=3)(jnp.ones(4)),
        r"num_real_microbatches must lie in \[0, 2\], which are all, got 3",
    ),
    "too many for an array": (
        lambda: gradtx.microbatch(jnp.sum, 0, 2, num_real_microbatches=np.int64(3))(jnp.ones(4)),
        r"num_real_microbatches must lie in \[0, 2\], which are all, got 3",
    ),
    "half a number": (
        lambda: gradtx.microbatch(jnp.sum, 0, 4 / 2)(jnp.ones(4)),
        r"microbatch: microbatch_size must be a whole number, got 2.0",
    ),
    "no examples": (
        lambda: gradtx.microbatch(jnp.sum, 0, 2)(jnp.ones((0, 3))),
        "microbatch: argument 0 has no examples",
    ),
    "a word": (
        lambda: gradtx.microbatch(jnp.sum, 0, 2, "sum")(jnp.ones(4)),
        r"Accumulator or an AccumulationType \(MEAN, SUM, RUNNING_MEAN, CONCAT\), got 'sum'",
    ),
    "another structure": (
        lambda: gradtx.microbatch(jnp.sum, 0, 2, [AccumulationType.SUM])(jnp.ones(4)),
        "microbatch: accumulator must have the structure of what the function returns",
    ),
    "the mean of integers": (
        lambda: gradtx.microbatch(jnp.sum, 0, 2, AccumulationType.MEAN)(jnp.arange(4)),
        "microbatch: MEAN needs floating-point or complex values, got int32",
    ),
    "another axis out": (lambda: micro_vmap(jnp.sum, out_axes=1), "micro_vmap: out_axes must be 0, got 1"),
    "a leaf that does not fit": (
        lambda: reshape_batch_axis({"x": jnp.ones(4), "y": jnp.ones(5)}, 2),
        r"reshape_batch_axis: .* got 2, and the tree\['y'\] has 5 examples",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors(name) -> None:
    call, message = MISTAKES[name]
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        call()


def test_the_function_keeps_its_name_and_signature() -> None:
    assert inspect.signature(gradtx.microbatch(loss, 1, 2)) == inspect.signature(loss)
    assert micro_grad(loss).__name__ == "loss"
