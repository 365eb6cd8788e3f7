"""gradtx.contrib: options without a row of their own, mistakes, and what differs from Optax on purpose."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import contrib
from gradtx.arrays import errors
from tests import laws
from tests.beside_optax import assert_equal_steps

MATRICES = {"wide": (3, 5), "tall": (6, 2), "bias": (4,), "heads": (4, 2, 3), "stack": (2, 3, 4)}


tensors = partial(laws.normal, MATRICES)


def by_tree(library):
    numbers = library.contrib.MuonDimensionNumbers
    return {
        "wide": numbers(1, 0),
        "tall": numbers(),
        "bias": None,
        "heads": numbers(0, (1, 2)),
        "stack": numbers(-2, -1),
    }


# --- muon -------------------------------------------------------------------------------------------

OPTIONS = [
    {"preconditioning": "spectral"},
    {"preconditioning": "aol", "consistent_rms": 0.2},
    {"preconditioning": "schatten", "ns_steps": 3},
    {"ns_coeffs": "dion", "adaptive": True, "nesterov": False},
    {"adam_learning_rate": 0.01, "adam_weight_decay": 0.1, "adam_b1": 0.8},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(map(str, options.values())))
def test_muon_on_any_rank_equals_optax(options, x64) -> None:
    assert_equal_steps(
        lambda x: x.contrib.muon(0.1, muon_weight_dimension_numbers=by_tree(x), **options), tree=tensors
    )


HEADS = contrib.MuonDimensionNumbers(0, (1, 2))
CHOSEN = {
    "patterns": {"bias": None, "heads|stack": HEADS, ".*": True},
    "function": lambda path, leaf: HEADS if leaf.ndim > 2 else leaf.ndim == 2,
    "function of the whole": lambda params: {
        name: HEADS if name in ("heads", "stack") else name != "bias" for name in params
    },
}


@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=list(CHOSEN))
def test_muon_axes_are_chosen_as_masks_are(chosen) -> None:
    tree = {"wide": True, "tall": True, "bias": None, "heads": HEADS, "stack": HEADS}
    params, grads = tensors(0, jnp.float32), tensors(1, jnp.float32)
    one, other = (contrib.muon(0.1, muon_weight_dimension_numbers=axes) for axes in (chosen, tree))
    updates, _ = one.update(grads, one.init(params), params)
    laws.assert_close(updates, other.update(grads, other.init(params), params)[0], rtol=0, atol=0)


def test_muon_runs_once_per_shape() -> None:
    params = {f"layer{i}": jnp.ones((4, 6)) for i in range(6)}
    tx = contrib.muon(0.1)
    text = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
    # Three products for each of five steps, whatever the number of layers.
    assert text.count("stablehlo.dot_general") == 15


def test_each_path_is_written_once_to_check_axes(monkeypatch) -> None:
    """And not once per param: for a thousand of them that took seconds of every trace."""
    written, keystr = [], errors.keystr
    monkeypatch.setattr(errors, "keystr", lambda path: written.append(path) or keystr(path))
    params = {f"layer{i}": jnp.ones((2, 3)) for i in range(50)}
    for tx in (contrib.scale_by_muon(), contrib.scale_by_galore()):
        written.clear()
        tx.init(params)
        assert 50 <= len(written) <= 100


def test_muon_prints_its_axes() -> None:
    tx = contrib.muon(0.1, muon_weight_dimension_numbers={".*": contrib.MuonDimensionNumbers(0, (1, 2))})
    assert eval(repr(tx), vars(gradtx)) == tx


# --- schedule-free ----------------------------------------------------------------------------------


def test_params_to_evaluate_with_are_the_average(x64) -> None:
    """The mean of z₁, z₂, … for a constant learning rate, also from within a chain."""
    tx = gradtx.chain(gradtx.clip(1e3), contrib.schedule_free_sgd(0.1, b1=0.7))
    params = {"w": jnp.asarray([1.0, -2.0])}
    state, z, seen = tx.init(params), params["w"], []
    for i in range(5):
        grad = jnp.asarray([0.5, 0.25 * i])
        updates, state = tx.update({"w": grad}, state, params)
        params = gradtx.apply_updates(params, updates)
        z = z - 0.1 * grad
        seen.append(z)
        found = contrib.schedule_free_eval_params(state, params)["w"]
        np.testing.assert_allclose(found, sum(seen) / len(seen), rtol=1e-14)
        np.testing.assert_array_equal(gradtx.evaluation_params(state, params)["w"], found)


# --- mistakes ---------------------------------------------------------------------------------------

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
MISTAKES = [
    (lambda: contrib.dog(1.0, ("guess", 1.0)), ValueError, "init_step begins with one of distance"),
    (lambda: contrib.dog(1.0, ("distance", -1.0)), ValueError, "must be at least 0, got -1.0"),
    (lambda: contrib.prodigy(betas=(0.9, 1.0)), ValueError, r"betas must lie in \[0, 1\), got 1.0"),
    (lambda: contrib.dadapt_adamw(betas=(-0.1, 0.9)), ValueError, r"betas must lie in \[0, 1\), got -0.1"),
    (lambda: contrib.schedule_free(gradtx.sgd, 0.1), TypeError, "call it: sgd"),
    (lambda: contrib.schedule_free_sgd(b1=0.0), ValueError, r"b1 must lie in \(0, 1\], got 0.0"),
    (lambda: contrib.schedule_free_eval_params((), PARAMS), ValueError, "it holds 0"),
    (
        lambda: contrib.muon(0.1, "polar"),
        ValueError,
        "no coefficients: 'polar'; there are: standard, quintic, dion",
    ),
    (lambda: contrib.muon(0.1, (1.0, 2.0)), ValueError, "must be three numbers"),
    (lambda: contrib.muon(0.1, preconditioning="none"), ValueError, "must be one of frobenius"),
    (lambda: contrib.scale_by_muon().init(PARAMS), ValueError, r"\['b'\] has shape \(3,\) and is no matrix"),
    (
        lambda: contrib.scale_by_muon(weight_dimension_numbers=contrib.MuonDimensionNumbers(0, -2)).init(
            {"w": PARAMS["w"]}
        ),
        ValueError,
        r"names an axis of a tensor of shape \(2, 3\) twice",
    ),
    (
        lambda: contrib.muon(0.1, muon_weight_dimension_numbers={"v": True}).init(PARAMS),
        ValueError,
        "the pattern 'v' matches none",
    ),
    (lambda: contrib.scale_by_cocob().init({"w": jnp.ones(2, jnp.complex64)}), RuntimeError, "complex"),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES, ids=[m for _, _, m in MISTAKES])
def test_mistakes(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()


# --- where Optax differs ----------------------------------------------------------------------------


def test_normalize_of_zeros_is_zero() -> None:
    zeros = {"w": jnp.zeros(3)}
    assert np.isnan(optax.contrib.normalize().update(zeros, optax.EmptyState())[0]["w"]).all()
    np.testing.assert_array_equal(contrib.normalize().update(zeros, gradtx.EmptyState())[0]["w"], 0)


def test_no_gradient_gives_no_nan() -> None:
    """‖s‖₁ = 0 is Optax's 0 / 0."""
    params, zeros = {"w": jnp.ones(3)}, {"w": jnp.zeros(3)}
    for make in (lambda x: x.contrib.prodigy(), lambda x: x.contrib.dadapt_adamw()):
        ours, theirs = make(gradtx), make(optax)
        _, after = ours.update(zeros, ours.init(params), params)
        _, other = theirs.update(zeros, theirs.init(params), params)
        assert float(after.estim_lr) == pytest.approx(1e-6) and np.isnan(other.estim_lr)


def test_madgrad_is_optax_but_for_the_root_of_the_count(x64) -> None:
    params = laws.tree(0, jnp.float64)
    (after, _), (other, _) = (
        laws.run(library.contrib.madgrad(0.1, weight_decay=0.01), params, [laws.tree(i) for i in range(1, 5)])
        for library in (gradtx, optax)
    )
    laws.assert_close(after, other, rtol=1e-7, atol=1e-8)  # √2 in float32 is off by 2e-8 of itself
    with pytest.raises(AssertionError):
        laws.assert_close(after, other, rtol=1e-10, atol=1e-11)


def test_second_moment_of_ademamix_is_kept_in_float32() -> None:
    params = {"w": jnp.ones(3)}
    state, other = (
        library.contrib.scale_by_ademamix(mu_dtype="bfloat16").init(params) for library in (gradtx, optax)
    )
    assert (state.m1["w"].dtype, state.nu["w"].dtype) == (jnp.bfloat16, jnp.float32)
    assert other.nu["w"].dtype == jnp.bfloat16
