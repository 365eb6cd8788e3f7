"""Projections: the nearest point of a set, for trees taken as one vector."""

from gradtx.projections.boxes import projection_box as projection_box
from gradtx.projections.boxes import projection_hypercube as projection_hypercube
from gradtx.projections.boxes import projection_linf_ball as projection_linf_ball
from gradtx.projections.boxes import projection_non_negative as projection_non_negative
from gradtx.projections.euclidean import projection_l2_ball as projection_l2_ball
from gradtx.projections.euclidean import projection_l2_sphere as projection_l2_sphere
from gradtx.projections.planes import projection_halfspace as projection_halfspace
from gradtx.projections.planes import projection_hyperplane as projection_hyperplane
from gradtx.projections.planes import projection_vector as projection_vector
from gradtx.projections.simplex import projection_l1_ball as projection_l1_ball
from gradtx.projections.simplex import projection_l1_sphere as projection_l1_sphere
from gradtx.projections.simplex import projection_simplex as projection_simplex
