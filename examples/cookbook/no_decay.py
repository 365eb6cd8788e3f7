"""No weight decay on biases and norms: by name, by shape, or by AdamW's own mask.

    python examples/cookbook/no_decay.py

You should see which params decay, and that the three ways agree.
"""

import jax
import jax.numpy as jnp
from flax import nnx

import gradtx

rngs = nnx.Rngs(0)
model = nnx.Sequential(
    nnx.Linear(64, 64, rngs=rngs),
    nnx.LayerNorm(64, rngs=rngs),
    nnx.relu,
    nnx.Linear(64, 10, rngs=rngs),
)

# --8<-- [start:ways]
adamw = gradtx.adamw(1e-3, weight_decay=0.1)

by_name = gradtx.groups(adamw, {r".*(bias|scale)": {"weight_decay": 0.0}})
by_shape = gradtx.groups(
    adamw, {lambda path, leaf: leaf.ndim < 2: {"weight_decay": 0.0}}
)
by_mask = gradtx.adamw(
    1e-3, weight_decay=0.1, mask={r".*(bias|scale)": False, ".*": True}
)

optimizer = nnx.Optimizer(model, by_name, wrt=nnx.Param)
# --8<-- [end:ways]

# What decays: with gradients of 0 AdamW moves nothing else.
params = jax.tree.map(lambda x: x + 1.0, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
zeros = jax.tree.map(jnp.zeros_like, params)
moved = {}
for tx in (by_name, by_shape, by_mask):
    updates, _ = tx.update(zeros, tx.init(params), params)
    paths = [
        (jax.tree_util.keystr(path), x)
        for path, x in jax.tree.leaves_with_path(updates)
    ]
    moved[tx] = {path for path, x in paths if jnp.any(x != 0)}
    print(f"decayed: {sorted(moved[tx])}")

assert len(moved[by_name]) == 2 and all("kernel" in path for path in moved[by_name])
assert moved[by_name] == moved[by_shape] == moved[by_mask]
