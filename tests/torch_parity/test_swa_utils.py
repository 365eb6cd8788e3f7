"""Averaged weights and recomputed batch statistics beside PyTorch's."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from gradtx.torch.optim import swa_utils

THEIRS = torch.optim.swa_utils
RNG = np.random.default_rng(2)
STEPS = [
    {"w": RNG.normal(size=(3, 2)), "b": RNG.normal(size=2), "k": RNG.integers(-50, 50, 5)} for _ in range(5)
]


class Params(torch.nn.Module):
    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__()
        for name, x in arrays.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(x), requires_grad=False))


AVERAGES: dict[str, Any] = {
    "default": lambda m: {},
    "swa": lambda m: {"avg_fn": m.get_swa_avg_fn()},
    "ema": lambda m: {"avg_fn": m.get_ema_avg_fn(0.75)},
    "ema, multi": lambda m: {"multi_avg_fn": m.get_ema_multi_avg_fn(0.75)},
    "ema, copying": lambda m: {"avg_fn": m.get_ema_avg_fn(0.0)},
    "ema, frozen": lambda m: {"multi_avg_fn": m.get_ema_multi_avg_fn(1)},
    "own": lambda m: {"avg_fn": lambda averaged, current, n: averaged + (current - averaged) / (2 * n)},
}


@pytest.mark.parametrize("options", AVERAGES.values(), ids=AVERAGES.keys())
def test_averages_are_torch(options, x64) -> None:
    """After each of five updates, within 1e-12; integers, rounded towards 0, exactly. (0.75 and its
    complement are exact, so that no rounding of PyTorch's float32 decides an integer.)"""
    mine = swa_utils.AveragedModel(STEPS[0], **options(swa_utils))
    reference = THEIRS.AveragedModel(Params(STEPS[0]), **options(THEIRS))
    for arrays in STEPS:
        mine.update_parameters(arrays)
        reference.update_parameters(Params(arrays))
        expected = {name: x.numpy() for name, x in reference.state_dict().items()}
        found = mine.state_dict()
        assert found.keys() == expected.keys()
        for name, x in found.items():
            np.testing.assert_allclose(x, expected[name], rtol=1e-12, err_msg=name)


def test_the_mean_of_lists_is_exact_where_that_of_torch_is_not(x64) -> None:
    """PyTorch's `get_swa_multi_avg_fn` has 1 / (n + 1) in float32, and refuses integers."""
    mine = swa_utils.AveragedModel(STEPS[0]["w"], multi_avg_fn=swa_utils.get_swa_multi_avg_fn())
    w = Params({"w": STEPS[0]["w"]})
    reference = THEIRS.AveragedModel(w, multi_avg_fn=THEIRS.get_swa_multi_avg_fn())
    for arrays in STEPS:
        mine.update_parameters(arrays["w"])
        reference.update_parameters(Params({"w": arrays["w"]}))
    np.testing.assert_allclose(mine.module, np.mean([arrays["w"] for arrays in STEPS], 0), rtol=1e-12)
    np.testing.assert_allclose(mine.module, reference.module.w, rtol=1e-6)
    assert mine.state_dict().keys() == {"n_averaged", "module"}


def test_the_model_is_copied_and_the_average_keeps_its_dtypes() -> None:
    model = {
        "half": jnp.ones(3, jnp.bfloat16),
        "absent": None,
        "mask": jnp.array([True]),
        "key": jax.random.key(0),
    }
    average = swa_utils.AveragedModel(model)
    for _ in range(3):
        average.update_parameters(model)
    assert jax.tree.map(lambda x: x.dtype, average.module) == jax.tree.map(lambda x: x.dtype, model)
    assert not any(x.is_deleted() for x in jax.tree.leaves(model))
    assert int(average.n_averaged) == 3


def test_half_precision_is_averaged_in_float32() -> None:
    """The mean of 1, 1, 1, 1 and the next bfloat16 is 1; each rounding of its own would move it."""
    seen = []

    def mean(averaged, current, n):
        seen.append((averaged.dtype, current.dtype))
        return swa_utils.get_swa_avg_fn()(averaged, current, n)

    average = swa_utils.AveragedModel(jnp.ones(1, jnp.bfloat16), avg_fn=mean)
    for x in (1, 1, 1, 1, 1.0078125):
        average.update_parameters(jnp.full(1, x, jnp.bfloat16))
    assert (average.module, average.module.dtype, seen) == (1.0, jnp.bfloat16, [(jnp.float32, jnp.float32)])


def test_an_update_is_one_program_that_reuses_the_memory() -> None:
    params = {"w": jnp.ones(1000), "b": jnp.ones(3)}
    average = swa_utils.AveragedModel(params, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    average.update_parameters(params)
    before, compiled = average.module["w"], swa_utils._update.by_value._cache_size()
    for _ in range(3):
        average.update_parameters(params)
    again = swa_utils.AveragedModel(params, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    again.update_parameters(params)
    assert before.is_deleted()
    assert swa_utils._update.by_value._cache_size() == compiled


def test_a_device_can_be_chosen() -> None:
    device = jax.devices()[1]
    average = swa_utils.AveragedModel({"w": jnp.zeros(3)}, device=device)
    average.update_parameters({"w": jnp.ones(3)})
    average.update_parameters({"w": jnp.full(3, 2.0)})
    assert average.module["w"].devices() == {device}
    np.testing.assert_array_equal(average.module["w"], 1.5)


# --- modules of flax nnx ----------------------------------------------------------------------------


class Net(nnx.Module):
    def __init__(self, seed: int):
        rngs = nnx.Rngs(seed)
        self.hidden = nnx.Linear(3, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.dropout(self.norm(self.hidden(x))))


def torch_net(net: Net) -> torch.nn.Module:
    """The same network with the same weights, without the dropout that follows the statistics."""
    hidden, norm = torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5)
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor(np.array(net.hidden.kernel[...]).T))
        hidden.bias.copy_(torch.tensor(np.array(net.hidden.bias[...])))
    return torch.nn.Sequential(hidden, norm)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_nnx_module_is_averaged(use_buffers: bool) -> None:
    models = [Net(seed) for seed in range(3)]
    for i, model in enumerate(models):
        model.norm.mean[...] = jnp.full(5, 10.0 * i)
    average = swa_utils.AveragedModel(models[0], use_buffers=use_buffers)
    for model in models:
        average.update_parameters(model)
    kernels = [np.array(model.hidden.kernel[...]) for model in models]
    np.testing.assert_allclose(average.module.hidden.kernel[...], np.mean(kernels, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(average.module.norm.mean[...], 10.0 if use_buffers else 20.0)
    assert average.module is not models[0]
    np.testing.assert_array_equal(models[0].hidden.kernel[...], kernels[0])
    average.module.eval()
    assert average(jnp.ones((4, 3))).shape == (4, 2)
    assert sorted(average.state_dict()) == [
        *("module.hidden.bias", "module.hidden.kernel", "module.norm.bias", "module.norm.mean"),
        *("module.norm.scale", "module.norm.var", "module.out.bias", "module.out.kernel", "n_averaged"),
    ]


@pytest.mark.parametrize(
    "make", [lambda i: Net(i), lambda i: {"w": jnp.full(3, 1.0 + i)}], ids=["nnx", "tree"]
)
def test_an_average_goes_on_after_it_was_saved(make) -> None:
    one, other = swa_utils.AveragedModel(make(0)), swa_utils.AveragedModel(make(9))
    one.update_parameters(make(1))
    one.update_parameters(make(2))
    saved = {name: torch.tensor(np.array(x)) for name, x in one.state_dict().items()}
    other.load_state_dict(saved)
    for average in (one, other):
        average.update_parameters(make(3))
    for (name, x), y in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)


def test_weights_of_an_average_may_be_put_into_the_model_and_back() -> None:
    """As one evaluates an average in the place of the weights: nobody's memory is reused under them."""
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    average = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    average.update_parameters(model)
    nnx.update(model, nnx.state(average.module))
    mine = jnp.zeros((3, 2))
    average.module.bias[...] = jnp.full(2, 4.0)
    average.module.kernel[...] = mine
    for _ in range(2):
        average.update_parameters(model)
    kernel = np.array(model.kernel[...])
    np.testing.assert_array_equal(mine, 0)
    np.testing.assert_allclose(average.module.kernel[...], 0.75 * kernel, rtol=1e-6)
    np.testing.assert_allclose(average.module.bias[...], 1.0)
    tree = {"w": jnp.ones(2)}
    average = swa_utils.AveragedModel(tree)
    average.module = tree
    average.update_parameters(tree)
    average.update_parameters({"w": average.module["w"]})
    np.testing.assert_array_equal(tree["w"], 1)


def test_an_average_is_set_to_train_and_to_eval() -> None:
    average = swa_utils.AveragedModel(Net(0))
    assert average.eval() is average
    norm, dropout = average.module.norm, average.module.dropout
    assert norm.use_running_average and dropout.deterministic
    assert average.train() is average and not norm.use_running_average and not dropout.deterministic
    average.train(False)
    assert norm.use_running_average and average(jnp.ones((4, 3))).shape == (4, 2)
    tree = swa_utils.AveragedModel({"w": jnp.ones(2)})
    assert tree.eval() is tree


BATCHES = [RNG.normal(size=(8, 3)).astype(np.float32) * (i + 1) for i in range(3)]
SHORTER = [*BATCHES, RNG.normal(size=(4, 3)).astype(np.float32)]


def variances_of(net: Net, batch: np.ndarray) -> tuple[np.ndarray, int]:
    """The variance of the features of one batch as Flax has it, and how many values each has."""
    hidden = np.float64(batch) @ np.float64(net.hidden.kernel[...]) + np.float64(net.hidden.bias[...])
    return hidden.var(0), len(batch)


def test_batch_statistics_are_torch_times_the_share_that_flax_leaves_out() -> None:
    """The means are PyTorch's. Its variances are those over n - 1: n / (n - 1) times Flax's, in each
    batch, and so in the whole where all batches have one length. In float32, within 1e-5."""
    for batches in (BATCHES, SHORTER):
        net = Net(0)
        reference = torch_net(net)
        THEIRS.update_bn([torch.tensor(x) for x in batches], reference)
        swa_utils.update_bn(batches, net)
        norm = reference[1]
        np.testing.assert_allclose(net.norm.mean[...], norm.running_mean, rtol=1e-5, atol=1e-6)
        pairs = [variances_of(net, batch) for batch in batches]
        np.testing.assert_allclose(net.norm.var[...], np.mean([v for v, _ in pairs], 0), rtol=1e-5)
        unbiased = np.mean([v * n / (n - 1) for v, n in pairs], 0)
        np.testing.assert_allclose(norm.running_var, unbiased, rtol=1e-5)
        if batches is BATCHES:
            np.testing.assert_allclose(net.norm.var[...] * (8 / 7), norm.running_var, rtol=1e-5)


def test_update_bn_leaves_the_rest_as_it_was() -> None:
    net = Net(0)
    net.eval()
    net.dropout.deterministic = False
    net.norm.momentum = 0.7
    kernel = np.array(net.hidden.kernel[...])
    average = swa_utils.AveragedModel(net)
    swa_utils.update_bn(((x, "label") for x in BATCHES), average, device=jax.devices()[0])
    after = average.module
    assert (after.norm.use_running_average, after.dropout.deterministic, after.norm.momentum) == (
        True,
        False,
        0.7,
    )
    np.testing.assert_array_equal(after.hidden.kernel[...], kernel)
    np.testing.assert_array_equal(net.norm.mean[...], 0)
    assert np.any(after.norm.mean[...] != 0)


def test_update_bn_on_nothing_starts_anew() -> None:
    """As in PyTorch; and modes come back when a batch fails."""
    net = Net(0)
    net.eval()
    net.norm.mean[...] = jnp.ones(5)
    swa_utils.update_bn([], net)
    np.testing.assert_array_equal(net.norm.mean[...], 0)
    np.testing.assert_array_equal(net.norm.var[...], 1)
    with pytest.raises(Exception, match="shape"):
        swa_utils.update_bn([np.ones((2, 4), np.float32)], net)
    assert net.norm.use_running_average
    without = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    swa_utils.update_bn([np.ones((2, 99))], without)  # there are no statistics, so nothing is called


# --- bad input --------------------------------------------------------------------------------------

TREE = {"w": np.zeros(2)}
BAD = [
    (
        lambda m, model: m.AveragedModel(model, None, m.get_swa_avg_fn(), m.get_swa_multi_avg_fn()),
        AssertionError,
        "Only one of avg_fn and multi_avg_fn should be provided",
    ),
    (
        lambda m, model: m.get_ema_avg_fn(1.1),
        ValueError,
        "Invalid decay value 1.1 provided. Please provide a value in [0,1] range.",
    ),
    (lambda m, model: m.get_ema_multi_avg_fn(-0.1), ValueError, "Invalid decay value -0.1 provided."),
    (
        lambda m, model: m.AveragedModel(model).load_state_dict({"x": torch.tensor(1)}),
        RuntimeError,
        'Unexpected key(s) in state_dict: "x"',
    ),
    (
        lambda m, model: m.AveragedModel(model).load_state_dict({"n_averaged": torch.tensor(1)}),
        RuntimeError,
        'Error(s) in loading state_dict for AveragedModel:\n\tMissing key(s) in state_dict: "module.w". ',
    ),
    (
        lambda m, model: m.AveragedModel(model).load_state_dict(
            {"n_averaged": torch.tensor(1), "module.w": torch.zeros(3)}
        ),
        RuntimeError,
        "size mismatch for module.w: copying a param with shape",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_errors_are_torch(call, error, text) -> None:
    for module, model in ((THEIRS, Params(TREE)), (swa_utils, TREE)):
        with pytest.raises(error, match=re.escape(text)):
            call(module, model)


def test_a_failed_load_changes_nothing() -> None:
    average = swa_utils.AveragedModel({"a": jnp.ones(2), "b": jnp.ones(2)})
    with pytest.raises(RuntimeError):
        average.load_state_dict({"n_averaged": 7, "module.a": np.zeros(2), "module.b": np.zeros(3)})
    assert int(average.n_averaged) == 0
    np.testing.assert_array_equal(average.module["a"], 1)
    average.load_state_dict({"n_averaged": 7, "module.a": np.zeros(2)}, strict=False)
    assert int(average.n_averaged) == 7
    np.testing.assert_array_equal(average.module["b"], 1)


def test_errors_name_the_path() -> None:
    with pytest.raises(TypeError, match=r"AveragedModel: \['f'\] is a function, not an array"):
        swa_utils.AveragedModel({"w": jnp.ones(2), "f": lambda x: x})
    average = swa_utils.AveragedModel({"w": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"the averages have no \['v'\], the params do"):
        average.update_parameters({"w": jnp.ones(2), "v": jnp.ones(2)})
    with pytest.raises(
        ValueError, match=r"\['w'\]: the average has shape \(2,\), the param has shape \(3,\)"
    ):
        average.update_parameters({"w": jnp.ones(3)})
    with pytest.raises(TypeError, match="update_bn takes a flax nnx module, got dict"):
        swa_utils.update_bn([], {"w": jnp.ones(2)})
    in_place = swa_utils.AveragedModel({"w": jnp.ones(2)}, multi_avg_fn=lambda averaged, current, n: None)
    with pytest.raises(TypeError, match="multi_avg_fn must return the list of new averages"):
        in_place.update_parameters({"w": jnp.ones(2)})


def test_paths_that_print_alike_are_saved_apart() -> None:
    average = swa_utils.AveragedModel({"a": {"b": jnp.ones(1)}, "a.b": jnp.zeros(1), "c": [jnp.ones(2)]})
    saved = average.state_dict()
    assert list(saved) == ["n_averaged", "module.['a']['b']", "module.['a.b']", "module.c.0"]
    average.load_state_dict({**saved, "module.['a.b']": jnp.full(1, 5.0)})
    assert (average.module["a"]["b"], average.module["a.b"]) == (1, 5)
