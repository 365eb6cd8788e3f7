"""torch.optim.lr_scheduler: each scheduler as PyTorch's object (`StepLR`) and as a schedule (`step_lr`)."""

__namespace__ = "torch.optim.lr_scheduler"


from gradtx.torch.optim.lr_scheduler.base import LRScheduler as LRScheduler
from gradtx.torch.optim.lr_scheduler.compose import ChainedScheduler as ChainedScheduler
from gradtx.torch.optim.lr_scheduler.compose import SequentialLR as SequentialLR
from gradtx.torch.optim.lr_scheduler.cycles import CyclicLR as CyclicLR
from gradtx.torch.optim.lr_scheduler.cycles import OneCycleLR as OneCycleLR
from gradtx.torch.optim.lr_scheduler.cyclic_schedules import cyclic_lr as cyclic_lr
from gradtx.torch.optim.lr_scheduler.cyclic_schedules import cyclic_momentum as cyclic_momentum
from gradtx.torch.optim.lr_scheduler.cyclic_schedules import one_cycle_lr as one_cycle_lr
from gradtx.torch.optim.lr_scheduler.cyclic_schedules import one_cycle_momentum as one_cycle_momentum
from gradtx.torch.optim.lr_scheduler.decay import CosineAnnealingLR as CosineAnnealingLR
from gradtx.torch.optim.lr_scheduler.decay import ExponentialLR as ExponentialLR
from gradtx.torch.optim.lr_scheduler.decay import MultiStepLR as MultiStepLR
from gradtx.torch.optim.lr_scheduler.decay import PolynomialLR as PolynomialLR
from gradtx.torch.optim.lr_scheduler.decay import StepLR as StepLR
from gradtx.torch.optim.lr_scheduler.lambdas import LambdaLR as LambdaLR
from gradtx.torch.optim.lr_scheduler.lambdas import MultiplicativeLR as MultiplicativeLR
from gradtx.torch.optim.lr_scheduler.plateau import ReduceLROnPlateau as ReduceLROnPlateau
from gradtx.torch.optim.lr_scheduler.restarts import (
    CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts,
)
from gradtx.torch.optim.lr_scheduler.schedules import constant_lr as constant_lr
from gradtx.torch.optim.lr_scheduler.schedules import cosine_annealing_lr as cosine_annealing_lr
from gradtx.torch.optim.lr_scheduler.schedules import (
    cosine_annealing_warm_restarts as cosine_annealing_warm_restarts,
)
from gradtx.torch.optim.lr_scheduler.schedules import exponential_lr as exponential_lr
from gradtx.torch.optim.lr_scheduler.schedules import lambda_lr as lambda_lr
from gradtx.torch.optim.lr_scheduler.schedules import linear_lr as linear_lr
from gradtx.torch.optim.lr_scheduler.schedules import multi_step_lr as multi_step_lr
from gradtx.torch.optim.lr_scheduler.schedules import polynomial_lr as polynomial_lr
from gradtx.torch.optim.lr_scheduler.schedules import sequential_lr as sequential_lr
from gradtx.torch.optim.lr_scheduler.schedules import step_lr as step_lr
from gradtx.torch.optim.lr_scheduler.schedules import swa_lr as swa_lr
from gradtx.torch.optim.lr_scheduler.warmup import ConstantLR as ConstantLR
from gradtx.torch.optim.lr_scheduler.warmup import LinearLR as LinearLR
