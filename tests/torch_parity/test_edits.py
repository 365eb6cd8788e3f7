"""What users put into modules and groups between steps counts, as in PyTorch; mistakes leave no trace."""

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradtx.torch.optim as optim

X, Y = np.random.default_rng(0).normal(size=(2, 6, 3))


class Mlp(nnx.Module):
    """Three square layers, so that each could be another; `extra` is what is added later."""

    def __init__(self, seed: int = 0):
        self.layers = nnx.List(
            [nnx.Linear(3, 3, param_dtype=float, rngs=nnx.Rngs(seed + i)) for i in range(3)]
        )
        self.extra = nnx.data(None)
        self.absent = nnx.Param(None)

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x if self.extra is None else x * self.extra[...]


class TorchMlp(torch.nn.Module):
    def __init__(self, like: Mlp):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 3, dtype=torch.float64) for _ in range(3)])
        self.extra = None
        for layer, other in zip(self.layers, like.layers, strict=True):
            put(layer, other)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x if self.extra is None else x * self.extra


def put(layer: Any, other: nnx.Linear) -> None:
    """The numbers of a layer of ours in a layer of PyTorch's."""
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.array(other.kernel[...]).T))
        layer.bias.copy_(torch.tensor(np.array(other.bias[...])))


class Edit(NamedTuple):
    """The same edit of both models."""

    ours: Callable[[Mlp], Any]
    theirs: Callable[[TorchMlp], Any]


def each(function: Callable[[Any], Any]) -> Edit:
    """A function of arrays, of which those of PyTorch are changed in place."""

    @torch.no_grad()
    def theirs(model: TorchMlp) -> None:
        for p in model.parameters():
            p.copy_(torch.tensor(np.asarray(function(p.numpy()))))

    return Edit(lambda model: nnx.update(model, jax.tree.map(function, nnx.state(model, nnx.Param))), theirs)


def set_one(model: Mlp) -> None:
    model.layers[1].bias[...] = jnp.full(3, 0.25)


def set_one_of_torch(model: TorchMlp) -> None:
    torch.nn.init.constant_(model.layers[1].bias, 0.25)


def load(model: Mlp) -> None:
    nnx.update(model, nnx.state(Mlp(7), nnx.Param))


def tie(model: Any) -> None:
    name = "kernel" if isinstance(model, Mlp) else "weight"
    setattr(model.layers[2], name, getattr(model.layers[0], name))


def drop_bias(model: Any) -> None:
    model.layers[1].bias = None
    model.layers[1].use_bias = False


def add_ours(model: Mlp) -> None:
    model.extra = nnx.Param(jnp.full(3, 0.5))


def add_theirs(model: TorchMlp) -> None:
    model.extra = torch.nn.Parameter(torch.full((3,), 0.5, dtype=torch.float64))


def swap_in_and_out(model: Mlp) -> None:
    before = jax.tree.map(lambda x: x, nnx.state(model, nnx.Param))
    load(model)
    nnx.update(model, before)


EDITS = {
    "loaded": Edit(
        load, lambda model: [put(*pair) for pair in zip(model.layers, Mlp(7).layers, strict=True)]
    ),
    "clamped": each(lambda x: x.clip(-0.1, 0.1)),
    "one set": Edit(set_one, set_one_of_torch),
    "other weights for a while": Edit(swap_in_and_out, lambda model: None),
    "tied": Edit(tie, tie),
    "without a bias": Edit(drop_bias, drop_bias),
    "one more": Edit(add_ours, add_theirs),
}


