"""What PyTorch refuses, refused here: the errors of its own test database, and those of trees."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.experimental.sparse import BCOO

import gradtx.torch.optim as optim
from tests.torch_parity.cases import OptimizerErrorEnum, optim_db

ERRORS = [
    (info.name, error)
    for info in optim_db
    for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32)
]


def ours(x: Any, seen: dict[int, Any]) -> Any:
    """What PyTorch's test passes, with one array for each of its tensors."""
    if isinstance(x, torch.Tensor):
        if id(x) not in seen:
            dense = x.detach().to_dense().numpy()
            seen[id(x)] = BCOO.fromdense(dense) if x.layout == torch.sparse_coo else jnp.asarray(dense)
        return seen[id(x)]
    if isinstance(x, dict):
        return {key: ours(child, seen) for key, child in x.items()}
    return type(x)(ours(child, seen) for child in x) if isinstance(x, list | tuple) else x


@pytest.mark.parametrize(
    ("name", "error"), ERRORS, ids=[f"{n}-{e.optimizer_error_input.desc}" for n, e in ERRORS]
)
def test_the_errors_of_torch(name: str, error: Any) -> None:
    given = error.optimizer_error_input
    params, options = ours((given.params, dict(given.kwargs)), {})
    params = [jnp.ones((2, 2))] if params is None else params
    expects = pytest.warns if issubclass(error.error_type, Warning) else pytest.raises
    with expects(error.error_type, match=error.error_regex):
        optimizer = getattr(optim, name)(params, **options)
        if error.error_on is OptimizerErrorEnum.STEP_ERROR:
            optimizer.step([jnp.ones_like(param) for param in params])


W = jnp.ones((2, 3))

