"""The stateful optimizer of PyTorch, over a tree of params."""

import itertools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import owned
from gradtx.core.transformation import GradientTransformation
from gradtx.torch._modules import held, is_variable, params_of
from gradtx.torch.optim import _params, _slots
from gradtx.torch.optim._by_param import ByParam
from gradtx.torch.optim._checkpoints import Axes, Order, Reader, StateDict, merged, read_state, turned_back
from gradtx.torch.optim._closures import evaluation, is_closure, value_and_grad, write_buffers
from gradtx.torch.optim._domains import vouched
from gradtx.torch.optim._holds_params import HoldsParams, Running, named
from gradtx.torch.optim._params import Place, Tree
from gradtx.torch.optim._program import STEPS, Named, with_lr
from gradtx.torch.optim._slots import ParamState
from gradtx.values.factory import factory_of
from gradtx.values.parts import canonical
from gradtx.values.programs import Memory

Groups = Mapping[str, Mapping[str, Any]] | None
"""Groups by path pattern: the options that differ, ``{r".*bias": {"weight_decay": 0.0}}``."""


def arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the locals of a constructor, the hyperparameters."""
    return {name: x for name, x in given.items() if name not in ("self", "params", "groups", "__class__")}


class RemovableHandle:
    """What registering a hook returns: `remove()` takes the hook away again."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Any], hook: Any):
        self._hooks, self._id = hooks, next(self._ids)
        hooks[self._id] = hook

    def remove(self) -> None:
        """Take the hook away; nothing happens if it is gone already."""
        self._hooks.pop(self._id, None)


