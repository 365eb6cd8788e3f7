"""Numbers relative to the optimizer's own, in groups."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx import relative
from tests.laws import assert_close, assert_same_layout, run

SCHEDULE = gradtx.linear_schedule(0.5, 0.1, 4)


def by_depth(depth: int) -> float:
    return 0.5 ** (2 - depth)


def by_fan_in(leaf: Any) -> float:
    return 2 / leaf.shape[0]


def net(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    make = lambda *shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    return {
        "blocks": [{"w": make(4, 3)}, {"w": make(4, 3)}],
        "rows": make(3, 2),
        "head": make(2),
        "free": make(2),
    }


def grouped(inner: Any) -> Any:
    overrides = {
        r"blocks/(\d+)/w": {"learning_rate": relative(by_depth), "weight_decay": 0.0},
        "rows": {"learning_rate": relative(np.array([1.0, 0.5, 0.25]))},
        "head": {"learning_rate": relative(by_fan_in), "b1": relative(0.5)},
    }
    return gradtx.groups(inner, overrides)


@pytest.mark.parametrize("rate", [0.3, SCHEDULE])
def test_each_param_moves_as_with_its_own_number(x64, rate) -> None:
    params, grads = net(0), [net(1), net(2), net(3)]
    tx = grouped(gradtx.adamw(rate, b1=0.8, weight_decay=0.1))
    both, state = run(tx, params, grads)
    assert_close(jax.jit(lambda: run(tx, params, grads))()[0], both)

    def alone(factor, param, of, **changes):
        own = (lambda count: factor * SCHEDULE(count)) if callable(rate) else factor * rate
        inner = gradtx.adamw(own, **{"b1": 0.8, "weight_decay": 0.1, **changes})
        return run(inner, of(param), [of(grad) for grad in grads])[0]

    for i, factor in enumerate((0.25, 0.5)):
        assert_close(
            both["blocks"][i]["w"],
            alone(factor, params, lambda x, i=i: x["blocks"][i]["w"], weight_decay=0.0),
        )
    for i, factor in enumerate((1.0, 0.5, 0.25)):
        assert_close(both["rows"][i], alone(factor, params, lambda x, i=i: x["rows"][i]))
    assert_close(both["head"], alone(1.0, params, lambda x: x["head"], b1=0.4))
    assert_close(both["free"], alone(1.0, params, lambda x: x["free"]))
    assert_same_layout(state, gradtx.adamw(rate).init(params))
    assert (
        eval(
            repr(tx), {**vars(gradtx), "jax": jax, "numpy": np, "by_depth": by_depth, "by_fan_in": by_fan_in}
        )
        == tx
    )


def test_updates_without_params_know_shapes() -> None:
    tx = gradtx.groups(gradtx.sgd(0.5), {"w": {"learning_rate": relative(by_fan_in)}})
    params = {"w": jnp.ones((4, 1))}
    updates, _ = tx.update(params, tx.init(params))
    np.testing.assert_array_equal(updates["w"], -0.25 * np.ones((4, 1)))


def test_hyperparams_multiply_out() -> None:
    tx, params = grouped(gradtx.adamw(0.5)), net(0)
    numbers = gradtx.hyperparams(tx, tx.init(params), params).next
    expected = {
        "learning_rate": 0.5,
        "rows/learning_rate": [0.5, 0.25, 0.125],
        "head/b1": 0.45,
        "head/learning_rate": 0.5,
        "blocks/0/w/learning_rate": 0.125,
        "blocks/1/w/learning_rate": 0.25,
        r"blocks/(\d+)/w/weight_decay": 0.0,
    }
    for name, x in expected.items():
        np.testing.assert_allclose(numbers[name], x, rtol=1e-6)
    without = gradtx.hyperparams(tx, tx.init(params)).next
    assert numbers.keys() - without.keys() == {
        "head/learning_rate", "blocks/0/w/learning_rate", "blocks/1/w/learning_rate"
    }  # fmt: skip


def test_a_hundred_groups_are_the_program_of_one() -> None:
    """The equations of the update are those of no groups, and another base compiles nothing."""
    params = {f"b{i}": jnp.ones(3) for i in range(148)}
    overrides = {f"b{i}": {"learning_rate": relative(1 - i / 200)} for i in range(100)}
    made = lambda rate: gradtx.groups(gradtx.adamw(rate), overrides)  # noqa: E731
    counts = [
        len(jax.make_jaxpr(tx.update)(params, tx.init(params), params).eqns)
        for tx in (gradtx.adamw(0.5), made(0.5))
    ]
    assert counts[0] == counts[1]

    traces = []

    @jax.jit
    def step(tx, grads, state, params):
        traces.append(tx)
        return tx.update(grads, state, params)

    for rate in (0.5, 0.25):
        tx = made(jnp.asarray(rate))
        updates, _ = step(tx, params, tx.init(params), params)
        np.testing.assert_allclose(updates["b99"], -rate * (1 - 99 / 200), rtol=1e-3)
    assert len(traces) == 1


PARAMS = {"a": {"0": jnp.ones((2, 2)), "x": jnp.ones((2, 2))}, "b": jnp.ones(3)}


def told(overrides: Any, inner: Any = None, labels: Any = None) -> Any:
    return gradtx.groups(inner or gradtx.adamw(0.1), overrides, labels).init(PARAMS)


BAD = {
    "a pattern that matches nothing": (
        lambda: told({r"c/(\d+)": {"learning_rate": relative(by_depth)}}),
        r"groups: overrides: the pattern 'c/(\\d+)' matches none of the paths: a/0, a/x, b",
    ),
    "a pattern that captures nothing": (
        lambda: told({r"a/\d+": {"learning_rate": relative(by_depth)}}),
        r"groups: 'a/\\d+': learning_rate: the function of relative takes depth, and the pattern captures 0",
    ),
    "what is captured is no number": (
        lambda: told({r"a/(.+)": {"learning_rate": relative(by_depth)}}),
        "groups: 'a/(.+)': learning_rate: the pattern captured 'x' of a/x, which is no number",
    ),
    "a label": (
        lambda: told({"deep": {"learning_rate": relative(by_depth)}}, labels=lambda path, leaf: "deep"),
        "groups: 'deep': learning_rate: the function of relative takes depth, and a/0 was chosen by a label",
    ),
    "rows that are not there": (
        lambda: told({"b": {"learning_rate": relative(np.ones(2))}}),
        "groups: 'b': learning_rate: relative gave factors of shape [2] for b, whose shape is [3]",
    ),
    "no number": (
        lambda: told({"b": {"learning_rate": relative(lambda path: "half")}}),
        "groups: 'b': learning_rate: relative gave 'half' for b; it must give a number",
    ),
    "a factor that is none": (lambda: relative("half"), "relative: factor must be a number, an array"),
    "of what is no number": (
        lambda: told({"b": {"momentum": relative(0.5)}}, gradtx.sgd(0.1)),
        "groups: 'b': momentum is None in sgd; relative needs a number there",
    ),
    "of a number that is off": (
        lambda: told({"b": {"weight_decay": relative(0.5)}}, gradtx.torch.optim.adam()),
        "groups: 'b': weight_decay is 0 in torch.optim.adam, which leaves that part out",
    ),
    "of no number of the optimizer": (
        lambda: told({"b": {"rate": relative(0.5)}}), "groups: 'b': rate is no number of adamw"
    ),
    "of slots": (
        lambda: told({"b": {"initial_accumulator_value": relative(0.5)}}, gradtx.adagrad(0.1)),
        "groups: 'b': initial_accumulator_value: scale_by_rss makes its slots of it",
    ),
    "of slots, by another name": (
        lambda: told({"b": {"learning_rate": relative(0.5)}}, gradtx.rprop(0.1)),
        "groups: 'b': learning_rate: scale_by_rprop makes its slots of it",
    ),
    "of what is refreshed, by a helper": (
        lambda: told({"b": {"eps": relative(0.5)}}, gradtx.scale_by_shampoo()),
        "groups: 'b': eps: scale_by_shampoo makes its slots of it",
    ),
    "across params": (
        lambda: told({"b": {"max_norm": relative(0.5)}}, gradtx.clip_by_global_norm(1.0)),
        "groups: 'b': clip_by_global_norm looks across all params",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told(case) -> None:
    make, message = BAD[case]
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        make()


def test_shapes_of_shards_are_not_those_of_params() -> None:
    tx = gradtx.groups(gradtx.adam(0.1), {"b": {"learning_rate": relative(by_fan_in)}})
    with pytest.raises(ValueError, match=r"sharding.zero: groups looks at a whole tensor"):
        gradtx.sharding.zero(tx, "x")
