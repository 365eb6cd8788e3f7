"""Every public name of Optax is here, with its arguments; second names are the same things."""

import inspect
import runpy
from pathlib import Path
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
