"""Modern optimizers, and their formulas by hand: plain `jax.numpy` for one tensor after another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

import gradtx
from gradtx import GradientTransformation

Array = jax.Array
Slots = dict[str, Array]
Init = Callable[[Array], Slots]
"""What a formula remembers of a tensor before the first step."""
Formula = Callable[[Array, Array, Slots, Array], tuple[Array, Slots]]
"""The next param and slots, from param, gradient, slots, and the number of this step."""

RATE = 1e-3
B1, B2 = 0.9, 0.999


@dataclass(frozen=True)
class Case:
    """An optimizer, and its formula.

    Attributes:
        name: as the tables have it.
        tx: the optimizer.
        init, formula: the same by hand.
        extra: arguments of an update that are given the gradient.
        drawn: slots of random numbers, which the formula takes over from the optimizer's state.
    """

    name: str
    tx: Callable[[], GradientTransformation]
    init: Init
    formula: Formula
    extra: tuple[str, ...] = ()
    drawn: tuple[str, ...] = field(default=())

    def steps(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """A step of the optimizer and one by hand, ``(params, state, grads) -> (params, state)``."""
        tx = self.tx()

        def ours(params: Any, state: Any, grads: Any) -> Any:
            updates, state = tx.update(grads, state, params, **dict.fromkeys(self.extra, grads))
            return gradtx.apply_updates(params, updates), state

        def by_hand(params: Any, state: Any, grads: Any) -> Any:
            t = state["t"] + 1
            new, slots = {}, {}
            for name, p in params.items():
                new[name], slots[name] = self.formula(p, grads[name], state["slots"][name], t)
            return new, {"t": t, "slots": slots}

        return ours, by_hand

    def states(self, params: Mapping[str, Array]) -> tuple[Any, Any]:
        """Where the two begin."""
        state = self.tx().init(params)
        slots = {name: self.init(p) for name, p in params.items()}
        for drawn in self.drawn:
            for name, x in gradtx.tree.get(state, drawn).items():
                slots[name][drawn] = jnp.copy(x)
        return state, {"t": jnp.zeros([], jnp.int32), "slots": slots}


def like(*names: str) -> Init:
    """Zeros of the tensor's shape."""
    return lambda p: {name: jnp.zeros_like(p) for name in names}


def numbers(*names: str) -> Init:
    """One 0 for the tensor."""
    return lambda p: {name: jnp.zeros([], p.dtype) for name in names}


def both(*inits: Init) -> Init:
    """All slots of some."""
    return lambda p: {name: x for init in inits for name, x in init(p).items()}


def adam(g: Array, s: Slots, t: Array, eps: float, b1: float = B1, b2: float = B2) -> tuple[Array, Slots]:
    """Adam's direction."""
    m = b1 * s["m"] + (1 - b1) * g
    v = b2 * s["v"] + (1 - b2) * g**2
    return m / (1 - b1**t) / (jnp.sqrt(v / (1 - b2**t)) + eps), {"m": m, "v": v}


