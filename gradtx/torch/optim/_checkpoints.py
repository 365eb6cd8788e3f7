"""Checkpoints of PyTorch, in and out: `torch.optim`'s state dicts for optimizers and transformations."""

import importlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.errors import is_sparse
from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Params, State
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._lbfgs import from_torch_state, lbfgs
from gradtx.torch.optim._params import is_plain_list
from gradtx.torch.optim._slots import ParamState, from_rows, to_numpy
from gradtx.values.factory import factory_of

StateDict = Mapping[str, Any]
"""``{"state": {id: slots}, "param_groups": [options with "params", the ids]}``."""
Order = Sequence[str] | Mapping[str, str] | None
"""Which param is which: paths in PyTorch's order, or ``{PyTorch's name: path}``."""
Axes = Mapping[str, Sequence[int]] | None
"""For params stored with other axes than in PyTorch: ``{path pattern: axes}`` such that
``numpy.transpose(theirs, axes)`` is ours: (1, 0) for Linear, (2, 3, 1, 0) for Conv2d."""

OF_SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"}
"""What schedulers write into groups."""


class Reader:
    """A state dict of PyTorch, checked against the groups that it is for.

    Attributes:
        options: for each group, those in the dict.
        rows: for each group and param, the slots in the layout of ours.
        places: for each group, what in a flat vector of PyTorch's are the numbers of ours, in our order.
    """

    def __init__(
        self,
        name: str,
        state_dict: StateDict,
        groups: Sequence[Mapping[str, Any]],
        order: Order = None,
        axes: Axes = None,
    ):
        self.name = name
        saved = param_groups(name, state_dict)
        if len(saved) != len(groups):
            raise ValueError(
                f"{name}: loaded state dict has a different number of parameter groups: {len(saved)}, "
                f"not {len(groups)}"
            )
        for theirs, ours in zip(saved, groups, strict=True):
            if len(theirs["params"]) != len(ours["params"]):
                raise ValueError(
                    f"{name}: loaded state dict contains a parameter group that doesn't match the size of "
                    f"optimizer's group: {len(theirs['params'])} params, not {len(ours['params'])}"
                )
        ids = [i for group in saved for i in group["params"]]
        if strays := sorted(set(state_dict["state"]) - set(ids), key=str):
            raise ValueError(f"{name}: loaded state dict has state of params in no group: {strays}")
        layouts = matched(axes, [path for group in groups for path in group.get("param_names", ())])
        by_name = isinstance(order, Mapping)  # PyTorch's names say which group they are of
        paths_of_groups = [group.get("param_names", ()) for group in groups]
        orders = [order] * len(groups) if by_name else order_of_groups(order, paths_of_groups)
        self.options, self.rows, self.places = [], [], []
        for theirs, ours, own_order in zip(saved, groups, orders, strict=True):
            positions = self._positions(theirs, ours, own_order)
            rows = [state_dict["state"].get(theirs["params"][i]) or {} for i in positions]
            paths = ours.get("param_names", [None] * len(rows))
            turns = [layouts.get(path) for path in paths]
            self.places.append(flat_places(ours["params"], positions, turns))
            self.rows.append([turned(row, axes) for row, axes in zip(rows, turns, strict=True)])
            self.options.append({k: x for k, x in theirs.items() if k not in ("params", "param_names")})

    def set_aside(self, group: int, names: Set[str]) -> list[ParamState]:
        """Take these slots out of the rows of a group, which then knows nothing of them."""
        return [{name: to_numpy(row.pop(name)) for name in names & row.keys()} for row in self.rows[group]]

    def _positions(self, theirs: Mapping[str, Any], ours: Mapping[str, Any], order: Order) -> list[int]:
        """For each param of a group of ours, its place in theirs."""
        paths, names = ours.get("param_names"), theirs.get("param_names")
        if paths is None or (len(paths) == 1 and order is None):
            return list(range(len(ours["params"])))
        if isinstance(order, Mapping):
            if names is None:
                raise ValueError(
                    f"{self.name}: the loaded state dict has no param_names; "
                    "order must be the list of paths in PyTorch's order"
                )
            theirs_here = [order.get(name, name) for name in names]
        elif order is not None:
            theirs_here = list(order)
        elif names is not None:
            theirs_here = [name.replace(".", "/") for name in names]
        else:
            raise ValueError(
                f"{self.name}: the loaded state dict has no param_names, so its params are known by their "
                f"order alone: give order=[...], these paths in PyTorch's order: {', '.join(paths)}"
            )
        missing, unexpected = sorted(set(paths) - set(theirs_here)), sorted(set(theirs_here) - set(paths))
        if repeated := [path for path, times in Counter(theirs_here).items() if times > 1]:
            raise ValueError(
                f"{self.name}: {repeated[0]} is in the order of the loaded dict several times; order must "
                "say which param is which"
            )
        if missing or unexpected:
            raise ValueError(
                f"{self.name}: the loaded state dict has other params; missing: {missing}, unexpected: "
                f"{unexpected}; order={{PyTorch's name: path}} says which is which"
            )
        return [theirs_here.index(path) for path in paths]


