"""Transformations with slots in formats: what changes, where they may stand, the roads of their states."""

import io
import warnings
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import gradtx
from gradtx import formats
from gradtx.core.layout import is_coded
from tests.laws import Compilations, assert_close, assert_same_layout, normal, run

FORMATS = {"mu": formats.companded(), "nu": formats.square_root()}


def test_only_the_state_changes() -> None:
    tx, plain = gradtx.stored(gradtx.adamw(1e-3), FORMATS), gradtx.adamw(1e-3)
    params = normal({"w": (64, 48), "b": (8,)}, 0, jnp.float32)
    state, expected_state = tx.init(params), plain.init(params)
    assert isinstance(state[0].mu["w"], formats.Stored) and not isinstance(state[0].mu["b"], formats.Stored)
    for i in range(1, 6):
        grads = normal({"w": (64, 48), "b": (8,)}, i, jnp.float32)
        updates, after = jax.jit(tx.update)(grads, state, params)
        expected, expected_state = plain.update(grads, expected_state, params)
        assert_same_layout(after, state)
        state = after
        assert_close(updates["b"], expected["b"])
        # Of |m̂| / √v̂, at most about 3 in five steps: 0.8 % of the largest moment, 0.4 % of the root.
        assert_close(updates["w"], expected["w"], rtol=0, atol=1e-3 * 0.1)
    names = set(gradtx.state_dict(tx, state))
    assert {"scale_by_adam/mu/w/codes", "scale_by_adam/nu/w/scales", "scale_by_adam/mu/b"} <= names


WITHIN = {
    "groups": lambda tx: gradtx.groups(tx, {"b": {"weight_decay": 0.0}}),
    "partition": lambda tx: gradtx.partition({"x": tx}, {".*": "x"}),
    "masked": lambda tx: gradtx.masked(tx, {"b": False, ".*": True}),
    "MultiSteps": lambda tx: gradtx.MultiSteps(tx, 2),
    "apply_if_finite": lambda tx: gradtx.apply_if_finite(tx, 3),
    "named_chain": lambda tx: gradtx.named_chain(("adam", tx)),
}


@pytest.mark.parametrize("within", WITHIN.values(), ids=WITHIN.keys())
def test_it_may_stand_inside_or_outside_of_what_wraps(within: Any) -> None:
    adamw, params = gradtx.adamw(1e-3, weight_decay=0.1), normal({"w": (64, 32), "b": (8,)}, 0, jnp.float32)
    inside, outside = within(gradtx.stored(adamw, FORMATS)), gradtx.stored(within(adamw), FORMATS)
    states = [inside.init(params), outside.init(params)]
    assert sum(x.dtype == jnp.int8 for x in jax.tree.leaves(states[0])) == 1
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    updates = [
        tx.update(params, state, params)[0] for tx, state in zip((inside, outside), states, strict=True)
    ]
    assert_close(*updates, rtol=0, atol=0)


def test_formats_are_chosen_by_path_and_function() -> None:
    params = {"embed": jnp.zeros((64, 32)), "head": jnp.zeros((64, 32))}
    for mu in ({"embed": None, ".*": "bfloat16"}, lambda path, leaf: None if path == "embed" else "bfloat16"):
        mu = gradtx.stored(gradtx.adam(1e-3), {"scale_by_adam/mu": mu}).init(params)[0].mu
        assert mu["embed"].dtype == jnp.float32 and mu["head"].parts["codes"].dtype == jnp.bfloat16


