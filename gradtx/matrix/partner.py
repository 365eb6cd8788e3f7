"""Who is given the params that are no matrices."""

from typing import Any

from gradtx.arrays.select import as_tree
from gradtx.arrays.types import Params, Selector
from gradtx.core.chain import chain
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import axes_of
from gradtx.optimizers.adam import adamw
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
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


def descending(
    name: str,
    direction: GradientTransformation,
    learning_rate: Any,
    weight_decay: Any,
    mask: Selector | None,
    others: GradientTransformation | None,
    axes: Selector | None,
) -> GradientTransformation:
    """Steps against a direction of matrices, with weight decay; of the others by default by AdamW."""
    by_matrix = chain(
        direction, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate)
    )
    others = adamw(learning_rate) if others is None else others
    return beside(name, by_matrix, others, "weight_dimension_numbers", axes)
