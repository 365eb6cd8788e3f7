"""The page of the recipes and its picture, from the measured numbers."""

import re
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from recipes_cases import Recipe
from recipes_tasks import TASKS
from recipes_training import RATES
from tables import table

Measured = dict[str, Any]
"""Of a recipe: by task a `Found` as a dict; `bytes` of state per parameter; the `time` of its step."""

STYLE = Path(__file__).parents[1] / "examples" / "gradtx.mplstyle"
CLOSE = 1.05
"""Losses within this factor of the least count as near the best."""

PAGES = {
    name: page.stem
    for page in (Path(__file__).parents[1] / "docs" / "api").glob("*.md")
    for name in re.findall(r"^::: gradtx\.(\S+)", page.read_text(), flags=re.MULTILINE)
}
"""The page of the reference that shows a name."""

PAGE = """\
# Every recipe, measured

`python benchmarks/recipes.py --out docs` wrote this page, with {versions}.

Every optimizer of gradtx that trains on its own, and some wrappers around one, on two small tasks:

- **digits**: scikit-learn's 1797 images of 8×8 pixels; a perceptron with one hidden layer of 64, 300 steps
  with batches of 128.
- **text**: the next character of Python {python}'s standard library after {context} others; a perceptron
  over their embeddings, {params} params, 400 steps with batches of 64. Some modules are for training,
  others for validation, others for the test.

`kl_shampoo`, `kl_soap`, `kron`, `shampoo` and `soap` decompose matrices, and are too slow for so many
trainings: see [Matrix optimizers](matrix_optimizers.md).

Twelve learning rates from {lowest:.0e} to {highest:.0f} train at once by `jax.vmap`; then the best, one
half a step below and one half a step above, with four seeds each. The validation loss chooses. The table
shows the loss in nats and the share of right answers on the test data: the mean over the seeds, and the
loss's standard deviation. The rate falls to 0 along a line, except where the note says that it stays. All
else has its default, also weight decay. A rate of `–` means that there is none to choose.

*State* is in bytes per parameter, for GPT-2 small in float32 (124 million params). *Step* is the time of a
compiled step, without the model, on the 52 tensors of a GPT-2 with 4 blocks of width 128 (0.9 million
params), over that of SGD: the median of rounds in which each makes ten steps. It is `–` where a line search
takes as long as the losses that it asks for. The row of `sgd` is SGD beside itself, and shows the noise.
A click on a heading sorts the table by that column.

{table}
![Test losses of every recipe on both tasks, and the learning rates that serve](assets/recipes.png)

*The best on the text on top. The dot is the mean of four seeds, the line goes from the best to the worst,
and an arrow is off the scale. On the right, the rates of the first sweep whose validation loss on the text
is within 5 % of the least; the dot is the one taken.*

## What it says

{summary}
- **On the text those lead whose steps are relative to each tensor**: `fromage`, `lamb`, `adafactor`, and
  close behind `muon` and `novograd`. A likely reason is the model: its embeddings begin with
  numbers of size 1, its matrices with a tenth of that, and one rate for all is a compromise. On the digits,
  where all tensors are alike, they are among the others.
- **No rate to choose need not cost much**: `contrib.cocob`, `contrib.dadapt_adamw` and `contrib.prodigy`
  come close to Adam with its best rate. `contrib.dog`, `contrib.dowg` and `contrib.mechanize`, which begin
  with tiny steps, fall behind in so short a training.
- **Told the loss, a step bounds itself** where the loss can reach 0, which is the bound that is set by
  default: on the digits `polyak_sgd`, `contrib.momo` and `contrib.momo_adam` bear rates at which SGD and
  Adam fail; on the text, whose least loss is far above 0, they do not.
- **A ± counts.** Two tasks and four seeds tell apart only what lies clearly outside each other's ±. Of the
  360 test digits one is 0.3 points, so their share of right answers ranks nobody.

## What it does not say

Anything about large models, long trainings, large batches or fine-tuning. Many defaults were chosen for
long trainings: a `b2` of 0.999 remembers more than these have steps. The optimistic ones are for games of
two players, and `contrib.sam` and weight decay work against an overfitting that is hardly there. `lbfgs`
and `rprop` see one batch again and again, here a small one, and learn it by heart; to [minimise what has no
noise](minimize.md) is another matter. `contrib.galore` has no use on matrices this small. The noise of
`contrib.dpsgd` costs accuracy, and promises something only with its accounting, which is not done here.

## Memory

What the papers promise for a matrix in float32, and what the tensors of GPT-2 small come to, vectors
included:

{memory}
`adafactor` factors a matrix only if both of its sides have at least `min_dim_size_to_factor` = 128; for a
smaller one, as in the two tasks, it keeps a second moment for each number.
"""

