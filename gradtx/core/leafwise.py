"""Leafwise transformations: formulas on one tensor."""

import difflib
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, ParamSpec, overload

import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import as_array, has_numbers
from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Array, PyTree, Selector, State
from gradtx.core.keeping import is_kept, kept
from gradtx.core.layout import DEFAULT, Layout, Slots, StateForm
from gradtx.core.placement import Beginning
from gradtx.core.rule import check_state_class
from gradtx.core.run import Segment
from gradtx.core.segment import ChoosingSegment, LeafwiseSegment, Periodic, Variant, by_choice, stream_of
from gradtx.core.transformation import EmptyState, GradientTransformation, Stage
from gradtx.values.factory import register
from gradtx.values.parts import Number
from gradtx.values.value import Value

P = ParamSpec("P")
Choice = Callable[[str, str, Selector, PyTree], Sequence[Hashable]]
"""``choose(name, argument, selector, params)`` gives what a selector says of each leaf; None is one."""


class Leafwise(Stage):
    """A primitive whose formula sees one tensor."""

    offered = ("elementwise", "unsigned")

    @property
    def fuses(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  # read only
        return not (self.batch or self.options["by_leaf"])

    @property
    def batch(self) -> bool:
        """Whether the rule runs once for all tensors of one shape."""
        return self.options["batch"]

    @property
    def layout(self) -> Layout:
        """How its slots are kept."""
        return self.options["layout"]

    @property
    def others(self) -> str:
        return self.options["others"] or "refused"

    @property
    def real_only(self) -> bool:
        """Whether its rule is not defined for complex tensors."""
        return self.options["real_only"]

    @property
    def elementwise(self) -> bool:
        """Whether its rule treats each number alone."""
        return self.options["elementwise"]

    @property
    def unsigned(self) -> frozenset[str]:
        """Its slots whose numbers are at least 0."""
        return self.options["unsigned"]

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
        others = {counter, "seed", *self.options["constants"]}
        seeded, slots = "seed" in fields, tuple(name for name in fields if name not in others)
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
        return {"params" if what in ("param", "dtype") else what: self for what in missing}

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
        if self.options["by_leaf"]:
            return ChoosingSegment(first, [stage for (stage,) in variants])
        return LeafwiseSegment(first, variants)

    def choices(self, tree: PyTree) -> list[tuple[Hashable, ...]]:
        """For each leaf, None included, what the selectors among the arguments say of it."""
        by_leaf: Mapping[str, Choice] = self.options["by_leaf"]
        columns = [choose(self.name, what, self.arguments[what], tree) for what, choose in by_leaf.items()]
        return list(zip(*columns, strict=True))

    def chosen(self, choices: tuple[Hashable, ...]) -> "Leafwise":
        """Itself with these choices in the place of selectors."""
        if choices not in self._chosen:
            self._chosen[choices] = self.replace(**dict(zip(self.options["by_leaf"], choices, strict=True)))
        return self._chosen[choices]

    @cached_property
    def _chosen(self) -> "dict[tuple[Hashable, ...], Leafwise]":
        return {}

    def start(self, beginning: Beginning, variants: Sequence[Any], which: Sequence[int]) -> State:
        form = self.form
        count = beginning.scalar(0, jnp.int32) if form.counts else None
        self._check(beginning)
        alone = [Variant([stage]) for stage in variants]
        which = which or [0] * len(beginning.leaves)
        if self.options["by_leaf"]:
            stages, which = by_choice(variants, which, self.choices(beginning.numbers))
            alone = [Variant([stage]) for stage in stages]
        made = self._made(alone, which, beginning, count) if form.slots else [{}] * len(beginning.leaves)
        trees = {name: beginning.treedef.unflatten([own.get(name) for own in made]) for name in form.slots}
        trees |= {form.counter: count} if form.counter else {}
        constants: Mapping[str, Callable[..., Any]] = self.options["constants"]
        trees |= beginning.made(
            lambda _: {name: jnp.asarray(of(self.arguments)) for name, of in constants.items()}, ()
        )
        trees |= {"seed": beginning.scalar(self.arguments["seed"], jnp.uint32)} if form.seeded else {}
        return form.start(form.cls(**trees), count)

    def _check(self, beginning: Beginning) -> None:
        # A rule that remembers nothing may be one of a chain that is asked for none of their updates.
        if self.options["others"] == "refused" or (self.others == "refused" and self.form.slots):
            errors.check_inexact(self.name, beginning.params)
        for i, param in enumerate(beginning.leaves if self.real_only else ()):
            if param is not None and jnp.iscomplexobj(param):
                raise errors.not_real(self.name, errors.path_of(beginning.params, i))

    def _made(
        self, variants: Sequence[Variant], which: Sequence[int], beginning: Beginning, count: Array | None
    ) -> list[Slots]:
        """The slots of each param."""
        unknown = beginning.is_traced or beginning.is_abstract
        programs = [variant.program(unknown)[0] for variant in variants]
        numbers = [[] if beginning.is_abstract else one.numbers_at([count], unknown) for one in variants]
        seed, asks = self.arguments.get("seed"), self.asks.init
        named_paths = is_kept() or {"key", "path"}.intersection(asks)
        paths = leaf_paths(beginning.params) if named_paths else [""] * len(beginning.leaves)

        def made(i: int, param: Any) -> Slots:
            if param is None or not has_numbers(param):
                return {}
            slots = made_plain(i, param)
            return kept(beginning, self.name, paths[i], slots, param) if is_kept() else slots

        def made_plain(i: int, param: Any) -> Slots:
            named = dict(seed=seed, stream=stream_of(paths[i]), path=paths[i] if "path" in asks else None)
            program, own = programs[which[i]], numbers[which[i]]
            if not unknown and beginning.is_on_one_device(param):
                return program.start(as_array(param), own, **named)
            return beginning.made(lambda param: program.start_one(param, known(which[i]), **named), param)

        def known(j: int) -> list[Number]:
            first = jnp.zeros([], jnp.int32)
            return variants[j].numbers_at([first], True) if beginning.is_abstract else numbers[j]

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
    unsigned: Sequence[str] = ...,
    by_leaf: Mapping[str, Choice] = ...,
    constants: Mapping[str, Callable[[Mapping[str, Any]], Any]] = ...,
    batch: bool = ...,
    every: str | None = ...,
    spread: str | bool = ...,
    wide: bool = ...,
    real_only: bool = ...,
    others: Literal["refused", "hidden", "shown"] | None = ...,
    name: str | None = ...,
    formerly: str = ...,
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
    unsigned: Sequence[str] = (),
    by_leaf: Mapping[str, Choice] | None = None,
    constants: Mapping[str, Callable[[Mapping[str, Any]], Any]] | None = None,
    batch: bool = False,
    every: str | None = None,
    spread: str | bool = True,
    wide: bool = False,
    real_only: bool = False,
    others: Literal["refused", "hidden", "shown"] | None = None,
    name: str | None = None,
    formerly: str = "",
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
    - ``path``, of the param, as patterns see it (``dense/kernel``): a string, known while tracing;
    - ``dtype``, of the param as it is, known while tracing: what a rule sees of it is in at least float32.

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
        unsigned: the slots whose numbers are at least 0 by the formula, such as second moments. They alone
            can be stored in formats without a sign.
        by_leaf: arguments that are selectors, each with the function that reads it, ``choose(name, argument,
            selector, params)``: a choice for each leaf, hashable. The rule is run with the choice of its
            tensor in the place of the selector.
        constants: fields of the state that are no slots, each with the function of the arguments, by name,
            that gives its numbers.
        batch: whether to run by the `Batch` in force for all tensors of one shape: on accelerators by
            `jax.vmap` over their stack, on the CPU one after the other. For rules made of matrix products or
            decompositions.
        every: for a rule that returns ``init, update, refresh``: the argument that says every how many steps
            ``refresh`` is due. It names slots, those that it reads or changes, and returns a dict of those
            that it changed; or that and whether they are to be taken. Where not, the old ones stay, and a
            slot ``rejected`` of whole numbers counts it. It runs for all tensors of one shape together,
            after the update. It may name ``due``: whether what it returns will be looked at, or None if
            surely.
        spread: whether tensors take turns, about one in `every` at each step, so that all steps cost the
            same; otherwise all are due at the first step and at every so many after it. The name of an
            argument leaves it to the user.
        wide: whether, as the last stage, to hand out updates in at least float32, for half-precision params
            too: param + update is then rounded once.
        real_only: whether to refuse complex tensors.
        others: what happens to leaves that have no real or complex numbers, such as integers and keys.
            ``"refused"``: they are an error. Default: so they are, but if the rule has no slots, only where
            there is an update. ``"hidden"``: they pass by, as what limits updates lets them.  ``"shown"``:
            the rule, which is then one of the update alone, is given them as they are.
        name: the name in `repr`, errors and states. Default: the function's.
        formerly: an older name, by which configs and entries of `state_dict` are found.

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
    options: dict[str, Any] = dict(
        state=state, counted=counted, counter=counter, layout=layout, elementwise=elementwise
    )
    check_state_class("leafwise", state)
    if strange := set(unsigned) - {*state._fields, *(counted._fields if counted else ())}:
        raise ValueError(f"leafwise: unsigned: {state.__name__} has no slot {strange.pop()!r}")
    options |= dict(
        unsigned=frozenset(unsigned),
        by_leaf=dict(by_leaf or {}),
        constants=dict(constants or {}),
        batch=batch,
        every=every,
        spread=spread,
        wide=wide,
        real_only=real_only,
        others=others,
    )
    return lambda body: register(body, Leafwise, name=name, formerly=formerly, **options)
