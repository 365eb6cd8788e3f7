"""The beginning of a state: what `init` is handed, and where what it makes is put.

A state begins where every update will leave it, so that a step is compiled once: what has the shape of a
param lies as the param does, and on a mesh everything that belongs to no tensor, such as a count, is on
all of its devices. Shapes in place of params give the shapes of the state, with these shardings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from gradtx.arrays.errors import is_none
from gradtx.arrays.numerics import has_numbers
from gradtx.arrays.types import DType, Params, PyTree
from gradtx.core.program import owned_by_state


@dataclass(frozen=True)
class Beginning:
    """The params that a state is made for.

    Attributes:
        params: the tree; `leaves`, its leaves, among them None; `treedef`, its structure.
    """

    params: Params
    leaves: list[Any]
    treedef: Any

    @classmethod
    def of(cls, params: Params) -> Self:
        """The beginning of a state for these params."""
        leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
        return cls(params, leaves, treedef)

    @cached_property
    def numbers(self) -> Params:
        """The params, with None in place of those that have no real or complex numbers."""
        leaves = [x if x is None or has_numbers(x) else None for x in self.leaves]
        alike = all(x is y for x, y in zip(leaves, self.leaves, strict=True))
        return self.params if alike else self.treedef.unflatten(leaves)

    @cached_property
    def is_abstract(self) -> bool:
        """Whether there are shapes in place of params."""
        return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in self.leaves)

    @cached_property
    def is_traced(self) -> bool:
        """Whether a param is traced."""
        return any(isinstance(leaf, Tracer) for leaf in self.leaves)

    @cached_property
    def mesh(self) -> Any:
        """The mesh of several devices that the params are on, or None."""
        shardings = (getattr(leaf, "sharding", None) for leaf in self.leaves if not isinstance(leaf, Tracer))
        meshes = [s.mesh for s in shardings if isinstance(s, NamedSharding) and s.mesh.size > 1]
        return meshes[0] if meshes else None

    def scalar(self, x: ArrayLike, dtype: DType) -> Any:
        """A number of the state, of no tensor."""
        if self.is_abstract:
            return self._placed(jax.ShapeDtypeStruct((), dtype))
        # Traced, it may have no other array to be placed beside: then it is as jax makes it.
        return self._placed(jnp.asarray(x, dtype))

    def made(self, make: Callable[[PyTree], PyTree], params: PyTree) -> PyTree:
        """What a function makes of these params, or of one of them."""
        if self.is_abstract:
            return self._shapes(make, params)
        leaves = jax.tree.leaves(params)
        theirs, like = {id(leaf) for leaf in leaves}, leaves[0] if len(leaves) == 1 else None
        return jax.tree.map(lambda x: self._placed(owned_by_state(x, theirs), like), make(params))

    def _placed(self, x: Any, like: Any = None) -> Any:
        if self.mesh is None or isinstance(x, Tracer):
            return x
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        if isinstance(x, jax.ShapeDtypeStruct) and x.sharding is None:
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere)
        if isinstance(x, jax.Array) and len(x.sharding.device_set) == 1:
            return jax.device_put(x, like.sharding if np.shape(like) == x.shape != () else everywhere)
        return x

    def _shapes(self, make: Callable[[PyTree], PyTree], params: PyTree) -> PyTree:
        # On explicit axes shardings are part of the types, so tracing tells where everything would be.
        mesh = self.mesh
        if mesh is None:
            return jax.eval_shape(make, params)
        explicit = mesh.abstract_mesh.update_axis_types(
            dict.fromkeys(mesh.axis_names, jax.sharding.AxisType.Explicit)
        )

        def on(mesh: Any, x: Any) -> Any:
            if not isinstance(getattr(x, "sharding", None), NamedSharding):
                return x
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, x.sharding.spec))

        with jax.sharding.use_abstract_mesh(explicit):
            shapes = jax.eval_shape(make, jax.tree.map(lambda x: on(explicit, x), params))
        return jax.tree.map(lambda x: self._placed(on(mesh, x)), shapes)

    def is_on_one_device(self, param: ArrayLike) -> bool:
        """Whether a param is an array, or becomes one, of one device."""
        return not isinstance(param, jax.Array) or len(param.sharding.device_set) == 1
