"""Newer optimizers as their papers write them, in float64 NumPy, for one matrix; as in `formulas`."""

from collections.abc import Callable

import numpy as np

from tests.oracles.formulas import Update


def cautious(inner: Update, direction=1, least: float | None = 1e-3) -> Update:
    """Liang et al. 2024, algorithm 1; with a bound, the divisor of its published AdamW."""

    def update(g, p):
        u = inner(g, p)
        mask = (direction * u * g > 0).astype(float)
        return u * mask / ((mask.sum() + 1) / mask.size if least is None else max(mask.mean(), least))

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
            rate = 1 - 0.99 * (1 + np.cos(np.pi * s / (warmup + 1))) / 2
        return rate * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)

    return update


def laprop(b1=0.9, b2=0.999, eps=1e-15) -> Update:
    """Ziyin et al. 2020, algorithm 1: the direction."""
    m = n = 0.0
    t = 0

    def update(g, p):
        nonlocal m, n, t
        t += 1
        n = b2 * n + (1 - b2) * g**2
        m = b1 * m + (1 - b1) * g / (np.sqrt(n / (1 - b2**t)) + eps)
        return m / (1 - b1**t)

    return update


def stable_adamw(b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.0) -> Update:
    """Wortsman et al. 2023, algorithm 2: the update over the learning rate."""
    v = u = 0.0
    t = 0

    def update(g, p):
        nonlocal v, u, t
        t += 1
        beta1 = b1 * (1 - b1 ** (t - 1)) / (1 - b1**t)
        beta2 = b2 * (1 - b2 ** (t - 1)) / (1 - b2**t)
        v = beta1 * v + (1 - beta1) * g
        u = beta2 * u + (1 - beta2) * g**2
        size = np.sqrt(np.mean(g**2 / np.maximum(u, eps**2)))
        return (v / (np.sqrt(u) + eps) + weight_decay * p) / max(1.0, size)

    return update


def came(b1=0.9, b2=0.999, b3=0.9999, eps1=1e-30, eps2=1e-16, d=1.0) -> Update:
    """Luo et al. 2023, algorithm 2, for a matrix: the direction."""
    r = c = m = R = C = 0.0

    def update(g, p):
        nonlocal r, c, m, R, C
        r = b2 * r + (1 - b2) * (g**2 + eps1).mean(1)
        c = b2 * c + (1 - b2) * (g**2 + eps1).mean(0)
        u = g / np.sqrt(np.outer(r, c) / r.mean())
        u = u / max(1.0, np.sqrt(np.mean(u**2)) / d)
        m = b1 * m + (1 - b1) * u
        U = (u - m) ** 2 + eps2
        R = b3 * R + (1 - b3) * U.mean(1)
        C = b3 * C + (1 - b3) * U.mean(0)
        return m / np.sqrt(np.outer(R, C) / R.mean())

    return update


def mean_of_columns(x: np.ndarray, blocks: int) -> np.ndarray:
    """The mean of so many blocks of columns each, in the matrix's shape."""
    means = [np.full_like(part, part.mean()) for part in np.split(x, blocks, 1)]
    return np.concatenate(means, 1)


def adam_mini(blocks: int, b1=0.9, b2=0.999, eps=1e-8) -> Update:
    """Zhang et al. 2024, algorithm 1, for a matrix in blocks of columns: the direction."""
    m = v = 0.0
    t = 0

    def update(g, p):
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * mean_of_columns(g**2, blocks)
        return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)

    return update


def amos(xi: float, eta: float, blocks: int, beta=0.999, c=0.25, eps=2.0**-125) -> Update:
    """Tian and Parikh 2022, algorithm 1 with its published epsilon, for a matrix in blocks of columns."""
    v = b = 0.0
    t = 0

    def update(g, p):
        nonlocal v, b, t
        t += 1
        square = mean_of_columns(g**2, blocks)
        v = beta * v + (1 - beta) * square
        v_hat = np.maximum(v, eps) / (1 - beta**t)
        gamma = xi**2 / np.sqrt(1 + c * np.sqrt(xi) * b) * square / v_hat
        d = 1 / (1 + c * np.sqrt(xi * eta) * b)
        b = b + gamma * (1 + b)
        return -d * (xi * eta * g / np.sqrt(v_hat) + gamma / 2 * p)

    return update


def ftrl(alpha: float, beta=0.0, l1=0.0, l2=0.0) -> Update:
    """McMahan et al. 2013, algorithm 1."""
    z = n = 0.0

    def update(g, p):
        nonlocal z, n
        sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / alpha
        z = z + g - sigma * p
        n = n + g**2
        w = -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / alpha + l2)
        return np.where(np.abs(z) <= l1, 0.0, w) - p

    return update


def adahessian(diagonal: Callable[[np.ndarray], np.ndarray], b1=0.9, b2=0.999, eps=1e-4, k=1.0) -> Update:
    """Yao et al. 2020, algorithm 1, told the diagonal: the direction."""
    m = v = 0.0
    t = 0

    def update(g, p):
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * diagonal(g) ** 2
        return m / (1 - b1**t) / ((np.sqrt(v / (1 - b2**t))) ** k + eps)

    return update


