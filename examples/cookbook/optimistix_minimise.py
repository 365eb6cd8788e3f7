"""Optimistix: a gradtx optimizer as its minimiser, and in its least squares.

    python examples/cookbook/optimistix_minimise.py

You should see that both find the minimum of Rosenbrock's function.
"""

import jax
import jax.numpy as jnp
import optimistix as optx

import gradtx


# --8<-- [start:minimise]
def rosenbrock(y, args):
    return jnp.sum(100.0 * (y[1:] - y[:-1] ** 2) ** 2 + (1.0 - y[:-1]) ** 2)


solver = optx.OptaxMinimiser(gradtx.adam(0.02), rtol=1e-7, atol=1e-7)
solution = optx.minimise(rosenbrock, solver, jnp.zeros(4), max_steps=20_000)
print(solution.value, int(solution.stats["num_steps"]))
# --8<-- [end:minimise]

assert jnp.allclose(solution.value, 1.0, atol=1e-2)

# --8<-- [start:lbfgs]
solver = optx.OptaxMinimiser(
    gradtx.lbfgs(), rtol=1e-6, atol=1e-6
)  # its line search is told the function
solution = optx.minimise(rosenbrock, solver, jnp.zeros(4), max_steps=500)
print(solution.value, int(solution.stats["num_steps"]))
# --8<-- [end:lbfgs]

assert jnp.allclose(solution.value, 1.0, atol=1e-2)
assert int(solution.stats["num_steps"]) < 100


# --8<-- [start:sweep]
def solve(rate):
    solver = optx.OptaxMinimiser(gradtx.adam(rate), rtol=1e-7, atol=1e-7)
    return optx.minimise(
        rosenbrock, solver, jnp.zeros(4), max_steps=1000, throw=False
    ).value


values = jax.jit(jax.vmap(solve))(jnp.array([1e-4, 1e-2]))
# --8<-- [end:sweep]
assert rosenbrock(values[1], None) < rosenbrock(values[0], None)
