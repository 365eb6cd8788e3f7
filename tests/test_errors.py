"""What a user reads after each mistake. The messages are pinned: they are part of the interface."""

import functools
import pickle
import re
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import gradtx

PARAMS = {"layer1": {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}}


def raises(error: type[Exception] | tuple[type[Exception], ...], *parts: str) -> Any:
    """The message has these parts, in this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts)))


# --- at construction --------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [gradtx.adam, gradtx.adamw, gradtx.amsgrad, gradtx.lamb, gradtx.lion])
def test_a_number_outside_its_domain_names_the_optimizer(factory) -> None:
    with raises(ValueError, f"{factory.__name__}: b1 must lie in [0, 1), got 1.5"):
        factory(1e-3, b1=1.5)


def test_a_domain_is_checked_for_concrete_arrays_and_replacements_too() -> None:
    with raises(ValueError, "scale_by_adam: eps must lie in [0, inf], got -1.0"):
        gradtx.scale_by_adam(eps=jnp.asarray(-1.0))
    with raises(ValueError, "adam: b2 must lie in [0, 1), got 1"):
        gradtx.adam(1e-3).replace(b2=1)
    with raises(ValueError, "scale_by_adam: b1 must lie in [0, 1), got nan"):
        gradtx.scale_by_adam(b1=float("nan"))


def test_a_string_is_no_number() -> None:
    with raises(TypeError, "adam: learning_rate must be a number or a schedule, got '1e-3'"):
        gradtx.adam("1e-3")


def test_unknown_and_missing_arguments_list_the_known() -> None:
    with raises(
        TypeError, "adam: got an unexpected keyword argument 'lr'", "its arguments are: learning_rate, b1, b2"
    ):
        gradtx.adam(lr=1e-3)
    with raises(TypeError, "adam: missing a required argument: 'learning_rate'"):
        gradtx.adam()
    with raises(TypeError, "adam has no argument ['lr']; it has: learning_rate, b1"):
        gradtx.adam(1e-3).replace(lr=1e-4)


def test_a_factory_is_not_a_transformation() -> None:
    with raises(
        TypeError,
        "chain: argument 2 is the function scale_by_adam, not a transformation; call it: scale_by_adam(...)",
    ):
        gradtx.chain(gradtx.clip(1.0), gradtx.scale_by_adam)
    with raises(TypeError, "masked: inner is the function adam, not a transformation; call it: adam(...)"):
        gradtx.masked(gradtx.adam, True)
    with raises(TypeError, "chain: argument 1 must be a gradient transformation, got float: 0.1"):
        gradtx.chain(0.1)
    with raises(
        TypeError, "chain: argument 1 must be a gradient transformation, got Schedule: linear_schedule("
    ):
        gradtx.chain(gradtx.linear_schedule(0.0, 1.0, 2))


def test_a_choice_that_is_not_known_lists_the_known() -> None:
    with raises(ValueError, "scale_by_lion: mode must be one of hard, smooth, refined, got 'typo'"):
        gradtx.scale_by_lion(mode="typo")


def test_structure_cannot_be_traced() -> None:
    with raises(TypeError, "MultiSteps: every_k_schedule chooses structure and cannot be traced"):
        jax.jit(lambda k: gradtx.MultiSteps(gradtx.sgd(0.1), k))(2)


def test_multi_steps_wants_whole_positive_k() -> None:
    with raises(ValueError, "MultiSteps: every_k_schedule must lie in [1, inf], got 0"):
        gradtx.MultiSteps(gradtx.sgd(0.1), 0)
    with raises(ValueError, "MultiSteps: every_k_schedule must be a whole number, got 2.5"):
        gradtx.MultiSteps(gradtx.sgd(0.1), 2.5)


def test_values_are_immutable() -> None:
    with raises(AttributeError, "adam(...) is immutable; make a changed copy: .replace(b1=...)"):
        gradtx.adam(1e-3).b1 = 0.8


# --- at init and update, eagerly and while tracing ---------------------------------------------------


def eager(function):
    return function


@pytest.fixture(params=[eager, jax.jit], ids=["eager", "jit"])
def mode(request):
    return request.param


def test_params_are_needed(mode) -> None:
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.adamw(1e-3))
    with raises(TypeError, "add_decayed_weights needs params: call update(grads, state, params)"):
        mode(lambda g, s: tx.update(g, s))(PARAMS, tx.init(PARAMS))
    wrapped = gradtx.masked(gradtx.adamw(1e-3), True)
    with raises(ValueError, "add_decayed_weights needs params"):
        mode(lambda g, s: wrapped.update(g, s))(PARAMS, wrapped.init(PARAMS))


def test_a_vector_needs_params_for_what_has_no_update(mode) -> None:
    grads = {"layer1": {"w": jnp.ones((3, 4)), "b": None}}
    tx = gradtx.flatten(gradtx.adam(1e-3))
    with raises(
        TypeError,
        "flatten needs params for the number of zeros at ['layer1']['b'], where the update is None: "
        "call update(grads, state, params)",
    ):
        mode(tx.update)(grads, tx.init(PARAMS))
    updates, _ = mode(tx.update)(grads, tx.init(grads))
    assert updates["layer1"]["b"] is None


@gradtx.leafwise()
def scale_by_value():
    def update(grad, value):
        return value * grad

    return update


def test_extra_arguments_are_needed_by_name(mode) -> None:
    tx = gradtx.apply_if_finite(gradtx.chain(gradtx.sgd(0.1), scale_by_value()), 2)
    with raises(TypeError, "scale_by_value needs value: call update(grads, state, params, value=...)"):
        mode(lambda g, s: tx.update(g, s))(PARAMS, tx.init(PARAMS))
    updates, _ = mode(lambda g, s, v: tx.update(g, s, value=v))(PARAMS, tx.init(PARAMS), 2.0)
    assert updates["layer1"]["b"][0] == pytest.approx(-0.2)


def test_swapped_grads_and_state(mode) -> None:
    tx = gradtx.adam(1e-3)
    with raises(
        ValueError, "this is not its state", "did you swap grads and state? Call update(grads, state, params)"
    ):
        mode(lambda g, s: tx.update(s, g))(PARAMS, tx.init(PARAMS))


def test_the_state_of_another_optimizer(mode) -> None:
    with raises(
        ValueError,
        "scale_by_adam: this is not its state: expected ScaleByAdamState('count', 'mu', 'nu'), got",
    ):
        mode(gradtx.adam(1e-3).update)(PARAMS, gradtx.sgd(0.1, momentum=0.9).init(PARAMS))
    with raises(
        ValueError,
        "chain: this is not its state: expected a tuple of 2 states, got dict of 1",
        "; make one with init(params)",
    ):
        mode(gradtx.adam(1e-3).update)(PARAMS, {"x": jnp.ones(3)})


def test_another_key(mode) -> None:
    tx = gradtx.adam(1e-3)
    grads = {"layer1": {"w": jnp.ones((3, 4))}}
    with raises(ValueError, "updates have no ['layer1']['b'], params do"):
        mode(tx.update)(grads, tx.init(PARAMS), PARAMS)
    with raises(ValueError, "scale_by_adam: updates have no ['layer1']['b'], the state's mu do"):
        mode(tx.update)(grads, tx.init(PARAMS))
    with raises(ValueError, "apply_updates: updates have no ['layer1']['b'], params do"):
        mode(gradtx.apply_updates)(PARAMS, grads)


def test_another_shape(mode) -> None:
    tx = gradtx.adam(1e-3)
    grads = {"layer1": {"w": jnp.ones((3, 4)), "b": jnp.ones(3)}}
    with raises(ValueError, "['layer1']['b']: the update has shape (3,), the param has shape (4,)"):
        mode(tx.update)(grads, tx.init(PARAMS), PARAMS)
    with raises(
        ValueError, "apply_updates: ['layer1']['b']: the param has shape (4,), the update has shape (2, 4)"
    ):
        mode(gradtx.apply_updates)(PARAMS, {"layer1": {"w": jnp.ones((3, 4)), "b": jnp.ones((2, 4))}})


def test_another_shape_is_never_broadcast_without_params(mode) -> None:
    tx = gradtx.trace(0.9)
    grads = {"layer1": {"w": jnp.ones((3, 4)), "b": jnp.ones(1)}}
    with raises(ValueError, "trace: returned shape (4,) for an update of shape (1,)") as caught:
        mode(tx.update)(grads, tx.init(PARAMS))
    note = "while updating ['layer1']['b']: shapes: the update (1,), trace's trace (4,)"
    assert note in "".join(caught.value.__notes__)


def test_an_imaginary_part_is_never_lost(mode) -> None:
    params = {"w": jnp.ones(2, jnp.complex64)}
    tx = gradtx.adam(1e-3, mu_dtype="bfloat16")
    with raises(TypeError, "scale_by_adam: mu is kept as bfloat16 and would lose its imaginary part"):
        mode(tx.update)(params, tx.init(params))


@pytest.mark.parametrize("tx", [gradtx.adam(1e-3), gradtx.sgd(0.1)], ids=["adam", "sgd"])
def test_integers_cannot_be_optimised(tx, mode) -> None:
    params = {"w": jnp.ones(3), "ids": jnp.arange(3)}
    with raises(TypeError, "['ids'] is int32; only floating-point and complex tensors can be optimised"):
        mode(tx.init)(params)
    with raises(TypeError, "['ids'] is int32"):
        mode(tx.update)(params, tx.init({"w": jnp.ones(3), "ids": jnp.ones(3)}))


def test_a_param_that_was_none_at_init(mode) -> None:
    tx = gradtx.adam(1e-3)
    state = tx.init({"a": jnp.ones(2), "b": None})
    with raises(
        ValueError, "scale_by_adam: ['b']: there is an update, but the state was made without this param"
    ):
        mode(tx.update)({"a": jnp.ones(2), "b": jnp.ones(2)}, state)


# --- selectors --------------------------------------------------------------------------------------


def test_a_pattern_that_matches_nothing() -> None:
    with raises(
        ValueError, "masked: mask: the pattern '.*kernel' matches none of the paths: layer1/b, layer1/w"
    ):
        gradtx.adamw(1e-3, mask=r".*kernel").init(PARAMS)
    with raises(ValueError, "groups: overrides: the pattern 'head/.*' matches none of the paths"):
        gradtx.groups(gradtx.adam(1e-3), {"head/.*": None}).init(PARAMS)


def test_labels_that_leave_params_out() -> None:
    transforms = {"a": gradtx.sgd(0.1), "b": gradtx.adam(0.1)}
    with raises(
        ValueError,
        "partition: param_labels: no pattern matches layer1/b; end with a pattern for the rest, '.*'",
    ):
        gradtx.partition(transforms, {".*w": "a"}).init(PARAMS)
    with raises(ValueError, "partition: no transformation for the label 'c'; there are: 'a', 'b'"):
        gradtx.partition(transforms, {".*w": "a", ".*": "c"}).init(PARAMS)


def test_a_mask_that_is_another_tree() -> None:
    with raises(ValueError, "masked: mask must be a tree like the params, or a prefix of one"):
        gradtx.adamw(1e-3, mask=[True, False]).init(PARAMS)


def test_groups_say_what_they_cannot_do() -> None:
    inner = gradtx.chain(
        gradtx.clip_by_global_norm(1.0), gradtx.adam(1e-3), gradtx.trace(0.9), gradtx.ema(0.9)
    )
    with raises(
        ValueError,
        "groups: '.*': momentum is no number of chain; there are: b1, b2, decay, eps, eps_root",
    ):
        gradtx.groups(inner, {".*": {"momentum": 0.8}})
    with raises(ValueError, "groups: '.*': decay is a number of 2 transformations in chain"):
        gradtx.groups(inner, {".*": {"decay": 0.8}})
    with raises(
        ValueError,
        "groups: '.*': clip_by_global_norm looks across all params, its numbers cannot differ by group",
    ):
        gradtx.groups(inner, {".*": {"max_norm": 2.0}})
    with raises(ValueError, "adam: b1 must lie in [0, 1), got 2.0"):
        gradtx.groups(inner, {".*": {"b1": 2.0}})


# --- what is not what an argument asks for -------------------------------------------------------------


def update(tx: Any, grads: Any = PARAMS, **extra: Any) -> Any:
    return tx.update(grads, tx.init(PARAMS), PARAMS, **extra)


SHORT = {"layer1": {"w": jnp.ones((3, 4))}}
NARROW = {"layer1": {"w": jnp.ones((3, 4)), "b": jnp.ones(1)}}
OPAQUE = gradtx.contrib.sam(gradtx.sgd(0.1), gradtx.sgd(0.1), opaque_mode=True)
SEARCH = gradtx.scale_by_backtracking_linesearch(3)

MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "mask of words": (
        lambda: gradtx.adamw(0.1, mask={"layer1": "w"}).init(PARAMS),
        "masked: mask must say True or False of each param, not 'w' of layer1/b",
    ),
    "mask without a param": (
        lambda: gradtx.masked(gradtx.adam(0.1), {"layer1": {"w": True}}).init(PARAMS),
        "masked: mask must be a tree like the params, or a prefix of one",
    ),
    "mask of three": (
        lambda: gradtx.freeze(lambda a, b, c: True).init(PARAMS),
        "masked: mask: a function must take the params, or (path, leaf); this one takes 3 arguments",
    ),
    "no pattern": (
        lambda: gradtx.freeze("(").init(PARAMS),
        "masked: mask: '(' is no regular expression: missing )",
    ),
    "partition of factories": (
        lambda: gradtx.partition({"a": gradtx.adam}, {".*": "a"}),
        "partition: transforms['a'] is the function adam, not a transformation; call it: adam(...)",
    ),
    "partition of one": (
        lambda: gradtx.partition(gradtx.adam(0.1), {".*": "a"}),
        "partition: transforms must be a dict by label, got",
    ),
    "selective factory": (
        lambda: gradtx.selective_transform(gradtx.sgd, freeze_mask=".*b"),
        "selective_transform: optimizer is the function sgd, not a transformation; call it: sgd(...)",
    ),
    "override": (
        lambda: gradtx.groups(gradtx.adam(0.1), {".*": 0.1}),
        "groups: '.*': must be a dict of numbers, or None to freeze, got 0.1",
    ),
    "overrides": (
        lambda: gradtx.groups(gradtx.adam(0.1), [".*"]),
        "groups: overrides must be a dict by path pattern, got ['.*']",
    ),
    "swapped within groups": (
        lambda: gradtx.groups(gradtx.adam(0.1), {}).update(gradtx.adam(0.1).init(PARAMS), PARAMS, PARAMS),
        "chain: this is not its state: expected a tuple of 2 states, got dict of 1; did you swap grads and",
    ),
    "condition": (
        lambda: gradtx.conditionally_mask(gradtx.sgd(0.1), True),
        "conditionally_mask: should_transform_fn must be a function, got bool: True",
    ),
    "verdict": (
        lambda: update(gradtx.MultiSteps(gradtx.sgd(0.1), 2, should_skip_update_fn=lambda *_: False)),
        "MultiSteps: should_skip_update_fn must return (skip, info), got False",
    ),
    "accumulated key": (
        lambda: gradtx.MultiSteps(gradtx.sgd(0.1), 2).update(
            SHORT, gradtx.MultiSteps(gradtx.sgd(0.1), 2).init(PARAMS)
        ),
        "MultiSteps: updates have no ['layer1']['b'], the state's acc_grads do",
    ),
    "accumulated shape": (
        lambda: gradtx.MultiSteps(gradtx.sgd(0.1), 2).update(
            NARROW, gradtx.MultiSteps(gradtx.sgd(0.1), 2).init(PARAMS)
        ),
        "MultiSteps: ['layer1']['b'] has shape (1,) in updates, (4,) in the state's acc_grads",
    ),
    "remembered shape": (
        lambda: gradtx.scale_by_optimistic_gradient().update(
            NARROW, gradtx.scale_by_optimistic_gradient().init(PARAMS)
        ),
        "scale_by_optimistic_gradient: ['layer1']['b'] has shape (1,) in updates, (4,) in the state's prev",
    ),
    "average of another tree": (
        lambda: gradtx.incremental_update(PARAMS, SHORT, 0.1),
        "incremental_update: old tensors have no ['layer1']['b'], new tensors do",
    ),
    "average of another shape": (
        lambda: gradtx.incremental_update(PARAMS, NARROW, 0.1),
        "incremental_update: ['layer1']['b'] has shape (4,) in new tensors, (1,) in old tensors",
    ),
    "target of another shape": (
        lambda: gradtx.periodic_update(PARAMS, NARROW, 1, 2),
        "periodic_update: ['layer1']['b'] has shape (4,) in new tensors, (1,) in old tensors",
    ),
    "no updates": (
        lambda: gradtx.apply_updates(PARAMS, None),
        "apply_updates: params and updates have different structures",
    ),
    "snapshot": (
        lambda: gradtx.snapshot("norm", 3),
        "snapshot: measure must be a function of the updates, got 3",
    ),
    "measure": (
        lambda: gradtx.measure_with_ema("norm", 0.9),
        "measure_with_ema: measure must be a function of the updates, got 'norm'",
    ),
    "measures": (lambda: gradtx.monitor(gradtx.global_norm), "monitor: measures must be a dict by name, got"),
    "numbers of another state": (
        lambda: gradtx.hyperparams(gradtx.adam(0.1), PARAMS),
        "chain: this is not its state: expected a tuple of 2 states, got dict of 1; make one with init",
    ),
    "seed": (
        lambda: gradtx.noisy_sgd(0.1, key="a").init(PARAMS),
        "add_noise: key must be a seed, an integer, or a JAX key, jax.random.key(0); got 'a'",
    ),
    "values": (
        lambda: update(gradtx.scale_by_polyak(), value=jnp.ones(3)),
        "scale_by_polyak: value must be a real scalar, got shape (3,); take the mean of a batch",
    ),
    "losses": (
        lambda: update(gradtx.contrib.momo(0.1), value="loss"),
        "contrib.momo: value must be a real scalar, got 'loss'",
    ),
    "searched values": (
        lambda: update(SEARCH, value=jnp.ones(3), grad=PARAMS, value_fn=gradtx.global_norm),
        "scale_by_backtracking_linesearch: value must be a real scalar, got shape (3,)",
    ),
    "value_fn": (
        lambda: update(SEARCH, value=1.0, grad=PARAMS, value_fn=1.0),
        "scale_by_backtracking_linesearch: value_fn must be a function, got float: 1.0",
    ),
    "value_fn of a batch": (
        lambda: update(SEARCH, value=1.0, grad=PARAMS, value_fn=lambda params, batch: 0.0),
        "scale_by_backtracking_linesearch: value_fn needs batch: call update(grads, state, params, batch=",
    ),
    "searched grad": (
        lambda: update(SEARCH, value=1.0, grad=SHORT, value_fn=gradtx.global_norm),
        "scale_by_backtracking_linesearch: the tensors of grad have no ['layer1']['b'], params do",
    ),
    "memory": (
        lambda: gradtx.lbfgs(memory_size=2.5),
        "lbfgs: memory_size must be a whole number, got 2.5",
    ),
    "linesearch": (
        lambda: gradtx.lbfgs(linesearch=gradtx.scale_by_zoom_linesearch),
        "lbfgs: linesearch is the function scale_by_zoom_linesearch, not a transformation; call it",
    ),
    "minimizer": (
        lambda: gradtx.minimize(gradtx.global_norm, PARAMS, gradtx.adam),
        "minimize: optimizer is the function adam, not a transformation; call it: adam(...)",
    ),
    "objective": (lambda: gradtx.minimize(3.0, PARAMS), "minimize: fun must be a function, got float: 3.0"),
    "objective of a batch": (
        lambda: gradtx.minimize(lambda x: x, jnp.ones(3)),
        "minimize: what fun returns must be a real scalar, got shape (3,)",
    ),
    "args": (
        lambda: gradtx.minimize(lambda x, a: a * x, 1.0, args=3.0),
        "minimize: args must be a tuple, as in args=(data,), got float",
    ),
    "integers of contrib": (
        lambda: gradtx.contrib.prodigy(0.1).init({"ids": jnp.arange(3)}),
        "contrib.prodigy: ['ids'] is int32; only floating-point and complex tensors can be optimised",
    ),
    "betas": (
        lambda: gradtx.contrib.prodigy(0.1, betas=0.9),
        "contrib.prodigy: betas must be two numbers, got 0.9",
    ),
    "first step": (
        lambda: gradtx.contrib.scale_by_dog(1.0),
        "contrib.scale_by_dog: init_step must be a pair (kind, number), got 1.0",
    ),
    "huber": (
        lambda: gradtx.huber_loss(jnp.ones(3), delta=-1.0),
        "huber_loss: delta must lie in [0, inf], got -1.0",
    ),
    "focus": (
        lambda: gradtx.sigmoid_focal_loss(jnp.ones(3), jnp.ones(3), alpha=2.0),
        "sigmoid_focal_loss: alpha must lie in [0, 1], got 2.0",
    ),
    "unknown dtype": (
        lambda: gradtx.adam(0.1, mu_dtype="bf16"),
        "adam: mu_dtype must be None or a dtype of real or complex numbers, such as 'bfloat16', got 'bf16'",
    ),
    "dtype of integers": (
        lambda: gradtx.trace(0.9, accumulator_dtype=jnp.int8),
        "trace: accumulator_dtype must be None or a dtype of real or complex numbers, such as 'bfloat16'",
    ),
    "no number": (
        lambda: gradtx.adam(None),
        "adam: learning_rate must be a number or a schedule, got None",
    ),
    "no schedule": (
        lambda: gradtx.schedule(3),
        "a factory is made of a function with a name, got int: 3; write one with def",
    ),
    "injected": (
        lambda: gradtx.inject_hyperparams(3),
        "inject_hyperparams: inner_factory must be a transformation, or a function that returns one",
    ),
    "injected dtype": (
        lambda: gradtx.inject_hyperparams(gradtx.adam, hyperparam_dtype="float31")(0.1).init(PARAMS),
        "inject_hyperparams: hyperparam_dtype must be None or a dtype of real or complex numbers",
    ),
    "step of a factory": (
        lambda: gradtx.jit_step(gradtx.adam, PARAMS, (), PARAMS),
        "jit_step: tx is the function adam, not a transformation; call it: adam(...)",
    ),
    "a function in a compiled step": (
        lambda: gradtx.jit_step(gradtx.lbfgs(), PARAMS, (), PARAMS, value_fn=len),
        "jit_step: the extra argument['value_fn'] must be an array or a number, got "
        "builtin_function_or_method: <built-in function len>",
    ),
    "numbers of a factory": (
        lambda: gradtx.hyperparams(gradtx.adam, ()),
        "hyperparams: tx is the function adam, not a transformation; call it: adam(...)",
    ),
    "growing step": (
        lambda: gradtx.rprop(0.1, eta_minus=1.5),
        "rprop: eta_minus must lie in (0, 1), got 1.5",
    ),
    "shrinking step": (
        lambda: gradtx.rprop(0.1, eta_plus=0.5),
        "rprop: eta_plus must lie in [1, inf], got 0.5",
    ),
    "lion without a momentum": (
        lambda: gradtx.lion(0.1, b2=0.0),
        "lion: b2 must lie in (0, 1), got 0.0",
    ),
    "no steps": (
        lambda: gradtx.contrib.muon(0.1, ns_steps=0),
        "muon: ns_steps must lie in [1, inf], got 0",
    ),
    "half a step": (
        lambda: gradtx.contrib.muon(0.1, ns_steps=1.5),
        "muon: ns_steps must be a whole number, got 1.5",
    ),
    "gradients uphill": (
        lambda: update(OPAQUE, grad_fn=3),
        "contrib.sam: grad_fn must be a function of params, got 3",
    ),
    "other gradients uphill": (
        lambda: update(OPAQUE, grad_fn=lambda params, i: SHORT),
        "contrib.sam: what grad_fn returned have no ['layer1']['b'], the updates do",
    ),
    "axis": (
        lambda: gradtx.softmax_cross_entropy(jnp.ones((2, 3)), jnp.ones((2, 3)), axis=2),
        "softmax_cross_entropy: axis 2 is none of an array of shape (2, 3)",
    ),
    "axis of labels": (
        lambda: gradtx.softmax_cross_entropy_with_integer_labels(jnp.ones(3), 1, axis=(0, 1)),
        "softmax_cross_entropy_with_integer_labels: axis 1 is none of an array of shape (3,)",
    ),
    "axis of vectors": (
        lambda: gradtx.cosine_distance(jnp.ones(3), jnp.ones((2, 3)), axis=-3),
        "cosine_distance: axis -3 is none of an array of shape (2, 3)",
    ),
    "axis of triplets": (
        lambda: gradtx.losses.triplet_margin_loss(*3 * [jnp.ones((2, 3))], axis=2),
        "triplet_margin_loss: axis 2 is none of an array of shape (2, 3)",
    ),
    "axis of divergences": (
        lambda: gradtx.kl_divergence(jnp.ones(3), jnp.ones(3), axis=1),
        "kl_divergence: axis 1 is none of an array of shape (3,)",
    ),
    "temperature": (
        lambda: gradtx.ntxent(jnp.ones((2, 3)), jnp.zeros(2, int), temperature=0.0),
        "ntxent: temperature must lie in (0, inf), got 0.0",
    ),
    "smoothing": (
        lambda: gradtx.smooth_labels(jnp.ones(3), 1.5),
        "smooth_labels: alpha must lie in [0, 1], got 1.5",
    ),
    "maximum": (
        lambda: gradtx.losses.make_fenchel_young_loss(3),
        "make_fenchel_young_loss: max_fun must be a function, got int: 3",
    ),
    "period": (
        lambda: gradtx.restarting(gradtx.adam(0.1), 0),
        "restarting: period must lie in [1, inf], got 0",
    ),
    "blocks": (
        lambda: gradtx.adam_mini(0.1, blocks={".*w": "2 4"}).init(PARAMS),
        "scale_by_adam_mini: blocks at layer1/w: for each axis of (3, 4) there must be a word, how many "
        "blocks there are along it: a whole number that divides its length, or *, as many as it is long; got",
    ),
    "blocks of nothing": (
        lambda: gradtx.amos(0.1, blocks={".*kernel": "1 *"}).init(PARAMS),
        "scale_by_amos: blocks: the pattern '.*kernel' matches none of the paths: layer1/b, layer1/w",
    ),
    "scale": (
        lambda: gradtx.amos(0.1, eta={".*w": 0.0}).init(PARAMS),
        "scale_by_amos: eta at layer1/w must be above 0, got 0.0",
    ),
    "hessian": (lambda: update(gradtx.adahessian(0.1)), "scale_by_adahessian needs hessian: call update("),
    "samples": (
        lambda: gradtx.hutchinson_diagonal(gradtx.global_norm, PARAMS, jax.random.key(0), 0),
        "hutchinson_diagonal: samples must be at least 1, got 0",
    ),
    "channel": (
        lambda: update(gradtx.tangential(gradtx.trace(0.9), channel_axis=2)),
        "tangential: channel_axis 2 is no axis of a tensor of shape (3, 4)",
    ),
    "perturbed integers": (
        lambda: gradtx.perturbations.make_perturbed_fun(jnp.sum)(jax.random.key(0), {"a": jnp.arange(3)}),
        "make_perturbed_fun: x must be floating, got int32 at ['a']",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_says_whose_it_is_and_what_to_do(call, message) -> None:
    with raises((TypeError, ValueError), message):
        call()


# --- configs ----------------------------------------------------------------------------------------


def test_configs_are_read_by_registered_names_only() -> None:
    with raises(
        ValueError,
        "from_config: 'amsgrd' is not registered; did you mean amsgrad",
        "Known: ",
        "sgd",
    ):
        gradtx.from_config({"call": "amsgrd", "learning_rate": 0.1})
    with raises(ValueError, "from_config: 'os.system' is not registered"):
        gradtx.from_config({"call": "os.system", "command": "true"})
    with raises(TypeError, "adam: got an unexpected keyword argument 'lr'; its arguments are: learning_rate"):
        gradtx.from_config({"call": "adam", "lr": 0.1})
    with raises(ValueError, 'from_config: expected a dict with "call"'):
        gradtx.from_config({"optimizer": "adam"})


def deep(levels: int, x: Any, wrap: Any) -> Any:
    for _ in range(levels):
        x = wrap(x)
    return x


ADAM = {"call": "adam", "learning_rate": 0.1}
DAMAGED = {
    "name": ({"call": ["adam"]}, 'from_config: expected a registered name as "call", got ['),
    "name of a part": ({**ADAM, "b1": {"call": 3}}, 'adam: b1: expected a registered name as "call", got 3'),
    "no call": ([ADAM], 'from_config: expected a dict with "call": a registered name, got [{'),
    "tuple": ({**ADAM, "b1": {"tuple": 3}}, "adam: b1: expected a list as 'tuple', got 3"),
    "items": ({**ADAM, "b1": {"items": [[1]]}}, "adam: b1: expected pairs of a key and a value as 'items'"),
    "key": ({**ADAM, "b1": {"items": [[[1], 2]]}}, "adam: b1: expected a key that has a hash, got [1]"),
    "complex": ({**ADAM, "b1": {"complex": [1]}}, "adam: b1: expected two numbers as 'complex', got [1]"),
    "ragged": ({**ADAM, "b1": {"array": [1, [2]], "dtype": "int32"}}, "adam: b1: expected 'array': numbers"),
    "no dtype": ({**ADAM, "b1": {"array": 1}}, "adam: b1: expected 'array': numbers, and 'dtype': its name"),
    "bad dtype": (
        {**ADAM, "b1": {"array": 1, "dtype": "flot32"}},
        "adam: b1: expected 'array': numbers, and",
    ),
    "objects": (
        {**ADAM, "b1": {"array": 1, "dtype": "O"}},
        "adam: b1: expected the dtype of numbers, got 'O'",
    ),
    "random key": ({**ADAM, "b1": {"array": 1, "key": "fry"}}, "adam: b1: expected 'array': numbers, and"),
    "text": ({**ADAM, "b1": "0.9"}, "adam: b1 must be a number or a schedule, got '0.9'"),
    "members": ({"call": "chain", "transformations": {"a": 1}}, "chain: transformations: expected a list"),
    "argument": ({**ADAM, 3: 4}, "adam: got an unexpected keyword argument '3'; its arguments are"),
    "flag": ({**ADAM, "nesterov": "yes"}, "adam: nesterov must be True or False, got 'yes'"),
    "pair": (
        {"call": "torch.optim.adam", "betas": 3},
        "from_config: torch.optim.adam: these arguments do not",
    ),
    "pairs": (
        {"call": "piecewise_constant_schedule", "init_value": 1, "boundaries_and_scales": [1]},
        "from_config: piecewise_constant_schedule: these arguments do not work",
    ),
    "static": (
        {"call": "inject_hyperparams", "inner_factory": ADAM, "static_args": 3, "schedules": {}}
        | {"hyperparam_dtype": None},
        "inject_hyperparams: static_args must be names of arguments, got 3",
    ),
    "deep calls": (
        deep(3000, ADAM, lambda x: {"call": "chain", "transformations": [x]}),
        "from_config: chain: a config this deep cannot be read",
    ),
    "deep lists": (
        {"call": "adamw", "learning_rate": 0.1, "mask": deep(3000, True, lambda x: [x])},
        "from_config: adamw: a config this deep cannot be read",
    ),
}


@pytest.mark.parametrize(("config", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_config_names_its_entry(config: Any, message: str) -> None:
    with raises((TypeError, ValueError), message):
        gradtx.from_config(config)


def test_a_factory_whose_name_is_anothers_has_no_config() -> None:
    def made(factor: float) -> Any:
        @gradtx.leafwise
        def times():
            return lambda grad: factor * grad

        return times()

    first, second = made(1.0), made(10.0)
    with raises(
        TypeError, "to_config: times: another function has been registered as 'tests.test_errors.test"
    ):
        gradtx.to_config(gradtx.chain(first))
    assert gradtx.from_config(gradtx.to_config(second)) == second != first
    for value in (first, second):
        with pytest.raises((AttributeError, pickle.PicklingError), match="times"):
            pickle.dumps(value)


def test_a_function_has_no_form_as_data() -> None:
    with raises(TypeError, "to_config: adam: learning_rate is <function", "which has no form as data"):
        gradtx.to_config(gradtx.adam(lambda count: 0.1))


# --- states by name ---------------------------------------------------------------------------------


def test_a_state_of_another_optimizer_loads_nothing() -> None:
    adam, other = gradtx.adam(1e-3), gradtx.sgd(0.1, momentum=0.9)
    state = adam.init(PARAMS)
    flat = {**gradtx.state_dict(other, other.init(PARAMS)), "scale_by_adam/count": jnp.zeros(2, jnp.int32)}
    with raises(
        ValueError,
        "load_state_dict: this is not a state of adam(",
        "missing: scale_by_adam/mu/layer1/b",
        "unexpected: trace/trace/layer1/b, trace/trace/layer1/w",
        "of another shape or kind: scale_by_adam/count: int32[2], the state has int32[]",
    ):
        gradtx.load_state_dict(adam, state, flat)


def test_what_fits_is_loaded_with_a_warning() -> None:
    adam = gradtx.adam(1e-3)
    flat = {"scale_by_adam/count": 7, "scale_by_adam/mu/layer1/b": jnp.ones(4), "x": 1.0}
    with pytest.warns(UserWarning, match="(?s)not everything was loaded.*missing: .*unexpected: x"):
        state = gradtx.load_state_dict(adam, adam.init(PARAMS), flat, strict=False)
    assert state[0].count == 7 and state[0].mu["layer1"]["b"][0] == 1 and state[0].nu["layer1"]["b"][0] == 0


# --- through the clients ----------------------------------------------------------------------------


def test_errors_reach_the_user_of_nnx() -> None:
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, gradtx.chain(gradtx.sgd(0.1), scale_by_value()), wrt=nnx.Param)
    grads = nnx.grad(lambda model: jnp.sum(model(jnp.ones(2))))(model)
    with raises(TypeError, "scale_by_value needs value"):
        optimizer.update(model, grads)
    optimizer.update(model, grads, value=jnp.asarray(0.5))
    with raises(ValueError, "masked: mask: the pattern '.*weight' matches none of the paths: bias, kernel"):
        nnx.Optimizer(model, gradtx.adamw(0.1, mask=".*weight"), wrt=nnx.Param)


def test_errors_reach_the_user_of_train_state() -> None:
    model = linen.Dense(3)
    params = model.init(jax.random.key(0), jnp.ones(2))["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=gradtx.adamw(1e-3))
    grads = {**params, "bias": jnp.ones(5)}
    with raises(ValueError, "['bias']: the update has shape (5,), the param has shape (3,)"):
        state.apply_gradients(grads=grads)
    with raises(ValueError, "updates have no ['bias'], params do"):
        jax.jit(lambda s, g: s.apply_gradients(grads=g))(state, {"kernel": grads["kernel"]})


# --- rules of users ---------------------------------------------------------------------------------


class MomentumState(NamedTuple):
    trace: gradtx.Params


def rule(update: Any, init: Any = lambda param: dict(trace=jnp.zeros_like(param))) -> Any:
    @gradtx.leafwise(state=MomentumState)
    def momentum():
        return init, update

    return gradtx.chain(gradtx.scale(2.0), momentum(), gradtx.scale(-0.1))


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (lambda grad, trce: (grad, dict(trace=grad)), "trce=...); or did you mean its slot trace?"),
        (
            lambda grad, trace: None,
            "momentum: update must return the new update, or the new update and a dict",
        ),
        (lambda grad, trace: (dict(trace=trace), grad), "in this order; it returned (dict, "),
        (lambda grad, trace: (grad, trace), "momentum: update must return the new update, or"),
        (
            lambda grad, trace: (grad, dict(trac=trace)),
            "momentum: update returned the slots ['trac']; its state",
        ),
        (lambda grad, trace: (grad, dict(trace=trace[:1])), "momentum: trace has shape (2,), and shape (1,)"),
        (lambda grad, trace: (grad[:1], dict(trace=trace)), "momentum: returned shape (1,) for an update of"),
        (lambda grad, trace: (0.5, dict(trace=trace)), "momentum: returned shape () for an update of"),
        (lambda grad, trace: (1j * grad, dict(trace=trace)), "momentum: returned complex numbers for an"),
    ],
)
@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_what_a_rule_did_wrong_is_said(mode: Any, update: Any, message: str) -> None:
    tx, params = rule(update), {"w": jnp.ones(2)}
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        mode(tx.update)(params, tx.init(params))


def test_what_an_init_did_wrong_is_said() -> None:
    update = lambda grad, trace: (grad, dict(trace=trace))  # noqa: E731
    with pytest.raises(TypeError, match="momentum: init must return a dict of its slots, got"):
        rule(update, lambda param: param).init({"w": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"momentum: init returned the slots \['mu'\]; its state has"):
        rule(update, lambda param: dict(mu=param)).init({"w": jnp.ones(2)})
    with pytest.raises(TypeError, match="momentum: its function must return init, update"):
        rule(3)


def test_what_a_rule_of_the_whole_tree_did_wrong_is_said() -> None:
    def sums(*functions: Any) -> Any:
        return gradtx.treewise(lambda: functions if len(functions) > 1 else functions[0])()

    params, init = {"a": jnp.ones(2), "b": jnp.ones(2)}, gradtx.init_empty_state
    with pytest.raises(TypeError, match=": update must return the new updates and the new state"):
        sums(init, lambda updates, state: updates).update(params, gradtx.EmptyState())
    for functions in [(lambda updates, state: (updates, state),), (init, lambda *x: x, lambda: {})]:
        with pytest.raises(TypeError, match=": its function must return init, update; without a state"):
            sums(*functions)


@pytest.mark.parametrize("decorator", [gradtx.leafwise, gradtx.treewise], ids=["leafwise", "treewise"])
@pytest.mark.parametrize("state", [dict, tuple, gradtx.EmptyState()], ids=repr)
def test_the_class_of_a_state_is_one_of_named_tuples(decorator: Any, state: Any) -> None:
    with pytest.raises(TypeError, match=f"{decorator.__name__}: state must be a class of named tuples, got"):
        decorator(state=state)


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_an_error_in_a_rule_shows_the_rule_and_none_of_the_engine(mode: Any) -> None:
    def update(grad, trace):
        return grad @ jnp.ones((7, 7)), dict(trace=trace)

    tx, params = rule(update), {"a": {"w": jnp.ones((2, 3))}}
    with pytest.raises(TypeError) as caught:
        mode(tx.update)(params, tx.init(params))
    notes = caught.value.__notes__
    assert "in the rule momentum" in notes
    assert any(note.startswith("while updating ['a']['w']: shapes: the update (2, 3)") for note in notes)
    names = [step.name for step in traceback.extract_tb(caught.value.__traceback__)]
    files = [step.filename for step in traceback.extract_tb(caught.value.__traceback__)]
    # Of gradtx there is `update`, which the user called.
    assert "update" in names and sum("/gradtx/core/" in file for file in files) <= 1


@pytest.mark.parametrize("kind", ["wrapped", "partial", "compiled", "callable"])
def test_a_rule_may_be_any_function(kind: str) -> None:
    def update(grad, trace, scale=1.0):
        return scale * grad + trace, dict(trace=trace + grad)

    class Callable:
        def __call__(self, grad, trace):
            return update(grad, trace)

    @functools.wraps(update)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return update(*args, **kwargs)

    made = {
        "wrapped": wrapped,
        "partial": functools.partial(update, scale=1.0),
        "compiled": jax.jit(update),
        "callable": Callable(),
    }
    tx, params = rule(made[kind]), {"w": jnp.ones(2)}
    state = tx.init(params)
    for expected in (-0.2, -0.4):
        updates, state = tx.update(params, state, params)
        assert jnp.allclose(updates["w"], expected)


def test_decorators_work_with_and_without_parentheses() -> None:
    def double():
        return lambda grad: 2 * grad

    def halve():
        return gradtx.init_empty_state, lambda updates, state: (jax.tree.map(lambda u: u / 2, updates), state)

    for leafwise in (gradtx.leafwise, gradtx.leafwise()):
        for treewise in (gradtx.treewise, gradtx.treewise()):
            tx = gradtx.chain(leafwise(double)(), treewise(halve)())
            updates, _ = tx.update({"w": jnp.ones(2)}, tx.init({"w": jnp.ones(2)}))
            assert jnp.array_equal(updates["w"], jnp.ones(2))


def test_recipes_take_positional_only_and_any_keywords() -> None:
    @gradtx.recipe
    def mine(learning_rate, /, momentum=0.9, *, nesterov=False, **rest):
        return gradtx.chain(gradtx.trace(momentum, nesterov), gradtx.adam(learning_rate, **rest))

    tx = mine(0.5, b1=0.25, b2=gradtx.constant_schedule(0.5))
    assert repr(tx).startswith("mine(0.5, momentum=0.9, nesterov=False, b1=0.25, b2=constant_schedule(")
    assert eval(repr(tx), {**vars(gradtx), "mine": mine}) == tx
    assert (
        gradtx.from_config(gradtx.to_config(tx))
        == tx
        != tx.replace(b1=0.5)
        == mine(0.5, b1=0.5, b2=gradtx.constant_schedule(0.5))
    )
    params = {"w": jnp.ones(2)}
    updates, _ = tx.update(params, tx.init(params), params)
    assert jnp.allclose(updates["w"], -0.5)
    assert gradtx.hyperparams(tx, tx.init(params)).next["b1"] == 0.25
    with pytest.raises(TypeError, match="adam: got an unexpected keyword argument 'b3'"):
        mine(0.5, b3=0.1)


MASKS = [
    lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
    lambda params, least=2: jax.tree.map(lambda x: x.ndim >= least, params),
    lambda params, *rest: jax.tree.map(lambda x: x.ndim > 1, params),
    lambda params, *, least=2, **rest: jax.tree.map(lambda x: x.ndim >= least, params),
    functools.partial(lambda least, params: jax.tree.map(lambda x: x.ndim >= least, params), 2),
    functools.partial(lambda params, least: jax.tree.map(lambda x: x.ndim >= least, params), least=2),
    lambda path, leaf: leaf.ndim > 1,
    lambda path, leaf, least=2: leaf.ndim >= least,
    lambda path, leaf, *rest, **more: leaf.ndim > 1,
    functools.partial(lambda least, path, leaf: leaf.ndim >= least, 2),
]


@pytest.mark.parametrize("mask", MASKS)
def test_mask_functions_are_read_by_what_they_must_be_given(mask: Any) -> None:
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    for tx in (
        gradtx.adamw(0.5, weight_decay=0.5, mask=mask),
        gradtx.partition({True: gradtx.adamw(0.5, weight_decay=0.5), False: gradtx.sgd(0.1)}, mask),
    ):
        updates, _ = tx.update(zeros, tx.init(params), params)
        assert float(updates["kernel"][0, 0]) == -0.25 and float(updates["bias"][0]) == 0.0


def test_a_mask_that_must_be_given_keywords_is_refused() -> None:
    with pytest.raises(TypeError, match="masked: mask: a function must take the params, or"):
        gradtx.masked(gradtx.scale(2.0), lambda params, *, least: params).init({"w": jnp.ones(2)})
