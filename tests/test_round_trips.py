"""Every factory with every argument: what is made is written down and read back.

The arguments are those of the signatures, and their values follow from domains, defaults and annotations;
where these say too little, `VALUES` has one. A new argument without a value fails.
"""

import copy
import importlib
import inspect
import json
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.values.argument import Argument
from gradtx.values.factory import FACTORIES, Factory
from tests import given

for _, module, _ in pkgutil.walk_packages(gradtx.__path__, "gradtx."):
    importlib.import_module(module)

OURS = {key: factory for key, factory in FACTORIES.items() if factory.body.__module__.startswith("gradtx.")}

NAMES = {
    **{room: getattr(gradtx, room) for room in ("contrib", "experimental", "torch")},
    **{name: getattr(gradtx, name) for name in dir(gradtx) if not name.startswith("_")},
    **vars(given),
    "jax": jax,
    "numpy": np,
}
"""What the source text of a value is read with."""

INNER = {
    "formats.stored_form",
    "contrib.rectified_rate",
    "fromage_shrinkage",
    "fromage_step",
    "torch.optim.adafactor_descent",
    "torch.optim.averaged_descent",
    "torch.optim.dampened_trace",
    "torch.optim.decay_and_descend",
    "torch.optim.nadam_descent",
    "torch.optim.scale_by_adadelta",
    "torch.optim.scale_by_adam",
    "torch.optim.scale_by_adamax",
    "torch.optim.scale_by_decaying_rss",
    "torch.optim.scale_by_lazy_adam",
    "torch.optim.scale_by_raw_amsgrad",
    "torch.optim.scale_by_rectified_adam",
    "torch.optim.scale_by_rms",
    "torch.optim.scale_by_rprop",
    "torch.optim.scale_by_stddev",
    "torch.optim.scale_by_torch_muon",
    "torch.optim.trace",
}
"""Factories that are stages of public ones, and have no name by which source text or a pickle finds them."""

TX = gradtx.chain(gradtx.trace(0.5), gradtx.scale(-0.25))
FORMULAS = gradtx.linear_schedule(0.5, 0.25, 4), gradtx.constant_schedule(0.25)
MASK = {".*bias": False, ".*": True}

REQUIRED: dict[str, dict[str, Any]] = {
    "torch.optim.lr_scheduler.one_cycle_lr": {"total_steps": 12},
    "torch.optim.lr_scheduler.one_cycle_momentum": {"total_steps": 12},
}
"""By factory, what else a call needs, though each of it has a default."""

BESIDE: dict[str, dict[str, Any]] = {
    "torch.optim.sgd: nesterov": {"momentum": 0.5},
}
"""By factory and argument, what it needs beside it."""

TOGETHER: dict[str, dict[str, Any]] = {
    "torch.optim.sgd": {"dampening": 0},
}
"""By factory, where not all of the values go together, those that do."""

NO_DATA = {
    "GradientTransformation: init",
    "MultiSteps: should_skip_update_fn",
    "conditionally_mask: should_transform_fn",
    "conditionally_transform: should_transform_fn",
    "formats.Format: decode",
    "formats.Format: encode",
    "groups: labels",
    "measure_with_ema: measure",
    "monitor: measures",
    "scale_by_factored_rms: decay_rate_fn",
    "snapshot: measure",
    "stateless: f",
    "stateless_with_tree_map: f",
    "torch.optim.lr_scheduler.cyclic_lr: scale_fn",
    "torch.optim.lr_scheduler.cyclic_momentum: scale_fn",
    "torch.optim.lr_scheduler.lambda_lr: lr_lambda",
}
"""By factory and argument, the values that have no form as data: functions and objects."""