def test_values_go_through_repr_config_and_pickle() -> None:
    tx = gradtx.stored(
        gradtx.adamw(1e-3), {**FORMATS, "scale_by_adam/mu": {"w": formats.dynamic(), ".*": None}}
    )
    assert eval(repr(tx), vars(gradtx)) == tx == gradtx.from_config(gradtx.to_config(tx))
    with Compilations() as compilations:
        params = {"w": jnp.zeros((64, 32))}
        state = tx.init(params)
        tx.update(params, state, params)
    with Compilations() as compilations:
        tx.replace().update(params, state, params)
    assert compilations.count == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gradtx.stored(gradtx.adam(1e-3), {"momentum": "bfloat16"}), "'momentum' is no slot of adam"),
        (lambda: gradtx.stored(gradtx.adam(1e-3), {"count": "bfloat16"}), "there are: scale_by_adam/mu"),
        (lambda: gradtx.stored(gradtx.adam(1e-3), {"mu": formats.companded}), "call it"),
        (lambda: gradtx.stored(gradtx.adam(1e-3), {"mu": 8}), "must have a format"),
    ],
)
def test_bad_input_is_said(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_complex_slot_is_refused_with_its_path() -> None:
    tx = gradtx.stored(gradtx.adam(1e-3), {"mu": formats.companded()}, min_size=0)
    with pytest.raises(TypeError, match="scale_by_adam/mu of w is complex64.*leave it as it is"):
        tx.init({"w": jnp.zeros(3, jnp.complex64)})


def test_a_format_without_a_sign_is_for_slots_without_one() -> None:
    for mu in (formats.square_root(), formats.dynamic(signed=False), {"w": formats.square_root()}):
        tx = gradtx.stored(gradtx.adam(1e-3), {"mu": mu}, min_size=0)
        with pytest.raises(ValueError, match="scale_by_adam/mu of w has numbers of either sign, and formats"):
            tx.init({"w": jnp.zeros(3)})
    with pytest.raises(ValueError, match="leafwise: unsigned: TraceState has no slot 'nu'"):
        gradtx.leafwise(state=gradtx.TraceState, unsigned=("nu",))


# --- states, by every road --------------------------------------------------------------------------

OWN = formats.Format(
    lambda x: dict(whole=jnp.round(x * 1000).astype(jnp.int32)), lambda whole: whole / 1000.0
)
KEPT = {
    "plain": {},
    "blocks of 32": FORMATS,
    "blocks of 16": {"mu": formats.companded(block_size=16), "nu": formats.square_root(4)},
    "dynamic": {"mu": formats.dynamic(), "nu": formats.dynamic(signed=False)},
    "floats": {"mu": "bfloat16", "nu": "float8_e5m2"},
    "by chance": {"mu": formats.floating("bfloat16", stochastic=True), "nu": formats.float8(stochastic=True)},
    "own": {"mu": OWN},
}


def kept_in(name: str) -> tuple[Any, Any]:
    """A transformation with slots kept like that, and its state after two steps."""
    tx = gradtx.stored(gradtx.adamw(1e-3), KEPT[name], min_size=0) if KEPT[name] else gradtx.adamw(1e-3)
    return tx, run(tx, params_of(0), [params_of(1), params_of(2)])[1]


def params_of(seed: int) -> Any:
    layer = normal({"w": (40, 50), "odd": (3, 7), "b": (30,)}, seed, jnp.float32)
    return {"b": layer.pop("b"), "layer": layer}


def decoded(state: Any) -> Any:
    return jax.tree.map(lambda x: x.decode() if is_coded(x) else x, state, is_leaf=is_coded)


def by_numpy(flat: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    np.savez(file, **flat)
    file.seek(0)
    return dict(np.load(file))


FEW = ("plain", "blocks of 32")
"""The forms that `make test` converts."""


@pytest.mark.parametrize(
    ("there", "forms"),
    [
        *[pytest.param(name, FEW, id=name) for name in FEW],
        *[pytest.param(name, KEPT, id=f"{name} to all", marks=pytest.mark.extra) for name in KEPT],
    ],
)
def test_a_state_loads_into_any_other_form(there: str, forms: Any) -> None:
    tx, state = kept_in(there)
    flat = by_numpy(gradtx.state_dict(tx, state))
    for here in forms:
        other, _ = kept_in(here)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params_of(0))
        for target in (other.init(params_of(0)), other.init(shapes)):
            if there == "own" != here:
                with pytest.raises(ValueError, match="unexpected: scale_by_adam/mu/b/whole"):
                    gradtx.load_state_dict(other, target, flat)
                continue
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                loaded = gradtx.load_state_dict(other, target, flat)
            assert_same_layout(loaded, other.init(params_of(0)))
            # As encoding once does: what was saved is what the other form is made of.
            expected = jax.tree.map(
                lambda form, x: form.encode(x).decode() if is_coded(form) else x,
                other.init(params_of(0)), decoded(state), is_leaf=is_coded,
            )  # fmt: skip
            if here == there:
                assert not caught
                assert_close(loaded, state, rtol=0, atol=0)
            elif here != "by chance":
                assert "scale_by_adam/mu/b and" in str(caught[0].message)
                assert_close(decoded(loaded), expected, rtol=0, atol=0)


def test_what_does_not_fit_is_said_by_name() -> None:
    tx, state = kept_in("blocks of 32")
    plain, plain_state = kept_in("plain")
    flat = gradtx.state_dict(plain, plain_state)
    wrong = {**flat, "scale_by_adam/mu/b": np.zeros(31, np.float32)}
    with pytest.raises(ValueError, match=r"mu/b/codes: float32\[31\], the state has float32\[30\]"):
        gradtx.load_state_dict(tx, state, wrong)
    stored = gradtx.state_dict(tx, state)
    unknown = {**stored, "scale_by_adam/mu/b/form": np.frombuffer(b'{"call": "zip"}', np.uint8)}
    with pytest.raises(ValueError, match="mu/b/form: the format that it names cannot be had here"):
        gradtx.load_state_dict(plain, plain_state, unknown)
    cut = {name: x for name, x in stored.items() if name != "scale_by_adam/nu/b/scales"}
    with pytest.raises(ValueError, match="scale_by_adam/nu/b: its form is there, and no scales"):
        gradtx.load_state_dict(plain, plain_state, cut)


@pytest.mark.parametrize("name", ["blocks of 32", "by chance", "own"])
def test_checkpoints_of_other_libraries_hold_them(name: str, tmp_path: Any) -> None:
    tx, state = kept_in(name)
    target = tx.init(params_of(0))
    written = flax.serialization.to_bytes(state)
    assert_close(flax.serialization.from_bytes(target, written), state, rtol=0, atol=0)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        restored = checkpointer.restore(tmp_path / "state", shapes)
    assert_same_layout(restored, state)
    assert_close(restored, state, rtol=0, atol=0)
    plain, _ = kept_in("plain")
    with pytest.raises(ValueError, match="load_state_dict converts"):
        flax.serialization.from_bytes(target, flax.serialization.to_bytes(plain.init(params_of(0))))


def test_a_stored_slot_is_one_place_for_tools_of_trees() -> None:
    by_path = {"mu": {"layer/w": formats.companded(), ".*": None}, "nu": "bfloat16"}
    tx = gradtx.stored(gradtx.adamw(1e-3), by_path, min_size=0)
    state = run(tx, params_of(0), [params_of(1)])[1]
    doubled = gradtx.tree.map_params(
        tx, lambda x, _: x.encode(2 * x.decode()) if is_coded(x) else 2 * x, state, params_of(0)
    )
    # The power of 2 is that of the scale.
    assert_close(decoded(doubled)[0].mu, jax.tree.map(lambda x: 2 * x, decoded(state)[0].mu), rtol=0, atol=0)
    assert doubled[0].count == state[0].count
    assert is_coded(gradtx.tree.get(state, "mu")["layer"]["w"])
    assert gradtx.tree.set(state, mu=state[0].nu)[0].mu is state[0].nu
    names = gradtx.hyperparams(tx, state).last
    assert names["b1"] == 0.9


class LinearModel(nnx.Module):
    def __init__(self) -> None:
        self.kernel = nnx.Param(normal({"k": (64, 32)}, 0, jnp.float32)["k"])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(
    "tx", [gradtx.stored(gradtx.adamw(1e-2), FORMATS), gradtx.sm3(0.1)], ids=["stored", "a list of tensors"]
)
def test_in_an_optimizer_of_flax(tx: Any, compiled: bool) -> None:
    """Which puts the parts of a slot into a container of its own."""
    model = LinearModel()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    def step(model: Any, optimizer: Any) -> None:
        optimizer.update(model, nnx.grad(lambda model: jnp.sum(model.kernel[...] ** 2))(model))

    params = {"kernel": model.kernel[...]}
    state = tx.init(params)
    for _ in range(4):
        (nnx.jit(step) if compiled else step)(model, optimizer)
        updates, state = tx.update({"kernel": 2 * params["kernel"]}, state, params)
        params = gradtx.apply_updates(params, updates)
    assert_close(model.kernel[...], params["kernel"])


def test_a_slot_in_a_foreign_container_is_refused() -> None:
    params = {"w": jnp.ones(3)}
    state = gradtx.TraceState({"w": {"a": jnp.ones(3), "b": jnp.ones(3)}})
    with pytest.raises(ValueError, match=r"trace: the state's trace has dict\(a, b\) in the place of a slot"):
        gradtx.trace(0.9).update(params, state)


# --- shards and maps --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kept",
    [
        FORMATS,
        pytest.param(KEPT["dynamic"], marks=pytest.mark.extra),
        pytest.param(KEPT["by chance"], marks=pytest.mark.extra),
    ],
    ids=["32", "256", "by chance"],
)
@pytest.mark.parametrize(
    "spec", [("data", None), (None, "data"), (("data", "model"), None), ("model", "data")]
)
@pytest.mark.parametrize(
    "axes",
    [jax.sharding.AxisType.Auto, pytest.param(jax.sharding.AxisType.Explicit, marks=pytest.mark.extra)],
)
def test_no_sharding_needs_a_collective(axes: Any, spec: Any, kept: Any) -> None:
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axes, axes))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    params = jax.device_put({"w": normal({"w": (16, 200)}, 0, jnp.float32)["w"]}, split)
    tx = gradtx.stored(gradtx.scale_by_adam(), kept)
    state = tx.init(params)
    with jax.set_mesh(mesh):
        step = jax.jit(tx.update).lower(params, state, params).compile()
        text = step.as_text()
        assert not any(
            f" {op}" in text for op in ("all-reduce(", "all-gather(", "all-to-all(", "collective-permute(")
        )
        updates, after = step(params, state, params)
    for before, x in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert x.sharding.is_equivalent_to(before.sharding, x.ndim)
    # Blocks that no device cuts are those of one device.
    if 200 // mesh.shape.get(spec[1], 1) % 32 == 0 or spec[1] is None:
        alone = jax.device_get(params)
        expected, _ = tx.update(alone, tx.init(alone), alone)
        # Compiled or not, they differ by a few roundings; of blocks that were cut, by a hundredth.
        assert_close(jax.device_get(updates), expected, rtol=1e-6, atol=1e-6)


