"""The things under test, one row each, with their traits. Every row obeys every law of `laws.py`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradtx
from gradtx.core.leafwise import Leafwise
from gradtx.core.recipe import Recipe
from tests.given import (
    at,
    by_axes,
    by_rank,
    clipped_queries,
    column_blocks,
    cut,
    exact_variance,
    half_for,
    halves,
    heads,
    in_half_of_the_steps,
    norms,
    on_even_steps,
    one_axis_more,
    one_example,
    opaque_sam,
    probes,
    projection,
    rooted_adahessian,
    schedule,
    sophia,
    told,
    towards_one,
    towards_params,
    with_halves,
    with_logits,
    with_quartic,
    without_givens,
    without_loss_spikes,
)
from tests.oracles import formulas as f
from tests.oracles import modern as n


@dataclass(frozen=True)
class Row:
    """A transformation under test.

    Attributes:
        name: unique.
        make: how to make it, with Optax's names: it is called with `gradtx` and with `optax`.
        oracle: the paper's formula for one matrix, fresh at each call; None where Optax alone,
            or a test of its own, is the judge.
        in_optax: whether `make(optax)` is the same transformation.
        supports_complex: whether complex tensors are defined for it.
        is_data: whether its arguments are all data; a function has no form in a config.
        like_torch: whether its state has the dtype of half-precision params, as in PyTorch.
        removes: which of NaN, inf and -inf in a gradient it is there to remove, so that its updates do not
            show them.
        draws: whether it draws random numbers, which are others where a param has another path or place.
    """

    name: str
    make: Callable[[Any], Any]
    oracle: Callable[[], Any] | None = None
    in_optax: bool = True
    supports_complex: bool = True
    is_data: bool = True
    like_torch: bool = False
    removes: tuple[float, ...] = ()
    draws: bool = False

    def __call__(self) -> gradtx.GradientTransformation:
        return self.make(gradtx)


INFINITIES = (math.inf, -math.inf)
ALL = (math.nan, *INFINITIES)

down = f.times(-0.1)
IN_BYTES = {"mu": gradtx.formats.companded(), "nu": gradtx.formats.square_root()}

PRIMITIVES = [
    Row("identity", lambda x: x.identity(), lambda: f.times(1.0)),
    Row("set_to_zero", lambda x: x.set_to_zero(), lambda: f.times(0.0), removes=ALL),
    Row("scale", lambda x: x.scale(0.5), lambda: f.times(0.5)),
    Row("scale_by_learning_rate", lambda x: x.scale_by_learning_rate(0.1), lambda: down),
    Row(
        "scale_by_learning_rate-scheduled",
        lambda x: x.scale_by_learning_rate(schedule(x)),
        lambda: f.scheduled(lambda t: -at(t)),
    ),
    Row("scale_by_schedule", lambda x: x.scale_by_schedule(schedule(x)), lambda: f.scheduled(at)),
    Row("trace", lambda x: x.trace(0.9), lambda: f.momentum(0.9)),
    Row("trace-nesterov", lambda x: x.trace(0.9, nesterov=True), lambda: f.momentum(0.9, True)),
    Row("trace-scheduled", lambda x: x.trace(schedule(x)), in_optax=False),
    Row("ema", lambda x: x.ema(0.9), lambda: f.average(0.9, True)),
    Row("ema-biased", lambda x: x.ema(0.9, debias=False), lambda: f.average(0.9, False)),
    Row("add_decayed_weights", lambda x: x.add_decayed_weights(0.1), lambda: f.decay(0.1)),
    Row("add_decayed_weights-scheduled", lambda x: x.add_decayed_weights(schedule(x))),
    Row("add_decayed_weights-masked", lambda x: x.add_decayed_weights(0.1, mask=True), lambda: f.decay(0.1)),
    Row("add_noise", lambda x: x.add_noise(0.1, 0.55, 7), draws=True),
    Row("scale_by_adam", lambda x: x.scale_by_adam(), lambda: f.adam()),
    Row("scale_by_adam-nesterov", lambda x: x.scale_by_adam(nesterov=True), lambda: f.nadam()),
    Row("scale_by_adam-eps_root", lambda x: x.scale_by_adam(eps_root=1e-4), lambda: f.adam(eps_root=1e-4)),
    Row("scale_by_amsgrad", lambda x: x.scale_by_amsgrad(), lambda: f.amsgrad()),
    Row(
        "scale_by_amsgrad-biased",
        lambda x: x.scale_by_amsgrad(bias_correction_mu=False, bias_correction_nu=False),
    ),
    Row("scale_by_rms", lambda x: x.scale_by_rms(), lambda: f.rms()),
    Row(
        "scale_by_rms-debiased",
        lambda x: x.scale_by_rms(0.95, 1e-6, 0.2, eps_in_sqrt=False, bias_correction=True),
        lambda: f.rms(0.95, 1e-6, 0.2, inside=False, debias=True),
    ),
    Row("scale_by_stddev", lambda x: x.scale_by_stddev(), lambda: f.stddev()),
    Row("scale_by_stddev-debiased", lambda x: x.scale_by_stddev(initial_scale=0.1, bias_correction=True)),
    Row("scale_by_rss", lambda x: x.scale_by_rss(), lambda: f.adagrad()),
    Row("scale_by_adamax", lambda x: x.scale_by_adamax(), lambda: f.adamax()),
    Row("scale_by_belief", lambda x: x.scale_by_belief(), lambda: f.belief()),
    Row(
        "scale_by_belief-nesterov",
        lambda x: x.scale_by_belief(0.8, 0.99, 1e-8, 1e-8, nesterov=True),
        lambda: f.belief(0.8, 0.99, 1e-8, 1e-8, nesterov=True),
    ),
    Row(
        "scale_by_radam",
        lambda x: x.scale_by_radam(),
        lambda: f.radam(),
        in_optax=False,  # for b2 = 0.999, Optax's length of the average is a difference of large numbers
    ),
    Row(
        "scale_by_radam-4",
        lambda x: x.scale_by_radam(b2=0.9, threshold=4.0),
        lambda: f.radam(b2=0.9, threshold=4.0),
    ),
    Row(
        "scale_by_radam-nesterov",
        lambda x: x.scale_by_radam(b2=0.9, eps_root=1e-8, nesterov=True),
    ),
    Row("scale_by_yogi", lambda x: x.scale_by_yogi(), lambda: f.yogi()),
    Row(
        "scale_by_adan",
        lambda x: x.scale_by_adan(),
        lambda: f.adan(),
        in_optax=False,  # Optax weighs the gradient's change by 1 - b2
    ),
    Row(
        "scale_by_sm3",
        lambda x: x.scale_by_sm3(),
        lambda: f.sm3(),
        in_optax=False,  # Optax has no SM3 for scalars
        supports_complex=False,
    ),
    Row(
        "scale_by_sm3-decaying",
        lambda x: x.scale_by_sm3(0.5, 0.8),
        lambda: f.sm3(0.5, 0.8),
        in_optax=False,
        supports_complex=False,
    ),
    Row(
        "scale_by_factored_rms",
        lambda x: x.scale_by_factored_rms(min_dim_size_to_factor=2),
        lambda: f.factored_rms(),
        in_optax=False,  # Optax's decay is in float32
    ),
    Row(
        "scale_by_factored_rms-whole",
        lambda x: x.scale_by_factored_rms(decay_rate=0.5),
        lambda: f.factored_rms(0.5, factored=False),
        in_optax=False,
    ),
    Row(
        "scale_by_factored_rms-decay",
        lambda x: x.scale_by_factored_rms(min_dim_size_to_factor=2, decay_rate_fn=towards_one),
        lambda: f.factored_rms(1.0),
        is_data=False,
    ),
    Row("scale_by_adadelta", lambda x: x.scale_by_adadelta(), lambda: f.adadelta()),
    Row("scale_by_sign", lambda x: x.scale_by_sign(), lambda: f.sign(), removes=INFINITIES),
    Row(
        "scale_by_rprop",
        lambda x: x.scale_by_rprop(0.1, max_step_size=0.2),
        lambda: f.rprop(0.1, largest=0.2),
        in_optax=False,  # Optax returns each update one step late
        supports_complex=False,
        removes=INFINITIES,
    ),
    Row("scale_by_lion", lambda x: x.scale_by_lion(), lambda: f.lion()),
    Row("scale_by_lion-smooth", lambda x: x.scale_by_lion(b2=0.6, mode="smooth", smooth_beta=2.0)),
    Row("scale_by_lion-refined", lambda x: x.scale_by_lion(mode="refined")),
    Row("clip", lambda x: x.clip(0.3), lambda: f.clip_value(0.3), supports_complex=False, removes=INFINITIES),
    Row("clip_by_global_norm", lambda x: x.clip_by_global_norm(1.0), lambda: f.clip_norm(1.0)),
    Row("clip_by_block_rms", lambda x: x.clip_by_block_rms(0.5), lambda: f.clip_rms(0.5)),
    Row("adaptive_grad_clip", lambda x: x.adaptive_grad_clip(0.1), lambda: f.clip_units(0.1)),
    Row("centralize", lambda x: x.centralize(), lambda: f.centre()),
    Row("zero_nans", lambda x: x.zero_nans(), lambda: f.times(1.0), removes=(math.nan,)),
    Row("apply_every", lambda x: x.apply_every(3), lambda: f.every(3)),
    Row(
        "scale_by_trust_ratio",
        lambda x: x.scale_by_trust_ratio(
            trust_coefficient=0.5
        ),  # with 1, a step may end at 0, where it jumps
        lambda: f.trust(0.5),
    ),
    Row("scale_by_param_block_norm", lambda x: x.scale_by_param_block_norm(), lambda: f.times_param_norm()),
    Row("scale_by_param_block_rms", lambda x: x.scale_by_param_block_rms(), lambda: f.times_param_rms()),
    Row(
        "scale_by_novograd",
        lambda x: x.scale_by_novograd(weight_decay=0.1),
        lambda: f.novograd(weight_decay=0.1),
    ),
    Row(
        "scale_by_distance_over_gradients",
        lambda x: x.scale_by_distance_over_gradients(0.1, global_scale=-1.0, param_dtype=None),
        lambda: f.then(f.layerwise_dog(0.1), f.times(-1.0)),
    ),
    Row(
        "keep_params_nonnegative",
        lambda x: x.keep_params_nonnegative(),
        lambda: f.nonnegative(),
        supports_complex=False,
        removes=(-math.inf,),
    ),
    Row(
        "scale_by_optimistic_gradient",
        lambda x: x.scale_by_optimistic_gradient(0.9, 0.5),
        lambda: f.optimistic(0.9, 0.5),
    ),
    Row(
        "scale_by_polyak",
        lambda x: told(gradtx.scale_by_polyak, 5.0),
        lambda: f.polyak(5.0),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "scale_by_lbfgs",
        lambda x: x.scale_by_lbfgs(),
        lambda: f.lbfgs(),
        in_optax=False,  # Optax uses pairs without positive curvature, which random gradients have
    ),
    Row(
        "scale_by_lbfgs-3",
        lambda x: x.scale_by_lbfgs(3, False),
        lambda: f.lbfgs(3, False),
        in_optax=False,
    ),
    Row("stateless", lambda x: x.stateless(halves), is_data=False),
    Row("stateless_with_tree_map", lambda x: x.stateless_with_tree_map(towards_params), is_data=False),
    Row("accumulate_avg_updates", lambda x: x.experimental.aggregating.accumulate_avg_updates(3)),
    Row("normalize_by_update_norm", lambda x: x.normalize_by_update_norm(2.0), lambda: f.unit_norm(2.0)),
]

WRAPPERS = [
    Row("chain-empty", lambda x: x.chain(), lambda: f.times(1.0), in_optax=False),
    Row(
        "chain",
        lambda x: x.chain(
            x.clip_by_global_norm(1.0), x.trace(0.9), x.add_decayed_weights(0.1), x.scale(-0.1)
        ),
        lambda: f.then(f.clip_norm(1.0), f.momentum(0.9), f.decay(0.1), down),
    ),
    Row(
        "named_chain",
        lambda x: x.named_chain(
            ("momentum", x.trace(0.9)), ("clip", x.clip_by_global_norm(1.0)), ("a", x.adam(0.1))
        ),
        lambda: f.then(f.momentum(0.9), f.clip_norm(1.0), f.adam(), down),
    ),
    Row("flatten", lambda x: x.flatten(x.adam(0.1)), lambda: f.then(f.adam(), down)),
    Row(
        "lookahead",
        lambda x: x.lookahead(x.adam(0.1), 3, 0.5),
        lambda: f.lookahead(f.then(f.adam(), down), 3, 0.5),
        in_optax=False,  # where the params are a pair of the fast and the slow ones
    ),
    Row(
        "lookahead-reset",
        lambda x: x.lookahead(x.adam(0.1), 2, 0.5, reset_state=True),
        lambda: f.lookahead(f.then(f.adam(), down), 2, 0.5, lambda: f.then(f.adam(), down)),
        in_optax=False,
    ),
    Row(
        "outer_optimizer",
        lambda x: x.outer_optimizer(x.adam(0.1), x.sgd(0.7, momentum=0.9, nesterov=True), 3),
        lambda: n.diloco(lambda: f.then(f.adam(), down), f.then(f.momentum(0.9, True), f.times(-0.7)), 3),
        in_optax=False,
    ),
    Row(
        "outer_optimizer-sgd",
        lambda x: x.outer_optimizer(x.adam(0.1), x.sgd(1.0), 1),
        lambda: f.then(f.adam(), down),
        in_optax=False,
    ),
    Row("average_params", lambda x: x.average_params(0.9), lambda: f.times(1.0), in_optax=False),
    Row(
        "average_params-tail",
        lambda x: x.chain(x.adam(0.1), x.average_params(start=1, every=2)),
        lambda: f.then(f.adam(), down),
        in_optax=False,
    ),
    Row(
        "average_params-warmup",
        lambda x: x.average_params(x.ema_warmup(0.9)),
        lambda: f.times(1.0),
        in_optax=False,
    ),
    Row(
        "average_latest_params",
        lambda x: x.average_latest_params(2, every=2),
        lambda: f.times(1.0),
        in_optax=False,
    ),
    Row(
        "skip_spikes",
        lambda x: told(without_loss_spikes, 5.0),
        lambda: n.without_spikes(f.then(f.adam(), down), 1.0, 10),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "skip_spikes-norm",
        lambda x: x.skip_spikes(x.sgd(0.1, momentum=0.9), 1.0, 6, "norm"),
        lambda: n.without_spikes(f.then(f.momentum(0.9), down), 1.0, 6),
        in_optax=False,
    ),
    Row(
        "clip_by_usual_norm",
        lambda x: x.clip_by_usual_norm(0.5, 0.8, 3),
        lambda: n.zclip(0.5, 0.8, 3),
        in_optax=False,
    ),
    Row("masked", lambda x: x.masked(x.scale_by_adam(), True), lambda: f.adam()),
    Row(
        "stored",
        lambda x: x.stored(x.scale_by_adam(), IN_BYTES, min_size=0),
        in_optax=False,
        supports_complex=False,
    ),
    Row(
        "stored-bfloat16",
        lambda x: x.stored(x.adam(0.1), {"mu": "bfloat16", "nu": "bfloat16"}, min_size=0),
        in_optax=False,
        supports_complex=False,
    ),
    Row("round_stochastically", lambda x: x.round_stochastically(), in_optax=False, supports_complex=False),
    Row("compensated", lambda x: x.compensated(), in_optax=False, supports_complex=False),
    Row("freeze", lambda x: x.freeze(True), lambda: f.times(0.0), removes=ALL),
    Row(
        "selective_transform",
        lambda x: x.selective_transform(x.scale_by_adam(), freeze_mask=False),
        lambda: f.adam(),
    ),
    Row(
        "snapshot",
        lambda x: x.snapshot("norm", gradtx.global_norm),
        lambda: f.times(1.0),
        is_data=False,
    ),
    Row(
        "monitor",
        lambda x: x.monitor(
            {
                "norm": gradtx.global_norm,
                "average": x.measure_with_ema(gradtx.global_norm, 0.9),
                "adam": x.scale_by_adam(),
            }
        ),
        lambda: f.times(1.0),
        in_optax=False,  # Optax has no measurements before the first update
        is_data=False,
    ),
    Row(
        "partition",
        lambda x: x.partition({"matrix": x.sgd(0.1), "rest": x.adam(0.1)}, by_rank),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "groups",
        lambda x: x.groups(x.adamw(0.1), {r".*": {"weight_decay": 0.0}}),
        lambda: f.then(f.adam(), down),
        in_optax=False,
    ),
    Row(
        "groups-relative",
        lambda x: x.groups(
            x.adamw(0.2), {r".*": {"learning_rate": x.relative(half_for), "weight_decay": x.relative(0.0)}}
        ),
        lambda: f.then(f.adam(), down),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "inject_hyperparams",
        lambda x: x.inject_hyperparams(x.adam)(learning_rate=0.1),
        lambda: f.then(f.adam(), down),
    ),
    Row(
        "inject_hyperparams-scheduled",
        lambda x: x.inject_hyperparams(x.sgd)(learning_rate=schedule(x)),
        lambda: f.scheduled(lambda t: -at(t)),
    ),
    Row(
        "conditionally_transform",
        lambda x: x.conditionally_transform(x.trace(0.9), on_even_steps),
        lambda: f.alternating(f.momentum(0.9), f.times(1.0)),
        is_data=False,
    ),
    Row(
        "conditionally_mask",
        lambda x: x.conditionally_mask(x.adam(0.1), on_even_steps),
        lambda: f.alternating(f.then(f.adam(), down), f.times(0.0)),
        is_data=False,
        removes=ALL,  # with the gradient of every other step
    ),
    Row(
        "apply_if_finite",
        lambda x: x.apply_if_finite(x.adam(0.1), 3),
        lambda: f.then(f.adam(), down),
        removes=ALL,
    ),
    Row(
        "dynamic_loss_scale",
        lambda x: x.dynamic_loss_scale(x.adam(0.1), 4.0, growth_interval=2),
        lambda: f.then(f.scheduled(lambda t: 0.25 / 2 ** (t // 2)), f.adam(), down),
        in_optax=False,
        removes=ALL,
    ),
    Row(
        "MultiSteps",
        lambda x: x.MultiSteps(x.adam(0.1), 3),
        lambda: f.accumulated(f.then(f.adam(), down), 3),
        in_optax=False,
    ),
    Row(
        "MultiSteps-skip_not_finite",
        lambda x: x.MultiSteps(x.adam(0.1), 2, should_skip_update_fn=x.skip_not_finite),
        lambda: f.accumulated(f.then(f.adam(), down), 2),
        in_optax=False,
        is_data=False,
        removes=ALL,
    ),
    Row(
        "MultiSteps-1", lambda x: x.MultiSteps(x.adam(0.1), 1), lambda: f.then(f.adam(), down), in_optax=False
    ),
]

RECIPES = [
    Row("sgd", lambda x: x.sgd(0.1), lambda: down),
    Row("sgd-momentum", lambda x: x.sgd(0.1, momentum=0.9), lambda: f.then(f.momentum(0.9), down)),
    Row("sgd-nesterov", lambda x: x.sgd(0.1, 0.9, True), lambda: f.then(f.momentum(0.9, True), down)),
    Row(
        "optimistic_gradient_descent",
        lambda x: x.optimistic_gradient_descent(0.1),
        lambda: f.then(f.optimistic(), down),
    ),
    Row(
        "optimistic_adam_v2",
        lambda x: x.optimistic_adam_v2(0.1, beta=0.5),
        lambda: f.then(f.nadam(), f.optimistic(1.0, 0.5), down),
    ),
    Row(
        "optimistic_adam",
        lambda x: x.optimistic_adam(0.1, 0.05),
        lambda: f.then(f.nadam(), f.optimistic(0.1, 0.05), f.times(-1.0)),
        in_optax=False,  # where making it warns
    ),
    Row(
        "polyak_sgd",
        lambda x: told(gradtx.polyak_sgd, 5.0),
        lambda: f.then(f.times(-1.0), f.polyak(5.0)),
        in_optax=False,
        is_data=False,
    ),
    Row("noisy_sgd", lambda x: x.noisy_sgd(0.1, key=3), draws=True),
    Row("sign_sgd", lambda x: x.sign_sgd(0.1), lambda: f.then(f.sign(), down), removes=INFINITIES),
    Row("signum", lambda x: x.signum(0.1), lambda: f.then(f.average(0.9, False), f.sign(), down)),
    Row("adam", lambda x: x.adam(0.1), lambda: f.then(f.adam(), down)),
    Row(
        "adam-scheduled",
        lambda x: x.adam(schedule(x)),
        lambda: f.then(f.adam(), f.scheduled(lambda t: -at(t))),
    ),
    Row("adam-bf16", lambda x: x.adam(0.1, mu_dtype="bfloat16"), in_optax=False, supports_complex=False),
    Row(
        "adamw",
        lambda x: x.adamw(0.1, weight_decay=0.01),
        lambda: f.then(f.adam(), f.decay(0.01), down),
    ),
    Row("nadam", lambda x: x.nadam(0.1), lambda: f.then(f.nadam(), down)),
    Row("nadamw", lambda x: x.nadamw(0.1), lambda: f.then(f.nadam(), f.decay(1e-4), down)),
    Row("amsgrad", lambda x: x.amsgrad(0.1), lambda: f.then(f.amsgrad(), down)),
    Row("adamax", lambda x: x.adamax(0.1), lambda: f.then(f.adamax(), down)),
    Row(
        "adamaxw",
        lambda x: x.adamaxw(0.1, weight_decay=0.01),
        lambda: f.then(f.adamax(), f.decay(0.01), down),
    ),
    Row("adabelief", lambda x: x.adabelief(0.1), lambda: f.then(f.belief(), down)),
    Row("radam", lambda x: x.radam(0.1, b2=0.9), lambda: f.then(f.radam(b2=0.9), down)),
    Row("yogi", lambda x: x.yogi(0.1), lambda: f.then(f.yogi(), down)),
    Row(
        "adadelta",
        lambda x: x.adadelta(0.1, weight_decay=0.01),
        lambda: f.then(f.decay(0.01), f.adadelta(), down),
    ),
    Row(
        "rprop",
        lambda x: x.rprop(0.1, max_step_size=0.2),
        lambda: f.then(f.rprop(0.1, largest=0.2), f.times(-1.0)),
        in_optax=False,  # Optax returns each update one step late
        supports_complex=False,
        removes=INFINITIES,
    ),
    Row("adagrad", lambda x: x.adagrad(0.1), lambda: f.then(f.adagrad(), down)),
    Row("rmsprop", lambda x: x.rmsprop(0.1), lambda: f.then(f.rms(), down)),
    Row(
        "rmsprop-centered",
        lambda x: x.rmsprop(0.1, centered=True, momentum=0.9),
        lambda: f.then(f.stddev(), down, f.momentum(0.9)),
    ),
    Row(
        "lamb",
        lambda x: x.lamb(0.1, weight_decay=0.1),
        lambda: f.then(f.adam(eps=1e-6), f.decay(0.1), f.trust(), down),
    ),
    Row(
        "lars",
        lambda x: x.lars(0.1, weight_decay=0.1),
        lambda: f.then(f.decay(0.1), f.trust(0.001), down, f.momentum(0.9)),
    ),
    Row(
        "adan",
        lambda x: x.adan(0.1, weight_decay=0.01),
        lambda: f.then(f.adan(eps_root=1e-8), f.decay(0.01), down),
        in_optax=False,
    ),
    Row("sm3", lambda x: x.sm3(0.1), lambda: f.then(f.sm3(), down), in_optax=False, supports_complex=False),
    Row(
        "adafactor",
        lambda x: x.adafactor(0.1, 2),
        lambda: f.then(f.factored_rms(), f.clip_rms(1.0), f.times(0.1), f.times_param_rms(), f.times(-1.0)),
        in_optax=False,
    ),
    Row(
        "adafactor-momentum",
        lambda x: x.adafactor(0.1, 2, momentum=0.9, weight_decay_rate=0.01, clipping_threshold=None),
        lambda: f.then(
            f.factored_rms(),
            f.times(0.1),
            f.times_param_rms(),
            f.average(0.9, False),
            f.decay(0.01),
            f.times(-1.0),
        ),
        in_optax=False,
    ),
    Row("novograd", lambda x: x.novograd(0.1), lambda: f.then(f.novograd(eps=1e-6), down)),
    Row("fromage", lambda x: x.fromage(0.1), lambda: f.fromage(lambda t: 0.1)),
    Row(
        "fromage-scheduled",
        lambda x: x.fromage(schedule(x)),
        lambda: f.fromage(at),
        in_optax=False,  # Optax squares the scheduled number in float32
    ),
    Row(
        "lbfgs",
        lambda x: x.lbfgs(0.1, linesearch=None),
        lambda: f.then(f.lbfgs(), down),
        in_optax=False,
    ),
    Row("lion", lambda x: x.lion(0.1), lambda: f.then(f.lion(), f.decay(1e-3), down)),
]

MODERN_STAGES = [
    Row(
        "cautious",
        lambda x: x.cautious(x.adam(0.1)),
        lambda: n.cautious(f.then(f.adam(), down), -1),
        in_optax=False,
    ),
    Row(
        "cautious-uphill",
        lambda x: x.cautious(x.scale_by_lion(), uphill=True, min_share=None),
        lambda: n.cautious(f.lion(), least=None),
        in_optax=False,
    ),
    Row(
        "with_gradient_signs",
        lambda x: x.with_gradient_signs(x.adam(0.1)),
        lambda: n.grams(f.then(f.adam(), down), -1),
        in_optax=False,
    ),
    Row(
        "tangential",
        lambda x: x.tangential(x.trace(0.9), 2.0, 0.1),
        lambda: n.adamp(f.momentum(0.9), 2.0, 0.1),
        in_optax=False,
    ),
    Row(
        "restarting",
        lambda x: x.restarting(x.adam(0.1), 3),
        lambda: n.restarted(lambda: f.then(f.adam(), down), 3),
        in_optax=False,
    ),
    Row("reduce_variance", lambda x: x.reduce_variance(), lambda: n.mars(), in_optax=False),
    Row(
        "reduce_variance-exact",
        lambda x: with_halves(exact_variance, "previous_grads"),
        lambda: n.mars(0.5, 0.9, 2.0, lambda g: g / 2),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "add_cautious_decay",
        lambda x: x.add_cautious_decay(0.1),
        lambda: n.cautious_decay(0.1),
        in_optax=False,
    ),
    Row(
        "add_corrected_decay",
        lambda x: x.add_corrected_decay(0.1, schedule(x), 0.5),
        lambda: n.changing_decay(lambda t: 0.1 * at(t) / 0.5),
        in_optax=False,
    ),
    Row("shrink_params", lambda x: x.shrink_params(0.1), lambda: f.decay(-0.1), in_optax=False),
    Row("clip_spikes", lambda x: x.clip_spikes(0.9), lambda: n.ada_clip(0.9), in_optax=False),
    Row("scale_to_usual_norm", lambda x: x.scale_to_usual_norm(), lambda: n.ada_norm(), in_optax=False),
    Row(
        "scale_by_spam",
        lambda x: x.scale_by_spam(threshold=2.0, period=5, warmup=3, patience=2),
        lambda: n.spam(threshold=2.0, period=5, warmup=3, patience=2),
        in_optax=False,
        removes=INFINITIES,
    ),
    Row("scale_by_laprop", lambda x: x.scale_by_laprop(), lambda: n.laprop(), in_optax=False),
    Row(
        "scale_by_stable_adam",
        lambda x: x.scale_by_stable_adam(weight_decay=0.1),
        lambda: n.stable_adamw(weight_decay=0.1),
        in_optax=False,
    ),
    Row("scale_by_came", lambda x: x.scale_by_came(), lambda: n.came(), in_optax=False),
    Row(
        "scale_by_adam_mini",
        lambda x: x.scale_by_adam_mini(blocks=column_blocks),
        lambda: n.adam_mini(2),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "scale_by_amos",
        lambda x: x.scale_by_amos(0.1, 0.5, column_blocks, beta=0.9),
        lambda: n.amos(0.1, 0.5, 2, beta=0.9),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "scale_by_adahessian",
        lambda x: with_halves(gradtx.scale_by_adahessian, "hessian"),
        lambda: n.adahessian(lambda g: g / 2),
        in_optax=False,
        is_data=False,
    ),
    Row("ftrl", lambda x: x.ftrl(0.1, 1.0, 0.5, 0.1), lambda: n.ftrl(0.1, 1.0, 0.5, 0.1), in_optax=False),
]

MODERN_RECIPES = [
    Row(
        "mars",
        lambda x: x.mars(0.1, weight_decay=0.1),
        lambda: f.then(n.mars(), f.adam(0.95, 0.99), f.decay(0.1), down),
        in_optax=False,
    ),
    Row("grams", lambda x: x.grams(0.1), lambda: f.then(n.grams(f.adam(eps=1e-6)), down), in_optax=False),
    Row(
        "adamp",
        lambda x: x.adamp(0.1, delta=2.0, weight_decay=0.1),
        lambda: f.then(n.adamp(f.adam(), 2.0, 0.1), down),
        in_optax=False,
    ),
    Row("sgdp", lambda x: x.sgdp(0.1), lambda: f.then(n.adamp(f.momentum(0.9)), down), in_optax=False),
    Row("spam", lambda x: x.spam(0.1), lambda: f.then(n.spam(), down), in_optax=False),
    Row(
        "stable_spam",
        lambda x: x.stable_spam(0.1, period=4),
        lambda: f.then(n.ada_clip(), n.ada_norm(), n.restarted(f.adam, 4), down),
        in_optax=False,
    ),
    Row("laprop", lambda x: x.laprop(0.1), lambda: f.then(n.laprop(), down), in_optax=False),
    Row(
        "stable_adamw",
        lambda x: x.stable_adamw(0.1),
        lambda: f.then(n.stable_adamw(weight_decay=0.01), down),
        in_optax=False,
    ),
    Row("came", lambda x: x.came(0.1), lambda: f.then(n.came(), down), in_optax=False),
    Row("adam_mini", lambda x: x.adam_mini(0.1), lambda: f.then(n.adam_mini(1), down), in_optax=False),
    Row(
        "tiger",
        lambda x: x.tiger(0.1),
        lambda: f.then(f.average(0.965, False), f.sign(), f.decay(0.01), down),
        in_optax=False,
    ),
    Row(
        "amos",
        lambda x: x.amos(0.1, momentum=0.9, clip_value=1.0),
        lambda: f.then(f.clip_value(1.0), n.amos(0.1, 1.0, 1), f.average(0.9, False)),
        in_optax=False,
        supports_complex=False,
        removes=INFINITIES,
    ),
    Row(
        "adahessian",
        lambda x: with_halves(rooted_adahessian, "hessian"),
        lambda: f.then(n.adahessian(lambda g: g / 2, k=0.5), down),
        in_optax=False,
        is_data=False,
    ),
]


CONTRIB = [
    Row(
        "contrib.normalize",
        lambda x: x.contrib.normalize(),
        lambda: f.unit_norm(eps=0.0),
    ),
    Row(
        "contrib.split_real_and_imaginary",
        lambda x: x.contrib.split_real_and_imaginary(x.adam(0.1)),
        lambda: f.then(f.adam(), down),
    ),
    Row("contrib.scale_by_acprop", lambda x: x.contrib.scale_by_acprop(), lambda: f.acprop()),
    Row(
        "contrib.acprop",
        lambda x: x.contrib.acprop(0.1, weight_decay=0.01),
        lambda: f.then(f.acprop(), f.decay(0.01), down),
    ),
    Row(
        "contrib.scale_by_adopt",
        lambda x: x.contrib.scale_by_adopt(nesterov=True),
        lambda: f.adopt(nesterov=True),
        supports_complex=False,
        removes=INFINITIES,  # it clips; the square, which an update uses that comes later, is infinite
    ),
    Row("contrib.scale_by_adopt-unclipped", lambda x: x.contrib.scale_by_adopt(use_clipping=False)),
    Row(
        "contrib.adopt",
        lambda x: x.contrib.adopt(0.1),
        lambda: f.then(f.adopt(), down),
        supports_complex=False,
        removes=INFINITIES,
    ),
    Row("contrib.scale_by_ademamix", lambda x: x.contrib.scale_by_ademamix(), lambda: f.ademamix()),
    Row(
        "contrib.ademamix-scheduled",
        lambda x: x.contrib.ademamix(0.1, b3=schedule(x), alpha=schedule(x), weight_decay=0.01),
    ),
    Row(
        "contrib.scale_by_simplified_ademamix",
        lambda x: x.contrib.scale_by_simplified_ademamix(alpha=2.0),
        lambda: f.simplified_ademamix(alpha=2.0),
    ),
    Row(
        "contrib.simplified_ademamix",
        lambda x: x.contrib.simplified_ademamix(0.01, alpha=schedule(x), weight_decay=0.01),
    ),
    Row(
        "contrib.scale_by_madgrad",
        lambda x: x.contrib.scale_by_madgrad(0.1),
        lambda: f.madgrad(0.1),
        in_optax=False,  # Optax takes the root of the count in float32
    ),
    Row(
        "contrib.madgrad",
        lambda x: x.contrib.madgrad(0.1, weight_decay=0.01),
        lambda: f.then(f.decay(0.01), f.madgrad(0.1)),
        in_optax=False,
    ),
    Row(
        "contrib.schedule_free",
        lambda x: x.contrib.schedule_free(x.sgd(schedule(x)), schedule(x), b1=0.8),
        lambda: f.schedule_free(f.scheduled(lambda t: -at(t)), lambda t: at(t + 1), 0.8),
    ),
    Row(
        "contrib.schedule_free_sgd",
        lambda x: x.contrib.schedule_free_sgd(0.1, weight_decay=0.01),
        lambda: f.schedule_free(f.then(f.decay(0.01), down), lambda t: 0.1),
    ),
    Row(
        "contrib.schedule_free_adamw",
        lambda x: x.contrib.schedule_free_adamw(0.5, warmup_steps=4, weight_decay=0.01),
    ),
    Row(
        "contrib.schedule_free_radam",
        lambda x: x.contrib.schedule_free_radam(0.1, b2=0.9, weight_decay=0.01),
        lambda: f.schedule_free(
            n.decayed_rms(0.9, 0.01, lambda t: 0.1 * n.rectified(0.9, t)),
            lambda t: 0.1 * n.rectified(0.9, t + 1),
        ),
        in_optax=False,
    ),
    Row(
        "contrib.dog",
        lambda x: x.contrib.dog(weight_decay=0.01),
        lambda: f.then(f.decay(0.01), f.dog(), f.times(-1.0)),
    ),
    Row("contrib.scale_by_dog", lambda x: x.contrib.scale_by_dog(("learning_rate", 0.1)), in_optax=False),
    Row("contrib.dog-distance", lambda x: x.contrib.dog(0.5, ("distance", 0.1), eps=1e-4)),
    Row("contrib.dowg", lambda x: x.contrib.dowg(), lambda: f.then(f.dowg(1e-4), f.times(-1.0))),
    Row("contrib.scale_by_dowg", lambda x: x.contrib.scale_by_dowg(0.1), lambda: f.dowg(0.1), in_optax=False),
    Row("contrib.prodigy", lambda x: x.contrib.prodigy(estim_lr0=0.01), lambda: f.prodigy(d0=0.01)),
    Row(
        "contrib.prodigy-plain",
        lambda x: x.contrib.prodigy(estim_lr0=0.01, bias_correction=False),
        lambda: f.prodigy(d0=0.01, corrected=False),
        in_optax=False,
    ),
    Row(
        "contrib.prodigy-safe",
        lambda x: x.contrib.prodigy(schedule(x), beta3=0.9, weight_decay=0.1, safeguard_warmup=True),
    ),
    Row(
        "contrib.dadapt_adamw",
        lambda x: x.contrib.dadapt_adamw(estim_lr0=0.01, weight_decay=0.1),
        lambda: f.dadapt_adamw(d0=0.01, weight_decay=0.1),
    ),
    Row(
        "contrib.scale_by_cocob",
        lambda x: x.contrib.scale_by_cocob(alpha=10.0),
        lambda: f.cocob(10.0),
        supports_complex=False,
    ),
    Row("contrib.cocob", lambda x: x.contrib.cocob(), lambda: f.cocob(), supports_complex=False),
    Row(
        "contrib.scale_by_sophia",
        lambda x: with_quartic(gradtx.contrib.scale_by_sophia),
        lambda: f.sophia(),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "contrib.sophia",
        lambda x: with_quartic(sophia),
        lambda: f.then(f.sophia(gamma=0.5, k=3), f.decay(1e-4), down),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "contrib.hutchinson_estimator_diag_hessian",
        lambda x: x.chain(with_quartic(gradtx.contrib.hutchinson_estimator_diag_hessian), x.scale(-0.01)),
        lambda: lambda g, p: -0.12 * p**2,
        in_optax=False,
        supports_complex=False,
        is_data=False,
        removes=ALL,  # for it looks at the objective alone
    ),
    Row(
        "contrib.differentially_private_aggregate-noise",
        lambda x: one_example(gradtx.contrib.differentially_private_aggregate(1.0, 0.1, 7)),
        in_optax=False,
        is_data=False,
        draws=True,
    ),
    Row(
        "contrib.dpsgd",
        lambda x: one_example(gradtx.contrib.dpsgd(0.1, 1.0, 0.0, 7, 0.9)),
        lambda: f.then(f.clip_norm(1.0), f.momentum(0.9), down),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "contrib.mechanize",
        lambda x: x.contrib.mechanize(x.adam(1.0), s_init=0.01),
        lambda: f.mechanize(f.then(f.adam(), f.times(-1.0)), s_init=0.01),
    ),
    Row(
        "contrib.reduce_on_plateau",
        lambda x: told(gradtx.contrib.reduce_on_plateau, 5.0),
        lambda: f.scheduled(lambda t: 1.0 if t < 10 else 0.1),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "contrib.momo",
        lambda x: told(gradtx.contrib.momo, 5.0),
        lambda: f.momo(5.0),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "contrib.momo_adam",
        lambda x: told(gradtx.contrib.momo_adam, 5.0),
        lambda: f.momo_adam(5.0),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "contrib.sam",
        lambda x: x.contrib.sam(x.sgd(0.1), x.chain(x.contrib.normalize(), x.sgd(0.05))),
        lambda: f.sam(0.1, 0.05),
    ),
    Row(
        "contrib.sam-opaque",
        lambda x: with_quartic(opaque_sam),
        lambda: f.opaque_sam(0.001, 0.05, 2),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "contrib.galore-heads",
        lambda x: one_axis_more(gradtx.contrib.galore(0.1, 2, weight_dimension_numbers=heads)),
        lambda: f.then(f.galore(2, 200, 1.0, f.adam()), down),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "contrib.scale_by_galore",
        lambda x: x.contrib.scale_by_galore(2),
        lambda: f.galore(2, 200, 1.0, f.adam()),
        in_optax=False,  # Optax takes singular vectors in float32
    ),
    Row(
        "contrib.scale_by_apollo",
        lambda x: x.contrib.scale_by_apollo(2, update_proj_gap=3, seed=5),
        lambda: n.apollo(projection(5, 2), 3),
        in_optax=False,
        draws=True,
    ),
    Row(
        "contrib.apollo",
        lambda x: x.contrib.apollo(0.1, 2, scale=2.0),
        lambda: f.then(n.apollo(projection(0, 2), 200, scale=2.0), down),
        in_optax=False,
        draws=True,
    ),
    Row(
        "contrib.apollo_mini",
        lambda x: x.contrib.apollo_mini(0.1),
        lambda: f.then(n.apollo(projection(0, 1), 200, scale=128.0, by_row=False), down),
        in_optax=False,
        draws=True,
    ),
    Row(
        # The signs of singular vectors are free, and without momentum no update sees them.
        "contrib.scale_by_fira",
        lambda x: x.contrib.scale_by_fira(2, 0.0, update_proj_gap=3),
        lambda: n.fira(2, 3, 0.0),
        in_optax=False,
    ),
    Row(
        "contrib.fira", lambda x: x.contrib.fira(0.1, 2), lambda: f.then(n.fira(2, 200), down), in_optax=False
    ),
    Row(
        # The signs of singular vectors are free, and RMSprop does not see them when its subspace changes.
        "contrib.galore",
        lambda x: x.contrib.galore(0.1, 2, 3, 0.25, x.scale_by_rms(), 0.01),
        lambda: f.then(f.galore(2, 3, 0.25, f.rms()), f.decay(0.01), down),
        in_optax=False,
    ),
]


MATRIX = [
    Row(
        # Two steps: five enlarge roundings up to 3.4⁵ = 460-fold, for which the laws leave no room.
        "scale_by_muon",
        lambda x: x.masked(x.contrib.scale_by_muon(ns_steps=2), by_axes),
        lambda: f.muon(steps=2),
        in_optax=False,  # which fails where tensors are masked out
        is_data=False,
    ),
    Row(
        "scale_by_shape",
        lambda x: x.masked(x.contrib.scale_by_shape(consistent_rms=0.2), by_axes),
        lambda: f.times(0.2 * 5**0.5),
        in_optax=False,  # where it has no public name
        is_data=False,
    ),
    Row(
        "muon",
        lambda x: x.contrib.muon(0.1, weight_decay=0.01),
        lambda: f.then(f.muon(), f.decay(0.01), down),
    ),
    Row(
        "muon-dion",
        lambda x: x.contrib.muon(
            schedule(x),
            "dion",
            adaptive=True,
            nesterov=False,
            preconditioning="schatten",
            adam_learning_rate=0.1,
            consistent_rms=0.2,
        ),
    ),
    Row("muon-spectral", lambda x: x.contrib.muon(0.1, preconditioning="spectral")),
    Row(
        "muon-aol",
        lambda x: x.contrib.muon(0.1, ns_steps=3, preconditioning="aol", consistent_rms=0.2),
    ),
    Row(
        "muon-heads",
        lambda x: one_axis_more(gradtx.contrib.muon(0.1, muon_weight_dimension_numbers=heads)),
        lambda: f.then(f.muon(), down),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "scale_by_normuon",
        lambda x: x.masked(x.scale_by_normuon(ns_steps=2), by_axes),
        lambda: f.normuon(steps=2),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "normuon",
        lambda x: x.normuon(0.1, weight_decay=0.01),
        lambda: f.then(f.normuon(), f.decay(0.01), down),
        in_optax=False,
    ),
    Row(
        "normuon-cut",
        lambda x: x.normuon(
            schedule(x), nesterov=True, consistent_rms=None, weight_dimension_numbers=cut, others=x.sgd(0.1)
        ),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "scale_by_adamuon",
        lambda x: x.masked(x.scale_by_adamuon(ns_steps=2), by_axes),
        lambda: f.adamuon(steps=2),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "adamuon",
        lambda x: x.adamuon(0.1, weight_decay=0.01),
        lambda: f.then(f.adamuon(), f.decay(0.01), down),
        in_optax=False,
    ),
    Row(
        "adamuon-unsigned",
        lambda x: x.adamuon(0.1, signed=False),
        lambda: f.then(f.adamuon(signed=False), down),
        in_optax=False,
    ),
    Row(
        "scale_by_polargrad",
        lambda x: x.masked(x.scale_by_polargrad(method="svd"), by_axes),
        lambda: f.polargrad(),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "polargrad",
        lambda x: x.polargrad(0.1, weight_decay=0.01, method="svd"),
        lambda: f.then(f.polargrad(), f.decay(0.01), down),
        in_optax=False,
    ),
    Row("hyperball", lambda x: x.hyperball(0.1), lambda: f.hyperball(0.1), in_optax=False),
    Row(
        "muon_hyperball",
        lambda x: x.muon_hyperball(0.1, ns_steps=2),
        lambda: f.then(f.muon(steps=2), f.hyperball(0.1)),
        in_optax=False,
    ),
    Row(
        "scale_by_lmo",
        lambda x: x.masked(x.scale_by_lmo(ns_steps=2), by_axes),
        lambda: f.lmo("spectral", steps=2),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "scale_by_lmo-embedding",
        lambda x: x.masked(x.scale_by_lmo({".*": x.LayerNorm("embedding", 2.0)}), by_axes),
        lambda: f.lmo("embedding", 2.0),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "scale_by_lmo-sign",
        lambda x: x.masked(x.scale_by_lmo({".*": x.LayerNorm("sign", 3.0)}), by_axes),
        lambda: f.lmo("sign", 3.0),
        in_optax=False,
        is_data=False,
        removes=INFINITIES,
    ),
    Row(
        "scion",
        lambda x: x.scion(0.1, norms),
        lambda: f.then(f.average(0.9, False), f.lmo("spectral"), f.decay(1.0), down),
        in_optax=False,
        is_data=False,
    ),
    Row(
        "scale_by_dion2",
        lambda x: x.masked(x.scale_by_dion2(0.5, ns_steps=2), by_axes),
        lambda: f.dion2(0.5, steps=2),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "dion2",
        lambda x: x.dion2(0.1, weight_decay=0.01),
        lambda: f.then(f.dion2(), f.times(0.8**0.5), f.decay(0.01), down),
        in_optax=False,
        supports_complex=False,
    ),
    Row(
        "qk_clip",
        lambda x: with_logits(clipped_queries),
        lambda: f.qk_clip([16.0, 1.0], 4.0, 0.5),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "scale_by_soap",
        lambda x: x.masked(x.scale_by_soap(every=2), by_axes),
        lambda: f.soap(every=2),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "soap",
        lambda x: x.soap(0.1, every=1, method="eigh"),
        in_optax=False,
        supports_complex=False,
    ),
    Row(
        "scale_by_shampoo",
        lambda x: x.masked(x.scale_by_shampoo(eps=0.1, every=2), by_axes),
        lambda: f.shampoo(eps=0.1, every=2),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "scale_by_shampoo-tracked",
        lambda x: x.masked(x.scale_by_shampoo(eps=0.1, every=2, method="qr", stagger=False), by_axes),
        lambda: f.shampoo(eps=0.1, every=2, stagger=False, tracked=True),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "grafted",
        lambda x: x.grafted(x.trace(0.9), x.scale_by_adam()),
        lambda: f.grafted(f.momentum(0.9), f.adam()),
        in_optax=False,
    ),
    Row(
        "shampoo",
        lambda x: x.shampoo(0.1, eps=0.1, every=1, graft=x.scale_by_rms()),
        lambda: f.then(f.grafted(f.shampoo(eps=0.1, every=1), f.rms()), down),
        in_optax=False,
        supports_complex=False,
    ),
    Row(
        "scale_by_kl_shampoo",
        lambda x: x.masked(x.scale_by_kl_shampoo(every=2), by_axes),
        lambda: f.kl(every=2),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "scale_by_kl_soap",
        lambda x: x.masked(x.scale_by_kl_soap(every=2), by_axes),
        lambda: f.kl(every=2, adam=True),
        in_optax=False,
        supports_complex=False,
        is_data=False,
    ),
    Row(
        "kl_shampoo",
        lambda x: x.kl_shampoo(0.1, weight_decay=0.01),
        lambda: f.then(f.kl(), f.decay(0.01), down),
        in_optax=False,
        supports_complex=False,
    ),
    Row(
        "kl_soap",
        lambda x: x.kl_soap(0.1, weight_decay=0.01),
        lambda: f.then(f.kl(adam=True), f.decay(0.01), down),
        in_optax=False,
        supports_complex=False,
    ),
    Row(
        "scale_by_kron",
        lambda x: x.masked(x.scale_by_kron(seed=5), by_axes),
        lambda: f.kron(probes(5)),
        in_optax=False,
        supports_complex=False,
        is_data=False,
        draws=True,
    ),
    Row(
        "kron",
        lambda x: x.kron(0.1, probability=0.5, weight_decay=0.01, max_dim=3),
        lambda: f.then(f.kron(probes(0), max_dim=3, due=in_half_of_the_steps), f.decay(0.01), down),
        in_optax=False,
        supports_complex=False,
        draws=True,
    ),
    Row(
        "muon-exact",
        lambda x: x.muon(0.1, method="svd", scale="spectral", ns_dtype="bfloat16"),
        lambda: f.then(f.muon(exact=True, scale=lambda rows, columns: (columns / rows) ** 0.5), down),
        in_optax=False,
        supports_complex=False,
    ),
    Row(
        "muon-polar_express",
        lambda x: x.muon(0.1, "polar_express", 3, muon_weight_dimension_numbers=cut),
        in_optax=False,
        is_data=False,
    ),
]


def torch_row(
    name: str, supports_complex: bool = True, removes: tuple[float, ...] = (), **options: Any
) -> Row:
    """A function of `gradtx.torch.optim`; PyTorch itself is its oracle, in tests/torch_parity."""
    shown = ",".join(f"{option}={x}" for option, x in options.items())
    return Row(
        f"torch.{name}-{shown}" if shown else f"torch.{name}",
        lambda x: getattr(x.torch.optim, name)(**options),
        in_optax=False,
        supports_complex=supports_complex,
        like_torch=True,
        removes=removes,
    )


TORCH = [
    torch_row("sgd", momentum=0.9, weight_decay=0.1, nesterov=True),
    torch_row("sgd", momentum=0.9, dampening=0.5, maximize=True),
    torch_row("adam", weight_decay=0.1, amsgrad=True),
    torch_row("adamw"),
    torch_row("adamax"),
    torch_row("nadam"),
    torch_row("radam"),
    torch_row("rmsprop", centered=True, momentum=0.9),
    torch_row("rprop", removes=ALL),  # the sign of a NaN is 0
    torch_row("adagrad", lr_decay=0.1),
    torch_row("adadelta"),
    torch_row("asgd", t0=1.0),
    torch_row("adafactor", supports_complex=False),
]

ROWS = [*PRIMITIVES, *WRAPPERS, *RECIPES, *MODERN_STAGES, *MODERN_RECIPES, *MATRIX, *CONTRIB, *TORCH]


def variations(rows: list[Row]) -> set[str]:
    """The names of rows that vary an earlier one, whose name up to the dash they have."""
    bases = [row.name.partition("-")[0] for row in rows]
    return {row.name for i, row in enumerate(rows) if bases[i] in bases[:i]}


def recipes_of(rows: list[Row]) -> set[str]:
    """The names of rows that are recipes, every stage of which is a row of its own, alone."""
    made = {row.name: without_givens(row()) for row in rows}
    alone: dict[str, str] = {}
    for name, tx in made.items():
        if len(tx.stages) == 1:
            alone.setdefault(tx.stages[0].name, name)
    return {
        name
        for name, tx in made.items()
        if isinstance(tx, Recipe) and all(alone.get(stage.name, name) != name for stage in tx.stages)
    }


def stored_rows(rows: list[Row]) -> list[Row]:
    """Rows that are one leafwise stage with slots, whose slots are in bytes."""
    made = {row: row() for row in rows}
    return [
        _in_bytes(row, tx.form.slots)
        for row, tx in made.items()
        if isinstance(tx, Leafwise) and tx.form.slots
    ]


def _in_bytes(row: Row, slots: Sequence[str]) -> Row:
    formats = dict.fromkeys(slots, gradtx.formats.companded())

    def make(x: Any) -> Any:
        return x.stored(row.make(x), formats, min_size=0)

    # Where an infinity is kept out of updates but not out of slots, in these codes it becomes NaN.
    removes = () if row.name == "contrib.scale_by_adopt" else row.removes
    name = f"stored({row.name})"
    return replace(
        row, name=name, make=make, oracle=None, in_optax=False, supports_complex=False, removes=removes
    )
