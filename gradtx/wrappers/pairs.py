"""Transformations as Optax's own type, for libraries that take no other."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradtx.arrays.types import Params, State, Updates
from gradtx.core.transformation import GradientTransformation, check_transformation

if TYPE_CHECKING:
    import optax


# Python's bound methods are equal only where they are of the very same object.
@dataclass(frozen=True)
class Init:
    """The `init` of a transformation; equal to that of an equal one."""

    transformation: GradientTransformation

    def __call__(self, params: Params) -> State:
        return self.transformation.init(params)


@dataclass(frozen=True)
class Update:
    """The `update` of a transformation; equal to that of an equal one."""

    transformation: GradientTransformation

    def __call__(
        self, updates: Updates, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, State]:
        return self.transformation.update(updates, state, params, **extra)


def to_optax(tx: GradientTransformation) -> "optax.GradientTransformationExtraArgs":
    """The transformation as Optax's own type, for libraries that take no other.

    Most libraries call `init` and `update`, and take a transformation as it is. Some ask whether it is an
    ``optax.GradientTransformation``: NumPyro's SVI, and others that the guide "Coming from Optax" lists.
    The pair does the same with the same states. It compares and pickles by value, so a rebuilt one does
    not retrace a jitted function; and `chain`, like all that takes transformations, makes `tx` of it.

    Args:
        tx: the transformation.

    Returns:
        An ``optax.GradientTransformationExtraArgs``.

    Raises:
        ModuleNotFoundError: without Optax.
        TypeError: if `tx` is no transformation, a factory that was not called for instance.

    Example:
        >>> import gradtx, optax
        >>> tx = gradtx.to_optax(gradtx.adam(1e-3))
        >>> isinstance(tx, optax.GradientTransformation), tx == gradtx.to_optax(gradtx.adam(1e-3))
        (True, True)
        >>> gradtx.chain(gradtx.to_optax(gradtx.clip(1.0)), gradtx.sign_sgd(0.1))
        chain(clip(max_delta=1.0), sign_sgd(learning_rate=0.1))
    """
    tx = GradientTransformation.adopt(tx)
    check_transformation("to_optax", "tx", tx)
    return _optax().GradientTransformationExtraArgs(Init(tx), Update(tx))


def _optax() -> Any:
    try:
        return importlib.import_module("optax")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("to_optax needs Optax: pip install optax") from error
