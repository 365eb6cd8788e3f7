"""Factors of orthogonal updates that depend on their shape alone."""

from collections.abc import Callable

from gradtx.arrays.outline import outlined
from gradtx.arrays.select import map_labelled
from gradtx.arrays.types import Array, Selector
from gradtx.core.transformation import EmptyState, init_empty_state
from gradtx.core.treewise import treewise
from gradtx.matrix.axes import MatrixAxes, fans, matrix_axes, on_matrices
from gradtx.values.domains import NonNegative

FACTORS: dict[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: max(1, columns / max(rows, 1)) ** 0.5,
    "spectral": lambda rows, columns: (columns / max(rows, 1)) ** 0.5,
    "none": lambda rows, columns: 1.0,
}
"""By name, the factor of matrices with so many rows (what x·W sums over) and columns."""


def shape_factor(scale: str, consistent_rms: NonNegative | None) -> Callable[[int, int], Array | float]:
    """The factor as a function of rows and columns; see `scale_by_shape`."""
    if consistent_rms is None:
        return FACTORS[scale]
    return lambda rows, columns: max(rows, columns) ** 0.5 * consistent_rms


@treewise(state=EmptyState, formerly="contrib.scale_by_shape")
def scale_by_shape(
    weight_dimension_numbers: Selector | None = None,
    consistent_rms: NonNegative | None = None,
    scale: str = "original",
):
    """Multiply updates by a number that depends on their shape alone.

    It is √max(1, columns / rows), √(columns / rows), or consistent_rms·√max(rows, columns), with which
    orthogonal matrices of all shapes have entries of one size, consistent_rms. Each part of a matrix that is
    cut is a matrix of its own.

    Args:
        weight_dimension_numbers: as in `scale_by_muon`.
        consistent_rms: the size of the entries; 0.2 is that of AdamW's steps. Default: the factor by name.
        scale: ``"original"``, the first factor; ``"spectral"``, the second, for which an orthogonal matrix
            makes of inputs with entries of size 1 outputs with entries of size at most 1; or ``"none"``.

    Raises:
        ValueError: for an unknown factor, and, at an update, for a tensor that is no matrix.

    Source: Jordan et al., Muon, 2024; Yang et al., A spectral condition for feature learning,
    arXiv:2310.17813; Liu et al., Muon is scalable for LLM training, arXiv:2502.16982.
    """
    name = "scale_by_shape"
    if scale not in FACTORS:
        raise ValueError(f"{name}: scale must be one of {', '.join(FACTORS)}, got {scale!r}")
    factor = shape_factor(scale, consistent_rms)

    def scaled(axes: MatrixAxes, update: Array | None) -> Array | None:
        if update is None:
            return None
        if axes.reduction_split is axes.output_split is axes.block_size is None:
            return factor(*fans(name, update.shape, axes)) * update
        return on_matrices(name, lambda x: factor(*x.shape[-2:]) * x, update, axes)

    def update(updates, state, params=None):
        axes = matrix_axes(
            name, "weight_dimension_numbers", weight_dimension_numbers, outlined(updates, params)
        )
        return map_labelled(scaled, axes, updates), state

    return init_empty_state, update
