"""Clipping beside PyTorch's, in float64, and as stages of a chain."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from jax.sharding import PartitionSpec as P

import gradtx
from gradtx.torch.nn import utils

RNG = np.random.default_rng(3)
INF = math.inf

GRADS: dict[str, dict[str, Any]] = {
    "some": {"a": RNG.normal(size=(4, 3)), "b": RNG.normal(size=5), "c": np.array(0.5), "absent": None},
    "zeros": {"a": np.zeros(3), "b": np.array([1.0, 0.0, -2.0])},
    "all zero": {"a": np.zeros(3), "b": np.zeros(())},
    "tiny": {"a": np.full(3, 1e-9)},
    "infinite": {"a": np.array([1.0, INF]), "b": np.array([2.0])},
    "NaN": {"a": np.array([1.0, np.nan]), "b": np.array([2.0])},
    "NaN among many": {"a": np.where(np.arange(40_000) == 777, np.nan, 1.0)},
    "empty tensor": {"a": np.zeros((0, 3)), "b": np.array([3.0, -4.0])},
    "none": {},
}
NORM_TYPES = [2.0, 1, 3.0, 0.5, 0, INF, -INF, -1.0, "inf"]


def theirs(function: Any, grads: dict[str, Any], *arguments: Any) -> tuple[dict[str, Any], Any]:
    """The gradients after PyTorch's function, and what it returned."""
    params = {name: torch.zeros(() if g is None else g.shape) for name, g in grads.items()}
    for name, g in grads.items():
        params[name] = params[name].double().requires_grad_()
        params[name].grad = None if g is None else torch.tensor(g)
    returned = function(list(params.values()), *arguments)
    return {name: None if p.grad is None else p.grad.numpy() for name, p in params.items()}, returned


def assert_same(mine: Any, reference: Any) -> None:
    """Within 1e-12 relative: some hundred roundings of 1e-16 in sums of 20 squares."""
    assert jax.tree.structure(mine) == jax.tree.structure(reference)
    for x, y in zip(jax.tree.leaves(mine), jax.tree.leaves(reference), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-12)


def no_norm_of_nothing(kind: str, norm_type: Any) -> bool:
    return kind == "empty tensor" and norm_type in (INF, -INF, -1.0, "inf")


CASES = [
    (kind, norm_type)
    for kind in GRADS
    for norm_type in (NORM_TYPES if kind in ("some", "zeros") else [2.0, INF])
    if not no_norm_of_nothing(kind, norm_type)
]


@pytest.mark.parametrize(("kind", "norm_type"), CASES)
@pytest.mark.parametrize("max_norm", [0.7, 100.0])
def test_clip_grad_norm_is_torch(kind: str, norm_type: Any, max_norm: float, x64) -> None:
    """As a function, and as a transformation."""
    grads = GRADS[kind]
    reference, total = theirs(torch.nn.utils.clip_grad_norm_, grads, max_norm, norm_type)
    clipped, norm = utils.clip_grad_norm_(grads, max_norm, norm_type)
    assert_same(clipped, reference)
    np.testing.assert_allclose(norm, total, rtol=1e-12)
    np.testing.assert_allclose(utils.get_total_norm(grads, norm_type), total, rtol=1e-12)
    tx = utils.clip_grad_norm(max_norm, norm_type)
    arrays = jax.tree.map(jnp.asarray, grads)
    assert_same(tx.update(arrays, tx.init(arrays))[0], reference)


@pytest.mark.parametrize("kind", [kind for kind in GRADS if kind != "none"])
def test_clip_grad_value_is_torch(kind: str, x64) -> None:
    grads = jax.tree.map(jnp.asarray, GRADS[kind])
    reference, _ = theirs(torch.nn.utils.clip_grad_value_, GRADS[kind], 0.5)
    tx = utils.clip_grad_value(0.5)
    assert_same(utils.clip_grad_value_(grads, 0.5), reference)
    assert_same(tx.update(grads, tx.init(grads))[0], reference)


def test_the_norm_may_be_of_more_than_these(x64) -> None:
    grads = GRADS["some"]
    total = utils.get_total_norm([grads, grads])
    reference, _ = theirs(torch.nn.utils.clip_grads_with_norm_, grads, 0.7, torch.tensor(np.asarray(total)))
    assert_same(utils.clip_grads_with_norm_(grads, 0.7, total), reference)


def test_a_norm_within_the_bound_is_scaled_too(x64) -> None:
    """By max_norm / (norm + 1e-6) if it is that close to the bound: PyTorch never branches."""
    (clipped,), norm = utils.clip_grad_norm_([jnp.array([3.0, 4.0])], 5.0)
    assert norm == 5.0
    np.testing.assert_allclose(clipped, np.array([3.0, 4.0]) * (5 / (5 + 1e-6)), rtol=1e-15)


