"""Pictures of schedules, of groups, and of what was measured in training.

Each function returns a figure of matplotlib, which a notebook shows and ``figure.savefig(path)`` writes. They
need the extra `plot`: ``pip install "gradtx[plot]"``.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Params, PyTree
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import stages_in
from gradtx.explaining.explanation import explain
from gradtx.state.state_dict import unique
from gradtx.values.counting import OF_TRACERS, number_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["groups", "schedule", "updates"]

POINTS = 2000
"""At how many counts a schedule is asked at most."""
NAMED = 12
"""How many lines of a panel have a name beside it."""

Schedules = Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]] | Sequence[Callable[[Any], Any]]


def schedule(s: "Schedules | GradientTransformation", steps: int) -> "Figure":
    """Schedules over the count of updates, several side by side.

    Args:
        s: a schedule, several in a list or by name in a dict, or an optimizer, whose scheduled numbers are
            shown.
        steps: how many updates.

    Raises:
        ValueError: for an optimizer without any schedule.

    Example:
        >>> import gradtx
        >>> warmup = gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100)
        >>> figure = gradtx.plot.schedule({"cosine": warmup, "steps": gradtx.step_lr(1.0, 30)}, 100)
        >>> [axes.get_title() for axes in figure.axes]
        ['cosine', 'steps']
    """
    named = _named(s)
    figure = _figure(4.6 * len(named), 3.2)
    counts = np.unique(np.linspace(0, max(steps - 1, 0), POINTS).astype(np.int32))
    for axes, (name, function) in zip(_panels(figure, len(named)), named.items(), strict=True):
        axes.plot(counts, _values(function, counts))
        axes.set(title=name, xlabel="updates so far")
    return figure


def groups(tx: GradientTransformation, params: Params) -> "Figure":
    """Which params an optimizer treats alike: how many numbers each group has, and what differs for it.

    Args:
        tx: the optimizer.
        params: the params, or their shapes as `jax.ShapeDtypeStruct`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.groups(gradtx.adamw(1e-3), {"b": {"weight_decay": 0.0}})
        >>> figure = gradtx.plot.groups(tx, {"w": jnp.ones((4, 4)), "b": jnp.ones(4)})
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ["the optimizer's own", 'b: weight_decay=0.0']
    """
    found = explain(tx, params).groups[::-1]
    figure = _figure(7.0, 1.2 + 0.5 * len(found))
    [axes] = _panels(figure, 1)
    names = [f"{group.name}: {group.differs}" if group.differs else group.name for group in found]
    bars = axes.barh(range(len(found)), [group.count for group in found])
    texts = [
        f" {len(group.paths)} tensors, {group.state_bytes / max(group.count, 1):.1f} bytes of state each"
        for group in found
    ]
    axes.bar_label(bars, texts)
    axes.set_yticks(range(len(found)), names)
    axes.margins(x=0.4)
    axes.set(title=tx.name, xlabel="numbers in the params")
    return figure


def updates(history: "Mapping[str, PyTree] | Sequence[Mapping[str, PyTree]]") -> "Figure":
    """What was measured of each tensor over the steps: norms of gradients and updates, and their ratio.

    Measure with `monitor` and `gradtx.tree.norms`, in front of the optimizer what comes in, and behind it
    what goes out. A healthy network moves each tensor by about a thousandth of its norm in a step.

    Args:
        history: a list of measurements, one for each step, or one dict whose trees have the steps as their
            first axis, as `jax.lax.scan` returns it: each a dict by name of trees of numbers. With the names
            ``updates`` and ``params`` there is a panel of the ratio.

    Raises:
        ValueError: for a history without any step.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> norms = gradtx.tree.norms
        >>> out = {"updates": norms, "params": lambda updates, params: norms(params)}
        >>> tx = gradtx.chain(gradtx.monitor({"gradients": norms}), gradtx.adam(0.1), gradtx.monitor(out))
        >>> params, history = {"w": jnp.ones(3), "b": jnp.ones(1)}, []
        >>> state = tx.init(params)
        >>> for _ in range(3):
        ...     steps, state = tx.update(params, state, params)
        ...     params = gradtx.apply_updates(params, steps)
        ...     history.append({**state[0].measurements, **state[2].measurements})
        >>> [axes.get_title() for axes in gradtx.plot.updates(history).axes]
        ['gradients', 'params', 'updates', 'updates / params']
    """
    measured = {name: _lines(tree) for name, tree in _stacked(history).items()}
    if {"updates", "params"} <= measured.keys():
        norms = measured["params"]
        ratio = {path: _over(x, norms[path]) for path, x in measured["updates"].items() if path in norms}
        measured["updates / params"] = ratio
    figure = _figure(4.6 * len(measured), 3.6)
    for axes, (name, lines) in zip(_panels(figure, len(measured)), measured.items(), strict=True):
        colors = _imported("matplotlib").colormaps["viridis"](np.linspace(0, 0.9, len(lines)))
        for (path, line), color in zip(lines.items(), colors, strict=True):
            axes.plot(np.arange(1, len(line) + 1), line, color=color, label=path)
        axes.set(title=name, xlabel="step", yscale="log")
        if len(lines) <= NAMED:
            axes.legend(fontsize="small")
    return figure


def _over(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x / y, and no point where y is 0, as of a bias before its first step."""
    return np.divide(x, y, out=np.full_like(x, np.nan), where=y != 0)


