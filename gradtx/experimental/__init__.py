"""What may change: the experimental modules of Optax, under its names."""

from gradtx.experimental import aggregating as aggregating