PROMISES = {
    "sgd": "nothing",
    "lion": "one momentum: 4 bytes",
    "signum": "one momentum: 4 bytes",
    "novograd": "one momentum, and one number per tensor: 4 bytes",
    "sm3": "one momentum, and a number per row and column: 4 bytes and a little",
    "adafactor": "a number per row and column: next to nothing",
    "adam": "two moments: 8 bytes",
    "lbfgs": "10 pairs, and what the line search keeps: 92 bytes",
}


def link(name: str) -> str:
    """The name of a recipe, with its entry in the reference where it is one name."""
    page = PAGES.get(name)
    return f"[`{name}`](api/{page}.md#gradtx.{name})" if page else f"`{name}`"


def number(x: float | None) -> str:
    """Two digits, or a dash for what has not been measured."""
    return "–" if x is None else "0" if x < 0.005 else f"{x:.0f}" if x > 99 else f"{x:.2g}"


def losses(found: Measured, key: str) -> np.ndarray:
    """The numbers of a `Found`; infinite where a training diverged."""
    numbers = np.array(found[key], float)
    return np.where(np.isnan(numbers), np.inf, numbers)


def cells(found: Measured | None) -> tuple[str, str, str]:
    """Rate, loss and accuracy on a task."""
    if found is None:
        return "–", "–", "–"
    rate = "–" if found["rate"] is None else f"{found['rate']:.2g}"
    if found["sweep"] and np.argmin(losses(found, "sweep")) in (0, len(found["sweep"]) - 1):
        rate += " (at the edge)"
    test = losses(found, "test")
    shown = f"{test.mean():.3f}&nbsp;±&nbsp;{test.std():.3f}" if np.isfinite(test).all() else "diverged"
    return rate, shown, f"{100 * np.mean(found['accuracy']):.1f}"


def rows(recipes: list[Recipe], measured: dict[str, Measured]) -> list[tuple[str, ...]]:
    """The table of all recipes, with its head."""
    heads = (f"{task}:<br>{what}" for task in TASKS for what in ("rate", "loss", "right (%)"))
    out = [("recipe", *heads, "state", "step")]
    for recipe in recipes:
        own = measured.get(recipe.name, {})
        found = [cell for task in TASKS for cell in cells(own.get(task))]
        costs = number(own.get("bytes")), number(own.get("time"))
        out.append((titled(recipe), *found, *costs))
    return out


def titled(recipe: Recipe) -> str:
    """The name, with the note below it."""
    return link(recipe.name) + (f"<br><small>{recipe.note}</small>" if recipe.note else "")


def memory(measured: dict[str, Measured]) -> str:
    """The promises beside what was counted."""
    kept = [
        (link(name), promise, f"{measured[name]['bytes']:.3g}")
        for name, promise in PROMISES.items()
        if "bytes" in measured.get(name, {})
    ]
    return table(("", "promised per parameter", "bytes per parameter"), *kept) + "\n"


