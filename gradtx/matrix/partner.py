"""Who is given the params that are no matrices."""

from gradtx.arrays.select import as_tree
from gradtx.arrays.types import Params, Selector
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import axes_of
from gradtx.wrappers.masking import partition


def beside(
    name: str,
    of_matrices: GradientTransformation,
    of_others: GradientTransformation,
    what: str,
    axes: Selector | None,
) -> GradientTransformation:
    """A transformation of the matrices and one of everything else, in one.

    Args:
        name: of the recipe, and the label of the matrices; that of the others is ``adam``.
        of_matrices, of_others: the two.
        what: the recipe's argument that says which axes make matrices, for errors.
        axes: that argument; None for a param, or no pattern that matches, gives it to the others. Default:
            tensors with two axes are matrices.
    """

    def labels(params: Params) -> Params:
        return as_tree(["adam" if one is None else name for one in axes_of(name, what, axes, params)], params)

    return partition({name: of_matrices, "adam": of_others}, labels)
