"""Recipes: the optimizers, each a chain of primitives."""
