"""gradtx: optimizers for JAX, as values.

Small gradient transformations chain into any optimizer::

    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-3))
    state = tx.init(params)
    updates, state = tx.update(grads, state, params)
    params = gradtx.apply_updates(params, updates)
"""

__namespace__ = ""


from importlib import import_module as _import_module
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

# Rooms beside the way of most programs: each is imported when it, or a name of it, is first asked for.
if _TYPE_CHECKING:
    # assignment: pairing rows with columns
    from gradtx import assignment as assignment

    # contrib: newer and less settled optimizers
    from gradtx import contrib as contrib

    # experimental: what may change
    from gradtx import experimental as experimental

    # losses: predictions and targets -> one number per sample
    from gradtx import losses as losses

    # microbatching: a batch in parts, one after the other
    from gradtx import microbatching as microbatching

    # perturbations: functions smoothed by noise
    from gradtx import perturbations as perturbations

    # plot: schedules, groups and histories as pictures
    from gradtx import plot as plot

    # projections: the nearest point of a set
    from gradtx import projections as projections

    # sharding: states over the devices of a mesh
    from gradtx import sharding as sharding

    # torch: PyTorch's names, defaults and numbers
    from gradtx import torch as torch

    # tree_utils: Optax's older names for what is in tree
    from gradtx import tree_utils as tree_utils

    # checking: the laws, for rules of your own
    from gradtx.checking.check import Checked as Checked
    from gradtx.checking.check import check as check

    # drivers: loops that run an optimizer until it is done
    from gradtx.drivers.minimize import MinimizeResult as MinimizeResult
    from gradtx.drivers.minimize import minimize as minimize

    # explaining: what an optimizer does, in words
    from gradtx.explaining.explanation import Explanation as Explanation
    from gradtx.explaining.explanation import explain as explain

    # losses: those that Optax has here too
    from gradtx.losses.binary import hinge_loss as hinge_loss
    from gradtx.losses.binary import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
    from gradtx.losses.binary import sigmoid_focal_loss as sigmoid_focal_loss
    from gradtx.losses.classification import safe_softmax_cross_entropy as safe_softmax_cross_entropy
    from gradtx.losses.classification import softmax_cross_entropy as softmax_cross_entropy
    from gradtx.losses.classification import (
        softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
    )
    from gradtx.losses.ctc import ctc_loss as ctc_loss
    from gradtx.losses.ctc import ctc_loss_with_forward_probs as ctc_loss_with_forward_probs
    from gradtx.losses.divergence import convex_kl_divergence as convex_kl_divergence
    from gradtx.losses.divergence import generalized_kl_divergence as generalized_kl_divergence
    from gradtx.losses.divergence import kl_divergence as kl_divergence
    from gradtx.losses.embedding import ntxent as ntxent
    from gradtx.losses.regression import cosine_distance as cosine_distance
    from gradtx.losses.regression import cosine_similarity as cosine_similarity
    from gradtx.losses.regression import huber_loss as huber_loss
    from gradtx.losses.regression import l2_loss as l2_loss
    from gradtx.losses.regression import log_cosh as log_cosh
    from gradtx.losses.regression import squared_error as squared_error
    from gradtx.losses.smoothing import smooth_labels as smooth_labels

    # matrix: optimizers of matrices
    from gradtx.matrix.axes import MatrixAxes as MatrixAxes
    from gradtx.matrix.clipping import qk_clip as qk_clip
    from gradtx.matrix.dion2 import ScaleByDion2State as ScaleByDion2State
    from gradtx.matrix.dion2 import dion2 as dion2
    from gradtx.matrix.dion2 import scale_by_dion2 as scale_by_dion2
    from gradtx.matrix.hyperball import HyperballState as HyperballState
    from gradtx.matrix.hyperball import hyperball as hyperball
    from gradtx.matrix.hyperball import muon_hyperball as muon_hyperball
    from gradtx.matrix.kl import ScaleByKLShampooState as ScaleByKLShampooState
    from gradtx.matrix.kl import ScaleByKLSOAPState as ScaleByKLSOAPState
    from gradtx.matrix.kl import kl_shampoo as kl_shampoo
    from gradtx.matrix.kl import kl_soap as kl_soap
    from gradtx.matrix.kl import scale_by_kl_shampoo as scale_by_kl_shampoo
    from gradtx.matrix.kl import scale_by_kl_soap as scale_by_kl_soap
    from gradtx.matrix.kron import ScaleByKronState as ScaleByKronState
    from gradtx.matrix.kron import kron as kron
    from gradtx.matrix.kron import scale_by_kron as scale_by_kron
    from gradtx.matrix.muon import MuonState as MuonState
    from gradtx.matrix.muon import muon as muon
    from gradtx.matrix.muon import scale_by_muon as scale_by_muon
    from gradtx.matrix.normalized import ScaleByAdaMuonState as ScaleByAdaMuonState
    from gradtx.matrix.normalized import ScaleByNorMuonState as ScaleByNorMuonState
    from gradtx.matrix.normalized import adamuon as adamuon
    from gradtx.matrix.normalized import normuon as normuon
    from gradtx.matrix.normalized import scale_by_adamuon as scale_by_adamuon
    from gradtx.matrix.normalized import scale_by_normuon as scale_by_normuon
    from gradtx.matrix.polargrad import ScaleByPolarGradState as ScaleByPolarGradState
    from gradtx.matrix.polargrad import polargrad as polargrad
    from gradtx.matrix.polargrad import scale_by_polargrad as scale_by_polargrad
    from gradtx.matrix.scion import LayerNorm as LayerNorm
    from gradtx.matrix.scion import scale_by_lmo as scale_by_lmo
    from gradtx.matrix.scion import scion as scion
    from gradtx.matrix.shampoo import ScaleByShampooState as ScaleByShampooState
    from gradtx.matrix.shampoo import scale_by_shampoo as scale_by_shampoo
    from gradtx.matrix.shampoo import shampoo as shampoo
    from gradtx.matrix.shapes import scale_by_shape as scale_by_shape
    from gradtx.matrix.soap import ScaleBySOAPState as ScaleBySOAPState
    from gradtx.matrix.soap import scale_by_soap as scale_by_soap
    from gradtx.matrix.soap import soap as soap

    # microbatching: the one that Optax has here too
    from gradtx.microbatching.loop import microbatch as microbatch

    # perturbations: the one that Optax has here
    from gradtx.perturbations.gaussian import multi_normal as multi_normal

