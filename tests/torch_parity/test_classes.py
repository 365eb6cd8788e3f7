"""The classes as PyTorch's users use them: groups that are edited, hooks, closures, modules, printing."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradtx.torch.optim as optim
from gradtx.torch.optim._program import STEPS
from tests.laws import Compilations

NAMES = [name for name in optim.__dict__ if isinstance(optim.__dict__[name], type) and name != "Optimizer"]


def tree() -> dict[str, Any]:
    return {"dense": {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.zeros(3)}, "scale": jnp.asarray(1.0)}


def ones(params: Any) -> Any:
    return jax.tree.map(jnp.ones_like, params)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_of_torch(name: str) -> None:
    """Names, order, defaults and kinds; what is ours besides comes last and by keyword."""
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    ours = inspect.signature(getattr(optim, name)).parameters
    facts = lambda p: (p.name, p.default, p.kind)  # noqa: E731
    own = [p for p in ours.values() if p.name not in theirs]
    assert [facts(p) for p in ours.values() if p.name in theirs] == [facts(p) for p in theirs.values()]
    assert {p.name for p in own} <= {"groups", "ns_dtype"}
    assert all(p.kind is p.KEYWORD_ONLY for p in own)


@pytest.mark.parametrize("name", NAMES)
def test_it_prints_as_in_torch(name: str) -> None:
    param = torch.nn.Parameter(torch.ones(2, 2))
    printed = repr(getattr(optim, name)([jnp.ones((2, 2))]))
    assert printed.replace("    ns_dtype: bfloat16\n", "") == repr(getattr(torch.optim, name)([param]))


def test_two_groups_print_as_in_torch() -> None:
    arrays = [jnp.ones(2), jnp.zeros(2)]
    tensors = [torch.nn.Parameter(torch.tensor(np.asarray(x))) for x in arrays]
    make = lambda library, ps: library.SGD([{"params": ps[:1]}, {"params": ps[1:], "lr": 0.5}], lr=0.1)  # noqa: E731
    assert repr(make(optim, arrays)) == repr(make(torch.optim, tensors))


def test_ten_lines_of_a_torch_user() -> None:
    params = {"w": jnp.zeros(3)}
    target = jnp.array([1.0, 2.0, 3.0])
    loss = lambda params: jnp.mean((params["w"] - target) ** 2)  # noqa: E731
    optimizer = optim.SGD(params, lr=0.5, momentum=0.5)
    for _ in range(50):
        optimizer.zero_grad()
        params = optimizer.step(jax.grad(loss)(params))
    np.testing.assert_allclose(params["w"], target, atol=1e-4)


# --- params in and out ------------------------------------------------------------------------------

FORMS = {
    "a dict": (lambda: {"a": jnp.ones(2), "b": jnp.ones(3)}, ["a", "b"]),
    "None in it": (lambda: {"a": jnp.ones(2), "b": None, "c": [jnp.ones(1)]}, ["a", "c/0"]),
    "a list": (lambda: [jnp.ones(2), jnp.ones(3)], ["0", "1"]),
    "an iterator": (lambda: iter([jnp.ones(2), jnp.ones(3)]), ["0", "1"]),
    "named pairs": (lambda: [("w", jnp.ones(2)), ("b", jnp.ones(3))], ["w", "b"]),
    "named pairs, iterated": (lambda: iter([("w", jnp.ones(2)), ("b", jnp.ones(3))]), ["w", "b"]),
    "NumPy": (lambda: {"a": np.ones(2)}, ["a"]),
    "numbers": (lambda: {"a": 1.0}, ["a"]),
    "an nnx module": (lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)), ["bias", "kernel"]),
    "a state": (lambda: nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param), ["bias", "kernel"]),
}


@pytest.mark.parametrize(("make", "names"), FORMS.values(), ids=FORMS)
def test_params_come_back_in_the_form_they_were_given(make: Any, names: list[str]) -> None:
    optimizer = optim.SGD(make(), lr=0.25, momentum=0.9)
    before = optimizer.params
    state = lambda x: nnx.state(x, nnx.Param) if isinstance(x, nnx.Module) else x  # noqa: E731
    start = jax.tree.map(jnp.copy, state(before))
    after = optimizer.step(ones(start))
    assert jax.tree.structure(state(after)) == jax.tree.structure(start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b - 0.25), state(after), start)
    assert sorted(optimizer.state) == sorted(names)


def test_a_module_is_updated_in_place() -> None:
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = optim.SGD(model, lr=0.1)
    kernel = np.asarray(model.kernel[...])
    x = jnp.ones((4, 2))
    grads = nnx.grad(lambda model: jnp.mean(model(x)))(model)
    assert optimizer.step(grads) is model
    np.testing.assert_allclose(model.kernel[...], kernel - 0.1)
    assert optimizer.params is model


def test_the_arrays_of_the_user_stay_alive() -> None:
    params = tree()
    optimizer = optim.Adam(params)
    for _ in range(2):
        optimizer.step(ones(params))
    np.testing.assert_array_equal(params["dense"]["kernel"], 0.5)


def test_memory_of_torch_is_read_at_once() -> None:
    """PyTorch goes on training in place, while JAX has other work in flight."""
    busy = jax.jit(lambda x: x @ x)
    for _ in range(20):
        param = torch.zeros(300, 300)
        work = [busy(jnp.ones((700, 700))) for _ in range(3)]
        optimizer = optim.SGD({"w": param.numpy().T}, lr=1.0)
        param += 1
        assert float(jnp.max(jnp.abs(optimizer.params["w"]))) == 0
        jax.block_until_ready(work)


def test_params_can_be_set() -> None:
    optimizer = optim.SGD(tree(), lr=1.0)
    optimizer.params = jax.tree.map(lambda x: x + 1, tree())
    assert float(optimizer.step(ones(tree()))["scale"]) == 1.0
    with pytest.raises(ValueError, match=r"SGD.params: scale: the new param has shape \(2,\), the param has"):
        optimizer.params = {**tree(), "scale": jnp.ones(2)}
    with pytest.raises(ValueError, match="SGD.params"):
        optimizer.params = {"other": jnp.ones(2)}


def test_a_param_without_a_gradient_is_skipped() -> None:
    optimizer = optim.AdamW(tree(), lr=0.1, weight_decay=0.5)
    grads = ones(tree())
    optimizer.step({**grads, "scale": None})
    assert float(optimizer.params["scale"]) == 1.0 and "scale" not in optimizer.state
    optimizer.step(grads)
    assert float(optimizer.state["scale"]["step"]) == 1 and float(optimizer.state["dense/bias"]["step"]) == 2
    zero = jax.tree.map(jnp.zeros_like, grads)
    before = float(optimizer.params["scale"])
    optimizer.step({"dense": {"kernel": None, "bias": None}, "scale": zero["scale"]})
    assert float(optimizer.params["scale"]) < 0.95 * before  # a zero gradient is a step, and decays


# --- groups -----------------------------------------------------------------------------------------


def test_groups_by_pattern_are_groups_by_hand() -> None:
    params = tree()
    optimizer = optim.SGD(params, lr=0.1, groups={r".*/bias": {"lr": 0.5}, "scale": {"lr": 0.0}})
    assert [group["param_names"] for group in optimizer.param_groups] == [
        ["dense/bias"],
        ["scale"],
        ["dense/kernel"],
    ]
    out = optimizer.step(ones(params))
    by_hand = [
        {"params": {"bias": params["dense"]["bias"]}, "lr": 0.5},
        {"params": {"scale": params["scale"]}, "lr": 0.0},
        {"params": {"kernel": params["dense"]["kernel"]}},
    ]
    bias, scale, kernel = optim.SGD(by_hand, lr=0.1).step([ones(group["params"]) for group in by_hand])
    np.testing.assert_array_equal(out["dense"]["bias"], bias["bias"])
    np.testing.assert_array_equal(out["dense"]["kernel"], kernel["kernel"])
    assert float(out["scale"]) == float(scale["scale"]) == 1.0


def test_a_group_can_be_added_in_mid_run() -> None:
    optimizer = optim.SGD({"a": jnp.zeros(2)}, lr=0.1, momentum=0.5)
    optimizer.step({"a": jnp.ones(2)})
    optimizer.add_param_group({"params": {"b": jnp.zeros(1)}, "lr": 1.0})
    first, second = optimizer.step([{"a": jnp.ones(2)}, {"b": jnp.ones(1)}])
    np.testing.assert_allclose(first["a"], -0.1 - 0.15, rtol=1e-6)
    np.testing.assert_allclose(second["b"], -1.0)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.5, 0.5]


def compilations(run: Any) -> int:
    def total() -> int:
        known = [program for one in STEPS.structures.values() for program in one.programs.values()]
        return sum(program.run._cache_size() for program in known)

    before = total()
    run()
    return total() - before


EDITS = {
    "SGD": {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.02, "dampening": 0.3},
    "Adam": {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.02},
    "AdamW": {"lr": 0.1, "weight_decay": 0.3},
    "RMSprop": {"lr": 0.1, "alpha": 0.8, "momentum": 0.4},
    "ASGD": {"lr": 0.1, "lambd": 0.1, "t0": 3.0},
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_take_effect_and_compile_once(name: str, x64) -> None:
    """In PyTorch and here, a number after another; the first edit of one compiles, the next do not."""
    start = np.linspace(-1, 1, 6)
    options = (
        {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1} if name == "SGD" else {"weight_decay": 0.1}
    )
    options |= {"momentum": 0.1} if name == "RMSprop" else {}
    param = torch.nn.Parameter(torch.tensor(start))
    theirs = getattr(torch.optim, name)([param], **options)
    ours = getattr(optim, name)([jnp.asarray(start)], **options)

    def step(k: int) -> None:
        grad = np.cos(start * k)
        param.grad = torch.tensor(grad)
        theirs.step()
        (out,) = ours.step([jnp.asarray(grad)])
        np.testing.assert_allclose(out, param.detach().numpy(), rtol=1e-12, atol=1e-14)

    def edit(option: str, factor: float) -> None:
        number = EDITS[name][option]
        new = tuple(x * factor for x in number) if isinstance(number, tuple) else number * factor
        for optimizer in (theirs, ours):
            optimizer.param_groups[0][option] = new

    assert compilations(partial(step, 0)) == 1
    for k, option in enumerate(EDITS[name]):
        edit(option, 1.0)
        assert compilations(partial(step, 2 * k)) == (0 if option == "lr" else 1)
        edit(option, 0.9)
        assert compilations(partial(step, 2 * k + 1)) == 0


def test_a_scheduler_on_many_groups_compiles_nothing_more() -> None:
    optimizer = optim.Adam(tree(), groups={".*bias": {"lr": 0.5}})
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)

    def train() -> None:
        for _ in range(4):
            optimizer.step(ones(tree()))
            scheduler.step()

    assert compilations(train) == 1
    assert [group["lr"] for group in optimizer.param_groups] == [0.5 / 16, 1e-3 / 16]


SWITCHES = {
    "momentum on": ({}, {"momentum": 0.9}),
    "momentum off": ({"momentum": 0.9}, {"momentum": 0.0}),
    "weight decay on": ({"momentum": 0.9}, {"weight_decay": 0.1}),
    "nesterov": ({"momentum": 0.9}, {"nesterov": True}),
    "maximize": ({"momentum": 0.9}, {"maximize": True}),
}


@pytest.mark.parametrize(("options", "edit"), SWITCHES.values(), ids=SWITCHES)
def test_switches_can_be_edited_in_mid_run(options: dict[str, Any], edit: dict[str, Any], x64) -> None:
    start = np.linspace(-1, 1, 6)
    param = torch.nn.Parameter(torch.tensor(start))
    theirs, ours = torch.optim.SGD([param], **options), optim.SGD([jnp.asarray(start)], **options)
    for k in range(6):
        if k == 3:
            theirs.param_groups[0].update(edit)
            ours.param_groups[0].update(edit)
        param.grad = torch.tensor(np.cos(start * k))
        theirs.step()
        (out,) = ours.step([jnp.cos(jnp.asarray(start) * k)])
        np.testing.assert_allclose(out, param.detach().numpy(), rtol=1e-13, atol=1e-14)


def test_an_edit_that_makes_no_sense_says_so_at_the_step() -> None:
    optimizer = optim.SGD({"w": jnp.ones(2)}, lr=0.1)
    optimizer.param_groups[0]["lr"] = "fast"
    with pytest.raises(TypeError, match="torch.optim.sgd: lr must be a number or a schedule, got 'fast'"):
        optimizer.step({"w": jnp.ones(2)})
    optimizer.param_groups[0]["lr"] = 0.5
    np.testing.assert_array_equal(optimizer.step({"w": jnp.ones(2)})["w"], 0.5)


# --- hooks and closures -----------------------------------------------------------------------------


def test_hooks_are_called_as_in_torch() -> None:
    calls = []
    optimizer = optim.SGD({"w": jnp.zeros(2)}, lr=1.0)
    pre = optimizer.register_step_pre_hook(lambda opt, args, kwargs: calls.append(("pre", opt._step_count)))
    post = optimizer.register_step_post_hook(
        lambda opt, args, kwargs: calls.append(("post", opt._step_count))
    )
    optimizer.step({"w": jnp.ones(2)})
    assert calls == [("pre", 0), ("post", 1)]
    pre.remove()
    pre.remove()
    halve = optimizer.register_step_pre_hook(
        lambda opt, args, kwargs: (jax.tree.map(lambda g: g / 2, args), kwargs)
    )
    np.testing.assert_array_equal(optimizer.step({"w": jnp.ones(2)})["w"], -1.5)
    halve.remove()
    post.remove()
    optimizer.step({"w": jnp.ones(2)})
    assert calls == [("pre", 0), ("post", 1), ("post", 2)]


@pytest.mark.parametrize("name", ["SGD", "LBFGS"])
def test_a_closure_returns_the_loss(name: str) -> None:
    optimizer = getattr(optim, name)({"w": jnp.full(2, 3.0)}, lr=0.1)
    losses = [float(optimizer.step(lambda params: jnp.sum(params["w"] ** 2))) for _ in range(3)]
    assert losses[0] == 18.0 and losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize("name", ["SGD", "LBFGS"])
def test_what_a_partial_holds_is_no_constant(name: str) -> None:
    optimizer = getattr(optim, name)({"w": jnp.zeros(2)}, lr=0.1)
    for target in (1.0, 2.0):
        loss = optimizer.step(jax.tree_util.Partial(squared_distance, jnp.asarray(target)))
    run = lambda: optimizer.step(jax.tree_util.Partial(squared_distance, jnp.asarray(3.0)))  # noqa: E731
    with Compilations() as again:
        run()
    assert again.count == 0
    assert float(loss) > 0


def squared_distance(target: Any, params: Any) -> Any:
    return jnp.sum((params["w"] - target) ** 2)


@pytest.mark.parametrize("name", ["SGD", "LBFGS"])
def test_a_closure_of_a_module_sees_its_buffers(name: str) -> None:
    model = nnx.BatchNorm(2, use_running_average=True, rngs=nnx.Rngs(0))
    x = jnp.array([[1.0, 2.0], [3.0, 5.0]])
    loss = lambda model: jnp.sum((model(x) - 1) ** 2)  # noqa: E731
    optimizer = getattr(optim, name)(model, lr=0.01)
    expected = float(loss(model))
    assert float(optimizer.step(loss)) == pytest.approx(expected, rel=1e-6)
    model.mean[...] = jnp.array([2.0, 3.0])  # not a constant of the compiled closure
    expected = float(loss(model))
    assert float(optimizer.step(loss)) == pytest.approx(expected, rel=1e-6)


def test_lbfgs_wants_a_closure_and_one_group() -> None:
    with pytest.raises(TypeError, match="LBFGS.step needs a closure"):
        optim.LBFGS({"w": jnp.ones(2)}).step({"w": jnp.ones(2)})
    with pytest.raises(ValueError, match="LBFGS doesn't support per-parameter options"):
        optim.LBFGS([{"params": jnp.ones(2)}, {"params": jnp.zeros(2)}])
