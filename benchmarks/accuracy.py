"""Distance of float32 optimizers from their papers' formulas in float64.

An implementation, whatever its library, is a function ``step(param, grad) -> param`` on NumPy vectors
that keeps its state to itself. So the oracle, gradtx, Optax and PyTorch run through the same few lines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

Step = Callable[[np.ndarray, np.ndarray], np.ndarray]

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
MOMENTUM = 0.9
SIZE, STEPS = 4096, 200


# --- the oracle -------------------------------------------------------------------------------------


def adam(weight_decay: float = 0.0, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Step:
    """Kingma and Ba, arXiv:1412.6980, algorithm 1; with decay, Loshchilov and Hutter, arXiv:1711.05101."""
    mu, nu, t = 0.0, 0.0, 0

    def step(param: np.ndarray, grad: np.ndarray) -> np.ndarray:
        nonlocal mu, nu, t
        t += 1
        mu = b1 * mu + (1 - b1) * grad
        nu = b2 * nu + (1 - b2) * grad**2
        direction = (mu / (1 - b1**t)) / (np.sqrt(nu / (1 - b2**t)) + eps)
        return param - LEARNING_RATE * (direction + weight_decay * param)

    return step


def rmsprop(decay: float = 0.9, eps: float = 1e-8) -> Step:
    """Tieleman and Hinton, lecture 6.5, 2012, with eps outside the root as in Graves, arXiv:1308.0850."""
    nu = 0.0

    def step(param: np.ndarray, grad: np.ndarray) -> np.ndarray:
        nonlocal nu
        nu = decay * nu + (1 - decay) * grad**2
        return param - LEARNING_RATE * grad / (np.sqrt(nu) + eps)

    return step


def sgd() -> Step:
    """Polyak's momentum, as Sutskever et al. write it, ICML 2013, with the learning rate outside the sum."""
    velocity = 0.0

    def step(param: np.ndarray, grad: np.ndarray) -> np.ndarray:
        nonlocal velocity
        velocity = MOMENTUM * velocity + grad
        return param - LEARNING_RATE * velocity

    return step


ORACLES: dict[str, Callable[[], Step]] = {
    "adam": adam,
    "adamw": lambda: adam(WEIGHT_DECAY),
    "rmsprop": rmsprop,
    "sgd(momentum)": sgd,
}


# --- the implementations ----------------------------------------------------------------------------

# Optax's names are gradtx's too; torch's differ.
JAX_OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "adam": lambda library: library.adam(LEARNING_RATE),
    "adamw": lambda library: library.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
    "rmsprop": lambda library: library.rmsprop(LEARNING_RATE, decay=0.9, eps=1e-8, eps_in_sqrt=False),
    "sgd(momentum)": lambda library: library.sgd(LEARNING_RATE, momentum=MOMENTUM),
}

TORCH_OPTIMIZERS: dict[str, Callable[[Any, Any], Any]] = {
    "adam": lambda optim, params: optim.Adam(params, LEARNING_RATE, foreach=False),
    "adamw": lambda optim, params: optim.AdamW(
        params, LEARNING_RATE, weight_decay=WEIGHT_DECAY, foreach=False
    ),
    "rmsprop": lambda optim, params: optim.RMSprop(params, LEARNING_RATE, alpha=0.9, eps=1e-8, foreach=False),
    "sgd(momentum)": lambda optim, params: optim.SGD(params, LEARNING_RATE, momentum=MOMENTUM, foreach=False),
}


def in_jax(library: Any, case: str) -> Step:
    """The compiled step of gradtx or Optax."""
    tx = JAX_OPTIMIZERS[case](library)
    state = tx.init(np.zeros(SIZE, np.float32))

    @jax.jit
    def compiled(param: Any, state: Any, grad: Any) -> Any:
        updates, state = tx.update(grad, state, param)
        return library.apply_updates(param, updates), state

    def step(param: np.ndarray, grad: np.ndarray) -> np.ndarray:
        nonlocal state
        param, state = compiled(param, state, grad)
        return np.asarray(param)

    return step


def in_torch(case: str) -> Step:
    """torch.optim's plain loop over tensors, on the CPU."""
    import torch

    param = torch.nn.Parameter(torch.zeros(SIZE))
    optimizer = TORCH_OPTIMIZERS[case](torch.optim, [param])

    def step(value: np.ndarray, grad: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            param.copy_(torch.from_numpy(value))
        param.grad = torch.from_numpy(grad)
        optimizer.step()
        return param.detach().numpy().copy()

    return step


# --- the error --------------------------------------------------------------------------------------


def update(step: Step, grads: Sequence[np.ndarray]) -> np.ndarray:
    """The last update. Every step starts from params of 0, so what it returns is the update unrounded."""
    zeros = np.zeros_like(grads[0])
    return [step(zeros, grad) for grad in grads][-1]


def displacement(step: Step, grads: Sequence[np.ndarray]) -> np.ndarray:
    """The way from params of 0 to those after all steps."""
    param = np.zeros_like(grads[0])
    for grad in grads:
        param = step(param, grad)
    return param


def root_mean_square(x: np.ndarray) -> Any:
    """One size for all numbers of a vector."""
    return np.sqrt(np.mean(x**2))


@dataclass(frozen=True)
class Quantity:
    """What is compared with the oracle, after how many steps, and relative to what size of the oracle.

    A first update is compared number by number. Later, gradients cancel here and there, and a number
    near 0 has a relative error that says how near, not how good the formula is: there the root mean
    square of the whole vector is the size.
    """

    measure: Callable[[Step, Sequence[np.ndarray]], np.ndarray]
    steps: int
    size: Callable[[np.ndarray], Any]


QUANTITIES = {
    "first update": Quantity(update, 1, np.abs),
    f"update {STEPS}": Quantity(update, STEPS, root_mean_square),
    f"sum of {STEPS}": Quantity(displacement, STEPS, root_mean_square),
}


def gradients() -> list[np.ndarray]:
    """Standard normal float32 vectors, the same for all."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(SIZE, np.float32) for _ in range(STEPS)]


def error(case: str, quantity: Quantity, implementation: Step) -> float:
    """The largest deviation from the oracle, relative to the size of the oracle."""
    grads = gradients()[: quantity.steps]
    exact = quantity.measure(ORACLES[case](), [grad.astype(np.float64) for grad in grads])
    deviation = quantity.measure(implementation, grads) - exact
    return float(np.max(np.abs(deviation) / quantity.size(exact)))