@pytest.mark.parametrize("by_closure", [False, True])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_the_module_is_the_truth(edit: Edit, by_closure: bool, x64) -> None:
    """Decay and moments show whatever moves that should not; twice, before and after the first steps."""
    ours = Mlp()
    theirs = TorchMlp(ours)
    mine = optim.AdamW(ours, lr=0.1, weight_decay=0.3)
    other = torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.3)
    loss = lambda model: jnp.mean((model(X) - Y) ** 2)  # noqa: E731
    for k in range(4):
        if k in (0, 2):
            edit.ours(ours)
            edit.theirs(theirs)
        mine.step(loss if by_closure else nnx.grad(loss)(ours))
        other.zero_grad()
        torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(Y)).backward()
        other.step()
        for layer, reference in zip(ours.layers, theirs.layers, strict=True):
            np.testing.assert_allclose(layer.kernel[...].T, reference.weight.detach(), rtol=1e-10, atol=1e-13)
            if layer.bias is not None:
                np.testing.assert_allclose(layer.bias[...], reference.bias.detach(), rtol=1e-10, atol=1e-13)
    assert ours.extra is None or np.all(ours.extra[...] == 0.5)


def linear() -> nnx.Linear:
    return nnx.Linear(2, 1, rngs=nnx.Rngs(0))


GRADS = {"bias": np.ones(1, np.float32), "kernel": np.ones((2, 1), np.float32)}


def test_what_users_put_into_a_module_stays_theirs() -> None:
    model = linear()
    optimizer = optim.SGD(model, lr=0.5, momentum=0.9)
    optimizer.step(GRADS)
    mine = jnp.zeros((2, 1))
    model.kernel[...] = mine
    for _ in range(2):
        optimizer.step(GRADS)
    np.testing.assert_array_equal(mine, 0)
    np.testing.assert_allclose(model.kernel[...], -0.5 * (1.9 + 2.71), rtol=1e-6)
    gone = model.kernel[...]
    optimizer.step(GRADS)
    model.kernel.set_value(gone)
    with pytest.raises(
        ValueError, match="kernel is an array whose memory a step has reused; before the step, take"
    ):
        optimizer.step(GRADS)


def test_params_of_another_shape_or_dtype() -> None:
    """Before there is a state any will do; then the error names it."""
    model = linear()
    optimizer = optim.Adam(model)
    model.kernel.set_value(jnp.ones((4, 1)))
    optimizer.step({**GRADS, "kernel": jnp.ones((4, 1))})
    assert optimizer.state["kernel"]["exp_avg"].shape == (4, 1)
    model.kernel.set_value(jnp.ones((3, 1)))
    before = optimizer.state_dict()
    message = r"Adam: kernel is float32 of shape \(3, 1\) now, and its state is of float32 of shape \(4, 1\)"
    with pytest.raises(ValueError, match=message):
        optimizer.step({**GRADS, "kernel": jnp.ones((3, 1))})
    assert repr(optimizer.state_dict()) == repr(before)
    model.kernel.set_value(jnp.ones((4, 1), jnp.bfloat16))
    with pytest.raises(ValueError, match="Adam: kernel is bfloat16 of shape"):
        optimizer.step({**GRADS, "kernel": jnp.ones((4, 1))})
    model.kernel.set_value(jnp.arange(4).reshape(4, 1))
    with pytest.raises(TypeError, match="Adam: kernel is int32; only floating-point"):
        optimizer.step({**GRADS, "kernel": jnp.ones((4, 1))})
    plain = optim.SGD({"w": jnp.ones(2)}, lr=1.0)  # without a state
    plain.step({"w": jnp.ones(2)})
    plain.param_groups[0]["params"][0] = jnp.ones(3)
    np.testing.assert_array_equal(plain.step({"w": jnp.ones(3)})["w"], 0)


def test_arrays_put_into_groups_count_and_stay_their_users() -> None:
    optimizer = optim.SGD({"a": jnp.zeros(2), "b": jnp.zeros(2)}, lr=1.0)
    mine, host = jnp.ones(2), np.full(2, 3.0, np.float32)
    optimizer.param_groups[0]["params"][:] = [mine, host]
    for k in range(1, 3):
        params = optimizer.step({"a": jnp.ones(2), "b": jnp.ones(2)})
        np.testing.assert_array_equal([params["a"], params["b"]], [mine - k, host - k])
    model = linear()
    optimizer = optim.SGD(model, lr=0.0)
    optimizer.param_groups[0]["params"][0] = jnp.ones(1)
    optimizer.step(GRADS)
    np.testing.assert_array_equal(model.bias[...], 1)
    model.bias[...] = jnp.zeros(1)
    optimizer.param_groups[0]["params"][0] = jnp.full(1, 2.0)
    with pytest.raises(
        ValueError, match="SGD: bias was changed in the module and in param_groups; which of the two"
    ):
        optimizer.step(GRADS)


