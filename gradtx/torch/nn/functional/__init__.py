"""torch.nn.functional: the losses, as functions of arrays.

Each is computed in at least float32 and returned in the promoted dtype of its arguments: for bfloat16 it
is the float32 result, rounded once. Integers among the arguments, such as targets of ±1, are converted
where at least one argument is floating. Numbers that are out of range raise where they are concrete; under
`jit`, and where they are differentiated or mapped, there is nothing to look at.
"""

from gradtx.torch.nn.functional.binary import binary_cross_entropy as binary_cross_entropy
from gradtx.torch.nn.functional.binary import (
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
)
from gradtx.torch.nn.functional.classification import cross_entropy as cross_entropy
from gradtx.torch.nn.functional.classification import nll_loss as nll_loss
from gradtx.torch.nn.functional.ctc import ctc_loss as ctc_loss
from gradtx.torch.nn.functional.embedding import cosine_embedding_loss as cosine_embedding_loss
from gradtx.torch.nn.functional.embedding import triplet_margin_loss as triplet_margin_loss
from gradtx.torch.nn.functional.likelihood import gaussian_nll_loss as gaussian_nll_loss
from gradtx.torch.nn.functional.likelihood import kl_div as kl_div
from gradtx.torch.nn.functional.likelihood import poisson_nll_loss as poisson_nll_loss
from gradtx.torch.nn.functional.margin import hinge_embedding_loss as hinge_embedding_loss
from gradtx.torch.nn.functional.margin import margin_ranking_loss as margin_ranking_loss
from gradtx.torch.nn.functional.margin import multi_margin_loss as multi_margin_loss
from gradtx.torch.nn.functional.margin import multilabel_margin_loss as multilabel_margin_loss
from gradtx.torch.nn.functional.margin import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from gradtx.torch.nn.functional.margin import soft_margin_loss as soft_margin_loss
from gradtx.torch.nn.functional.regression import huber_loss as huber_loss
from gradtx.torch.nn.functional.regression import l1_loss as l1_loss
from gradtx.torch.nn.functional.regression import mse_loss as mse_loss
from gradtx.torch.nn.functional.regression import smooth_l1_loss as smooth_l1_loss
