"""How the dimensions of arrays are cut along the axes of a mesh."""

import math
from typing import Any

from jax.sharding import AbstractMesh, Mesh


def axes_of(cut: Any) -> tuple[str, ...]:
    """The axes that one entry of a `PartitionSpec` names: none, one or several."""
    return () if cut is None else (cut,) if isinstance(cut, str) else tuple(cut)


def devices_along(mesh: Mesh | AbstractMesh, cut: Any) -> int:
    """In how many parts a dimension with this entry of a `PartitionSpec` is cut."""
    return math.prod(mesh.shape[name] for name in axes_of(cut))
