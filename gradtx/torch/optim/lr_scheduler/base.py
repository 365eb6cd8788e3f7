"""What all schedulers share: they count their steps and rewrite the learning rate of each group."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from gradtx.torch.optim._optimizer import Optimizer

OUT_OF_ORDER = (
    "Detected call of `lr_scheduler.step()` before `optimizer.step()`. The optimizer would never run with "
    "the first learning rate of the schedule; step the optimizer first, then the scheduler."
)
EPOCH_GIVEN = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. "
    "It jumps to the closed form, where there is one, and forgets changes made by hand; "
    "call `scheduler.step()` without it."
)
NOT_STEPPING = (
    "To get the last learning rate computed by the scheduler, please use `get_last_lr()`: "
    "`get_lr()` computes the next one, from the present one."
)


class LRScheduler:
    """The base of all schedulers: after each ``optimizer.step()``, ``scheduler.step()`` sets the next rate.

    Making one is its first step: last_epoch goes from -1 to 0 and the first learning rate is set. A
    subclass defines ``get_lr()``, which returns the rate of each group at ``self.last_epoch``.

    Args:
        optimizer: whose ``param_groups`` are rewritten; a change of them acts at its next step.
        last_epoch: the last epoch seen, -1 for none. With another one each group must have an
            "initial_lr", as groups have that come from the state of an optimizer with a scheduler.
            Default: -1.

    Attributes:
        base_lrs: the learning rate of each group when the first scheduler was attached.
        last_epoch: the number of steps so far, the one at the making not counted.

    Raises:
        TypeError: if it is not an optimizer.
        KeyError: if last_epoch is given and a group has no "initial_lr".

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gradtx.torch import optim
        >>> optimizer = optim.SGD([jnp.ones(2)], lr=1.0)
        >>> scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> for epoch in range(4):
        ...     params = optimizer.step([jnp.ones(2)])
        ...     scheduler.step()
        >>> scheduler.get_last_lr(), params[0].tolist()
        ([0.25], [-2.0, -2.0])
    """

    _get_lr_called_within_step: bool = False
    _is_initial: bool = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = checked_optimizer(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", number(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    "last_epoch >= 0; load the state of the optimizer first, or leave last_epoch at -1"
                )
        self.base_lrs = values(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        self._initial_step()

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rate of the next optimizer step.

        Args:
            epoch: deprecated: jump to this epoch, by the closed form where the scheduler has one.

        Warns:
            UserWarning: at the first call, if the optimizer has not made a step yet; and if an epoch is
                given.
        """
        if self._step_count == 1 and self.optimizer._step_count == 0:
            warnings.warn(OUT_OF_ORDER, UserWarning, stacklevel=2)
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_GIVEN, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group that the last step set."""
        return self._last_lr

    def get_lr(self) -> list[float]:
        """The learning rate of each group at last_epoch; `step` calls it, users call `get_last_lr`."""
        if not self._get_lr_called_within_step:
            warnings.warn(NOT_STEPPING, UserWarning, stacklevel=2)
        return self._next_lrs()

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers, under PyTorch's names; the optimizer saves its own state."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, made here or by PyTorch.

        The learning rates themselves are in the state of the optimizer, which is loaded apart.

        Raises:
            ValueError: if it is the state of something else than a scheduler.
        """
        self._check_state(state_dict)
        for name, value in state_dict.items():
            self.__dict__[name] = [number(x) for x in value] if isinstance(value, list) else value

    def _check_state(self, state_dict: Mapping[str, Any]) -> None:
        """Raise if it cannot be loaded, before anything is changed."""
        if not {"last_epoch", "_last_lr"} & set(state_dict):
            raise ValueError(
                "not the state of a scheduler: it has neither 'last_epoch' nor '_last_lr', "
                f"only {list(state_dict)}"
            )

    def _next_lrs(self) -> list[float]:
        raise NotImplementedError

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def _update_lr(self, epoch: int | None = None) -> None:
        if epoch is None:
            self.last_epoch += 1
            self._write(self.get_lr)
        else:
            self.last_epoch = epoch
            self._write(getattr(self, "_get_closed_form_lr", self.get_lr))

    def _write(self, compute: Callable[[], list[float]]) -> None:
        groups = self.optimizer.param_groups
        self._get_lr_called_within_step = True
        try:
            pairs = list(zip(groups, compute(), strict=True))
        except (KeyError, ValueError) as error:
            if len(groups) == len(self.base_lrs):
                raise
            lists = " and ".join(name for name in ("base_lrs", "lr_lambdas") if hasattr(self, name))
            raise ValueError(
                f"{type(self).__name__} was made for {len(self.base_lrs)} param groups, and since "
                f"add_param_group the optimizer has {len(groups)}; make a new scheduler, or append to its "
                f"{lists} what the new groups take"
            ) from error
        finally:
            self._get_lr_called_within_step = False
        for group, lr in pairs:
            group["lr"] = number(lr)
        self._last_lr = values(self.optimizer, "lr")


class Chainable(LRScheduler):
    """A scheduler that multiplies the present rates by one factor per step, and so composes with others.

    A subclass has ``_factor()``, the factor on the way to last_epoch, and ``_closed_form(lr)``, the rate
    at last_epoch that the factors up to there make of a base rate.
    """

    def _factor(self) -> float:
        raise NotImplementedError

    def _closed_form(self, lr: float) -> float:
        raise NotImplementedError

    def _next_lrs(self) -> list[float]:
        factor = self._factor()
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def _get_closed_form_lr(self) -> list[float]:
        return [self._closed_form(lr) for lr in self.base_lrs]


def checked_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer, if it is one."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    return optimizer


def number(x: Any) -> Any:
    """The Python number in an array or tensor of one; anything else as it is."""
    return x.item() if hasattr(x, "item") else x


def values(optimizer: Optimizer, name: str) -> list[Any]:
    """This number of each group."""
    return [number(group[name]) for group in optimizer.param_groups]


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """An argument that is one number for all groups, or a list of one for each."""
    groups = optimizer.param_groups
    if not isinstance(value, list | tuple):
        return [number(value)] * len(groups)
    if len(value) != len(groups):
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. "
            f"{name} has {len(value)} values, param_groups has {len(groups)}."
        )
    return [number(x) for x in value]
