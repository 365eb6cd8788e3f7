"""Change params in mid-training: a larger vocabulary, pruned rows, moments that begin anew.

    python examples/cookbook/resize_and_reset.py

You should see that what was there keeps its moments, and what is new begins at 0.
"""

import re

import jax
import jax.numpy as jnp

import gradtx

WORDS, WIDTH = 20, 8
text = jax.random.randint(jax.random.key(0), (1000,), 0, WORDS)


def loss_of(params, words):
    """Predict the next word from this one."""
    logits = params["embedding"]["table"][words[:-1]] @ params["out"]["kernel"]
    return gradtx.softmax_cross_entropy_with_integer_labels(logits, words[1:]).mean()


@jax.jit
def train_step(tx, params, state, words):
    loss, grads = jax.value_and_grad(loss_of)(params, words)
    updates, state = tx.update(grads, state, params)
    return gradtx.apply_updates(params, updates), state, loss


first, second = jax.random.split(jax.random.key(1))
params = {
    "embedding": {"table": 0.1 * jax.random.normal(first, (WORDS, WIDTH))},
    "out": {"kernel": 0.1 * jax.random.normal(second, (WIDTH, WORDS))},
}
tx = gradtx.adamw(1e-2)
state = tx.init(params)
for _ in range(10):
    params, state, loss = train_step(tx, params, state, text)


# --8<-- [start:resized]
def resized(tx, state, params, new_params):
    """The state for params of other shapes: what is in both stays as it was."""
    old, new = (gradtx.state_dict(tx, x) for x in (state, tx.init(new_params)))
    for name, x in old.items():
        both = tuple(
            slice(min(sizes)) for sizes in zip(x.shape, new[name].shape, strict=True)
        )
        new[name] = new[name].at[both].set(x[both])
    return gradtx.load_state_dict(tx, tx.init(new_params), new)


# --8<-- [end:resized]
# --8<-- [start:grow]
added = 5
grown = {
    "embedding": {"table": jnp.pad(params["embedding"]["table"], ((0, added), (0, 0)))},
    "out": {"kernel": jnp.pad(params["out"]["kernel"], ((0, 0), (0, added)))},
}
grown_state = resized(tx, state, params, grown)
# --8<-- [end:grow]
mu, grown_mu = (
    gradtx.tree.get(x, "mu")["embedding"]["table"] for x in (state, grown_state)
)
print(f"moments of the table: {mu.shape} → {grown_mu.shape}")
assert jnp.array_equal(grown_mu[:WORDS], mu) and not grown_mu[WORDS:].any() and mu.any()
assert gradtx.tree.get(grown_state, "mu")["out"]["kernel"].shape == (
    WIDTH,
    WORDS + added,
)
_, _, grown_loss = train_step(tx, grown, grown_state, text)


# --8<-- [start:reset]
def reset(tx, state, params, pattern):
    """The state with what belongs to the params of these paths as at `init`."""
    flat, fresh = gradtx.state_dict(tx, state), gradtx.state_dict(tx, tx.init(params))
    flat |= {
        name: x
        for name, x in fresh.items()
        if re.fullmatch(f"[^/]+/[^/]+/(?:{pattern})", name)
    }
    return gradtx.load_state_dict(tx, state, flat)


state = reset(tx, state, params, r"embedding/.*")
# --8<-- [end:reset]
nu = gradtx.tree.get(state, "nu")
assert not nu["embedding"]["table"].any() and nu["out"]["kernel"].any()

# --8<-- [start:prune]
# Half of the numbers of a matrix stay 0, whatever the gradients say.
kernel = params["out"]["kernel"]
kept = {
    "embedding": {"table": True},
    "out": {"kernel": jnp.abs(kernel) > jnp.median(jnp.abs(kernel))},
}


def prune(tree):
    return jax.tree.map(lambda keep, x: jnp.where(keep, x, 0), kept, tree)


pruning = gradtx.chain(gradtx.stateless(lambda updates, params: prune(updates)), tx)
params, state = prune(params), pruning.init(prune(params))
# --8<-- [end:prune]
for _ in range(10):
    params, state, loss = train_step(pruning, params, state, text)
zeros = float((params["out"]["kernel"] == 0).mean())
print(f"pruned: {zeros:.0%} of the kernel are 0 after 10 more steps, loss {loss:.3f}")
assert 0.49 < zeros < 0.51
