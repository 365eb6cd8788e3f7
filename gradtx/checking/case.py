"""What a law is asked about: a transformation, and trees to run it on."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.types import Params, PyTree, State, Updates
from gradtx.core.transformation import GradientTransformation
from gradtx.step import apply_updates

PRECISE = {"rtol": 1e-11, "atol": 1e-11}
"""In float64: five digits above a rounding, and as many below a mistake."""
CLOSE = {"rtol": 2e-6, "atol": 1e-6}
"""In single precision: 8 units in the last place of 1, for a step or two that enlarge no rounding."""
SINGLE = (np.float32, np.complex64, jnp.bfloat16, jnp.float16)


def small_tree() -> PyTree:
    """The shapes of a small model: a matrix, a vector, a scalar."""
    return {"dense": {"kernel": np.zeros((3, 4)), "bias": np.zeros(4)}, "scale": np.zeros(())}


@dataclass(frozen=True)
class Case:
    """A transformation, the tensors that it is run on, and what its updates are given besides."""

    tx: GradientTransformation
    like: PyTree = field(default_factory=small_tree)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def tree(self, seed: int, dtype: Any = None) -> PyTree:
        """Standard normal tensors of these shapes; of the default dtype, or of this one."""
        rng = np.random.default_rng(seed)
        return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=np.shape(x)), dtype), self.like)

    def changed(self, change: Callable[[PyTree], PyTree]) -> "Case":
        """The case with a change made to the tree, and to those like it among the extra arguments."""
        structure = jax.tree.structure(self.like)
        extra = {
            name: change(x) if jax.tree.structure(x) == structure else x for name, x in self.extra.items()
        }
        return replace(self, like=change(self.like), extra=extra)

    def update(self, updates: Updates, state: State, params: Params) -> tuple[Updates, State]:
        """One update, with the extra arguments."""
        return self.tx.update(updates, state, params, **self.extra)

    def run(self, params: Params, grads: Any) -> tuple[Params, State]:
        """Params and state after these gradients, eagerly."""
        state = self.tx.init(params)
        for grad in grads:
            updates, state = self.update(grad, state, params)
            params = apply_updates(params, updates)
        return params, state

    def loop(self, params: Params, grads: Any) -> tuple[Params, State]:
        """`run` as one loop: then one update is compiled, however many there are."""

        def step(carry: Any, grad: Any) -> Any:
            params, state = carry
            updates, state = self.update(grad, state, params)
            return (apply_updates(params, updates), state), None

        stacked = jax.tree.map(lambda *each: jnp.stack(each), *grads)
        return jax.lax.scan(step, (params, self.tx.init(params)), stacked)[0]


def in_double() -> AbstractContextManager[Any]:
    """Within, JAX computes in float64 by default."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return jax.experimental.enable_x64()  # pyright: ignore[reportAttributeAccessIssue]  # before JAX 0.8


def numbers(x: PyTree) -> list[np.ndarray]:
    """The leaves as NumPy arrays; keys as their bits."""
    leaves = map(jnp.asarray, jax.tree.leaves(x))
    return [np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf) for leaf in leaves]


def is_key(x: Any) -> bool:
    """Whether x is an array of random keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def assert_close(a: PyTree, b: PyTree, **bounds: float) -> None:
    """The numbers of two trees are those of one formula, to these bounds or those of their precision."""
    for x, y in zip(numbers(a), numbers(b), strict=True):
        usual = CLOSE if x.dtype in SINGLE or y.dtype in SINGLE else PRECISE
        # To type checkers an unpacked float may be one of NumPy's flags.
        limits: Any = bounds or usual
        np.testing.assert_allclose(x.astype(np.complex128), y.astype(np.complex128), **limits)


def assert_finite(x: PyTree, where: str = "of the tree") -> None:
    """There is no NaN and no infinity."""
    for leaf in numbers(x):
        if not np.all(np.isfinite(leaf.astype(np.complex128))):
            raise AssertionError(f"{where}: {leaf}")


def assert_same_layout(a: PyTree, b: PyTree, what: str = "a tree") -> None:
    """Two trees, or their shapes, have the same structure, shapes, dtypes and weak types."""
    if (old := jax.tree.structure(b)) != (new := jax.tree.structure(a)):
        raise AssertionError(f"{what} has the structure {new}, and had {old}")
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(a)]
    for path, x, y in zip(paths, jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if _aval(x) != _aval(y):
            raise AssertionError(
                f"{what}: {path} has (shape, dtype, weak type) {_aval(x)}, and had {_aval(y)}"
            )


def _aval(x: Any) -> tuple[tuple[int, ...], str, bool]:
    x = x if hasattr(x, "dtype") else jnp.asarray(x)
    return x.shape, str(x.dtype), bool(getattr(x, "weak_type", False))
