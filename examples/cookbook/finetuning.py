"""Fine-tuning: frozen layers that hold no state, and LoRA over a base in int8.

    python examples/cookbook/finetuning.py

A network learns to read the digits 0 to 4 and is then fine-tuned to all ten. You should see how few bytes
of state that takes, and that what is frozen has not moved.
"""

import jax
import jax.numpy as jnp
import numpy as np
from digits_data import Digits, accuracy, batch_at, cross_entropy, load
from flax import nnx

import gradtx

STEPS = 100
train, test = load()
first_half = Digits(*(x[train.labels < 5] for x in train))


class Network(nnx.Module):
    """Two layers that look at the image, and a head."""

    def __init__(self, rngs: nnx.Rngs):
        self.layer1 = nnx.Linear(64, 64, rngs=rngs)
        self.layer2 = nnx.Linear(64, 64, rngs=rngs)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images):
        x = images.reshape(len(images), -1)
        return self.head(nnx.relu(self.layer2(nnx.relu(self.layer1(x)))))


# --8<-- [start:fit]
def fit(
    model: Network, tx: gradtx.GradientTransformation, wrt, data: Digits
) -> nnx.Optimizer:
    """Train the variables of this kind."""
    optimizer = nnx.Optimizer(model, tx, wrt=wrt)

    @nnx.jit
    def train_step(model, optimizer, batch):
        def loss_of(model):
            return cross_entropy(model(batch.images), batch.labels)

        grads = nnx.grad(loss_of, argnums=nnx.DiffState(0, wrt))(model)
        optimizer.update(model, grads)

    for step in range(STEPS):
        train_step(model, optimizer, batch_at(data, step, 128))
    return optimizer


# --8<-- [end:fit]


def report(name: str, model: Network, optimizer: nnx.Optimizer) -> float:
    """Print and return the test accuracy."""
    state_bytes = sum(
        x.nbytes for x in jax.tree.leaves(nnx.to_pure_dict(nnx.state(optimizer)))
    )
    right = float(accuracy(model(test.images), test.labels))
    print(f"{name:14}  state {state_bytes:6} bytes  test accuracy {right:.1%}")
    return right


def frozen_layers(model: Network) -> None:
    """Freeze the first layer; the second learns at a tenth of the head's rate."""
    before = jnp.copy(model.layer1.kernel[...])
    # --8<-- [start:frozen]
    tx = gradtx.groups(
        gradtx.adamw(1e-2),
        {r"layer1/.*": None, r"layer2/.*": {"learning_rate": 1e-3}},  # None freezes
    )
    # --8<-- [end:frozen]
    optimizer = fit(model, tx, nnx.Param, train)
    assert report("frozen layers", model, optimizer) > 0.8
    assert jnp.array_equal(before, model.layer1.kernel[...])
    assert (
        gradtx.tree.get(optimizer.opt_state, "mu")["layer1"]["kernel"]
        == gradtx.MaskedNode()
    )


# --8<-- [start:lora]
class Int8Linear(nnx.Module):
    """A frozen layer in int8, with one scale for each output."""

    def __init__(self, linear: nnx.Linear):
        scale = jnp.max(jnp.abs(linear.kernel[...]), axis=0) / 127
        self.codes = nnx.Variable(
            jnp.round(linear.kernel[...] / scale).astype(jnp.int8)
        )
        self.scale, self.bias = nnx.Variable(scale), nnx.Variable(linear.bias[...])

    def __call__(self, x):
        return x @ self.codes[...].astype(x.dtype) * self.scale[...] + self.bias[...]


def with_lora(linear: nnx.Linear, rank: int, rngs: nnx.Rngs) -> nnx.LoRA:
    """The layer in int8, and beside it a product of two thin matrices, which learns."""
    return nnx.LoRA(
        linear.in_features,
        rank,
        linear.out_features,
        base_module=Int8Linear(linear),
        rngs=rngs,
    )


def lora(model: Network) -> None:
    """Train the thin matrices alone."""
    rngs = nnx.Rngs(1)
    for name in ("layer1", "layer2", "head"):
        setattr(model, name, with_lora(getattr(model, name), rank=8, rngs=rngs))
    # --8<-- [end:lora]
    codes = np.array(model.layer1.base_module.codes[...])
    # --8<-- [start:train]
    optimizer = fit(model, gradtx.adamw(1e-2), nnx.LoRAParam, train)
    # --8<-- [end:train]
    assert report("LoRA on int8", model, optimizer) > 0.8
    assert codes.dtype == np.int8 and np.array_equal(
        codes, model.layer1.base_module.codes[...]
    )
    assert gradtx.tree.size(gradtx.tree.get(optimizer.opt_state, "mu")) == 8 * (
        128 + 128 + 74
    )


base = Network(nnx.Rngs(0))
report("pretrained", base, fit(base, gradtx.adamw(3e-3), nnx.Param, first_half))
frozen_layers(nnx.clone(base))
lora(nnx.clone(base))
