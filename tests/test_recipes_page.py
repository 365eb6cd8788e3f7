"""The benchmark of every recipe leaves none out: each can be trained by it, and stands on the page."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from recipes_cases import ELSEWHERE, NEEDS, found, recipes
from recipes_page import link
from recipes_tasks import TASKS
from recipes_training import train

import gradtx
from gradtx.core.recipe import Recipe
from gradtx.values.factory import FACTORIES

ROOT = Path(__file__).parents[1]
NO_OPTIMIZERS = {"add_decayed_weights", "freeze", "selective_transform", "reduce_variance", "shrink_params"}
NO_OPTIMIZERS |= {"add_cautious_decay", "add_corrected_decay"}
"""Recipes that change updates, and do not train on their own."""

NAMES = [recipe.name for recipe in recipes()]


def public(name: str) -> bool:
    """Whether a factory is in `gradtx` or in `gradtx.contrib`."""
    room, _, own = f"gradtx.{name}".rpartition(".")
    return hasattr({"gradtx": gradtx, "gradtx.contrib": gradtx.contrib}.get(room), own)


def test_every_recipe_is_found():
    known = {name for name, factory in FACTORIES.items() if factory.kind is Recipe and public(name)}
    primitives = {name for name in known if "scale_by_" in name}
    assert known - primitives - NO_OPTIMIZERS - {*ELSEWHERE} <= {name for name, _, _ in found()}


def test_optimizers_that_are_no_recipes_are_found():
    assert {"contrib.momo", "contrib.momo_adam", "contrib.prodigy", "contrib.dadapt_adamw"} <= set(NAMES)


def test_what_needs_something_exists():
    assert set(NEEDS) <= set(NAMES)


@pytest.fixture(scope="module")
def digits():
    return TASKS["digits"].load()


@pytest.mark.parametrize("recipe", recipes(), ids=NAMES)
def test_it_trains(recipe, digits):
    """What each needs, it is given: traced, not run."""
    numbers = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    ends = jax.eval_shape(partial(train, TASKS["digits"], recipe, 2), *numbers, digits)
    assert {x.shape for x in ends} == {()}


def test_every_recipe_is_measured_and_shown():
    measured = json.loads((ROOT / "docs" / "assets" / "recipes.json").read_text())
    parts = {recipe.name: {*TASKS, "bytes", *["time"] * recipe.timed} for recipe in recipes()}
    assert {name: set(own) for name, own in measured.items()} == parts
    page = (ROOT / "docs" / "recipes.md").read_text()
    assert [name for name in NAMES if f"| {link(name)}" not in page] == []
