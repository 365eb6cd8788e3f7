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


def alternating(first: Update, second: Update) -> Update:
    """The one at the first, third, ... update, the other at the rest."""
    t = 0

    def update(g, p):
        nonlocal t
        t += 1
        return first(g, p) if t % 2 else second(g, p)

    return update


def lookahead(fast: Update, k: int, alpha: float, again: Callable[[], Update] | None = None) -> Update:
    """Zhang et al. 2019, algorithm 1; `again` makes the inner optimizer of the next outer loop."""
    slow, t = None, 0

    def update(g, p):
        nonlocal fast, slow, t
        slow = p if slow is None else slow
        t += 1
        ahead = p + fast(g, p)
        if t % k == 0:
            ahead = slow = slow + alpha * (ahead - slow)
            fast = again() if again else fast
        return ahead - p

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


def belief(b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16, nesterov=False) -> Update:
    """Zhuang et al. 2020, algorithm 2: the direction; the look-ahead is Dozat's."""
    m = s = 0.0
    t = 0

    def update(g, p):
        nonlocal m, s, t
        t += 1
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * np.abs(g - m) ** 2 + eps_root
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        return m_hat / (np.sqrt(s / (1 - b2**t)) + eps)

    return update


def radam(b1=0.9, b2=0.999, eps=1e-8, threshold=5.0) -> Update:
    """Liu et al. 2019, algorithm 2: the direction. The paper's threshold is 4."""
    m = v = 0.0
    t = 0
    rho_inf = 2 / (1 - b2) - 1

    def update(g, p):
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        # 2tbᵗ/(1 − bᵗ) of the paper, without its differences of large numbers: 1 − bᵗ is a sum of powers.
        seen = sum(b2**i for i in range(t))
        rho = sum((2 * i + 1 - t) * b2**i for i in range(t)) / seen + t
        if rho <= threshold:
            return m / (1 - b1**t)
        r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        return r * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)

    return update


def yogi(b1=0.9, b2=0.999, eps=1e-3, start=1e-6) -> Update:
    """Zaheer et al. 2018, algorithm 2: the direction, from Adam's corrected moments."""
    m = v = start
    t = 0

    def update(g, p):
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = v - (1 - b2) * np.sign(v - g**2) * g**2
        return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)

    return update


def novograd(b1=0.9, b2=0.25, eps=1e-8, weight_decay=0.0) -> Update:
    """Ginsburg et al. 2019, algorithm 1, for one layer: the direction."""
    m = v = None

    def update(g, p):
        nonlocal m, v
        square = np.sum(g**2)
        v = square if v is None else b2 * v + (1 - b2) * square
        step = g / (np.sqrt(v) + eps) + weight_decay * p
        m = step if m is None else b1 * m + step
        return m

    return update


def fromage(schedule: Callable[[int], float]) -> Update:
    """Bernstein et al. 2020, algorithm 1, for one layer."""
    t = -1

    def update(g, p):
        nonlocal t
        t += 1
        moved = p - schedule(t) * g * np.linalg.norm(p) / np.linalg.norm(g)
        return moved / np.sqrt(1 + schedule(t) ** 2) - p

    return update


def layerwise_dog(first=1e-6, eps=1e-8) -> Update:
    """Ivgi et al. 2023, equations 1 and 2 for one layer; the gradient times the step size."""
    start, distances, squares = None, [], 0.0

    def update(g, p):
        nonlocal start, squares
        if start is None:
            start = p
            distances.append(first * (1 + np.linalg.norm(p)))
        distances.append(np.linalg.norm(p - start))
        squares += np.sum(g**2)
        return max(distances) / np.sqrt(squares + eps) * g

    return update


def nonnegative() -> Update:
    return lambda g, p: np.maximum(p + g, 0) - p