def test_replicas_round_by_their_own_seeds() -> None:
    mu = formats.floating("bfloat16", stochastic=True)
    params, grads = jnp.zeros((2, 64)), jnp.broadcast_to(jnp.linspace(0.1, 1, 64), (2, 64))

    def state_of(seed: Any, param: Any, grad: Any) -> Any:
        tx = gradtx.stored(gradtx.trace(0.9), {"trace": mu}, min_size=0, seed=seed)
        return tx.update(grad, tx.init(param))[1].trace.decode()

    found = jax.vmap(state_of)(jnp.arange(2), params, grads)
    loop = [state_of(seed, params[seed], grads[seed]) for seed in range(2)]
    np.testing.assert_array_equal(found, jnp.stack(loop))
    assert np.any(found[0] != found[1])


class BasisState(NamedTuple):
    count: jax.Array
    total: gradtx.Params
    basis: gradtx.Params


@pytest.mark.parametrize("batch", [gradtx.Batch(), gradtx.Stack()], ids=["loop", "stack"])
def test_slots_of_periodic_work_are_stored(batch: Any) -> None:
    @gradtx.leafwise(state=BasisState, every="every", spread="spread")
    def with_basis(every: gradtx.Static[int] = 2, spread: gradtx.Static[bool] = True):
        def init(param):
            return dict(total=jnp.zeros_like(param), basis=jnp.eye(len(param)))

        def update(grad, total, basis):
            return basis @ grad, dict(total=total + grad, basis=basis)

        def refresh(total, basis):
            return dict(basis=jnp.linalg.qr(basis + total @ total.T)[0])

        return init, update, refresh

    params = normal({f"w{i}": (4, 4) for i in range(3)}, 0, jnp.float32)
    exact = formats.Format(lambda x: dict(half=x / 2), lambda half: 2 * half)
    tx = with_basis()
    stored = gradtx.stored(tx, {"total": exact, "basis": exact}, min_size=0)
    with gradtx.batching(batch):
        states = [tx.init(params), stored.init(params)]
        for _ in range(4):
            (updates, states[0]), (found, states[1]) = (
                each.update(params, state, params) for each, state in zip((tx, stored), states, strict=True)
            )
            assert_close(found, updates, rtol=0, atol=0)
    assert is_coded(states[1].basis["w0"])


