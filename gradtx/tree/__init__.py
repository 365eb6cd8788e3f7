"""Trees of tensors: arithmetic, norms, dtypes, random numbers, and what is where in a state.

The names are those of ``optax.tree``. All functions return new trees. None is no tensor: where a tree
has it, the result has it too, and sums and norms leave it out.

    direction = gradtx.tree.scale(-1.0, grads)
    slope = gradtx.tree.vdot(grads, direction)
    mu = gradtx.tree.get(state, "mu")
"""

from gradtx.tree.arithmetic import add as add
from gradtx.tree.arithmetic import add_scale as add_scale
from gradtx.tree.arithmetic import clip as clip
from gradtx.tree.arithmetic import conj as conj
from gradtx.tree.arithmetic import div as div
from gradtx.tree.arithmetic import mul as mul
from gradtx.tree.arithmetic import real as real
from gradtx.tree.arithmetic import scale as scale
from gradtx.tree.arithmetic import sub as sub
from gradtx.tree.arithmetic import where as where
from gradtx.tree.changing import Changed as Changed
from gradtx.tree.changing import Report as Report
from gradtx.tree.changing import Resized as Resized
from gradtx.tree.changing import Rows as Rows
from gradtx.tree.changing import moved as moved
from gradtx.tree.changing import reset as reset
from gradtx.tree.changing import resize as resize
from gradtx.tree.dtypes import cast as cast
from gradtx.tree.dtypes import cast_like as cast_like
from gradtx.tree.dtypes import dtype as dtype
from gradtx.tree.filling import batch_shape as batch_shape
from gradtx.tree.filling import full_like as full_like
from gradtx.tree.filling import ones_like as ones_like
from gradtx.tree.filling import zeros_like as zeros_like
from gradtx.tree.keys import random_like as random_like
from gradtx.tree.keys import split_key_like as split_key_like
from gradtx.tree.keys import unwrap_random_key_data as unwrap_random_key_data
from gradtx.tree.moments import bias_correction as bias_correction
from gradtx.tree.moments import update_infinity_moment as update_infinity_moment
from gradtx.tree.moments import update_moment as update_moment
from gradtx.tree.moments import update_moment_per_elem_norm as update_moment_per_elem_norm
from gradtx.tree.reductions import allclose as allclose
from gradtx.tree.reductions import max as max
from gradtx.tree.reductions import min as min
from gradtx.tree.reductions import norm as norm
from gradtx.tree.reductions import norms as norms
from gradtx.tree.reductions import size as size
from gradtx.tree.reductions import sum as sum
from gradtx.tree.reductions import vdot as vdot
from gradtx.tree.states import NamedTupleKey as NamedTupleKey
from gradtx.tree.states import get as get
from gradtx.tree.states import get_all_with_path as get_all_with_path
from gradtx.tree.states import map_params as map_params
from gradtx.tree.states import set as set