def factored_rms(power=0.8, eps=1e-30, factored=True, offset=0) -> Update:
    """Shazeer and Stern 2018, algorithms 4 and 5: the direction for a matrix or a vector."""
    rows = columns = whole = 0.0
    t = -offset

    def update(g, p):
        nonlocal rows, columns, whole, t
        t += 1
        b = 1 - t**-power
        square = g**2 + eps
        if not factored:
            whole = b * whole + (1 - b) * square
            return g / np.sqrt(whole)
        rows = b * rows + (1 - b) * square.sum(axis=1)
        columns = b * columns + (1 - b) * square.sum(axis=0)
        return g / np.sqrt(np.outer(rows, columns) / rows.sum())

    return update


def optimistic(alpha=1.0, beta=1.0) -> Update:
    """Mokhtari et al. 2019, equation 5, with two step sizes."""
    last = None

    def update(g, p):
        nonlocal last
        change = np.zeros_like(g) if last is None else g - last
        last = g
        return alpha * g + beta * change

    return update


def polyak(value: float, f_min=0.0, largest=1.0, eps=0.0) -> Update:
    """Loizou et al. 2020, the bounded step size."""
    return lambda g, p: min((value - f_min) / (np.sum(g**2) + eps), largest) * g


def lbfgs(memory: int = 10, scaled: bool = True) -> Update:
    """Nocedal and Wright, equation 7.16, with the whole matrix; Byrd et al. 1995, equation 3.9."""
    pairs, last = [], None

    def update(g, p):
        nonlocal last
        g_flat, p_flat = g.ravel(), p.ravel()
        if last is not None:
            pairs.append((p_flat - last[0], g_flat - last[1]))
        last = p_flat, g_flat
        recent = [(s, y) for s, y in pairs[-memory:] if s @ y > np.finfo(float).eps * (y @ y)]
        H = np.eye(g.size)
        if scaled:
            H *= recent[-1][0] @ recent[-1][1] / (recent[-1][1] @ recent[-1][1]) if recent else 1.0
            H /= 1.0 if recent else max(1.0, np.linalg.norm(g_flat))
        for s, y in recent:
            V = np.eye(g.size) - np.outer(y, s) / (s @ y)
            H = V.T @ H @ V + np.outer(s, s) / (s @ y)
        return (H @ g_flat).reshape(g.shape)

    return update


def adan(beta1=0.02, beta2=0.08, beta3=0.01, eps=1e-8, eps_root=0.0) -> Update:
    """Xie et al. 2022, algorithm 1 with the paper's betas; means corrected as in the authors' code."""
    m = v = n = 0.0
    last, k = None, 0

    def update(g, p):
        nonlocal m, v, n, last, k
        k += 1
        change = 0 * g if last is None else g - last
        last = g
        m = (1 - beta1) * m + beta1 * g
        v = (1 - beta2) * v + beta2 * change
        n = (1 - beta3) * n + beta3 * (g + (1 - beta2) * change) ** 2
        m_hat, v_hat, n_hat = (x / (1 - (1 - b) ** k) for x, b in ((m, beta1), (v, beta2), (n, beta3)))
        return (m_hat + (1 - beta2) * v_hat) / (np.sqrt(n_hat + eps_root) + eps)

    return update


def sm3(momentum=0.9, keep=1.0, eps=1e-8) -> Update:
    """Anil et al. 2019, SM3-II, for the cover of a matrix by its rows and columns."""
    rows = columns = None
    average = 0.0

    def update(g, p):
        nonlocal rows, columns, average
        if rows is None or columns is None:
            rows, columns = np.zeros(g.shape[0]), np.zeros(g.shape[1])
        s = np.empty_like(g)
        for i, j in np.ndindex(g.shape):
            s[i, j] = keep * min(rows[i], columns[j]) + (1.0 if keep == 1 else 1 - keep) * g[i, j] ** 2
        rows, columns = s.max(axis=1), s.max(axis=0)
        average = momentum * average + (1 - momentum) * g / np.sqrt(s + eps)
        return average

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


