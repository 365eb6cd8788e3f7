"""Checkpoints of PyTorch in mid-run, in and out, for every optimizer; and what is refused."""

import copy
import io
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.experimental.sparse import BCOO

import gradtx
import gradtx.torch.optim as optim
from tests.torch_parity.cases import Case, problem
from tests.torch_parity.test_optimizers import KINDS, distance, ids, transformation

MORE = [
    Case("SGD"),
    Case("Adafactor", {"lr": 0.1}),
    Case("Adam", {"lr": 0.02}, absent={0: (1,), 1: (1,), 2: (1,), 3: (1,), 4: (1,), 7: (0, 1)}),
    Case("SGD", {"momentum": 0.9, "dampening": 0.5}, absent={0: (1,), 1: (1,), 2: (1,), 3: (1,), 4: (1,)}),
]
HALF = 5


def tensors(case: Case) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.tensor(value)) for value in problem(case, 1)[0]]


def torch_steps(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter], rows: Any) -> None:
    for row in rows:
        for param, grad in zip(params, row, strict=True):
            param.grad = None if grad is None else torch.tensor(grad)
        optimizer.step()


def arrays(row: Any) -> list[Any]:
    return [None if x is None else jnp.asarray(x) for x in row]


def through_a_file(state_dict: Any) -> Any:
    """As `torch.load` gives what `torch.save` wrote, executing nothing."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def values(params: Any) -> list[np.ndarray]:
    return [np.asarray(p.detach() if isinstance(p, torch.Tensor) else p, np.float64) for p in params]


@ids([*KINDS, *MORE])
@pytest.mark.parametrize("form", ["class", "function"])
def test_a_run_of_torch_goes_on_here(case: Case, form: str, x64) -> None:
    start, rows = problem(case, 2 * HALF)
    params = tensors(case)
    theirs = getattr(torch.optim, case.name)(params, **case.options)
    torch_steps(theirs, params, rows[:HALF])
    saved, ours = through_a_file(theirs.state_dict()), [jnp.asarray(p.detach().numpy()) for p in params]
    torch_steps(theirs, params, rows[HALF:])
    if form == "class":
        optimizer = getattr(optim, case.name)(ours)  # the options come with the state
        optimizer.load_state_dict(saved)
        for row in rows[HALF:]:
            ours = optimizer.step(arrays(row))
    else:
        tx = transformation(case)
        state = optim.load_torch_state_dict(tx, saved, ours)
        for row in rows[HALF:]:
            updates, state = tx.update(arrays(row), state, ours)
            ours = gradtx.apply_updates(ours, updates)
    assert distance(values(ours), values(params), start) <= 1e-12


@ids([*KINDS, *MORE])
def test_a_run_from_here_goes_on_in_torch(case: Case, x64) -> None:
    start, rows = problem(case, 2 * HALF)
    optimizer = getattr(optim, case.name)([jnp.asarray(value) for value in start], **case.options)
    for row in rows[:HALF]:
        optimizer.step(arrays(row))
    params = [torch.nn.Parameter(torch.tensor(np.asarray(p))) for p in optimizer.params]
    theirs = getattr(torch.optim, case.name)(params)
    theirs.load_state_dict(through_a_file(optim.to_torch_state_dict(optimizer)))
    torch_steps(theirs, params, rows[HALF:])
    for row in rows[HALF:]:
        optimizer.step(arrays(row))
    # On loading, PyTorch turns NAdam's float32 product of momenta into float64, and differs from itself.
    bound = 1e-9 if case.name == "NAdam" else 1e-12
    assert distance(values(optimizer.params), values(params), start) <= bound


def test_muon_goes_on_here_and_there() -> None:
    """Its buffer; the polynomial in bfloat16 is compared elsewhere."""
    case = Case("Muon")
    start, rows = problem(case, 2 * HALF)
    params = [torch.nn.Parameter(torch.tensor(value, dtype=torch.float32)) for value in start]
    theirs = torch.optim.Muon(params)
    for row in rows[:HALF]:
        for param, grad in zip(params, row, strict=True):
            param.grad = torch.tensor(grad, dtype=torch.float32)
        theirs.step()
    ours = optim.Muon([jnp.asarray(p.detach().numpy()) for p in params])
    ours.load_state_dict(through_a_file(theirs.state_dict()))
    back = optim.to_torch_state_dict(ours)["state"]
    for i, row in theirs.state_dict()["state"].items():
        assert back[i].keys() == row.keys() == {"momentum_buffer"}
        torch.testing.assert_close(back[i]["momentum_buffer"], row["momentum_buffer"], rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_adam_goes_on_here_and_there(x64) -> None:
    rng = np.random.default_rng(5)
    start = rng.normal(size=(6, 3))
    param = torch.nn.Parameter(torch.tensor(start))
    theirs, ours = torch.optim.SparseAdam([param], lr=0.1), optim.SparseAdam([jnp.asarray(start)], lr=0.1)
    for _ in range(3):
        for _ in range(HALF):
            rows, data = rng.integers(0, 6, size=(2, 1)), rng.normal(size=(2, 3))
            param.grad = torch.sparse_coo_tensor(torch.tensor(rows.T), torch.tensor(data), (6, 3))
            theirs.step()
            ours.step([BCOO((jnp.asarray(data), jnp.asarray(rows)), shape=(6, 3))])
        assert distance(values(ours.params), values([param]), [start]) <= 1e-12
        theirs_saved, ours_saved = through_a_file(theirs.state_dict()), optim.to_torch_state_dict(ours)
        assert type(ours_saved["state"][0]["step"]) is int
        theirs.load_state_dict(through_a_file(ours_saved))
        ours.load_state_dict(theirs_saved)


# --- names and axes ---------------------------------------------------------------------------------


class Net(torch.nn.Module):
    """A convolution and a linear layer, in PyTorch's order and axes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, (2, 5), dtype=torch.float64)
        self.fc1 = torch.nn.Linear(6, 2, dtype=torch.float64)

    def tree(self) -> dict[str, dict[str, Any]]:
        """The params as Flax has them."""
        read = lambda p, axes: jnp.asarray(p.detach().numpy().transpose(axes))  # noqa: E731  # used four times below
        return {
            "Conv_0": {"kernel": read(self.conv.weight, CONV), "bias": read(self.conv.bias, (0,))},
            "Dense_0": {"kernel": read(self.fc1.weight, LINEAR), "bias": read(self.fc1.bias, (0,))},
        }


