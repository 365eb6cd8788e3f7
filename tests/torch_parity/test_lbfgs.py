"""L-BFGS beside PyTorch's, in float64: the same iterates, counts and states.

A quasi-Newton step multiplies the rounding of a gradient by the condition of the problem, iteration by
iteration. So most comparisons start each step from PyTorch's own state; on Rosenbrock's function a step
there is a single iteration.
"""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim.lbfgs import _strong_wolfe

import gradtx
from gradtx.torch.optim import LBFGS
from gradtx.torch.optim._lbfgs import LBFGSState, from_torch_state, lbfgs, to_torch_state
from gradtx.torch.optim._strong_wolfe import Point, strong_wolfe
from tests.closeness import assert_no_further, furthest

# --- problems, written for both libraries -----------------------------------------------------------

RNG = np.random.default_rng(5)
ROOT = RNG.normal(size=(5, 5))
HESSIAN, SLOPE = ROOT @ ROOT.T / 5 + np.eye(5), RNG.normal(size=5)
INPUTS = RNG.normal(size=(30, 3))
LABELS = np.sign(INPUTS @ RNG.normal(size=3) + 0.5 * RNG.normal(size=30))


def quadratic(lib: Any, p: Any) -> Any:
    return 0.5 * (p["x"] * (lib.asarray(HESSIAN) @ p["x"])).sum() - (lib.asarray(SLOPE) * p["x"]).sum()


def logistic(lib: Any, p: Any) -> Any:
    margin = lib.asarray(LABELS) * (lib.asarray(INPUTS) @ p["weight"] + p["bias"])
    return lib.log1p(lib.exp(-margin)).mean() + 0.01 * (p["weight"] ** 2).sum()


def beale(lib: Any, p: Any) -> Any:
    x, y = p["x"], p["y"]
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def rosenbrock(lib: Any, p: Any) -> Any:
    x = p["x"]
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


class Problem(NamedTuple):
    f: Callable[[Any, Any], Any]
    start: dict[str, np.ndarray]


PROBLEMS = {
    "quadratic": Problem(quadratic, {"x": np.ones(5)}),
    "logistic": Problem(logistic, {"weight": np.zeros(3), "bias": np.array(0.0)}),
    "beale": Problem(beale, {"x": np.array(1.0), "y": np.array(1.0)}),
    "rosenbrock 2": Problem(rosenbrock, {"x": np.array([-1.2, 1.0])}),
    "rosenbrock 10": Problem(rosenbrock, {"x": np.linspace(-1.2, 1.0, 10)}),
}


@cache
def stepper(f: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """One update, compiled; the transformation is an argument, so that its numbers are traced."""

    def step(tx: Any, params: Any, state: Any) -> Any:
        updates, state = tx.update(params, state, params, value_fn=lambda p: f(jnp, p))
        return gradtx.apply_updates(params, updates), state

    return jax.jit(step)


class Torch:
    """PyTorch's optimizer on a problem."""

    def __init__(self, problem: Problem, dtype: Any = None, **options: Any):
        leaves, self.treedef = jax.tree.flatten(problem.start)
        self.f = problem.f
        self.leaves = [torch.nn.Parameter(torch.tensor(leaf, dtype=dtype)) for leaf in leaves]
        self.optimizer = torch.optim.LBFGS(self.leaves, **options)

    def loss(self) -> Any:
        self.optimizer.zero_grad()
        loss = self.f(torch, self.treedef.unflatten(self.leaves))
        loss.backward()
        return loss

    def step(self) -> float:
        return self.optimizer.step(self.loss).item()

    @property
    def params(self) -> Any:
        return self.treedef.unflatten([jnp.asarray(leaf.detach().numpy().copy()) for leaf in self.leaves])

    @property
    def state(self) -> dict[str, Any]:
        return copy.deepcopy(self.optimizer.state_dict()["state"].get(0, {}))

    def load(self, params: Any, state: dict[str, Any]) -> None:
        """Go on from these params, and from a state of ours as tensors."""
        with torch.no_grad():
            for leaf, param in zip(self.leaves, jax.tree.leaves(params), strict=True):
                leaf.copy_(torch.tensor(np.asarray(param)))
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**whole, "state": {0: jax.tree.map(as_tensor, state)}})


def as_tensor(x: Any) -> Any:
    return torch.from_numpy(x) if isinstance(x, np.ndarray) else x