class Optimizer(HoldsParams):
    """PyTorch's stateful optimizer: it holds the params, and `step` moves them.

    Each class of this module is one transformation, run as one compiled, donating program; the formulas
    are those of the functions. Editing a number in `param_groups` takes effect at the next step; the
    first edit of a number (but ``lr``) compiles once, later ones nothing.

    Args:
        params: what to optimise:

            - a pytree of arrays, None where there is nothing to optimise;
            - a Flax nnx module: its `nnx.Param`s, which each step updates in place. As in PyTorch the module
              is the truth: a step goes on from what is in it, whoever put it there. Params that it gets
              later are not moved, until `add_param_group`; those that it loses are left out;
            - as in PyTorch: a list or iterator of arrays or of ``(name, array)`` pairs, or a list of
              groups, dicts with ``params`` (any of these) and the options that differ. Params of a module
              in a list, ``[model.kernel, model.bias]``, are updated in place, too.
        defaults: the options of groups that do not have their own.
        groups: groups by path pattern, ``{r".*bias": {"weight_decay": 0.0}}``, or by a function of ``(path,
            leaf)`` in the place of a pattern; None in the place of the options freezes, as if there were no
            gradients. The first that matches a param decides, and params that none matches form the last
            group.

    Attributes:
        param_groups: a list of dicts: ``params``, the arrays, and every option. Edit them between steps as
            you like; an array put in the place of a param is copied, and goes on with the state of its place.
        defaults: the options given to the constructor.

    Raises:
        TypeError, ValueError: as PyTorch's, for params and options that make no sense.
    """

    transformation: Callable[..., GradientTransformation]
    """The function form."""

    starts_at_once = False
    """Whether the state exists before the first step."""

    fixed: Mapping[str, Any] = {}
    """Options that no state dict changes."""

    slots_of_options: frozenset[str] = frozenset()
    """Slots that an option brings, which a state dict may have while it is off."""

    def __init__(
        self,
        params: Any,
        defaults: Mapping[str, Any],
        groups: Groups = None,
    ):
        super().__init__()
        self.defaults = dict(defaults)
        self._check_options(defaults)
        self.transformation(**self._given_options(defaults))  # PyTorch, too, checks these numbers alone
        self._memory = Memory()
        self._begun: set[Place] = set()  # the params of which PyTorch has state
        self._step_count = 0
        self._pre_hooks: dict[int, Any] = {}
        self._post_hooks: dict[int, Any] = {}
        self._is_list = _params.is_groups(params := _params.listed(params))
        if self._is_list:
            if groups:
                raise ValueError(
                    f"{self.name}: groups: the params are a list of groups already; give one of the two"
                )
            for group in params:
                self._add_group(group)
        else:
            self._add(params, {}, groups or {})
        if self.starts_at_once:
            self._begun = set(self._places())
        if not any(group["params"] for group in self.param_groups):
            raise ValueError("optimizer got an empty parameter list")

    # --- params and groups --------------------------------------------------------------------------

    @property
    def params(self) -> Any:
        """The params as they are now, in the structure in which they were given.

        For groups, a list with the tree of each. The next step donates these buffers: take a copy of
        what you want to keep.
        """
        groups = self.param_groups
        trees = [tree.held.module if tree.held else tree.assemble(groups) for tree in self._trees]
        return trees if self._is_list else trees[0]

    @params.setter
    def params(self, params: Any) -> None:
        what = f"{self.name}.params"
        if self._is_list and (not isinstance(params, list | tuple) or len(params) != len(self._trees)):
            raise ValueError(f"{what}: the params must be a list with one tree per group")
        rows, labels = self._present(), self._labels()
        for tree, own in zip(self._trees, params if self._is_list else [params], strict=True):
            for (g, i), new in tree.flatten(what, "the new params", own):
                if new is None and tree.held is not None:
                    continue  # the module has it no more
                old = rows[g][i]
                if new is None or jnp.shape(new) != old.shape:
                    shape = None if new is None else jnp.shape(new)
                    raise ValueError(
                        f"{what}: {labels[g][i]}: the new param has shape {shape}, "
                        f"the param has shape {old.shape}"
                    )
                rows[g][i] = owned(new, old.dtype)
        self._put(rows)
        for tree in self._trees:
            tree.write(self.param_groups)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimise more params: ``{"params": ..., "lr": 0.1}``; missing options take their defaults.

        From then on `params` and gradients are lists with one tree per group. After an error the optimizer
        is as it was, and the call can be made again.

        Raises:
            ValueError: for a number outside of its domain, which PyTorch takes here and the constructor does
                not; and for params that are in another group.
        """
        if isinstance(param_group, Mapping):
            own = {name: x for name, x in param_group.items() if name != "params"}
            self.transformation(**self._given_options({**self.defaults, **own}))
        self._add_group(param_group)

    def _add_group(self, param_group: Mapping[str, Any]) -> None:
        if not isinstance(param_group, Mapping):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        options = {name: x for name, x in param_group.items() if name != "params"}
        params = param_group["params"]
        alone = isinstance(params, jax.Array) or is_variable(params)
        self._add(_params.listed([params] if alone else params), options, {})
        self._is_list = self._is_list or len(self._trees) > 1

    def _add(self, params: Any, options: Mapping[str, Any], groups: Mapping[str, Any]) -> None:
        """Add what a tree of params makes: all of it, or after an error nothing."""
        new = _params.entry(params)
        self._check_unrelated(new)
        for path, param in zip(new.labels, new.given, strict=True):
            self._check_param(path, param)
        arrays = list(map(owned, new.given))  # the first step donates its buffers
        whole = [({}, list(range(len(arrays))))]
        parts = _params.by_pattern(params_of(params), groups) if groups else whole
        added, places = [], {}
        for own, members in parts:
            changes = own or {}
            unknown = changes.keys() - self.defaults.keys()
            if unknown:
                raise ValueError(f"{self.name}: groups: unknown options {sorted(unknown)}")
            group: dict[str, Any] = {"params": [arrays[i] for i in members]}
            if new.names is not None:
                group["param_names"] = [new.names[i] for i in members]
            group |= {**self.defaults, **options, **changes}
            self._check_options(group)
            places |= {i: Place(len(self.param_groups) + len(added), k) for k, i in enumerate(members)}
            added.append(group)
        running = [
            self._started(group, frozen=own is None) for group, (own, _) in zip(added, parts, strict=True)
        ]
        tree = Tree(new.treedef, tuple(places[i] for i in range(len(arrays))), held(params))
        given = [weakref.ref(x) for x in new.given if not isinstance(x, float | complex)]
        self._trees.append(tree)
        self.param_groups += added
        self._running += running
        self._given += given

    def _check_options(self, group: Mapping[str, Any]) -> None:
        lr = group["lr"]
        if math.prod(getattr(lr, "shape", ())) != 1:
            raise ValueError("Tensor lr must be 1-element")
        if group.get("fused") and group.get("differentiable"):
            raise RuntimeError("`fused` does not support `differentiable`")
        if group.get("fused") and group.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")

    # --- options and transformations ----------------------------------------------------------------

    def _given_options(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a group that are arguments of the function form."""
        known = factory_of(self.transformation).signature.parameters
        return {name: canonical(_as_option(group[name])) for name in known if name in group}

    def _options(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """These options as the transformation of the group is made with them: its numbers are not checked."""
        known = factory_of(self.transformation).parameters
        options = self._given_options(group)
        return {name: x if known[name].is_static else vouched(x) for name, x in options.items()}

    def _started(self, group: Mapping[str, Any], frozen: bool) -> "Running":
        options = self._options(group)
        tx = self.transformation(**options)
        state = tx.init(named(group)) if self.starts_at_once else None
        return Running(options, tx, state, tuple(group["params"]), [{} for _ in group["params"]], frozen)

    def _refresh(self) -> None:
        """Take in what was edited in the groups since the last step."""
        for g, (group, running) in enumerate(zip(self.param_groups, self._running, strict=True)):
            options = self._options(group)
            if gone := running.options.keys() - options.keys():
                raise KeyError(
                    f"{self.name}: param_groups: a group has no {', '.join(sorted(gone))} any more"
                )
            edited = {name for name, x in options.items() if x != running.options[name]}
            if not edited:
                continue
            tx = with_lr(running.tx, options["lr"]) if edited == {"lr"} else None
            if tx is None:
                tx = self.transformation(**options)
            if running.state is not None and tx._call != running.tx._call:
                rows = self._rows(g)
                running.state, running.tx = self._moved(tx, named(group), rows), tx
                self._begun -= {Place(g, i) for i, row in enumerate(rows) if not row}
                running.kept = [{} for _ in rows]
                running.kept = list(map(_beyond, rows, self._rows(g)))
            running.options, running.tx = options, tx

    def _moved(self, tx: GradientTransformation, params: Named, rows: list[dict[str, Any]]) -> Any:
        """The state of a group whose choices were edited, from the slots of each param."""
        return _slots.moved(tx, params, rows)

    # --- steps --------------------------------------------------------------------------------------

    def step(self, grads: Any = None) -> Any:
        """Move the params against their gradients.

        Args:
            grads: gradients in the structure of `params`, as `jax.grad` returns them; a param whose
                gradient is None is skipped: it neither moves nor decays nor counts. Or a closure, as in
                PyTorch: a function of the params that returns the loss, which is differentiated here.

        Returns:
            The new params (for an nnx module, the module itself, updated); with a closure, the loss.
        """
        args = (grads,)
        for hook in list(self._pre_hooks.values()):
            result = hook(self, args, {})
            if result is not None:
                args = _replaced(self.name, hook, result)
        result = self._step(*args)
        for hook in list(self._post_hooks.values()):
            hook(self, args, {})
        return result

    def _step(self, grads: Any) -> Any:
        if grads is None:
            raise TypeError(f"{self.name}.step needs gradients: call step(jax.grad(loss)(params))")
        self._take_in()
        if not is_closure(grads):
            self._run(self._gradients(grads))
            return self.params
        function, call = evaluation(self.name, grads, self._trees, self._is_list)
        (loss, buffers), rows = value_and_grad(function, call, list(map(named, self.param_groups)))
        self._run(self._without_lost(rows))
        write_buffers(self._trees, buffers)
        return loss

    def _run(self, rows: list[Named], *closure: Any) -> None:
        """One compiled step with the gradients of each group, and perhaps a closure and its evaluation."""
        rows = [
            Named(dict.fromkeys(row)) if running.frozen else row
            for running, row in zip(self._running, rows, strict=True)
        ]
        self._refresh()
        params = list(map(named, self.param_groups))
        step, numbers = STEPS([running.tx for running in self._running], memory=self._memory)
        states = [
            running.tx.init(own) if running.state is None else running.state
            for running, own in zip(self._running, params, strict=True)
        ]
        run = step.run_with if closure else step.run
        states, params = run(*closure, numbers, rows, states, params)
        for running, state in zip(self._running, states, strict=True):
            running.state = state
        self._put([list(own.values()) for own in params])
        self._step_count += 1
        if len(self._begun) < sum(map(len, rows)):
            grads = [grad for row in rows for grad in row.values()]
            found = zip(self._places(), grads, strict=True)
            self._begun |= {place for place, grad in found if grad is not None}
        for tree in self._trees:
            tree.write(self.param_groups)

    def _gradients(self, grads: Any) -> list[Named]:
        """The gradients of each group by name, checked against the params."""
        rows = [[None] * len(group["params"]) for group in self.param_groups]
        try:
            if self._is_list and (not isinstance(grads, list | tuple) or len(grads) != len(self._trees)):
                raise ValueError(f"{self.name}.step: gradients must be a list with one tree per group")
            for tree, own in zip(self._trees, grads if self._is_list else [grads], strict=True):
                if tree.held and own is tree.held.module:
                    raise TypeError(
                        f"{self.name}.step takes gradients, and this is the module itself: call "
                        "step(nnx.grad(loss)(model))"
                    )
                for (g, i), grad in tree.flatten(f"{self.name}.step", "the gradients", own):
                    if hasattr(grad, "detach"):
                        raise errors.not_inexact(
                            f"{self.name}.step", self._labels()[g][i], errors.kind_of(grad)
                        )
                    rows[g][i] = self.check_grad(grad)
        except ValueError:
            if isinstance(grads, tuple) and len(grads) == 2 and getattr(grads[1], "shape", None) == ():
                raise TypeError(
                    f"{self.name}.step takes the gradients alone, and this is a pair of them and a number: "
                    "write grads, norm = clip_grad_norm_(grads, max_norm), and then step(grads)"
                ) from None
            raise
        return [
            Named(zip(named(group), row, strict=True))
            for group, row in zip(self.param_groups, rows, strict=True)
        ]

    def _without_lost(self, rows: list[Named]) -> list[Named]:
        """Gradients with None for params that their module has lost: nothing depends on them."""
        lost = {place for tree in self._trees for place, now, _ in tree.looked_at() if now is None}
        if not lost:
            return rows
        return [
            Named((name, None if (g, i) in lost else x) for i, (name, x) in enumerate(row.items()))
            for g, row in enumerate(rows)
        ]

    def check_grad(self, grad: Any) -> Any:
        """Raise if the rule is not for gradients of this kind."""
        if hasattr(grad, "todense"):
            advice = ", please consider SparseAdam instead" if self.name == "Adam" else ""
            raise RuntimeError(f"{self.name} does not support sparse gradients{advice}")
        return grad

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: gradients are values in JAX, and there are none to clear. For loops from PyTorch."""

    # --- hooks, state, repr -------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step.

        It may return other ``(args, kwargs)`` for the step, ``((grads,), {})``.
        """
        return RemovableHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return RemovableHandle(self._post_hooks, hook)

    @property
    def state(self) -> ByParam:
        """The slots of each param that has been updated, by its path: ``state["w"]["exp_avg"]``.

        A copy on the host. As in PyTorch it is read by the param itself as well, an array of `params` or
        the `nnx.Param` of a module: ``state[model.kernel]["exp_avg"]``.
        """
        labels = self._labels()
        known = [
            (label, param)
            for own, group in zip(labels, self.param_groups, strict=True)
            for label, param in zip(own, group["params"], strict=True)
        ]
        rows = [row for i in range(len(self.param_groups)) for row in self._rows(i)]
        found = {label: row for (label, _), row in zip(known, rows, strict=True) if row}
        in_modules = [(labels[g][i], now) for tree in self._trees for (g, i), now, _ in tree.looked_at()]
        return ByParam(found, known + in_modules)

    def _rows(self, i: int) -> list[dict[str, Any]]:
        """The slots of each param of a group."""
        group, running = self.param_groups[i], self._running[i]
        if running.state is None:
            return [{} for _ in group["params"]]
        begun = [Place(i, k) in self._begun for k in range(len(group["params"]))]
        rows = _slots.to_rows(running.tx, running.state, named(group), begun)
        return [row | kept for row, kept in zip(rows, running.kept, strict=True)]

    def _places(self) -> list[Place]:
        """The place of every param, group by group."""
        return [Place(g, i) for g, group in enumerate(self.param_groups) for i in range(len(group["params"]))]

    def torch_rows(
        self, i: int, positions: Sequence[int], turns: Sequence[tuple[int, ...] | None]
    ) -> list[dict[str, Any]]:
        """The slots of a group as PyTorch has them: in its order, with its axes."""
        rows = map(turned_back, self._rows(i), turns)
        return [row for _, row in sorted(zip(positions, rows, strict=True), key=lambda pair: pair[0])]

    def state_dict(self) -> dict[str, Any]:
        """Options and state in PyTorch's layout, with NumPy arrays: what `load_state_dict` takes.

        `to_torch_state_dict` makes one of tensors, for PyTorch's own optimizer.
        """
        self._refresh()  # what an edit switched on has its slots, which loading looks for
        ends = list(itertools.accumulate(len(group["params"]) for group in self.param_groups))
        ids = list(itertools.starmap(range, itertools.pairwise([0, *ends])))
        rows = {i: row for g, own in enumerate(ids) for i, row in zip(own, self._rows(g), strict=True) if row}
        groups = [
            {**{k: x for k, x in group.items() if k != "params"}, "params": list(own)}
            for group, own in zip(self.param_groups, ids, strict=True)
        ]
        return {"state": rows, "param_groups": groups}

    def load_state_dict(self, state_dict: StateDict, *, order: Order = None, axes: Axes = None) -> None:
        """Take over options and state, from here or from PyTorch, in the middle of a run too.

        Args:
            state_dict: from `state_dict`, or PyTorch's, as ``torch.load(path, weights_only=True)`` gives
                it, with tensors on the host. Load with ``weights_only``: then no code that a file may
                hold is run.
            order: the paths of the params in PyTorch's order, group by group; or ``{PyTorch's name:
                path}`` if the dict has ``param_names``. Needed for trees, unless the names are the paths
                (``fc1.weight`` for ``fc1/weight``).
            axes: for params stored with other axes: ``{path pattern: axes}`` such that
                ``numpy.transpose(theirs, axes)`` is ours: (1, 0) for Linear, (2, 3, 1, 0) for Conv2d.

        Raises:
            ValueError: for a dict of another optimizer, other groups, params or shapes; it lists what is
                missing and unexpected, and the optimizer stays as it was.
        """
        present = [
            {**group, "params": row} for group, row in zip(self.param_groups, self._present(), strict=True)
        ]
        loaded = Reader(self.name, state_dict, present, order, axes)
        groups = [
            {**merged(self.name, live, options, self.defaults), **self.fixed}
            for live, options in zip(present, loaded.options, strict=True)
        ]
        running = [self._started(group, old.frozen) for group, old in zip(groups, self._running, strict=True)]
        if state_dict["state"]:
            for i, new in enumerate(running):
                own = named(present[i])
                if of_options := self.slots_of_options.intersection(itertools.chain(*loaded.rows[i])):
                    new.kept = loaded.set_aside(i, of_options - _slots.names(new.tx, own))
                new.state = read_state(new.tx, own, loaded, i, list(own))
        for live, group in zip(self.param_groups, groups, strict=True):
            live.update(group)
        self._running = running
        found = [row for rows in loaded.rows for row in rows]
        self._begun = {place for place, row in zip(self._places(), found, strict=True) if row}

    def __repr__(self) -> str:
        lines = [f"{self.name} ("]
        for i, group in enumerate(self.param_groups):
            options = sorted(group.keys() - {"params", "param_names"})
            lines += [f"Parameter Group {i}", *(f"    {name}: {group[name]}" for name in options)]
            lines.append("")
        return "\n".join([*lines[:-1], ")"])


def _beyond(row: ParamState, other: ParamState) -> ParamState:
    """The slots of a row that another one has not."""
    return {name: x for name, x in row.items() if name not in other}


def _as_option(x: Any) -> Any:
    """An option as the function form takes it, where PyTorch takes lists and arrays too.

    Of a list or an array of several numbers it is the tuple; of an array of one number, a scalar.
    """
    if isinstance(x, list | tuple):
        return tuple(map(_as_option, x))
    if hasattr(x, "detach"):
        x = _slots.to_numpy(x)
    if not getattr(x, "shape", ()):
        return x
    return x.reshape(()) if x.size == 1 else tuple(x.tolist())


def _replaced(name: str, hook: Any, result: Any) -> tuple[Any, ...]:
    if isinstance(result, tuple) and len(result) == 2:
        args, kwargs = result
        return (*args, *kwargs.values())
    raise RuntimeError(
        f"{name}: {hook} must return None or a tuple of (new_args, new_kwargs), but got {result}"
    )