def rectified(b2: float, t: int) -> float:
    """Liu et al. 2019: r at step t, and 0 where ρ is at most 4."""
    rho_inf = 2 / (1 - b2) - 1
    rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
    if rho <= 4:
        return 0.0
    return np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))


def decayed_rms(b2: float, weight_decay: float, rate: Callable[[int], float], eps=1e-8) -> Update:
    """What schedule-free AdamW and RAdam step by: g over its debiased root mean square, and the decay."""
    v, t = 0.0, 0

    def update(g, p):
        nonlocal v, t
        t += 1
        v = b2 * v + (1 - b2) * g**2
        return -rate(t) * (g / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * p)

    return update


def growth_limited(growth=1.01) -> Callable[[np.ndarray], np.ndarray]:
    """Chen et al. 2024 (Fira), equation 8."""
    last = 0.0

    def limit(s):
        nonlocal last
        size = float(np.linalg.norm(s))
        excess = max(size / (last + 1e-8), growth) / growth if last else 1.0
        last = size / excess
        return s / excess

    return limit


def apollo(
    draw: Callable[[int, int], np.ndarray], gap: int, b1=0.9, b2=0.999, eps=1e-6, scale=1.0, by_row=True
) -> Update:
    """Zhu et al. 2024, algorithm 1, for a matrix with more rows than columns and these projections; with the
    bias corrections of its published code."""
    m = v = 0.0
    t = 0
    limit = growth_limited()

    def update(g, p):
        nonlocal m, v, t
        r = g @ draw(t // gap, g.shape[1])
        t += 1
        m = b1 * m + (1 - b1) * r
        v = b2 * v + (1 - b2) * r**2
        n = m / (np.sqrt(v) + eps)
        axis = 1 if by_row else None
        size = np.linalg.norm(n, axis=axis) / (np.linalg.norm(r, axis=axis) + 1e-8)
        s = limit(g * (size[:, None] if by_row else size))
        return np.sqrt(scale) * np.sqrt(1 - b2**t) / (1 - b1**t) * s

    return update


def fira(rank: int, gap: int, b1=0.9, b2=0.999, eps=1e-6) -> Update:
    """Chen et al. 2024, algorithm 1, for a matrix with more rows than columns; with the bias corrections of
    its published code."""
    m = v = 0.0
    Q, t = None, 0
    limit = growth_limited()

    def update(g, p):
        nonlocal m, v, Q, t
        if t % gap == 0:
            Q = np.linalg.svd(g)[2][:rank].T
        t += 1
        r = g @ Q
        m = b1 * m + (1 - b1) * r
        v = b2 * v + (1 - b2) * r**2
        n = m / (np.sqrt(v) + eps)
        size = np.linalg.norm(n, axis=1, keepdims=True) / (np.linalg.norm(r, axis=1, keepdims=True) + 1e-8)
        return np.sqrt(1 - b2**t) / (1 - b1**t) * (n @ Q.T + limit(size * (g - r @ Q.T)))

    return update


def diloco(make: Callable[[], Update], outer: Update, every: int, replicas: int | None = None) -> Update:
    """Douillard et al. 2023, algorithm 1, for one replica, or for several as rows of the gradient."""
    inner = [make() for _ in range(replicas or 1)]
    theta, t = None, 0

    def update(g, p):
        nonlocal theta, t
        gs, ps = (g, p) if replicas else (g[None], p[None])
        theta = ps[0] if theta is None else theta
        t += 1
        after = [q + one(h, q) for one, h, q in zip(inner, gs, ps, strict=True)]
        if t % every == 0:
            drift = sum(theta - x for x in after) / len(after)
            theta = theta + outer(drift, theta)
            after = [theta] * len(after)
        steps = np.stack(after) - ps
        return steps if replicas else steps[0]

    return update


def without_spikes(inner: Update, threshold: float, window: int) -> Update:
    """OLMo-core's SkipStepOptimizer, one-sided, for the norm of the gradient."""
    norms = []

    def update(g, p):
        norms.append(np.linalg.norm(g))
        *before, norm = norms[-window - 1 :]
        if len(before) >= window // 2 and norm - np.mean(before) > threshold * np.std(before, ddof=1):
            return np.zeros_like(g)
        return inner(g, p)

    return update


def zclip(threshold=2.5, alpha=0.97, warmup=25) -> Update:
    """Kumar et al. 2025, algorithm 1."""
    norms, mean, var = [], 0.0, 0.0

    def update(g, p):
        nonlocal mean, var
        norm = clipped = np.linalg.norm(g)
        norms.append(norm)
        if len(norms) <= warmup:
            mean, var = np.mean(norms), np.var(norms)
            return g
        z = (norm - mean) / np.sqrt(var)
        if z > threshold:
            clipped = mean + threshold**2 * np.sqrt(var) / z
        mean = alpha * mean + (1 - alpha) * clipped
        var = alpha * var + (1 - alpha) * (clipped - mean) ** 2
        return g * clipped / norm

    return update
