"""What lives how long: devices start with the first state, and caches hold nothing that its users dropped."""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import gradtx
from gradtx.values.programs import STRUCTURES, Programs
from tests.laws import Compilations, assert_close, tree

ROOT = Path(__file__).parent.parent

BUILD_ALL = """
import pickle, jax
from jax._src import xla_bridge  # no public name says whether a backend has started
import gradtx
assert not xla_bridge.backends_are_initialized(), "the import started a backend"
from tests.table import ROWS
started = []
for row in ROWS:
    tx = row()
    assert pickle.loads(pickle.dumps(tx)) == tx == tx.replace() and repr(tx) and hash(tx)
    if xla_bridge.backends_are_initialized():
        started.append(row.name)
        jax.extend.backend.clear_backends()
for value in (gradtx.cosine_decay_schedule(1.0, 10), gradtx.torch.optim.lr_scheduler.step_lr(0.1, 30)):
    assert gradtx.from_config(gradtx.to_config(value)) == value
assert not started, started
jax.config.update("jax_num_cpu_devices", 3)
assert len(jax.devices()) == 3
"""


def test_nothing_touches_a_device_before_init() -> None:
    """Neither the import, nor building, printing, pickling or comparing any row of the table."""
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import jax.extend.backend\n" + BUILD_ALL],
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]


# --- caches -----------------------------------------------------------------------------------------

PARAMS = {"w": jnp.ones(3)}


@pytest.fixture(autouse=True)
def quick_collections() -> None:
    """Collections go through what a test itself makes, not through the programs of all tests before it."""
    gc.freeze()


class Trainer:
    """What closures of users hold on to."""

    rate = 0.1


def scheduled(trainer: Trainer) -> Any:
    return gradtx.adam(lambda count: trainer.rate * 0.99**count)


def by_method(trainer: Trainer) -> Any:
    class Masks:
        def __init__(self) -> None:
            self.trainer = trainer

        def mask(self, params: Any) -> Any:
            return jax.tree.map(lambda _: self.trainer.rate > 0, params)

    return gradtx.adamw(0.1, weight_decay=0.1, mask=Masks().mask)


def with_factory_of_its_own(trainer: Trainer) -> Any:
    @gradtx.leafwise
    def scale_by_trainer():
        return lambda grad: trainer.rate * grad

    return scale_by_trainer()


def with_function_as_choice(trainer: Trainer) -> Any:
    return gradtx.chain(
        gradtx.stateless_with_tree_map(lambda g, _: g * trainer.rate), gradtx.scale_by_factored_rms()
    )


def joined(trainer: Trainer) -> Any:
    own = gradtx.join_schedules([lambda count: trainer.rate, gradtx.constant_schedule(0.1)], [5])
    return gradtx.sgd(own, momentum=0.9)


MAKERS = [scheduled, by_method, with_factory_of_its_own, with_function_as_choice, joined]


def eagerly(tx: Any) -> None:
    tx.update(PARAMS, tx.init(PARAMS), PARAMS)


def by_jit_step(tx: Any) -> None:
    gradtx.jit_step(tx, PARAMS, tx.init(PARAMS), jax.tree.map(jnp.copy, PARAMS))


def by_torch(tx: Any) -> None:
    """In PyTorch's class there are no functions; this is for what the others leave behind."""
    optimizer = gradtx.torch.optim.SGD(jax.tree.map(jnp.copy, PARAMS), lr=0.1)
    optimizer.step(PARAMS)
    eagerly(tx)


@pytest.mark.parametrize("use", [eagerly, by_jit_step, by_torch])
@pytest.mark.parametrize("make", MAKERS)
def test_what_functions_hold_is_freed_with_them(make: Callable[[Trainer], Any], use: Any) -> None:
    alive = []
    for _ in range(4):
        trainer = Trainer()
        alive.append(weakref.ref(trainer))
        use(make(trainer))
        del trainer
    gc.collect()
    # The last definition of a factory is registered by its name.
    allowed = 1 if make is with_factory_of_its_own else 0
    assert sum(ref() is not None for ref in alive) <= allowed