def acprop(b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16) -> Update:
    """Zhuang et al. 2021, algorithm 3: the direction; distances are from the mean before, as in Optax."""
    m = s = 0.0
    t = 0

    def update(g, p):
        nonlocal m, s, t
        s_hat = s / (1 - b2**t) if t else 1.0
        t += 1
        s = b2 * s + (1 - b2) * np.abs(g - m) ** 2 + eps_root
        m = b1 * m + (1 - b1) * g
        return g / (np.sqrt(s_hat) + eps)

    return update


def adopt(b1=0.9, b2=0.9999, eps=1e-6, clipped=True, nesterov=False) -> Update:
    """Taniguchi et al. 2024, algorithm 2: the direction."""
    m, v, t = 0.0, None, -1

    def update(g, p):
        nonlocal m, v, t
        t += 1
        if v is None:
            v = g**2
            return np.zeros_like(g)
        c = g / np.maximum(np.sqrt(v), eps)
        if clipped:
            c = np.clip(c, -(t**0.25), t**0.25)
        m = b1 * m + (1 - b1) * c
        v = b2 * v + (1 - b2) * g**2
        return b1 * m + (1 - b1) * c if nesterov else m

    return update


def ademamix(b1=0.9, b2=0.999, b3=0.9999, alpha=6.0, eps=1e-8) -> Update:
    """Pagliardini et al. 2024, algorithm 1: the direction, with constant b3 and alpha."""
    m1 = m2 = v = 0.0
    t = 0

    def update(g, p):
        nonlocal m1, m2, v, t
        t += 1
        m1 = b1 * m1 + (1 - b1) * g
        m2 = b3 * m2 + (1 - b3) * g
        v = b2 * v + (1 - b2) * g**2
        return (m1 / (1 - b1**t) + alpha * m2) / (np.sqrt(v / (1 - b2**t)) + eps)

    return update


def simplified_ademamix(b1=0.99, b2=0.95, alpha=0.0, eps=1e-8) -> Update:
    """Morwani et al. 2025, algorithm 2: the direction."""
    m = v = 0.0
    t = 0

    def update(g, p):
        nonlocal m, v, t
        t += 1
        m = b1 * m + g
        v = b2 * v + (1 - b2) * g**2
        return (m + alpha * g) / (np.sqrt(v / (1 - b2**t)) + eps)

    return update


def madgrad(learning_rate: float, momentum=0.9, eps=1e-6) -> Update:
    """Defazio and Jelassi 2021, algorithm 1, with eps where PyTorch's reference has it."""
    x0: np.ndarray | None = None
    s = G = 0.0
    t = 0

    def update(g, p):
        nonlocal x0, s, G, t
        x0 = p if x0 is None else x0
        t += 1
        weight = (learning_rate + eps) * np.sqrt(t)
        s = s + weight * g
        G = G + weight * g**2
        z = x0 - s / (np.cbrt(G) + eps)
        return (1 - momentum) * z + momentum * p - p

    return update


def schedule_free(inner: Update, learning_rate: Callable[[int], float], b1=0.9, power=2.0) -> Update:
    """Defazio et al. 2024, equations 3 to 5, with weights by the largest learning rate so far."""
    x: np.ndarray | None = None
    z: np.ndarray | None = None
    t, largest, weights = 0, 0.0, 0.0

    def update(g, p):
        nonlocal x, z, t, largest, weights
        if x is None or z is None:
            x, z = p, p
        largest = max(largest, learning_rate(t))
        weights += largest**power
        c = largest**power / weights if weights else 0.0
        t += 1
        z = z + inner(g, p)
        x = (1 - c) * x + c * z
        return b1 * x + (1 - b1) * z - p

    return update


