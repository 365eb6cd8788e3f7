"""Numbers relative to the optimizer's own: what `groups` multiplies them by, for each of the params."""

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from gradtx.arrays import errors
from gradtx.arrays.outline import is_outline
from gradtx.arrays.signatures import signature
from gradtx.arrays.types import Array
from gradtx.values.factory import register
from gradtx.values.parts import is_number
from gradtx.values.value import Value

Factor = float | Array | Callable[..., Any]
"""A number, a number for each row, or a function that gives one of these for a param."""

OF_A_PARAM = ("path", "leaf")
"""The arguments of a function that are not captured by the pattern."""


class Relative(Value):
    """What `relative` returns."""

    @property
    def factor(self) -> Any:
        """The number, the numbers, or the function of them."""
        return self.arguments["factor"]

    @property
    def is_by_function(self) -> bool:
        """Whether it may be another number for each param."""
        return callable(self.factor)

    @property
    def asks_leaf(self) -> bool:
        """Whether it is a function of the param's shape, which is another on a shard."""
        return self.is_by_function and "leaf" in self._asks[0]

    def validate(self) -> None:
        factor = self.factor
        if not (callable(factor) or is_number(factor) or hasattr(factor, "shape")):
            raise TypeError(
                f"relative: factor must be a number, an array with one for each row, or a function, got "
                f"{factor!r}"
            )

    def of(self, where: str, key: Any, path: str, leaf: Any) -> Any:
        """The factor for one param, in a shape that goes with the param's.

        Args:
            where: the number that it multiplies, for errors.
            key: the pattern that chose the param, or its label.
            path, leaf: the param, or what is known of it.
        """
        factor: Any = self.factor
        if callable(factor):
            factor = self._called(where, key, path, leaf)
        if isinstance(factor, int | float):
            return float(factor)  # of which a trace makes a constant sooner than of an array
        if isinstance(factor, Tracer):
            shape = factor.shape
        else:
            try:
                factor = np.asarray(factor, jax.dtypes.canonicalize_dtype(np.float64))
            except (TypeError, ValueError):
                raise TypeError(
                    f"{where}: relative gave {factor!r} for {path}; it must give a number, or an array "
                    "with one for each row"
                ) from None
            shape = factor.shape
        if not shape:
            return factor
        if len(shape) > 1 or leaf.shape[:1] != shape:
            raise ValueError(
                f"{where}: relative gave factors of shape {list(shape)} for {path}, whose shape is "
                f"{list(leaf.shape)}; an array has one for each row along the first axis"
            )
        return factor.reshape(*shape, *[1] * (len(leaf.shape) - 1))

    def _called(self, where: str, key: Any, path: str, leaf: Any) -> Any:
        of_param, captured = self._asks
        given = {"path": path, "leaf": leaf}
        found = _captured(where, key, path, captured) if captured else ()
        try:
            with jax.ensure_compile_time_eval():
                return self.factor(
                    **{name: given[name] for name in of_param}, **dict(zip(captured, found, strict=True))
                )
        except AttributeError as error:
            if is_outline(leaf):
                raise errors.needs(
                    "groups", "params", f"; the function of {where} looks at more of {path} than its shape"
                ) from error
            raise

    @cached_property
    def _asks(self) -> tuple[list[str], list[str]]:
        """What the function asks for of the param, and what of its path."""
        asked = signature(self.factor)
        captured = [name for name in asked.names if name in asked.required and name not in OF_A_PARAM]
        return [name for name in asked.names if name in OF_A_PARAM], captured


def _captured(where: str, key: Any, path: str, names: list[str]) -> list[int | float]:
    """The numbers that a pattern captured in a path."""
    wanted = f"the function of relative takes {', '.join(names)}"
    match = re.fullmatch(key, path) if isinstance(key, str) else None
    if match is None:
        raise ValueError(
            f"{where}: {wanted}, and {path} was chosen by a label; numbers of the path need a pattern that "
            "captures them, such as r'blocks/(\\d+)/.*', or a function of path"
        )
    found = match.groups()
    if len(found) != len(names):
        raise ValueError(
            f"{where}: {wanted}, and the pattern captures {len(found)} groups; write one for each, such as "
            "(\\d+), and (?:...) for what is not captured"
        )
    return [_number(where, path, x) for x in found]


def _number(where: str, path: str, text: str | None) -> int | float:
    try:
        return int(text) if text is not None and text.isdecimal() else float(text or "")
    except ValueError:
        raise ValueError(
            f"{where}: the pattern captured {text!r} of {path}, which is no number; capture digits, (\\d+), "
            "or give relative a function of path"
        ) from None


def _recorded(body: Callable[[Any], Any]) -> Callable[[Any], Relative]:
    return register(body, Relative)


@_recorded
def relative(factor: Any):
    r"""In `groups`, a number as a multiple of the optimizer's own.

    number = factor · number of the optimizer, which may be a schedule; a change of either compiles nothing.
    In state and trace the params stay one group, however many factors there are.

    Args:
        factor: a number; an array with one for each row of the param, along the first axis, as stacked layers
            have it (for stages that look at each number alone); or a function that gives one of these. Of the
            function's arguments `path` and `leaf` are the param's (in an update without params, of `leaf`
            only the shape is known); all others, in order, are the numbers that the pattern captured.

    Raises:
        TypeError: for a factor that is none of these.
        ValueError: by `groups`, if the pattern captures no number, or the factors do not fit the param.

    Source: for layer-wise decay, Clark et al., ELECTRA, arXiv:2003.10555, and Bao et al., BEiT,
    arXiv:2106.08254, 0.8^(layers − depth); for scales by fan-in, Yang et al., Tensor programs V, muP,
    arXiv:2203.03466, where Adam's learning rate of a hidden matrix is
    the base's times base width / fan-in.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.groups(
        ...     gradtx.adamw(0.1),
        ...     {
        ...         r"blocks/(\d+)/.*": {"learning_rate": gradtx.relative(lambda depth: 0.5 ** (2 - depth))},
        ...         r"hidden": {"learning_rate": gradtx.relative(lambda leaf: 256 / leaf.shape[0])},
        ...     },
        ... )
        >>> params = {"blocks": [{"w": jnp.ones(3)}, {"w": jnp.ones(3)}], "hidden": jnp.ones((1024, 4))}
        >>> numbers = gradtx.hyperparams(tx, tx.init(params), params).next
        >>> print(numbers["blocks/0/w/learning_rate"], numbers["hidden/learning_rate"])
        0.025 0.025
    """
    del factor  # never run: groups reads it
