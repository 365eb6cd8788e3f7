"""``python -m gradtx``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import gradtx
from gradtx.__main__ import run
from gradtx.explaining.catalogue import optimizers

TX = gradtx.adamw(gradtx.linear_schedule(0.0, 1e-3, 10))


def test_every_optimizer_is_listed_with_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    names = [one.name for one in optimizers()]
    assert {"adamw", "sgd", "lbfgs", "muon", "contrib.galore", "torch.optim.adam"} <= set(names)
    assert len(set(names)) == len(names) and "scale_by_adam" not in names and "schedule" not in names
    assert run(["list", "*adamw"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    found = {line.split()[0]: float(line.split()[1]) for line in lines}
    assert found["adamw"] == 8 and found["contrib.dadapt_adamw"] == 12 and "sgd" not in found
    assert head.split() == ["optimizer", "bytes", "source"] and "arXiv:1711.05101" in "".join(lines)


@pytest.mark.parametrize("form", [json, yaml], ids=["json", "yaml"])
def test_a_config_is_shown(form: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"config.{form.__name__}"
    path.write_text(
        form.dumps(gradtx.to_config(TX)) if form is json else form.safe_dump(gradtx.to_config(TX))
    )
    assert run(["show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(repr(TX)) and "2. add_decayed_weights" in shown
    assert run(["plot", str(path)], steps=20, out=str(tmp_path / "new" / "x.png")) == 0
    assert (tmp_path / "new" / "x.png").read_bytes().startswith(b"\x89PNG")


def test_slots_in_codes_become_plain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = {"w": jnp.linspace(0.1, 1.0, 8192).reshape(64, 128)}
    formats = {"mu": gradtx.formats.companded(), "nu": gradtx.formats.square_root()}
    stored, plain = gradtx.stored(gradtx.adam(0.1), formats), gradtx.adam(0.1)
    _, state = stored.update(params, stored.init(params), params)
    old, new = tmp_path / "old.npz", tmp_path / "new.npz"
    np.savez(old, **gradtx.state_dict(stored, state))
    assert run(["convert", str(old)], out=str(new)) == 0
    assert capsys.readouterr().out.endswith("3 entries, 2 of them were in codes\n")
    with np.load(new) as entries:
        loaded = gradtx.load_state_dict(plain, plain.init(params), entries)
    assert np.array_equal(loaded[0].mu["w"], state[0].mu["w"].decode()) and int(loaded[0].count) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["list", "nothing"], "no optimizer is called 'nothing'"),
        (["show", "nothing.yaml"], "nothing.yaml: there is no such file, and no optimizer of this name"),
        (["plot", "sgd"], "no number of sgd is scheduled"),
        (["convert", "old.npz"], "say where the result goes: --out new.npz"),
        (["show"], "missing 1 required positional argument"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, steps=10, out="" if arguments[0] == "convert" else str(tmp_path / "x.png")) == 1
    assert problem in capsys.readouterr().err


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gradtx", "list", "sg?"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1].startswith("sgd ")
    nothing = subprocess.run(command[:3], capture_output=True, text=True, check=False)
    assert nothing.returncode == 2 and "python -m gradtx show config.yaml" in nothing.stderr
