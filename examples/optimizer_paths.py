"""Draw the paths of optimizers over a surface of two numbers.

    python examples/optimizer_paths.py                            # SGD, momentum, Adagrad, RMSprop, Adam
    python examples/optimizer_paths.py --surface beale            # or rosenbrock, or saddle
    python examples/optimizer_paths.py nadam rprop lbfgs          # these as well; --only leaves the five out
    python examples/optimizer_paths.py --animate                  # and a GIF, the steps one after another

Every optimizer takes the learning rate, of 41 from 1e-4 to 10, with which its loss stays below --target
soonest and its path does not leave the picture. All 41 run at once, as one mapped optimizer,
`jax.vmap(optim.adam)(rates)`. You should see a table of these rates and steps, and find
optimizer_paths_ravine.png in the folder --out: on the left the surface with the paths, a dot for each step,
on the right the loss over steps.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.style
import numpy as np
from absl import app, flags, logging
from digits_data import QUICK
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

import gradtx
from gradtx.torch import optim

FIVE = ("sgd", "momentum", "adagrad", "rmsprop", "adam")
VARIANTS = {
    "momentum": lambda lr: optim.sgd(lr, momentum=0.9),
    "nesterov": lambda lr: optim.sgd(lr, momentum=0.9, nesterov=True),
}
OTHERS = ("muon", "sparse_adam")  # for matrices, and for sparse gradients
FUNCTIONS = {name: f for name, f in vars(optim).items() if hasattr(f, "factory") and name not in OTHERS}
OPTIMIZERS = FUNCTIONS | VARIANTS
RATES = jnp.logspace(-4, 1, 41)
COLOURS = ("#2563eb", "#059669", "#d97706", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f", "#57534e")


class Surface(NamedTuple):
    """A loss of two numbers whose least value is 0.

    loss: of an array [2]; start: where the paths begin; minima: where it is 0; view: left, right, bottom
    and top of the picture.
    """

    loss: Callable[[jax.Array], jax.Array]
    start: tuple[float, float]
    minima: Sequence[tuple[float, float]]
    view: tuple[float, float, float, float]


def ravine(point: jax.Array) -> jax.Array:
    """25 times as steep across as along."""
    x, y = point
    return (x**2 + 25 * y**2) / 2


def beale(point: jax.Array) -> jax.Array:
    """Beale's function: flat, with steep walls."""
    x, y = point
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def rosenbrock(point: jax.Array) -> jax.Array:
    """Rosenbrock's banana: a bent, nearly flat valley."""
    x, y = point
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def saddle(point: jax.Array) -> jax.Array:
    """A saddle at the origin, between minima at (0, 1) and (0, −1)."""
    x, y = point
    return x**2 / 2 + (y**2 - 1) ** 2 / 4


SURFACES = {
    "ravine": Surface(ravine, (-5.0, 1.0), [(0.0, 0.0)], (-5.8, 1.8, -1.5, 1.5)),
    "beale": Surface(beale, (1.0, 1.5), [(3.0, 0.5)], (-0.6, 4.2, -2.1, 2.1)),
    "rosenbrock": Surface(rosenbrock, (-1.2, 1.0), [(1.0, 1.0)], (-2.1, 2.1, -0.9, 3.1)),
    "saddle": Surface(saddle, (-2.0, 0.001), [(0.0, 1.0), (0.0, -1.0)], (-2.4, 1.4, -1.3, 1.6)),
}

FLAGS = flags.FLAGS
flags.DEFINE_enum("surface", "ravine", list(SURFACES), "what to descend")
flags.DEFINE_integer("steps", 30 if QUICK else 200, "updates of each optimizer", lower_bound=1)
flags.DEFINE_float("target", 0.01, "the loss to reach", lower_bound=0.0)
flags.DEFINE_bool("only", False, "only the optimizers that are named")
flags.DEFINE_bool("animate", False, "write an animation as well, in half a minute")
flags.DEFINE_string("out", "build/examples", "folder for the picture")


class Run(NamedTuple):
    """The best of an optimizer's runs.

    rate: its learning rate; points: [steps + 1, 2]; losses: [steps + 1]; reached: the step from which on
    the loss is at most the target, steps + 1 if it never is.
    """

    rate: float
    points: np.ndarray
    losses: np.ndarray
    reached: int


def descend(surface: Surface, tx: gradtx.GradientTransformation) -> tuple[jax.Array, jax.Array]:
    """The points of a path, the first included, and the losses there."""

    def step(carry, _):
        point, state = carry
        grad = jax.grad(surface.loss)(point)
        updates, state = tx.update(grad, state, point, value_fn=surface.loss)  # L-BFGS asks for value_fn
        moved = gradtx.apply_updates(point, updates)
        return (moved, state), moved

    start = jnp.array(surface.start)
    _, moved = jax.lax.scan(step, (start, tx.init(start)), length=FLAGS.steps)
    points = jnp.concatenate([start[None], moved])
    return points, jax.vmap(surface.loss)(points)


