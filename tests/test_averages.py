"""Averages of the params as stages of a chain: their numbers, where they stand, and what reads them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_swa_avg_fn

import gradtx
from gradtx.arrays.types import Params
from tests.laws import assert_close, tree

STEPS = 12
RNG = np.random.default_rng(0)
START = RNG.normal(size=(3, 2))
GRADS = [RNG.normal(size=(3, 2)) for _ in range(STEPS)]


def trained(tx: gradtx.GradientTransformation) -> list[tuple[np.ndarray, np.ndarray]]:
    """After each update, the params and those to evaluate with."""
    params, found = {"w": jnp.asarray(START)}, []
    state = tx.init(params)
    for grad in GRADS:
        updates, state = tx.update({"w": jnp.asarray(grad)}, state, params)
        params = gradtx.apply_updates(params, updates)
        found.append((np.asarray(params["w"]), np.asarray(gradtx.evaluation_params(state, params)["w"])))
    return found


def with_average(stage: gradtx.GradientTransformation) -> list[tuple[np.ndarray, np.ndarray]]:
    return trained(gradtx.chain(gradtx.sgd(0.1), stage))


@pytest.mark.parametrize(
    ("decay", "torchs"),
    [(0.9, get_ema_avg_fn(0.9)), (None, get_swa_avg_fn())],
    ids=["ema", "swa"],
)
@pytest.mark.parametrize(("start", "every"), [(0, 1), (4, 3)])
def test_numbers_are_those_of_torch(decay: float | None, torchs: Any, start: int, every: int, x64) -> None:
    """(PyTorch's default for SWA, ``multi_avg_fn``, has the weight 1 / n in float32.)"""
    model = torch.nn.Linear(2, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.asarray(START))
    average, optimizer = AveragedModel(model, avg_fn=torchs), torch.optim.SGD(model.parameters(), 0.1)
    ours = with_average(gradtx.average_params(decay, start=start, every=every))
    for step, (grad, (params, found)) in enumerate(zip(GRADS, ours, strict=True), 1):
        model.weight.grad = torch.asarray(grad)
        optimizer.step()
        if step > start and (step - start) % every == 0:
            average.update_parameters(model)
        expected = average.module.weight if average.n_averaged else model.weight
        np.testing.assert_allclose(params, model.weight.detach(), rtol=1e-12)
        np.testing.assert_allclose(found, expected.detach(), rtol=1e-12)


def test_a_warm_up_is_that_of_timm(x64) -> None:
    """`ModelEmaV3`, updated with the number of steps so far: decay 0, then 1 − (1 + step/gamma)^−power."""
    average = None
    for count, (params, found) in enumerate(
        with_average(gradtx.average_params(gradtx.ema_warmup(0.6, 2.0, 0.5)))
    ):
        decay = min(0.6, 1 - (1 + count / 2.0) ** -0.5)
        average = params if average is None else decay * average + (1 - decay) * params
        np.testing.assert_allclose(found, average, rtol=1e-12)


@pytest.mark.parametrize(("start", "every"), [(0, 1), (2, 4)])
def test_the_latest_are_averaged(start: int, every: int, x64) -> None:
    taken: list[np.ndarray] = []
    ours = with_average(gradtx.average_latest_params(3, start=start, every=every))
    for step, (params, found) in enumerate(ours, 1):
        if step > start and (step - start) % every == 0:
            taken.append(params)
        np.testing.assert_allclose(found, np.mean(taken[-3:], 0) if taken else params, rtol=1e-12)


def test_between_the_times_the_latest_are_not_touched() -> None:
    """All that is made of them is made in the branch of a conditional."""
    stage = gradtx.average_latest_params(2, every=2)
    state = stage.init(jnp.zeros(7))
    jaxpr = jax.make_jaxpr(stage.update)(jnp.zeros(7), state, jnp.zeros(7))
    for latest in jaxpr.jaxpr.invars[3:5]:
        assert [eqn.primitive.name for eqn in jaxpr.eqns if latest in eqn.invars] == ["cond"]


WHERE = {
    "accumulated": lambda tx: gradtx.MultiSteps(tx, 3),
    "guarded": lambda tx: gradtx.apply_if_finite(tx, 3),
    "masked": lambda tx: gradtx.masked(tx, {"w": True, "v": False}),
    "in groups": lambda tx: gradtx.groups(tx, {"v": None}),
}


@pytest.mark.parametrize("where", WHERE)
def test_averages_are_found_wherever_they_are(where: str) -> None:
    """And of updates that are left out, or are those of some params only, there is no average."""
    tx = WHERE[where](gradtx.chain(gradtx.sgd(1.0), gradtx.average_params()))
    params: Params = {"w": jnp.zeros(2), "v": jnp.zeros(3)}
    state, reached = tx.init(params), []
    for step, size in enumerate((1.0, 2.0, np.nan, 3.0, 4.0, 5.0)):
        if where != "guarded" and np.isnan(size):
            size = 6.0
        before = params["w"]
        updates, state = tx.update(jax.tree.map(lambda x, size=size: x * 0 + size, params), state, params)
        params = gradtx.apply_updates(params, updates)
        if not np.array_equal(before, params["w"]):
            reached.append(params["w"])
        found = gradtx.evaluation_params(state, params)
        assert_close(found["w"], np.mean(reached, 0) if reached else params["w"])
        if where in ("masked", "in groups"):
            assert found["v"] is params["v"] or np.array_equal(found["v"], params["v"])
        assert len(reached) == {"accumulated": (step + 1) // 3, "guarded": step + (step < 2)}.get(
            where, step + 1
        )


def test_params_of_half_precision_have_an_average_of_full() -> None:
    tx = gradtx.chain(gradtx.sgd(1.0), gradtx.round_stochastically(), gradtx.average_params(0.99))
    params = {"w": jnp.ones(1000, jnp.bfloat16)}
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update({"w": jnp.full(1000, 1e-3, jnp.bfloat16)}, state, params)
        params = gradtx.apply_updates(params, updates)
    (average,) = (part.average["w"] for part in state if hasattr(part, "average"))
    assert average.dtype == jnp.float32 and gradtx.evaluation_params(state, params)["w"].dtype == jnp.bfloat16
    assert (
        1 - 4e-3 < float(jnp.mean(params["w"], dtype="float32")) < 1 - 1e-3
    )  # the rounding by chance is left


@pytest.mark.parametrize("kept", ["bfloat16", gradtx.formats.companded()], ids=["bfloat16", "codes"])
def test_an_average_may_be_stored_in_fewer_bytes(kept: Any) -> None:
    tx = gradtx.chain(gradtx.sgd(0.1), gradtx.average_params(0.9))
    found = []
    for each in (tx, gradtx.stored(tx, {"average": kept}, min_size=0)):
        params = {"w": jnp.zeros(64)}
        state = each.init(params)
        for grad in (1.0, 2.0, 3.0):
            updates, state = each.update({"w": jnp.full(64, grad)}, state, params)
            params = gradtx.apply_updates(params, updates)
        found.append(gradtx.evaluation_params(state, params)["w"])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-2)
    assert abs(float(found[0][0] - params["w"][0])) > 0.1  # which are not just the params


