"""torch.optim.swa_utils: averages of weights along training, equal (SWA) or exponential (EMA).

ema = AveragedModel(params, multi_avg_fn=get_ema_multi_avg_fn(0.999))
for batch in loader:
    params = optimizer.step(grads(params, batch))
    ema.update_parameters(params)
evaluate(ema.module)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import compute_dtype, decay_towards, owned, safe_increment
from gradtx.arrays.select import path_string, told_apart
from gradtx.arrays.types import Array
from gradtx.torch._modules import nnx_of
from gradtx.torch.optim._slots import to_numpy
from gradtx.torch.optim._swa_lr import SWALR as SWALR
from gradtx.values.programs import CompiledFor

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

AvgFn = Callable[[Array, Array, Any], Array]
"""``f(averaged, current, n)``: the new average of one tensor, after n of them."""
MultiAvgFn = Callable[[list[Array], list[Array], Any], Sequence[Array]]
"""The same for a list of tensors of one dtype."""


# Each is a value, so that an average that is built again compiles nothing.


@dataclass(frozen=True)
class _Ema:
    decay: float

    def __call__(self, averaged: Array, current: Array, n: Any) -> Array:
        del n
        return decay_towards(averaged, current, self.decay)


@dataclass(frozen=True)
class _Swa:
    def __call__(self, averaged: Array, current: Array, n: Any) -> Array:
        return averaged + (current - averaged) / safe_increment(n)


@dataclass(frozen=True)
class _ForEach:
    avg_fn: AvgFn

    def __call__(self, averaged: list[Array], current: list[Array], n: Any) -> list[Array]:
        return [self.avg_fn(a, p, n) for a, p in zip(averaged, current, strict=True)]


def get_ema_avg_fn(decay: float = 0.999) -> AvgFn:
    """The exponential moving average of one tensor: decay·averaged + (1 − decay)·current.

    There is no correction for the start, for the first update copies.

    Args:
        decay: the share of the old average that is kept, in [0, 1].

    Raises:
        ValueError: if decay is not in [0, 1].
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")
    return _Ema(decay)


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAvgFn:
    """`get_ema_avg_fn` for a list of tensors.

    Args:
        decay: the share of the old average that is kept, in [0, 1].

    Raises:
        ValueError: if decay is not in [0, 1].
    """
    return _ForEach(get_ema_avg_fn(decay))


def get_swa_avg_fn() -> AvgFn:
    """The mean of all values of one tensor so far: averaged + (current − averaged) / (n + 1)."""
    return _Swa()


def get_swa_multi_avg_fn() -> MultiAvgFn:
    """`get_swa_avg_fn` for a list of tensors."""
    return _ForEach(get_swa_avg_fn())