CONV, LINEAR = (2, 3, 1, 0), (1, 0)
AXES = {"Conv.*/kernel": CONV, "Dense.*/kernel": LINEAR}
ORDER = {
    "conv.weight": "Conv_0/kernel",
    "conv.bias": "Conv_0/bias",
    "fc1.weight": "Dense_0/kernel",
    "fc1.bias": "Dense_0/bias",
}


def closures(net: Net) -> tuple[Callable[[], torch.Tensor], Callable[[Any], Any]]:
    """A loss of the params in both layouts, not symmetric in any two axes."""
    rng = np.random.default_rng(6)
    weights = {name: rng.normal(size=p.shape) for name, p in net.named_parameters()}
    turned = {"conv.weight": CONV, "fc1.weight": LINEAR}

    def theirs() -> torch.Tensor:
        net.zero_grad()
        terms = (((p - 1) ** 4 * torch.tensor(weights[n]) ** 2).sum() for n, p in net.named_parameters())
        loss = sum(terms, start=torch.zeros(()))
        loss.backward()
        return loss

    def ours(tree: Any) -> Any:
        leaf = lambda path: tree[path.split("/")[0]][path.split("/")[1]]  # noqa: E731  # one expression below
        seen = {n: jnp.asarray(w.transpose(turned.get(n, (0,)))) for n, w in weights.items()}
        return sum(jnp.sum((leaf(ORDER[n]) - 1) ** 4 * w**2) for n, w in seen.items())

    return theirs, ours


LAYOUTS = {
    "Adam": {"lr": 0.1, "amsgrad": True},
    "SGD": {"lr": 0.001, "momentum": 0.9, "dampening": 0.1},
    "NAdam": {},
    "ASGD": {"t0": 1},
    "LBFGS": {"max_iter": 3, "history_size": 4, "line_search_fn": "strong_wolfe"},
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("named", [True, False])
def test_other_names_and_axes(name: str, named: bool, x64) -> None:
    torch.manual_seed(0)
    net = Net()
    theirs_loss, ours_loss = closures(net)
    ours = getattr(optim, name)(net.tree(), **LAYOUTS[name])
    given = net.named_parameters() if named else net.parameters()
    theirs = getattr(torch.optim, name)(given, **LAYOUTS[name])
    order = ORDER if named else list(ORDER.values())
    for _ in range(3):
        for _ in range(3):
            theirs.step(theirs_loss)
            ours.step(ours_loss)
        for found, wanted in zip(leaves(ours.params), leaves(net.tree()), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-11)
        theirs_saved = through_a_file(theirs.state_dict())
        ours_saved = optim.to_torch_state_dict(ours, order=order, axes=AXES)
        if named:
            assert ours_saved["param_groups"][0]["param_names"] == list(ORDER)
        theirs.load_state_dict(through_a_file(ours_saved))
        ours.load_state_dict(theirs_saved, order=order, axes=AXES)


def leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(tree[layer][name]) for layer in sorted(tree) for name in sorted(tree[layer])]


