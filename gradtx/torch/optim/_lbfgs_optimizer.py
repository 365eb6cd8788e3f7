"""LBFGS, the object."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._checkpoints import flat_places, rearranged
from gradtx.torch.optim._closures import evaluation, is_closure
from gradtx.torch.optim._holds_params import named
from gradtx.torch.optim._lbfgs import from_torch_state, lbfgs, to_torch_state
from gradtx.torch.optim._optimizer import Optimizer, arguments
from gradtx.torch.optim._program import Named


class LBFGS(Optimizer):
    """PyTorch's LBFGS over a tree of params; see `lbfgs` for the rule and its arguments.

    `step` takes a closure: a function of the params that returns the loss. It is compiled once for each
    function; what changes between steps, a batch, is an argument of a `jax.tree_util.Partial`.

    Args:
        params: a tree of arrays or an nnx module, all in one group; see `Optimizer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from gradtx.torch import optim
        >>> optimizer = optim.LBFGS({"w": jnp.array([3.0, -1.0])}, line_search_fn="strong_wolfe")
        >>> loss = optimizer.step(lambda params: jnp.sum((params["w"] - 1.0) ** 2))
        >>> print(loss, optimizer.params["w"])
        8.0 [1. 1.]
    """

    transformation = staticmethod(lbfgs)

    def __init__(
        self,
        params: Any,
        lr: Any = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        if max_eval is None:
            max_eval = max_iter * 5 // 4
        super().__init__(params, arguments(locals()))
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    def _step(self, grads: Any) -> Any:
        if not is_closure(grads):
            raise TypeError("LBFGS.step needs a closure, a function of the params that returns the loss")
        self._take_in()
        zeros = [jax.tree.map(jnp.zeros_like, named(group)) for group in self.param_groups]
        self._run(zeros, *evaluation(self.name, grads, self._trees, self._is_list))
        return self._running[0].state.orig_loss

    def _rows(self, i: int) -> list[dict[str, Any]]:
        state = self._running[i].state
        first = {} if state is None else to_torch_state(state)
        return [first, *({} for _ in self.param_groups[i]["params"][1:])]

    def _moved(self, tx: GradientTransformation, params: Named, rows: list[dict[str, Any]]) -> Any:
        # Of a history that was made shorter, what is newest stays.
        size, entries = tx.arguments["history_size"], rows[0]
        kept = {name: x[-size:] for name, x in entries.items() if isinstance(x, list)}
        (fresh,) = tx.unpack(tx.init(params))
        return tx.pack(iter([from_torch_state({**entries, **kept}, fresh)]))

    def torch_rows(
        self, i: int, positions: Sequence[int], turns: Sequence[tuple[int, ...] | None]
    ) -> list[dict[str, Any]]:
        places = flat_places(self.param_groups[i]["params"], positions, turns)
        first, *others = self._rows(i)
        return [rearranged(first, np.argsort(places)), *others]