VALUES: dict[str, Any] = {
    "compensated: bits": 8,
    "skip_spikes: watch": "value",
    "formats.companded: bits": 4,
    "formats.float8: dtype": "float8_e5m2",
    "formats.floating: dtype": "bfloat16",
    "formats.square_root: bits": 4,
    "formats.stored_form: dtype": "bfloat16",
    "formats.stored_form: length": 64,
    "adjust_lr_fn": "match_rms_adamw",
    "adv_optimizer": TX,
    "ahead": 1,
    "anneal_epochs": 5,
    "anneal_strategy": "linear",
    "args": (("a", TX), ("b", TX)),
    "axis": (0, -1),
    "base_optimizer": TX,
    "batch_axis_name": "batch",
    "betas": (0.5, 0.75),
    "blocks": {".*kernel": "1 *", ".*embedding": "* 1"},
    "boundaries": (4,),
    "boundaries_and_scales": {2: 0.5, 4: 0.25},
    "channel_axis": 0,
    "cosine_kwargs": [dict(init_value=0.0, peak_value=1.0, warmup_steps=2, decay_steps=8)],
    "decode": given.halves,
    "dynamic_loss_scale: init_scale": 4.0,
    "decay_rate_fn": given.towards_one,
    "dtype_momentum": "bfloat16",
    "epochs": 3,
    "factor": 0.5,
    "factors": [0.5, gradtx.linear_schedule(1.0, 0.0, 4)],
    "terms": [0.5, gradtx.linear_schedule(1.0, 0.0, 4)],
    "experimental.aggregating.accumulate_avg_updates: accumulation_steps": 3,
    "encode": given.halves,
    "eps": (0.5, 0.25),
    "eta": {".*kernel": 0.5},
    "etas": (0.25, 1.5),
    "f": given.halves,
    "fast_optimizer": TX,
    "format": gradtx.formats.companded(),
    "formats": {"trace": "bfloat16"},
    "freeze_mask": MASK,
    "gradients": "local",
    "hessian_diagonal_fn": gradtx.contrib.hutchinson_estimator_diag_hessian(jax.random.key(3)),
    "init": given.sophia,
    "init_step": ("distance", 0.5),
    "initial_guess_strategy": "one",
    "inner": TX,
    "inner_factory": gradtx.adam(0.5),
    "interpolate_type": "cosine",
    "key": jax.random.key(3),
    "labels": given.by_rank,
    "learning_rate": FORMULAS[0],
    "line_search_fn": "strong_wolfe",
    "linesearch": gradtx.scale_by_backtracking_linesearch(8),
    "mask": MASK,
    "lr_lambda": given.at,
    "max_eval": 9,
    "max_iter": 9,
    "measure": given.quartic,
    "measure_name": "loss",
    "measures": {"loss": given.quartic},
    "milestones": (2, 4),
    "min_dim_size_to_factor": 4,
    "min_size": 0,
    "mode": "refined",
    "norm_type": float("inf"),
    "norms": {".*kernel": "sign", ".*": gradtx.LayerNorm("rms", 0.5)},
    "head_axis": 1,
    "others": TX,
    "parts": {"q": "query"},
    "block_size": 4,
    "exponent": 0.5,
    "graft": TX,
    "magnitude": TX,
    "fraction": 0.5,
    "dion2: scale": "original",
    "muon_weight_dimension_numbers": {".*kernel": gradtx.contrib.MuonDimensionNumbers(1, 0)},
    "method": "svd",
    "ns_beyond": "cycle",
    "ns_coefficients": (3.0, -4.0, 2.0),
    "ns_coeffs": ((3.0, -4.0, 2.0), (2.0, -1.5, 0.5)),
    "ns_dtype": "float32",
    "ns_steps": 3,
    "optimizer": TX,
    "outer": TX,
    "outer_optimizer: axis": "replica",
    "overrides": {".*bias": {"step_size": 0.5}, "frozen/.*": None},
    "param_labels": {".*bias": "a", ".*": "b"},
    "preconditioning": "aol",
    "random_seed": np.array([1, 2], np.uint32),
    "soap: method": "eigh",
    "scale_by_soap: method": "eigh",
    "kl_shampoo: method": "eigh",
    "kl_soap: method": "eigh",
    "scale_by_kl_shampoo: method": "eigh",
    "scale_by_kl_soap: method": "eigh",
    "shampoo: method": "newton",
    "scale_by_shampoo: method": "newton",
    "muon: scale": "spectral",
    "scale_by_shape: scale": "spectral",
    "scale_fn": given.at,
    "scale_mode": "iterations",
    "schedules": FORMULAS,
    "inject_hyperparams: schedules": {"b1": FORMULAS[0]},
    "schedulers": FORMULAS,
    "staircase": True,
    "static_args": ("eps", "b2"),
    "step_sizes": (1e-3, 5.0),
    "steps_per_epoch": 4,
    "T_0": 5,
    "T_mult": 2,
    "three_phase": True,
    "total_steps": 12,
    "torch.optim.lr_scheduler.sequential_lr: milestones": (4,),
    "torch.optim.lr_scheduler.cyclic_lr: mode": "exp_range",
    "torch.optim.lr_scheduler.cyclic_momentum: mode": "exp_range",
    "seed": 7,
    "should_skip_update_fn": gradtx.skip_not_finite,
    "should_transform_fn": given.on_even_steps,
    "transformations": (TX, gradtx.identity()),
    "transforms": {"a": TX, "b": gradtx.identity()},
    "trust_ratio_mask": MASK,
    "update": given.halves,
    "variant": "sps+",
    "weight_decay_mask": r".*kernel",
    "warmup_cosine_decay_schedule: decay_steps": 40.0,
    "weight_dimension_numbers": {".*kernel": gradtx.contrib.GaLoreDimensionNumbers(1, 0)},
}
"""Values by the name of an argument, or of factory and argument."""


