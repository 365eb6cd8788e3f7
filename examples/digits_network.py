"""The network of digits.py, sharded.py and several_processes.py, in Flax nnx."""

import jax
import jax.numpy as jnp
from flax import nnx


class Network(nnx.Module):
    """Two convolutions and two dense layers."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 32, (3, 3), use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(32, momentum=0.9, rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)
        self.dense = nnx.Linear(4 * 4 * 64, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images: jax.Array, training: bool = False) -> jax.Array:
        x = nnx.relu(self.norm1(self.conv1(images), use_running_average=not training))
        x = nnx.relu(self.norm2(self.conv2(x), use_running_average=not training))
        x = nnx.relu(self.dense(jnp.reshape(x, (len(x), -1))))
        return self.out(x)
