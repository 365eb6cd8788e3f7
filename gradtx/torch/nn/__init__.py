"""torch.nn: the losses, as objects and in `functional` as functions, and the clipping of gradients."""

from gradtx.torch.nn import functional as functional
from gradtx.torch.nn import utils as utils
from gradtx.torch.nn.losses.classification import BCELoss as BCELoss
from gradtx.torch.nn.losses.classification import BCEWithLogitsLoss as BCEWithLogitsLoss
from gradtx.torch.nn.losses.classification import CrossEntropyLoss as CrossEntropyLoss
from gradtx.torch.nn.losses.classification import NLLLoss as NLLLoss
from gradtx.torch.nn.losses.ctc import CTCLoss as CTCLoss
from gradtx.torch.nn.losses.embedding import CosineEmbeddingLoss as CosineEmbeddingLoss
from gradtx.torch.nn.losses.embedding import TripletMarginLoss as TripletMarginLoss
from gradtx.torch.nn.losses.likelihood import GaussianNLLLoss as GaussianNLLLoss
from gradtx.torch.nn.losses.likelihood import KLDivLoss as KLDivLoss
from gradtx.torch.nn.losses.likelihood import PoissonNLLLoss as PoissonNLLLoss
from gradtx.torch.nn.losses.margin import HingeEmbeddingLoss as HingeEmbeddingLoss
from gradtx.torch.nn.losses.margin import MarginRankingLoss as MarginRankingLoss
from gradtx.torch.nn.losses.margin import MultiLabelMarginLoss as MultiLabelMarginLoss
from gradtx.torch.nn.losses.margin import MultiLabelSoftMarginLoss as MultiLabelSoftMarginLoss
from gradtx.torch.nn.losses.margin import MultiMarginLoss as MultiMarginLoss
from gradtx.torch.nn.losses.margin import SoftMarginLoss as SoftMarginLoss
from gradtx.torch.nn.losses.regression import HuberLoss as HuberLoss
from gradtx.torch.nn.losses.regression import L1Loss as L1Loss
from gradtx.torch.nn.losses.regression import MSELoss as MSELoss
from gradtx.torch.nn.losses.regression import SmoothL1Loss as SmoothL1Loss