def dog(alpha=1e-6, eps=1e-8) -> Update:
    """Ivgi et al. 2023, equations 1 and 2, from the distance alpha·(1 + ‖x₀‖)."""
    x0: np.ndarray | None = None
    r = G = 0.0

    def update(g, p):
        nonlocal x0, r, G
        if x0 is None:
            x0, r = p, alpha * (1 + np.linalg.norm(p))
        r = max(r, float(np.linalg.norm(p - x0)))
        G = G + np.sum(g**2)
        return r / np.sqrt(G + eps) * g

    return update


def dowg(sq_dist: float, eps=1e-4) -> Update:
    """Khaled et al. 2023, algorithm 1."""
    x0: np.ndarray | None = None
    r2, v = sq_dist, 0.0

    def update(g, p):
        nonlocal x0, r2, v
        x0 = p if x0 is None else x0
        r2 = max(r2, float(np.sum((p - x0) ** 2)))
        v = v + r2 * np.sum(g**2)
        return r2 / (np.sqrt(v) + eps) * g

    return update


def prodigy(b1=0.9, b2=0.999, eps=1e-8, d0=1e-6, corrected=True) -> Update:
    """Mishchenko and Defazio 2023, algorithm 4; with the bias corrections that its reference code offers."""
    x0: np.ndarray | None = None
    d, m, v, r, t = d0, 0.0, 0.0, 0.0, 0
    s = np.zeros(1)
    b3 = np.sqrt(b2)

    def update(g, p):
        nonlocal x0, d, m, v, r, s, t
        x0 = p if x0 is None else x0
        t += 1
        rate = d * np.sqrt(1 - b2**t) / (1 - b1**t) if corrected else d
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d**2 * g**2
        r = b3 * r + rate * d / d0 * np.sum(g * (x0 - p))
        s = b3 * s + rate * d / d0 * g
        d = max(d, r / np.sum(np.abs(s)))
        return -rate * m / (np.sqrt(v) + d * eps)

    return update


def dadapt_adamw(b1=0.9, b2=0.999, eps=1e-8, d0=1e-6, weight_decay=0.0) -> Update:
    """Defazio and Mishchenko 2023, algorithm 5, with the bias corrections of its reference code."""
    d, m, v, r, t = d0, 0.0, 0.0, 0.0, 0
    s = np.zeros(1)
    b3 = np.sqrt(b2)

    def update(g, p):
        nonlocal d, m, v, r, s, t
        t += 1
        rate = d * np.sqrt(1 - b2**t) / (1 - b1**t)
        r = b3 * r + (1 - b3) * rate * np.sum(g * s / (np.sqrt(v) + eps))
        m = b1 * m + (1 - b1) * rate * g
        v = b2 * v + (1 - b2) * g**2
        s = b3 * s + (1 - b3) * rate * g
        d = max(d, r / ((1 - b3) * np.sum(np.abs(s))))
        return -m / (np.sqrt(v) + eps) - rate * weight_decay * p

    return update


def cocob(alpha=100.0, eps=1e-8) -> Update:
    """Orabona and Tommasi 2017, algorithm 2; its gradients are the negative ones."""
    x0: np.ndarray | None = None
    C, L, G, R = 0.0, eps, 0.0, 0.0

    def update(g, p):
        nonlocal x0, C, L, G, R
        x0 = p if x0 is None else x0
        L = np.maximum(L, np.abs(g))
        G = G + np.abs(g)
        R = np.maximum(R - (p - x0) * g, 0)
        C = C - g
        return x0 + C / (L * np.maximum(G + L, alpha * L)) * (L + R) - p

    return update


def quintics(s: np.ndarray, steps: int = 5) -> np.ndarray:
    """The standard polynomial of Muon, so many times, of singular values."""
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


def near_orthogonal(x: np.ndarray, steps: int = 5, eps: float = 1e-8) -> np.ndarray:
    """What Newton-Schulz makes of a matrix, by its singular values."""
    U, s, V = np.linalg.svd(x, full_matrices=False)
    return (U * quintics(s / (np.linalg.norm(x) + eps), steps)) @ V