# formats: how slots are kept in fewer bytes
from gradtx import formats as formats

# schedules: count -> value
from gradtx import schedules as schedules

# transforms: primitives; wrappers and chains too, as Optax has them there
from gradtx import transforms as transforms

# tree: arithmetic of trees, and what is where in a state
from gradtx import tree as tree
from gradtx.arrays.numerics import abs_sq as abs_sq
from gradtx.arrays.numerics import debias as debias
from gradtx.arrays.numerics import decay_towards as decay_towards
from gradtx.arrays.numerics import safe_increment as safe_increment
from gradtx.arrays.reduction import over_shards as over_shards
from gradtx.arrays.trees import global_norm as global_norm
from gradtx.arrays.types import MaskOrFn as MaskOrFn
from gradtx.arrays.types import OptState as OptState
from gradtx.arrays.types import Params as Params
from gradtx.arrays.types import Selector as Selector
from gradtx.arrays.types import TransformInitFn as TransformInitFn
from gradtx.arrays.types import TransformUpdateFn as TransformUpdateFn
from gradtx.arrays.types import Updates as Updates
from gradtx.core.batch import Batch as Batch
from gradtx.core.batch import Stack as Stack
from gradtx.core.batch import batching as batching
from gradtx.core.chain import chain as chain
from gradtx.core.chain import named_chain as named_chain
from gradtx.core.layout import Coded as Coded
from gradtx.core.layout import Layout as Layout
from gradtx.core.leafwise import leafwise as leafwise
from gradtx.core.recipe import recipe as recipe
from gradtx.core.transformation import EmptyState as EmptyState
from gradtx.core.transformation import GradientTransformation as GradientTransformation
from gradtx.core.transformation import ScheduledState as ScheduledState
from gradtx.core.transformation import init_empty_state as init_empty_state
from gradtx.core.treewise import treewise as treewise