def test_dtypes_stay_and_the_norm_is_in_float32() -> None:
    grads = {"a": jnp.array([3.0, 4.0], jnp.bfloat16), "b": jnp.array([12.0], jnp.float16)}
    clipped, norm = utils.clip_grad_norm_(grads, 6.5)
    assert (norm, norm.dtype) == (13.0, jnp.float32)
    assert jax.tree.map(lambda x: x.dtype, clipped) == jax.tree.map(lambda x: x.dtype, grads)
    np.testing.assert_array_equal(np.float32(clipped["a"]), [1.5, 2.0])
    assert utils.clip_grad_value_(grads, 3.5)["a"].dtype == jnp.bfloat16
    assert utils.get_total_norm({}).dtype == jnp.float32
    assert utils.clip_grad_value_({}, 1.0) == {}


def test_in_a_chain_it_is_torch(x64) -> None:
    """Ten steps with the norm on either side of the bound."""
    tx = gradtx.chain(utils.clip_grad_norm(2.0), gradtx.adam(0.1))
    params = {"w": jnp.zeros(3)}
    state, step = tx.init(params), jax.jit(tx.update)
    param = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([param], lr=0.1)
    for grad in RNG.normal(size=(10, 3)):
        updates, state = step({"w": jnp.asarray(grad)}, state)
        params = gradtx.apply_updates(params, updates)
        param.grad = torch.tensor(grad)
        torch.nn.utils.clip_grad_norm_([param], 2.0)
        optimizer.step()
    np.testing.assert_allclose(params["w"], param.detach(), rtol=1e-12)


def test_the_transformations_are_values() -> None:
    tx = utils.clip_grad_norm(1.0)
    assert repr(tx) == "torch.nn.utils.clip_grad_norm(max_norm=1.0, norm_type=2.0)"
    assert repr(utils.clip_grad_value(0.5)) == "torch.nn.utils.clip_grad_value(clip_value=0.5)"
    assert tx == utils.clip_grad_norm(1.0) != utils.clip_grad_norm(1.0, 1)
    grads = jnp.array([3.0, 4.0])
    step = jax.jit(lambda tx: tx.update(grads, tx.init(grads))[0])
    np.testing.assert_allclose(step(tx), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(step(tx.replace(max_norm=2.5)), [1.5, 2.0], rtol=1e-6)
    assert step._cache_size() == 1


def test_gradients_through_clipping_are_finite_at_zero() -> None:
    for norm_type in (2.0, 3.0, INF):

        def total(g, norm_type=norm_type):
            return jnp.sum(utils.clip_grad_norm_(g, 1.0, norm_type)[0])

        assert np.isfinite(jax.grad(total)(jnp.zeros(3))).all()


NONFINITE = [("infinite", 2.0), ("NaN", 2.0), ("NaN", INF)]


@pytest.mark.parametrize(("kind", "norm_type"), NONFINITE)
def test_a_norm_that_is_not_finite_may_be_an_error(kind: str, norm_type: float, x64) -> None:
    text = re.escape(f"The total norm of order {norm_type} for gradients from `parameters` is non-finite")
    with pytest.raises(RuntimeError, match=text):
        theirs(torch.nn.utils.clip_grad_norm_, GRADS[kind], 1.0, norm_type, True)
    with pytest.raises(RuntimeError, match=text):
        utils.clip_grad_norm_(GRADS[kind], 1.0, norm_type, error_if_nonfinite=True)
    assert utils.get_total_norm(GRADS["some"], error_if_nonfinite=True) > 0


def test_under_jit_the_norm_cannot_be_looked_at() -> None:
    with pytest.raises(TypeError, match="leave it out under jit, return the norm, and look at it outside"):
        jax.jit(lambda g: utils.clip_grad_norm_(g, 1.0, error_if_nonfinite=True))(jnp.ones(3))


@pytest.mark.parametrize("factory", [utils.clip_grad_norm, utils.clip_grad_value])
def test_a_negative_bound_is_refused(factory) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, inf\], got -1"):
        factory(-1.0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clip_grad_norm_", (1.0,)),
        ("clip_grad_value_", (1.0,)),
        ("clip_grads_with_norm_", (1.0, 2.0)),
        ("get_total_norm", ()),
    ],
)
def test_a_module_is_refused(name: str, arguments: tuple[float, ...]) -> None:
    """It would be a copy of its weights that is clipped."""
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    with pytest.raises(
        TypeError, match=rf"{name} takes gradients, and a module has none here: write .*{name}\(grads"
    ):
        getattr(utils, name)(model, *arguments)
    grads = nnx.grad(lambda model: model(jnp.ones((1, 2))).sum())(model)
    getattr(utils, name)(grads, *arguments)


@pytest.mark.parametrize("norm_type", [2.0, 1, 3.0, 0, INF, -INF])
def test_over_shards_the_norm_is_of_the_whole(norm_type: float, x64) -> None:
    """Of a tensor that is cut over two devices, and of one that both have."""
    grads = {"cut": jnp.array([0.0, 0.0, 3.0, -4.0]), "whole": jnp.array([1.0, 2.0])}
    specs = {"cut": P("data"), "whole": P()}
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])

    def clipped(grads: Any) -> Any:
        with gradtx.over_shards("data"):
            return utils.clip_grad_norm_(grads, 0.7, norm_type)

    found = jax.jit(jax.shard_map(clipped, mesh=mesh, in_specs=(specs,), out_specs=(specs, P())))(grads)
    exact = utils.clip_grad_norm_(grads, 0.7, norm_type)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-14), found, exact)
