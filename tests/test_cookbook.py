"""The cookbook: every script has its page, and every page its script, its place and its words."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(page for page in (ROOT / "docs/cookbook").glob("*.md") if page.stem != "index")
SCRIPTS = sorted(script for script in (ROOT / "examples/cookbook").glob("*.py") if not script.is_symlink())
INCLUDED = re.compile(r'--8<-- "([\w/.]+\.py)(?::(\w+))?"')

WORDS = {
    "accumulation": "gradient accumulation",
    "checkpoint": "checkpoint resume orbax",
    "clipping": "gradient clipping norm log",
    "early_stopping": "early stopping plateau",
    "ema": "ema weights",
    "equinox": "equinox",
    "finetuning": "fine-tuning frozen lora",
    "hypergradients": "hypergradients",
    "keras": "keras fit",
    "layerwise_decay": "layer-wise learning-rate decay",
    "learning_rate": "log learning rate",
    "loss_scaling": "loss scaling mixed precision",
    "no_decay": "weight decay biases norms",
    "numpyro": "numpyro svi",
    "optimistix": "optimistix",
    "reinforcement_learning": "reinforcement learning scan vmap",
    "resize": "resize reset state pruning vocabulary",
    "schedules": "learning-rate warmup cosine restarts",
    "sweep": "sweep learning rate weight decay",
}
"""What people type; the search ranks a page by its title first."""


def test_every_page_has_its_words() -> None:
    assert sorted(WORDS) == [page.stem for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_its_script(page: Path) -> None:
    text = page.read_text()
    included = INCLUDED.findall(text)
    (script,) = {file for file, _ in included}
    sections = [section for _, section in included]
    assert sections[-1] == "" and len(sections) > 1
    marked = re.findall(r"# --8<-- \[(start|end):(\w+)\]", (ROOT / script).read_text())
    assert sorted(marked) == sorted((end, section) for section in sections[:-1] for end in ("start", "end"))
    title = re.search(r"^# (.*)$", text, re.MULTILINE).group(1).lower()
    assert [word for word in WORDS[page.stem].split() if word not in title] == []
    assert re.match(r"---\nsearch:\n  boost: [1-4]\n---\n", text)
    assert f"({page.name})" in (ROOT / "docs/cookbook/index.md").read_text()
    assert f"- cookbook/{page.name}\n" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_can_fail_and_has_a_page(script: Path) -> None:
    text = script.read_text()
    assert f"python examples/cookbook/{script.name}" in text
    assert re.search(r"^ *assert ", text, re.MULTILINE)
    assert any(f'"examples/cookbook/{script.name}"' in page.read_text() for page in PAGES)
