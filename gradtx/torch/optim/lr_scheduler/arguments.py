"""What PyTorch demands of arguments, for the schedulers and for the schedules: its errors, in its words."""

from typing import Any

from gradtx.values.parts import is_number


def check_constant(factor: Any) -> None:
    """The factor of ConstantLR; a traced one passes."""
    if is_number(factor) and not 0 <= factor <= 1:
        raise ValueError("Constant multiplicative factor expected to be between 0 and 1.")


def check_linear(start_factor: Any, end_factor: Any) -> None:
    """The factors of LinearLR; traced ones pass."""
    if is_number(start_factor) and not 0 < start_factor <= 1:
        raise ValueError(
            "Starting multiplicative factor expected to be greater than 0 and less or equal to 1."
        )
    if is_number(end_factor) and not 0 <= end_factor <= 1:
        raise ValueError("Ending multiplicative factor expected to be between 0 and 1.")


def check_restarts(T_0: Any, T_mult: Any) -> None:
    """The periods of CosineAnnealingWarmRestarts."""
    if not isinstance(T_0, int) or T_0 <= 0:
        raise ValueError(f"Expected positive integer T_0, but got {T_0}")
    if not isinstance(T_mult, int) or T_mult < 1:
        raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")


def check_cycle(mode: Any, scale_fn: Any, modes: Any) -> None:
    """The mode of CyclicLR, which a scale_fn replaces."""
    if scale_fn is None and mode not in modes:
        known = ", ".join(map(repr, modes))
        raise ValueError(f"mode is invalid and scale_fn is None: mode must be one of {known}, got {mode!r}")


def check_anneal(anneal_strategy: Any) -> None:
    """The way between levels."""
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")


def check_anneal_epochs(anneal_epochs: Any) -> None:
    """The length of SWALR's way."""
    if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
        raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")


def steps_of_one_cycle(total_steps: Any, epochs: Any, steps_per_epoch: Any) -> int:
    """The length of OneCycleLR's cycle: total_steps, or epochs · steps_per_epoch."""
    if total_steps is not None:
        return _positive_integer("total_steps", total_steps)
    if epochs is None or steps_per_epoch is None:
        raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
    return _positive_integer("epochs", epochs) * _positive_integer("steps_per_epoch", steps_per_epoch)


def check_pct_start(pct_start: Any) -> None:
    """The share of OneCycleLR's rise, of type float; a traced one passes."""
    if is_number(pct_start) and not (isinstance(pct_start, float) and 0 <= pct_start <= 1):
        raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")


def check_number_of_parts(schedulers: Any, milestones: Any) -> None:
    """One milestone between each two of SequentialLR's schedulers."""
    if len(milestones) != len(schedulers) - 1:
        raise ValueError(
            "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
            f"milestone points, but got number of schedulers {len(schedulers)} and the number of milestones "
            f"to be equal to {len(milestones)}"
        )


def _positive_integer(name: str, x: Any) -> int:
    if not isinstance(x, int) or x <= 0:
        raise ValueError(f"Expected positive integer {name}, but got {x}")
    return x
