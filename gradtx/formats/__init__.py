"""Formats: how a slot of a state is kept in fewer bytes; see `gradtx.stored`."""

__namespace__ = "formats"

from gradtx.formats.companding import companded as companded
from gradtx.formats.companding import square_root as square_root
from gradtx.formats.dynamic import dynamic as dynamic
from gradtx.formats.floating import float8 as float8
from gradtx.formats.floating import floating as floating
from gradtx.formats.format import Format as Format
from gradtx.formats.format import format as format
from gradtx.formats.format import unsigned as unsigned
from gradtx.formats.stored import Stored as Stored
