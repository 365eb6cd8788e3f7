"""Functions smoothed by noise, so that they have derivatives."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import at_least_float32, cast
from gradtx.arrays.types import Array, Scalar
from gradtx.perturbations.distributions import Gumbel


class Noise(Protocol):
    """What a distribution of noise must offer: `sample` and `log_prob`, as `Gumbel` has them."""

    def sample(self, key: Array, sample_shape: tuple[int, ...], dtype: Any) -> Array:
        """Independent samples of this shape."""
        ...

    def log_prob(self, inputs: Array) -> Array:
        """The logarithm of the density at each input, up to a constant."""
        ...


def make_perturbed_fun(
    fun: Callable[[Any], Any],
    num_samples: int = 1000,
    sigma: Scalar = 0.1,
    noise: Noise = Gumbel(),  # noqa: B008 - a frozen value
    use_baseline: bool = True,
) -> Callable[[Array, Any], Any]:
    """The mean of a function around a point, E[f(x + σz)]: smooth, even where the function jumps.

    Both it and its derivatives of any order are estimated without bias from the same samples of f, and
    f itself is never differentiated: the derivative of the density does it.

    Args:
        fun: f, from a tree of floating tensors to a tree of tensors.
        num_samples: how many samples of z to average over, at least 1. Default: 1000.
        sigma: σ, above 0. The derivative's variance grows as σ falls. Default: 0.1.
        noise: the distribution of z, with `sample` and `log_prob`. Default: `Gumbel()`.
        use_baseline: whether to take derivatives of f(x + σz) − f(x) instead, which have the same mean
            and vary less. Default: yes; it costs one more call of f.

    Returns:
        ``perturbed(key, x)``, with a JAX key, which returns what f does. It calls f once, on all samples
        by `jax.vmap`.

    Raises:
        TypeError: for a `fun` that cannot be called, or tensors that are not floating.
        ValueError: for numbers out of range.

    Source: Berthet et al., Learning with differentiable perturbed optimizers, arXiv:2002.08676;
    Foerster et al., DiCE: the infinitely differentiable Monte Carlo estimator, arXiv:1802.05098.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> positive = lambda x: jnp.sum(x > 0)  # of no use to a gradient
        >>> noise = gradtx.perturbations.Normal()
        >>> smooth = gradtx.perturbations.make_perturbed_fun(positive, 10_000, 1.0, noise)
        >>> slope = jax.grad(smooth, argnums=1)(jax.random.key(0), jnp.zeros(1))
        >>> print(abs(float(slope[0]) - 0.3989) < 0.05)  # the normal density at 0
        True
    """
    errors.check_callable("make_perturbed_fun", "fun", fun)
    if not isinstance(num_samples, int):
        raise TypeError(f"make_perturbed_fun: num_samples must be a whole number, got {num_samples!r}")
    if num_samples < 1:
        raise ValueError(f"make_perturbed_fun: num_samples must be at least 1, got {num_samples}")
    if isinstance(sigma, int | float) and not sigma > 0:
        raise ValueError(f"make_perturbed_fun: sigma must be above 0, got {sigma}")

    def perturbed(key: Array, x: Any) -> Any:
        for path, leaf in errors.paths(x).items():
            if leaf is not None and not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                where = f" at {path}" if path else ""
                raise TypeError(f"make_perturbed_fun: x must be floating, got {jnp.result_type(leaf)}{where}")
        x = jax.tree.map(jnp.asarray, x)
        baseline = fun(jax.lax.stop_gradient(x)) if use_baseline else None

        def one(key: Array) -> Any:
            point, weight = _sample(key, x, sigma, noise)
            value = fun(point)
            if baseline is None:
                return jax.tree.map(lambda y: weight * y, value)
            return jax.tree.map(lambda y, y0: weight * y + (1 - weight) * y0, value, baseline)

        values = jax.vmap(one)(jax.random.split(key, num_samples))
        return jax.tree.map(lambda y: jnp.mean(y, 0), values)

    return perturbed


def _sample(key: Array, x: Any, sigma: Scalar, noise: Noise) -> tuple[Any, Array]:
    """A point around x, cut off from it, and a 1 whose derivatives by x are those of its probability."""
    leaves, treedef = jax.tree.flatten(x)
    points, density = [], 0.0
    keys = jax.random.split(key, len(leaves)) if leaves else ()
    for leaf_key, leaf in zip(keys, leaves, strict=True):
        wide = cast(leaf, at_least_float32(leaf.dtype))
        point = jax.lax.stop_gradient(wide + sigma * noise.sample(leaf_key, leaf.shape, wide.dtype))
        density += jnp.sum(noise.log_prob((point - wide) / sigma))
        points.append(cast(point, leaf.dtype))
    density = jnp.asarray(density)
    return treedef.unflatten(points), jnp.exp(density - jax.lax.stop_gradient(density))