def best_run(surface: Surface, name: str) -> Run:
    """Of the paths that stay in view, if any does, the one soonest done; in doubt the one that ends lower."""
    every = jax.jit(jax.vmap(partial(descend, surface)))
    points, losses = map(np.asarray, every(jax.vmap(OPTIMIZERS[name])(RATES)))
    above = ~(losses <= FLAGS.target)  # NaN is above
    reached = above.shape[1] - np.argmax(above[:, ::-1], axis=1)
    reached[~above.any(axis=1)] = 0
    left, right, bottom, top = surface.view
    in_view = (points >= (left, bottom)) & (points <= (right, top))
    lowest = np.nan_to_num(losses[:, -1], nan=np.inf)
    best = np.lexsort((lowest, reached, ~in_view.all(axis=(1, 2))))[0]
    return Run(float(RATES[best]), points[best], losses[best], int(reached[best]))


def report(runs: dict[str, Run]) -> None:
    """The table."""
    print(f"{FLAGS.surface}, from {SURFACES[FLAGS.surface].start}, {FLAGS.steps} steps")
    print(f"\n{'':12}{'learning rate':>14}{f'steps to {FLAGS.target:g}':>16}{'loss at the end':>18}")
    for name, run in sorted(runs.items(), key=lambda pair: pair[1].reached):
        steps = str(run.reached) if run.reached <= FLAGS.steps else "–"
        print(f"{name:12}{run.rate:14.2g}{steps:>16}{run.losses[-1]:18.1e}")


# --- the picture ------------------------------------------------------------------------------------