# linear algebra: norms, eigenvalues, roots of matrices, least squares, diagonals
from gradtx.linear_algebra import hutchinson_diagonal as hutchinson_diagonal
from gradtx.linear_algebra import matrix_inverse_pth_root as matrix_inverse_pth_root
from gradtx.linear_algebra import nnls as nnls
from gradtx.linear_algebra import power_iteration as power_iteration
from gradtx.linear_algebra import safe_norm as safe_norm
from gradtx.linear_algebra import safe_root_mean_squares as safe_root_mean_squares
from gradtx.moved import missing as _missing

# optimizers: recipes
from gradtx.optimizers.adam import adam as adam
from gradtx.optimizers.adam import adamw as adamw
from gradtx.optimizers.adam import amsgrad as amsgrad
from gradtx.optimizers.adam import nadam as nadam
from gradtx.optimizers.adam import nadamw as nadamw
from gradtx.optimizers.adamax import adamax as adamax
from gradtx.optimizers.adamax import adamaxw as adamaxw
from gradtx.optimizers.adaptive import adadelta as adadelta
from gradtx.optimizers.adaptive import adagrad as adagrad
from gradtx.optimizers.adaptive import adahessian as adahessian
from gradtx.optimizers.adaptive import amos as amos
from gradtx.optimizers.adaptive import laprop as laprop
from gradtx.optimizers.adaptive import rmsprop as rmsprop
from gradtx.optimizers.corrected import adamp as adamp
from gradtx.optimizers.corrected import grams as grams
from gradtx.optimizers.corrected import mars as mars
from gradtx.optimizers.corrected import sgdp as sgdp
from gradtx.optimizers.large_batch import fromage as fromage
from gradtx.optimizers.large_batch import lamb as lamb
from gradtx.optimizers.large_batch import lars as lars
from gradtx.optimizers.large_batch import novograd as novograd
from gradtx.optimizers.lbfgs import lbfgs as lbfgs
from gradtx.optimizers.lion import lion as lion
from gradtx.optimizers.low_memory import adafactor as adafactor
from gradtx.optimizers.low_memory import adam_mini as adam_mini
from gradtx.optimizers.low_memory import came as came
from gradtx.optimizers.low_memory import sm3 as sm3
from gradtx.optimizers.nesterov import adan as adan
from gradtx.optimizers.optimistic import optimistic_adam as optimistic_adam
from gradtx.optimizers.optimistic import optimistic_adam_v2 as optimistic_adam_v2
from gradtx.optimizers.optimistic import optimistic_gradient_descent as optimistic_gradient_descent
from gradtx.optimizers.polyak import polyak_sgd as polyak_sgd
from gradtx.optimizers.rprop import rprop as rprop
from gradtx.optimizers.sgd import noisy_sgd as noisy_sgd
from gradtx.optimizers.sgd import sgd as sgd
from gradtx.optimizers.sgd import sign_sgd as sign_sgd
from gradtx.optimizers.sgd import signum as signum
from gradtx.optimizers.sgd import tiger as tiger
from gradtx.optimizers.spikes import spam as spam
from gradtx.optimizers.spikes import stable_adamw as stable_adamw
from gradtx.optimizers.spikes import stable_spam as stable_spam
from gradtx.optimizers.variance import adabelief as adabelief
from gradtx.optimizers.variance import radam as radam
from gradtx.optimizers.variance import yogi as yogi

