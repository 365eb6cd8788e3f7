"""Leafwise transformations: formulas on one tensor."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ParamSpec, cast, overload

import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import as_array
from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Array, State
from gradtx.core.layout import DEFAULT, Layout, Slots, StateForm
from gradtx.core.placement import Beginning
from gradtx.core.run import Segment, check_inexact
from gradtx.core.segment import LeafwiseSegment, LeafwiseStage, Periodic, Variant, stream_of
from gradtx.core.transformation import EmptyState, GradientTransformation, Stage
from gradtx.values.factory import register
from gradtx.values.parts import Number
from gradtx.values.value import Value

P = ParamSpec("P")


class Leafwise(Stage):
    """A primitive whose formula sees one tensor."""

    @property
    def fuses(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  # read only
        return not self.batch

    @property
    def batch(self) -> bool:
        """Whether the rule runs once for all tensors of one shape."""
        return self.options["batch"]

    @property
    def layout(self) -> Layout:
        """How its slots are kept."""
        return self.options["layout"]

    @property
    def real_only(self) -> bool:
        """Whether its rule is not defined for complex tensors."""
        return self.options["real_only"]

    @property
    def elementwise(self) -> bool:
        """Whether its rule treats each number alone."""
        return self.options["elementwise"]

    @property
    def is_wide(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  # read only
        return self.options["wide"]

    @property
    def periodic(self) -> Periodic | None:
        """When its slots are refreshed; None if its rule has no `refresh`."""
        every, spread = self.options["every"], self.options["spread"]
        if every is None:
            return None
        return Periodic(self.arguments[every], self.arguments[spread] if isinstance(spread, str) else spread)

    def as_value(self) -> Value:
        """Itself, as what it is recorded as."""
        return self

    @cached_property
    def form(self) -> StateForm:
        plain, counted, counter = (self.options[name] for name in ("state", "counted", "counter"))
        fields: tuple[str, ...] = plain._fields
        if self.layout.keeps_count:
            return StateForm(plain, wrapped=bool(self.schedules), slots=fields)
        seeded, slots = "seed" in fields, tuple(name for name in fields if name not in (counter, "seed"))
        if counter in fields:
            return StateForm(plain, counter, slots=slots, seeded=seeded)
        if not (self.schedules or self.periodic or {"step", "key"} & set(self.asks.update.names)):
            return StateForm(plain, slots=slots, seeded=seeded)
        if counted is None:
            return StateForm(plain, wrapped=True, slots=slots, seeded=seeded)
        return StateForm(counted, "count", slots=slots, seeded=seeded)

    @cached_property
    def needs(self) -> Mapping[str, Stage]:
        asked, given = self.asks.update, {"step", "path", "key", *self.form.slots}
        missing = asked.required - given - {*asked.names[:1]}
        return {"params" if what == "param" else what: self for what in missing}

    def hint(self, what: str) -> str:
        near = difflib.get_close_matches(what, set(self.form.slots) - set(self.asks.update.names), n=1)
        return f"; or did you mean its slot {near[0]}?" if near else ""

    def validate(self) -> None:
        super().validate()
        asks = self.asks  # runs the body: what is wrong with the arguments shows where they are given
        if "key" in {*asks.update.names, *asks.init} and not self.form.seeded:
            raise TypeError(
                f"{self.name}: a rule that names key needs a field seed in its state, and an argument seed"
            )
        every = self.options["every"]
        if every is not None:
            number = self.arguments.get(every)
            if every in self.factory.numeric or type(number) is not int or number < 1:
                raise ValueError(
                    f"{self.name}: every={every!r} must name an argument that is gradtx.Static[int], a whole "
                    f"number of at least 1; it is {number!r}"
                )
        if (asks.refresh is not None) != (every is not None):
            raise TypeError(f"{self.name}: a rule has a refresh if and only if leafwise is told every=...")

    def segment(self, first: int, variants: Sequence[Sequence[Any]]) -> Segment:
        return LeafwiseSegment(first, variants)

    def start(self, beginning: Beginning) -> State:
        form = self.form
        count = beginning.scalar(0, jnp.int32) if form.counts else None
        for i, param in enumerate(beginning.leaves):
            self._check(beginning, i, param)
        made = self._made(beginning, count) if form.slots else [{}] * len(beginning.leaves)
        trees = {name: beginning.treedef.unflatten([own.get(name) for own in made]) for name in form.slots}
        trees |= {form.counter: count} if form.counter else {}
        trees |= {"seed": beginning.scalar(self.arguments["seed"], jnp.uint32)} if form.seeded else {}
        return form.start(form.cls(**trees), count)

    def _check(self, beginning: Beginning, i: int, param: Any) -> None:
        if param is None:
            return
        check_inexact(self.name, beginning.params, i, param)
        if self.real_only and jnp.iscomplexobj(param):
            raise errors.not_real(self.name, errors.path_of(beginning.params, i))

    def _made(self, beginning: Beginning, count: Array | None) -> list[Slots]:
        """The slots of each param."""
        alone, unknown = Variant([cast(LeafwiseStage, self)]), beginning.is_traced or beginning.is_abstract
        program = alone.program(unknown)[0]
        numbers = [] if beginning.is_abstract else alone.numbers_at([count], unknown)
        seed, asks = self.arguments.get("seed"), self.asks.init
        paths = (
            leaf_paths(beginning.params)
            if {"key", "path"}.intersection(asks)
            else [""] * len(beginning.leaves)
        )

        def made(i: int, param: Any) -> Slots:
            if param is None:
                return {}
            named = dict(seed=seed, stream=stream_of(paths[i]), path=paths[i] if "path" in asks else None)
            if not unknown and beginning.is_on_one_device(param):
                return program.start(as_array(param), numbers, **named)
            return beginning.made(lambda param: program.start_one(param, known(), **named), param)

        def known() -> list[Number]:
            return alone.numbers_at([jnp.zeros([], jnp.int32)], True) if beginning.is_abstract else numbers

        return [made(i, param) for i, param in enumerate(beginning.leaves)]


@overload
def leafwise(body: Callable[P, Any], /) -> Callable[P, GradientTransformation]: ...
@overload
def leafwise(
    *,
    state: type = ...,
    counted: type | None = ...,
    counter: str = ...,
    layout: Layout = ...,
    elementwise: bool = ...,
    batch: bool = ...,
    every: str | None = ...,
    spread: str | bool = ...,
    wide: bool = ...,
    real_only: bool = ...,
    name: str | None = ...,
) -> Callable[[Callable[P, Any]], Callable[P, GradientTransformation]]: ...
def leafwise(
    body: Callable[..., Any] | None = None,
    /,
    *,
    state: type = EmptyState,
    counted: type | None = None,
    counter: str = "count",
    layout: Layout = DEFAULT,
    elementwise: bool = False,
    batch: bool = False,
    every: str | None = None,
    spread: str | bool = True,
    wide: bool = False,
    real_only: bool = False,
    name: str | None = None,
) -> Any:
    """Make a factory of a formula on one tensor.

    The decorated function takes the numbers and choices and returns ``init, update``, or ``update``
    alone if there are no slots. ``init(param)`` returns a dict of slots: tensors, or lists of them.
    ``update`` names what it needs, the incoming update first:

    - its slots, and ``param``;
    - ``step``, 1 on the first update;
    - an extra argument of the transformation's `update`, such as ``value``; of one that is a tree like the
      params, its own leaf;
    - ``key``, a random key of this tensor and step, from the field ``seed`` of the state, which begins as the
      argument ``seed``: the same in `jit` or out, in any order, on any devices;
    - ``path``, of the param, as patterns see it (``dense/kernel``): a string, known while tracing.

    It returns the new update, and a dict of all slots if there are any. Tensors arrive in at least float32,
    and the executor casts what comes back. ``init`` may name ``key`` and ``path`` too.

    Args:
        state: the named tuple of the state; a field ``count`` is kept by the framework (int32, updates
            so far), and so is a field ``seed``; every other field is a slot: a tree like the params.
        counted: the named tuple used instead if the rule needs a count and `state` has none, because
            it names ``step`` or because a number is scheduled. Default: a `ScheduledState`.
        counter: the field of `state` that is the count, where its layout has another name for it.
        layout: how slots are kept. Default: in the dtype in which `init` made them.
        elementwise: whether each number of an update follows from the numbers in its own place alone. Then a
            tensor may be cut in pieces, each updated alone.
        batch: whether to run by the `Batch` in force for all tensors of one shape: on accelerators by
            `jax.vmap` over their stack, on the CPU one after the other. For rules made of matrix products or
            decompositions.
        every: for a rule that returns ``init, update, refresh``: the argument that says every how many steps
            ``refresh`` is due. It names slots, those that it reads or changes, and returns a dict of those
            that it changed. It runs for all tensors of one shape together, after the update.
        spread: whether tensors take turns, about one in `every` at each step, so that all steps cost the
            same; otherwise all are due at the first step and at every so many after it. The name of an
            argument leaves it to the user.
        wide: whether, as the last stage, to hand out updates in at least float32, for half-precision params
            too: param + update is then rounded once.
        real_only: whether to refuse complex tensors.
        name: the name in `repr`, errors and states. Default: the function's.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> @gradtx.leafwise
        ... def scale_by_cube(rate=1.0):
        ...     def update(grad):
        ...         return rate * grad**3
        ...     return update
        >>> tx = gradtx.chain(scale_by_cube(0.5), gradtx.scale(-1.0))
        >>> updates, state = tx.update({"w": jnp.array(2.0)}, tx.init({"w": jnp.array(0.0)}))
        >>> print(updates["w"])
        -4.0
    """
    if body is not None:
        return leafwise()(body)
    options = dict(state=state, counted=counted, counter=counter, layout=layout, elementwise=elementwise)
    options |= dict(batch=batch, every=every, spread=spread, wide=wide, real_only=real_only)
    return lambda body: register(body, Leafwise, name=name, **options)
