"""Linear algebra that optimizers use: norms, eigenvalues, roots of matrices, least squares,
estimates of diagonals."""

from gradtx.linear_algebra.eigenvalues import power_iteration as power_iteration
from gradtx.linear_algebra.hutchinson import hutchinson_diagonal as hutchinson_diagonal
from gradtx.linear_algebra.least_squares import nnls as nnls
from gradtx.linear_algebra.norms import safe_norm as safe_norm
from gradtx.linear_algebra.norms import safe_root_mean_squares as safe_root_mean_squares
from gradtx.linear_algebra.roots import matrix_inverse_pth_root as matrix_inverse_pth_root
