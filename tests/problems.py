"""Functions without noise to minimize, and SciPy's way to their minima."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize


@cache
def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Standardised features, and labels. The import takes a second, so that it waits for who needs it."""
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    return (features - features.mean(axis=0)) / features.std(axis=0), labels


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def beale(x: Any) -> Any:
    return sum((c - x[0] * (1 - x[1] ** i)) ** 2 for i, c in enumerate((1.5, 2.25, 2.625), start=1))


def booth(x: Any) -> Any:
    return (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2


def logistic(w: Any) -> Any:
    """Logistic regression with a little weight decay, without which the optimum is far away."""
    features, labels = breast_cancer()
    z = features @ w[:-1] + w[-1]
    return jnp.mean(jnp.logaddexp(0, z) - labels * z) + 1e-3 * jnp.sum(w[:-1] ** 2)


class Problem(NamedTuple):
    """A function of one vector, where to begin, and its minimum, which is 0 or found by Newton's method."""

    name: str
    fun: Callable[[Any], Any]
    start: np.ndarray
    minimum: float

    def __str__(self) -> str:
        return f"{self.name}-{self.start.size}"


PROBLEMS = [
    Problem("Rosenbrock", rosenbrock, np.array([-1.2, 1.0]), 0.0),
    Problem("Rosenbrock", rosenbrock, np.tile([-1.2, 1.0], 50), 0.0),
    Problem("Logistic regression", logistic, np.zeros(31), 0.06808282313911912),
    Problem("Beale", beale, np.array([1.0, 1.0]), 0.0),
    Problem("Booth", booth, np.zeros(2), 0.0),
]


class Path(NamedTuple):
    """Evaluations so far and the value, at the start and after each iteration."""

    evaluations: list[int]
    values: list[float]

    def append(self, evaluations: Any, value: Any) -> None:
        self.evaluations.append(int(evaluations))
        self.values.append(float(value))


def run_scipy(problem: Problem) -> tuple[Any, Path]:
    """SciPy's L-BFGS-B, with the memory of `gradtx.lbfgs`, and tolerances of its own."""
    value_and_grad, path, calls = jax.jit(jax.value_and_grad(problem.fun)), Path([], []), []

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = value_and_grad(x)
        calls.append(float(value))
        return calls[-1], np.asarray(grad)

    def callback(intermediate_result: Any) -> None:  # SciPy goes by this name
        path.append(len(calls), intermediate_result.fun)

    found = scipy.optimize.minimize(
        evaluate,
        problem.start,
        method="L-BFGS-B",
        jac=True,
        callback=callback,
        options={"maxcor": 10, "gtol": 1e-5, "ftol": 2.2e-9},
    )
    return found, Path([1, *path.evaluations], [calls[0], *path.values])