# schedules: those that Optax has here too
from gradtx.schedules import constant_schedule as constant_schedule
from gradtx.schedules import cosine_decay_schedule as cosine_decay_schedule
from gradtx.schedules import cosine_onecycle_schedule as cosine_onecycle_schedule
from gradtx.schedules import ema_warmup as ema_warmup
from gradtx.schedules import exponential_decay as exponential_decay
from gradtx.schedules import join_schedules as join_schedules
from gradtx.schedules import linear_onecycle_schedule as linear_onecycle_schedule
from gradtx.schedules import linear_schedule as linear_schedule
from gradtx.schedules import piecewise_constant_schedule as piecewise_constant_schedule
from gradtx.schedules import piecewise_interpolate_schedule as piecewise_interpolate_schedule
from gradtx.schedules import polynomial_schedule as polynomial_schedule
from gradtx.schedules import product_schedule as product_schedule
from gradtx.schedules import sgdr_schedule as sgdr_schedule
from gradtx.schedules import step_lr as step_lr
from gradtx.schedules import sum_schedule as sum_schedule
from gradtx.schedules import warmup_constant_schedule as warmup_constant_schedule
from gradtx.schedules import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from gradtx.schedules import warmup_exponential_decay_schedule as warmup_exponential_decay_schedule
from gradtx.schedules.stateful import WrappedSchedule as WrappedSchedule
from gradtx.schedules.stateful import WrappedScheduleState as WrappedScheduleState
from gradtx.state.accounting import Bytes as Bytes
from gradtx.state.accounting import bytes_of as bytes_of
from gradtx.state.evaluation import evaluation_params as evaluation_params
from gradtx.state.hyperparams import Hyperparams as Hyperparams
from gradtx.state.hyperparams import hyperparams as hyperparams
from gradtx.state.state_dict import load_state_dict as load_state_dict
from gradtx.state.state_dict import state_dict as state_dict

# core: values, the three kinds, running them
from gradtx.step import apply_updates as apply_updates
from gradtx.step import incremental_update as incremental_update
from gradtx.step import jit_step as jit_step
from gradtx.step import periodic_update as periodic_update