W = jnp.ones(2)


def with_edit(edit: Callable[[list[Any]], Any]) -> None:
    optimizer = optim.SGD([W], lr=0.1)
    edit(optimizer.param_groups)
    optimizer.step([W])


def with_params(params: Any, given: Any = None) -> None:
    optimizer = optim.SGD({"w": W} if given is None else given, lr=0.1)
    optimizer.params = params


def loaded(order: Any, **options: Any) -> None:
    optimizer = optim.SGD({"a": W, "b": W}, lr=0.1, momentum=0.9)
    optimizer.step({"a": W, "b": W})
    optimizer.load_state_dict(optimizer.state_dict(), order=order)


MISTAKES = {
    "one name twice": (
        lambda: optim.SGD(itertools.chain([("w", W), ("b", W)], [("w", W + 1)])),
        r"two params are called 'w', numbers 0 and 2 of the list; give each a name of its own",
    ),
    "groups twice": (
        lambda: optim.SGD([{"params": {"w": W}}], groups={"w": {"lr": 0.1}}),
        "SGD: groups: the params are a list of groups already",
    ),
    "a group by hand": (
        lambda: with_edit(lambda groups: groups.append({"params": [W], "lr": 0.1})),
        "SGD: there are 2 param_groups, and the optimizer was given 1; add_param_group adds one",
    ),
    "a param by hand": (
        lambda: with_edit(lambda groups: groups[0]["params"].append(W)),
        r"SGD: param_groups\[0\]\['params'\] has 2 params, and the optimizer was given 1; add_param_group",
    ),
    "new params with None": (lambda: with_params({"w": None}), "SGD.params: w: the new param has shape None"),
    "new params of one group": (
        lambda: with_params({"w": W}, [{"params": {"w": W}}]),
        "SGD.params: the params must be a list with one tree per group",
    ),
    "new params of another tree": (
        lambda: with_params({"v": W}),
        r"SGD.params: the params have no \['v'\], the new params do",
    ),
    "a path twice in an order": (
        lambda: loaded(["a", "b", "a"]),
        "SGD: a is in the order of the loaded dict several",
    ),
    "a tree for a gradient": (
        lambda: optim.SGD((W, W + 1)).step((W, {"a": W})),
        "SGD.step: the params and the gradients",
    ),
}