def test_the_factored_state_of_a_turned_matrix(x64) -> None:
    """Rows of (out, in) are columns of (in, out); one update later params are still equal."""
    start, grad = (np.random.default_rng(k).normal(size=(2, 6)) for k in (7, 8))
    param = torch.nn.Parameter(torch.tensor(start))
    theirs, ours = torch.optim.Adafactor([param]), optim.Adafactor({"kernel": jnp.asarray(start.T)})
    for _ in range(3):
        for k in range(3):
            param.grad = torch.tensor(grad * np.cos(k))
            theirs.step()
            ours.step({"kernel": jnp.asarray(grad.T * np.cos(k))})
        np.testing.assert_allclose(ours.params["kernel"], param.detach().numpy().T, rtol=1e-12, atol=1e-13)
        saved = through_a_file(theirs.state_dict())
        theirs.load_state_dict(optim.to_torch_state_dict(ours, axes={"kernel": (1, 0)}))
        ours.load_state_dict(saved, axes={"kernel": (1, 0)})
    assert theirs.state_dict()["state"][0]["row_var"].shape == (2, 1)
    with pytest.raises(ValueError, match="the factored state of a param cannot be turned by"):
        filters = optim.Adafactor({"kernel": jnp.ones((2, 5, 3, 4))})
        other = torch.optim.Adafactor([torch.nn.Parameter(torch.ones(4, 3, 2, 5, dtype=torch.float64))])
        other.param_groups[0]["params"][0].grad = torch.ones(4, 3, 2, 5, dtype=torch.float64)
        other.step()
        filters.load_state_dict(other.state_dict(), axes={"kernel": CONV})


def test_groups_go_on_in_both_directions(x64) -> None:
    start = [np.random.default_rng(k).normal(size=3) for k in range(3)]
    params = [torch.nn.Parameter(torch.tensor(value)) for value in start]
    theirs = torch.optim.Adam([{"params": params[2:], "lr": 0.5}, {"params": params[:2]}], lr=0.1)
    tree = {"a": jnp.asarray(start[0]), "b": jnp.asarray(start[1]), "z": jnp.asarray(start[2])}
    ours = optim.Adam(tree, lr=0.1, groups={"z": {"lr": 0.5}})
    for step in range(6):
        for k, param in enumerate(params):
            param.grad = torch.tensor(start[k] * (step + 1))
        theirs.step()
        ours.step({name: jnp.asarray(start[k] * (step + 1)) for k, name in enumerate("abz")})
        order = ["z", "a", "b"]
        saved = through_a_file(theirs.state_dict())
        theirs.load_state_dict(optim.to_torch_state_dict(ours, order=order))
        ours.load_state_dict(saved, order=order)
        for param, x in zip(params, values(ours.params.values()), strict=True):
            np.testing.assert_allclose(x, param.detach().numpy(), rtol=1e-13)
    assert [group["lr"] for group in ours.param_groups] == [0.5, 0.1]


# --- our own state dicts ----------------------------------------------------------------------------


@ids([*KINDS, *MORE, Case("LBFGS")])
def test_our_own_state_dict_round_trips_by_pickle(case: Case) -> None:
    case_steps = 4
    start, rows = problem(case, 2 * case_steps)
    make = lambda: getattr(optim, case.name)({"abcd"[k]: jnp.asarray(x) for k, x in enumerate(start)})  # noqa: E731
    first, second = make(), make()
    first.param_groups[0].update(case.options)
    one = loss_of if case.name == "LBFGS" else None
    given = [one or dict(zip("abcd", arrays(row), strict=True)) for row in rows]
    for x in given[:case_steps]:
        first.step(x)
    second.params = first.params
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    for x in given[case_steps:]:
        first.step(x)
        second.step(x)
    for a, b in zip(values(first.params.values()), values(second.params.values()), strict=True):
        np.testing.assert_array_equal(a, b)


def loss_of(params: Any) -> Any:
    return sum(jnp.sum((x - 1.0) ** 4) for x in params.values())


def test_the_dict_of_a_fresh_optimizer_loads() -> None:
    for source in (
        torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=0.5),
        optim.Adam([jnp.ones(2)], lr=0.5),
    ):
        optimizer = optim.Adam([jnp.ones(2)])
        optimizer.step([jnp.ones(2)])
        optimizer.load_state_dict(source.state_dict())
        assert optimizer.state == {} and optimizer.param_groups[0]["lr"] == 0.5
        np.testing.assert_allclose(optimizer.step([jnp.ones(2)])[0], 1 - 1e-3 - 0.5, rtol=1e-6)


def test_adamw_stays_adamw() -> None:
    saved = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    optimizer = optim.AdamW([jnp.ones(2)])
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True


