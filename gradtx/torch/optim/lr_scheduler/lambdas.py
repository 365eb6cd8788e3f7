"""Schedulers that follow functions of the epoch."""

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

from gradtx.torch.optim._optimizer import Optimizer
from gradtx.torch.optim.lr_scheduler.base import LRScheduler, checked_optimizer
from gradtx.values.value import Value

Lambda = Callable[[int], Any]


class _ByLambdas(LRScheduler):
    def __init__(
        self, optimizer: Optimizer, lr_lambda: Lambda | Sequence[Lambda], last_epoch: int = -1
    ) -> None:
        groups = checked_optimizer(optimizer).param_groups
        lambdas = list(lr_lambda) if isinstance(lr_lambda, list | tuple) else [lr_lambda] * len(groups)
        if len(lambdas) != len(groups):
            raise ValueError(f"Expected {len(groups)} lr_lambdas, but got {len(lambdas)}")
        for function in lambdas:
            if not callable(function):
                raise TypeError(f"lr_lambda should be a function, but got {type(function).__name__}")
        self.lr_lambdas: list[Any] = lambdas
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers; of lr_lambda the attributes of objects, and nothing of functions."""
        return {**super().state_dict(), "lr_lambdas": [attributes(function) for function in self.lr_lambdas]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; the functions are those that this scheduler was made with."""
        super().load_state_dict({name: x for name, x in state_dict.items() if name != "lr_lambdas"})
        for function, values in zip(self.lr_lambdas, state_dict.get("lr_lambdas", ()), strict=False):
            if values is not None:
                function.__dict__.update(values)


def attributes(function: Any) -> dict[str, Any] | None:
    """What changes in an object that is called, to be saved; None for functions, which do not change."""
    fixed = isinstance(function, FunctionType | Value) or not hasattr(function, "__dict__")
    return None if fixed else dict(function.__dict__)


class LambdaLR(_ByLambdas):
    """The first learning rate times a function of the epoch: lr ← base_lr·lr_lambda(last_epoch).

    Args:
        optimizer: whose learning rates it sets.
        lr_lambda: a function from the epoch to the factor, or a list of one for each group.
        last_epoch: the last epoch seen, -1 for none. Default: -1.

    Raises:
        ValueError: unless there is one function for each group.
        TypeError: if it is no function.
    """

    def _next_lrs(self) -> list[float]:
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [lr * function(self.last_epoch) for lr, function in pairs]


class MultiplicativeLR(_ByLambdas):
    """The present learning rate times a function of the epoch: lr ← lr·lr_lambda(last_epoch).

    The factor of epoch 0 is never asked for: the first rate is that of the optimizer.

    Args:
        optimizer: whose learning rates it sets.
        lr_lambda: a function from the epoch to the factor, or a list of one for each group.
        last_epoch: the last epoch seen, -1 for none. Default: -1.

    Raises:
        ValueError: unless there is one function for each group.
        TypeError: if it is no function.
    """

    def _next_lrs(self) -> list[float]:
        pairs = zip(self.optimizer.param_groups, self.lr_lambdas, strict=True)
        return [
            group["lr"] if self._is_initial else group["lr"] * function(self.last_epoch)
            for group, function in pairs
        ]
