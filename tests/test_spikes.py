"""Guards against spikes: which steps they leave out or shorten, and how they stand beside other wrappers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from tests.laws import assert_close

LOSSES = [1.0, 1.2, 0.9, 1.1, 9.0, 1.0, 0.1, 1.05, 30.0, 1.0]
SPIKES = [4, 8]
"""Those that are more than 3 standard deviations above the mean of the last six."""


def guarded_run(tx: gradtx.GradientTransformation, losses: Any, **beside: Any) -> tuple[Any, Any, list[int]]:
    """Params and state after a step for each loss, and at which of these the params have not moved."""
    params, still = {"w": jnp.zeros(2)}, []
    state = tx.init(params)
    for step, loss in enumerate(losses):
        grads = {"w": jnp.array([1.0, float(step)])}
        updates, state = tx.update(grads, state, params, value=loss, **beside)
        if not np.any(updates["w"]):
            still.append(step)
        params = gradtx.apply_updates(params, updates)
    return params, state, still


def of_loss(inner: gradtx.GradientTransformation) -> gradtx.GradientTransformation:
    return gradtx.skip_spikes(inner, 3.0, 6, "value")


def without_spikes(inner: gradtx.GradientTransformation) -> Any:
    """The params if those steps had never been."""
    params = {"w": jnp.zeros(2)}
    state = inner.init(params)
    for step in range(len(LOSSES)):
        if step not in SPIKES:
            updates, state = inner.update({"w": jnp.array([1.0, float(step)])}, state, params)
            params = gradtx.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    "inner", [gradtx.adamw(0.1), gradtx.sgd(0.1, momentum=0.9)], ids=["adamw", "momentum"]
)
def test_a_spike_of_the_loss_leaves_no_trace(inner: Any, x64) -> None:
    params, state, still = guarded_run(of_loss(inner), LOSSES)
    assert still == SPIKES and state.total_skipped == 2 and not state.last_skipped
    assert_close(params, without_spikes(inner), rtol=0, atol=0)
    assert state.values.count == len(LOSSES)  # those of skipped steps are in the window too
    assert sorted(state.values.numbers.tolist()) == pytest.approx(sorted(LOSSES[-6:]))


def test_by_the_definition() -> None:
    """Against NumPy, over losses and norms at random; nothing before half a window is full."""
    rng = np.random.default_rng(0)
    losses, sizes = rng.exponential(size=(2, 60)) + 1
    update = jax.jit(gradtx.skip_spikes(gradtx.sgd(1.0), 1.5, 8).update)
    state, found = gradtx.skip_spikes(gradtx.sgd(1.0), 1.5, 8).init(jnp.zeros(1)), []
    for loss, size in zip(losses, sizes, strict=True):
        updates, state = update(jnp.array([size]), state, value=loss)
        found.append(bool(updates[0] == 0))

    def is_spike(xs: Any, t: int) -> bool:
        before = xs[max(t - 8, 0) : t]
        return t >= 4 and xs[t] - np.mean(before) > 1.5 * np.std(before, ddof=1)

    assert found == [is_spike(losses, t) or is_spike(sizes, t) for t in range(60)]
    assert 5 < sum(found) == state.total_skipped


def test_a_level_that_stays_is_soon_no_spike() -> None:
    _, state, still = guarded_run(of_loss(gradtx.sgd(1.0)), [1.0, 1.1, 0.9, 1.0, 1.1, 0.9, *[5.0] * 6])
    assert still == [6] and state.total_skipped == 1


def test_numbers_that_are_all_alike_are_no_spikes() -> None:
    _, _, still = guarded_run(of_loss(gradtx.sgd(1.0)), [0.1] * 20)
    assert still == []


def test_what_is_not_finite_is_not_in_the_window() -> None:
    """An infinite loss is a spike; NaN is left to others, and the step goes on."""
    tx = of_loss(gradtx.sgd(1.0))
    losses = [1.0, 1.1, 0.9, 1.0, np.inf, np.nan, 1.0, 9.0]
    _, state, still = guarded_run(tx, losses)
    assert still == [4, 7] and state.values.count == 6
    assert np.all(np.isfinite(state.values.numbers))


# --- beside other wrappers ----------------------------------------------------------------------------

TRIPLE = [loss for loss in LOSSES for _ in range(3)]


def test_with_apply_if_finite_on_either_side() -> None:
    losses = [*LOSSES[:3], np.nan, *LOSSES[3:]]
    for tx in (
        gradtx.apply_if_finite(of_loss(gradtx.sgd(1.0)), 5),
        of_loss(gradtx.apply_if_finite(gradtx.sgd(1.0), 5)),
    ):
        params = {"w": jnp.zeros(2)}
        state, still = tx.init(params), []
        for step, loss in enumerate(losses):
            updates, state = tx.update({"w": jnp.full(2, 1.0 + 0 * loss)}, state, params, value=loss)
            if not np.any(updates["w"]):
                still.append(step)
        assert still == [3, 5, 9]
        assert gradtx.tree.get(state, "total_skipped") == 2
        assert gradtx.tree.get(state, "total_notfinite") == 1


def test_within_multi_steps_steps_are_left_out() -> None:
    tx = gradtx.MultiSteps(of_loss(gradtx.sgd(1.0)), 3)
    _, state, still = guarded_run(tx, TRIPLE)
    assert state.gradient_step == len(LOSSES)
    assert [step for step in range(len(TRIPLE)) if step not in still] == [
        3 * i + 2 for i in range(len(LOSSES)) if i not in SPIKES
    ]
    assert gradtx.tree.get(state, "total_skipped") == 2


def test_around_multi_steps_gradients_are_left_out() -> None:
    """As if their batches had not been seen: the next ones take their place."""
    tx = of_loss(gradtx.MultiSteps(gradtx.sgd(1.0), 2))
    params, state, still = guarded_run(tx, LOSSES)
    assert [step for step in range(len(LOSSES)) if step not in still] == [1, 3, 6, 9]
    seen = [[1.0, float(i)] for i in range(len(LOSSES)) if i not in SPIKES]
    assert_close(params["w"], -np.sum(seen, 0) / 2)
    assert state.inner_state.gradient_step == 4


def test_within_loss_scaling_it_sees_what_is_finite_and_not_scaled() -> None:
    tx = gradtx.dynamic_loss_scale(gradtx.skip_spikes(gradtx.sgd(1.0), 3.0, 6, "norm"), 1024.0)
    params = {"w": jnp.zeros(2)}
    state, still = tx.init(params), []
    for step, size in enumerate([*LOSSES[:3], np.inf, *LOSSES[3:]]):
        updates, state = tx.update({"w": jnp.array([0.0, 1024.0 / 2 ** (step > 3) * size])}, state, params)
        if not np.any(updates["w"]):
            still.append(step)
    assert still == [3, 5, 9] and state.loss_scale == 512
    guard = state.inner_state
    assert guard.total_skipped == 2 and guard.norms.count == len(LOSSES)
    assert guard.norms.numbers.max() == 30
    with pytest.raises(ValueError, match="skip_spikes may not be around dynamic_loss_scale"):
        gradtx.skip_spikes(gradtx.dynamic_loss_scale(gradtx.sgd(0.1)))


def test_counters_have_names() -> None:
    tx = gradtx.skip_spikes(gradtx.adam(0.1), window=4)
    state = tx.init({"w": jnp.zeros(2)})
    names = {name for name in gradtx.state_dict(tx, state) if name.startswith("skip_spikes/")}
    assert names == {
        f"skip_spikes/{name}"
        for name in (
            "last_skipped", "total_skipped", "values/numbers", "values/count", "norms/numbers", "norms/count",
        )
    }  # fmt: skip
    assert gradtx.hyperparams(tx, state).next["threshold"] == 6


def test_bad_input() -> None:
    make, sgd = gradtx.skip_spikes, gradtx.sgd(0.1)
    for wrong, message in (
        (dict(window=0), r"skip_spikes: window must lie in \[2, inf\], got 0"),
        (dict(window=2.5), "skip_spikes: window must be a whole number, got 2.5"),
        (dict(threshold=0.0), r"skip_spikes: threshold must lie in \(0, inf\], got 0.0"),
        (dict(watch="loss"), "skip_spikes: watch must be 'both', 'value' or 'norm', got 'loss'"),
    ):
        with pytest.raises(ValueError, match=message):
            make(sgd, **wrong)
    x, state = jnp.zeros(2), make(sgd).init(jnp.zeros(2))
    with pytest.raises(TypeError, match="skip_spikes needs value"):
        make(sgd).update(x, state, x)
    with pytest.raises(TypeError, match=r"skip_spikes: value must be a real scalar, got shape \(2,\)"):
        make(sgd).update(x, state, x, value=x)
    with pytest.raises(ValueError, match=r"clip_by_usual_norm: decay must lie in \[0, 1\), got 1.0"):
        gradtx.clip_by_usual_norm(decay=1.0)
