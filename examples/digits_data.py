"""What the examples share: images of handwritten digits, a loss, and a small network in plain JAX.

The 1797 images of 8×8 pixels come with scikit-learn; nothing is downloaded.
"""

import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

QUICK = os.environ.get("GRADTX_QUICK") == "1"
"""Whether the examples run at reduced size, to see that they work."""


class Digits(NamedTuple):
    """images: float32 [n, 8, 8, 1], from 0 to 1; labels: int32 [n]."""

    images: np.ndarray
    labels: np.ndarray


def load() -> tuple[Digits, Digits]:
    """A training set of 1437 digits and a test set of 360, in which every class has its share."""
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int32)
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    return Digits(parts[0], parts[2]), Digits(parts[1], parts[3])


def batch_at(data: Digits, step: int, size: int, seed: int = 0, shift: int = 0) -> Digits:
    """The batch of one step: different digits, each moved by at most `shift` pixels.

    It depends on the arguments alone, so a resumed training goes on with the batches to come.
    """
    rng = np.random.default_rng([seed, step])
    chosen = rng.choice(len(data.labels), size, replace=False)
    return Digits(_shifted(data.images[chosen], shift, rng), data.labels[chosen])


def _shifted(images: np.ndarray, shift: int, rng: np.random.Generator) -> np.ndarray:
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
    top, left = rng.integers(2 * shift + 1, size=(2, count, 1))
    rows, columns = top + np.arange(height), left + np.arange(width)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def batches(data: Digits, steps: int, size: int, seed: int = 0) -> Digits:
    """The batches of all steps, stacked along a first axis: what `jax.lax.scan` goes over."""
    rows = [batch_at(data, step, size, seed) for step in range(steps)]
    return Digits(np.stack([row.images for row in rows]), np.stack([row.labels for row in rows]))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean negative log-likelihood of the labels, in nats."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1))


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of right answers, from 0 to 1."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def init_mlp(key: jax.Array, sizes: tuple[int, ...] = (64, 64, 10)) -> dict[str, dict[str, jax.Array]]:
    """Parameters of a perceptron with these layer sizes, drawn as He et al. do (arXiv:1502.01852)."""
    params = {}
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        kernel = jax.random.normal(jax.random.fold_in(key, i), (fan_in, fan_out)) * (2 / fan_in) ** 0.5
        params[f"layer{i}"] = {"kernel": kernel, "bias": jnp.zeros(fan_out)}
    return params


def mlp(params: dict[str, dict[str, jax.Array]], images: jax.Array) -> jax.Array:
    """The perceptron's logits, [n, 10]."""
    x = jnp.reshape(images, (len(images), -1))
    for i, layer in enumerate(params.values()):
        x = (jax.nn.relu(x) if i else x) @ layer["kernel"] + layer["bias"]
    return x
