"""The laws: what every transformation obeys, whatever its formula.

A law takes a `Case` and asserts. Comparisons of two compilations are in float64, where a rounding is five
digits below the bound and a mistake as many above.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.numerics import at_least_float32
from gradtx.checking.case import (
    Case,
    assert_close,
    assert_finite,
    assert_same_layout,
    in_double,
    is_key,
    numbers,
)
from gradtx.state.state_dict import load_state_dict, state_dict
from gradtx.step import apply_updates, jit_step

Law = Callable[[Case], None]
LAWS: list[Law] = []


class Skipped(Exception):
    """A law that cannot be asked here, and why."""


def law(function: Law) -> Law:
    """Add a law to those that `check` asks for."""
    LAWS.append(function)
    return function


DTYPES = [
    (jnp.float32, jnp.float32),
    (jnp.bfloat16, jnp.bfloat16),
    (jnp.float16, jnp.float16),
    (jnp.bfloat16, jnp.float32),
    (jnp.float32, jnp.bfloat16),
]
"""Of the params, and of the gradients."""


@law
def the_state_keeps_its_layout(case: Case) -> None:
    """Structure, shapes and dtypes of the state are those of `init`, also in half precision."""
    for param_dtype, grad_dtype in DTYPES:
        params = case.tree(0, param_dtype)
        assert_kept_layout(case, jax.eval_shape(case.tx.init, params), params, case.tree(1, grad_dtype))


def assert_kept_layout(case: Case, state: Any, params: Any, grads: Any) -> None:
    """An update leaves the layout of the state as it was, and updates are of the promoted dtype."""
    updates, after = jax.eval_shape(case.update, grads, state, params)
    assert_same_layout(after, state, "the state after an update")
    wanted = jnp.promote_types(jax.tree.leaves(params)[0].dtype, jax.tree.leaves(grads)[0].dtype)
    if case.tx.plan.is_wide:
        wanted = at_least_float32(wanted)
    if strange := {str(leaf.dtype) for leaf in jax.tree.leaves(updates)} - {str(wanted)}:
        raise AssertionError(f"updates are of {strange.pop()}, for params and gradients that make {wanted}")


@law
def zero_gradients_give_finite_updates(case: Case) -> None:
    """Also in half precision, and also where the params are 0."""
    loop = jax.jit(case.loop)
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        params = case.tree(0, dtype)
        zeros = jax.tree.map(jnp.zeros_like, params)
        for start in (params, zeros):
            assert_finite(loop(start, [zeros] * 3), f"after gradients of 0 in {jnp.dtype(dtype)}")


@law
def jit_is_eager(case: Case, **options: Any) -> None:
    """Three updates inside `jit` are those outside; `options` are for the compiler."""
    with in_double():
        params, grads = case.tree(0), [case.tree(1), case.tree(2), case.tree(3)]
        assert_close(case.run(params, grads), jax.jit(case.loop, **options)(params, grads))


@law
def numbers_may_be_traced(case: Case) -> None:
    """The value as an argument of `jit` is the one that is closed over."""

    def loop(tx: Any, params: Any, grads: Any) -> Any:
        return Case(tx, case.like, case.extra).loop(params, grads)

    with in_double():
        params, grads = case.tree(0), [case.tree(1), case.tree(2)]
        assert_close(case.run(params, grads), jax.jit(loop)(case.tx, params, grads))


@law
def vmap_over_params_is_a_loop(case: Case) -> None:
    """A batch of params at once is one after the other."""
    with in_double():
        pairs = [(case.tree(i), case.tree(i + 5)) for i in range(3)]
        assert_vmap_is_loop(lambda params, grad: case.loop(params, [grad, grad]), pairs)


@law
def vmap_over_numbers_is_a_loop(case: Case) -> None:
    """A sweep over all numbers at once is one value after the other."""

    def scaled(i: int) -> Any:
        # Whole numbers (k, a seed) stay whole.
        return jax.tree.map(lambda x: x if isinstance(x, int) else x * (1 - 0.01 * i), case.tx)

    def loop(tx: Any) -> Any:
        return Case(tx, case.like, case.extra).loop(params, grads)

    with in_double():
        params, grads = case.tree(0), [case.tree(1), case.tree(2)]
        assert_vmap_is_loop(loop, [(scaled(i),) for i in range(3)])


def assert_vmap_is_loop(function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """The function of a batch is that of each."""
    if not jax.tree.leaves(arguments):
        return
    batch = jax.tree.map(lambda *xs: np.stack(xs), *arguments)
    together, alone = numbers(jax.jit(jax.vmap(function))(*batch)), jax.jit(function)
    for i, one in enumerate(arguments):
        assert_close([x[i] for x in together], alone(*one))


@law
def derivatives_through_updates_are_finite(case: Case) -> None:
    """With respect to numbers, params and gradients, also where gradients are 0."""

    def total(tx: Any, params: Any, grads: Any) -> Any:
        after, _ = Case(tx, case.like, case.extra).loop(params, grads)
        return sum(jnp.sum(x) for x in jax.tree.leaves(after))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2), allow_int=True))
    three = [case.tree(1), case.tree(2), case.tree(3)]
    for grads, what in ((three, "derivatives"), (jax.tree.map(jnp.zeros_like, three), "derivatives at 0")):
        found = jax.tree.leaves(gradient(case.tx, case.tree(0), grads))
        assert_finite([x for x in found if x.dtype != jax.dtypes.float0], what)


@law
def nothing_is_traced_twice(case: Case) -> None:
    """A second step, and one with other numbers, run the program of the first."""
    traces = 0

    @jax.jit
    def step(tx: Any, grads: Any, state: Any, params: Any) -> Any:
        nonlocal traces
        traces += 1
        return tx.update(grads, state, params, **case.extra)

    params, grads = case.tree(0), case.tree(1)
    _, state = step(case.tx, grads, case.tx.init(params), params)
    # Whole numbers that choose nothing (a seed, k) are leaves too, and may change.
    other = jax.tree.map(lambda x: x + 1 if isinstance(x, int) else x * 0.9, case.tx)
    for tx in (case.tx, other):
        step(tx, grads, state, params)
    if traces > 1:
        raise AssertionError(f"three steps were traced {traces} times: state or numbers change their type")


@law
def none_is_left_alone(case: Case) -> None:
    """A None among the params has no state and no update, and changes nothing for the others."""
    with in_double():
        # Beside them, for what is drawn at random is drawn by the paths of the others.
        with_none = lambda tree: {**tree, "gone": None}  # noqa: E731
        params, grads = case.tree(0), case.tree(1)
        after, state = case.changed(with_none).run(with_none(params), [with_none(grads)] * 2)
        assert after.pop("gone") is None
        alone, own_state = case.run(params, [grads] * 2)
        assert_close(after, alone)
        assert_close(state, own_state)


@law
def a_missing_gradient_skips_its_param(case: Case) -> None:
    """Where a gradient is None the param stays, and the state keeps its layout."""
    params, grads = case.tree(0), case.tree(1)
    leaves, treedef = jax.tree.flatten(grads)
    state = case.tx.init(params)
    updates, after = case.update(treedef.unflatten([None, *leaves[1:]]), state, params)
    first = jax.tree.leaves(updates, is_leaf=lambda x: x is None)[0]
    if first is not None:
        raise AssertionError("there is an update for a param without a gradient")
    assert_same_layout(after, state, "the state after an update with a None")
    new = jax.tree.leaves(apply_updates(params, updates))[0]
    assert new is jax.tree.leaves(params)[0], "a param without a gradient has moved"


@law
def odd_shapes_work(case: Case) -> None:
    """Tensors whose axes are all of size 1 give finite updates."""
    ones = case.changed(lambda tree: jax.tree.map(lambda x: np.ones((1,) * np.ndim(x)), tree))
    assert_finite(ones.run(ones.tree(0), [ones.tree(1)] * 2), "of axes of size 1")


@law
def donation_works(case: Case) -> None:
    """`init` shares no buffer, and a step may reuse those of params and state."""
    with in_double():
        params, grads = case.tree(0), case.tree(1)
        expected = case.run(params, [grads, grads])
        state = case.tx.init(params)
        arrays = [x for x in jax.tree.leaves((params, state)) if not is_key(x)]
        pointers = {x.unsafe_buffer_pointer() for x in arrays}
        assert len(pointers) == len(arrays), "init shares a buffer with the params, or within the state"
        old = jax.tree.leaves(params)
        for _ in range(2):
            params, state = jit_step(case.tx, grads, state, params, **case.extra)
        assert all(x.is_deleted() for x in old), "a donated buffer is still there"
        assert_close((params, state), expected)


@law
def unknown_extra_arguments_are_ignored(case: Case) -> None:
    """Whatever else an update is given, it does not mind."""
    params, grads = case.tree(0), case.tree(1)
    state = case.tx.init(params)
    more = Case(case.tx, case.like, {"note": "a string", "f": abs, **case.extra})
    assert_close(more.update(grads, state, params), case.update(grads, state, params))


@law
def the_state_loads_by_name(case: Case) -> None:
    """`state_dict` and `load_state_dict` give it back."""
    params = case.tree(0)
    _, state = case.run(params, [case.tree(1)])
    loaded = load_state_dict(case.tx, case.tx.init(params), state_dict(case.tx, state))
    assert_same_layout(loaded, state, "the state that was loaded")
    for x, y in zip(numbers(loaded), numbers(state), strict=True):
        np.testing.assert_array_equal(x, y)


@law
def a_rebuilt_value_is_equal(case: Case) -> None:
    """Taken apart as a tree and put together, the value is the same; with another number it is not."""
    leaves, treedef = jax.tree.flatten(case.tx)
    assert treedef.unflatten(leaves) == case.tx, "the rebuilt value differs"
    hash(case.tx)
    if leaves:
        first = leaves[0]
        other = first + 1 if hasattr(first, "shape") else -first or 1  # infinity and 1 make infinity
        assert case.tx != treedef.unflatten([other, *leaves[1:]]), "another number makes no difference"


@law
def sharding_is_kept(case: Case) -> None:
    """On a mesh, everything stays where `init` has put it. It takes several devices."""
    n = jax.device_count()
    if n < 2:
        raise Skipped("there is one device; XLA_FLAGS=--xla_force_host_platform_device_count=8 makes more")
    mesh = jax.make_mesh((n,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    # The first axis of each tensor is made one that the devices divide.
    long = case.changed(
        lambda tree: jax.tree.map(
            lambda x: np.ones((n * len(x), *np.shape(x)[1:])) if np.ndim(x) else x, tree
        )
    )

    def put(tree: Any) -> Any:
        spec = lambda x: jax.sharding.PartitionSpec(*(["data"] if x.ndim else []))  # noqa: E731
        return jax.tree.map(lambda x: jax.device_put(x, jax.sharding.NamedSharding(mesh, spec(x))), tree)

    with jax.set_mesh(mesh):
        params, grads = put(long.tree(0)), put(long.tree(1))
        state = long.tx.init(params)
        _, after = jax.jit(long.update)(grads, state, params)
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
        for path, x, y in zip(paths, jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
            if not x.sharding.is_equivalent_to(y.sharding, x.ndim):
                raise AssertionError(f"the state: {path} was at {x.sharding}, and is at {y.sharding}")