@pytest.mark.parametrize(("mistake", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(mistake: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mistake()


def test_an_option_that_is_gone() -> None:
    with pytest.raises(KeyError, match="SGD: param_groups: a group has no lr any more"):
        with_edit(lambda groups: groups[0].pop("lr"))


def test_a_mistaken_group_leaves_nothing_behind() -> None:
    model, late = linear(), jnp.full(2, 3.0)
    optimizer = optim.SGD([{"params": model}, {"params": {"w": W}}], lr=0.1, momentum=0.5)
    optimizer.step([GRADS, {"w": W}])
    before = repr((optimizer, optimizer.state_dict()))
    wrong = [
        {"params": {"late": late}, "lr": "fast"},
        {"params": {"late": late, "n": jnp.arange(2)}},
        {"params": {"late": late}, "lr": jnp.ones(2)},
        {"params": [late]},
        {"params": model},
        {"params": {"late": late, "again": W}},
    ]
    for group in wrong:
        with pytest.raises((ValueError, TypeError)):
            optimizer.add_param_group(group)
        assert repr((optimizer, optimizer.state_dict())) == before
    optimizer.add_param_group({"params": {"late": late}, "lr": 1.0})
    _, _, new = optimizer.step([GRADS, {"w": W}, {"late": W}])
    np.testing.assert_array_equal(new["late"], late - 1)


LATE_GROUPS = {
    "LambdaLR": ({"lr_lambda": lambda epoch: 0.5}, "base_lrs and lr_lambdas"),
    "MultiplicativeLR": ({"lr_lambda": lambda epoch: 0.5}, "base_lrs and lr_lambdas"),
    "CosineAnnealingWarmRestarts": ({"T_0": 3}, "base_lrs"),
    "CyclicLR": ({"base_lr": 0.1, "max_lr": 0.2, "cycle_momentum": False}, "base_lrs"),
    "OneCycleLR": ({"max_lr": 0.1, "total_steps": 9, "cycle_momentum": False}, "base_lrs"),
}


@pytest.mark.parametrize(("name", "case"), LATE_GROUPS.items(), ids=LATE_GROUPS)
def test_a_group_that_a_scheduler_does_not_know(name: str, case: tuple[dict[str, Any], str]) -> None:
    """Where PyTorch fails with what `zip` says; the others change what each group has."""
    options, lists = case
    optimizer = optim.SGD([jnp.ones(2)], lr=0.1)
    scheduler = getattr(optim.lr_scheduler, name)(optimizer, **options)
    optimizer.step([jnp.ones(2)])
    optimizer.add_param_group({"params": [jnp.zeros(2)]})
    message = f"{name} was made for 1 param groups, and since add_param_group the optimizer has 2"
    with pytest.raises(ValueError, match=f"{message}; .* its {lists} what"):
        scheduler.step()
    if name == "LambdaLR":
        scheduler.base_lrs.append(0.4)
        scheduler.lr_lambdas.append(lambda epoch: 0.25)
        scheduler.step()
        assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.1]


# --- names ------------------------------------------------------------------------------------------


def test_paths_that_print_alike_are_two_params() -> None:
    params = {"net": {"w": jnp.ones(2)}, "net/w": jnp.full(2, 5.0), "b": jnp.ones(1)}
    optimizer = optim.SGD(params, lr=0.5, momentum=0.9)
    new = optimizer.step(params)
    np.testing.assert_array_equal([new["net"]["w"], new["net/w"]], [[0.5] * 2, [2.5] * 2])
    assert sorted(optimizer.state) == ["['net']['w']", "['net/w']", "b"]
    tx = optim.sgd(lr=0.5, momentum=0.9)
    state = optim.load_torch_state_dict(tx, optimizer.state_dict(), params, order=list(optimizer.state))
    again, _ = tx.update(params, state, params)
    np.testing.assert_allclose(again["net/w"], -0.5 * 9.5, rtol=1e-6)


def test_groups_that_share_names_keep_their_own_state() -> None:
    """Saved and loaded, here and by PyTorch, in another order; and plain lists are numbered through."""
    shapes = [{"w": 2, "b": 1}, {"w": 3, "b": 4}]
    trees = [{name: jnp.full(n, float(n)) for name, n in tree.items()} for tree in shapes]
    optimizer = optim.SGD([{"params": tree} for tree in trees], lr=0.5, momentum=0.9)
    optimizer.step(trees)
    assert {name: x["momentum_buffer"].shape for name, x in optimizer.state.items()} == {
        **{"0/b": (1,), "0/w": (2,)},
        **{"1/b": (4,), "1/w": (3,)},
    }
    order = ["w", "b", "b", "w"]
    tensors = [torch.nn.Parameter(torch.ones(n)) for n in (2, 1, 4, 3)]
    theirs = torch.optim.SGD([{"params": tensors[:2]}, {"params": tensors[2:]}])
    theirs.load_state_dict(optim.to_torch_state_dict(optimizer, order=order))
    assert all(theirs.state[p]["momentum_buffer"].shape == p.shape for p in tensors)
    again = optim.SGD([{"params": tree} for tree in trees])
    again.load_state_dict(theirs.state_dict(), order=order)
    for name, x in optimizer.state.items():
        np.testing.assert_array_equal(again.state[name]["momentum_buffer"], x["momentum_buffer"])
    listed = optim.SGD([{"params": [jnp.ones(2), jnp.ones(3)]}, {"params": [jnp.ones(4)]}], momentum=0.9)
    listed.step([[jnp.ones(2), jnp.ones(3)], [jnp.ones(4)]])
    assert {name: len(x["momentum_buffer"]) for name, x in listed.state.items()} == {"0": 2, "1": 3, "2": 4}


def test_the_state_is_read_by_path_and_by_param() -> None:
    model = linear()
    optimizer = optim.Adam(model)
    assert (
        optimizer.state[model.kernel] == {} == optimizer.state["kernel"] and "kernel" not in optimizer.state
    )
    optimizer.step({**GRADS, "bias": None})
    state = optimizer.state
    for key in ("kernel", model.kernel, model.kernel[...], optimizer.param_groups[0]["params"][1]):
        np.testing.assert_allclose(state[key]["exp_avg"], 0.1, rtol=1e-6)
        assert key in state and state.get(key) is state["kernel"]
    assert state[model.bias] == {} and model.bias not in state and list(state) == ["kernel"]
    assert len(jax.tree.leaves(state)) == 3 and pickle.loads(pickle.dumps(state)).keys() == state.keys()
    with pytest.raises(KeyError, match="kern is none of the params as they are now; they are bias, kernel"):
        state["kern"]
    with pytest.raises(KeyError, match="this array is none of the params"):
        state[jnp.ones(2)]


# --- copies, options --------------------------------------------------------------------------------

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("make", [linear, lambda: {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)}])
def test_a_copy_is_independent(make: Any, copied: Any) -> None:
    model = make()
    values = lambda x: [np.array(leaf) for leaf in jax.tree.leaves(x)]  # noqa: E731
    optimizer = optim.Adam(model, lr=0.1)
    optimizer.step(GRADS)
    other = copied(optimizer)
    before, saved = values(optimizer.params), repr(optimizer.state_dict())
    for _ in range(2):
        other.step(GRADS)
    assert other.params is not optimizer.params and repr(optimizer.state_dict()) == saved
    np.testing.assert_array_equal(
        np.concatenate(before, None), np.concatenate(values(optimizer.params), None)
    )
    for _ in range(2):
        optimizer.step(GRADS)
    np.testing.assert_array_equal(
        np.concatenate(values(other.params), None), np.concatenate(values(optimizer.params), None)
    )


PAIRS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "NumPy": np.array,
    "JAX": jnp.array,
    "tensor": lambda pair: torch.tensor(pair, dtype=torch.float64),
    "arrays": lambda pair: tuple(map(jnp.array, pair)),
    "arrays of one": lambda pair: tuple(jnp.array([x]) for x in pair),
}


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_numbers_and_pairs_may_be_lists_and_arrays(make: Any, x64) -> None:
    """And those of one number have no axis: a scalar param stays one."""
    options = {"Adam": {"betas": (0.75, 0.5)}, "Rprop": {"etas": (0.25, 1.5), "step_sizes": (0.125, 2.0)}}
    for name, pairs in options.items():
        given = {option: make(pair) for option, pair in pairs.items()}
        found = getattr(optim, name)([jnp.ones(())], lr=jnp.array([0.5]), **given)
        exact = getattr(optim, name)([jnp.ones(())], lr=0.5, **pairs)
        for grad in (1.0, -2.0):
            (x,), (y,) = found.step([jnp.array(grad)]), exact.step([jnp.array(grad)])
            assert x.shape == () and float(x) == pytest.approx(float(y), rel=1e-12)
        (group,) = optim.to_torch_state_dict(found)["param_groups"]
        assert {option: group[option] for option in pairs} == pairs


