"""What line searches share: the objective on a line, and its value and gradient kept for the next step."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.cond import cond
from gradtx.arrays.errors import is_none
from gradtx.arrays.numerics import cast
from gradtx.arrays.reduction import joined
from gradtx.arrays.trees import filled, moved
from gradtx.arrays.types import Array, Params, Scalar, State, Updates
from gradtx.arrays.varying import in_shard_map, varying_axes

ValueFn = Callable[..., Any]


class Line:
    """The objective along params + t·updates.

    Args:
        name: the line search, for errors.
        value_fn: the objective, a real scalar.
        extra: the extra arguments of `update`; the objective is given those that it names, or all if it
            takes any.
        params, updates: where the line begins, and its direction.
        dtype: of values and slopes.
    """

    def __init__(
        self,
        name: str,
        value_fn: ValueFn,
        extra: Mapping[str, Any],
        params: Params,
        updates: Updates,
        dtype: Any,
    ):
        errors.check_callable(name, "value_fn", value_fn)
        named = inspect.signature(value_fn).parameters
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in named.values())
        self._name = name
        self._given = {name: x for name, x in extra.items() if takes_any or name in named}
        for argument in list(named.values())[1:]:
            named_only = argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
            if named_only and argument.default is argument.empty and argument.name not in self._given:
                raise errors.needs(f"{name}: value_fn", argument.name)
        self._value_fn, self._params, self._updates, self._dtype = value_fn, params, updates, dtype

    def value(self, t: Scalar) -> Array:
        """The value at t."""
        return self._number(self._value_fn(moved(self._params, t, self._updates), **self._given))

    def pullback(self, t: Scalar) -> tuple[Array, Callable[[], Updates]]:
        """The value at t, and a function that returns the gradient there."""

        def value_at(params: Params) -> Array:
            held = jax.tree.map(
                lambda u, p: jax.lax.stop_gradient(p) if u is None else p,
                self._updates,
                params,
                is_leaf=is_none,
            )
            return self._value_fn(held, **self._given)

        value, pull = jax.vjp(value_at, moved(self._params, t, self._updates))
        return self._number(value), lambda: self.wide(pull(jnp.ones_like(value))[0])

    def _number(self, value: Any) -> Array:
        value = jnp.asarray(value)
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(
                f"{self._name}: value_fn must return a real scalar; it returned {value.dtype} of shape "
                f"{value.shape}"
            )
        return value.astype(self._dtype)

    def start(self, value: Scalar, grad: Updates) -> tuple[Array, Updates]:
        """Value and gradient where the line begins, as a state keeps them."""
        errors.check_scalar(self._name, "value", value)
        value, grad = jnp.asarray(value, self._dtype), self.wide(grad)
        if in_shard_map():
            summed = varying_axes(value).difference(*map(varying_axes, jax.tree.leaves(grad)))
            if summed:
                raise ValueError(
                    f"{self._name}: value varies along {', '.join(sorted(summed))}, and grad, a sum over it, "
                    "does not. For one objective, let value_fn return jax.lax.psum of its parts; for one on "
                    "each device, let the params vary, by jax.lax.pcast"
                )
        return value, grad

    def wide(self, grad: Updates) -> Updates:
        """A gradient as a state keeps it: in at least float32, 0 where there is none."""
        errors.check_alike(self._name, "the tensors of grad", grad, "params", self._params)
        return filled(grad, self._params)

    def slope(self, grad: Updates) -> Array:
        """The derivative of the value with respect to t, where the gradient is this one."""
        products = jax.tree.map(
            lambda u, g: None if u is None else jnp.sum((u * g).real, dtype=self._dtype),
            self._updates,
            grad,
            is_leaf=is_none,
        )
        return joined("sum", [jnp.zeros([], self._dtype), *jax.tree.leaves(products)])


def report(bad: Array, message: str, *numbers: Array) -> None:
    """Print a message with these numbers, where a search went badly."""
    cond(bad, lambda: jax.debug.print(message, *numbers), lambda: None)


def searches(state: State) -> list[Any]:
    """The named tuples in a state that keep a value and a gradient, of whichever library."""

    def keeps(x: Any) -> bool:
        return {"value", "grad"} <= set(getattr(x, "_fields", ())) and x.grad is not None

    return [x for x in jax.tree.leaves(state, is_leaf=keeps) if keeps(x)]


def value_and_grad_from_state(value_fn: ValueFn) -> Callable[..., tuple[Array, Updates]]:
    """`jax.value_and_grad` that takes both from the state of a line search, which had to compute them.

    ``f = value_and_grad_from_state(fun)`` is called as ``f(params, *args, state=state, **kwargs)``. The
    state must come from an update whose result these params are, for the same objective. Only if the
    value in it is not finite, as after `init`, is `fun` evaluated.

    Args:
        value_fn: ``value_fn(params, *args, **kwargs)``, a real scalar.

    Raises:
        ValueError: if the state has no value and gradient, or several.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> f = lambda x: jnp.sum((x - 3) ** 2)
        >>> tx, x = gradtx.lbfgs(), jnp.zeros(2)
        >>> value_and_grad, state = gradtx.value_and_grad_from_state(f), tx.init(x)
        >>> for _ in range(3):
        ...     value, grad = value_and_grad(x, state=state)
        ...     updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
        ...     x = gradtx.apply_updates(x, updates)
        >>> print(x.round(5))
        [3. 3.]
    """

    def value_and_grad(params: Params, *args: Any, state: State, **kwargs: Any) -> tuple[Array, Updates]:
        found = searches(state)
        if len(found) != 1:
            raise ValueError(
                f"value_and_grad_from_state: the state has {len(found) or 'no'} values and gradients; use an "
                "optimizer that ends with one line search: lbfgs(), scale_by_zoom_linesearch(...), or "
                "scale_by_backtracking_linesearch(..., store_grad=True)"
            )
        kept = jax.tree.map(jnp.asarray, (found[0].value, found[0].grad))

        def evaluate() -> Any:
            found = jax.value_and_grad(value_fn)(params, *args, **kwargs)
            return jax.tree.map(lambda x, old: cast(jnp.asarray(x), old.dtype), found, kept)

        return cond(jnp.isfinite(kept[0]), lambda: kept, evaluate)

    return value_and_grad