def ours(problem: Problem, **options: Any) -> tuple[Any, Any, Any]:
    """The transformation, params and state at the start."""
    params, tx = jax.tree.map(jnp.asarray, problem.start), lbfgs(**options)
    return tx, params, tx.init(params)


def flat(params: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(params)])


def assert_same_params(mine: Any, theirs: Any, *before: Any, bound: float = 1e-12) -> None:
    """Equal within a share of the largest number, also of those where the step began."""
    error = np.abs(flat(mine) - flat(theirs)).max()
    assert error <= bound * max(np.abs(flat(x)).max() for x in (theirs, *before)), (error, mine, theirs)


def assert_same_state(state: LBFGSState, theirs: dict[str, Any]) -> None:
    """Counts and lengths equal. Of a pair with y·s > 1e-10 the change y of the gradient may be as small
    as 1e-5, and keeps 1e-11 of the 1e-16 of the gradient's terms; what follows from it, some 1e-10."""
    mine = to_torch_state(state)
    assert mine.keys() == theirs.keys()
    for name, entry in theirs.items():
        if name in ("func_evals", "n_iter"):
            assert mine[name] == entry, name
            continue
        assert isinstance(mine[name], list) == isinstance(entry, list), name
        if isinstance(entry, list):
            assert len(mine[name]) == len(entry), name
        if name != "al":
            entry = [np.asarray(x) for x in entry] if isinstance(entry, list) else np.asarray(entry)
            np.testing.assert_allclose(mine[name], entry, rtol=1e-9, atol=1e-13, err_msg=name)


# --- step by step -----------------------------------------------------------------------------------

