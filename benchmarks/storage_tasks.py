"""What is learnt where fewer bytes may cost something: the next character of Python's source, and digits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from recipes_tasks import MODULES, SYMBOLS, Samples, characters, digits

CONTEXT, WIDTH, HEADS, BLOCKS = 64, 64, 4, 2
STRIDE = 16
"""How far apart the windows of the text begin."""


@dataclass(frozen=True)
class Task:
    """A model, what it learns, and for how long.

    Attributes:
        init: the params for a key.
        logits: of the params and inputs; the last axis counts classes.
        load: what batches are drawn from, and what is held out.
        steps, batch_size: of a training.
        rate: the highest learning rate, the best for float32 of four, each 1.7 to 2 times the one before,
            with other seeds: there, what acts like another rate costs least.
        seeds: how many trainings.
    """

    init: Callable[[jax.Array], Any]
    logits: Callable[[Any, jax.Array], jax.Array]
    load: Callable[[], tuple[Samples, Samples]]
    steps: int
    batch_size: int
    rate: float
    seeds: int

    def loss(self, params: Any, samples: Samples) -> jax.Array:
        """The mean negative log-likelihood in nats, computed in float32 whatever the params are kept in."""
        logits = self.logits(jax.tree.map(lambda x: x.astype("float32"), params), samples.inputs)
        return digits.cross_entropy(logits.reshape(-1, logits.shape[-1]), samples.targets.reshape(-1))


# --- text -------------------------------------------------------------------------------------------


def load_text() -> tuple[Samples, Samples]:
    """Modules of the standard library, and others held out, of which 512 windows are looked at."""
    text, held_out = (windows(characters(MODULES[part])) for part in ("train", "test"))
    chosen = np.linspace(0, len(held_out.targets) - 1, 512).astype(int)
    return text, Samples(*(x[chosen] for x in held_out))


def windows(text: np.ndarray) -> Samples:
    """CONTEXT characters, and for each the one that follows."""
    rows = np.lib.stride_tricks.sliding_window_view(text, CONTEXT + 1)[::STRIDE]
    return Samples(rows[:, :-1].astype(np.int32), rows[:, 1:].astype(np.int32))


def init_transformer(key: jax.Array) -> Any:
    """A small GPT: matrices drawn with a variance of one over their inputs."""
    keys = iter(jax.random.split(key, 4 * BLOCKS + 3))

    def dense(inputs: int, outputs: int) -> Any:
        kernel = jax.random.normal(next(keys), (inputs, outputs)) / inputs**0.5
        return {"kernel": kernel, "bias": jnp.zeros(outputs)}

    def norm() -> Any:
        return {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)}

    def block() -> Any:
        return {
            "norm_1": norm(),
            "in": dense(WIDTH, 3 * WIDTH),
            "out": dense(WIDTH, WIDTH),
            "norm_2": norm(),
            "wide": dense(WIDTH, 4 * WIDTH),
            "narrow": dense(4 * WIDTH, WIDTH),
        }

    return {
        "tokens": 0.1 * jax.random.normal(next(keys), (SYMBOLS, WIDTH)),
        "positions": 0.1 * jax.random.normal(next(keys), (CONTEXT, WIDTH)),
        "blocks": [block() for _ in range(BLOCKS)],
        "norm": norm(),
        "head": dense(WIDTH, SYMBOLS),
    }


def transformer(params: Any, tokens: jax.Array) -> jax.Array:
    """The logits of the next character after each, [n, CONTEXT, SYMBOLS]."""
    x = params["tokens"][tokens] + params["positions"]
    for block in params["blocks"]:
        x = x + attention(block, normalized(block["norm_1"], x))
        hidden = jax.nn.gelu(linear(block["wide"], normalized(block["norm_2"], x)))
        x = x + linear(block["narrow"], hidden)
    return linear(params["head"], normalized(params["norm"], x))


def attention(block: Any, x: jax.Array) -> jax.Array:
    """Each character looks at those before it."""
    heads = linear(block["in"], x).reshape(*x.shape[:2], 3, HEADS, WIDTH // HEADS)
    q, k, v = heads[:, :, 0], heads[:, :, 1], heads[:, :, 2]
    return linear(block["out"], jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))


def linear(layer: Any, x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def normalized(norm: Any, x: jax.Array) -> jax.Array:
    return jax.nn.standardize(x, axis=-1) * norm["scale"] + norm["bias"]


# --- digits -----------------------------------------------------------------------------------------


def load_digits() -> tuple[Samples, Samples]:
    """1437 images for training, 360 held out."""
    train, test = digits.load()
    return Samples(*train), Samples(*test)


def init_perceptron(key: jax.Array) -> Any:
    """Two hidden layers of 128."""
    return digits.init_mlp(key, (64, 128, 128, 10))


TASKS = {
    "digits": Task(init_perceptron, digits.mlp, load_digits, steps=400, batch_size=128, rate=4e-3, seeds=40),
    "text": Task(init_transformer, transformer, load_text, steps=500, batch_size=8, rate=6e-3, seeds=8),
}
