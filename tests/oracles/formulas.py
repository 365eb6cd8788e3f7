"""Optimizers as their papers write them, in float64 NumPy, for one tensor.

Each function returns ``update(g, p)`` for a gradient and a parameter, and keeps its own state. None of
this shares code, or an idea of how to round, with the library.
"""

from collections.abc import Callable

import numpy as np

Update = Callable[[np.ndarray, np.ndarray], np.ndarray]


def then(*updates: Update) -> Update:
    """One after another."""

    def update(g, p):
        for one in updates:
            g = one(g, p)
        return g

    return update


def times(factor: float) -> Update:
    return lambda g, p: factor * g


def scheduled(schedule: Callable[[int], float]) -> Update:
    t = -1

    def update(g, p):
        nonlocal t
        t += 1
        return schedule(t) * g

    return update


def decay(weight_decay: float) -> Update:
    return lambda g, p: g + weight_decay * p


def momentum(mu: float, nesterov: bool = False) -> Update:
    """Sutskever et al. 2013."""
    v = 0.0

    def update(g, p):
        nonlocal v
        v = mu * v + g
        return g + mu * v if nesterov else v

    return update


def average(beta: float, debias: bool) -> Update:
    m, t = 0.0, 0

    def update(g, p):
        nonlocal m, t
        t += 1
        m = beta * m + (1 - beta) * g
        return m / (1 - beta**t) if debias else m

    return update


def adam(b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0) -> Update:
    """Kingma and Ba, algorithm 1: the direction."""
    m = v = 0.0
    t = 0

    def update(g, p):
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        return (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)

    return update


def nadam(b1=0.9, b2=0.999, eps=1e-8) -> Update:
    """Dozat 2016, with a constant momentum schedule."""
    m = v = 0.0
    t = 0

    def update(g, p):
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        return m_hat / (np.sqrt(v / (1 - b2**t)) + eps)

    return update


def amsgrad(b1=0.9, b2=0.999, eps=1e-8) -> Update:
    """Reddi et al., algorithm 2, on bias-corrected moments."""
    m = v = v_max = 0.0
    t = 0

    def update(g, p):
        nonlocal m, v, v_max, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        v_max = np.maximum(v_max, v / (1 - b2**t))
        return (m / (1 - b1**t)) / (np.sqrt(v_max) + eps)

    return update


def rms(beta=0.9, eps=1e-8, v0=0.0, inside=True, debias=False) -> Update:
    """Tieleman and Hinton 2012."""
    v, t = v0, 0

    def update(g, p):
        nonlocal v, t
        t += 1
        v = beta * v + (1 - beta) * np.abs(g) ** 2
        v_hat = v / (1 - beta**t) if debias else v
        return g / np.sqrt(v_hat + eps) if inside else g / (np.sqrt(v_hat) + eps)

    return update


def stddev(beta=0.9, eps=1e-8) -> Update:
    """Graves 2013, equations 38 to 40."""
    m = v = 0.0

    def update(g, p):
        nonlocal m, v
        m = beta * m + (1 - beta) * g
        v = beta * v + (1 - beta) * np.abs(g) ** 2
        return g / np.sqrt(v - np.abs(m) ** 2 + eps)

    return update


def adagrad(s0=0.1, eps=1e-7) -> Update:
    """Duchi et al. 2011."""
    s = s0

    def update(g, p):
        nonlocal s
        s = s + np.abs(g) ** 2
        return g / np.sqrt(s + eps)

    return update


def sign() -> Update:
    return lambda g, p: np.sign(g)


def lion(b1=0.9, b2=0.99) -> Update:
    """Chen et al. 2023, algorithm 2."""
    m = 0.0

    def update(g, p):
        nonlocal m
        c = b1 * m + (1 - b1) * g
        m = b2 * m + (1 - b2) * g
        return np.sign(c)

    return update


def clip_value(bound: float) -> Update:
    return lambda g, p: np.clip(g, -bound, bound)


def clip_norm(bound: float) -> Update:
    return lambda g, p: g * min(1.0, bound / np.linalg.norm(g))


def clip_rms(bound: float) -> Update:
    return lambda g, p: g / max(1.0, np.sqrt(np.mean(np.abs(g) ** 2)) / bound)


def clip_units(ratio: float, eps=1e-3) -> Update:
    """Brock et al. 2021, equation 3, for a matrix (inputs, outputs)."""

    def update(g, p):
        g_norm = np.linalg.norm(g, axis=0, keepdims=True)
        bound = ratio * np.maximum(np.linalg.norm(p, axis=0, keepdims=True), eps)
        return np.where(g_norm < bound, g, g * bound / g_norm)

    return update


def centre() -> Update:
    return lambda g, p: g - g.mean(axis=1, keepdims=True)


def trust(coefficient=1.0, eps=0.0) -> Update:
    """You et al. 2017, equation 6."""
    return lambda g, p: coefficient * np.linalg.norm(p) / (np.linalg.norm(g) + eps) * g


def times_param_norm(lowest=1e-3) -> Update:
    return lambda g, p: max(np.linalg.norm(p), lowest) * g


def times_param_rms(lowest=1e-3) -> Update:
    return lambda g, p: max(np.sqrt(np.mean(p**2)), lowest) * g


def unit_norm(size=1.0, eps=1e-6) -> Update:
    return lambda g, p: size * g / (np.linalg.norm(g) + eps)


def every(k: int) -> Update:
    total, n = 0.0, 0

    def update(g, p):
        nonlocal total, n
        total, n = total + g, n + 1
        if n < k:
            return np.zeros_like(g)
        emitted, total, n = total, 0.0, 0
        return emitted

    return update


def accumulated(inner: Update, k: int) -> Update:
    """One step of `inner` with the mean of every k gradients."""
    seen: list[np.ndarray] = []

    def update(g, p):
        seen.append(g)
        if len(seen) < k:
            return np.zeros_like(g)
        mean = sum(seen) / k
        seen.clear()
        return inner(mean, p)

    return update


def adamax(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Update:
    """Kingma and Ba 2015, section 7.1; with eps as PyTorch and Optax add it."""
    m, u, t = 0.0, 0.0, 0

    def update(g, p):
        nonlocal m, u, t
        t += 1
        m = b1 * m + (1 - b1) * g
        u = np.maximum(b2 * u, np.abs(g) + eps)
        return m / (1 - b1**t) / u

    return update


def adadelta(rho: float = 0.9, eps: float = 1e-6) -> Update:
    """Zeiler 2012, algorithm 1."""
    v = s = 0.0

    def update(g, p):
        nonlocal v, s
        v = rho * v + (1 - rho) * g**2
        x = np.sqrt(s + eps) / np.sqrt(v + eps) * g
        s = rho * s + (1 - rho) * x**2
        return x

    return update


def rprop(
    first: float, minus: float = 0.5, plus: float = 1.2, least: float = 1e-6, largest: float = 50.0
) -> Update:
    """Riedmiller and Braun 1993, without going back; one coordinate after another."""
    size: np.ndarray | None = None
    last: np.ndarray | None = None

    def update(g, p):
        nonlocal size, last
        if size is None or last is None:
            size, last = np.full(g.shape, first), np.zeros(g.shape)
        step, g = np.zeros(g.shape), g.copy()
        for i in np.ndindex(g.shape):
            turned = g[i] * last[i] < 0
            factor = minus if turned else plus if g[i] * last[i] > 0 else 1.0
            size[i] = min(max(size[i] * factor, least), largest)
            g[i] = 0.0 if turned else g[i]
            step[i] = np.sign(g[i]) * size[i]
        last = g
        return step

    return update
