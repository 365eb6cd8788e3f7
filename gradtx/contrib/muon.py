"""Muon, by the names that Optax has here."""

from gradtx.matrix.axes import MuonDimensionNumbers as MuonDimensionNumbers
from gradtx.matrix.muon import MuonState as MuonState
from gradtx.matrix.muon import muon as muon
from gradtx.matrix.muon import scale_by_muon as scale_by_muon
from gradtx.matrix.shapes import scale_by_shape as scale_by_shape
