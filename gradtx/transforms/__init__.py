"""Primitives: each a formula on one tensor, or on the tree."""