# transforms: primitives, and their states
from gradtx.transforms.accumulation import ApplyEvery as ApplyEvery
from gradtx.transforms.accumulation import apply_every as apply_every
from gradtx.transforms.adaptive import ScaleByAdaDeltaState as ScaleByAdaDeltaState
from gradtx.transforms.adaptive import ScaleByAdamState as ScaleByAdamState
from gradtx.transforms.adaptive import ScaleByAmsgradState as ScaleByAmsgradState
from gradtx.transforms.adaptive import ScaleByRmsState as ScaleByRmsState
from gradtx.transforms.adaptive import ScaleByRmsWithCountState as ScaleByRmsWithCountState
from gradtx.transforms.adaptive import ScaleByRssState as ScaleByRssState
from gradtx.transforms.adaptive import ScaleByRStdDevState as ScaleByRStdDevState
from gradtx.transforms.adaptive import ScaleByRStdDevWithCountState as ScaleByRStdDevWithCountState
from gradtx.transforms.adaptive import scale_by_adadelta as scale_by_adadelta
from gradtx.transforms.adaptive import scale_by_adam as scale_by_adam
from gradtx.transforms.adaptive import scale_by_adamax as scale_by_adamax
from gradtx.transforms.adaptive import scale_by_amsgrad as scale_by_amsgrad
from gradtx.transforms.adaptive import scale_by_laprop as scale_by_laprop
from gradtx.transforms.adaptive import scale_by_rms as scale_by_rms
from gradtx.transforms.adaptive import scale_by_rss as scale_by_rss
from gradtx.transforms.adaptive import scale_by_stddev as scale_by_stddev
from gradtx.transforms.averaging import AverageLatestParamsState as AverageLatestParamsState
from gradtx.transforms.averaging import AverageParamsState as AverageParamsState
from gradtx.transforms.averaging import average_latest_params as average_latest_params
from gradtx.transforms.averaging import average_params as average_params
from gradtx.transforms.backtracking import BacktrackingLinesearchInfo as BacktrackingLinesearchInfo
from gradtx.transforms.backtracking import (
    ScaleByBacktrackingLinesearchState as ScaleByBacktrackingLinesearchState,
)
from gradtx.transforms.backtracking import (
    scale_by_backtracking_linesearch as scale_by_backtracking_linesearch,
)
from gradtx.transforms.blocks import ScaleByAdamMiniState as ScaleByAdamMiniState
from gradtx.transforms.blocks import ScaleByAmosState as ScaleByAmosState
from gradtx.transforms.blocks import scale_by_adam_mini as scale_by_adam_mini
from gradtx.transforms.blocks import scale_by_amos as scale_by_amos
from gradtx.transforms.cleaning import ZeroNansState as ZeroNansState
from gradtx.transforms.cleaning import centralize as centralize
from gradtx.transforms.cleaning import zero_nans as zero_nans
from gradtx.transforms.clipping import ClipByUsualNormState as ClipByUsualNormState
from gradtx.transforms.clipping import adaptive_grad_clip as adaptive_grad_clip
from gradtx.transforms.clipping import clip as clip
from gradtx.transforms.clipping import clip_by_block_rms as clip_by_block_rms
from gradtx.transforms.clipping import clip_by_global_norm as clip_by_global_norm
from gradtx.transforms.clipping import clip_by_usual_norm as clip_by_usual_norm
from gradtx.transforms.constraints import keep_params_nonnegative as keep_params_nonnegative
from gradtx.transforms.curvature import scale_by_adahessian as scale_by_adahessian
from gradtx.transforms.decay import WeightDecaySchedule as WeightDecaySchedule
from gradtx.transforms.decay import add_cautious_decay as add_cautious_decay
from gradtx.transforms.decay import add_corrected_decay as add_corrected_decay
from gradtx.transforms.decay import add_decayed_weights as add_decayed_weights
from gradtx.transforms.decay import shrink_params as shrink_params
from gradtx.transforms.differences import ReduceVarianceState as ReduceVarianceState
from gradtx.transforms.differences import ScaleByAdanState as ScaleByAdanState
from gradtx.transforms.differences import ScaleByOptimisticGradientState as ScaleByOptimisticGradientState
from gradtx.transforms.differences import reduce_variance as reduce_variance
from gradtx.transforms.differences import scale_by_adan as scale_by_adan
from gradtx.transforms.differences import scale_by_optimistic_gradient as scale_by_optimistic_gradient
from gradtx.transforms.factored import FactoredState as FactoredState
from gradtx.transforms.factored import ScaleByCameState as ScaleByCameState
from gradtx.transforms.factored import ScaleBySM3State as ScaleBySM3State
from gradtx.transforms.factored import scale_by_came as scale_by_came
from gradtx.transforms.factored import scale_by_factored_rms as scale_by_factored_rms
from gradtx.transforms.factored import scale_by_sm3 as scale_by_sm3
from gradtx.transforms.freezing import freeze as freeze
from gradtx.transforms.freezing import selective_transform as selective_transform
from gradtx.transforms.functions import stateless as stateless
from gradtx.transforms.functions import stateless_with_tree_map as stateless_with_tree_map
from gradtx.transforms.functions import with_extra_args_support as with_extra_args_support
from gradtx.transforms.layerwise import ScaleByDistanceOverGradientsState as ScaleByDistanceOverGradientsState
from gradtx.transforms.layerwise import ScaleByNovogradState as ScaleByNovogradState
from gradtx.transforms.layerwise import scale_by_distance_over_gradients as scale_by_distance_over_gradients
from gradtx.transforms.layerwise import scale_by_novograd as scale_by_novograd
from gradtx.transforms.linesearch import value_and_grad_from_state as value_and_grad_from_state
from gradtx.transforms.momentum import EmaState as EmaState
from gradtx.transforms.momentum import TraceState as TraceState
from gradtx.transforms.momentum import ema as ema
from gradtx.transforms.momentum import trace as trace
from gradtx.transforms.monitoring import Measurement as Measurement
from gradtx.transforms.monitoring import MonitorState as MonitorState
from gradtx.transforms.monitoring import SnapshotState as SnapshotState
from gradtx.transforms.monitoring import measure_with_ema as measure_with_ema
from gradtx.transforms.monitoring import monitor as monitor
from gradtx.transforms.monitoring import snapshot as snapshot
from gradtx.transforms.noise import AddNoiseState as AddNoiseState
from gradtx.transforms.noise import add_noise as add_noise
from gradtx.transforms.per_example import per_example_global_norm_clip as per_example_global_norm_clip
from gradtx.transforms.per_example import per_example_layer_norm_clip as per_example_layer_norm_clip
from gradtx.transforms.polyak import scale_by_polyak as scale_by_polyak
from gradtx.transforms.proximal import FtrlState as FtrlState
from gradtx.transforms.proximal import ftrl as ftrl
from gradtx.transforms.quasi_newton import ScaleByLBFGSState as ScaleByLBFGSState
from gradtx.transforms.quasi_newton import scale_by_lbfgs as scale_by_lbfgs
from gradtx.transforms.rectified import scale_by_radam as scale_by_radam
from gradtx.transforms.rounding import CompensatedState as CompensatedState
from gradtx.transforms.rounding import RoundStochasticallyState as RoundStochasticallyState
from gradtx.transforms.rounding import compensated as compensated
from gradtx.transforms.rounding import round_stochastically as round_stochastically
from gradtx.transforms.scaling import ScaleByScheduleState as ScaleByScheduleState
from gradtx.transforms.scaling import identity as identity
from gradtx.transforms.scaling import normalize_by_update_norm as normalize_by_update_norm
from gradtx.transforms.scaling import scale as scale
from gradtx.transforms.scaling import scale_by_learning_rate as scale_by_learning_rate
from gradtx.transforms.scaling import scale_by_param_block_norm as scale_by_param_block_norm
from gradtx.transforms.scaling import scale_by_param_block_rms as scale_by_param_block_rms
from gradtx.transforms.scaling import scale_by_schedule as scale_by_schedule
from gradtx.transforms.scaling import scale_by_trust_ratio as scale_by_trust_ratio
from gradtx.transforms.scaling import set_to_zero as set_to_zero
from gradtx.transforms.sign import ScaleByLionState as ScaleByLionState
from gradtx.transforms.sign import ScaleByRpropState as ScaleByRpropState
from gradtx.transforms.sign import scale_by_lion as scale_by_lion
from gradtx.transforms.sign import scale_by_rprop as scale_by_rprop
from gradtx.transforms.sign import scale_by_sign as scale_by_sign
from gradtx.transforms.spikes import ClipSpikesState as ClipSpikesState
from gradtx.transforms.spikes import ScaleToUsualNormState as ScaleToUsualNormState
from gradtx.transforms.spikes import clip_spikes as clip_spikes
from gradtx.transforms.spikes import scale_by_spam as scale_by_spam
from gradtx.transforms.spikes import scale_by_stable_adam as scale_by_stable_adam
from gradtx.transforms.spikes import scale_to_usual_norm as scale_to_usual_norm
from gradtx.transforms.variance import ScaleByBeliefState as ScaleByBeliefState
from gradtx.transforms.variance import scale_by_belief as scale_by_belief
from gradtx.transforms.variance import scale_by_yogi as scale_by_yogi
from gradtx.transforms.zoom import ScaleByZoomLinesearchState as ScaleByZoomLinesearchState
from gradtx.transforms.zoom import ZoomLinesearchInfo as ZoomLinesearchInfo
from gradtx.transforms.zoom import scale_by_zoom_linesearch as scale_by_zoom_linesearch