def other(factory: Factory, argument: Argument) -> Any:
    """A valid value of an argument that is not its default."""
    for name in (f"{factory.key}: {argument.name}", argument.name):
        if name in VALUES and not (name == argument.name and argument.is_numeric):
            return VALUES[name]
    if argument.is_dtype:
        return "bfloat16"
    if argument.is_numeric or argument.intervals:
        whole = any(x.whole for x in argument.intervals)
        numbers = (3, 9) if whole else (0.625, 2.5, 0.375, 40.0, -0.5)
        inside = [x for x in numbers if all(interval.holds(x) for interval in argument.intervals)]
        return next(x for x in inside if x != argument.default)
    if isinstance(argument.default, bool) or factory.signature.parameters[argument.name].annotation is bool:
        return argument.default is not True
    raise AssertionError(f'tests/test_round_trips.py: VALUES needs "{factory.key}: {argument.name}"')


def made(factory: Factory, arguments: dict[str, Any]) -> Any:
    args, kwargs = factory.by_position(arguments)
    return factory(*args, **kwargs)


def values(factory: Factory) -> Iterator[Any]:
    """One with what is required, one for each other argument, one with schedules, and one with everything."""
    changed = {name: other(factory, p) for name, p in factory.parameters.items()}
    without = {name for name, p in factory.parameters.items() if p.default is inspect.Parameter.empty}
    required = {name: x for name, x in changed.items() if name in without} | REQUIRED.get(factory.key, {})
    yield (usual := made(factory, required))
    for name, x in changed.items():
        beside = {**required, **BESIDE.get(f"{factory.key}: {name}", {})}
        value = made(factory, {**beside, name: x})
        assert value != usual or name in required, (factory.key, name)
        yield value
        if name in factory.numeric:
            is_count = any(interval.whole for interval in factory.parameters[name].intervals)
            yield made(factory, {**beside, name: jnp.asarray(x, "int32" if is_count else "bfloat16")})
            yield made(factory, {**beside, name: gradtx.linear_schedule(x, x, 4)})
    yield made(factory, {**changed, **TOGETHER.get(factory.key, {})})


@pytest.mark.parametrize("key", OURS)
def test_every_argument_of_every_factory(key: str) -> None:
    for value in values(OURS[key]):
        leaves, treedef = jax.tree.flatten(value)
        copies = [value.replace(**value.arguments), treedef.unflatten(leaves)]
        if key not in INNER:
            copies += [copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))]
            copies += [eval(repr(value), dict(NAMES))]
        for again in copies:
            assert again == value and hash(again) == hash(value) and repr(again) == repr(value)
        try:
            config = gradtx.to_config(value)
        except TypeError as error:  # a function, for one
            argument = str(error).split(": ")[2].partition(" is ")[0]
            assert f"{key}: {argument}" in NO_DATA, error
            continue
        assert gradtx.from_config(json.loads(json.dumps(config))) == value


def test_no_other_factory_lacks_a_public_name() -> None:
    """`INNER` are all whose name leads nowhere."""

    def leads_nowhere(factory: Factory) -> bool:
        found: Any = gradtx
        for part in factory.name.split("."):
            found = getattr(found, part, None)
        return found is None

    assert {key for key, factory in OURS.items() if leads_nowhere(factory)} == INNER
