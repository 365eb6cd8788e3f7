"""What `explain` tells, what `plot` draws, and how values print and complete."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.explaining.docstrings import docstring_of
from gradtx.values.source import show

PARAMS = {
    "body": {"w": jax.ShapeDtypeStruct((4, 4), jnp.float32), "b": jax.ShapeDtypeStruct((4,), jnp.float32)},
    "head": jax.ShapeDtypeStruct((4, 2), jnp.float32),
}
WARMUP = gradtx.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100)


def test_each_group_is_told_with_its_numbers_and_bytes() -> None:
    adamw = gradtx.adamw(WARMUP, mask={r".*w": True, ".*": False})
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.groups(adamw, {r"body/b": {"b1": 0.5}, "head": None}))
    told = gradtx.explain(tx, PARAMS)
    assert [(row.number, row.name) for row in told.stages] == [
        ("1", "clip"),
        ("2", "groups"),
        ("2.1", "scale_by_adam"),
        ("2.2", "masked"),
        ("2.2.1", "add_decayed_weights"),
        ("2.3", "scale_by_learning_rate"),
    ]
    found = {
        group.paths: (group.name, group.differs, group.count, group.state_bytes) for group in told.groups
    }
    assert found == {
        ("body/b",): ("body/b", "b1=0.5, without add_decayed_weights", 4, 32),
        ("body/w",): ("the optimizer's own", "", 16, 128),
        ("head",): ("head", "frozen", 8, 0),
    }
    assert told.bytes is not None and told.bytes.total == gradtx.bytes_of(tx, PARAMS).total
    assert told.numbers["learning_rate"] == 0 and told.numbers["body/b/b1"] == 0.5
    decay = told.stages[4]
    assert decay.needs == ("params",) and decay.numbers == {"weight_decay": "0.0001"}
    assert decay.docstring.formula.startswith("The update is g + weight_decay·p")


def test_numbers_are_those_of_the_state() -> None:
    tx, params = gradtx.sgd(WARMUP), jax.tree.map(lambda x: jnp.zeros(x.shape), PARAMS)
    state = tx.init(params)
    for _ in range(5):
        _, state = tx.update(params, state, params)
    told = gradtx.explain(tx, params, state)
    assert np.isclose(float(told.numbers["learning_rate"]), 5e-4)
    assert "learning_rate=0.0005 by warmup" in str(told)
    # Without params there is nothing about them, and schedules are at the first update.
    bare = gradtx.explain(tx)
    assert bare.bytes is None and not bare.groups and "learning_rate=0 by warmup" in str(bare)


def test_members_of_a_partition_see_their_params() -> None:
    labels = {"matrix": gradtx.contrib.muon(0.1), "rest": gradtx.sgd(0.1, momentum=0.9)}
    tx = gradtx.MultiSteps(gradtx.partition(labels, {r".*(w|head)": "matrix", ".*": "rest"}), 2)
    told = gradtx.explain(tx, PARAMS)
    assert {group.name: group.paths for group in told.groups} == {
        "matrix / muon": ("body/w", "head"),
        "rest": ("body/b",),
    }
    numbers = [row.number for row in told.stages]
    assert len(set(numbers)) == len(numbers)
    trace = next(row for row in told.stages if row.name == "trace")
    assert trace.label == "rest" and len(trace.sees or ()) == 1
    assert "sees   1 of 3 params: body/b" in str(told)


def test_a_table_for_notebooks_says_the_same() -> None:
    page = gradtx.explain(gradtx.adamw(WARMUP), PARAMS)._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 4
    assert "body/w" in page and "b1=0.9" in page and "m̂ / (√(v̂ + eps_root) + eps)" in page
    strange = gradtx.explain(gradtx.sgd(0.1), {"<b>": jnp.zeros(2)})
    assert "&lt;b&gt;" in strange._repr_html_() and "<b></b>" not in strange._repr_html_()


def test_what_is_no_transformation_is_refused() -> None:
    with pytest.raises(TypeError, match=r"explain: tx is the function adam, .*call it: adam\(\.\.\.\)"):
        gradtx.explain(gradtx.adam)  # pyright: ignore[reportArgumentType]


def test_a_docstring_has_parts() -> None:
    def rule() -> None:
        """Halve it.

        The update is g·½.

        It is ``a = b`` in code, and no formula.

        Source: Nobody, A paper,
        arXiv:1234.5678.

        Example:
            >>> 1
        """

    assert docstring_of(rule) == ("Halve it.", "The update is g·½.", "Nobody, A paper, arXiv:1234.5678.")
    assert docstring_of(lambda: None) == ("", "", "")


# --- pictures ---------------------------------------------------------------------------------------


def test_schedules_are_drawn_as_they_are() -> None:
    steps = lambda count: 0.1 if count < 5 else 0.01  # noqa: E731  # decides in Python
    figure = gradtx.plot.schedule(
        {"warmup": WARMUP, "steps": steps, "still": gradtx.constant_schedule(0.5)}, 20
    )
    for axes, function in zip(figure.axes, (WARMUP, steps, lambda count: 0.5), strict=True):
        [line] = axes.lines
        assert np.array_equal(line.get_xdata(), np.arange(20))
        expected = [float(function(count)) for count in range(20)]
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), expected, rtol=1e-6)
    assert figure._repr_png_().startswith(b"\x89PNG")  # pyright: ignore[reportAttributeAccessIssue]
    long = gradtx.plot.schedule([WARMUP, WARMUP], 100_000)
    assert [axes.get_title() for axes in long.axes] == [
        "warmup_cosine_decay_schedule",
        "warmup_cosine_decay_schedule_1",
    ]
    assert len(long.axes[0].lines[0].get_xdata()) <= 2000
    assert long.axes[0].lines[0].get_xdata()[-1] == 99_999


def test_an_optimizer_shows_its_scheduled_numbers() -> None:
    tx = gradtx.MultiSteps(gradtx.chain(gradtx.adamw(WARMUP, b1=lambda count: 0.9), gradtx.scale(2.0)), 4)
    assert [axes.get_title() for axes in gradtx.plot.schedule(tx, 10).axes] == ["b1", "learning_rate"]
    with pytest.raises(ValueError, match="plot.schedule: no number of sgd is scheduled"):
        gradtx.plot.schedule(gradtx.sgd(0.1), 10)


def test_groups_are_bars() -> None:
    tx = gradtx.groups(gradtx.adamw(1e-3), {r".*b": {"weight_decay": 0.0}, "head": None})
    [axes] = gradtx.plot.groups(tx, PARAMS).axes
    bars = dict(zip([label.get_text() for label in axes.get_yticklabels()], axes.patches, strict=True))
    widths = {name: bar.get_width() for name, bar in bars.items()}
    assert widths == {".*b: weight_decay=0.0": 4, "the optimizer's own": 16, "head: frozen": 8}


def test_a_history_is_lines_by_tensor() -> None:
    history = {
        "updates": {"w": jnp.array([0.1, 0.2]), "b": jnp.array([1.0, 2.0])},
        "params": {"w": jnp.array([10.0, 10.0]), "b": jnp.array([0.0, 5.0])},
    }
    apart = [jax.tree.map(lambda x, i=i: x[i], history) for i in range(2)]
    for given in (history, apart):
        last = gradtx.plot.updates(given).axes[-1]
        assert last.get_title() == "updates / params" and last.get_yscale() == "log"
        lines = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in last.lines}
        np.testing.assert_allclose(lines["w"], [0.01, 0.02], rtol=1e-6)
        np.testing.assert_allclose(lines["b"], [np.nan, 0.4], rtol=1e-6)
    with pytest.raises(ValueError, match="the history has no step"):
        gradtx.plot.updates([])


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    gradtx.plot._picture.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'needs matplotlib: pip install "gradtx\[plot\]"'):
        gradtx.plot.schedule(WARMUP, 10)


# --- how values print and complete ------------------------------------------------------------------


def test_a_long_value_prints_on_several_lines() -> None:
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.groups(gradtx.sgd(WARMUP), {"a" * 60: {"learning_rate": 0.0}}))
    printed = repr(tx)
    assert eval(printed, dict(vars(gradtx))) == tx
    assert max(map(len, printed.splitlines())) <= 100
    assert printed.splitlines()[:3] == ["chain(", "    clip(max_delta=1.0),", "    groups("]
    short = gradtx.adam(1e-3)
    assert "\n" not in repr(short) and len(repr(short)) == 99


def test_a_hundred_characters_stay_on_one_line() -> None:
    for length in range(20, 40):
        tx = gradtx.masked(gradtx.scale(0.5), {"x" * length: True})
        assert ("\n" in repr(tx)) == (len(show(tx)) > 100)
        assert eval(repr(tx), dict(vars(gradtx))) == tx
    assert len(show(tx)) > 100


def test_completion_offers_what_is_for_users() -> None:
    def offered(x: Any) -> list[str]:
        return [name for name in dir(x) if not name.startswith("_")]

    own = ["arguments", "init", "name", "replace", "stages", "update"]
    assert offered(gradtx.chain(gradtx.clip(1.0))) == sorted([*own, "members"])
    assert offered(gradtx.adamw(1e-3)) == sorted([*own, "expansion"])
    assert offered(gradtx.scale_by_adam()) == sorted([*own, "elementwise", "unsigned"])
    assert offered(WARMUP) == ["arguments", "replace"]
    for value in (gradtx.adamw(1e-3), WARMUP, gradtx.scale_by_adam()):
        assert all(hasattr(value, name) for name in dir(value))
