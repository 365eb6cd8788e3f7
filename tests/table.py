"""The things under test, one row each, with their traits. Every row obeys every law of `laws.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradtx
from tests.oracles import formulas as f


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
    """

    name: str
    make: Callable[[Any], Any]
    oracle: Callable[[], Any] | None = None
    in_optax: bool = True
    supports_complex: bool = True
    is_data: bool = True
    like_torch: bool = False

    def __call__(self) -> gradtx.GradientTransformation:
        return self.make(gradtx)


def schedule(library: Any) -> Any:
    """The schedule of the rows that have one; exact also in float32, which Optax schedules compute in."""
    return library.linear_schedule(0.5, 0.25, 4)


def at(count: int) -> float:
    """The same, by hand."""
    return 0.5 - 0.0625 * min(count, 4)


def by_rank(path: str, leaf: Any) -> str:
    """A selector: matrices, and the rest."""
    return "matrix" if np.ndim(leaf) == 2 else "rest"


down = f.times(-0.1)

PRIMITIVES = [
    Row("identity", lambda x: x.identity(), lambda: f.times(1.0)),
    Row("set_to_zero", lambda x: x.set_to_zero(), lambda: f.times(0.0)),
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
    Row("add_noise", lambda x: x.add_noise(0.1, 0.55, 7)),
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
    Row("scale_by_adadelta", lambda x: x.scale_by_adadelta(), lambda: f.adadelta()),
    Row("scale_by_sign", lambda x: x.scale_by_sign(), lambda: f.sign()),
    Row(
        "scale_by_rprop",
        lambda x: x.scale_by_rprop(0.1, max_step_size=0.2),
        lambda: f.rprop(0.1, largest=0.2),
        in_optax=False,  # Optax returns each update one step late
        supports_complex=False,
    ),
    Row("scale_by_lion", lambda x: x.scale_by_lion(), lambda: f.lion()),
    Row("scale_by_lion-smooth", lambda x: x.scale_by_lion(mode="smooth", smooth_beta=2.0)),
    Row("scale_by_lion-refined", lambda x: x.scale_by_lion(mode="refined")),
    Row("clip", lambda x: x.clip(0.3), lambda: f.clip_value(0.3), supports_complex=False),
    Row("clip_by_global_norm", lambda x: x.clip_by_global_norm(1.0), lambda: f.clip_norm(1.0)),
    Row("clip_by_block_rms", lambda x: x.clip_by_block_rms(0.5), lambda: f.clip_rms(0.5)),
    Row("adaptive_grad_clip", lambda x: x.adaptive_grad_clip(0.1), lambda: f.clip_units(0.1)),
    Row("centralize", lambda x: x.centralize(), lambda: f.centre()),
    Row("zero_nans", lambda x: x.zero_nans(), lambda: f.times(1.0)),
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
    Row("masked", lambda x: x.masked(x.scale_by_adam(), True), lambda: f.adam()),
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
        "inject_hyperparams",
        lambda x: x.inject_hyperparams(x.adam)(learning_rate=0.1),
        lambda: f.then(f.adam(), down),
    ),
    Row(
        "inject_hyperparams-scheduled",
        lambda x: x.inject_hyperparams(x.sgd)(learning_rate=schedule(x)),
        lambda: f.scheduled(lambda t: -at(t)),
    ),
    Row("apply_if_finite", lambda x: x.apply_if_finite(x.adam(0.1), 3), lambda: f.then(f.adam(), down)),
    Row(
        "MultiSteps",
        lambda x: x.MultiSteps(x.adam(0.1), 3),
        lambda: f.accumulated(f.then(f.adam(), down), 3),
        in_optax=False,
    ),
    Row(
        "MultiSteps-1", lambda x: x.MultiSteps(x.adam(0.1), 1), lambda: f.then(f.adam(), down), in_optax=False
    ),
]

RECIPES = [
    Row("sgd", lambda x: x.sgd(0.1), lambda: down),
    Row("sgd-momentum", lambda x: x.sgd(0.1, momentum=0.9), lambda: f.then(f.momentum(0.9), down)),
    Row("sgd-nesterov", lambda x: x.sgd(0.1, 0.9, True), lambda: f.then(f.momentum(0.9, True), down)),
    Row("noisy_sgd", lambda x: x.noisy_sgd(0.1, key=3)),
    Row("sign_sgd", lambda x: x.sign_sgd(0.1), lambda: f.then(f.sign(), down)),
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
    Row("lion", lambda x: x.lion(0.1), lambda: f.then(f.lion(), f.decay(1e-3), down)),
]


def torch_row(name: str, supports_complex: bool = True, **options: Any) -> Row:
    """A function of `gradtx.torch.optim`; PyTorch itself is its oracle, in tests/torch_parity."""
    shown = ",".join(f"{option}={x}" for option, x in options.items())
    return Row(
        f"torch.{name}-{shown}" if shown else f"torch.{name}",
        lambda x: getattr(x.torch.optim, name)(**options),
        in_optax=False,
        supports_complex=supports_complex,
        like_torch=True,
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
    torch_row("rprop"),
    torch_row("adagrad", lr_decay=0.1),
    torch_row("adadelta"),
    torch_row("asgd", t0=1.0),
    torch_row("adafactor", supports_complex=False),
]

ROWS = [*PRIMITIVES, *WRAPPERS, *RECIPES, *TORCH]