class AveragedModel:
    """An average of the weights of a model along its training.

    The first `update_parameters` copies; each further one averages, by the mean of all (stochastic
    weight averaging) unless another average is given. It is one compiled call, which reuses the memory
    of the old average: copy what you want to keep of `module` before the next update.

    Users may put other arrays into `module`, and those of `module` into the model: they stay whose they are.

    Averages are computed in at least float32 and kept in the dtypes of the model; those of integers
    are rounded towards 0. An average in half precision loses small steps: average float32 weights.

    Args:
        model: a tree of arrays, or a flax nnx module. It is copied.
        device: where to keep the average, as `jax.device_put` takes it. Default: with the model.
        avg_fn: ``f(averaged, current, n)`` gives the new average of one tensor, n being the number of
            models so far. It is traced: write it with `jax.numpy`.
        multi_avg_fn: the same for the list of all tensors of one dtype; unlike PyTorch's, it returns
            the new list.
        use_buffers: of an nnx module, whether to average the variables other than `nnx.Param` too,
            such as the statistics of `BatchNorm`. Default: they are copied at each update. The state
            of random number generators always is.

    Attributes:
        module: the averaged model, of the same kind as the model.
        n_averaged: int32 scalar, how many models have been averaged.

    Raises:
        AssertionError: for avg_fn and multi_avg_fn together.
        TypeError: if a leaf of the model is not an array; the path is named.

    Source: Izmailov et al., Averaging weights leads to wider optima and better generalization,
    arXiv:1803.05407.

    Example:
        >>> import jax.numpy as jnp
        >>> from gradtx.torch.optim.swa_utils import AveragedModel
        >>> mean = AveragedModel({"w": jnp.zeros(2)})
        >>> for w in (1.0, 2.0, 6.0):
        ...     mean.update_parameters({"w": jnp.full(2, w)})
        >>> print(mean.module["w"], mean.n_averaged)
        [3. 3.] 3
    """

    def __init__(
        self,
        model: Any,
        device: Any = None,
        avg_fn: AvgFn | None = None,
        multi_avg_fn: MultiAvgFn | None = None,
        use_buffers: bool = False,
    ):
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers
        self.device = device
        self.n_averaged = jnp.zeros([], jnp.int32)
        nnx = nnx_of(model)
        if nnx is None:
            _check_arrays(model)
            self.module = self._copied(model)
        else:
            graph, state = nnx.split(model)
            self.module = nnx.merge(graph, self._copied(state))
        self._written: list[Any] = jax.tree.leaves(self._parts(self.module)[0])

    def update_parameters(self, model: Any) -> None:
        """Take the present weights of the model into the average.

        Args:
            model: as at construction, of the same structure and shapes.

        Raises:
            ValueError: if its structure or a shape is another.
        """
        averaged, copied = self._parts(self.module)
        new_averaged, new_copied = self._parts(model)
        _check_alike(averaged, new_averaged)
        leaves, treedef = jax.tree.flatten(averaged)
        now = jax.tree.leaves(new_averaged)
        average = self.multi_avg_fn or (_ForEach(self.avg_fn) if self.avg_fn else get_swa_multi_avg_fn())
        current = self._placed((now, new_copied))
        leaves, copied, self.n_averaged = _update(
            average, self._to_donate(leaves, now), *current, self.n_averaged
        )
        self._written, averaged = list(leaves), treedef.unflatten(leaves)
        nnx = nnx_of(self.module)
        if nnx is None:
            self.module = averaged
        else:
            nnx.update(self.module, averaged, copied)

    def _to_donate(self, averaged: list[Any], current: list[Any]) -> list[Any]:
        """The averages; copies of those that were put there from outside, or that the model has too."""
        ours = set(map(id, self._written)) - set(map(id, current))
        leaves = []
        for x in averaged:
            leaves.append(x if id(x) in ours else owned(x))
            ours.discard(id(x))
        return leaves

    def train(self, mode: bool = True) -> "AveragedModel":
        """Set the averaged nnx module to training or evaluation; of a tree of arrays there is nothing to set.

        Returns:
            This object, as in PyTorch.
        """
        if nnx_of(self.module) is not None:
            (self.module.train if mode else self.module.eval)()
        return self

    def eval(self) -> "AveragedModel":
        """Set the averaged nnx module to evaluation: ``train(False)``."""
        return self.train(False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model returns, if it can be called."""
        return self.module(*args, **kwargs)

    def state_dict(self) -> dict[str, Array]:
        """Copies of ``n_averaged`` and of all arrays of the average, ``module.<path>``, as in PyTorch.

        The averaging function is not in it, nor is the state of random number generators.
        """
        arrays = {"n_averaged": self.n_averaged, **self._named(self._saved())}
        return {name: jnp.copy(x) for name, x in arrays.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Take over the average of a `state_dict`, in the dtypes of this one.

        Args:
            state_dict: by name, arrays of any kind (NumPy, or PyTorch's on the CPU).
            strict: whether missing and unexpected names are an error.

        Raises:
            RuntimeError: listing what is missing, unexpected or of another shape; then nothing has
                changed.
        """
        saved = self._saved()
        present = {"n_averaged": self.n_averaged, **self._named(saved)}
        found = {name: to_numpy(x) for name, x in state_dict.items()}
        _check_entries(present, found, strict)
        new = [
            jax.device_put(jnp.array(found.get(name, x), x.dtype), x.sharding) for name, x in present.items()
        ]
        self.n_averaged, *leaves = new
        tree = jax.tree.structure(saved).unflatten(leaves)
        nnx = nnx_of(self.module)
        if nnx is None:
            self.module = tree
        else:
            nnx.update(self.module, tree)
        self._written = jax.tree.leaves(self._parts(self.module)[0])

    def _parts(self, model: Any) -> tuple[Any, Any]:
        """What is averaged of a model, and what is copied."""
        nnx = nnx_of(model)
        if nnx is None:
            return model, ()
        averaged = nnx.Not(nnx.RngState) if self.use_buffers else nnx.Param
        return nnx.state(model, averaged), nnx.state(model, nnx.Not(averaged))

    def _saved(self) -> Any:
        nnx = nnx_of(self.module)
        return self.module if nnx is None else nnx.state(self.module, nnx.Not(nnx.RngState))

    def _named(self, tree: Any) -> dict[str, Array]:
        found, _ = jax.tree_util.tree_flatten_with_path(tree)
        dotted = [path_string(path).replace("/", ".") for path, _ in found]
        names = told_apart(dotted, lambda i: jax.tree_util.keystr(found[i][0]))
        return {
            ".".join(filter(None, ("module", name))): x for name, (_, x) in zip(names, found, strict=True)
        }

    def _copied(self, tree: Any) -> Any:
        return self._placed(jax.tree.map(owned, tree))

    def _placed(self, tree: Any) -> Any:
        return tree if self.device is None else jax.device_put(tree, self.device)


def _updated(
    average: MultiAvgFn, averaged: list[Array], current: list[Array], copied: Any, n: Array
) -> tuple[list[Array], Any, Array]:
    """The new average, copies of the rest, and how many there are now."""
    new: list[Any] = [jnp.copy(x) for x in current]
    for dtype in dict.fromkeys(x.dtype for x in averaged):
        if not jnp.issubdtype(dtype, jnp.number):
            continue  # masks and random keys have no average
        members = [i for i, x in enumerate(averaged) if x.dtype == dtype]
        wide = compute_dtype(dtype)
        now = [current[i].astype(wide) for i in members]
        means = average([averaged[i].astype(wide) for i in members], now, n)
        if means is None:
            raise TypeError(
                "multi_avg_fn must return the list of new averages: arrays do not change in place"
            )
        for i, x, mean in zip(members, now, means, strict=True):
            new[i] = jnp.where(n == 0, x, mean).astype(dtype)
    return new, jax.tree.map(jnp.copy, copied), safe_increment(n)


_update = CompiledFor(_updated, donate=(0,))


def _check_arrays(model: Any) -> None:
    for path, leaf in errors.paths(model).items():
        if leaf is not None and not hasattr(leaf, "dtype") and not isinstance(leaf, int | float | complex):
            raise TypeError(
                f"AveragedModel: {path or 'the model'} is a {type(leaf).__name__}, not an array; pass the "
                "arrays of the model alone, or a flax nnx module"
            )


def _check_alike(averaged: Any, model: Any) -> None:
    if jax.tree.structure(averaged) != jax.tree.structure(model):
        raise errors.another_structure("AveragedModel", "the averages", averaged, "the params", model)
    shapes = [[jnp.shape(x) for x in jax.tree.leaves(tree)] for tree in (averaged, model)]
    for i, (mine, other) in enumerate(zip(*shapes, strict=True)):
        if mine != other:
            path = [path for path, x in errors.paths(averaged).items() if x is not None][i]
            raise errors.another_shape("AveragedModel", path, "the average", mine, "the param", other)


def _check_entries(present: Mapping[str, Any], found: Mapping[str, Any], strict: bool) -> None:
    """Raise as PyTorch does if the entries of a state dict are not those of this average."""
    lines = []
    if strict:
        for what, names in (
            ("Unexpected", [name for name in found if name not in present]),
            ("Missing", [name for name in present if name not in found]),
        ):
            if names:
                quoted = ", ".join(f'"{name}"' for name in names)
                lines.append(f"{what} key(s) in state_dict: {quoted}. ")
    lines += [
        f"size mismatch for {name}: copying a param with shape {found[name].shape} from checkpoint, "
        f"the shape in current model is {x.shape}."
        for name, x in present.items()
        if name in found and found[name].shape != x.shape
    ]
    if lines:
        raise RuntimeError("\n\t".join(["Error(s) in loading state_dict for AveragedModel:", *lines]))


def update_bn(loader: Iterable[Any], model: Any, device: Any = None) -> None:
    """Compute the statistics of all `nnx.BatchNorm` of a module anew, in one pass over data.

    The mean and the variance become the mean, over the batches, of those of each batch; averaged
    weights need it, for the statistics of the model that they came from are not theirs. The pass is in
    training mode and compiled, and afterwards all modes and momenta are as they were.

    The variance is that of Flax, Σ(x − x̄)² / n over the n values that a batch has of a feature: it is
    what Flax accumulates in training, and what it then divides by. PyTorch accumulates Σ(x − x̄)² / (n − 1).
    Where all batches have the same n, PyTorch's variance is n / (n − 1) times this one; the means agree.

    A `BatchNorm` that is called several times in one pass keeps the statistics of the last call; one
    that is called with ``use_running_average=True`` keeps 0 and 1.

    Args:
        loader: batches: arrays, or tuples or lists whose first entry is the model's input.
        model: a flax nnx module, or an `AveragedModel` of one; it is called with one argument.
        device: where to put the batches, as `jax.device_put` takes it. Default: where they are.

    Raises:
        TypeError: if the model is not an nnx module.
    """
    model = model.module if isinstance(model, AveragedModel) else model
    nnx = nnx_of(model)
    if nnx is None:
        raise TypeError(f"update_bn takes a flax nnx module, got {type(model).__name__}")
    modules = [node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.Module)]
    norms = [module for module in modules if isinstance(module, nnx.BatchNorm)]
    if not norms:
        return
    modes = [(module, name) for module in modules for name in _MODES if hasattr(module, name)]
    modes += [(norm, "momentum") for norm in norms]
    before = [getattr(module, name) for module, name in modes]
    average = get_swa_avg_fn()
    means = [[jnp.zeros_like(norm.mean[...]), jnp.ones_like(norm.var[...])] for norm in norms]
    try:
        model.train()
        for norm in norms:
            norm.momentum = 0.0  # what is left after a batch is its own
        forward = _forward(model)
        for n, batch in enumerate(loader):
            inputs = batch[0] if isinstance(batch, list | tuple) else batch
            inputs = inputs if device is None else jax.device_put(inputs, device)
            nnx.update(model, forward(nnx.state(model), inputs))
            now = [[norm.mean[...], norm.var[...]] for norm in norms]
            means = now if n == 0 else jax.tree.map(lambda m, x, n=n: average(m, x, n), means, now)
    finally:
        for (module, name), value in zip(modes, before, strict=True):
            setattr(module, name, value)
        for norm, (mean, var) in zip(norms, means, strict=True):
            norm.mean[...] = mean
            norm.var[...] = var


_MODES = ("deterministic", "use_running_average")
"""What `train` and `eval` of an nnx module set."""


_FORWARD: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _forward(model: Any) -> Callable[[Any, Any], Any]:
    """``f(state, inputs)``, the state of a model after a pass; compiled for as long as the model lives."""
    nnx = nnx_of(model)
    graph, _ = nnx.split(model)
    compiled_for, compiled = _FORWARD.get(model, (None, None))
    if compiled is None or compiled_for != graph:

        def forward(state: Any, inputs: Any) -> Any:
            own = nnx.merge(graph, state)
            own(inputs)
            return nnx.state(own)

        compiled = jax.jit(forward)
        _FORWARD[model] = graph, compiled
    return compiled
