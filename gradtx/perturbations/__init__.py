"""Perturbations: functions smoothed by noise, so that they have derivatives."""

from gradtx.perturbations.distributions import Gumbel as Gumbel
from gradtx.perturbations.distributions import Normal as Normal
from gradtx.perturbations.perturbed import make_perturbed_fun as make_perturbed_fun
