"""One optimizer on one tree, in a process of its own: its rows as lines of JSON. `run.py` starts these.

python benchmarks/one.py --case adamw --tree "gpt2 (148 leaves)" --measures step,trace
"""

import dataclasses
import json

import report
from absl import app, flags
from measures import MEASURES
from setting import EFFORTS, Setting

CASE = flags.DEFINE_string("case", "adamw", "the optimizer")
TREE = flags.DEFINE_string("tree", "gpt2 (148 leaves)", "the params")
MEASURES_WANTED = flags.DEFINE_list("measures", ["step"], "what is measured")
LEVEL = flags.DEFINE_enum("level", "default", list(EFFORTS), "how many repetitions")
SURROUNDINGS = flags.DEFINE_bool("surroundings", False, "print the machine and the versions instead")


def main(_: list[str]) -> None:
    if SURROUNDINGS.value:
        print(json.dumps(report.surroundings()))
        return
    setting = Setting(CASE.value, TREE.value, LEVEL.value)
    for name, measure in MEASURES.items():
        for row in measure(setting) if name in MEASURES_WANTED.value else ():
            print(json.dumps(dataclasses.asdict(row)), flush=True)


if __name__ == "__main__":
    app.run(main)