@pytest.mark.parametrize("lr", [torch.tensor(0.5), torch.tensor([0.5])], ids=str)
def test_a_rate_may_be_a_tensor(lr: Any) -> None:
    (param,) = optim.SGD([jnp.ones(())], lr=lr).step([jnp.ones(())])
    assert float(param) == 0.5
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        optim.SGD([jnp.ones(())], lr=torch.ones(2))


# --- closures ---------------------------------------------------------------------------------------


class Noisy(nnx.Module):
    def __init__(self) -> None:
        self.norm = nnx.BatchNorm(3, momentum=0.5, rngs=nnx.Rngs(0))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))

    def __call__(self, x: Any) -> Any:
        return self.dropout(self.norm(x))


def test_a_closure_leaves_its_statistics_in_the_module() -> None:
    model, x = Noisy(), jnp.asarray(X, jnp.float32)
    optimizer = optim.SGD(model, lr=0.0)
    losses = [float(optimizer.step(lambda model: jnp.sum(model(x) ** 2))) for _ in range(2)]
    np.testing.assert_allclose(model.norm.mean[...], 0.75 * X.mean(0), rtol=1e-5)
    assert losses[0] != losses[1]  # the mask of the dropout is another
    lbfgs = optim.LBFGS(model)
    with pytest.raises(
        ValueError, match="LBFGS: the closure changes (dropout/rngs/count|norm/mean) of the module"
    ):
        lbfgs.step(lambda model: jnp.sum(model(x) ** 2))
    model.eval()
    assert float(lbfgs.step(lambda model: jnp.sum((model(x) - 1) ** 2))) > 0


