"""Train the runs that the lessons talk about, and write one json for each into this folder.

python results/make.py             all runs that have no json yet
python results/make.py no-lj       this run, again

Each run takes minutes on two processor cores. The weights of `class` are the ones that come with the package.
"""
import json, platform, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

import torch

from genae.automodulator import RECIPES, Automodulator, train
from genae.cli import measure, write_pictures
from genae.data import toyfaces

HERE = Path(__file__).resolve().parent
CLASS, STEPS = RECIPES["class"], 3000
RUNS = { # name: recipe, settings of the model
    "class": (CLASS, {}),
    "no-lj": (replace(CLASS, lambda_j=0.), {}),
    "no-joint": (replace(CLASS, lambda_joint=0.), {}),
    "code-64": (replace(CLASS, lambda_joint=0.), dict(code=64)),
    "paper": (replace(RECIPES["paper"], batch=CLASS.batch), {}),
    "untrained": (None, {}),
}


def commit():
    return subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()


def run(name, size=16, seed=0):
    recipe, settings = RUNS[name]
    training, held_out = toyfaces(4096, size, seed).split(512)
    start = time.time()
    if recipe is None:
        torch.manual_seed(seed)
        model = Automodulator(size, **settings).eval()
        model.about, model.log = dict(recipe=None, steps=0, seed=seed), []
    else: model = train(training, recipe, STEPS, seed=seed, **settings)
    hardware = dict(machine=platform.machine(), threads=torch.get_num_threads(), torch=torch.__version__)
    about = dict(name=name, commit=commit(), settings=model.settings, **model.about, pictures=len(training),
                 hardware=hardware, minutes=round((time.time() - start) / 60, 2), numbers=measure(model, held_out))
    (HERE / f"{name}.json").write_text(json.dumps(about | dict(log=model.log), indent=1) + "\n")
    write_pictures(model, held_out.batch(torch.arange(16)), HERE.parent / "demo" / name)
    if name == "class": model.save(HERE.parent / "genae" / "weights" / "automodulator_toyfaces.safetensors", **about, log=model.log)
    print(name, json.dumps({k: v for k, v in about["numbers"].items() if k != "factors"}), f"{about['minutes']} minutes", flush=True)


if __name__ == "__main__":
    names = sys.argv[1:] or [n for n in RUNS if not (HERE / f"{n}.json").exists()]
    if unknown := set(names) - set(RUNS): sys.exit(f"no run named {', '.join(sorted(unknown))}: choose from {', '.join(RUNS)}")
    for name in names: run(name)