# tree: the one that Optax has here
from gradtx.tree.gradients import scale_gradient as scale_gradient
from gradtx.values.config import from_config as from_config
from gradtx.values.config import to_config as to_config
from gradtx.values.domains import AtLeastOne as AtLeastOne
from gradtx.values.domains import Count as Count
from gradtx.values.domains import Decay as Decay
from gradtx.values.domains import DType as DType
from gradtx.values.domains import Fraction as Fraction
from gradtx.values.domains import NonNegative as NonNegative
from gradtx.values.domains import Number as Number
from gradtx.values.domains import Positive as Positive
from gradtx.values.domains import ScalarOrSchedule as ScalarOrSchedule
from gradtx.values.domains import Static as Static
from gradtx.values.schedule import Schedule as Schedule
from gradtx.values.schedule import schedule as schedule

# wrappers: when, where and with which numbers another transformation runs
from gradtx.wrappers.accumulation import MultiSteps as MultiSteps
from gradtx.wrappers.accumulation import MultiStepsState as MultiStepsState
from gradtx.wrappers.agreement import cautious as cautious
from gradtx.wrappers.agreement import with_gradient_signs as with_gradient_signs
from gradtx.wrappers.conditional import ConditionallyMaskState as ConditionallyMaskState
from gradtx.wrappers.conditional import ConditionallyTransformState as ConditionallyTransformState
from gradtx.wrappers.conditional import conditionally_mask as conditionally_mask
from gradtx.wrappers.conditional import conditionally_transform as conditionally_transform
from gradtx.wrappers.finite import ApplyIfFiniteState as ApplyIfFiniteState
from gradtx.wrappers.finite import apply_if_finite as apply_if_finite
from gradtx.wrappers.flattening import flatten as flatten
from gradtx.wrappers.grafting import GraftedState as GraftedState
from gradtx.wrappers.grafting import grafted as grafted
from gradtx.wrappers.groups import groups as groups
from gradtx.wrappers.injecting import InjectHyperparamsState as InjectHyperparamsState
from gradtx.wrappers.injecting import InjectStatefulHyperparamsState as InjectStatefulHyperparamsState
from gradtx.wrappers.injecting import inject_hyperparams as inject_hyperparams
from gradtx.wrappers.lookahead import LookaheadParams as LookaheadParams
from gradtx.wrappers.lookahead import LookaheadState as LookaheadState
from gradtx.wrappers.lookahead import lookahead as lookahead
from gradtx.wrappers.loss_scaling import DynamicLossScaleState as DynamicLossScaleState
from gradtx.wrappers.loss_scaling import dynamic_loss_scale as dynamic_loss_scale
from gradtx.wrappers.loss_scaling import scale_loss as scale_loss
from gradtx.wrappers.masking import MaskedNode as MaskedNode
from gradtx.wrappers.masking import MaskedState as MaskedState
from gradtx.wrappers.masking import PartitionState as PartitionState
from gradtx.wrappers.masking import masked as masked
from gradtx.wrappers.masking import partition as partition
from gradtx.wrappers.outer import OuterOptimizerState as OuterOptimizerState
from gradtx.wrappers.outer import outer_optimizer as outer_optimizer
from gradtx.wrappers.pairs import to_optax as to_optax
from gradtx.wrappers.relative import relative as relative
from gradtx.wrappers.restarting import RestartingState as RestartingState
from gradtx.wrappers.restarting import restarting as restarting
from gradtx.wrappers.skipping import ShouldSkipUpdateFunction as ShouldSkipUpdateFunction
from gradtx.wrappers.skipping import skip_large_updates as skip_large_updates
from gradtx.wrappers.skipping import skip_not_finite as skip_not_finite
from gradtx.wrappers.spikes import SkipSpikesState as SkipSpikesState
from gradtx.wrappers.spikes import SpikeWindow as SpikeWindow
from gradtx.wrappers.spikes import skip_spikes as skip_spikes
from gradtx.wrappers.storing import stored as stored
from gradtx.wrappers.tangential import tangential as tangential

