"""Files that earlier versions wrote load, and the run goes on with the same numbers.

`tests/old_files` has a folder for each version, and the script that wrote them.
"""

import json
import pickle
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx.torch import optim
from tests.laws import assert_same_layout
from tests.old_files import write

FOLDERS = sorted(file.parent for file in Path(__file__).parent.glob("old_files/*/configs.json"))


def from_config(folder: Path, name: str) -> Any:
    return gradtx.from_config(json.loads((folder / "configs.json").read_text())[name])


def from_pickle(folder: Path, name: str) -> tuple[Any, Any]:
    return pickle.loads((folder / "pickle" / f"{name}.pickle").read_bytes())


OLD = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
NAMES = pytest.mark.parametrize("name", write.CASES)
# `inject_hyperparams` has recorded the first number of a schedule, and records the schedule: another value of
# the same updates, for which the tests of runs stand.
SAME = pytest.mark.parametrize("name", [name for name in write.CASES if name != "inject_hyperparams"])


@OLD
@SAME
def test_an_old_config_is_the_same_value(folder: Path, name: str) -> None:
    tx, expected = from_config(folder, name), write.CASES[name]()
    assert tx == expected and repr(tx) == repr(expected)


@OLD
@SAME
def test_an_old_pickle_is_the_same_value(folder: Path, name: str, x64: None) -> None:
    tx, expected = from_pickle(folder, name)[0], write.CASES[name]()
    assert tx == expected and repr(tx) == repr(expected)


@OLD
@NAMES
def test_a_run_goes_on_from_a_state_dict(folder: Path, name: str, x64: None) -> None:
    tx = from_config(folder, name)
    with np.load(folder / "states.npz") as states:
        kept = {key.removeprefix(f"{name}:"): x for key, x in states.items() if key.startswith(f"{name}:")}
    goes_on(folder, name, tx, gradtx.load_state_dict(tx, tx.init(write.params()), kept))


@OLD
@NAMES
def test_a_run_goes_on_from_bytes_of_flax(folder: Path, name: str, x64: None) -> None:
    tx = write.CASES[name]()
    kept = (folder / "flax" / f"{name}.msgpack").read_bytes()
    goes_on(folder, name, tx, flax.serialization.from_bytes(tx.init(write.params()), kept))


@OLD
@NAMES
def test_a_run_goes_on_from_a_pickle(folder: Path, name: str, x64: None) -> None:
    goes_on(folder, name, *from_pickle(folder, name))


@OLD
def test_a_class_of_torch_goes_on_from_an_old_state_dict(folder: Path, x64: None) -> None:
    with np.load(folder / "numbers.npz") as numbers:
        optimizer = optim.Adam(write.like_params(numbers["torch_class:params"]), lr=0.5)
        optimizer.load_state_dict(pickle.loads((folder / "torch_class.pickle").read_bytes()))
        for step in range(write.EARLY, write.EARLY + write.LATE):
            params = optimizer.step(write.grads(step))
            assert_equal(write.flat(params), numbers[f"torch_class:params {step}"])


def goes_on(folder: Path, name: str, tx: Any, state: Any) -> None:
    """The next updates are those that the old version made."""
    state = jax.tree.map(jnp.asarray, state)
    assert_same_layout(state, tx.init(write.params()))
    with np.load(folder / "numbers.npz") as numbers:
        params = write.like_params(numbers[f"{name}:params"])
        for step in range(write.EARLY, write.EARLY + write.LATE):
            updates, state = tx.update(write.grads(step), state, params)
            assert_equal(write.flat(updates), numbers[f"{name}:update {step}"])


def assert_equal(a: np.ndarray, b: np.ndarray) -> None:
    """1e-12: compilers and the order of sums change the last digits, which Muon's products enlarge."""
    assert a.dtype == b.dtype == np.float64
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