WRAPS = {
    "apply_if_finite": lambda tx: gradtx.apply_if_finite(tx, 3),
    "MultiSteps": lambda tx: gradtx.MultiSteps(tx, 1),
    "masked": lambda tx: gradtx.masked(tx, True),
    "partition": lambda tx: gradtx.partition({"a": tx, "b": gradtx.sgd(1.0)}, {"w": "a", "b": "b"}),
    "groups": lambda tx: gradtx.groups(tx, {"b": {"learning_rate": 2.0}}),
    "flatten": gradtx.flatten,
    "stored": lambda tx: gradtx.stored(tx, {}),
}


@pytest.mark.parametrize("wraps", WRAPS.values(), ids=WRAPS.keys())
def test_what_is_rounded_by_chance_is_so_within_what_wraps(wraps: Any) -> None:
    tx = wraps(gradtx.chain(gradtx.sgd(1.0), gradtx.round_stochastically()))
    params = {"w": jnp.ones((64, 64), jnp.bfloat16), "b": jnp.ones(8, jnp.bfloat16)}
    grads = jax.tree.map(lambda x: x * jnp.bfloat16(0.001), params)
    updates, _ = tx.update(grads, tx.init(params), params)
    assert updates["w"].dtype == jnp.float32
    after = gradtx.apply_updates(params, updates)["w"].astype(jnp.float32)
    # A step of 1/4 of the distance to the number below, 2⁻⁸: so often it is taken, of 4096 draws.
    chance = float(grads["w"][0, 0]) * 2**8
    assert abs(float(jnp.mean(after < 1)) - chance) < 4 * (chance * (1 - chance) / 4096) ** 0.5