def summary(measured: dict[str, Measured]) -> str:
    """What the numbers of the text say, in a sentence that follows from them."""
    text = {name: own["text"] for name, own in measured.items() if "text" in own}
    if not text:
        return ""
    means = {name: losses(found, "test").mean() for name, found in text.items()}
    best = min(means, key=means.__getitem__)
    near = sum(loss < means[best] + 0.1 for loss in means.values())
    lower, upper = np.percentile(list(means.values()), [25, 75])
    prices = np.array([neighbours(losses(found, "sweep")) for found in text.values() if found["sweep"]])
    below, above = np.median(prices, axis=0)
    return (
        f"- **The rate matters as much as the name.** On the text {near} of {len(means)} come within 0.1 "
        f"nats of the best, `{best}` with {means[best]:.2f}, and the middle half lies within "
        f"{upper - lower:.2f}. "
        f"A rate of the first sweep one too low, a factor of {RATES[1] / RATES[0]:.1f}, costs "
        f"{below:.2f} nats in the median; one too high costs {above:.2f}."
    )


def neighbours(sweep: np.ndarray) -> tuple[float, float]:
    """How much higher the loss is at the rates below and above the best; beyond the edge, infinitely."""
    padded = np.pad(sweep, 1, constant_values=np.inf)
    best = int(np.argmin(padded))
    return padded[best - 1] - padded[best], padded[best + 1] - padded[best]


def write(folder: Path, recipes: list[Recipe], measured: dict[str, Measured], **surroundings: Any) -> None:
    """The page and the picture."""
    parts = dict(
        table=table(*rows(recipes, measured)) + "\n",
        memory=memory(measured),
        summary=summary(measured),
        lowest=RATES[0],
        highest=RATES[-1],
    )
    (folder / "recipes.md").write_text(PAGE.format(**parts, **surroundings))
    draw(folder / "assets" / "recipes.png", measured)


# --- the picture ------------------------------------------------------------------------------------

LIMITS = {"text": 3.3, "digits": 0.5}
"""Losses above these are off the scale."""


def draw(path: Path, measured: dict[str, Measured]) -> None:
    """A line for each recipe, the best on the text on top: losses on both tasks, and rates that serve."""
    full = {name: own for name, own in measured.items() if set(TASKS) <= set(own)}
    if not full:
        return
    names = sorted(full, key=lambda name: losses(full[name]["text"], "test").mean(), reverse=True)
    matplotlib.style.use(STYLE)
    figure = Figure(figsize=(11, 1.4 + 0.2 * len(names)))
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(4, 3, 3))
    for axes, task in zip(panels, LIMITS, strict=False):
        for line, name in enumerate(names):
            span(axes, line, losses(full[name][task], "test"), LIMITS[task])
        axes.set(title=f"{task.capitalize()}: test loss (nats)", xlim=(None, LIMITS[task]))
    for line, name in enumerate(names):
        serving(panels[2], line, full[name]["text"])
    panels[2].set(title="Text: rates that serve", xscale="log")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(-0.7, len(names) - 0.3)
    for axes in panels:
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labeltop=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def span(axes: Axes, line: int, found: np.ndarray, limit: float) -> None:
    """The mean as a dot, on a line from the least to the largest; an arrow where it is off the scale."""
    if found.mean() > limit:
        axes.plot(limit, line, ">", color="C0", markersize=5, clip_on=False)
        return
    axes.hlines(line, found.min(), found.max(), color="C0", alpha=0.4, linewidth=3)
    axes.plot(found.mean(), line, "o", color="C0", markersize=4)


def serving(axes: Axes, line: int, found: Measured) -> None:
    """The rates of the first sweep with a loss near the least, and the one taken."""
    if found["rate"] is None:
        place = axes.get_yaxis_transform()
        axes.text(0.02, line, "none to choose", color="#94a3b8", size=8, va="center", transform=place)
        return
    sweep = losses(found, "sweep")
    near = np.array(found["rates"])[sweep <= CLOSE * sweep.min()]
    axes.plot(near, [line] * len(near), "-|", color="C1", alpha=0.5, linewidth=3, markersize=5)
    axes.plot(found["rate"], line, "o", color="C1", markersize=4)
