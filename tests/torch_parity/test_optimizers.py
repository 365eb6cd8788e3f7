"""The optimizers beside PyTorch's: params and states after 100 steps, for every configuration of `cases`."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradtx
import gradtx.torch.optim as optim
from gradtx.values.factory import factory_of
from tests.closeness import assert_no_further, furthest
from tests.torch_parity.cases import (
    CASES,
    CLOSURES,
    SPARSE,
    TORCH_NEWTON_SCHULZ,
    Case,
    as_array,
    distance,
    minimise,
    minimise_in_torch,
    newton_schulz,
    problem,
    run_class,
    run_torch,
)

STEPS = 100
ids = partial(pytest.mark.parametrize, "case", ids=lambda case: case.id)
EXACT = [case for case in CASES if case.name != "Muon"]
MUON = [case for case in CASES if case.name == "Muon"]


def transformation(case: Case, **numbers: Any) -> gradtx.GradientTransformation:
    """The function form of a case."""
    return getattr(optim, case.name.lower())(**{**case.options, **numbers})


def values(params: Any) -> list[np.ndarray]:
    return [np.asarray(param) for param in params]


def assert_states(case: Case, ours: dict[int, Any], theirs: dict[int, Any], bound: float) -> None:
    """The same slots, of the same shapes and dtypes, within the bound relative to the largest number."""
    assert ours.keys() == theirs.keys()
    for i, row in theirs.items():
        assert ours[i].keys() == row.keys()
        for slot, x in row.items():
            wanted = np.asarray(x)
            assert (ours[i][slot].shape, str(ours[i][slot].dtype)) == (wanted.shape, str(wanted.dtype)), slot
            scale = float(np.max(np.abs(wanted), initial=0))
            np.testing.assert_allclose(ours[i][slot], wanted, rtol=bound, atol=bound * scale, err_msg=slot)


def one_of_each_class(cases: Iterable[Case]) -> list[Any]:
    """Cases as parameters; the others are extra, for the class in float64 has shown their rules already."""
    params, names = [], set()
    for case in cases:
        params.append(pytest.param(case, id=case.id, marks=[pytest.mark.extra] * (case.name in names)))
        names.add(case.name)
    return params


@ids(EXACT)
def test_the_class_is_torch_in_float64(case: Case, x64) -> None:
    """1e-12 relative, some thousand roundings of 1e-16; what is near 0, relative to the way it went."""
    theirs, torch_optimizer = run_torch(case, STEPS)
    ours, optimizer = run_class(case, STEPS, jnp.float64)
    start = problem(case, 1)[0]
    for step in (0, 1, 5, STEPS - 1):
        assert distance(ours[step], theirs[step], start) <= 1e-12
    ours_state, theirs_state = optimizer.state_dict()["state"], torch_optimizer.state_dict()["state"]
    assert_states(case, ours_state, theirs_state, 1e-12)


@pytest.mark.parametrize("case", one_of_each_class(case for case in EXACT if case.options.get("lr") != 0))
def test_the_class_is_torch_in_float32(case: Case) -> None:
    """No further from float64 than PyTorch's float32 is, 4-fold, and 16 units in the last place of the
    displacement: 100 steps round it as often, each way, from params as networks begin with (0.05), whose
    own last digit is well below that."""
    exact, _ = run_torch(case, STEPS, given=torch.float32)
    theirs, _ = run_torch(case, STEPS, torch.float32)
    ours, _ = run_class(case, STEPS, jnp.float32)
    start = [np.asarray(value, np.float32) for value in problem(case, 1)[0]]
    assert_no_further(ours[-1], theirs[-1], exact[-1], scale=furthest(exact[-1], start), ulps=16)


@pytest.mark.parametrize(
    "case", one_of_each_class(case for case in EXACT if case.group is None and not case.absent)
)
def test_the_function_is_torch_in_float64(case: Case, x64) -> None:
    """The whole run as one jitted loop."""
    theirs, _ = run_torch(case, STEPS)
    assert distance(run_function(case, transformation(case)), theirs[-1], problem(case, 1)[0]) <= 1e-12


def run_function(case: Case, tx: gradtx.GradientTransformation, dtype: Any = None) -> list[np.ndarray]:
    values, rows = problem(case, STEPS)
    params = [jnp.asarray(value, dtype) for value in values]
    grads = [jnp.stack([jnp.asarray(g, dtype) for g in column]) for column in zip(*rows, strict=True)]
    return [np.asarray(x, np.float64) for x in _trained(tx, params, grads)]


@jax.jit
def _trained(tx: gradtx.GradientTransformation, params: Any, grads: Any) -> Any:
    def step(carry: Any, grad: Any) -> Any:
        params, state = carry
        updates, state = tx.update(grad, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), grads)[0][0]


SWEPT = {
    "SGD": ("momentum", [0.5, 0.9]),
    "Adam": ("weight_decay", [0.1, 0.3]),
    "AdamW": ("eps", [1e-8, 1e-2]),
    "Adamax": ("eps", [1e-8, 1e-2]),
    "NAdam": ("momentum_decay", [0.0, 4e-3]),
    "RAdam": ("eps", [1e-8, 1e-2]),
    "RMSprop": ("alpha", [0.9, 0.99]),
    "Adagrad": ("lr_decay", [0.1, 0.5]),
    "Adadelta": ("rho", [0.5, 0.9]),
    "ASGD": ("t0", [5.0, 20.0]),
    "Adafactor": ("weight_decay", [0.0, 0.1]),
    "Rprop": ("lr", [1e-2, 1e-1]),
}


@pytest.mark.parametrize("name", SWEPT)
def test_a_sweep_by_vmap_is_torch(name: str, x64) -> None:
    argument, numbers = SWEPT[name]
    make = getattr(optim, name.lower())
    lrs = numbers if argument == "lr" else [0.01, 0.02]
    others = {} if argument == "lr" else {argument: jnp.asarray(numbers)}
    txs = jax.vmap(lambda lr, others: make(lr=lr, **others))(jnp.asarray(lrs), others)
    case = Case(name)
    values, rows = problem(case, STEPS)
    params = [jnp.asarray(value) for value in values]
    grads = [jnp.stack([jnp.asarray(g) for g in column]) for column in zip(*rows, strict=True)]
    swept = jax.vmap(_trained, in_axes=(0, None, None))(txs, params, grads)
    for i, (lr, number) in enumerate(zip(lrs, numbers, strict=True)):
        theirs, _ = run_torch(Case(name, {argument: number, "lr": lr}), STEPS)
        assert distance([np.asarray(x[i]) for x in swept], theirs[-1], values) <= 1e-12


@pytest.mark.parametrize("name", ["Adam", "Adagrad", "SGD"])
def test_a_schedule_is_the_lr_of_a_function(name: str, x64) -> None:
    values, rows = problem(Case(name), STEPS)
    tx = getattr(optim, name.lower())(lr=gradtx.step_lr(0.1, step_size=7))
    params = [torch.nn.Parameter(torch.tensor(value)) for value in values]
    optimizer = getattr(torch.optim, name)(params, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7)
    for row in rows:
        for param, grad in zip(params, row, strict=True):
            param.grad = torch.tensor(grad)
        optimizer.step()
        scheduler.step()
    wanted = [param.detach().numpy() for param in params]
    assert distance(run_function(Case(name), tx), wanted, values) <= 1e-12


def test_a_function_skips_params_without_a_gradient(x64) -> None:
    case = Case("Adam", {"lr": 0.1, "weight_decay": 0.1}, absent={1: (0, 2), 2: (0,)})
    values, rows = problem(case, 6)
    params: Any = [jnp.asarray(value) for value in values]
    tx = transformation(case)
    state = tx.init(params)
    for row in rows:
        updates, state = tx.update([None if g is None else jnp.asarray(g) for g in row], state, params)
        params = gradtx.apply_updates(params, updates)
    theirs, _ = run_torch(case, 6)
    assert distance([np.asarray(x) for x in params], theirs[-1], values) <= 1e-12
    assert [int(count) for count in state[1].count] == [4, 6, 5, 6]


# --- Muon -------------------------------------------------------------------------------------------


@ids(MUON)
def test_muon_is_torch_to_bfloat16(case: Case, monkeypatch) -> None:
    """As near as PyTorch is to the polynomial in float64, and half a unit in the last place of bfloat16, of
    the way."""
    theirs, _ = run_torch(case, STEPS, torch.float32)
    ours, _ = run_class(case, STEPS, jnp.float32)
    monkeypatch.setattr(TORCH_NEWTON_SCHULZ, newton_schulz)
    exact, _ = run_torch(case, STEPS, given=torch.float32)
    start = [np.asarray(value, np.float32) for value in problem(case, 1)[0]]
    assert_no_further(ours[-1], theirs[-1], exact[-1], scale=furthest(exact[-1], start), ulps=2**15)


@ids(MUON)
def test_muon_is_torch_but_for_bfloat16(case: Case, x64, monkeypatch) -> None:
    """With the same polynomial in float64 on both sides, all else is equal."""
    monkeypatch.setattr(TORCH_NEWTON_SCHULZ, newton_schulz)
    theirs, torch_optimizer = run_torch(case, STEPS)
    ours, optimizer = run_class(case, STEPS, jnp.float64, ns_dtype="float64")
    assert distance(ours[-1], theirs[-1], problem(case, 1)[0]) <= 1e-12
    assert_states(case, optimizer.state_dict()["state"], torch_optimizer.state_dict()["state"], 1e-12)


# --- dtypes and complex params ----------------------------------------------------------------------

KINDS = [
    Case("SGD", {"momentum": 0.9}),
    Case("SGD", {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
    Case("Adam"),
    Case("Adam", {"amsgrad": True}),
    Case("AdamW"),
    Case("Adamax"),
    Case("NAdam"),
    Case("RAdam"),
    Case("RMSprop", {"centered": True, "momentum": 0.9}),
    Case("Rprop"),
    Case("Adagrad"),
    Case("Adadelta"),
    Case("ASGD", {"t0": 3}),
]


@ids([*KINDS, Case("Adafactor"), Case("Muon")])
def test_the_state_of_bfloat16_params_is_laid_out_as_in_torch(case: Case) -> None:
    _, torch_optimizer = run_torch(case, 3, torch.bfloat16)
    _, optimizer = run_class(case, 3, jnp.bfloat16)
    theirs = torch_optimizer.state_dict()["state"]
    for i, row in optimizer.state_dict()["state"].items():
        wanted = {slot: (str(x.dtype), tuple(x.shape)) for slot, x in theirs[i].items()}
        assert {slot: (f"torch.{x.dtype}", x.shape) for slot, x in row.items()} == wanted


@ids(KINDS)
def test_complex_params_are_pairs_of_reals_as_in_torch(case: Case, x64) -> None:
    rng = np.random.default_rng(3)
    draw = lambda: rng.normal(size=(3, 2)) + 1j * rng.normal(size=(3, 2))  # noqa: E731  # one line, used twice
    start = draw()
    param = torch.nn.Parameter(torch.tensor(start))
    theirs = getattr(torch.optim, case.name)([param], **case.options)
    ours = getattr(optim, case.name)([jnp.asarray(start)], **case.options)
    for _ in range(20):
        grad = draw()
        param.grad = torch.tensor(grad)
        theirs.step()
        (out,) = ours.step([jnp.asarray(grad)])
    assert distance([np.asarray(out)], [param.detach().numpy()], [start]) <= 1e-12
    assert_states(case, ours.state_dict()["state"], theirs.state_dict()["state"], 1e-12)


@pytest.mark.parametrize("name", ["adafactor", "muon", "sparse_adam"])
def test_real_optimizers_refuse_complex_params(name: str) -> None:
    with pytest.raises(RuntimeError, match="does not support complex parameters; there is one at"):
        getattr(optim, name)().init({"w": jnp.ones((2, 2), jnp.complex64)})


# --- sparse gradients -------------------------------------------------------------------------------


@ids(SPARSE)
def test_sparse_adam_is_torch(case: Case, x64) -> None:
    """The class and the function."""
    theirs, torch_optimizer = run_torch(case, STEPS)
    ours, optimizer = run_class(case, STEPS, jnp.float64)
    start, grads = problem(case, STEPS)
    tx = optim.sparse_adam(**case.options)
    params: Any = list(map(jnp.asarray, start))
    state = tx.init(params)
    for row in grads:
        updates, state = tx.update([as_array(grad) for grad in row], state, params)
        params = gradtx.apply_updates(params, updates)
    for found in (ours[-1], values(params)):
        assert distance(found, theirs[-1], start) <= 1e-12
    for mine, other in zip(optimizer.state.values(), torch_optimizer.state.values(), strict=True):
        assert mine.keys() == other.keys() and mine["step"] == other["step"] == STEPS
        np.testing.assert_allclose(mine["exp_avg_sq"], other["exp_avg_sq"].numpy(), rtol=1e-12)


# --- closures ---------------------------------------------------------------------------------------


@ids(CLOSURES)
def test_lbfgs_is_torch(case: Case, x64) -> None:
    """100 steps on a smooth, convex function of tensors of several shapes.

    Within 1e-12, or where differences of gradients amplify the last digit, within 100 times what they
    make of a start that is 1e-15 apart, in PyTorch itself.
    """
    start, _ = problem(case, 1)
    losses, wanted, torch_optimizer = minimise_in_torch(case, STEPS)
    beside, end, _ = minimise_in_torch(case, STEPS, factor=1 + 1e-15)
    found, params, optimizer = minimise(case, STEPS, jnp.float64)
    assert np.all(
        np.abs(np.subtract(found, losses)) <= 1e-12 + 100 * np.max(np.abs(np.subtract(beside, losses)))
    )
    assert distance(params, wanted, start) <= 1e-12 + 100 * distance(end, wanted, start)
    mine, theirs = (x.state_dict()["state"][0] for x in (optimizer, torch_optimizer))
    assert mine.keys() == theirs.keys()
    assert (mine["n_iter"], mine["func_evals"]) == (theirs["n_iter"], theirs["func_evals"])


def test_every_class_has_its_function() -> None:
    names = ["Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "AdamW", "ASGD", "LBFGS", "Muon", "NAdam"]
    for name in [*names, "RAdam", "RMSprop", "Rprop", "SGD", "SparseAdam"]:
        function = "sparse_adam" if name == "SparseAdam" else name.lower()
        assert factory_of(getattr(optim, function)).name == f"torch.optim.{function}"
        assert issubclass(getattr(optim, name), optim.Optimizer)
