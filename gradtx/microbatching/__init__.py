"""Microbatches: a batch that does not fit into memory, in parts and one after the other."""

from gradtx.microbatching.accumulators import AccumulationType as AccumulationType
from gradtx.microbatching.accumulators import Accumulator as Accumulator
from gradtx.microbatching.loop import microbatch as microbatch
from gradtx.microbatching.loop import reshape_batch_axis as reshape_batch_axis
from gradtx.microbatching.per_example import IndividualOutputs as IndividualOutputs
from gradtx.microbatching.per_example import micro_grad as micro_grad
from gradtx.microbatching.per_example import micro_vmap as micro_vmap
