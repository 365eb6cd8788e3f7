"""Every public name of Optax is here, with its arguments; second names are the same things."""

import inspect
import runpy
from pathlib import Path
from typing import Any
from unittest import mock

import jax.numpy as jnp
import optax
import pytest

import gradtx

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def names():
    """What the script of the page defines; its flags would be those of the tests otherwise."""
    with mock.patch("absl.flags.DEFINE_string"):
        return runpy.run_path(str(ROOT / "benchmarks" / "optax_names.py"))


def test_no_name_is_missing_and_no_argument_differs_without_a_reason(names) -> None:
    assert names["complaints"]() == []


def test_the_page_is_up_to_date(names) -> None:
    assert (ROOT / "docs" / "optax_names.md").read_text() == names["page"]()


def test_the_walk_reaches_every_namespace(names) -> None:
    spaces = dict(names["namespaces"]())
    assert {"", "contrib", "tree", "tree_utils", "transforms", "experimental.aggregating"} <= spaces.keys()
    found = names["comparison"]()
    for space, module in spaces.items():
        public = {
            name for name in getattr(module, "__all__", ()) if not inspect.ismodule(vars(module).get(name))
        }
        assert public <= {row.name.rpartition(".")[2] for row in found[space]}


def test_a_missing_name_is_missed(names, monkeypatch) -> None:
    monkeypatch.delattr(gradtx, "adamw")
    assert names["complaints"]() == ["adamw: **missing**"]


def test_what_is_elsewhere_or_left_out_is_named(names) -> None:
    """Of every name of Optax's, deprecated ones included: it is here, or the error says what to take."""
    elsewhere = []
    for rows in names["comparison"]().values():
        for row in rows:
            try:
                found: Any = gradtx
                for part in row.name.split("."):
                    found = getattr(found, part)
            except AttributeError as error:
                assert f"gradtx.{row.where}" in str(error) if row.where else "left out" in str(error), row
                elsewhere.append(row.name)
    assert {"dpsgd", "second_order.hvp", "schedules.inject_hyperparams"} <= set(elsewhere)
    assert not any(name.startswith("tree_utils.") for name in elsewhere)
    with pytest.raises(AttributeError, match="module 'gradtx' has no attribute 'adamq'$"):
        _ = gradtx.adamq
    with pytest.raises(AttributeError, match="module 'gradtx.tree_utils' has no attribute 'tree_nom'$"):
        _ = gradtx.tree_utils.tree_nom
    assert gradtx.tree_utils.tree_add is gradtx.tree.add and "tree_add" in dir(gradtx.tree_utils)


def test_older_names_of_norms_are_those_norms() -> None:
    tree = {"a": jnp.array([3.0, -4.0])}
    norms = [getattr(gradtx.tree_utils, f"tree_{which}_norm")(tree) for which in ("l1", "l2", "linf")]
    assert norms == [7.0, 5.0, 4.0]
    assert gradtx.tree_utils.tree_add_scalar_mul(tree, 2.0, tree)["a"][0] == 9


@pytest.mark.parametrize(
    ("name", "other", "argument"),
    [
        ("add_noise", lambda eta, gamma, key=None, *, seed=None: None, "add_noise: key does not differ"),
        ("sgd", lambda learning_rate, momentum=0.9: None, "`momentum` differs"),
        ("clip", lambda delta: None, "`max_delta` differs"),
        ("clip", lambda *, max_delta: None, "`max_delta` differs"),
        ("clip", lambda max_delta, more=1: None, "`more` differs"),
        ("ema", lambda debias=True, decay=inspect.Parameter.empty, accumulator_dtype=None: None, "the order"),
    ],
)
def test_a_difference_is_seen(names, monkeypatch, name, other, argument) -> None:
    monkeypatch.setattr(gradtx, name, other)
    assert any(argument in complaint for complaint in names["complaints"]())


def test_second_names_are_the_same_things() -> None:
    for second, first in {
        "ClipState": gradtx.EmptyState,
        "GradientTransformationExtraArgs": gradtx.GradientTransformation,
        "MultiTransformState": gradtx.PartitionState,
        "bias_correction": gradtx.tree.bias_correction,
        "multi_transform": gradtx.partition,
        "safe_int32_increment": gradtx.safe_increment,
        "tree_map_params": gradtx.tree.map_params,
    }.items():
        assert getattr(gradtx, second) is first
    assert gradtx.schedules.cosine_decay_schedule is gradtx.cosine_decay_schedule
    assert gradtx.transforms.masked is gradtx.masked and gradtx.losses.l2_loss is gradtx.l2_loss
    assert isinstance(gradtx.adam(1e-3), gradtx.GradientTransformationExtraArgs)


def test_multi_steps_takes_its_optimizer_by_the_name_of_optax() -> None:
    tx = gradtx.MultiSteps(opt=gradtx.sgd(1.0), every_k_schedule=2)
    assert tx == gradtx.MultiSteps(gradtx.sgd(1.0), 2)
    with pytest.raises(TypeError, match="MultiSteps: got an unexpected keyword argument 'opt'"):
        gradtx.MultiSteps(gradtx.sgd(1.0), 2, inner=tx, opt=tx)


def test_multi_steps_has_the_methods_of_optax() -> None:
    tx, theirs = (x.MultiSteps(x.sgd(1.0), 2) for x in (gradtx, optax))
    assert {name for name in dir(theirs) if not name.startswith("_")} <= set(dir(tx))
    assert tx.gradient_transformation() == tx and tx.inner_opt == gradtx.sgd(1.0)
    assert eval(repr(tx), {**vars(gradtx)}) == tx
    state, params = tx.init({"w": jnp.zeros(2)}), {"w": jnp.ones(2)}
    seen = [bool(tx.has_updated(state))]
    for _ in range(4):
        _, state = tx.update(params, state, params)
        seen.append(bool(tx.has_updated(state)))
    assert seen == [False, False, True, False, True]
