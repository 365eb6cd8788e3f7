"""Where the numbers are to be: the first line that fits a row is its target; others are not judged."""

import re
from dataclasses import dataclass

from cases import RECIPES


@dataclass(frozen=True)
class Target:
    """The most that the judged number of a row may be.

    Attributes:
        measure: its name.
        limit: the number; None where the rows that fit are not to be judged.
        case, tree, device: regular expressions, found anywhere in the names.
    """

    measure: str
    limit: float | None
    case: str = ""
    tree: str = ""
    device: str = ""

    def fits(self, measure: str, case: str, tree: str, device: str) -> bool:
        """Whether it is the target of this row."""
        patterns = ((self.case, case), (self.tree, tree), (self.device, device))
        return self.measure == measure and all(re.search(pattern, name) for pattern, name in patterns)


TARGETS = (
    # the compiled step, × Optax
    Target("step", 0.7, case="MultiSteps", device="cpu"),
    # It looks at the new state, too, and has to keep the old one until it knows.
    Target("step", None, case="apply_if_finite"),
    Target("step", 0.5, case="muon", device="cpu"),
    Target("step", 1.03),
    Target("step, geometric mean", 0.90),
    # × the quicker of PyTorch's default and foreach; with a GPU, of fused too
    Target("step, torch", 1.0),
    # the classes of gradtx.torch, × PyTorch's default
    Target("step, lr edited", 1.0),
    # bytes that must move over time, as a share of the bandwidth, inverted: 1 / 85 %
    Target("time × bandwidth", 1 / 0.85, case="adamw$", tree="124M|1B", device="gpu"),
    # the beginning, × Optax
    Target("trace, cold", 1.0, case=f"^({'|'.join(RECIPES)})$"),
    Target("trace, warm", 1.0, case=f"^({'|'.join(RECIPES)})$"),
    Target("trace, cold", 0.25, tree=r"148|\b1000 leaves"),
    Target("trace, warm", 0.25, tree=r"148|\b1000 leaves"),
    Target("first call", 0.7),
    # outside jit
    Target("eager update", 0.15, tree="148"),
    Target("eager, traced again", 0),
    Target("compilations", 0),
    # × the largest tensor; a batch of matrices to be made orthogonal is more
    Target("extra memory", None, case="muon|apply_if_finite"),
    Target("extra memory", 1.0),
    Target("extra memory, in order", None, case="muon|apply_if_finite"),
    Target("extra memory, in order", 1.0),
    # the exponent n of time ~ size^n
    Target("growth: trace, cold", 1.1),
    Target("growth: first call", 1.1),
    Target("growth: step", 1.1),
    # the first update absolutely, later ones × PyTorch: the largest of thousands of roundings is partly luck
    Target("error, first update", 3e-7),
    Target("error, update 200", 1.1),
    Target("error, sum of 200", 1.1),
)


def limit(measure: str, case: str, tree: str, device: str) -> float | None:
    """The target of a row."""
    fitting = (target.limit for target in TARGETS if target.fits(measure, case, tree, device))
    return next(fitting, None)