def test_what_an_objective_holds_is_freed_with_it() -> None:
    class Problem(Trainer):
        def loss(self, x: Any) -> Any:
            return jnp.sum((x - self.rate) ** 2)

    alive = []
    for _ in range(3):
        problem = Problem()
        alive.append(weakref.ref(problem))
        with Compilations() as compilations:
            assert gradtx.minimize(lambda x, own=problem: own.loss(x), jnp.zeros(2)).success
            assert gradtx.minimize(problem.loss, jnp.zeros(2)).success
        with Compilations() as again:
            assert gradtx.minimize(problem.loss, jnp.zeros(2)).success
        assert compilations.count > 0 and again.count == 0
        average = gradtx.torch.optim.swa_utils.AveragedModel(
            PARAMS, multi_avg_fn=lambda averaged, now, n, own=problem: [own.rate * x for x in averaged]
        )
        average.update_parameters(PARAMS)
        del problem, average
    gc.collect()
    assert sum(ref() is not None for ref in alive) == 0


class Data(Trainer):
    """What a closure holds: a loss is often a method."""

    def __init__(self) -> None:
        self.x = jnp.ones(3)

    def loss(self, params: Any) -> Any:
        w = params.kernel[...] if isinstance(params, nnx.Module) else params["w"]
        return jnp.sum((w - self.rate * self.x) ** 2)


def squared(x: Any, params: Any) -> Any:
    w = params.kernel[...] if isinstance(params, nnx.Module) else params["w"]
    return jnp.sum((w - x) ** 2)


@pytest.mark.parametrize("name", ["SGD", "LBFGS"])
@pytest.mark.parametrize("of_module", [False, True])
def test_what_closures_and_optimizers_hold_is_freed_with_them(name: str, of_module: bool) -> None:
    alive = []
    for _ in range(2):
        data = Data()
        model = nnx.Linear(3, 3, rngs=nnx.Rngs(0)) if of_module else {"w": jnp.ones(3)}
        optimizer = getattr(gradtx.torch.optim, name)(model, lr=0.1)
        optimizer.step(lambda params, data=data: data.loss(params))
        optimizer.step(data.loss)
        with Compilations() as again:
            optimizer.step(data.loss)
        assert again.count == 0
        optimizer.step(jax.tree_util.Partial(squared, data.x))
        alive += [weakref.ref(x) for x in (data, data.x, optimizer, *([model] if of_module else []))]
        del data, model, optimizer
    gc.collect()
    assert [ref() for ref in alive] == [None] * len(alive)


def test_what_a_model_holds_is_freed_after_its_statistics_are_taken() -> None:
    class Net(nnx.Module):
        def __init__(self, trainer: Trainer) -> None:
            self.trainer, self.norm = trainer, nnx.BatchNorm(3, rngs=nnx.Rngs(0))

        def __call__(self, x: Any) -> Any:
            return self.norm(x)

    trainer = Trainer()
    model, alive = Net(trainer), [weakref.ref(trainer)]
    for _ in range(2):
        with Compilations() as compilations:
            gradtx.torch.optim.swa_utils.update_bn([jnp.ones((2, 3))], model)
    assert compilations.count == 0
    alive.append(weakref.ref(model))
    del model, trainer
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_a_rebuilt_optimizer_with_a_function_of_a_module_compiles_nothing() -> None:
    def rebuilt() -> None:
        by_jit_step(gradtx.adamw(half_time, weight_decay=0.1))

    rebuilt()
    gc.collect()
    with Compilations() as compilations:
        for _ in range(3):
            rebuilt()
            gc.collect()
    assert compilations.count == 0


def half_time(count: Any) -> Any:
    return 0.1 * 0.5**count


