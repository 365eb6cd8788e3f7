"""Arguments of factories: what their annotations and defaults say, and what is made of what is given."""

import inspect
import math
import typing
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import DTypeLike

from gradtx.values.domains import OFF, Interval, Mark, Vouched
from gradtx.values.parts import Choice, Number, Part, canonical, is_concrete_scalar, is_number
from gradtx.values.value import Value, split

POSITIONAL, REST, KEYWORDS = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
)


class Argument:
    """One argument of a factory: what its annotation and its default say of it."""

    def __init__(self, maker: str, kind: type[Value], parameter: inspect.Parameter, body: Callable[..., Any]):
        annotation = _resolved(parameter.annotation, body)
        marks = tuple(_marks(annotation))
        self.maker, self.adopt = maker, kind.adopt
        self.name, self.kind, self.default = parameter.name, parameter.kind, parameter.default
        self.intervals = [mark for mark in marks if isinstance(mark, Interval)]
        self.is_static, self.is_off_at_zero, self.is_dtype = (
            any(mark is known for mark in marks) for known in (Mark.STATIC, Mark.OFF_AT_ZERO, Mark.DTYPE)
        )
        self.is_bool = annotation is bool
        self.may_be_none = parameter.default is None or _admits_none(annotation)
        unmarked = parameter.annotation in (inspect.Parameter.empty, float, int, "float", "int") and not marks
        default = parameter.default
        number = default is inspect.Parameter.empty or is_number(default) or _is_schedule(default)
        single = self.kind not in (REST, KEYWORDS)
        self.is_numeric = not self.is_static and single and (bool(self.intervals) or (unmarked and number))
        bounds = [interval.closed_bounds for interval in self.intervals] or [(-math.inf, math.inf)]
        self.low, self.high = max(low for low, _ in bounds), min(high for _, high in bounds)

    def is_off(self, x: object) -> bool:
        """Whether this argument, by being 0, leaves a part out."""
        return self.is_off_at_zero and is_number(x) and x == 0

    @cached_property
    def of_default(self) -> tuple[list[Number], Part, Any]:
        """What `split` makes of the default."""
        return self.split(self.default)

    def split(self, x: Any) -> tuple[list[Number], Part, Any]:
        """The numbers in what was given, its structure, and the whole in canonical form; or an error."""
        x = canonical(self.adopt(x))
        self._check(x)
        if self.is_off(x):
            x = OFF
        if x is OFF or (self.is_static and not callable(x)):
            return [], Choice(x := _frozen(x)), x
        return *split(x), x

    def _check(self, x: Any) -> None:
        maker = self.maker
        if self.is_static and isinstance(x, Tracer):
            problem = "chooses structure and cannot be traced; pass a Python value"
            raise TypeError(f"{maker}: {self.name} {problem}")
        if self.is_dtype and not _is_inexact_dtype(x):
            raise TypeError(
                f"{maker}: {self.name} must be None or a dtype of real or complex numbers, such as "
                f"'bfloat16', got {x!r}"
            )
        if isinstance(x, Vouched) or (x is None and self.may_be_none):
            return
        if self.is_bool and (x is None or isinstance(x, str | bytes | list | tuple | dict)):
            raise TypeError(f"{maker}: {self.name} must be True or False, got {x!r}")
        if not self.intervals:
            return
        number = jax.device_get(x).item() if is_concrete_scalar(x) else x
        for interval in self.intervals:
            if is_number(number):
                if not interval.holds(number):
                    raise ValueError(f"{maker}: {interval.error(self.name, number)}")
            # vmap's in_axes, eval_shape and tree.map put other objects where numbers were.
            elif not (callable(x) or hasattr(x, "shape")):
                raise TypeError(f"{maker}: {self.name} must be a number or a schedule, got {x!r}")


def _is_inexact_dtype(x: DTypeLike | None) -> bool:
    try:
        return x is None or jnp.issubdtype(jnp.dtype(x), jnp.inexact)
    except TypeError:
        return False


def _is_schedule(x: object) -> bool:
    return isinstance(x, Value) and callable(x)


def _frozen(x: object) -> object:
    return tuple(map(_frozen, x)) if isinstance(x, list) else x


def _resolved(annotation: object, body: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, body.__globals__)  # a stringised annotation of this very module
    except Exception:  # noqa: BLE001  # whatever a name under TYPE_CHECKING raises: nothing is known then
        return None


def _marks(annotation: object) -> Iterator[object]:
    yield from getattr(annotation, "__metadata__", ())
    for inner in typing.get_args(annotation):
        yield from _marks(inner)


def _admits_none(annotation: object) -> bool:
    return annotation in (None, type(None)) or any(map(_admits_none, typing.get_args(annotation)))
