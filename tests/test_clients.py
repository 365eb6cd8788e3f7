"""The frameworks that optimizers are used from: Flax nnx, Flax linen, Equinox, and Optax's own helpers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import gradtx
from tests.laws import Compilations, assert_close, assert_same_layout, tree

X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        kind = {"param_dtype": jnp.zeros(0).dtype, "rngs": rngs}  # float64 where a test asks for it
        self.hidden = nnx.Linear(3, 5, **kind)
        self.norm = nnx.LayerNorm(5, **kind)
        self.out = nnx.List([nnx.Linear(5, 2, **kind)])

    def __call__(self, x):
        return self.out[0](self.norm(self.hidden(x)))


def loss(model) -> jax.Array:
    return jnp.mean(model(X) ** 2)


gradient = nnx.jit(nnx.grad(loss))  # one program for all tests


def by_fan_in(leaf) -> float:
    return 4 / leaf.shape[0]


OPTIMIZERS = {
    "adamw": lambda: gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-2)),
    "array numbers": lambda: gradtx.adamw(jnp.asarray(1e-2), b1=jnp.float32(0.8)).replace(),
    "numbers from jit": lambda: jax.jit(lambda tx: tx)(gradtx.adamw(1e-2)).replace(),
    "scheduled": lambda: gradtx.adamw(
        gradtx.linear_schedule(1e-2, 0.0, 10), weight_decay=gradtx.constant_schedule(0.1)
    ),
    "groups": lambda: gradtx.groups(
        gradtx.adamw(1e-2),
        {
            r"out/.*kernel": {"learning_rate": gradtx.relative(by_fan_in)},
            r".*(bias|scale)": {"weight_decay": 0.0, "learning_rate": gradtx.relative(2.0)},
            r"hidden/.*": None,
        },
    ),
    "partition": lambda: gradtx.partition(
        {"a": gradtx.sgd(0.1, 0.9), "b": gradtx.adam(1e-2)}, {r"out/.*": "a", ".*": "b"}
    ),
    "injected": lambda: gradtx.inject_hyperparams(gradtx.adamw)(learning_rate=1e-2),
    "accumulating": lambda: gradtx.MultiSteps(gradtx.adam(1e-2), 2),
    "guarded": lambda: gradtx.apply_if_finite(gradtx.adam(1e-2), 2),
    "mixed with Optax": lambda: gradtx.chain(optax.clip_by_global_norm(1.0), gradtx.adam(1e-2)),
    "noisy": lambda: gradtx.noisy_sgd(1e-2, key=3),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_nnx_optimizer_equals_the_plain_loop(make, x64) -> None:
    model, tx = Net(nnx.Rngs(0)), make()
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, gradient(model))

    state = tx.init(params)
    for _ in range(3):
        grads = nnx.to_pure_dict(nnx.state(gradient(model), nnx.Param))
        step(model, optimizer)
        updates, state = tx.update(grads, state, params)
        params = gradtx.apply_updates(params, updates)
    assert_close(nnx.to_pure_dict(nnx.state(model, nnx.Param)), params)


def in_codes(wrap):
    """A momentum of which that of matrices is kept in codes, in a wrapper."""
    return lambda: wrap(
        gradtx.stored(gradtx.sgd(0.1, momentum=0.9), {"trace": gradtx.formats.companded()}, min_size=6)
    )


@pytest.mark.parametrize(
    "make",
    [
        in_codes(lambda tx: tx),
        in_codes(lambda tx: gradtx.MultiSteps(tx, 2)),
        in_codes(lambda tx: gradtx.dynamic_loss_scale(tx, 1.0)),
        lambda: gradtx.lookahead(gradtx.sm3(0.1), 2, 0.5),
        lambda: gradtx.shampoo(0.1),
    ],
    ids=["in codes", "in MultiSteps", "in a selection", "lists in lookahead", "lists in grafted"],
)
def test_wrappers_take_slots_that_nnx_has_taken_apart(make) -> None:
    model, tx = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), make()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    state = tx.init(params)
    for _ in range(3):
        optimizer.update(model, nnx.state(model, nnx.Param))
        updates, state = tx.update(params, state, params)
        params = gradtx.apply_updates(params, updates)
    assert_close(nnx.to_pure_dict(nnx.state(model, nnx.Param)), params, rtol=1e-5, atol=1e-6)


def test_nnx_states_are_reached_as_in_optax() -> None:
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, gradtx.adamw(1e-2), wrt=nnx.Param)
    other = nnx.Optimizer(model, optax.adamw(1e-2), wrt=nnx.Param)
    assert optimizer.opt_state[0].mu["kernel"].shape == (3, 2)
    assert type(optimizer.opt_state[0].mu["kernel"]) is type(other.opt_state[0].mu["kernel"])
    assert gradtx.tree.get(optimizer.opt_state, "mu")["bias"].shape == (2,)


AVERAGES = {
    "average": lambda: gradtx.chain(gradtx.sgd(0.1), gradtx.average_params(0.5)),
    "latest": lambda: gradtx.chain(gradtx.sgd(0.1), gradtx.average_latest_params(2)),
    "lookahead": lambda: gradtx.lookahead(gradtx.sgd(0.1), sync_period=2, slow_step_size=0.5),
    "schedule-free": lambda: gradtx.contrib.schedule_free_sgd(0.1),
}


@pytest.mark.parametrize("make", AVERAGES.values(), ids=AVERAGES.keys())
def test_nnx_params_to_evaluate_with(make) -> None:
    model, tx = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), make()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for _ in range(3):
        optimizer.update(model, gradient(model))
    state, params = optimizer.opt_state, nnx.state(model, nnx.Param)
    found = gradtx.evaluation_params(state, params)
    assert_close(nnx.as_pure(found), gradtx.evaluation_params(*nnx.as_pure((state, params))))
    nnx.update(nnx.clone(model), found)
    assert type(found["kernel"]) is nnx.Param


ADAM, LION = gradtx.adam(1e-2), gradtx.lion(1e-3)
GROWN = {"kernel": gradtx.tree.Rows([1, 0, -1], axis=1), "bias": gradtx.tree.Rows([1, 0, -1])}
CHANGES = {
    "reset": (ADAM, lambda state, params: (params, gradtx.tree.reset(ADAM, state, params, "bias").state)),
    "moved": (LION, lambda state, params: (params, gradtx.tree.moved(ADAM, state, LION, params).state)),
    "resized": (ADAM, lambda state, params: gradtx.tree.resize(ADAM, state, params, GROWN)[:2]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_states_in_mid_training_are_changed_within_clients(name) -> None:
    to, change = CHANGES[name]
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, ADAM, wrt=nnx.Param)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    train = TrainState.create(apply_fn=lambda p, x: x @ p["kernel"] + p["bias"], params=params, tx=ADAM)
    of_train = lambda params: jnp.mean(train.apply_fn(params, X) ** 2)  # noqa: E731
    optimizer.update(model, gradient(model))
    train = train.apply_gradients(grads=jax.grad(of_train)(train.params))
    params, state = change(train.opt_state, train.params)
    updates, _ = to.update(jax.grad(of_train)(params), state, params)
    expected = gradtx.apply_updates(params, updates)

    train = train.replace(tx=to, params=params, opt_state=state)
    assert_close(train.apply_gradients(grads=jax.grad(of_train)(params)).params, expected)
    params, state = change(optimizer.opt_state, nnx.state(model, nnx.Param))
    nnx.update(model, params)
    optimizer = nnx.Optimizer(model, to, wrt=nnx.Param)
    nnx.update(optimizer.opt_state, nnx.state(nnx.as_pure(state)))
    optimizer.update(model, gradient(model))
    assert_close(nnx.to_pure_dict(nnx.state(model, nnx.Param)), expected)


def test_nnx_wrt_several_kinds_of_variable() -> None:
    class Scale(nnx.Variable):
        pass

    class Model(nnx.Module):
        def __init__(self):
            self.linear = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
            self.factor = Scale(jnp.ones(2))
            self.fixed = nnx.Variable(jnp.ones(2))

        def __call__(self, x):
            return self.factor * self.linear(x) + self.fixed

    model, kinds = Model(), nnx.Any(nnx.Param, Scale)
    optimizer = nnx.Optimizer(
        model, gradtx.groups(gradtx.adam(0.1), {"factor": {"learning_rate": 0.5}}), wrt=kinds
    )
    grads = nnx.grad(loss, argnums=nnx.DiffState(0, kinds))(model)
    optimizer.update(model, grads)
    assert_close(jnp.abs(model.factor[...] - 1), jnp.full(2, 0.5), rtol=1e-4, atol=0)
    assert_close(model.fixed[...], jnp.ones(2))


def test_nnx_partition_specs_follow_the_params() -> None:
    mesh = jax.make_mesh((2, 4), ("data", "model"))
    with jax.set_mesh(mesh):
        model = nnx.Linear(
            4,
            8,
            kernel_init=nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model")),
            rngs=nnx.Rngs(0),
        )
        optimizer = nnx.Optimizer(model, gradtx.adamw(1e-2), wrt=nnx.Param)
        specs = nnx.get_partition_spec(nnx.state(optimizer))
        kernel = nnx.get_partition_spec(nnx.state(model))["kernel"]
    mu = specs["opt_state"][0].mu["kernel"]
    # Older versions of Flax have no get_value, newer ones no value.
    of_mu, of_kernel = (x.get_value() if hasattr(type(x), "get_value") else x.value for x in (mu, kernel))
    assert of_mu == of_kernel == jax.sharding.PartitionSpec(None, "model")


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_train_state_does_not_retrace_for_an_equal_optimizer(make) -> None:
    model = linen.Dense(2)
    params = {
        "hidden": model.init(jax.random.key(0), X)["params"],
        "out": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    }

    def forward(params, x):
        return model.apply({"params": params["hidden"]}, x) @ params["out"]["kernel"] + params["out"]["bias"]

    @jax.jit
    def step(state):
        grads = jax.grad(lambda p: jnp.mean(state.apply_fn(p, X) ** 2))(state.params)
        return state.apply_gradients(grads=grads)

    state = TrainState.create(apply_fn=forward, params=params, tx=make())
    after = step(step(state))
    assert after.step == 2
    assert jax.tree.structure(after) == jax.tree.structure(state)
    if make() == make():  # an Optax stage is two closures, equal only to themselves
        again = TrainState.create(apply_fn=forward, params=params, tx=make())
        with Compilations() as compilations:
            step(again)
        assert compilations.count == 0


def test_equinox_models_with_static_fields_train() -> None:
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    tx = gradtx.adamw(1e-2, mask=r".*weight")
    params = eqx.filter(model, eqx.is_inexact_array)
    state = tx.init(params)

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(lambda m: jnp.mean(jax.vmap(m)(X) ** 2))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state

    before = jnp.mean(jax.vmap(model)(X) ** 2)
    layout = state
    for _ in range(30):
        model, state = step(model, state)
    assert jnp.mean(jax.vmap(model)(X) ** 2) < before
    assert_same_layout(state, layout)
    assert "add_decayed_weights needs params" in str(_error(lambda: tx.update(params, state)))


def test_a_callable_module_is_a_tree_and_not_a_function() -> None:
    class Callable(eqx.Module):
        w: jax.Array
        b: jax.Array

        def __call__(self, x):
            raise AssertionError("a module was called as if it were a mask function")

    params = Callable(jnp.ones(2), jnp.ones(2))
    tx = gradtx.masked(gradtx.scale(0.0), Callable(True, False))
    updates, _ = tx.update(params, tx.init(params))
    assert updates.w[0] == 0 and updates.b[0] == 1
    labels = gradtx.partition({"x": gradtx.scale(0.0), "y": gradtx.scale(2.0)}, Callable("x", "y"))
    updates, _ = labels.update(params, labels.init(params))
    assert updates.w[0] == 0 and updates.b[0] == 2


def test_optax_tools_understand_our_states() -> None:
    params = tree(0)
    tx = gradtx.adamw(1e-3)
    state = tx.init(params)
    assert optax.tree.get(state, "count") == 0
    for map_params in (gradtx.tree.map_params, optax.tree_map_params):
        mapped = map_params(tx, lambda x: x.shape, state, transform_non_params=lambda _: None)
        assert mapped[0].mu["dense"]["kernel"] == (3, 4) and mapped[0].count is None
    assert_close(optax.apply_updates(params, params), gradtx.apply_updates(params, params))


def _error(function) -> Exception:
    try:
        function()
    except Exception as error:  # noqa: BLE001  # whatever it is, the caller looks at it
        return error
    raise AssertionError("nothing was raised")