def laprop(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    v = B2 * s["v"] + (1 - B2) * g**2
    m = B1 * s["m"] + (1 - B1) * g / (jnp.sqrt(v / (1 - B2**t)) + 1e-15)
    return p - RATE * m / (1 - B1**t), {"m": m, "v": v}


def stable_adamw(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    m = B1 * s["m"] + (1 - B1) * g
    v = 0.99 * s["v"] + 0.01 * g**2
    v_hat = v / (1 - 0.99**t)
    rms = jnp.sqrt(jnp.mean(g**2 / jnp.maximum(v_hat, 1e-16)))
    direction = m / (1 - B1**t) / (jnp.sqrt(v_hat) + 1e-8) + 0.01 * p
    return p - RATE / jnp.maximum(1, rms) * direction, {"m": m, "v": v}


def came_init(p: Array) -> Slots:
    if p.ndim < 2:
        return {"m": jnp.zeros_like(p), "v": jnp.zeros_like(p)}
    lines = {"row": p[..., 0], "column": p[..., 0, :]}
    return {
        "m": jnp.zeros_like(p),
        **{f"{of}_{line}": jnp.zeros_like(x) for of in "vr" for line, x in lines.items()},
    }


def came(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    del t
    squares = g**2 + 1e-30
    if p.ndim < 2:
        v = B2 * s["v"] + (1 - B2) * squares
        u = g / jnp.sqrt(v)
        u = u / jnp.maximum(1, jnp.sqrt(jnp.mean(u**2)))
        m = B1 * s["m"] + (1 - B1) * u
        return p - RATE * m, {"m": m, "v": v}

    def root(row: Array, column: Array) -> Array:
        return jnp.sqrt(row / jnp.mean(row, -1, keepdims=True))[..., None] * jnp.sqrt(column)[..., None, :]

    row = B2 * s["v_row"] + (1 - B2) * jnp.mean(squares, -1)
    column = B2 * s["v_column"] + (1 - B2) * jnp.mean(squares, -2)
    u = g / root(row, column)
    u = u / jnp.maximum(1, jnp.sqrt(jnp.mean(u**2)))
    m = B1 * s["m"] + (1 - B1) * u
    residual = (u - m) ** 2 + 1e-16
    r_row = 0.9999 * s["r_row"] + 0.0001 * jnp.mean(residual, -1)
    r_column = 0.9999 * s["r_column"] + 0.0001 * jnp.mean(residual, -2)
    slots = {"m": m, "v_row": row, "v_column": column, "r_row": r_row, "r_column": r_column}
    return p - RATE * m / root(r_row, r_column), slots


def adam_mini(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    m = B1 * s["m"] + (1 - B1) * g
    v = B2 * s["v"] + (1 - B2) * jnp.mean(g**2)
    return p - RATE * m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + 1e-8), {"m": m, "v": v}


RANK = 4


def is_projected(p: Array) -> bool:
    return p.ndim == 2 and min(p.shape) > RANK


def apollo_init(p: Array) -> Slots:
    if is_projected(p):
        low = jnp.zeros((max(p.shape), RANK), p.dtype)
        return {"m": low, "v": jnp.copy(low), "norm": jnp.zeros([], p.dtype)}
    return {"m": jnp.zeros_like(p), "v": jnp.zeros_like(p), "norm": jnp.zeros([], p.dtype)}


def apollo(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    correction = jnp.sqrt(1 - B2**t) / (1 - B1**t)
    R, wide = g, p.ndim == 2 and p.shape[0] < p.shape[1]
    if is_projected(p):
        key = jax.random.fold_in(jax.random.key(s["stream"]), (t - 1) // 200)
        R = (g.T if wide else g) @ (jax.random.normal(key, (min(p.shape), RANK), p.dtype) / RANK**0.5)
    m = B1 * s["m"] + (1 - B1) * R
    v = B2 * s["v"] + (1 - B2) * R**2
    N, norm = m / (jnp.sqrt(v) + 1e-6), s["norm"]
    if is_projected(p):
        ratio = jnp.linalg.norm(N, axis=1) / (jnp.linalg.norm(R, axis=1) + 1e-8)
        N = g * (ratio[None, :] if wide else ratio[:, None])
        size = jnp.sqrt(jnp.sum(N**2))
        limit = jnp.where(norm > 0, jnp.maximum(size / (norm + 1e-8), 1.01) / 1.01, 1)
        N, norm = N / limit, size / limit
    return p - RATE * correction * N, {"m": m, "v": v, "norm": norm, "stream": s["stream"]}


def tiger(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    del t
    m = 0.965 * s["m"] + 0.035 * g
    return p - RATE * (jnp.sign(m) + 0.01 * p), {"m": m}


def amos(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    square = jnp.mean(g**2)
    v = B2 * s["v"] + (1 - B2) * square
    v_hat, b = v / (1 - B2**t), s["b"]
    decay = 1 / jnp.sqrt(1 + 0.25 * RATE**0.5 * b)
    gamma = decay * RATE**2 * square / v_hat
    d = 1 / (1 + 0.25 * RATE**0.5 * b)
    new = p - d * (RATE / jnp.sqrt(v_hat) * g + gamma / 2 * p)
    return new, {"v": v, "b": b + gamma * (1 + b)}


def ftrl(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    del t
    n = s["n"] + g**2
    z = s["z"] + g - (jnp.sqrt(n) - jnp.sqrt(s["n"])) / RATE * p
    new = -(z - jnp.sign(z) * 1e-3) / ((1 + jnp.sqrt(n)) / RATE + 1e-2)
    return jnp.where(jnp.abs(z) <= 1e-3, 0, new), {"z": z, "n": n}


def adahessian(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    h = jnp.abs(g)  # the gradient stands for the Hessian's diagonal
    if h.ndim > 2:
        h = jnp.broadcast_to(jnp.mean(h, tuple(range(h.ndim - 2)), keepdims=True), h.shape)
    m = B1 * s["m"] + (1 - B1) * g
    v = B2 * s["v"] + (1 - B2) * h**2
    return p - RATE * m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + 1e-4), {"m": m, "v": v}


def cautious(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    u, slots = adam(g, s, t, 1e-8)
    kept = (jnp.sign(u) * jnp.sign(g) > 0).astype(p.dtype)
    u = u * kept / jnp.maximum(jnp.mean(kept), 1e-3)
    return p - RATE * (u + 0.1 * p), slots


def grams(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    u, slots = adam(g, s, t, 1e-6)
    return p - RATE * jnp.abs(u) * jnp.sign(g), slots


def mars(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    c = g + 0.025 * 0.95 / 0.05 * (g - s["g"])
    c = c * jnp.minimum(1, 1 / jnp.sqrt(jnp.sum(c**2)))
    u, slots = adam(c, s, t, 1e-8, 0.95, 0.99)
    return p - RATE * u, {**slots, "g": g}


def without_radial(p: Array, g: Array, u: Array) -> Array:
    """AdamP's projection: of each channel's weights, or else of all, where they are scale-invariant."""
    if p.ndim < 2:
        return u

    def view(axes: tuple[int, ...], count: int) -> tuple[Array, Array]:
        def inner(x: Array, y: Array) -> Array:
            return jnp.sum(x * y, axes, keepdims=True)

        pp = jnp.sqrt(inner(p, p))
        cosine = jnp.abs(inner(g, p)) / (jnp.maximum(jnp.sqrt(inner(g, g)), 1e-8) * jnp.maximum(pp, 1e-8))
        return jnp.max(cosine) < 0.1 / count**0.5, inner(p, u) / (pp + 1e-8) ** 2

    channels, by_channel = view(tuple(range(p.ndim - 1)), p.size // p.shape[-1])
    layer, by_layer = view(tuple(range(p.ndim)), p.size)
    return u - jnp.where(channels, by_channel, jnp.where(layer, by_layer, 0)) * p


def adamp(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    u, slots = adam(g, s, t, 1e-8)
    return p - RATE * without_radial(p, g, u), slots


def sgdp(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    del t
    m = 0.9 * s["m"] + g
    return p - RATE * without_radial(p, g, m), {"m": m}


def spam(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    since = t % 500
    m, v = jnp.where(since == 0, 0, s["m"]), jnp.where(since == 0, 0, s["v"])
    spike = (g**2 > 5000 * v) & (since >= 20)
    g = jnp.where(spike, jnp.sign(g) * jnp.sqrt(5000 * v), g)
    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * g**2
    rising = 1 - 0.99 * (1 + jnp.cos(jnp.pi * since / 151)) / 2
    rate = RATE * jnp.where((since < 150) & (t >= 500), rising, 1).astype(p.dtype)
    return p - rate * m / (1 - B1**t) * jnp.sqrt(1 - B2**t) / (jnp.sqrt(v) + 1e-6), {"m": m, "v": v}


def stable_spam(p: Array, g: Array, s: Slots, t: Array) -> tuple[Array, Slots]:
    most = jnp.max(jnp.abs(g))
    largest = 0.999 * s["largest"] + 0.001 * most
    usual = largest / (1 - 0.999**t)
    g = jnp.where(jnp.abs(g) > usual, g * usual / most, g)
    size = jnp.sqrt(jnp.sum(g**2))
    norm = 0.7 * s["norm"] + 0.3 * size
    square = 0.9 * s["square"] + 0.1 * size**2
    g = g / size * (norm / (1 - 0.7**t)) / (jnp.sqrt(square / (1 - 0.9**t)) + 1e-8)
    anew = t % 1000 == 0
    moments = {name: jnp.where(anew, 0, s[name]) for name in "mv"}
    age = jnp.where(anew, 0, s["age"]) + 1
    u, slots = adam(g, moments, age, 1e-8)
    return p - RATE * u, {**slots, "age": age, "largest": largest, "norm": norm, "square": square}


def cautious_adamw() -> GradientTransformation:
    direction = gradtx.cautious(gradtx.scale_by_adam(), uphill=True)
    return gradtx.chain(direction, gradtx.add_decayed_weights(0.1), gradtx.scale_by_learning_rate(RATE))


moments = like("m", "v")

CASES = [
    Case("laprop", lambda: gradtx.laprop(RATE), moments, laprop),
    Case("stable_adamw", lambda: gradtx.stable_adamw(RATE), moments, stable_adamw),
    Case("came", lambda: gradtx.came(RATE), came_init, came),
    Case("adam_mini", lambda: gradtx.adam_mini(RATE), both(like("m"), numbers("v")), adam_mini),
    Case("apollo", lambda: gradtx.contrib.apollo(RATE, rank=RANK), apollo_init, apollo, drawn=("stream",)),
    Case("tiger", lambda: gradtx.tiger(RATE), like("m"), tiger),
    Case("amos", lambda: gradtx.amos(RATE), numbers("v", "b"), amos),
    Case("ftrl", lambda: gradtx.ftrl(RATE, beta=1.0, l1=1e-3, l2=1e-2), like("z", "n"), ftrl),
    Case("adahessian", lambda: gradtx.adahessian(RATE), moments, adahessian, extra=("hessian",)),
    Case("cautious AdamW", cautious_adamw, moments, cautious),
    Case("grams", lambda: gradtx.grams(RATE), moments, grams),
    Case("mars", lambda: gradtx.mars(RATE), both(moments, like("g")), mars),
    Case("adamp", lambda: gradtx.adamp(RATE), moments, adamp),
    Case("sgdp", lambda: gradtx.sgdp(RATE), like("m"), sgdp),
    Case("spam", lambda: gradtx.spam(RATE), moments, spam),
    Case(
        "stable_spam",
        lambda: gradtx.stable_spam(RATE),
        both(
            moments,
            numbers("largest", "norm", "square"),
            lambda p: {"age": jnp.zeros([], jnp.int32)},
        ),
        stable_spam,
    ),
]
