"""The params that an optimizer holds: in its groups and in modules, where users put others."""

import itertools
import operator
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import owned
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim import _params
from gradtx.torch.optim._params import Tree
from gradtx.torch.optim._program import Named
from gradtx.torch.optim._slots import ParamState


@dataclass
class Running:
    """What runs for one group.

    Attributes:
        options: the arguments that the transformation was made with.
        tx: the transformation.
        state: its state; None before the first step.
        params: the arrays that were put into the group last, which nobody else may donate; another one in the
            group is an edit.
        kept: for each param the slots of an option that is off now; as in PyTorch they wait untouched for it
            to be switched on again.
        frozen: whether it takes no steps.
    """

    options: dict[str, Any]
    tx: GradientTransformation
    state: Any
    params: tuple[jax.Array, ...]
    kept: list[ParamState]
    frozen: bool = False


class HoldsParams:
    """What of an optimizer knows its params, and finds those that were edited since its last step.

    Attributes:
        param_groups: a list of dicts: ``params``, the arrays, and every option.
    """

    real_only = False
    """Whether complex params are refused."""

    def __init__(self) -> None:
        self.param_groups: list[dict[str, Any]] = []
        self._trees: list[Tree] = []
        self._running: list[Running] = []
        self._given: list[weakref.ref[Any]] = []  # the user's own arrays

    def __getstate__(self) -> dict[str, Any]:
        # A copy was not given these arrays, and has its own.
        return {**self.__dict__, "_given": []}

    @property
    def name(self) -> str:
        """The name of the class, as errors print it."""
        return type(self).__name__

    def _put(self, rows: Sequence[Sequence[Any]]) -> None:
        """Make these arrays, which nobody else holds, the params of the groups."""
        for group, running, row in zip(self.param_groups, self._running, rows, strict=True):
            group["params"], running.params = list(row), tuple(row)

    def _present(self) -> list[list[Any]]:
        """The params of each group as they are now, also those that were edited in it or in a module.

        As in PyTorch, the module is the truth. What was not put there by this optimizer is copied, for its
        step donates what it has.
        """
        rows, labels = self._edited(), self._labels
        for tree in self._trees:
            for (g, i), now, seen in tree.looked_at():
                if now is seen or now is None:
                    continue
                if rows[g][i] is not self._running[g].params[i]:
                    raise ValueError(
                        f"{self.name}: {labels()[g][i]} was changed in the module and in param_groups; which "
                        "of the two is meant? Change it in the module alone"
                    )
                rows[g][i] = now
        for g, (row, running) in enumerate(zip(rows, self._running, strict=True)):
            if all(map(operator.is_, row, running.params)):
                continue
            for i, (x, own) in enumerate(zip(row, running.params, strict=True)):
                if x is not own:
                    row[i] = self._copied(labels()[g][i], x)
        return rows

    def _edited(self) -> list[list[Any]]:
        """The params of each group as they are in it."""
        if len(self.param_groups) != len(self._running):
            raise ValueError(
                f"{self.name}: there are {len(self.param_groups)} param_groups, and the optimizer was given "
                f"{len(self._running)}; add_param_group adds one"
            )
        for i, (group, running) in enumerate(zip(self.param_groups, self._running, strict=True)):
            if len(group["params"]) != len(running.params):
                raise ValueError(
                    f"{self.name}: param_groups[{i}]['params'] has {len(group['params'])} params, and the "
                    f"optimizer was given {len(running.params)}; add_param_group adds params"
                )
        return [list(group["params"]) for group in self.param_groups]

    def _copied(self, label: str, param: Any) -> jax.Array:
        """A copy of what the user put in the place of a param."""
        if isinstance(param, jax.Array) and param.is_deleted():
            raise ValueError(
                f"{self.name}: {label} is an array whose memory a step has reused; before the step, take a "
                "copy of what you want to put back, jnp.copy(param)"
            )
        self._check_param(label, param)
        return owned(param)

    def _take_in(self) -> None:
        """Take in the params that were edited since the last step."""
        rows, anew = self._present(), set()
        for g, (row, running) in enumerate(zip(rows, self._running, strict=True)):
            if all(map(operator.is_, row, running.params)):
                continue
            for i, (x, own) in enumerate(zip(row, running.params, strict=True)):
                if (x.shape, x.dtype) == (own.shape, own.dtype):
                    continue
                anew.add(g)
                if jax.tree.leaves(running.state):
                    raise ValueError(
                        f"{self.name}: {self._labels()[g][i]} is {x.dtype} of shape {x.shape} now, and its "
                        f"state is of {own.dtype} of shape {own.shape}; make a new optimizer for it"
                    )
        for g in anew:
            self._running[g].state = None
        self._put(rows)

    def _labels(self) -> list[list[str]]:
        """What each param of each group is called where it must be told from all others.

        Its path; if several trees have that path, the one in the list of trees that `params` is. Params
        of plain lists are numbered through, as in PyTorch.
        """
        if "param_names" not in self.param_groups[0]:
            numbers = itertools.count()
            return [[str(next(numbers)) for _ in group["params"]] for group in self.param_groups]
        labels = [list(group["param_names"]) for group in self.param_groups]
        times = Counter(itertools.chain.from_iterable(labels))
        for t, tree in enumerate(self._trees):
            for g, i in tree.places:
                if times[labels[g][i]] > 1:
                    labels[g][i] = f"{t}/{labels[g][i]}"
        return labels

    def _check_unrelated(self, new: _params.Entry) -> None:
        if any((new.names is None) != ("param_names" not in group) for group in self.param_groups):
            raise ValueError(
                "all optimizer param groups should be with/without names. cannot add param group with "
                "names to the optimizer"
            )
        known = [param for group in self.param_groups for param in group["params"]]
        known += [now for tree in self._trees for _, now, _ in tree.looked_at()]
        known += [given() for given in self._given]
        if {id(x) for x in known if x is not None} & set(map(id, new.given)):
            raise ValueError("some parameters appear in more than one parameter group")

    def _check_param(self, path: str, param: Any) -> None:
        _params.check_optimisable(self.name, path, param)
        if self.real_only and jnp.iscomplexobj(param):
            raise RuntimeError(f"{self.name} does not support complex parameters; {path} is complex")
        self.check_param(path, param)

    def check_param(self, path: str, param: Any) -> None:
        """Raise if this param is none that the rule is for."""


def named(group: Mapping[str, Any]) -> Named:
    """The params of a group by name; those of a plain list by their number."""
    names = group.get("param_names") or map(str, range(len(group["params"])))
    return Named(zip(names, group["params"], strict=True))
