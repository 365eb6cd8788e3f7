"""Optimizers of matrices: their axes, their preconditioners, and who is given the rest."""