MISTAKES = {
    "no params": (lambda: optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
    "empty dict": (lambda: optim.SGD({}), ValueError, "optimizer got an empty parameter list"),
    "a set": (lambda: optim.SGD({1.0, 2.0}), TypeError, "Please use a list instead"),
    "an array": (lambda: optim.SGD(W), TypeError, "should be an iterable of Tensors or dicts, but got"),
    "a string": (
        lambda: optim.SGD({"a": {"b": "no"}}),
        TypeError,
        "can only optimize Tensors, but one of the params is str: a/b",
    ),
    "integers": (
        lambda: optim.SGD({"a": {"n": jnp.arange(3)}}),
        TypeError,
        "SGD: a/n is int32; only floating-point and complex tensors can be optimised",
    ),
    "PyTorch's params": (
        lambda: optim.SGD(torch.nn.Linear(2, 1).named_parameters()),
        TypeError,
        "SGD: bias is a tensor of PyTorch, no array of JAX",
    ),
    "PyTorch's gradients": (
        lambda: optim.SGD({"w": W}).step({"w": torch.ones(2, 3)}),
        TypeError,
        "SGD.step: w is a tensor of PyTorch, no array of JAX",
    ),
    "PyTorch's gradients of a function": (
        lambda: optim.sgd().update({"w": torch.ones(2, 3)}, optim.sgd().init({"w": W}), {"w": W}),
        TypeError,
        r"scale_by_learning_rate: \['w'\] is a tensor of PyTorch, no array of JAX",
    ),
    "a group that is none": (
        lambda: optim.SGD([W]).add_param_group([W]),
        TypeError,
        "param_group must be a dict, but got <class 'list'>",
    ),
    "nesterov alone": (
        lambda: optim.SGD([W], nesterov=True),
        ValueError,
        "Nesterov momentum requires a momentum and zero dampening",
    ),
    "nesterov, dampened": (
        lambda: optim.sgd(momentum=0.9, dampening=0.1, nesterov=True),
        ValueError,
        "Nesterov momentum requires a momentum and zero dampening",
    ),
    "negative lr": (
        lambda: optim.adam(lr=-1.0),
        ValueError,
        r"torch.optim.adam: Invalid learning rate: -1.0; lr must lie in \[0, inf\]",
    ),
    "SparseAdam, lr 0": (lambda: optim.SparseAdam([W], lr=0.0), ValueError, "Invalid learning rate: 0.0"),
    "negative eps": (lambda: optim.RMSprop([W], eps=-1), ValueError, "Invalid epsilon value: -1"),
    "negative alpha": (lambda: optim.RMSprop([W], alpha=-1.0), ValueError, "Invalid alpha value: -1.0"),
    "initial value": (
        lambda: optim.Adagrad([W], initial_accumulator_value=-1.0),
        ValueError,
        "Invalid initial_accumulator_value value: -1.0",
    ),
    "Adafactor, lr": (
        lambda: optim.Adafactor([W], lr=-1.0),
        ValueError,
        "Learning rate should be >= 0 but is: -1.0",
    ),
    "Adafactor, eps": (
        lambda: optim.Adafactor([W], eps=(None, -1.0)),
        ValueError,
        "epsilon2 should be >= 0 but is: -1.0",
    ),
    "Adafactor, decay": (
        lambda: optim.Adafactor([W], weight_decay=-1.0),
        ValueError,
        "weight_decay should be >= 0 but is: -1.0",
    ),
    "Muon, steps": (
        lambda: optim.Muon([W], ns_steps=100),
        ValueError,
        "Number of steps must be less than 100",
    ),
    "Muon, coefficients": (
        lambda: optim.Muon([W], ns_coefficients=(1.0, 2.0)),
        ValueError,
        "Coefficients must be a tuple of exactly 3 values",
    ),
    "Muon, momentum": (
        lambda: optim.Muon([W], momentum=-1.0),
        ValueError,
        "momentum should be >= 0 but is: -1.0",
    ),
    "Muon, decay": (
        lambda: optim.Muon([W], weight_decay=-1.0),
        ValueError,
        "weight decay should be >= 0 but is",
    ),
    "Muon, a vector": (
        lambda: optim.muon().init({"b": jnp.ones(3)}),
        ValueError,
        r"Muon only supports 2D parameters whereas we found a parameter with size: \(3,\)",
    ),
    "fused and foreach": (
        lambda: optim.Adam([W], fused=True, foreach=True),
        RuntimeError,
        "`fused` and `foreach` cannot be `True` together",
    ),
    "fused and differentiable": (
        lambda: optim.SGD([W], fused=True, differentiable=True),
        RuntimeError,
        "`fused` does not support `differentiable`",
    ),
    "dense gradients of a sparse function": (
        lambda: optim.sparse_adam().update({"w": W}, optim.sparse_adam().init({"w": W}), {"w": W}),
        RuntimeError,
        "SparseAdam does not support dense gradients, please consider Adam instead",
    ),
    "an unknown option": (
        lambda: optim.SGD({"w": W}, groups={"w": {"betas": (0.9, 0.9)}}),
        ValueError,
        r"SGD: groups: unknown options \['betas'\]",
    ),
    "a pattern without params": (
        lambda: optim.SGD({"w": W}, groups={"bias": {"lr": 0.1}}),
        ValueError,
        "the pattern 'bias' matches none of the paths: w",
    ),
    "no gradients": (
        lambda: optim.SGD({"w": W}).step(),
        TypeError,
        r"SGD.step needs gradients: call step\(jax.grad\(loss\)\(params\)\)",
    ),
    "gradients of another tree": (
        lambda: optim.SGD({"w": W}).step({"v": W}),
        ValueError,
        r"SGD.step: the params have no \['v'\], the gradients do",
    ),
    "gradients of another shape": (
        lambda: optim.SGD({"a": {"w": W}}).step({"a": {"w": W[:1]}}),
        ValueError,
        r"\['a/w'\]: the update has shape \(1, 3\), the param has shape \(2, 3\)",
    ),
    "gradients for groups": (
        lambda: optim.SGD([{"params": {"w": W}}]).step({"w": W}),
        ValueError,
        "SGD.step: gradients must be a list with one tree per group",
    ),
    "a hook that returns something else": (
        lambda: with_hook(lambda *_: 3).step({"w": W}),
        RuntimeError,
        r"must return None or a tuple of \(new_args, new_kwargs\), but got 3",
    ),
}


def with_hook(hook: Any) -> optim.Optimizer:
    optimizer = optim.SGD({"w": W})
    optimizer.register_step_pre_hook(hook)
    return optimizer


@pytest.mark.parametrize(("mistake", "error", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(mistake: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mistake()


def test_an_optimizer_is_as_before_after_a_mistake() -> None:
    optimizer = optim.SGD({"w": W}, lr=0.5, momentum=0.9)
    optimizer.step({"w": W})
    before = optimizer.state_dict()
    for wrong in ({"v": W}, {"w": W[:1]}, {"w": jnp.arange(3)}):
        with pytest.raises((ValueError, TypeError)):
            optimizer.step(wrong)
    after = optimizer.state_dict()
    assert repr(before) == repr(after)
    assert re.fullmatch(r"SGD \(.*\)", repr(optimizer), flags=re.DOTALL)
    np.testing.assert_array_equal(optimizer.step({"w": W})["w"], W - 0.5 - 0.95)
