"""NumPyro: variational inference with a gradtx optimizer, handed over as an Optax one.

    python examples/cookbook/numpyro_svi.py

You should see the slope and the intercept of a noisy line, found with their uncertainty.
"""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

import gradtx

x = jnp.linspace(-1.0, 1.0, 100)
y = 2.0 * x - 1.0 + 0.1 * jax.random.normal(jax.random.key(0), (100,))


# --8<-- [start:svi]
def model(x, y):
    slope = numpyro.sample("slope", dist.Normal(0.0, 10.0))
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 10.0))
    numpyro.sample("y", dist.Normal(slope * x + intercept, 0.1), obs=y)


schedule = gradtx.exponential_decay(0.05, transition_steps=500, decay_rate=0.1)
tx = gradtx.chain(gradtx.clip_by_global_norm(10.0), gradtx.adam(schedule))
guide = AutoNormal(model)
svi = SVI(model, guide, gradtx.to_optax(tx), Trace_ELBO(num_particles=4))
result = svi.run(jax.random.key(1), 1000, x, y, progress_bar=False)
# --8<-- [end:svi]

median = guide.median(result.params)
print({name: f"{value:.3f}" for name, value in median.items()})
print(f"ELBO loss {result.losses[0]:.0f} → {result.losses[-1]:.1f}")

# With normal prior and noise the posterior is known; its mean is the ridge solution.
design = jnp.stack([x, jnp.ones_like(x)], axis=1)
mean = jnp.linalg.solve(design.T @ design + 0.01 / 100 * jnp.eye(2), design.T @ y)
assert jnp.allclose(jnp.stack([median["slope"], median["intercept"]]), mean, atol=0.02)
