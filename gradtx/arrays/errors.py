"""What a user reads: each message names the transformation, the path and both sides, and says what to do."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr
from jax.typing import ArrayLike

from gradtx.arrays.numerics import has_numbers
from gradtx.arrays.types import DType, PyTree, State

_ENGINE = tuple(str(Path(__file__).parent.parent / room) for room in ("values", "arrays", "core", "step.py"))


class NotGiven(TypeError, ValueError):
    """An update lacks something that a transformation needs: params, or an extra argument."""


def needs(name: str, what: str, hint: str = "") -> NotGiven:
    """The error for an update without `what`, and what it may have been meant to be."""
    call = "update(grads, state, params)" if what == "params" else f"update(grads, state, params, {what}=...)"
    return NotGiven(f"{name} needs {what}: call {call}{hint}")


def is_none(x: object) -> bool:
    """Whether x is None: the ``is_leaf`` that keeps absent leaves in their places."""
    return x is None


def is_sparse(x: object) -> bool:
    """Whether x is a sparse matrix (BCOO), which is one tensor though it is a pytree."""
    return hasattr(x, "todense")


def paths(tree: PyTree) -> dict[str, Any]:
    """Every leaf of a tree by its path as an error prints it, ``['layer1']['w']``; None is a leaf."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    return {keystr(path): leaf for path, leaf in leaves}


def path_of(tree: PyTree, i: int) -> str:
    """The path of the i-th leaf of a tree, None counted as one."""
    return list(paths(tree))[i]


def another_structure(name: str, a: str, tree_a: PyTree, b: str, tree_b: PyTree) -> ValueError:
    """The error for two trees that should have the same structure."""
    paths_a, paths_b = paths(tree_a), paths(tree_b)
    lines = [
        f"{name}: {who} have no {path}, {other} do"
        for who, other, theirs, missing in (
            (a, b, paths_a, paths_b.keys() - paths_a.keys()),
            (b, a, paths_b, paths_a.keys() - paths_b.keys()),
        )
        for path in sorted(path for path in missing if not _beside_one(path, theirs))[:5]
    ]
    if not lines:
        lines = [
            f"{name}: {a} and {b} have different structures:",
            f"  {a}: {jax.tree.structure(tree_a)}",
            f"  {b}: {jax.tree.structure(tree_b)}",
        ]
    return ValueError("\n".join([*lines, f"{a} and {b} must be trees of one structure."]))


def _beside_one(path: str, others: Iterable[str]) -> bool:
    # Where one tree has a leaf and the other has more below it, neither lacks the path.
    return any(path.startswith(other) or other.startswith(path) for other in others)


def another_shape(
    name: str, path: str, a: str, shape_a: Sequence[int], b: str, shape_b: Sequence[int]
) -> ValueError:
    """The error for two tensors that should have the same shape."""
    return ValueError(f"{name}: {path}: {a} has shape {tuple(shape_a)}, {b} has shape {tuple(shape_b)}")


def check_alike(name: str, a: str, tree_a: PyTree, b: str, tree_b: PyTree) -> None:
    """Raise unless two trees have one structure and the same shapes; a None has any."""
    leaves, treedef = jax.tree.flatten(tree_a, is_leaf=is_none)
    try:
        beside = treedef.flatten_up_to(tree_b)
    except (ValueError, TypeError):
        raise another_structure(name, a, tree_a, b, tree_b) from None
    for i, (x, y) in enumerate(zip(leaves, beside, strict=True)):
        if x is None or y is None:
            continue
        if not jax.tree_util.all_leaves([y]):
            raise another_structure(name, a, tree_a, b, tree_b)
        if np.shape(x) != np.shape(y):
            path = path_of(tree_a, i)
            raise ValueError(f"{name}: {path} has shape {np.shape(x)} in {a}, {np.shape(y)} in {b}")


def check_inexact(name: str, tree: PyTree) -> None:
    """Raise unless all tensors of a tree are of real or complex numbers."""
    for i, x in enumerate(jax.tree.leaves(tree, is_leaf=is_none)):
        if x is not None and not has_numbers(x):
            raise not_inexact(name, path_of(tree, i), kind_of(x))


def check_arrays(name: str, what: str, tree: PyTree) -> None:
    """Raise unless all leaves of what a compiled function is given are arrays or numbers."""
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        if not _is_array(x):
            raise TypeError(
                f"{name}: {what}{keystr(path)} must be an array or a number, got {type(x).__name__}: {x!r}"
            ) from None


def check_scalar(name: str, what: str, x: ArrayLike) -> None:
    """Raise unless x is a real scalar, such as the value of an objective."""
    if np.shape(x) != () or not isinstance(x, float | int | jax.Array | np.ndarray | np.generic):
        found = f"shape {np.shape(x)}" if np.shape(x) else repr(x)
        raise TypeError(f"{name}: {what} must be a real scalar, got {found}; take the mean of a batch")
    if jnp.iscomplexobj(x):
        raise TypeError(f"{name}: {what} must be a real scalar, got one of {jnp.result_type(x)}")


def check_callable(name: str, what: str, x: object) -> None:
    """Raise unless x can be called."""
    if not callable(x):
        raise TypeError(f"{name}: {what} must be a function, got {type(x).__name__}: {x!r}")


def not_real(name: str, path: str = "") -> RuntimeError:
    """The error for a complex tensor where only real ones are defined."""
    where = f" at {path}" if path else ""
    return RuntimeError(
        f"{name} does not support complex parameters; there is one{where}: "
        "optimise its real and imaginary parts as two params"
    )


def not_inexact(name: str, path: str, kind: DType | str) -> TypeError:
    """The error for integers, or what is no array, where real or complex tensors are needed."""
    return TypeError(
        f"{name}: {path or 'the tensor'} is {kind}; only floating-point and complex tensors can be "
        "optimised. Convert it, freeze it (groups, partition and masks pass it by), or leave it out of the "
        "params (None in its place is skipped)."
    )


def kind_of(x: object) -> Any:
    """The dtype of an array or number, for `not_inexact`; of anything else, what it is."""
    if hasattr(x, "detach"):
        return "a tensor of PyTorch, no array of JAX, as jax.numpy.asarray(x.detach().numpy()) is"
    return jnp.result_type(x) if _is_array(x) else f"a {type(x).__name__}, {x!r:.60}"


def _is_array(x: Any) -> bool:
    """Whether x is an array or a number."""
    return hasattr(x, "dtype") or isinstance(x, bool | int | float | complex)


def another_state(name: str, state: State, expected: str, swapped: bool) -> ValueError:
    """The error for a state that this transformation did not make."""
    hint = (
        "did you swap grads and state? Call update(grads, state, params)"
        if swapped
        else "make one with init(params)"
    )
    found = type(state).__name__ + (f" of {len(state)}" if isinstance(state, tuple | list | dict) else "")
    return ValueError(f"{name}: this is not its state: expected {expected}, got {found}; {hint}")


def hide_engine(error: BaseException) -> None:
    """Leave the library's own steps between the user's files out of the traceback of an error.

    With ``JAX_TRACEBACK_FILTERING=off`` they stay, as those of JAX do.
    """
    if getattr(jax.config, "jax_traceback_filtering", None) == "off":
        return
    kept, step = [], error.__traceback__
    while step is not None:
        if not step.tb_frame.f_code.co_filename.startswith(_ENGINE):
            kept.append(step)
        step = step.tb_next
    found: TracebackType | None = None
    for step in reversed(kept):
        found = TracebackType(found, step.tb_frame, step.tb_lasti, step.tb_lineno)
    error.__traceback__ = found
