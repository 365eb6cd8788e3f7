"""Change params in mid-training: a larger vocabulary, pruned rows, moments that begin anew.

    python examples/cookbook/resize_and_reset.py

You should see that what was there keeps its moments, and what is new begins at 0.
"""

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

# --8<-- [start:grow]
words = [*range(WORDS), -1, -1, -1]  # the old rows, and three new ones
drawn = 0.1 * jax.random.normal(jax.random.key(2), (3, WIDTH))
grown = gradtx.tree.resize(
    tx,
    state,
    params,
    {
        "embedding/table": gradtx.tree.Rows(words, new=drawn),
        "out/kernel": gradtx.tree.Rows(words, axis=1),  # new columns of 0
    },
)
print(grown.report)
# --8<-- [end:grow]
mu, grown_mu = (
    gradtx.tree.get(x, "mu")["embedding"]["table"] for x in (state, grown.state)
)
assert jnp.array_equal(grown_mu[:WORDS], mu) and not grown_mu[WORDS:].any() and mu.any()
assert jnp.array_equal(grown.params["embedding"]["table"][WORDS:], drawn)
params, state, _ = train_step(tx, grown.params, grown.state, text)

# --8<-- [start:narrow]
# Six of eight dimensions stay, those with the largest numbers in the table.
kept = jnp.argsort(jnp.linalg.norm(params["embedding"]["table"], axis=0))[-6:]
narrow = gradtx.tree.resize(
    tx,
    state,
    params,
    {
        "embedding/table": gradtx.tree.Rows(kept, axis=1),
        "out/kernel": gradtx.tree.Rows(kept),
    },
)
# --8<-- [end:narrow]
nu, narrow_nu = (
    gradtx.tree.get(x, "nu")["out"]["kernel"] for x in (state, narrow.state)
)
assert jnp.array_equal(narrow_nu, nu[kept]) and narrow_nu.shape == (6, WORDS + 3)
params, state, _ = train_step(tx, narrow.params, narrow.state, text)

# --8<-- [start:reset]
state, report = gradtx.tree.reset(tx, state, params, r"embedding/.*")
print(report)
# --8<-- [end:reset]
nu = gradtx.tree.get(state, "nu")
assert not nu["embedding"]["table"].any() and nu["out"]["kernel"].any()

# --8<-- [start:mask]
# Half of the numbers of a matrix stay 0, whatever the gradients say.
kernel = params["out"]["kernel"]
mask = {
    "embedding": {"table": True},
    "out": {"kernel": jnp.abs(kernel) > jnp.median(jnp.abs(kernel))},
}


def prune(tree):
    return jax.tree.map(lambda keep, x: jnp.where(keep, x, 0), mask, tree)


pruning = gradtx.chain(gradtx.stateless(lambda updates, params: prune(updates)), tx)
params, state = prune(params), pruning.init(prune(params))
# --8<-- [end:mask]
for _ in range(10):
    params, state, loss = train_step(pruning, params, state, text)
zeros = float((params["out"]["kernel"] == 0).mean())
print(f"pruned: {zeros:.0%} of the kernel are 0 after 10 more steps, loss {loss:.3f}")
assert 0.49 < zeros < 0.51
