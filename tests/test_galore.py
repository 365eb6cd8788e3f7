"""GaLore: against Optax, and what the table cannot say: stacks of matrices, complex ones, mistakes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import contrib
from tests import laws

SHAPES = {"wide": (3, 5), "tall": (6, 2), "bias": (4,), "heads": (4, 2, 3), "norm": (2, 3)}


tensors = partial(laws.normal, SHAPES)


def by_tree(library):
    numbers = library.contrib.GaLoreDimensionNumbers
    return {
        "wide": numbers(1, 0),
        "tall": numbers(),
        "bias": None,
        "heads": numbers(0, (-2, 2)),
        "norm": None,
    }


OPTIONS = {
    "adam": lambda x: {},
    "lion": lambda x: {"scale": 0.25, "base_optimizer": x.scale_by_lion()},
    "chain": lambda x: {"base_optimizer": x.chain(x.clip_by_global_norm(1.0), x.trace(0.9))},
    "rank above all": lambda x: {"rank": 100},
    "decay": lambda x: {"weight_decay": 0.1, "mask": {name: name == "tall" for name in SHAPES}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_galore_goes_on_from_a_state_of_optax(options, x64) -> None:
    """In float64 within 1e-12, updates and states, in the subspaces that Optax chose, in float32."""
    ours, theirs = (
        x.contrib.galore(0.1, **{"rank": 2, "weight_dimension_numbers": by_tree(x), **options(x)})
        for x in (gradtx, optax)
    )
    step, other_step, params = jax.jit(ours.update), jax.jit(theirs.update), tensors(0)
    updates, state = other_step(tensors(1), theirs.init(params), params)
    first, own = step(tensors(1), ours.init(params), params)
    assert str(jax.tree.structure(own)) == str(jax.tree.structure(state))
    laws.assert_close(
        first, updates, rtol=1e-5, atol=1e-6
    )  # the error of a subspace in float32: 1e-7 by gaps
    for i in range(2, 12):
        params = gradtx.apply_updates(params, updates)
        mine, after = step(tensors(i), state, params)
        updates, state = other_step(tensors(i), state, params)
        laws.assert_close((mine, after), (updates, state), rtol=1e-12, atol=1e-14)


def test_subspaces_change_when_those_of_optax_do(x64) -> None:
    """RMSprop does not see the signs of singular vectors, which are free; 1e-4: 1e-7 by gaps, four times."""
    ours, theirs = (x.contrib.scale_by_galore(2, 3, base_optimizer=x.scale_by_rms()) for x in (gradtx, optax))
    step, other_step, params = jax.jit(ours.update), jax.jit(theirs.update), tensors(0)
    state, other_state = ours.init(params), theirs.init(params)
    for i in range(12):
        before = state.projector["tall"]
        updates, state = step(tensors(i + 1), state, params)
        other, other_state = other_step(tensors(i + 1), other_state, params)
        assert bool(jnp.all(before == state.projector["tall"])) == (i % 3 > 0)
        laws.assert_close(updates, other, rtol=1e-4, atol=1e-5)


AXES = {
    "bias": None,
    "heads": contrib.GaLoreDimensionNumbers((1, 2), 0),
    "norm|tall": True,
    ".*": contrib.GaLoreDimensionNumbers(-1, -2),
}
CHOSEN = {
    "patterns": AXES,
    "function": lambda path, leaf: next(axes for key, axes in AXES.items() if path in key or key == ".*"),
    "one for all": contrib.GaLoreDimensionNumbers(-2, -1),
    "default": None,
}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.complex128])
@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=list(CHOSEN))
def test_at_full_rank_nothing_is_lost(chosen, dtype, x64) -> None:
    """P·Pᴴ·G = G, whatever the axes; within 1e-13, a few roundings of 1e-16."""
    tx = contrib.scale_by_galore(100, 2, base_optimizer=gradtx.identity(), weight_dimension_numbers=chosen)
    params, grads = tensors(0, dtype), tensors(1, dtype)
    if dtype == jnp.complex128:
        grads = jax.tree.map(lambda x, y: x + 1j * y, grads, tensors(2))
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(grads, state, params)
        laws.assert_close(updates, grads, rtol=1e-13, atol=1e-13)


def test_other_axes_count_matrices(x64) -> None:
    """A stack of layers is the layers one by one: to the last digits, in float64 within 1e-14."""
    layers = [jnp.asarray(np.random.default_rng(i).normal(size=(4, 5))) for i in range(6)]
    stack, lists = jnp.stack(layers[:3]), layers[:3]
    axes = contrib.GaLoreDimensionNumbers(1, 2)
    together, apart = contrib.galore(0.1, 2, weight_dimension_numbers=axes), contrib.galore(0.1, 2)
    state, states = together.init(stack), apart.init(lists)
    assert gradtx.tree.get(state, "projector").shape == (3, 5, 2)
    assert gradtx.tree.get(state, "mu").shape == (3, 4, 2)
    for grads in (layers[3:], layers[1:4]):
        updates, state = together.update(jnp.stack(grads), state, stack)
        each, states = apart.update(grads, states, lists)
        laws.assert_close(updates, jnp.stack(each), rtol=1e-14, atol=1e-14)


def test_singular_vectors_are_found_once_per_shape_and_only_when_due(stacking) -> None:
    params = {f"layer{i}": jnp.ones((4, 6)) for i in range(6)} | {
        f"out{i}": jnp.ones((6, 4)) for i in range(2)
    }
    tx = contrib.galore(0.1, 2)
    text = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
    assert text.count("stablehlo.case") == 1
    assert text.count("lapack_sgesdd") == 2


def test_extra_arguments_reach_the_optimizer() -> None:
    tx = contrib.scale_by_galore(2, base_optimizer=contrib.reduce_on_plateau(0.5, patience=1))
    params = {"w": jnp.ones((3, 4))}
    state = tx.init(params)
    with pytest.raises(TypeError, match=r"reduce_on_plateau needs value: call update\(.*, value=\.\.\.\)"):
        tx.update(params, state, params)
    sizes = []
    for _ in range(3):
        updates, state = tx.update(params, state, params, value=1.0)
        sizes.append(float(updates["w"][0, 0]))
    np.testing.assert_allclose(sizes, [1.0, 0.5, 0.25], rtol=1e-6)


def test_names_in_a_state_do_not_depend_on_galore() -> None:
    tx, params = contrib.galore(0.1, 2), {"w": jnp.ones((3, 4))}
    assert set(gradtx.state_dict(tx, tx.init(params))) == {
        "contrib.scale_by_galore/count",
        "contrib.scale_by_galore/projector/w",
        "scale_by_adam/count",
        "scale_by_adam/mu/w",
        "scale_by_adam/nu/w",
    }


PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}


def starting(axes):
    return contrib.scale_by_galore(1, weight_dimension_numbers=axes).init(PARAMS)


NUMBERS = contrib.GaLoreDimensionNumbers
MISTAKES = [
    (lambda: contrib.galore(0.1, 0), ValueError, r"galore: rank must lie in \[1, inf\], got 0"),
    (lambda: contrib.galore(0.1, 2.5), ValueError, "galore: rank must be a whole number, got 2.5"),
    (lambda: contrib.galore(0.1, 2, 0), ValueError, r"update_proj_gap must lie in \[1, inf\], got 0"),
    (
        lambda: contrib.galore(0.1, 2, base_optimizer=gradtx.adam),
        TypeError,
        "base_optimizer is the function adam, not a transformation; call it",
    ),
    (
        lambda: contrib.galore(0.1, 2, base_optimizer=gradtx.adamw(0.1, weight_decay=0.1)),
        ValueError,
        "base_optimizer must do without params, .* but add_decayed_weights needs them; put that behind",
    ),
    (
        lambda: starting({"b": NUMBERS(), "w": None}),
        ValueError,
        r"scale_by_galore: \['b'\]: a tensor of shape \(3,\) is no matrix",
    ),
    (
        lambda: starting({"w": NUMBERS(0, 2)}),
        ValueError,
        r"\['w'\]: contrib.GaLoreDimensionNumbers\(0, 2\) names an axis that a tensor of shape \(2, 3\) ",
    ),
    (
        lambda: starting({"w": NUMBERS(1, -1)}),
        ValueError,
        r"\['w'\]: contrib.GaLoreDimensionNumbers\(1, -1\) names an axis of a tensor of shape \(2, 3\) twice",
    ),
    (
        lambda: starting({"w": 3}),
        TypeError,
        "weight_dimension_numbers must give dimension numbers, True or None, got 3",
    ),
    (lambda: starting({"v": NUMBERS()}), ValueError, "the pattern 'v' matches none of the paths: b, w"),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES, ids=[m for _, _, m in MISTAKES])
def test_mistakes(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()
