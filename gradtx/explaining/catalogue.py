"""Every optimizer that there is: its name, the bytes of its state, its source."""

import fnmatch
import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.recipe import Recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.explaining.docstrings import docstring_of
from gradtx.state.accounting import bytes_of
from gradtx.values.factory import Factory, factory_of

NAMESPACES = ("gradtx", "gradtx.contrib", "gradtx.torch.optim")
RATES = frozenset({"learning_rate", "lr", "max_learning_rate"})
LIKE = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}


class Optimizer(NamedTuple):
    """An optimizer: its name as configs have it, its factory, and what its docstring says of it."""

    name: str
    factory: Factory
    summary: str
    source: str

    def made(self) -> GradientTransformation:
        """One with its defaults, and the learning rate 0.001 if it has none."""
        return self.factory(**dict.fromkeys(_needed(self.factory), 1e-3))

    @property
    def bytes_each(self) -> float:
        """The bytes of its state for each number of a large float32 matrix."""
        return bytes_of(self.made(), LIKE).per_parameter


def optimizers(pattern: str = "*") -> Iterator[Optimizer]:
    """The public optimizers by name: what takes a learning rate, and can be had by giving no more.

    Args:
        pattern: of names, with ``*`` and ``?``: ``*adam*``.
    """
    for namespace in NAMESPACES:
        module = import_module(namespace)
        for name in sorted(dir(module)):  # also of what is imported when first asked for
            found = None if name.startswith("_") else getattr(module, name)
            if inspect.isfunction(found) and _is_optimizer(found):
                factory = factory_of(found)
                is_its_own = factory.key == f"{namespace}.{name}".removeprefix("gradtx.")
                if is_its_own and fnmatch.fnmatch(factory.key, pattern):
                    said = docstring_of(found)
                    yield Optimizer(factory.key, factory, said.summary, said.source)


def _is_optimizer(function: Any) -> bool:
    factory = getattr(function, "factory", None)
    if factory is None or not issubclass(factory.kind, GradientTransformation):
        return False
    if factory.body.__name__.startswith(("scale_", "add_")):
        return False
    is_recipe = factory.kind is Recipe and ".optimizers" in factory.body.__module__
    return _needed(factory) <= RATES and (is_recipe or not RATES.isdisjoint(factory.parameters))


def _needed(factory: Factory) -> set[str]:
    return {name for name, p in factory.parameters.items() if p.default is inspect.Parameter.empty}