def test_groups_may_have_decays_of_their_own() -> None:
    stage = gradtx.average_params(0.9)
    tx = gradtx.groups(stage, {"v": {"decay": 0.5}})
    params, grad = {"w": jnp.zeros(2), "v": jnp.zeros(2)}, {"w": jnp.ones(2), "v": jnp.ones(2)}
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(grad, state, params)
        params = gradtx.apply_updates(params, updates)
    assert_close(gradtx.evaluation_params(state, params), {"w": jnp.full(2, 1.1), "v": jnp.full(2, 1.5)})


def test_a_param_without_a_gradient_is_averaged_too() -> None:
    stage, params = gradtx.average_params(0.5), tree(0)["dense"]
    _, state = stage.update({**params, "bias": None}, stage.init(params), params)
    assert_close(state.average, {"bias": params["bias"], "kernel": 2 * params["kernel"]})


def test_what_is_no_count_is_refused() -> None:
    for make, message in (
        (lambda: gradtx.average_params(1.5), r"average_params: decay must lie in \[0, 1\], got 1.5"),
        (lambda: gradtx.average_params(every=0), r"average_params: every must lie in \[1, inf\], got 0"),
        (lambda: gradtx.average_params(start=-1), r"average_params: start must lie in \[0, inf\], got -1"),
        (
            lambda: gradtx.average_latest_params(0),
            r"average_latest_params: window must lie in \[1, inf\], got 0",
        ),
        (
            lambda: gradtx.average_latest_params(2.5),
            "average_latest_params: window must be a whole number, got 2.5",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="average_params needs params"):
        stage = gradtx.average_params()
        stage.update(jnp.zeros(2), stage.init(jnp.zeros(2)))
    tx = gradtx.flatten(gradtx.average_params())
    state, params = tx.init({"w": jnp.zeros(2)}), {"w": jnp.zeros(2)}
    with pytest.raises(ValueError, match="evaluation_params: params and what AverageParamsState knows"):
        gradtx.evaluation_params(state, params)