def muon(beta=0.95, steps=5, eps=1e-8, exact=False, scale=lambda m, n: max(1, n / m) ** 0.5) -> Update:
    """Jordan et al. 2024, with Adam's bias corrections and Nesterov's look-ahead; by singular values."""
    m, t = 0.0, 0

    def update(g, p):
        nonlocal m, t
        t += 1
        m = beta * m + (1 - beta) * g
        m_hat = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)
        if exact:
            U, _, V = np.linalg.svd(m_hat, full_matrices=False)
            return scale(*g.shape) * U @ V
        return scale(*g.shape) * near_orthogonal(m_hat, steps, eps)

    return update


def normuon(beta=0.95, b2=0.95, eps=1e-8, rms=0.2, nesterov=False, steps=5) -> Update:
    """Li et al. 2025, algorithm 1, whose rows are our columns; without `rms`, as in their code."""
    m, v = 0.0, 0.0

    def update(g, p):
        nonlocal m, v
        m = beta * m + (1 - beta) * g
        o = near_orthogonal(beta * m + (1 - beta) * g if nesterov else m, steps, 0.0)
        v = b2 * v + (1 - b2) * (o**2).mean(axis=0)
        even = o / (np.sqrt(v) + eps)
        norm = rms * np.sqrt(g.size) if rms else max(1, g.shape[1] / g.shape[0]) ** 0.5 * np.linalg.norm(o)
        return norm * even / np.linalg.norm(even)

    return update


def adamuon(beta=0.95, b2=0.95, eps=1e-8, rms=0.2, signed=True, steps=5) -> Update:
    """Si et al. 2025, algorithm 1."""
    m, v = 0.0, 0.0

    def update(g, p):
        nonlocal m, v
        m = beta * m + (1 - beta) * g
        o = near_orthogonal(np.sign(m) if signed else m, steps, 0.0)
        v = b2 * v + (1 - b2) * o**2
        even = o / (np.sqrt(v) + eps)
        return rms * np.sqrt(g.size) * even / np.linalg.norm(even)

    return update


def polargrad(beta=0.95) -> Update:
    """Lau et al. 2025, algorithm 1, momentum first, by singular values."""
    m = 0.0

    def update(g, p):
        nonlocal m
        m = beta * m + (1 - beta) * g
        U, s, V = np.linalg.svd(m, full_matrices=False)
        return s.sum() * U @ V

    return update


def hyperball(eta: float) -> Update:
    """Wen et al. 2025: a step on the sphere of the first param's norm."""
    R = None

    def update(g, p):
        nonlocal R
        R = np.linalg.norm(p) if R is None else R
        moved = p - eta * R * g / np.linalg.norm(g)
        return R * moved / np.linalg.norm(moved) - p

    return update


def lmo(kind: str, radius=1.0, steps=5) -> Update:
    """Pethick et al. 2025, table 2, for matrices (inputs, outputs)."""

    def update(g, p):
        m, n = g.shape
        direction = {
            "spectral": lambda: np.sqrt(n / m) * near_orthogonal(g, steps, 0.0),
            "sign": lambda: np.sign(g) / m,
            "embedding": lambda: g / np.sqrt((g**2).mean(axis=1, keepdims=True)),
            "rms": lambda: g / np.sqrt((g**2).mean()),
        }
        return radius * direction[kind]()

    return update


def dion2(fraction=0.25, decay=0.95, steps=5) -> Update:
    """Ahn et al. 2025, of whole matrices."""
    m = 0.0

    def update(g, p):
        nonlocal m
        m = m + g
        turned = m.shape[0] >= m.shape[1]
        x = m.T.copy() if turned else m.copy()
        chosen = np.argsort(-np.abs(x).sum(axis=1))[: int(np.ceil(fraction * len(x)))]
        u = np.zeros_like(x)
        u[chosen] = near_orthogonal(x[chosen], steps, 0.0)
        x[chosen] *= decay
        m, u = (x.T, u.T) if turned else (x, u)
        return u

    return update