def test_programs_are_bounded_and_the_last_used_stay() -> None:
    made: list[Any] = []
    programs = Programs(lambda template: made.append(template) or len(made))
    first, _ = programs([gradtx.trace(0.5, accumulator_dtype="float32")])
    for i in range(2 * STRUCTURES):
        programs([gradtx.contrib.split_real_and_imaginary(gradtx.scale(0.5)), *[gradtx.identity()] * i])
        assert programs([gradtx.trace(0.5, accumulator_dtype="float32")])[0] == first
    assert len(programs.structures) == STRUCTURES


def test_a_number_is_a_constant_until_it_has_changed() -> None:
    programs = Programs(lambda template: template)
    of = lambda **numbers: programs([gradtx.scale_by_adam(**numbers)])  # noqa: E731
    (first, none), (again, _), (other, changed), (third, latest) = (
        of(),
        of(),
        of(b1=0.8),
        of(b1=0.7, b2=0.999),
    )
    assert first is again and none == []
    assert changed == [0.8] and other is third and latest == [0.7]
    _, two = of(b2=0.99)
    assert two == [0.9, 0.99]
    exact, nothing = programs([gradtx.scale_by_adam(b1=0.6)], traced=True)
    assert nothing == [] and exact is not third


def test_optimizers_with_numbers_and_schedules_of_their_own_cost_no_memory() -> None:
    """A thousand are made, used eagerly and dropped."""

    def megabytes() -> float:
        gc.collect()
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1000 for line in status if line.startswith("VmRSS"))

    def use(library: Any, i: int) -> None:
        rate = 1e-3 * (1 + i * 1e-4)
        own = [
            lambda: library.adam(rate),
            lambda: library.sgd(library.cosine_decay_schedule(rate, 100 + i), momentum=0.9),
            lambda: library.adamw(lambda count: rate * 0.99**count, weight_decay=rate),
        ]
        tx = own[i % 3]()
        jax.block_until_ready(tx.update(PARAMS, tx.init(PARAMS), PARAMS))

    for i in range(60):
        use(gradtx, i)
    before = megabytes()
    for i in range(60, 1060):
        use(gradtx, i)
    assert megabytes() - before < 20


# --- numbers that are arrays, kinds of numbers ------------------------------------------------------


@gradtx.leafwise
def ratio(k):
    def update(grad):
        return grad * (3 / k if isinstance(k, float) else 3 // k)

    return update


@pytest.mark.parametrize("order", [(2, 2.0), (2.0, 2)])
def test_programs_tell_kinds_of_numbers_apart(order: tuple[Any, Any]) -> None:
    found = {type(k): float(ratio(k).update(jnp.ones(1), gradtx.EmptyState())[0][0]) for k in order}
    assert found == {int: 1.0, float: 1.5}


def test_arrays_as_numbers_are_arguments_for_equinox() -> None:
    import equinox as eqx

    traces = []

    @eqx.filter_jit
    def step(tx: Any, params: Any) -> Any:
        traces.append(tx)
        return tx.update(params, tx.init(params), params)[0]

    for rate in (0.1, 0.2, 0.3):
        updates = step(gradtx.sgd(jnp.asarray(rate)), PARAMS)
    assert len(traces) == 1
    assert_close(updates["w"], jnp.full(3, -0.3))


def test_new_numbers_are_the_numbers_of_an_optimizer_made_for_them() -> None:
    params, grads = tree(0), tree(1)
    for rate, b1 in ((0.1, 0.9), (0.2, 0.8), (0.3, 0.5)):
        tx = gradtx.adamw(rate, b1=b1)
        found, _ = tx.update(grads, tx.init(params), params)
        exact, _ = jax.jit(lambda g, p, tx=tx: tx.update(g, tx.init(p), p))(grads, params)
        assert_close(found, exact, rtol=1e-5, atol=1e-6)