def _stacked(history: "Mapping[str, PyTree] | Sequence[Mapping[str, PyTree]]") -> Mapping[str, PyTree]:
    if isinstance(history, Mapping):
        return history
    if not history:
        raise ValueError("plot.updates: the history has no step: append the measurements of each")
    stack = lambda *steps: np.stack([np.asarray(x) for x in steps])  # noqa: E731
    return {name: jax.tree.map(stack, *(step[name] for step in history)) for name in history[0]}


def _lines(tree: PyTree) -> dict[str, np.ndarray]:
    """What was measured of each tensor, by its path."""
    paths = leaf_paths(tree, is_leaf=None)
    lines = (np.asarray(x, np.float64) for x in jax.tree.leaves(tree))
    return {path: np.reshape(x, (len(x), -1)).mean(axis=1) for path, x in zip(paths, lines, strict=True)}


def _named(s: Any) -> Mapping[str, Callable[[Any], Any]]:
    seen: Counter[str] = Counter()
    if isinstance(s, GradientTransformation):
        found = {
            unique(argument, seen): function
            for stage in stages_in(s)
            for argument, function in stage.schedules.items()
        }
        if not found:
            raise ValueError(f"plot.schedule: no number of {s.name} is scheduled: give one a schedule")
        return found
    if isinstance(s, Mapping):
        return s
    several = list(s) if isinstance(s, Sequence) else [s]
    return {unique(_title(function), seen): function for function in several}


def _title(function: Any) -> str:
    made_by = getattr(function, "factory", None)
    return getattr(made_by, "name", "") or getattr(function, "__name__", "schedule")


def _values(function: Callable[[Any], Any], counts: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(jax.vmap(function)(jnp.asarray(counts)))
    except (*OF_TRACERS, TypeError):  # written for numbers of Python
        return np.asarray([number_at(function, int(count)) for count in counts])


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'gradtx.plot needs matplotlib: pip install "gradtx[plot]"', name=error.name
        ) from None


@cache
def _picture() -> Any:
    """The class of figures that notebooks show, whether or not they have been told about matplotlib."""

    class Picture(_imported("matplotlib.figure").Figure):
        def _repr_png_(self) -> bytes:
            buffer = BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    return Picture


def _figure(width: float, height: float) -> Any:
    return _picture()(figsize=(width, height), layout="constrained")


def _panels(figure: Any, n: int) -> list[Any]:
    return list(figure.subplots(1, n, squeeze=False)[0])
