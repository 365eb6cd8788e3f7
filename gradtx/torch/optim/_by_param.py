"""What is known of each param, by its name and by the param itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax


class ByParam(dict[str, Any]):
    """A dict by the names of params, which is read by the params too; it has nothing for some of them.

    Args:
        found: what there is.
        params: the name of each param, and the array that it is.
    """

    def __init__(self, found: Mapping[str, Any], params: Sequence[tuple[str, Any]]):
        super().__init__(found)
        self._params = params

    def __getitem__(self, param: Any) -> Any:
        name = self._name(param)
        if name is None:
            names = ", ".join(dict.fromkeys(name for name, _ in self._params))
            what = param if isinstance(param, str) else "this array"
            raise KeyError(f"{what} is none of the params as they are now; they are {names}")
        return super().get(name, {})

    def __contains__(self, param: object) -> bool:
        return super().__contains__(self._name(param))

    def get(self, param: Any, default: Any = None) -> Any:
        """What there is for a param, or else the default."""
        return self[param] if param in self else default

    def _name(self, param: Any) -> str | None:
        if isinstance(param, str):
            return next((name for name, _ in self._params if name == param), None)
        leaves = jax.tree.leaves(param)  # a variable of a module is a tree with one leaf
        found = (name for name, x in self._params if len(leaves) == 1 and x is leaves[0])
        return next(found, None)


def _as_dict(names: tuple[str, ...], found: Sequence[Any]) -> Any:
    return dict(zip(names, found, strict=True))


jax.tree_util.register_pytree_node(ByParam, lambda x: (tuple(x.values()), tuple(x)), _as_dict)
