"""Loops and branches inside `jax.shard_map` with its default checks; vectors of sharded tensors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from gradtx import assignment, losses, microbatching
from gradtx.torch import optim
from gradtx.torch.nn import functional
from gradtx.transforms.linesearch import searches
from tests import laws

P = PartitionSpec
TARGETS = np.arange(8.0, dtype=np.float32)


def per_device(f: Callable[..., Any], *arguments: Any) -> Any:
    """What a function makes of each row of these, on a device of its own."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    alone = lambda *rows: jax.tree.map(lambda y: y[None], f(*(row[0] for row in rows)))  # noqa: E731
    return jax.jit(jax.shard_map(alone, mesh=mesh, in_specs=P("x"), out_specs=P("x")))(*arguments)


def bowl(x: Any, target: Any) -> Any:
    return jnp.sum(jnp.cosh(x - target) * jnp.array([1.0, 3.0]))


def found(optimizer: Any, target: Any) -> Any:
    return gradtx.minimize(bowl, jnp.zeros(2), optimizer, args=(target,), max_iterations=30)


def loop(tx: gradtx.GradientTransformation, target: Any) -> Any:
    """One step of a line search or of PyTorch's L-BFGS, and its state."""
    f = partial(bowl, target=target)
    x = jnp.zeros(2) + 0 * target
    state = tx.init(x)
    value, grad = gradtx.value_and_grad_from_state(f)(x, state=state) if searches(state) else (0.0, x)
    updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
    return gradtx.apply_updates(x, updates), gradtx.state_dict(tx, state)


SEARCH = gradtx.scale_by_backtracking_linesearch(15, store_grad=True, verbose=True)
OF_TARGETS: dict[str, Callable[[Any], Any]] = {
    "minimize": partial(found, None),
    "minimize-adam": partial(found, gradtx.adam(0.3)),
    "lbfgs": partial(loop, gradtx.lbfgs()),
    "backtracking": partial(loop, gradtx.chain(gradtx.sgd(1.0), SEARCH)),
    "torch.lbfgs": partial(loop, optim.lbfgs(max_iter=3, line_search_fn="strong_wolfe")),
}
RNG = np.random.default_rng(0)
SQUARES = RNG.normal(size=(8, 4, 4)).astype(np.float32)
LOGITS = RNG.normal(size=(8, 2, 5, 4)).astype(np.float32)
LABELS = np.array([[1, 2], [3, 0]])
OF_ARRAYS: dict[str, tuple[Callable[..., Any], Any]] = {
    "hungarian_algorithm": (assignment.hungarian_algorithm, SQUARES),
    "nnls": (lambda A: gradtx.nnls(A, A[0], 9), SQUARES),
    "power_iteration": (lambda A: gradtx.power_iteration(A @ A.T, v0=jnp.ones(4)), SQUARES),
    "matrix_inverse_pth_root": (lambda A: gradtx.matrix_inverse_pth_root(A @ A.T, 2), SQUARES),
    "ctc_loss": (lambda x: losses.ctc_loss(x, jnp.zeros((2, 5)), LABELS, LABELS == 0), LOGITS),
    "torch.ctc_loss": (
        lambda x: functional.ctc_loss(
            jax.nn.log_softmax(x.swapaxes(0, 1)), LABELS[:1].repeat(2, 0), [5, 5], [2, 2]
        ),
        LOGITS,
    ),
    "microbatch": (
        microbatching.microbatch(lambda x: jnp.sum(x, 0), argnums=0, microbatch_size=2),
        SQUARES,
    ),
}


@pytest.mark.parametrize("name", [*OF_TARGETS, *OF_ARRAYS])
def test_each_device_solves_its_own_problem(name: str) -> None:
    f, rows = OF_ARRAYS.get(name) or (OF_TARGETS[name], TARGETS)
    together, alone = per_device(f, rows), jax.jit(f)
    for i in (0, 5):
        laws.assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone(rows[i]), rtol=1e-4, atol=1e-4)


def test_what_is_the_same_everywhere_stays_so() -> None:
    """Each device has a part of the sum; x, counts and status are those of the whole, and no axis varies."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))

    def solve(part: Any) -> Any:
        return gradtx.minimize(lambda x: jax.lax.psum(jnp.sum((x - part) ** 2), "x"), jnp.zeros(2))

    result = jax.jit(jax.shard_map(solve, mesh=mesh, in_specs=P("x"), out_specs=P()))(TARGETS)
    assert result.success
    np.testing.assert_allclose(result.x, TARGETS.mean(), rtol=1e-5)


def test_a_summed_gradient_of_a_value_that_is_not_is_refused() -> None:
    """Whole params have a gradient that JAX sums over the devices."""
    x, tx = jnp.zeros(2), gradtx.scale_by_zoom_linesearch(3)

    def step(target: Any) -> Any:
        value, grad = jax.value_and_grad(bowl)(x, target)
        return tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=partial(bowl, target=target))

    with pytest.raises(ValueError, match="value varies along x, and grad, a sum over it, does not"):
        per_device(step, TARGETS)


def test_counts_of_loops_of_other_lengths_vary() -> None:
    """What ends elsewhere on each device is not the same: `shard_map` would hand out that of one."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    iterations = jax.shard_map(
        lambda target: found(None, target[0]).iterations, mesh=mesh, in_specs=P("x"), out_specs=P()
    )
    with pytest.raises(ValueError, match="out_specs"):
        jax.jit(iterations)(TARGETS)


SHARDED = {
    "first axis": {"a": ((16,), P("x")), "b": ((8, 3), P("x"))},
    "others": {"a": ((4, 16), P(None, "x")), "b": ((3,), P()), "c": ((), P()), "d": ((8, 4), P("y", "x"))},
}


@pytest.mark.parametrize("layout", SHARDED)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_flatten_on_explicit_axes(layout: str, wrap: Any) -> None:
    mesh = jax.make_mesh((2, 4), ("y", "x"), axis_types=(AxisType.Explicit, AxisType.Explicit))
    tx, plain = gradtx.flatten(gradtx.adam(0.1)), gradtx.adam(0.1)
    with jax.set_mesh(mesh):
        kinds = SHARDED[layout]
        whole = laws.normal({name: shape for name, (shape, _) in kinds.items()}, 0, jnp.float32)
        params = {name: jax.device_put(x, NamedSharding(mesh, kinds[name][1])) for name, x in whole.items()}
        state = tx.init(params)
        updates, after = wrap(tx.update)(params, state, params)
        assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, params)
        assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)
        gradtx.apply_updates(params, updates)
        is_cut = any(jax.typeof(after[0].mu).sharding.spec)
    assert is_cut == (layout == "first axis")
    laws.assert_close(updates, plain.update(whole, plain.init(whole), whole)[0])