class Drawing:
    """The picture of some runs, of which the first steps can be shown alone."""

    def __init__(self, surface: Surface, runs: dict[str, Run]):
        matplotlib.style.use(Path(__file__).with_name("gradtx.mplstyle"))
        self.runs = list(runs.values())
        self.figure = Figure(figsize=(11, 5))
        self.figure.suptitle(FLAGS.surface.capitalize(), x=0.01, ha="left")
        FigureCanvasAgg(self.figure)
        self.map, self.curve = self.figure.subplots(1, 2, width_ratios=(3, 2))
        marks = self._draw_surface(surface)
        self._draw_frame_of_losses()
        self.paths, self.curves = [], []
        widths = np.linspace(2.3, 1.3, len(runs))  # a path under another one shows at its sides
        for i, (run, width) in enumerate(zip(self.runs, widths, strict=True)):
            style = {"color": COLOURS[i % len(COLOURS)], "linewidth": width, "zorder": 3}
            self.paths += self.map.plot(*run.points.T, "o-", markersize=3.2, **style)
            self.curves += self.curve.semilogy(_shown(run.losses), **style)
        named = [*marks, *zip(runs, self.paths, strict=True)]
        self.labels = place_labels(self.map, named)[len(marks) :]
        self.labels += place_labels(self.curve, list(zip(runs, self.curves, strict=True)))
        self.figure.set_layout_engine("none")  # it stays as it is, and need not be found again for each frame

    def _draw_surface(self, surface: Surface) -> list[tuple[str, Line2D]]:
        left, right, bottom, top = surface.view
        axes, grid = self.map, jnp.meshgrid(jnp.linspace(left, right, 241), jnp.linspace(bottom, top, 241))
        heights = jax.vmap(jax.vmap(surface.loss))(jnp.stack(grid, -1))
        levels = np.geomspace(1e-2, np.percentile(heights, 90), 14)
        shades = np.linspace((0.74, 0.82, 0.93), (0.97, 0.98, 1.0), len(levels) + 1)
        axes.contourf(*grid, heights, [0, *levels], colors=shades, extend="max")
        axes.contour(*grid, heights, levels, colors="#94a3b8", linewidths=0.6)
        axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="$x$", title="Paths, a dot for each step")
        axes.set_ylabel("$y$", rotation=0)
        axes.grid(False)
        style = {"color": "#0f172a", "linestyle": "", "zorder": 5}
        marks = [("start", axes.plot(*surface.start, marker="o", markersize=7, **style)[0])]
        for minimum in surface.minima:
            marks.append(("minimum", axes.plot(*minimum, marker="*", markersize=13, **style)[0]))
        return marks

    def _draw_frame_of_losses(self) -> None:
        reached = [run.reached for run in self.runs]
        last = FLAGS.steps if max(reached) > FLAGS.steps else min(FLAGS.steps, max(reached) + 10)
        self.curve.set(title="Loss", xlabel="Step (updates)", xlim=(0, last))
        self.curve.set_ylim(FLAGS.target / 100, 3 * max(run.losses[0] for run in self.runs))
        self.curve.axhline(FLAGS.target, color="#0f172a", linewidth=0.8, linestyle=(0, (4, 3)))

    def show(self, step: int) -> None:
        """The first steps alone, and the labels that they have come to."""
        for run, path, curve in zip(self.runs, self.paths, self.curves, strict=True):
            path.set_data(*run.points[: step + 1].T)
            curve.set_data(np.arange(step + 1), _shown(run.losses)[: step + 1])
        for label, come in self.labels:
            label.set_visible(come <= step)

    def save_animation(self, path: Path) -> None:
        """All steps one after another, as a GIF, which stands still at its end."""
        last = int(self.curve.get_xlim()[1])
        frames = [*range(0, last, max(1, last // 80)), *[last] * 20]
        FuncAnimation(self.figure, self.show, frames, init_func=list).save(path, PillowWriter(fps=12), dpi=80)


def place_labels(axes: Axes, lines: list[tuple[str, Line2D]]) -> list[tuple[Annotation, int]]:
    """A name beside each line, where it covers least and is nearest to its own line.

    Returns:
        For each the label, and the number of the point that it stands at.
    """
    axes.figure.draw_without_rendering()
    frame, pixel = axes.get_window_extent(), 72 / axes.figure.dpi
    crowds = {line: dense(_on_canvas(line)) for line in axes.lines}
    taken, labels = [], []
    for name, line in lines:
        points = line.get_xydata()
        points = np.insert(points, slice(1, None), (points[1:] + points[:-1]) / 2, axis=0)
        label = axes.annotate(
            name,
            points[0],
            (0, 0),
            textcoords="offset points",
            annotation_clip=False,
            color=line.get_color(),
            weight="normal" if line.get_linestyle() == "None" else "bold",
            ha="center",
            va="center",
            zorder=7,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
        half = label.get_window_extent().size / 2
        everything = np.concatenate(list(crowds.values()))
        others = [crowd for other, crowd in crowds.items() if other is not line]
        best = (np.inf, 0, (0.0, 0.0))
        for i in np.unique(np.linspace(0, len(points) - 1, 200).astype(int)):
            place = axes.transData.transform(points[i])
            near = [np.min(np.linalg.norm(crowd - place, axis=1)) for crowd in others]
            doubt = sum(max(0.0, 1 - distance / 40) for distance in near)
            for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
                direction = np.round((np.cos(angle), np.sin(angle)), 6)
                away = direction * (8 + line.get_markersize()) + np.sign(direction) * half
                box = Bbox([place + away - half - 3, place + away + half + 3])
                cost = cost_of(box, frame, taken, everything) + 30 * doubt + i / len(points)
                best = min(best, (cost, i, tuple(away * pixel)), key=lambda found: found[0])
        _, i, label.xyann = best
        label.xy = points[i]
        taken.append(label.get_window_extent().padded(4))
        labels.append((label, (i + 1) // 2))
    return labels


def cost_of(box: Bbox, frame: Bbox, taken: Sequence[Bbox], crowd: np.ndarray) -> float:
    """How much a label would cover there: lines, other labels; or stick out of the frame."""
    inside = (
        frame.xmin < box.xmin and box.xmax < frame.xmax and frame.ymin < box.ymin and box.ymax < frame.ymax
    )
    covered = ((crowd > box.min) & (crowd < box.max)).all(axis=1).sum()
    return 1e6 * (not inside) + 1e3 * box.count_overlaps(taken) + 10 * covered


def _on_canvas(line: Line2D) -> np.ndarray:
    points = line.get_transform().transform(np.nan_to_num(line.get_xydata()))
    return np.clip(points, -1e4, 1e4)


def dense(path: np.ndarray, gap: float = 4.0) -> np.ndarray:
    """Points along a polygon, no further than this apart."""
    ways = np.linalg.norm(np.diff(path, axis=0), axis=1)
    counts = np.minimum(np.ceil(ways / gap).astype(int) + 1, 400)
    pieces = [np.linspace(a, b, n) for a, b, n in zip(path[:-1], path[1:], counts, strict=True)]
    return np.concatenate([*pieces, path[-1:]])


def _shown(losses: np.ndarray) -> np.ndarray:
    return np.maximum(losses, 1e-30)  # 0 has no place on a logarithmic axis


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # Matplotlib tells how it writes an animation
    names = [*([] if FLAGS.only else FIVE), *argv[1:]]
    if unknown := sorted(set(names) - OPTIMIZERS.keys()):
        raise app.UsageError(f"no optimizer: {', '.join(unknown)}; there are: {', '.join(OPTIMIZERS)}")
    surface = SURFACES[FLAGS.surface]
    runs = {name: best_run(surface, name) for name in dict.fromkeys(names)}
    report(runs)
    drawing, out = Drawing(surface, runs), Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"optimizer_paths_{FLAGS.surface}.png"
    drawing.figure.savefig(path)
    print(f"\npicture: {path}")
    if FLAGS.animate:
        drawing.save_animation(path.with_suffix(".gif"))
        print(f"animation: {path.with_suffix('.gif')}")


if __name__ == "__main__":
    app.run(main)