def qk_clip(maxima, threshold: float, power: float) -> Update:
    """Kimi K2, section 2.1, of queries or keys whose heads lie along the last axis."""

    def update(g, p):
        gamma = np.minimum(1, threshold / np.asarray(maxima)) ** power
        return np.repeat(gamma, p.shape[1] // len(gamma)) * (p + g) - p

    return update


def soap(b1=0.95, b2=0.95, eps=1e-8, every=10, stagger=True, exact=False) -> Update:
    """Vyas et al. 2024, algorithm 3 and its code, of one matrix."""
    t, m, v, L, R, Q, P = 0, 0.0, 0.0, 0.0, 0.0, None, None

    def renewed(C, Q):
        if exact or Q is None:
            return np.linalg.eigh(C)[1][:, ::-1], np.arange(len(C))
        order = np.argsort(-np.diag(Q.T @ C @ Q))
        return np.linalg.qr((C @ Q)[:, order])[0], order

    def update(g, p):
        nonlocal t, m, v, L, R, Q, P
        t += 1
        if stagger and t == 1:
            Q, P = np.eye(len(g)), np.eye(len(g[0]))
        u = np.zeros_like(g)
        if stagger or t > 1:
            s = t if stagger else t - 1
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * (Q.T @ g @ P) ** 2
            u = np.sqrt(1 - b2**s) / (1 - b1**s) * Q @ (Q.T @ m @ P / (np.sqrt(v) + eps)) @ P.T
        L, R = b2 * L + (1 - b2) * g @ g.T, b2 * R + (1 - b2) * g.T @ g
        if (t - 1) % every == 0:
            (Q, rows), (P, columns) = renewed(L, Q), renewed(R, P)
            if t > 1 or stagger:
                v = v[rows][:, columns]
        return u

    return update


def shampoo(b1=0.9, b2=0.99, eps=1e-12, every=10, stagger=True, ridge=0.0, tracked=False) -> Update:
    """Gupta et al. 2018, algorithm 1, with means for sums and a mean of gradients, of one matrix."""
    t, m, L, R, left, right, bases = 0, 0.0, 0.0, 0.0, None, None, {}

    def root(C, of):
        C = C / (1 - b2**t) if b2 < 1 else C
        s, Q = np.linalg.eigh(C)
        if tracked:
            if of in bases or stagger:
                Q = bases.get(of, np.eye(len(C)))
                order = np.argsort(-np.diag(Q.T @ C @ Q))
                Q = np.linalg.qr((C @ Q)[:, order])[0]
            bases[of], s = Q, np.diag(Q.T @ C @ Q)
        return Q @ np.diag((np.maximum(s, 0) + eps + ridge * s.max()) ** -0.25) @ Q.T

    def update(g, p):
        nonlocal t, m, L, R, left, right
        t += 1
        if t == 1:
            left, right = np.eye(len(g)), np.eye(len(g[0]))
        new = 1 - b2 if b2 < 1 else 1
        m = b1 * m + (1 - b1) * g
        L, R = b2 * L + new * g @ g.T, b2 * R + new * g.T @ g
        due = (t - 1) % every == 0
        if due and not stagger:
            left, right = root(L, "left"), root(R, "right")
        u = left @ m @ right / (1 - b1**t)
        if due and stagger:
            left, right = root(L, "left"), root(R, "right")
        return u

    return update


def grafted(direction: Update, magnitude: Update) -> Update:
    """Agarwal et al. 2020, section 2."""

    def update(g, p):
        u, v = direction(g, p), magnitude(g, p)
        return u * np.linalg.norm(v) / np.linalg.norm(u)

    return update


def kl(b1=0.9, b2=0.98, eps=1e-8, every=10, stagger=True, adam=False) -> Update:
    """Lin et al. 2025, as its code has KL-Shampoo, or with `adam` KL-SOAP, of one matrix."""
    t, m, v, S, Q, d = 0, 0.0, 0.0, [0.0, 0.0], None, None

    def update(g, p):
        nonlocal t, m, v, S, Q, d
        t += 1
        a, b = g.shape
        if t == 1:
            d = [np.full(n, 0.1) for n in g.shape]
            Q = [np.eye(n) for n in g.shape]
        if t == 1 and not stagger:
            S = [(1 - b2) * g @ g.T / b, (1 - b2) * g.T @ g / a]
            Q = [np.linalg.eigh(C)[1][:, ::-1] for C in S]
            return np.zeros_like(g)
        m = b1 * m + (1 - b1) * g
        seen = Q[0].T @ g @ Q[1]
        v = b2 * v + (1 - b2) * seen**2
        size = np.sqrt(v) if adam else np.sqrt(np.outer(*d))
        u = Q[0] @ (Q[0].T @ m @ Q[1] / (size + eps)) @ Q[1].T
        inverse = [C @ np.diag(1 / s) @ C.T for C, s in zip(Q, d, strict=True)]
        S = [
            b2 * S[0] + (1 - b2) * g @ inverse[1] @ g.T / b,
            b2 * S[1] + (1 - b2) * g.T @ inverse[0] @ g / a,
        ]
        new = [np.mean(seen**2 / d[1], axis=1), np.mean(seen**2 / d[0][:, None], axis=0)]
        d = [
            np.maximum(b2 * s + (1 - b2) * x, max(10, min(len(s), 4000)) ** -2.0)
            for s, x in zip(d, new, strict=True)
        ]
        if (t - 1) % every == 0:
            Q = [np.linalg.qr(C @ B)[0] for C, B in zip(S, Q, strict=True)]
        return u

    return update


def kron(probes, b1=0.9, rate=0.1, damping=2**-11.5, max_rms=1.1, max_dim=8192, due=lambda t: True) -> Update:
    """Li 2024 and its code, of one matrix; `probes` are the V of the steps, by number from 1."""
    t, m, Q, P = 0, 0.0, None, None

    def root_of_power(C):
        x = C @ C[:, np.argmax(np.linalg.norm(C, axis=0))]
        return np.linalg.norm(C @ x) / np.linalg.norm(x)

    def moved(Q, A, B):
        if 1 < len(Q) <= max_dim:
            size, step = root_of_power(A @ A.T + B @ B.T), np.triu(A @ A.T - B @ B.T)
        else:
            a, b = np.diag(A @ A.T), np.diag(B @ B.T)
            size, step = np.max(a + b), np.diag(a - b)
        return Q - rate / size * step @ Q

    def update(g, p):
        nonlocal t, m, Q, P
        if t == 0:
            Q, P = np.eye(len(g)), np.eye(len(g[0]))
        t += 1
        m = b1 * m + (1 - b1) * g
        mean = m / (1 - b1**t)
        if due(t):
            V = probes(t, g.shape)
            A = Q @ (mean + damping * np.abs(mean).mean() * V) @ P.T
            B = np.linalg.inv(Q).T @ V @ np.linalg.inv(P)
            Q, P = moved(Q, A, B), moved(P, A.T, B.T)
        u = Q.T @ Q @ mean @ P.T @ P
        return u * min(1, max_rms / np.sqrt(np.mean(u**2)))

    return update


def galore(rank: int, gap: int, alpha: float, inner: Update) -> Update:
    """Zhao et al. 2024, algorithm 1, projecting the longer side; `inner` is ρ."""
    P, t = None, 0

    def update(g, p):
        nonlocal P, t
        if t % gap == 0:
            U, _, V = np.linalg.svd(g)
            P = U[:, :rank] if g.shape[0] >= g.shape[1] else V[:rank].T
        t += 1
        if g.shape[0] >= g.shape[1]:
            return alpha * P @ inner(P.T @ g, p)
        return alpha * inner(g @ P, p) @ P.T

    return update


def momo(loss: float, lr=1.0, beta=0.9) -> Update:
    """Schaipp et al. 2023, algorithm 1, for one loss again and again, without weight decay."""
    d = f = gamma = None

    def update(g, p):
        nonlocal d, f, gamma
        first = d is None
        d = g if first else beta * d + (1 - beta) * g
        f = loss if first else beta * f + (1 - beta) * loss
        gamma = np.vdot(g, p) if first else beta * gamma + (1 - beta) * np.vdot(g, p)
        return -min(lr, max(f + np.vdot(d, p) - gamma, 0) / np.vdot(d, d)) * d

    return update


def momo_adam(loss: float, lr=1e-2, b1=0.9, b2=0.999, eps=1e-8) -> Update:
    """Schaipp et al. 2023, algorithm 2, for one loss again and again, without weight decay."""
    d = v = f = gamma = 0.0
    k = 0

    def update(g, p):
        nonlocal d, v, f, gamma, k
        k += 1
        d = b1 * d + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        f = b1 * f + (1 - b1) * loss
        gamma = b1 * gamma + (1 - b1) * np.vdot(g, p)
        metric = eps + np.sqrt(v / (1 - b2**k))
        polyak = max(f + np.vdot(d, p) - gamma, 0) / np.vdot(d, d / metric)
        return -min(lr / (1 - b1**k), polyak) * d / metric

    return update


def sam(lr: float, rho: float) -> Update:
    """Foret et al. 2020, algorithm 1: each of its steps is two updates."""
    start, uphill = None, True

    def update(g, p):
        nonlocal start, uphill
        uphill = not uphill
        if not uphill:
            start = p
            return rho * g / np.linalg.norm(g)
        return start - lr * g - p

    return update


def opaque_sam(lr: float, rho: float, ascents: int) -> Update:
    """The same in one update, for the sum of fourth powers, going uphill so many times."""

    def update(g, p):
        w = p
        for _ in range(ascents):
            w = w + rho * g / np.linalg.norm(g)
            g = 4 * w**3
        return -lr * g

    return update


def mechanize(base: Update, s_init: float, n=6, decay=1e-2, eps=1e-8) -> Update:
    """Cutkosky et al. 2023, algorithm 1, with the clipped reward of its published code."""
    beta = np.array([1 - 10.0**-i for i in range(1, n + 1)])
    r, m, v, s = np.zeros(n), np.zeros(n), np.zeros(n), np.full(n, s_init)
    start, moved = None, 0.0

    def update(g, p):
        nonlocal r, m, v, s, start, moved
        start = p if start is None else start
        u = base(g, p)
        total = s.sum()
        moved = (start - p) / (total + eps)
        h = np.vdot(g + decay * total * np.linalg.norm(g) / (np.linalg.norm(p) + eps) * p, moved)
        r = beta * r + s * np.clip(h, -m, m)
        m = np.maximum(beta * m, abs(h) + eps)
        v = beta**2 * v + h**2
        s = (m * s_init / n + np.maximum(r, 0)) / (np.sqrt(v) + eps)
        return start - s.sum() * (moved - u) - p

    return update


def sophia(b1=0.965, b2=0.99, eps=1e-8, gamma=0.01, rho=1.0, k=10) -> Update:
    """Liu et al. 2023, algorithm 3, for the sum of fourth powers; the first mean without its bias."""
    m = h = 0.0
    t = 0

    def update(g, p):
        nonlocal m, h, t
        t += 1
        m = b1 * m + (1 - b1) * g
        u = np.clip(m / (1 - b1**t) / np.maximum(gamma * h, eps), -rho, rho)
        if t % k == 1:
            h = b2 * h + (1 - b2) * 12 * p**2
        return u

    return update
