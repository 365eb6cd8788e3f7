"""Reinforcement learning: a policy gradient whose update is inside `scan`, mapped over seeds by `vmap`.

    python examples/cookbook/reinforcement_learning.py

The pole on a cart, in JAX, so that environment, gradient and update are one compiled program. You should
see the length of episodes rise, on the mean over seeds.
"""

import jax
import jax.numpy as jnp
from digits_data import QUICK

import gradtx

SEEDS, ENVIRONMENTS, LENGTH = 4, 16, 200
UPDATES = 30 if QUICK else 90


def move(state: jax.Array, action: jax.Array) -> jax.Array:
    """The next position, speed, angle and angular speed (Barto, Sutton and Anderson, 1983)."""
    x, speed, angle, spin = state
    push = jnp.where(action == 1, 10.0, -10.0)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    force = (push + 0.05 * spin**2 * sin) / 1.1
    turn = (9.8 * sin - cos * force) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    return state + 0.02 * jnp.stack(
        [speed, force - 0.05 * turn * cos / 1.1, spin, turn]
    )


def policy(params, state: jax.Array) -> jax.Array:
    return (
        jnp.tanh(state @ params["hidden"]) @ params["out"]
    )  # the logits of left and right


def play(params, key: jax.Array):
    """States, actions and whether the pole stood before each, of one episode."""

    def step(carry, key):
        state, stands = carry
        action = jax.random.categorical(key, policy(params, state))
        new = move(state, action)
        fell = (jnp.abs(new[0]) > 2.4) | (jnp.abs(new[2]) > 0.2095)
        return (new, stands & ~fell), (state, action, stands)

    start = jax.random.uniform(key, 4, minval=-0.05, maxval=0.05)
    return jax.lax.scan(step, (start, True), jax.random.split(key, LENGTH))[1]


def loss_of(params, states, actions, stands) -> jax.Array:
    """Minus the log-probability of what was done, weighted by the reward still to come."""
    to_come = jnp.cumsum(stands[:, ::-1], axis=1)[:, ::-1].astype(jnp.float32)
    advantage = (to_come - to_come.mean(axis=0)) / (to_come.std() + 1e-6)
    logs = jnp.take_along_axis(
        jax.nn.log_softmax(policy(params, states)), actions[..., None], -1
    )[..., 0]
    return -jnp.sum(jnp.where(stands, logs * advantage, 0)) / jnp.sum(stands)


# --8<-- [start:train]
def train(tx: gradtx.GradientTransformation, key: jax.Array) -> jax.Array:
    """The mean length of episodes at each update, of one training."""

    def step(carry, key):
        params, state = carry
        states, actions, stands = jax.vmap(play, (None, 0))(
            params, jax.random.split(key, ENVIRONMENTS)
        )
        grads = jax.grad(loss_of)(params, states, actions, stands)
        updates, state = tx.update(grads, state, params)
        return (gradtx.apply_updates(params, updates), state), jnp.mean(
            jnp.sum(stands, axis=1)
        )

    first, second, rest = jax.random.split(key, 3)
    params = {
        "hidden": jax.random.normal(first, (4, 32)) * 0.5,
        "out": jax.random.normal(second, (32, 2)) * 0.01,
    }
    return jax.lax.scan(
        step, (params, tx.init(params)), jax.random.split(rest, UPDATES)
    )[1]


tx = gradtx.chain(
    gradtx.clip_by_global_norm(0.5),
    gradtx.adam(gradtx.linear_schedule(2e-2, 0.0, UPDATES)),
)
keys = jax.random.split(jax.random.key(0), SEEDS)
lengths = jax.jit(jax.vmap(train, in_axes=(None, 0)))(tx, keys)  # [seed, update]
# --8<-- [end:train]

for update in range(0, UPDATES, UPDATES // 6):
    print(
        f"update {update:3}  length of episodes {lengths[:, update].mean():5.1f} of {LENGTH}"
    )
print(
    f"at the end, by seed: {', '.join(f'{x:.0f}' for x in lengths[:, -5:].mean(axis=1))}"
)
assert lengths[:, -5:].mean() > 2.5 * lengths[:, :5].mean()
