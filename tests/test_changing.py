"""A state in mid-training: reset in part, resized with its params, moved to another optimizer."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradtx
from gradtx.core.layout import is_coded
from gradtx.tree import Rows, moved, reset, resize
from tests.laws import assert_close, run
from tests.table import ROWS, recipes_of, variations

PARAMS = {"table": jnp.arange(12.0).reshape(4, 3) + 1, "head": jnp.ones(2)}
GRADS = [jax.tree.map(lambda x, i=i: jnp.sin(x + i), PARAMS) for i in range(3)]


def begun(tx: Any, params: Any) -> Any:
    """A state whose numbers are not those of init."""

    def more(x: Any) -> Any:
        if is_coded(x):
            return x.encode(jnp.ones_like(x.decode()))
        return x + 1 if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(more, tx.init(params), is_leaf=is_coded)


EXTRA = variations(ROWS) | recipes_of(ROWS)
"""Rows whose slots are those of another one."""


def rows() -> Iterator[Any]:
    for row in ROWS:
        if not row.draws:
            yield pytest.param(row, id=row.name, marks=[pytest.mark.extra] * (row.name in EXTRA))


@pytest.mark.parametrize("row", list(rows()))
def test_what_changes_nothing_is_the_identity(row) -> None:
    tx = row.make(gradtx)
    state = begun(tx, PARAMS)
    fresh, report = reset(tx, state, PARAMS)
    assert_close(fresh, tx.init(PARAMS))
    assert not report.carried
    same, report = moved(tx, state, tx, PARAMS)
    assert_close(same, state)
    assert not (report.made or report.dropped)
    change = {"table": Rows(range(4))}
    kept = resize(tx, state, PARAMS, change)
    assert_close([kept.params, kept.state], [PARAMS, state])


ELEMENTWISE = {
    "adam": gradtx.adam(0.1),
    "momentum": gradtx.sgd(0.1, momentum=0.9),
    "adagrad": gradtx.adagrad(0.1),
    "lion": gradtx.lion(0.1),
    "groups": gradtx.groups(gradtx.adam(0.1), {"table": {"learning_rate": gradtx.relative(0.5)}}),
    "partition": gradtx.partition({"a": gradtx.adam(0.1), "b": gradtx.sgd(0.1)}, {"table": "a", "head": "b"}),
    "masked": gradtx.masked(gradtx.adam(0.1), "table"),
    "accumulated": gradtx.MultiSteps(gradtx.adam(0.1), 2),
    "in torch's layout": gradtx.torch.optim.adam(),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_resized_goes_on_as_the_small_one(name) -> None:
    """Rows that are kept go on as if the others had never been; new ones begin as params of their own."""
    tx, indices = ELEMENTWISE[name], np.array([2, 0])
    params, state = run(tx, PARAMS, GRADS[:2])
    small = lambda tree: {**tree, "table": tree["table"][indices]}  # noqa: E731
    cut = resize(tx, state, params, {"table": Rows(indices)})
    expected = run(tx, small(PARAMS), [small(x) for x in GRADS[:2]])
    assert_close([cut.params, cut.state], list(expected))
    updates, _ = tx.update(small(GRADS[2]), cut.state, cut.params)
    whole, _ = tx.update(GRADS[2], state, params)
    assert_close(updates, small(whole))
    grown = resize(tx, state, params, {"table": Rows([0, -1, 1, 2, 3], new=7.0)})
    np.testing.assert_array_equal(grown.params["table"][1], np.full(3, 7.0))
    back = resize(tx, grown.state, grown.params, {"table": Rows([0, 2, 3, 4])})
    assert_close([back.params, back.state], [params, state])


def test_slots_in_codes_and_factored_ones_follow() -> None:
    tx = gradtx.stored(gradtx.adam(0.1), {"mu": gradtx.formats.companded()}, min_size=1)
    params, state = run(tx, PARAMS, GRADS[:2])
    cut = resize(tx, state, params, {"table": Rows([2, 0])})
    mu = lambda state: gradtx.tree.get(state, "mu")["table"].decode()  # noqa: E731
    np.testing.assert_allclose(mu(cut.state), mu(state)[jnp.array([2, 0])], rtol=1e-2)

    tx = gradtx.scale_by_factored_rms(min_dim_size_to_factor=2)
    wide = {"table": jnp.arange(32.0).reshape(4, 8)}
    _, state = tx.update(wide, tx.init(wide), wide)
    cut = resize(tx, state, wide, {"table": Rows([2, 0])})
    for name in ("v_row", "v_col"):
        old, new = (gradtx.tree.get(x, name)["table"] for x in (state, cut.state))
        np.testing.assert_allclose(new, old[jnp.array([2, 0])] if old.shape == (4,) else old)
    with pytest.raises(ValueError, match="tree.resize: scale_by_factored_rms/v_row/table of shape"):
        resize(tx, state, wide, {"table": Rows([0, 1, 2, 3, 0, 1, 2, 3, -1])})


def test_reset_of_some() -> None:
    tx = gradtx.chain(gradtx.clip(9.0), gradtx.masked(gradtx.adam(0.1), {"table": True, "head": True}))
    _, state = run(tx, PARAMS, GRADS[:2])
    again, report = reset(tx, state, PARAMS, "head")
    mu, before = gradtx.tree.get(again, "mu"), gradtx.tree.get(state, "mu")
    assert_close([mu["head"], mu["table"]], [jnp.zeros(2), before["table"]])
    assert report.made == ("scale_by_adam/mu/head", "scale_by_adam/nu/head")
    assert "scale_by_adam/count" in report.carried


def test_slots_in_several_trees_are_those_of_their_params() -> None:
    tx = gradtx.chain(gradtx.sgd(0.1), gradtx.average_latest_params(2))
    params = [jnp.ones((4, 3)), jnp.ones((4, 3))]  # whose paths are numbers, as those of the trees
    params, state = run(tx, params, [params] * 2)
    again, report = reset(tx, state, params, "1")
    name = "average_latest_params/latest"
    assert report.made == (f"{name}/0/1", f"{name}/1/1")
    assert gradtx.bytes_of(tx, params).by_path == {"": 8, "0": 96, "1": 96}
    cut = resize(tx, state, params, {"1": Rows([2, 0])})
    shapes = [x.shape for x in jax.tree.leaves(gradtx.tree.get(cut.state, "latest"))]
    assert shapes == [(4, 3), (2, 3)] * 2


@pytest.mark.parametrize(
    "make", [lambda params: params, lambda params: nnx.as_pure(params)], ids=["in boxes", "bare"]
)
def test_slots_that_flax_takes_apart_keep_their_form(make: Any) -> None:
    tx = gradtx.stored(gradtx.sgd(0.1, momentum=0.9), {"trace": gradtx.formats.companded()}, min_size=0)
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, nnx.state(model, nnx.Param))
    state, params = make((optimizer.opt_state, nnx.state(model, nnx.Param)))
    assert reset(tx, state, params, "kernel").report.made == ("trace/trace/kernel",)
    assert resize(tx, state, params, {"kernel": Rows([0])}).report.carried == (
        "trace/trace/bias",
        "trace/trace/kernel",
    )
    plain, report = moved(tx, state, gradtx.sgd(0.1, momentum=0.9), params)
    assert not (report.made or report.dropped)
    assert float(jnp.abs(nnx.as_pure(plain)[0].trace["kernel"]).max()) > 0


def test_moved_to_another_optimizer() -> None:
    params, state = run(gradtx.adam(0.1), PARAMS, GRADS[:2])
    for to in (gradtx.adamw(0.3), gradtx.nadam(0.1), gradtx.chain(gradtx.clip(1.0), gradtx.adam(0.1))):
        there, report = moved(gradtx.adam(0.1), state, to, params)
        assert_close(gradtx.tree.get(there, "nu"), gradtx.tree.get(state, "nu"))
        assert int(gradtx.tree.get(there, "count")) == 2 and not (report.made or report.dropped)
    there, _ = moved(gradtx.adam(0.1), state, gradtx.torch.optim.adam(), params)
    assert {int(x) for x in jax.tree.leaves(gradtx.tree.get(there, "count"))} == {2}
    coded = gradtx.stored(gradtx.adam(0.1), {"mu": gradtx.formats.companded()}, min_size=1)
    there, _ = moved(gradtx.adam(0.1), state, coded, params)
    back, _ = moved(coded, there, gradtx.adam(0.1), params)
    np.testing.assert_allclose(
        gradtx.tree.get(back, "mu")["table"], gradtx.tree.get(state, "mu")["table"], atol=0.05
    )
    _, report = moved(gradtx.adam(0.1), state, gradtx.sgd(0.1, momentum=0.9), params)
    assert (
        report.made == ("trace/trace/head", "trace/trace/table") and "scale_by_adam/count" in report.dropped
    )
    assert str(report).startswith("carried: nothing\nmade anew: trace/trace/head")
    # A momentum by the name of a second moment, of which a root is taken.
    sm3 = gradtx.sm3(0.1)
    params, state = run(sm3, PARAMS, [jax.tree.map(jnp.negative, PARAMS)])
    _, report = moved(sm3, state, gradtx.adam(0.1), params)
    assert "scale_by_adam/nu/head" in report.made and "scale_by_sm3/nu/head" in report.dropped


BAD = {
    "no such row": (Rows([0, 4]), "tree.resize: table has 4 rows along axis 0, and no row 4"),
    "no such axis": (Rows([0], axis=2), "tree.resize: table of shape [4, 3] has no axis 2"),
    "no indices": (Rows([0.5]), "tree.resize: table: indices must be a list of whole numbers"),
    "no Rows": ([0, 1], "tree.resize: 'table': must be a gradtx.tree.Rows, got [0, 1]"),
    "new rows of another size": (
        Rows([0, -1], new=np.ones((2, 3))), "tree.resize: table: new has shape [2, 3], and the"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_sizes_that_do_not_fit(case) -> None:
    rows, message = BAD[case]
    tx = gradtx.adam(0.1)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        resize(tx, tx.init(PARAMS), PARAMS, {"table": rows})


def test_a_state_of_others_and_patterns_of_nothing() -> None:
    tx = gradtx.adam(0.1)
    with pytest.raises(ValueError, match="tree.reset: which: the pattern 'tail' matches none of the paths"):
        reset(tx, tx.init(PARAMS), PARAMS, "tail")
    with pytest.raises(
        ValueError, match=r"tree.reset: scale_by_adam/mu/head has shape \[2\], and init makes \[3\]"
    ):
        reset(tx, tx.init(PARAMS), {**PARAMS, "head": jnp.ones(3)})
    with pytest.raises(ValueError, match="tree.reset: the state has not the slots that init makes"):
        reset(tx, tx.init(PARAMS), {"table": PARAMS["table"]})


def begun_on(place: Any) -> tuple[Any, Any]:
    """Params and a state of Adam's after two steps."""
    params = jax.device_put({"table": jnp.arange(48.0).reshape(16, 3), "head": jnp.ones(2)}, place)
    return run(gradtx.adam(0.1), params, [jax.tree.map(jnp.sin, params)] * 2)


