"""Primitives: each a formula on one tensor, or on the tree; and, under the names of ``optax.transforms``,
the wrappers and chains."""

from gradtx.core.chain import chain as chain
from gradtx.core.chain import named_chain as named_chain
from gradtx.core.transformation import EmptyState as _EmptyState
from gradtx.transforms.cleaning import ZeroNansState as ZeroNansState
from gradtx.transforms.cleaning import zero_nans as zero_nans
from gradtx.transforms.clipping import adaptive_grad_clip as adaptive_grad_clip
from gradtx.transforms.clipping import clip as clip
from gradtx.transforms.clipping import clip_by_block_rms as clip_by_block_rms
from gradtx.transforms.clipping import clip_by_global_norm as clip_by_global_norm
from gradtx.transforms.clipping import unitwise_clip as unitwise_clip
from gradtx.transforms.clipping import unitwise_norm as unitwise_norm
from gradtx.transforms.constraints import keep_params_nonnegative as keep_params_nonnegative
from gradtx.transforms.decay import add_decayed_weights as add_decayed_weights
from gradtx.transforms.freezing import freeze as freeze
from gradtx.transforms.freezing import selective_transform as selective_transform
from gradtx.transforms.momentum import EmaState as EmaState
from gradtx.transforms.momentum import TraceState as TraceState
from gradtx.transforms.momentum import ema as ema
from gradtx.transforms.momentum import trace as trace
from gradtx.transforms.monitoring import MonitorState as MonitorState
from gradtx.transforms.monitoring import SnapshotState as SnapshotState
from gradtx.transforms.monitoring import measure_with_ema as measure_with_ema
from gradtx.transforms.monitoring import monitor as monitor
from gradtx.transforms.monitoring import snapshot as snapshot
from gradtx.transforms.noise import AddNoiseState as AddNoiseState
from gradtx.transforms.noise import add_noise as add_noise
from gradtx.transforms.per_example import per_example_global_norm_clip as per_example_global_norm_clip
from gradtx.transforms.per_example import per_example_layer_norm_clip as per_example_layer_norm_clip
from gradtx.wrappers.accumulation import MultiSteps as MultiSteps
from gradtx.wrappers.accumulation import MultiStepsState as MultiStepsState
from gradtx.wrappers.conditional import ConditionallyMaskState as ConditionallyMaskState
from gradtx.wrappers.conditional import ConditionallyTransformState as ConditionallyTransformState
from gradtx.wrappers.conditional import ConditionFn as ConditionFn
from gradtx.wrappers.conditional import conditionally_mask as conditionally_mask
from gradtx.wrappers.conditional import conditionally_transform as conditionally_transform
from gradtx.wrappers.finite import ApplyIfFiniteState as ApplyIfFiniteState
from gradtx.wrappers.finite import apply_if_finite as apply_if_finite
from gradtx.wrappers.flattening import flatten as flatten
from gradtx.wrappers.masking import MaskedNode as MaskedNode
from gradtx.wrappers.masking import MaskedState as MaskedState
from gradtx.wrappers.masking import PartitionState as PartitionState
from gradtx.wrappers.masking import masked as masked
from gradtx.wrappers.masking import partition as partition
from gradtx.wrappers.skipping import ShouldSkipUpdateFunction as ShouldSkipUpdateFunction
from gradtx.wrappers.skipping import skip_large_updates as skip_large_updates
from gradtx.wrappers.skipping import skip_not_finite as skip_not_finite

NonNegativeParamsState = _EmptyState
