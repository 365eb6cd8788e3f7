"""torch.optim: each optimizer as a transformation (`adam`) and as PyTorch's stateful object (`Adam`).

The files have an underscore because the functions have the names that PyTorch's files have.
"""

__namespace__ = "torch.optim"


from gradtx.torch.optim import lr_scheduler as lr_scheduler
from gradtx.torch.optim import swa_utils as swa_utils
from gradtx.torch.optim._adadelta import Adadelta as Adadelta
from gradtx.torch.optim._adadelta import adadelta as adadelta
from gradtx.torch.optim._adafactor import Adafactor as Adafactor
from gradtx.torch.optim._adafactor import adafactor as adafactor
from gradtx.torch.optim._adagrad import Adagrad as Adagrad
from gradtx.torch.optim._adagrad import adagrad as adagrad
from gradtx.torch.optim._adam import Adam as Adam
from gradtx.torch.optim._adam import AdamW as AdamW
from gradtx.torch.optim._adam import adam as adam
from gradtx.torch.optim._adam import adamw as adamw
from gradtx.torch.optim._adamax import Adamax as Adamax
from gradtx.torch.optim._adamax import adamax as adamax
from gradtx.torch.optim._asgd import ASGD as ASGD
from gradtx.torch.optim._asgd import asgd as asgd
from gradtx.torch.optim._checkpoints import load_torch_state_dict as load_torch_state_dict
from gradtx.torch.optim._checkpoints import to_torch_state_dict as to_torch_state_dict
from gradtx.torch.optim._lbfgs import lbfgs as lbfgs
from gradtx.torch.optim._lbfgs_optimizer import LBFGS as LBFGS
from gradtx.torch.optim._muon import Muon as Muon
from gradtx.torch.optim._muon import muon as muon
from gradtx.torch.optim._nadam import NAdam as NAdam
from gradtx.torch.optim._nadam import nadam as nadam
from gradtx.torch.optim._optimizer import Optimizer as Optimizer
from gradtx.torch.optim._radam import RAdam as RAdam
from gradtx.torch.optim._radam import radam as radam
from gradtx.torch.optim._rmsprop import RMSprop as RMSprop
from gradtx.torch.optim._rmsprop import rmsprop as rmsprop
from gradtx.torch.optim._rprop import Rprop as Rprop
from gradtx.torch.optim._rprop import rprop as rprop
from gradtx.torch.optim._sgd import SGD as SGD
from gradtx.torch.optim._sgd import sgd as sgd
from gradtx.torch.optim._sparse_adam import SparseAdam as SparseAdam
from gradtx.torch.optim._sparse_adam import sparse_adam as sparse_adam
