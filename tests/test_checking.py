"""`check`: each law is broken by a rule that breaks it, and by no other."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.checking import laws
from gradtx.checking.case import Case
from gradtx.core.recipe import Recipe
from gradtx.values.factory import register


class MeanState(NamedTuple):
    """mean: a tree like the params."""

    mean: gradtx.Params


@gradtx.leafwise(state=MeanState)
def scale_by_mean(decay: gradtx.Decay = 0.9, eps: gradtx.NonNegative = 1e-8):
    """g over the moving average of |g|, and a little of the param: as it should be written."""

    def init(param):
        return dict(mean=jnp.zeros_like(param))

    def update(grad, mean, param):
        mean = gradtx.decay_towards(mean, jnp.abs(grad), decay)
        return grad / (mean + eps) + 0.1 * param, dict(mean=mean)

    return init, update


def of_functions(update: Callable[..., Any], init: Callable[[Any], Any] = gradtx.init_empty_state) -> Any:
    return gradtx.GradientTransformation(init, update)


@gradtx.leafwise
def branching(rate: float = 0.5):
    """It decides by a number, which may be traced."""
    return lambda grad: grad if rate == 0 else rate * grad


@gradtx.leafwise
def reading(rate: gradtx.Number = 0.5):
    """It reads a number when the value is made, and so by NumPy."""
    return lambda grad: grad * np.exp(rate)


@gradtx.leafwise
def rooted(rate: gradtx.Number = 1.0):
    """Its derivative at 0 is infinite."""
    return lambda grad: rate * jnp.sqrt(jnp.abs(grad))


@gradtx.leafwise
def normalized():
    """0 / 0 for a gradient of 0."""
    return lambda grad: grad / jnp.linalg.norm(grad)


def widening() -> Any:
    """Its state is in the dtype of the params, and then of the gradients."""
    init = lambda params: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
    return of_functions(lambda updates, state, params=None: (updates, (state, updates)), init)


def counting() -> Any:
    """It counts the tensors, and None among them."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        n = len(jax.tree.leaves(updates, is_leaf=lambda x: x is None))
        return jax.tree.map(lambda g: g / n, updates), state

    return of_functions(update)


def telling() -> Any:
    """It counts in Python, so that another program has another number."""
    seen: list[int] = []

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        seen.append(0)
        return jax.tree.map(lambda g: len(seen) * g, updates), state

    return of_functions(update)


def moving_all() -> Any:
    """It gives an update to params that have no gradient."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        is_none = lambda x: x is None  # noqa: E731
        return jax.tree.map(lambda g: jnp.zeros(4) if g is None else g, updates, is_leaf=is_none), state

    return of_functions(update)


def greedy() -> Any:
    """It takes any extra argument, for a number."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        return jax.tree.map(lambda g: g * (1 + len(extra)), updates), state

    return of_functions(update)


@gradtx.leafwise
def called_back():
    """The host is handed a whole batch, and takes its norm."""

    def update(grad):
        host = lambda g: g / np.linalg.norm(g)  # noqa: E731
        kind = jax.ShapeDtypeStruct(grad.shape, grad.dtype)
        return jax.pure_callback(host, kind, grad, vmap_method="broadcast_all")

    return update


def weak() -> Any:
    """Its state is a Python number, and then an array."""
    return of_functions(lambda updates, state, params=None: (updates, jnp.float32(1)), lambda params: 0.0)


@gradtx.leafwise
def standardized():
    """The deviation of a single number is 0."""
    return lambda grad: (grad - jnp.mean(grad)) / jnp.std(grad)


def sharing() -> Any:
    """Its state has one array in two places."""

    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return {"mu": zeros, "nu": zeros}

    return of_functions(lambda updates, state, params=None: (updates, state), init)


def renaming() -> Any:
    """Its state has another name each time."""
    names = itertools.count()
    init = lambda params: {f"moment_{next(names)}": jnp.zeros(())}  # noqa: E731
    return of_functions(lambda updates, state, params=None: (updates, state), init)


class Unequal(Recipe):
    """Values that equal only themselves, as closures do."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Recipe.__hash__


def closing(rate: gradtx.Number = 0.5):
    """A recipe of that kind."""
    return gradtx.scale(rate)


def gathering() -> Any:
    """Its state is put on every device by the first update."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return updates, jax.lax.with_sharding_constraint(state, jax.sharding.PartitionSpec())

    return of_functions(update, lambda params: jax.tree.map(jnp.zeros_like, params))


BROKEN = {
    laws.the_state_keeps_its_layout: widening(),
    laws.zero_gradients_give_finite_updates: normalized(),
    laws.jit_is_eager: telling(),
    laws.numbers_may_be_traced: branching(0.5),
    laws.vmap_over_params_is_a_loop: called_back(),
    laws.vmap_over_numbers_is_a_loop: reading(0.5),
    laws.derivatives_through_updates_are_finite: rooted(),
    laws.nothing_is_traced_twice: weak(),
    laws.none_is_left_alone: counting(),
    laws.a_missing_gradient_skips_its_param: moving_all(),
    laws.odd_shapes_work: standardized(),
    laws.donation_works: sharing(),
    laws.unknown_extra_arguments_are_ignored: greedy(),
    laws.the_state_loads_by_name: renaming(),
    laws.a_rebuilt_value_is_equal: register(closing, Unequal)(),
    laws.sharding_is_kept: gathering(),
}


def test_a_rule_as_it_should_be_obeys_all() -> None:
    report = gradtx.check(scale_by_mean())
    report.raise_broken()
    assert not report.broken and len(report.outcomes) == len(laws.LAWS)
    assert BROKEN.keys() == set(laws.LAWS), "every law has a rule below that breaks it"
    laws.a_rebuilt_value_is_equal(Case(gradtx.clip(np.inf)))
    assert str(report).startswith("scale_by_mean obeys ") and "  ok       jit is eager" in str(report)


@pytest.mark.parametrize("law", BROKEN, ids=lambda law: law.__name__)
def test_a_rule_that_breaks_a_law_is_told(law: laws.Law) -> None:
    law(Case(scale_by_mean()))
    with pytest.raises(Exception):  # noqa: B017  # whatever the rule does where it fails
        law(Case(BROKEN[law]))
