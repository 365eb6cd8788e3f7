"""Schedules: functions of the count of updates so far, as values."""

from typing import Any as _Any

from gradtx.moved import missing as _missing
from gradtx.schedules.averages import ema_warmup as ema_warmup
from gradtx.schedules.constant import constant_schedule as constant_schedule
from gradtx.schedules.cycles import cosine_onecycle_schedule as cosine_onecycle_schedule
from gradtx.schedules.cycles import linear_onecycle_schedule as linear_onecycle_schedule
from gradtx.schedules.cycles import sgdr_schedule as sgdr_schedule
from gradtx.schedules.decay import cosine_decay_schedule as cosine_decay_schedule
from gradtx.schedules.decay import exponential_decay as exponential_decay
from gradtx.schedules.decay import linear_schedule as linear_schedule
from gradtx.schedules.decay import polynomial_schedule as polynomial_schedule
from gradtx.schedules.decay import step_lr as step_lr
from gradtx.schedules.join import join_schedules as join_schedules
from gradtx.schedules.piecewise import piecewise_constant_schedule as piecewise_constant_schedule
from gradtx.schedules.piecewise import piecewise_interpolate_schedule as piecewise_interpolate_schedule
from gradtx.schedules.stateful import StatefulSchedule as StatefulSchedule
from gradtx.schedules.stateful import WrappedSchedule as WrappedSchedule
from gradtx.schedules.sums import product_schedule as product_schedule
from gradtx.schedules.sums import sum_schedule as sum_schedule
from gradtx.schedules.warmup import warmup_constant_schedule as warmup_constant_schedule
from gradtx.schedules.warmup import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from gradtx.schedules.warmup import warmup_exponential_decay_schedule as warmup_exponential_decay_schedule
from gradtx.values.schedule import Schedule as Schedule


def __getattr__(name: str) -> _Any:
    raise _missing(__name__, name)