@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_a_state_on_a_mesh_stays_there(axes) -> None:
    """Reset, moved or resized, it is what it is on one device, and lies where the params do."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axes,))
    places = {"table": NamedSharding(mesh, P("data", None)), "head": NamedSharding(mesh, P(None))}
    adam, lion = gradtx.adam(0.1), gradtx.lion(0.1)
    one, alone = begun_on(jax.devices()[0])
    params, state = begun_on(places)
    step = jax.jit(adam.update)
    step(params, state, params)

    def assert_placed(tree: Any) -> None:
        for name, x in tree.items():
            assert x.sharding.is_equivalent_to(places[name], x.ndim), (name, x.sharding)

    fresh, _ = reset(adam, state, params, "table")
    assert_close(fresh, reset(adam, alone, one, "table").state)
    assert_placed(fresh[0].mu)
    step(params, fresh, params)
    assert step._cache_size() == 1

    there, _ = moved(adam, state, lion, params)
    assert_close(there, moved(adam, alone, lion, one).state)
    assert_placed(there[0].mu)

    for indices in ([*range(16), *[-1] * 8], [15, 0, 3]):
        change = {"table": Rows(indices)}
        other, expected = resize(adam, state, params, change), resize(adam, alone, one, change)
        assert_close([other.params, other.state], [expected.params, expected.state])
        if len(indices) % 8 == 0:
            assert_placed(other.params)
            assert_placed(other.state[0].nu)
        step(other.params, other.state, other.params)


def test_a_line_search_asks_for_the_value_of_what_was_changed() -> None:
    def f(x: Any) -> Any:
        return jnp.sum((x["table"] - 1) ** 2) + jnp.sum(x["head"] ** 4)

    tx, value_and_grad = gradtx.lbfgs(), gradtx.value_and_grad_from_state(f)
    value, grad = jax.value_and_grad(f)(PARAMS)
    updates, state = tx.update(grad, tx.init(PARAMS), PARAMS, value=value, grad=grad, value_fn=f)
    params = gradtx.apply_updates(PARAMS, updates)
    grown = resize(tx, state, params, {"table": Rows([0, 1, -1])})
    in_part = reset(tx, state, params, "head")
    assert "scale_by_zoom_linesearch/value" in in_part.report.made
    for now, kept in ((grown.params, grown.state), (params, in_part.state)):
        assert_close(value_and_grad(now, state=kept), jax.value_and_grad(f)(now), rtol=1e-6)
