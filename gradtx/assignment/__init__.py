"""Assignment: pairing rows with columns."""

from gradtx.assignment.hungarian import base_hungarian_algorithm as base_hungarian_algorithm
from gradtx.assignment.hungarian import hungarian_algorithm as hungarian_algorithm