# second names that Optax has for what is above
AdaptiveGradClipState = AddDecayedWeightsState = ClipByGlobalNormState = ClipState = EmptyState
NonNegativeParamsState = ScaleByTrustRatioState = ScaleState = EmptyState
GradientTransformationExtraArgs = GradientTransformation
MultiTransformState = PartitionState
TransformUpdateExtraArgsFn = TransformUpdateFn
bias_correction = tree.bias_correction
multi_transform = partition
safe_int32_increment = safe_increment
tree_map_params = tree.map_params
update_infinity_moment = tree.update_infinity_moment
update_moment = tree.update_moment
update_moment_per_elem_norm = tree.update_moment_per_elem_norm

try:
    __version__ = _version("gradtx")
except _PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_LATER = {
    "checking.check": ("Checked", "check"),
    "drivers.minimize": ("MinimizeResult", "minimize"),
    "explaining.explanation": ("Explanation", "explain"),
    "losses.binary": ("hinge_loss", "sigmoid_binary_cross_entropy", "sigmoid_focal_loss"),
    "losses.classification": (
        "safe_softmax_cross_entropy",
        "softmax_cross_entropy",
        "softmax_cross_entropy_with_integer_labels",
    ),
    "losses.ctc": ("ctc_loss", "ctc_loss_with_forward_probs"),
    "losses.divergence": ("convex_kl_divergence", "generalized_kl_divergence", "kl_divergence"),
    "losses.embedding": ("ntxent",),
    "losses.regression": (
        "cosine_distance",
        "cosine_similarity",
        "huber_loss",
        "l2_loss",
        "log_cosh",
        "squared_error",
    ),
    "losses.smoothing": ("smooth_labels",),
    "matrix.axes": ("MatrixAxes",),
    "matrix.clipping": ("qk_clip",),
    "matrix.dion2": ("ScaleByDion2State", "dion2", "scale_by_dion2"),
    "matrix.hyperball": ("HyperballState", "hyperball", "muon_hyperball"),
    "matrix.kl": (
        "ScaleByKLSOAPState",
        "ScaleByKLShampooState",
        "kl_shampoo",
        "kl_soap",
        "scale_by_kl_shampoo",
        "scale_by_kl_soap",
    ),
    "matrix.kron": ("ScaleByKronState", "kron", "scale_by_kron"),
    "matrix.muon": ("MuonState", "muon", "scale_by_muon"),
    "matrix.normalized": (
        "ScaleByAdaMuonState",
        "ScaleByNorMuonState",
        "adamuon",
        "normuon",
        "scale_by_adamuon",
        "scale_by_normuon",
    ),
    "matrix.polargrad": ("ScaleByPolarGradState", "polargrad", "scale_by_polargrad"),
    "matrix.scion": ("LayerNorm", "scale_by_lmo", "scion"),
    "matrix.shampoo": ("ScaleByShampooState", "scale_by_shampoo", "shampoo"),
    "matrix.shapes": ("scale_by_shape",),
    "matrix.soap": ("ScaleBySOAPState", "scale_by_soap", "soap"),
    "microbatching.loop": ("microbatch",),
    "perturbations.gaussian": ("multi_normal",),
}
"""What is imported when it is first asked for, by the module that it is in."""
_ROOMS = (
    "assignment",
    "contrib",
    "experimental",
    "losses",
    "microbatching",
    "perturbations",
    "plot",
    "projections",
    "sharding",
    "torch",
    "tree_utils",
)
"""Modules that are imported when they are first asked for."""
_HOMES = {name: module for module, names in _LATER.items() for name in names} | {x: x for x in _ROOMS}


def __getattr__(name: str) -> _Any:
    if name not in _HOMES:
        raise _missing("gradtx", name)
    home = _import_module(f"gradtx.{_HOMES[name]}")
    globals()[name] = found = home if name in _ROOMS else getattr(home, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


# For `from gradtx import *`, which takes what is imported later too.
__all__ = [x for x in __dir__() if x[0] != "_"]  # pyright: ignore[reportUnsupportedDunderAll]  # it takes all
