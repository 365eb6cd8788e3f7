"""Schedulers made of schedulers."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from gradtx.torch.optim._optimizer import Optimizer
from gradtx.torch.optim.lr_scheduler.arguments import check_number_of_parts
from gradtx.torch.optim.lr_scheduler.base import LRScheduler, values
from gradtx.torch.optim.lr_scheduler.plateau import ReduceLROnPlateau


class _Composed(LRScheduler):
    _schedulers: Sequence[LRScheduler]

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers, and the states of its schedulers."""
        return {**super().state_dict(), "_schedulers": [part.state_dict() for part in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of as many schedulers of the same kinds.

        Raises:
            ValueError: if it is the state of something else than a scheduler, or of another number of
                schedulers.
        """
        parts = self._schedulers
        super().load_state_dict(state_dict)
        self._schedulers = parts
        for part, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            part.load_state_dict(state)

    def _check_state(self, state_dict: Mapping[str, Any]) -> None:
        super()._check_state(state_dict)
        parts = state_dict.get("_schedulers", ())
        if len(parts) != len(self._schedulers):
            raise ValueError(
                f"{type(self).__name__} of {len(self._schedulers)} schedulers: this is the state of "
                f"{len(parts)}; make it of the same schedulers as the one that was saved"
            )
        for part, state in zip(self._schedulers, parts, strict=True):
            part._check_state(state)

    def _check_parts(self, schedulers: Sequence[LRScheduler], optimizer: Any) -> None:
        name = type(self).__name__
        for i, part in enumerate(schedulers):
            if not hasattr(part, "optimizer"):
                raise TypeError(f"{name} at index {i} should have `optimizer` as its attribute.")
            if isinstance(part, ReduceLROnPlateau):
                raise ValueError(
                    f"{name} does not support `ReduceLROnPlateau` scheduler as it requires additional kwargs "
                    f"to be specified when calling `step`, but got one at index {i} in the given schedulers "
                    "sequence."
                )
            if part.optimizer is not optimizer:
                raise ValueError(
                    f"{name} expects all schedulers to belong to the same optimizer, but got scheduler "
                    f"{type(part).__name__} at index {i} has {part.optimizer}, which is different from "
                    f"{type(optimizer).__name__}."
                )


class SequentialLR(_Composed):
    """Schedulers one after another, each from its own beginning.

    From milestone mᵢ on it is the turn of the scheduler i + 1, which starts at its epoch 0: one with a closed
    form from the base rates, `MultiplicativeLR` from the present ones.

    A SequentialLR or ChainedScheduler among the schedulers behaves as in PyTorch, where that is known to be
    broken: a SequentialLR that comes first is one epoch ahead, and either of them after a milestone raises
    NotImplementedError. The schedule `sequential_lr` nests as it should.

    Args:
        optimizer: whose learning rates it sets.
        schedulers: made for this optimizer; at least one. Their first steps are undone.
        milestones: the epochs at which the second, third, ... begin; in order.
        last_epoch: the last epoch seen, -1 for none. Default: -1.

    Raises:
        ValueError: if there is no scheduler, one of another optimizer, a `ReduceLROnPlateau`, or not one
            milestone between each two.
        TypeError: if one is no scheduler.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if len(schedulers) < 1:
            raise ValueError("SequentialLR expects at least one scheduler, but got no scheduler.")
        self._check_parts(schedulers, optimizer)
        check_number_of_parts(schedulers, milestones)
        self._schedulers = schedulers
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo(self)
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]  # torch's
        """Step the scheduler whose turn it is."""
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        part = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            part._update_lr(0)
        else:
            part.step()
        self._last_lr = part.get_last_lr()


def _undo(scheduler: LRScheduler) -> None:
    """Take back the count of the step that making a scheduler was."""
    if isinstance(scheduler, _Composed):
        for part in scheduler._schedulers:
            _undo(part)
    else:
        scheduler.last_epoch -= 1


class ChainedScheduler(_Composed):
    """Several schedulers at once: each `step` steps them all, in order, each on what the last one left.

    Args:
        schedulers: of one optimizer; at least one.
        optimizer: theirs. Default: that of the first.

    Raises:
        ValueError: if there is no scheduler, one of another optimizer, or a `ReduceLROnPlateau`.
        TypeError: if one is no scheduler.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if len(schedulers) < 1:
            raise ValueError(
                "ChainedScheduler expects at least one scheduler to be chained, but got no scheduler."
            )
        theirs = getattr(schedulers[0], "optimizer", None)
        self._check_parts(schedulers, theirs if optimizer is None else optimizer)
        self._schedulers = schedulers
        self.optimizer = schedulers[0].optimizer
        self._last_lr = values(self.optimizer, "lr")

    def step(self) -> None:  # type: ignore[override]  # torch's
        """Step all of them."""
        for part in self._schedulers:
            part.step()
        self._last_lr = values(self.optimizer, "lr")
