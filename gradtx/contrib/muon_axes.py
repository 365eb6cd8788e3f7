"""Where pickles of before look for the axes of matrices."""

from gradtx.matrix.axes import MuonDimensionNumbers as MuonDimensionNumbers
