"""Newer optimizers as their papers write them, in float64 NumPy, for one matrix; as in `formulas`."""

from collections.abc import Callable

import numpy as np

from tests.oracles.formulas import Update


def cautious(inner: Update, direction=1, least=1e-3) -> Update:
    """Liang et al. 2024, algorithm 1, with the divisor of its published code."""

    def update(g, p):
        u = inner(g, p)
        mask = (direction * u * g > 0).astype(float)
        return u * mask / max(mask.mean(), least)

    return update


def grams(inner: Update, direction=1) -> Update:
    """Cao et al. 2024, algorithm 2."""
    return lambda g, p: direction * np.abs(inner(g, p)) * np.sign(g)


def adamp(inner: Update, delta=0.1, weight_decay=0.0, wd_ratio=0.1, eps=1e-8) -> Update:
    """Heo et al. 2020, algorithms 1 and 2, for a matrix (inputs, outputs)."""

    def update(g, p):
        u = inner(g, p)
        for columns in (g.shape[1], 1):
            gs, ps = g.reshape(-1, columns), p.reshape(-1, columns)
            cosines = np.abs((gs * ps).sum(0)) / np.linalg.norm(gs, axis=0) / np.linalg.norm(ps, axis=0)
            if cosines.max() < delta / np.sqrt(len(gs)):
                unit = ps / (np.linalg.norm(ps, axis=0) + eps)
                us = u.reshape(-1, columns)
                return (us - unit * (unit * us).sum(0)).reshape(p.shape) + wd_ratio * weight_decay * p
        return u + weight_decay * p

    return update


def mars(
    gamma=0.025, b1=0.95, bound=1.0, previous: Callable[[np.ndarray], np.ndarray] | None = None
) -> Update:
    """Yuan et al. 2024, algorithm 2: the corrected gradient; `previous` makes it exact."""
    last = 0.0

    def update(g, p):
        nonlocal last
        c = g + gamma * b1 / (1 - b1) * (g - (last if previous is None else previous(g)))
        last = g
        return c / max(np.linalg.norm(c) / bound, 1.0)

    return update


def cautious_decay(weight_decay: float) -> Update:
    return lambda g, p: g + weight_decay * (g * p >= 0) * p


def changing_decay(schedule: Callable[[int], float]) -> Update:
    t = -1

    def update(g, p):
        nonlocal t
        t += 1
        return g + schedule(t) * p

    return update


def restarted(make: Callable[[], Update], period: int) -> Update:
    inner, t = make(), 0

    def update(g, p):
        nonlocal inner, t
        t += 1
        inner = make() if t % period == 0 else inner
        return inner(g, p)

    return update


def ada_clip(theta=0.999) -> Update:
    """Huang et al. 2025 (Stable-SPAM), equations 2 to 4."""
    m, t = 0.0, 0

    def update(g, p):
        nonlocal m, t
        t += 1
        m = theta * m + (1 - theta) * np.abs(g).max()
        m_hat = m / (1 - theta**t)
        return np.where(np.abs(g) > m_hat, g / np.abs(g).max() * m_hat, g)

    return update


def ada_norm(gamma1=0.7, gamma2=0.9, eps=1e-8) -> Update:
    """Huang et al. 2025 (Stable-SPAM), equations 5 to 7."""
    m = v = 0.0
    t = 0

    def update(g, p):
        nonlocal m, v, t
        t += 1
        size = np.linalg.norm(g)
        m = gamma1 * m + (1 - gamma1) * size
        v = gamma2 * v + (1 - gamma2) * size**2
        return g / size * (m / (1 - gamma1**t)) / (np.sqrt(v / (1 - gamma2**t)) + eps)

    return update


def spam(b1=0.9, b2=0.999, eps=1e-6, threshold=5000.0, period=500, warmup=150, patience=20) -> Update:
    """Huang et al. 2025 (SPAM), algorithm 1, with the warm-up and the bias corrections of its code."""
    m = v = 0.0
    t = 0

    def update(g, p):
        nonlocal m, v, t
        t += 1
        s = t % period
        if s == 0:
            m = v = 0.0
        if s >= patience:
            g = np.where(g**2 > threshold * v, np.sign(g) * np.sqrt(threshold * v), g)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        rate = 1.0
        if t >= period and s < warmup:
            rate = 1 - 0.99 * (1 + np.cos(np.pi * (s + 1) / (warmup + 1))) / 2
        return rate * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)

    return update