def order_of_groups(order: Order, groups: Sequence[Sequence[str]]) -> list[Order]:
    """The order of the params of each group, by their paths.

    A path of one group alone says where it belongs; if groups share paths, the order is group by group.
    """
    if order is None:
        return [None] * len(groups)
    pairs = list(order.items()) if isinstance(order, Mapping) else [(path, path) for path in order]
    every = [path for group in groups for path in group]
    if len(set(every)) == len(every):
        parts = [[pair for pair in pairs if pair[1] in set(group)] for group in groups]
    else:
        ends = list(itertools.accumulate(map(len, groups), initial=0))
        parts = [pairs[start:end] for start, end in itertools.pairwise(ends)]
    return [dict(part) if isinstance(order, Mapping) else [path for _, path in part] for part in parts]


def param_groups(name: str, state_dict: StateDict) -> Sequence[Mapping[str, Any]]:
    wanted = {"state", "param_groups"}
    if not isinstance(state_dict, Mapping) or state_dict.keys() != wanted:
        found = sorted(map(str, state_dict)) if isinstance(state_dict, Mapping) else type(state_dict).__name__
        raise ValueError(f"{name}: a state dict has the keys {sorted(wanted)}, this has {found}")
    for group in state_dict["param_groups"]:
        if "params" not in group:
            raise ValueError(f"{name}: a parameter group of the loaded state dict has no 'params'")
    return state_dict["param_groups"]