def test_params_of_a_module_in_lists_are_updated_in_place() -> None:
    """As one writes PyTorch's groups: by gradients, by closures, with edits, and a late one."""
    model, late = linear(), nnx.Param(jnp.zeros(2))
    kernel = np.array(model.kernel[...])
    optimizer = optim.SGD([{"params": [model.bias], "lr": 1.0}, {"params": iter([model.kernel])}], lr=0.5)
    grads = nnx.grad(lambda model: jnp.sum(model(jnp.ones((1, 2)))))(model)
    optimizer.step([[grads["bias"]], [None]])
    optimizer.step([[GRADS["bias"]], [GRADS["kernel"]]])
    np.testing.assert_allclose(model.bias[...], -2)
    np.testing.assert_allclose(model.kernel[...], kernel - 0.5, rtol=1e-6)
    model.kernel[...] = jnp.full((2, 1), 3.0)
    loss = optimizer.step(lambda groups: jnp.sum(groups[1][0][...] ** 2) / 2)
    assert float(loss) == 9 and optimizer.params[1][0] is model.kernel
    np.testing.assert_allclose(model.kernel[...], 1.5)
    optimizer.add_param_group({"params": late})
    optimizer.step([[None], [None], [np.ones(2, np.float32)]])
    np.testing.assert_allclose(late[...], -0.5)
    assert optimizer.state == {} and len(optimizer.param_groups) == 3
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": [model.bias]})
    with pytest.raises(TypeError, match="some of the params are variables of Flax"):
        optim.SGD([model.kernel, jnp.ones(2)])
    with pytest.raises(ValueError, match=r"SGD.step: the params have no \[1\], the gradients do"):
        optim.SGD([model.kernel]).step([jnp.ones(2), jnp.ones(2)])


def test_gradients_may_be_a_module_and_not_the_module() -> None:
    model = linear()
    loss = lambda model: jnp.sum(model(jnp.ones((1, 2))))  # noqa: E731
    optimizer = optim.SGD(model, lr=1.0)
    before = np.array(model.kernel[...])
    optimizer.step(jax.grad(loss)(model))
    np.testing.assert_allclose(model.kernel[...], before - 1, rtol=1e-6)
    with pytest.raises(TypeError, match="SGD.step takes gradients, and this is the module itself"):
        optimizer.step(model)
