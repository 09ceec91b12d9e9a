"""Train the rivals of lessons 31 at one budget, and write one json and one picture for each into this folder.

python results/baselines.py            all that have no json yet
python results/baselines.py rae        this one, again; if it was interrupted, from its last checkpoint on
python results/baselines.py rae-seed1  the same with another seed: other pictures, weights and order

Each takes between five minutes and half an hour on one processor core.
"""
import json, platform, sys
from dataclasses import replace
from pathlib import Path

import torch
from make import commit, frechet, seeded

from genae.baselines import AGE, VAE, WAE, Autoencoder, Pioneer, train
from genae.core import rng, show
from genae.datasets import toyfaces
from genae.faces import FACTORS
from genae.metrics import path_lengths, perceptual_error, perceptual_path_length
from genae.perceptual import small_perceptual
from genae.reader import load_reader, r2, read_factors
from genae.rivals import DCGAN, GLO, RAE, MixtureAutoencoder
from genae.train_automodulator import CLASS

HERE, SIZE, IMAGES, PICTURES, HELD_OUT = Path(__file__).resolve().parent, 32, 60_000, 16384, 2048 # pictures seen, in the set, and held out for a Frechet distance
MODEL = dict(latent_dim=16, widths=(64, 64, 48, 32, 16))


class Reference(Pioneer):
    "The automodulator itself, by the recipe `class`, at this budget."
    def recipe(self): return replace(CLASS, bfloat16=True)


RUNS = { # name: class and what differs in its settings
    "vae-adain": (VAE, dict(decoder="adain")),
    "vae-classic": (VAE, dict(decoder="classic")),
    "wae-adain": (WAE, dict(decoder="adain")),
    "wae-classic": (WAE, dict(decoder="classic")),
    "rae": (RAE, {}),
    "gmm": (MixtureAutoencoder, {}),
    "dcgan": (DCGAN, dict(widths=(112, 72, 32))), # at 4, 8 and 16 pixels: as many numbers as the other decoders
    "glo": (GLO, {}),
    "pioneer": (Pioneer, {}),
    "age": (AGE, {}),
    "automodulator": (Reference, dict(decoder="adain")),
}


def path_length(model, n=1000):
    "In the small perceptual distance; codes of a normal prior lie nearly on a sphere, whose radius is the root of their numbers (lesson 03)."
    radius = model.latent_dim ** .5 if isinstance(model, (Autoencoder, DCGAN)) else 1.
    return perceptual_path_length(path_lengths(lambda z: model.decode(radius * z), small_perceptual(), model.latent_dim, n, rng(7)))


@torch.no_grad()
def measured(model, held_out):
    "Frechet distances in the 64 features of the factor reader, and of what can encode, copies of held-out faces."
    half, features = len(held_out) // 2, lambda x: torch.cat([load_reader(SIZE).layers[:-1](c) for c in x.split(512)])
    x = held_out.batch(torch.arange(2 * half))
    drawn = torch.cat([model.sample(512, rng(k)) for k in range(half // 512)])
    a, b = features(x[:half]), features(x[half:])
    numbers = {"frechet": dict(pictures=half, samples=frechet(a, features(drawn)), two_halves_of_real=frechet(a, b)), "path length": path_length(model)}
    if not hasattr(model, "encode"): return numbers
    rec = torch.cat([model.reconstruct(c) for c in x.split(512)])
    numbers["frechet"]["reconstructions"] = frechet(a, features(rec[:half]))
    numbers["reconstruction"] = perceptual_error(x[:512], rec[:512], small_perceptual())
    return dict(l1=float((x - rec).abs().mean()), kept=dict(zip(FACTORS, r2(read_factors(rec), held_out.factors).tolist()))) | numbers


def run(name):
    stem, seed = seeded(name)
    kind, settings = RUNS[stem]
    dataset, held_out, folder = toyfaces(PICTURES, SIZE, seed), toyfaces(2 * HELD_OUT, SIZE, seed + 1), HERE.parent / "runs" / f"baselines-{name}"
    model = train(kind, dataset, IMAGES, seed, folder, **MODEL | settings)
    numbers, minutes = measured(model, held_out), model.about.pop("minutes")
    hardware = dict(machine=platform.machine(), threads=torch.get_num_threads(), torch=torch.__version__)
    about = dict(name=name, data="toyfaces", commit=commit(), settings=model.settings, recipe=None, **model.about, num_images=len(dataset), hardware=hardware, minutes=round(minutes, 2), numbers=numbers)
    thin = model.log[::max(1, len(model.log) // 30)]
    (HERE / f"{name}.json").write_text(json.dumps(about | dict(log=thin), indent=1) + "\n")
    x, rows = held_out.batch(torch.arange(8)), [model.sample(16, rng(1))]
    if hasattr(model, "encode"): rows = [x, model.reconstruct(x)] + rows
    show(torch.cat(rows), 8, SIZE).save(HERE / f"{name}.png") # held out, copied, sampled
    print(name, json.dumps(numbers), f"{about['minutes']} minutes", flush=True)


if __name__ == "__main__":
    names = sys.argv[1:] or [n for n in RUNS if not (HERE / f"{n}.json").exists()]
    if unknown := [n for n in names if seeded(n)[0] not in RUNS]: sys.exit(f"no run named {', '.join(unknown)}: choose from {', '.join(RUNS)}")
    for name in names: run(name)