def test_older_dicts_lack_newer_flags() -> None:
    saved = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=0.3).state_dict()
    for flag in ("maximize", "foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"):
        del saved["param_groups"][0][flag]
    optimizer = optim.Adam([jnp.ones(2)])
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.3 and optimizer.param_groups[0]["maximize"] is False


# --- mistakes ---------------------------------------------------------------------------------------


def good() -> dict[str, Any]:
    """Of Adam, two steps, over two params, without names."""
    params = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    optimizer = torch.optim.Adam(params)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    return optimizer.state_dict()


def changed(path: str, value: Any = None) -> Callable[[], dict[str, Any]]:
    """The good dict with an entry changed, or taken out if the value is None."""

    def make() -> dict[str, Any]:
        state_dict = copy.deepcopy(good())
        *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        place: Any = state_dict
        for key in way:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value
        return state_dict

    return make


def of(make: Callable[[Any], torch.optim.Optimizer]) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        params = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
        optimizer = make(params)
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
        return optimizer.state_dict()

    return run


REFUSED = {
    "another optimizer": (
        of(lambda p: torch.optim.RMSprop(p)),
        r"of another optimizer, nothing was loaded; options missing: \['betas'\], unexpected: \['alpha', ",
    ),
    "two groups": (
        of(lambda p: torch.optim.Adam([{"params": p[:1]}, {"params": p[1:]}])),
        "Adam: loaded state dict has a different number of parameter groups: 2, not 1",
    ),
    "fewer params": (
        of(lambda p: torch.optim.Adam(p[:1])),
        "contains a parameter group that doesn't match the size of optimizer's group: 1 params, not 2",
    ),
    "another shape": (
        changed("state/0/exp_avg", torch.ones(4)),
        r"of another shape: 0: exp_avg is \[4\], not \[2\]",
    ),
    "a missing slot": (changed("state/1/exp_avg_sq"), "missing: 1: exp_avg_sq"),
    "an unknown slot": (changed("state/1/velocity", torch.ones(3)), "unexpected: 1: velocity"),
    "a missing option": (changed("param_groups/0/lr"), r"options missing: \['lr'\]"),
    "an unknown option": (changed("param_groups/0/warmup", 3), r"unexpected: \['warmup'\]"),
    "no params": (changed("param_groups/0/params"), "has no 'params'"),
    "no groups": (
        changed("param_groups"),
        r"a state dict has the keys \['param_groups', 'state'\], this has",
    ),
    "no state": (changed("state"), r"this has \['param_groups'\]"),
    "an unknown key": (changed("model", {"w": 1}), r"this has \['model', 'param_groups', 'state'\]"),
    "a stray": (changed("state/7", {}), r"state of params in no group: \[7\]"),
    "no dict": (lambda: [1, 2], "this has list"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(make: Callable[[], Any], message: str) -> None:
    optimizer = optim.Adam([jnp.ones(2), jnp.ones(3)], lr=0.25)
    optimizer.step([jnp.ones(2), jnp.ones(3)])
    before = pickle.dumps(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(make())
    assert pickle.dumps(optimizer.state_dict()) == before
    optimizer.step([jnp.ones(2), jnp.ones(3)])


def test_a_tree_needs_names_or_an_order() -> None:
    optimizer = optim.Adam({"a": jnp.ones(3), "b": jnp.ones(2)})
    with pytest.raises(ValueError, match="has no param_names, .* give order=.*in PyTorch's order: a, b"):
        optimizer.load_state_dict(good())
    with pytest.raises(ValueError, match="order must be the list of paths"):
        optimizer.load_state_dict(good(), order={"weight": "a"})
    with pytest.raises(ValueError, match=r"missing: \['a'\], unexpected: \[\]"):
        optimizer.load_state_dict(good(), order=["b", "c"])
    with pytest.raises(ValueError, match="axes: the pattern 'c' matches none of the params: a, b"):
        optimizer.load_state_dict(good(), order=["b", "a"], axes={"c": (1, 0)})
    optimizer.load_state_dict(good(), order=["b", "a"])
    assert optimizer.state["b"]["exp_avg"].shape == (2,)


def test_nothing_in_a_file_is_executed() -> None:
    """What PyTorch's documentation asks for is what ours asks for: `weights_only`."""

    class Bomb:
        def __reduce__(self) -> Any:
            return (itertools.count, (1,))

    file = io.BytesIO()
    torch.save({"state": {}, "param_groups": [{"params": [0], "lr": Bomb()}]}, file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    assert "weights_only" in (optim.Optimizer.load_state_dict.__doc__ or "")
    assert "weights_only" in (optim.load_torch_state_dict.__doc__ or "")
