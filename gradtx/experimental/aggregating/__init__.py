"""Gradients of each example, aggregated: to their mean, or to their mean and variance.

An optimizer of such gradients has three parts: what happens to each gradient, how they become one, and
the optimizer of that one. `process` puts them together.
"""

from gradtx.experimental.aggregating.mean import AccumulateAvgUpdatesState as AccumulateAvgUpdatesState
from gradtx.experimental.aggregating.mean import accumulate_avg_updates as accumulate_avg_updates
from gradtx.experimental.aggregating.mean import (
    average_incrementally_updates as average_incrementally_updates,
)
from gradtx.experimental.aggregating.mean import average_per_element_updates as average_per_element_updates
from gradtx.experimental.aggregating.parts import AggregatedUpdates as AggregatedUpdates
from gradtx.experimental.aggregating.parts import Aggregator as Aggregator
from gradtx.experimental.aggregating.parts import AggregatorUpdateFn as AggregatorUpdateFn
from gradtx.experimental.aggregating.parts import MaybeAxis as MaybeAxis
from gradtx.experimental.aggregating.parts import PerElementUpdates as PerElementUpdates
from gradtx.experimental.aggregating.parts import process as process
from gradtx.experimental.aggregating.variance import (
    PerElementMeanAndSumSqDiffGradsState as PerElementMeanAndSumSqDiffGradsState,
)
from gradtx.experimental.aggregating.variance import (
    PerElementMeanAndVarianceEMAState as PerElementMeanAndVarianceEMAState,
)
from gradtx.experimental.aggregating.variance import add_mean_variance_to_opt as add_mean_variance_to_opt
from gradtx.experimental.aggregating.variance import (
    get_batch_size_from_per_elt_updates as get_batch_size_from_per_elt_updates,
)
from gradtx.experimental.aggregating.variance import (
    get_per_element_mean_and_sum_sq_diff_grads as get_per_element_mean_and_sum_sq_diff_grads,
)
from gradtx.experimental.aggregating.variance import (
    get_unbiased_mean_and_variance_ema as get_unbiased_mean_and_variance_ema,
)
from gradtx.experimental.aggregating.variance import (
    track_per_element_mean_and_variance_with_ema as track_per_element_mean_and_variance_with_ema,
)
