"""What is learnt: images of digits, and the next character of Python's own source."""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # the digits, as the examples have them

import digits_data as digits  # pyright: ignore[reportMissingImports] - of the path above

Logits = Callable[[Any, jax.Array], jax.Array]


class Samples(NamedTuple):
    """inputs: an array whose first axis counts samples; targets: int32, the right answers."""

    inputs: Any
    targets: Any


class Data(NamedTuple):
    """train: what batches are drawn from; whole: what stands for all of it in a full batch; validation:
    what chooses the learning rate; test: what is reported."""

    train: Samples
    whole: Samples
    validation: Samples
    test: Samples


@dataclass(frozen=True)
class Task:
    """A model and what it is to learn.

    Attributes:
        init: the params for a key.
        logits: of the params and inputs, for each sample.
        load: the data.
        steps: updates of a training, but for those in full batches.
        batch_size: samples of a batch, drawn with replacement.
    """

    init: Callable[[jax.Array], Any]
    logits: Logits
    load: Callable[[], Data]
    steps: int
    batch_size: int = 128

    def loss(self, params: Any, samples: Samples) -> jax.Array:
        """The mean negative log-likelihood, in nats."""
        return digits.cross_entropy(self.logits(params, samples.inputs), samples.targets)

    def accuracy(self, params: Any, samples: Samples) -> jax.Array:
        """The share of right answers."""
        return digits.accuracy(self.logits(params, samples.inputs), samples.targets)


# --- digits -----------------------------------------------------------------------------------------


def load_digits() -> Data:
    """1150 for training, 287 for the choice of the rate, 360 for the test."""
    train, test = (Samples(*part) for part in digits.load())
    rest, validation = (Samples(*(x[part] for x in train)) for part in (slice(287, None), slice(287)))
    return Data(rest, rest, validation, test)


# --- text -------------------------------------------------------------------------------------------

CONTEXT = 16
SYMBOLS = 96
"""The line feed, and ASCII from the space to the tilde."""

MODULES = {
    "train": (
        "argparse",
        "calendar",
        "collections",
        "configparser",
        "csv",
        "dataclasses",
        "difflib",
        "doctest",
        "fractions",
        "functools",
        "heapq",
        "inspect",
        "json.decoder",
        "json.encoder",
        "logging",
        "pickle",
        "subprocess",
        "textwrap",
        "tokenize",
        "typing",
    ),
    "validation": ("random", "shutil", "string"),
    "test": ("statistics", "tarfile", "copy"),
}


def characters(modules: tuple[str, ...]) -> np.ndarray:
    """Their source as numbers below SYMBOLS; other characters are left out."""
    text = "\n".join(inspect.getsource(importlib.import_module(name)) for name in modules)
    codes = np.frombuffer(text.encode("ascii", "ignore"), np.uint8)
    codes = codes[(codes == ord("\n")) | ((codes >= ord(" ")) & (codes <= ord("~")))]
    return np.where(codes == ord("\n"), 0, codes - ord(" ") + 1).astype(np.uint8)


def windows(text: np.ndarray, count: int | None = None) -> Samples:
    """Every CONTEXT characters with the one that follows, or so many of them, evenly spread."""
    rows = np.lib.stride_tricks.sliding_window_view(text, CONTEXT + 1)
    chosen = np.linspace(0, len(rows) - 1, count).astype(int) if count else slice(None)
    return Samples(np.ascontiguousarray(rows[chosen, :-1]), rows[chosen, -1].astype(np.int32))


def load_text() -> Data:
    """Windows of different modules for training, validation and test."""
    train, validation, test = map(characters, MODULES.values())
    return Data(windows(train), windows(train, 4096), windows(validation, 4096), windows(test, 4096))


def init_text(key: jax.Array) -> Any:
    """A perceptron over the concatenated embeddings of the context."""
    size = 16
    embedding = jax.random.normal(jax.random.fold_in(key, 2), (SYMBOLS, size))
    return {"embedding": embedding, "layers": digits.init_mlp(key, (CONTEXT * size, 64, SYMBOLS))}


def text_logits(params: Any, contexts: jax.Array) -> jax.Array:
    """The logits of the next character, [n, SYMBOLS]."""
    return digits.mlp(params["layers"], params["embedding"][jnp.asarray(contexts, jnp.int32)])


TASKS = {
    "digits": Task(digits.init_mlp, digits.mlp, load_digits, steps=300),
    "text": Task(init_text, text_logits, load_text, steps=400, batch_size=64),
}