WOLFE = {"line_search_fn": "strong_wolfe"}
SHORT = {"history_size": 3, "max_iter": 4, "max_eval": 3, **WOLFE}
SINGLE = {"history_size": 3, "max_iter": 1}
CASES = [
    ("quadratic", {}),
    ("quadratic", {"lr": 0.01, "tolerance_change": 1e-6}),
    ("quadratic", {"lr": 0.0}),
    ("quadratic", {"tolerance_grad": 1e-2}),
    ("quadratic", {"tolerance_change": 1e-3}),
    ("quadratic", {"lr": 0.01, "tolerance_change": 5e-3}),
    ("quadratic", {"history_size": 3, **WOLFE}),
    ("logistic", {"history_size": 3}),
    ("logistic", {"history_size": 3, "lr": 0.01}),
    ("logistic", SHORT),
    ("logistic", {"lr": 0.01, **SHORT}),
    ("beale", {"history_size": 1, "max_iter": 4}),
    ("beale", WOLFE),
    ("beale", {"tolerance_grad": 1e-3, **WOLFE}),
    ("beale", {"max_iter": 1, **WOLFE}),
    ("rosenbrock 2", SINGLE),
    ("rosenbrock 2", {"lr": 0.01, **SINGLE}),
    ("rosenbrock 10", {"max_eval": 25, **SINGLE, **WOLFE}),
    ("rosenbrock 10", {"lr": 30.0, "max_eval": 25, **SINGLE, **WOLFE}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_each_step_is_torchs(name: str, options: dict[str, Any], x64) -> None:
    """From PyTorch's params and state at every step: params and loss within 1e-12, equal counts. A loss
    close to 0 is a sum of squares of differences, each with an error of 1e-16."""
    theirs, (tx, _, state) = Torch(PROBLEMS[name], **options), ours(PROBLEMS[name], **options)
    step = stepper(PROBLEMS[name].f)
    for _ in range(60 if "rosenbrock" in name else 8):
        before = theirs.params
        params, state = step(tx, before, from_torch_state(theirs.state, state))
        loss = theirs.step()
        assert_same_params(params, theirs.params, before)
        np.testing.assert_allclose(state.orig_loss, loss, rtol=1e-12, atol=1e-15)
        assert_same_state(state, theirs.state)


RUNS = [
    ("quadratic", {}),
    ("quadratic", {"lr": 0.1}),
    ("quadratic", {"history_size": 3, **WOLFE}),
    ("logistic", {"history_size": 3}),
    ("logistic", SHORT),
]


@pytest.mark.parametrize(("name", "options"), RUNS, ids=str)
def test_a_whole_run_is_torchs(name: str, options: dict[str, Any], x64) -> None:
    """These are at the minimum before roundings have grown: 1e-12 also after many steps on our own."""
    theirs, (tx, params, state) = Torch(PROBLEMS[name], **options), ours(PROBLEMS[name], **options)
    for _ in range(12):
        params, state = stepper(PROBLEMS[name].f)(tx, params, state)
        theirs.step()
        assert_same_params(params, theirs.params)
        assert_same_state(state, theirs.state)


@pytest.mark.parametrize(
    ("name", "options"), [("rosenbrock 2", {"history_size": 3}), ("rosenbrock 10", WOLFE)], ids=str
)
def test_chaos_is_no_larger_than_torchs(name: str, options: dict[str, Any], x64) -> None:
    """Twenty iterations on Rosenbrock's function: no further from PyTorch than 100 times what PyTorch
    itself differs when started 1e-15 away, for we round differently in each of the 20 iterations."""
    problem = PROBLEMS[name]
    theirs, (tx, params, state) = Torch(problem, **options), ours(problem, **options)
    params, state = stepper(problem.f)(tx, params, state)
    theirs.step()
    spread = 0.0
    for seed in range(4):
        factor = 1 + 1e-15 * np.random.default_rng(seed).choice([-1, 1], size=problem.start["x"].shape)
        nearby = Torch(problem._replace(start={"x": problem.start["x"] * factor}), **options)
        nearby.step()
        spread = max(spread, np.abs(flat(nearby.params) - flat(theirs.params)).max())
    assert np.abs(flat(params) - flat(theirs.params)).max() <= 100 * spread < 1e-6
    assert int(state.n_iter) == theirs.state["n_iter"]
    assert int(state.func_evals) == theirs.state["func_evals"]


# --- the line search --------------------------------------------------------------------------------


def on_line(lib: Any, t: Any, a: Any, b: Any, c: Any, e: Any, steep: Any, wall: Any) -> tuple[Any, Any]:
    """A loss in quarters, so that ties are common, infinite behind a wall; and a slope, too steep by a
    factor, so that little of the descent is sufficient."""
    dent = 1 + (3 * e * t) ** 2
    loss = lib.round(4 * (a * t * t - b * t + 3 * c * t / dent)) / 4
    slope = steep * (2 * a * t - b + 3 * c * (1 - (3 * e * t) ** 2) / dent**2)
    return lib.where(t > wall, lib.inf, loss), lib.where(t > wall, lib.nan, slope)


def test_the_line_search_decides_as_torch_does(x64) -> None:
    """Random lines and limits: the same number of evaluations and the same point within 1e-9, as the
    cubic's minimum is a difference of nearly equal numbers where the slopes are."""
    rng, n = np.random.default_rng(0), 600
    coefficients = np.abs(rng.normal(size=(n, 6))) * rng.choice([0.01, 1, 5], size=(n, 1))
    coefficients[:, 2] *= rng.choice([-1, 1], size=n)
    coefficients[:, 4] = rng.choice([1, 1, 30, 1000], size=n)
    coefficients[::2, 5] = np.inf
    first, max_ls = 10 ** rng.uniform(-3, 2, size=n), rng.choice([0, 1, 2, 3, 8, 25], size=n)
    tolerance = rng.choice([1e-9, 1e-2], size=n)

    def search(line, t, max_ls, tolerance):
        def evaluate(t):
            loss, slope = on_line(jnp, t, *line)
            return Point(t, loss, slope[None] / 2, slope)

        return strong_wolfe(evaluate, evaluate(jnp.zeros([])), t, jnp.asarray(2.0), tolerance, max_ls)

    points, evals = jax.jit(jax.vmap(search))(coefficients, first, max_ls, tolerance)
    for i, line in enumerate(coefficients):

        def evaluate(x, t, d, line=line):
            loss, slope = on_line(np, float(t), *line)
            return float(loss), torch.tensor([float(slope) / 2], dtype=torch.float64)

        (loss, grad), d = evaluate(None, 0.0, None), torch.tensor([2.0], dtype=torch.float64)
        options = {"tolerance_change": float(tolerance[i]), "max_ls": int(max_ls[i])}
        theirs = _strong_wolfe(evaluate, None, float(first[i]), d, loss, grad, grad.dot(d), **options)
        found = [points.f[i], points.g[i, 0], points.t[i]]
        np.testing.assert_allclose(found, [float(x) for x in theirs[:3]], rtol=1e-9, atol=1e-9)
        assert evals[i] == theirs[3]
    assert set(evals.tolist()) >= {1, 2, 3, 4, 5, 6, 9, 26}


@pytest.mark.parametrize("options", [{}, {"history_size": 3, **WOLFE}], ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_a_number_ends(bad: float, options: dict[str, Any], x64) -> None:
    problem = Problem(quadratic, {"x": np.array([1, 1, bad, 1, 1])})
    theirs, (tx, params, state) = Torch(problem, **options), ours(problem, **options)
    params, state = stepper(quadratic)(tx, params, state)
    theirs.step()
    np.testing.assert_array_equal(flat(params), flat(theirs.params))
    assert (int(state.n_iter), int(state.func_evals)) == (theirs.state["n_iter"], theirs.state["func_evals"])


# --- state exchange ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"lr": 0.1, "history_size": 3}, SHORT], ids=str)
def test_a_run_moves_to_torch_and_back(options: dict[str, Any], x64) -> None:
    problem = PROBLEMS["logistic"]
    straight, theirs = Torch(problem, **options), Torch(problem, **options)
    tx, params, state = ours(problem, **options)
    for _ in range(3):
        straight.step()
        params, state = stepper(problem.f)(tx, params, state)
    theirs.load(params, to_torch_state(state))
    for _ in range(3):
        straight.step()
        theirs.step()
    assert_same_params(theirs.params, straight.params)
    params, state = theirs.params, from_torch_state(theirs.state, tx.init(params))
    for _ in range(3):
        straight.step()
        params, state = stepper(problem.f)(tx, params, state)
    assert_same_params(params, straight.params)
    assert_same_state(state, straight.state)


def test_states_that_torch_keeps_at_the_start(x64) -> None:
    """Nothing before the first step, and the counts alone when it began at a minimum."""
    tx, params, state = ours(PROBLEMS["quadratic"], tolerance_grad=1e9)
    assert to_torch_state(state) == {}
    _, after = stepper(quadratic)(tx, params, state)
    assert to_torch_state(after) == {"func_evals": 1, "n_iter": 0}
    for held in (state, after):
        again = from_torch_state(to_torch_state(held), held)
        jax.tree.map(np.testing.assert_array_equal, again, held)


def entries() -> tuple[dict[str, Any], LBFGSState]:
    tx, params, state = ours(PROBLEMS["quadratic"], history_size=3, **WOLFE)
    _, state = stepper(quadratic)(tx, params, state)
    return to_torch_state(state), state


BAD_ENTRIES = {
    "missing": (
        lambda e: {k: x for k, x in e.items() if k not in ("t", "ro")},
        "t is missing\n  ro is missing",
    ),
    "None": (lambda e: {**e, "d": None}, "d is missing"),
    "unexpected": (lambda e: {**e, "exp_avg": e["d"]}, "exp_avg is unexpected"),
    "another optimizer": (lambda e: {"step": 3, "exp_avg": e["d"]}, "n_iter is missing"),
    "length": (lambda e: {**e, "d": e["d"][:4]}, r"d has shape \(4,\), for these params it is \(5,\)"),
    "row": (lambda e: {**e, "old_dirs": [e["d"], e["d"][:1]]}, r"old_dirs\[1\] has shape \(1,\)"),
    "number": (lambda e: {**e, "t": e["d"]}, r"t has shape \(5,\), for these params it is \(\)"),
    "text": (lambda e: {**e, "t": "half"}, "t is .*, not float64"),
    "fraction": (lambda e: {**e, "n_iter": 1.5}, "n_iter is float64, not int32"),
    "pairs": (lambda e: {**e, "ro": e["ro"][:1]}, "'old_dirs': 3, 'old_stps': 3, 'ro': 1"),
    "no list": (lambda e: {**e, "ro": e["d"]}, "ro is a ndarray, not a list"),
    "too many": (
        lambda e: {**e, **{k: e[k] * 2 for k in ("old_dirs", "old_stps", "ro")}},
        "ro has 6 entries, history_size is 3",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_a_state_that_does_not_fit_is_refused(change: Any, message: str, x64) -> None:
    good, state = entries()
    with pytest.raises(ValueError, match=message) as error:
        from_torch_state(change(good), state)
    assert "nothing was loaded" in str(error.value)


# --- as a transformation ----------------------------------------------------------------------------


def test_numbers_are_traced_and_scheduled(x64) -> None:
    """A schedule of lr is a new lr at each step, and one program serves all numbers."""
    problem, step = PROBLEMS["quadratic"], stepper(quadratic)
    theirs, (tx, params, state) = Torch(problem, max_iter=3), ours(problem, lr=1.0, max_iter=3)
    schedule, scheduled, held = ours(problem, lr=lambda count: 0.1 / (1 + count), max_iter=3)
    assert held._fields == ("count", "inner_state")
    step(tx, params, state)
    programs = step._cache_size()
    for i in range(5):
        theirs.optimizer.param_groups[0].update(lr=0.1 / (1 + i))
        theirs.step()
        params, state = step(tx.replace(lr=0.1 / (1 + i), tolerance_grad=1e-9 * i), params, state)
        scheduled, held = step(schedule, scheduled, held)
        assert_same_params(params, theirs.params)
        assert_same_params(scheduled, theirs.params)
    assert step._cache_size() == programs + 1  # that of the schedule


@pytest.mark.parametrize("options", [{"history_size": 3}, SHORT], ids=str)
def test_vmap_over_lr_is_a_loop(options: dict[str, Any], x64) -> None:
    tx, params, state = ours(PROBLEMS["logistic"], **options)
    lrs = np.array([0.3, 1.0])
    sweep = jax.vmap(lambda lr: lbfgs(lr, **options))(lrs)
    step = jax.jit(jax.vmap(stepper(logistic), in_axes=(0, None, None)))
    together, states = step(sweep, params, state)
    for i, lr in enumerate(lrs):
        alone, state_alone = stepper(logistic)(tx.replace(lr=float(lr)), params, state)
        assert_same_params(jax.tree.map(lambda x, i=i: x[i], together), alone)
        assert_same_state(jax.tree.map(lambda x, i=i: x[i], states), to_torch_state(state_alone))


def complex_bowl(lib: Any, p: Any) -> Any:
    z = p["z"] - lib.asarray(np.array([1 + 2j, -0.5j]))
    return (lib.real(z) ** 2 + 3 * lib.imag(z) ** 2 + lib.real(z) * lib.imag(z)).sum() + (p["x"] - 1) ** 2


def test_complex_params_are_pairs(x64) -> None:
    problem = Problem(complex_bowl, {"x": np.array(0.5), "z": np.array([0.5 - 1j, 2.0])})
    theirs, (tx, params, state) = Torch(problem, **WOLFE), ours(problem, **WOLFE)
    for _ in range(3):
        params, state = stepper(complex_bowl)(tx, params, state)
        theirs.step()
        assert_same_params(params, theirs.params)
        assert_same_state(state, theirs.state)


def mixed(lib: Any, p: Any) -> Any:
    return ((p["a"] - 1) ** 2).sum() + 3 * ((p["b"] + 2) ** 2).sum() + p["a"].sum() * p["b"].sum() / 9


def test_params_of_mixed_dtypes_travel_in_the_promoted_one(x64) -> None:
    """A float32 param moves in its own precision: equal to PyTorch's within two of its roundings."""
    start = {"a": RNG.normal(size=3).astype(np.float32), "b": RNG.normal(size=2)}
    theirs, (tx, params, state) = Torch(Problem(mixed, start), lr=0.1), ours(Problem(mixed, start), lr=0.1)
    for _ in range(3):
        params, state = stepper(mixed)(tx, params, state)
        theirs.step()
    assert state.d.dtype == jnp.float64 and params["a"].dtype == jnp.float32
    assert_same_params(params, theirs.params, bound=3e-7)


def test_float32_is_torchs() -> None:
    """As near to float64 as PyTorch is, and some ten roundings of the displacement."""
    start = {"x": np.ones(5, np.float32)}
    problem = Problem(lambda lib, p: ((p["x"] - lib.arange(5)) ** 2 * (1 + lib.arange(5))).sum(), start)
    theirs, (tx, params, state) = Torch(problem, max_iter=5, **WOLFE), ours(problem, max_iter=5, **WOLFE)
    exact = Torch(problem, torch.float64, max_iter=5, **WOLFE)
    for _ in range(2):
        params, state = stepper(problem.f)(tx, params, state)
        theirs.step()
        exact.step()
    found = [[leaf.detach().numpy() for leaf in run.leaves] for run in (theirs, exact)]
    assert_no_further([params["x"]], *found, scale=furthest(found[1], [start["x"]]), ulps=5)
    assert int(state.func_evals) == theirs.state["func_evals"]


def test_half_precision_params_have_a_float32_state() -> None:
    params = {"a": jnp.ones(3, jnp.bfloat16)}
    tx = lbfgs()
    step = jax.jit(lambda p, s: tx.update(p, s, p, value_fn=lambda p: mixed(jnp, {**p, "b": jnp.ones(2)})))
    updates, state = step(params, tx.init(params))
    assert state.d.dtype == jnp.float32 and updates["a"].dtype == jnp.bfloat16
    best = 1 - 2 / 18  # where 2·(a − 1) + 2/9 = 0
    np.testing.assert_allclose(np.asarray(params["a"] + updates["a"], np.float32), best, rtol=2**-8)


def test_a_param_without_update_stays(x64) -> None:
    """As in PyTorch, where a grad of None counts as 0."""
    problem = PROBLEMS["beale"]
    tx, params, state = ours(problem, **WOLFE)
    theirs = Torch(problem, **WOLFE)
    theirs.leaves[1].requires_grad_(False)
    value_fn = lambda p: beale(jnp, p)  # noqa: E731
    step = jax.jit(lambda params, state: tx.update({**params, "y": None}, state, params, value_fn=value_fn))
    updates, state = step(params, state)
    theirs.step()
    assert updates["y"] is None
    np.testing.assert_allclose(params["x"] + updates["x"], theirs.params["x"], rtol=1e-12)
    assert_same_state(state, theirs.state)


@pytest.mark.parametrize("params", [{}, {"x": jnp.zeros((0, 3))}], ids=str)
def test_nothing_to_update(params: Any) -> None:
    updates, state = lbfgs().update(params, lbfgs().init(params), params, value_fn=lambda p: jnp.sum(0.0))
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert (int(state.func_evals), int(state.n_iter)) == (1, 0)


def test_init_reads_shapes_alone() -> None:
    shapes = {"w": jax.ShapeDtypeStruct((2, 3), jnp.float32), "z": jax.ShapeDtypeStruct((2,), jnp.complex64)}
    state = lbfgs(history_size=4).init(shapes)
    assert (state.old_dirs.shape, state.old_dirs.dtype) == ((4, 10), jnp.float32)


MISTAKES = {
    "line search": (lambda: lbfgs(line_search_fn="armijo"), RuntimeError, "only 'strong_wolfe' is supported"),
    "lr": (lambda: lbfgs(lr=-1), ValueError, "Invalid learning rate: -1"),
    "history": (lambda: lbfgs(history_size=0), ValueError, r"history_size must lie in \[1, inf\], got 0"),
    "value_fn": (
        lambda: lbfgs().update(1.0, lbfgs().init(1.0), 1.0),
        TypeError,
        r"lbfgs needs value_fn: call update\(grads, state, params, value_fn=...\)",
    ),
    "params": (lambda: lbfgs().update(1.0, lbfgs().init(1.0), value_fn=abs), TypeError, "lbfgs needs params"),
    "a vector": (
        lambda: lbfgs().update(1.0, lbfgs().init(1.0), 1.0, value_fn=lambda x: jnp.ones(2)),
        TypeError,
        "scalar-output",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


EDITS = [{"max_iter": 2}, {"line_search_fn": "strong_wolfe"}, {"lr": -0.01}, {"max_iter": 6, "lr": 0.5}]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_in_mid_run_keeps_the_history(edit: dict[str, Any], x64) -> None:
    start = np.array([3.0, -1.0, 0.5])
    param = torch.nn.Parameter(torch.tensor(start))
    options = {"lr": 0.3, "max_iter": 4, "history_size": 5}
    theirs, ours = torch.optim.LBFGS([param], **options), LBFGS([jnp.asarray(start)], **options)

    def closure() -> torch.Tensor:
        theirs.zero_grad()
        loss = ((param - 1) ** 4 + param**2).sum()
        loss.backward()
        return loss

    def same(params: Any) -> Any:
        return jnp.sum((params[0] - 1) ** 4 + params[0] ** 2)

    for k in range(4):
        if k == 2:
            theirs.param_groups[0].update(edit)
            ours.param_groups[0].update(edit)
        theirs.step(closure)
        ours.step(same)
        np.testing.assert_allclose(ours.params[0], param.detach().numpy(), rtol=1e-11, atol=1e-12)


def test_of_a_history_that_is_made_shorter_the_newest_stays(x64) -> None:
    optimizer = LBFGS([jnp.array([3.0, -1.0])], lr=0.3, max_iter=6, history_size=5)

    def loss(params: Any) -> Any:
        return jnp.sum((params[0] - 1) ** 4)

    optimizer.step(loss)
    newest = optimizer.state_dict()["state"][0]["old_dirs"][-1]
    optimizer.param_groups[0].update(history_size=2, max_iter=0)
    optimizer.step(loss)
    kept = optimizer.state_dict()["state"][0]["old_dirs"]
    assert len(kept) == 2
    np.testing.assert_array_equal(kept[-1], newest)