def merged(name: str, live: Mapping[str, Any], loaded: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    """The options of a group after loading; what older versions of PyTorch did not save stays."""
    unexpected = sorted(loaded.keys() - live.keys() - OF_SCHEDULERS)
    numbers = {key for key, x in defaults.items() if x and not isinstance(x, bool | str)}
    missing = sorted(numbers - loaded.keys())
    if unexpected or missing:
        raise ValueError(
            f"{name}: the loaded state dict is of another optimizer, nothing was loaded; options missing: "
            f"{missing}, unexpected: {unexpected}"
        )
    return {**live, **loaded}


# --- axes -------------------------------------------------------------------------------------------


def matched(axes: Axes, paths: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The axes of each path that a pattern matches."""
    axes = axes or {}
    for pattern in axes:
        if not any(re.fullmatch(pattern, path) for path in paths):
            raise ValueError(f"axes: the pattern {pattern!r} matches none of the params: {', '.join(paths)}")
    found = {path: next((p for p in axes if re.fullmatch(p, path)), None) for path in paths}
    return {path: tuple(axes[pattern]) for path, pattern in found.items() if pattern is not None}


def turned(row: ParamState, axes: tuple[int, ...] | None) -> ParamState:
    """The slots of a param whose axes are turned; those without its axes stay.

    The mean squares of Adafactor are over the last axis (rows) or the one before (columns): where these
    two change places, so do the slots.
    """
    if axes is None:
        return dict(row)
    last = len(axes) - 1
    exchange = {"row_var": "col_var", "col_var": "row_var"} if axes.index(last) == last - 1 else {}
    if "row_var" in row and {axes[last], axes[last - 1]} != {last, last - 1}:
        raise ValueError(f"the factored state of a param cannot be turned by {axes}: it is of other axes")
    return {exchange.get(key, key): _turned(x, axes) for key, x in row.items()}


def turned_back(row: ParamState, axes: tuple[int, ...] | None) -> ParamState:
    """The slots as they were before `turned`."""
    return turned(row, None if axes is None else tuple(int(k) for k in np.argsort(axes)))


def _turned(x: Any, axes: tuple[int, ...]) -> Any:
    same = x is None or isinstance(x, list) or np.ndim(x) != len(axes)
    return x if same else np.transpose(to_numpy(x), axes)


def flat_places(
    params: Sequence[Any], positions: Sequence[int], turns: Sequence[tuple[int, ...] | None]
) -> np.ndarray:
    """Where in PyTorch's vector of all numbers ours are, in our order.

    Args:
        params: our params; complex ones count as pairs.
        positions: of each its place in PyTorch's order.
        turns: of each its axes, see `Axes`; None for the same.
    """
    shapes = [(*x.shape, 2) if jnp.iscomplexobj(x) else x.shape for x in params]
    full = [
        tuple(range(len(shape))) if axes is None else (*axes, *range(len(axes), len(shape)))
        for shape, axes in zip(shapes, turns, strict=True)
    ]
    by_place = np.argsort(positions)
    starts = np.cumsum([0, *(math.prod(shapes[k]) for k in by_place)])
    places = []
    for shape, axes, position in zip(shapes, full, positions, strict=True):
        theirs = [shape[k] for k in np.argsort(axes)]
        numbers = starts[position] + np.arange(math.prod(shape)).reshape(theirs)
        places.append(np.transpose(numbers, axes).ravel())
    return np.concatenate([np.zeros(0, int), *places]).astype(int)


def read_state(
    tx: GradientTransformation, params: Params, reader: Reader, group: int, names: Sequence[str]
) -> State:
    """The state of a transformation from a group of a state dict."""
    is_flat = [stage.factory is factory_of(lbfgs) for stage in tx.stages]
    if not any(is_flat):
        return from_rows(tx, params, reader.rows[group], names)
    # PyTorch keeps this one as vectors of all numbers, under the first param.
    entries = next((row for row in reader.rows[group] if row), {})
    parts = tx.unpack(tx.init(params))
    k = is_flat.index(True)
    parts[k] = from_torch_state(rearranged(entries, reader.places[group]), parts[k])
    return tx.pack(iter(parts))


def rearranged(entries: ParamState, places: np.ndarray) -> ParamState:
    """The state of L-BFGS with the numbers of its vectors at other places."""

    def moved(x: Any) -> Any:
        return to_numpy(x)[places] if np.shape(x) == places.shape else x

    vectors = {name: moved(entries[name]) for name in ("d", "prev_flat_grad") if name in entries}
    lists = {name: [moved(x) for x in entries[name]] for name in ("old_dirs", "old_stps") if name in entries}
    return {**entries, **vectors, **lists}


# --- to PyTorch -------------------------------------------------------------------------------------


def to_torch_state_dict(optimizer: Any, *, order: Order = None, axes: Axes = None) -> dict[str, Any]:
    """The state of an optimizer as a dict that PyTorch's optimizer of the same name loads.

    It is the one function that needs torch installed, for its tensors.

    Args:
        optimizer: an optimizer of this module.
        order: the paths of the params in PyTorch's order, group by group; or ``{PyTorch's name: path}``
            in that order. Default: the order here.
        axes: for params stored with other axes: ``{path pattern: axes}`` such that
            ``numpy.transpose(theirs, axes)`` is ours: (1, 0) for Linear, (2, 3, 1, 0) for Conv2d.

    Returns:
        A dict for ``torch_optimizer.load_state_dict``, with tensors on the host.
    """
    torch = importlib.import_module("torch")
    ours = optimizer.state_dict()
    named = [group for group in ours["param_groups"] if "param_names" in group]
    paths = {i: p for g in named for i, p in zip(g["params"], g["param_names"], strict=True)}
    layouts = matched(axes, list(paths.values()))
    listed = list(order.values()) if isinstance(order, Mapping) else order
    if listed is not None and sorted(listed) != sorted(paths.values()):
        raise ValueError(f"order must have each of these paths once: {', '.join(paths.values())}")
    orders = order_of_groups(order, [group.get("param_names", ()) for group in ours["param_groups"]])
    state, groups = {}, []
    for group, own_order in zip(ours["param_groups"], orders, strict=True):
        ids = group["params"]
        if own_order is not None:
            own = list(own_order.values()) if isinstance(own_order, Mapping) else list(own_order)
            ids = sorted(ids, key=lambda i, own=own: own.index(paths[i]))
        new = {k: _plain(x) for k, x in group.items() if k not in ("params", "param_names")}
        if isinstance(own_order, Mapping):
            new = {"param_names": list(own_order), **new}
        first = sum(len(g["params"]) for g in groups)
        groups.append({**new, "params": list(range(first, first + len(ids)))})
        mine = group["params"]
        turns = [layouts.get(paths.get(i, "")) for i in mine]
        rows = optimizer.torch_rows(len(groups) - 1, [ids.index(i) for i in mine], turns)
        state |= {first + k: _tensors(torch, row) for k, row in enumerate(rows) if row}
    return {"state": state, "param_groups": groups}


def _plain(x: Any) -> Any:
    """An option without arrays: numbers, and tuples of them for pairs."""
    if isinstance(x, tuple | list):
        return tuple(map(_plain, x))
    x = to_numpy(x) if hasattr(x, "detach") else x
    if not isinstance(x, jax.Array | np.ndarray | np.generic):
        return x
    return x.item() if x.size == 1 else tuple(x.tolist())


def _tensors(torch: Any, x: Any) -> Any:
    if isinstance(x, dict):
        return {key: _tensors(torch, child) for key, child in x.items()}
    if isinstance(x, list):
        return [_tensors(torch, child) for child in x]
    if not isinstance(x, np.ndarray):
        return x
    if x.dtype == jnp.bfloat16:
        return torch.tensor(x.astype(np.float32)).to(torch.bfloat16)
    return torch.tensor(x)


# --- the function form ------------------------------------------------------------------------------


def load_torch_state_dict(
    tx: GradientTransformation,
    state_dict: StateDict,
    params: Params,
    *,
    order: Order = None,
    axes: Axes = None,
) -> State:
    """The state of a transformation of this module, from the state dict of PyTorch's optimizer.

    The numbers in the dict's groups are not looked at: they are arguments of the transformation. Several
    groups are taken as one. Schedules go on at the largest step in the dict.

    Args:
        tx: the transformation, or a chain with it.
        state_dict: as ``torch.load(path, weights_only=True)`` gives it; arrays may be tensors on the
            host or NumPy's. Load with ``weights_only``: then no code that a file may hold is run.
        params: the params.
        order: the paths of the params in PyTorch's order; or ``{PyTorch's name: path}`` if the dict has
            ``param_names``. Needed unless these are the paths themselves.
        axes: for params stored with other axes: ``{path pattern: axes}`` such that
            ``numpy.transpose(theirs, axes)`` is ours: (1, 0) for Linear, (2, 3, 1, 0) for Conv2d.

    Raises:
        ValueError: listing what is missing, unexpected or of another shape.
    """
    saved = param_groups(tx.name, state_dict)
    one: dict[str, Any] = {"params": [i for group in saved for i in group["params"]]}
    if all("param_names" in group for group in saved):
        one["param_names"] = [name for group in saved for name in group["param_names"]]
    paths = leaf_paths(params, is_leaf=is_sparse)
    ours: dict[str, Any] = {"params": jax.tree.leaves(params, is_leaf=is_sparse)}
    if not is_plain_list(params):
        ours["param_names"] = paths
    reader = Reader(tx.name, {"state": state_dict["state"], "param_groups": [one]}, [ours], order, axes)
    return read_state(tx, params, reader, 0, paths)
