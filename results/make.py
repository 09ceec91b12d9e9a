"""Train the runs that the lessons talk about, and write one json for each into this folder.

python results/make.py                 all runs that have no json yet
python results/make.py toyfaces        this run, again; if it was interrupted, from its last checkpoint on

A run of `toyfaces` takes an hour or two on one processor core, one of 16 by 16 pixels minutes.
The weights of `toyfaces` are the ones that come with the package.
"""
import json, platform, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

import torch

from genae.automodulator import RECIPES, Automodulator, train
from genae.cli import measure, write_pictures
from genae.core import rng
from genae.data import toyfaces, reader
from genae.growing import Phase

HERE = Path(__file__).resolve().parent
CLASS = RECIPES["class"]
PHASES = tuple(Phase(size, images, fade, batch=32, lr=2e-3, margin=.3) for size, images, fade in [(8, 24e3, 0.), (16, 96e3, 32e3), (32, 360e3, 60e3)])
LONG = replace(CLASS, phases=PHASES, distance="robust", lambda_x=2., fall=.5, half_life=5e3)
RUNS = { # name: size, faces, recipe, pictures seen, settings of the model
    "toyfaces": (32, 16384, LONG, None, {}),
    "toyfaces-no-lj": (32, 16384, replace(LONG, lambda_j=0.), None, {}),
    "toyfaces-l1": (32, 16384, replace(LONG, distance="L1", lambda_x=10.), None, {}),
    "toyfaces-untrained": (32, 16384, None, None, {}),
}


def commit():
    return subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()


def frechet(a, b):
    "Frechet distance of two sets of features (N, d), as normal distributions."
    (m, s), (n, t) = ((f.double().mean(0), torch.cov(f.double().T)) for f in (a, b))
    values, vectors = torch.linalg.eigh(s)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return float((m - n).square().sum() + s.trace() + t.trace() - 2 * torch.linalg.eigvalsh(root @ t @ root).clamp(min=0).sqrt().sum())


def evidence(model, held_out):
    "Frechet distances in the 64 features of the factor reader, and LPIPS where its weights can be had."
    read = reader(model.size)
    features = lambda x: torch.cat([read.layers[:-1](c) for c in x.split(512)])
    n = len(held_out)
    x, drawn = held_out.batch(torch.arange(n)), torch.cat([model.sample(512, rng(k)) for k in range(n // 1024)])
    a, b, rec = features(x[:n // 2]), features(x[n // 2:]), torch.cat([model.reconstruct(c) for c in x.split(512)])
    found = dict(pictures=n // 2, frechet_samples=frechet(a, features(drawn)), frechet_two_halves_of_real=frechet(a, b), frechet_reconstructions=frechet(a, features(rec[:n // 2])))
    try:
        import lpips
        distance = lpips.LPIPS(net="alex", verbose=False).eval()
        grow = lambda p: torch.nn.functional.interpolate(p, size=64, mode="bilinear", align_corners=False)
        with torch.no_grad(): found["lpips_alex_at_64"] = float(torch.cat([distance(grow(p), grow(q)) for p, q in zip(x[:512].split(64), rec[:512].split(64))]).mean())
    except OSError as e: print(f"No LPIPS: {e}")
    return found


def run(name, seed=0):
    size, faces, recipe, pictures, settings = RUNS[name]
    held_out = toyfaces(4096, size, seed + 1)
    bank, start, folder = toyfaces(faces, size, seed), time.time(), HERE.parent / "runs" / name
    if recipe is None:
        torch.manual_seed(seed)
        model = Automodulator(size, **settings).eval()
        model.about, model.log = dict(recipe=None, steps=0, pictures_seen=0, seed=seed), []
    else: model = train(bank, recipe, pictures, seed=seed, folder=folder, **settings)
    hardware = dict(machine=platform.machine(), threads=torch.get_num_threads(), torch=torch.__version__)
    numbers = measure(model, held_out.take(torch.arange(512))) | evidence(model, held_out)
    about = dict(name=name, commit=commit(), settings=model.settings, **model.about, pictures=len(bank), hardware=hardware, minutes=round((time.time() - start) / 60, 2), numbers=numbers)
    thin = model.log[::max(1, len(model.log) // 100)]
    (HERE / f"{name}.json").write_text(json.dumps(about | dict(log=thin), indent=1) + "\n")
    write_pictures(model, held_out.batch(torch.arange(16)), folder)
    model.save(folder / "model.safetensors", **about, log=thin)
    if name == "toyfaces": model.save(HERE.parent / "genae" / "weights" / "automodulator_toyfaces.safetensors", **about, log=thin)
    print(name, json.dumps({k: v for k, v in numbers.items() if k != "factors"}), f"{about['minutes']} minutes", flush=True)


if __name__ == "__main__":
    names = sys.argv[1:] or [n for n in RUNS if not (HERE / f"{n}.json").exists()]
    if unknown := set(names) - set(RUNS): sys.exit(f"no run named {', '.join(sorted(unknown))}: choose from {', '.join(RUNS)}")
    for name in names: run(name)
