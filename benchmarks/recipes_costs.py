"""What a recipe costs: bytes of state, and the time of a step beside SGD's."""

from typing import Any

import jax
from recipes_cases import Recipe, is_per_example
from speed import Effort, Quartiles, Sample, by_turns, from_copies, ratio
from trees import gpt2, normal

import gradtx

STEPS = 10
"""Steps of a sample: some optimizers do some work only every tenth time."""


def bytes_per_parameter(recipe: Recipe) -> float:
    """Of the state for GPT-2 small in float32, from the shapes of its arrays."""
    shapes = gpt2(width=768, vocabulary=50257, context=1024)
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x, "float32"), shapes, is_leaf=is_shape)
    held = jax.tree.leaves(recipe.make(1e-3).init(params))
    count = sum(x.size for x in jax.tree.leaves(params))
    return sum(x.size * x.dtype.itemsize for x in held) / count


def is_shape(x: Any) -> bool:
    """Whether a node of a tree of shapes is one of these."""
    return isinstance(x, tuple)


def times_beside_sgd(recipes: list[Recipe], effort: Effort) -> dict[str, Quartiles]:
    """Of a compiled step without the model, on a small GPT-2's tensors: all by turns, over SGD's."""
    params, grads = (normal(gpt2(blocks=4), seed) for seed in range(2))
    yardstick = Recipe("", gradtx.sgd)
    timed = [recipe for recipe in recipes if recipe.timed]
    samples = {recipe.name: steps_of(recipe, params, grads) for recipe in (yardstick, *timed)}
    seconds = by_turns(samples, effort)
    base = seconds.pop(yardstick.name)
    return {name: ratio(own, base) for name, own in seconds.items()}


def steps_of(recipe: Recipe, params: Any, grads: Any) -> Sample:
    """Some compiled steps one after another with donated params and state, until all is there."""
    tx = recipe.make(1e-3 if recipe.swept else 1.0)

    def step(params: Any, state: Any, grads: Any) -> Any:
        # The model costs nothing here: the loss is a number, its gradients are those that are there.
        extra = dict(value=1.0, grad_fn=lambda *_: grads, obj_fn=lambda p: gradtx.global_norm(p) ** 2)
        extra["hessian"] = grads
        given = jax.tree.map(lambda g: g[None], grads) if is_per_example(tx) else grads
        updates, state = tx.update(given, state, params, **extra)
        return gradtx.apply_updates(params, updates), state

    return from_copies(jax.jit(step, donate_argnums=(0, 1)), (params, tx.init(params)), grads, STEPS)
