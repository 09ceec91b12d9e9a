"""Teach both models the same 512 faces, measure them alike, and write one json for each into this folder (lesson 34).

python results/two_papers.py [seed]    trains what is not in runs/; of seed 0 the cipher is the shipped one

An automodulator takes three quarters of an hour on one processor core, a cipher as long, measuring ten minutes. The weights of LPIPS are needed (lesson 21).
"""
import json, platform, sys, time
from pathlib import Path

import torch
from make import CIPHERS, SIZE, commit, frechet, minutes_of
from scipy.stats import spearmanr

from genae import sharp, train_deciphering
from genae.automodulator import Automodulator
from genae.core import rng, show
from genae.datasets import toyfaces
from genae.deciphering import DecipheringAutoencoder, batch_norm_statistics, nearest_neighbours
from genae.faces import FACTORS
from genae.metrics import precision_recall, reader_features
from genae.mixing import mix
from genae.patterns import Patterns
from genae.perceptual import lpips, small_perceptual
from genae.reader import load_reader, r2
from genae.sharp import SHARP
from genae.sphere import slerp

HERE = Path(__file__).resolve().parent
_, NUM_IMAGES, IMAGES_SEEN, CIPHER = CIPHERS["cipher-shipped"]
MODELS = {"two-automodulator": "two-sharp-512", "two-cipher": "cipher-shipped"} # name of the json, folder of the run
TRIES, STEPS = 4096, 100 # patterns, and steps of a latent, in search of a picture


def in_parts(f, *many): return torch.cat([f(*parts) for parts in zip(*(m.split(128) for m in many))])


def mean_error(a, b): return (a - b).abs().flatten(1).mean(1) # (B,)


def kept(x_hat, f): return float(r2(load_reader(SIZE)(x_hat), f).mean()) # of all factors


class Learned:
    "An automodulator and the faces that it learned: a picture's code is what the encoder says."
    parts = "coarse", "middle", "fine"
    def __init__(self, x, seed, folder):
        path = folder / "model.safetensors"
        if not path.exists():
            model = sharp.train(toyfaces(NUM_IMAGES, SIZE, seed), SHARP, IMAGES_SEEN, seed=seed, folder=folder, perceptual=small_perceptual())
            model.save(path, **model.about)
        self.model, self.minutes, self.path = Automodulator.from_pretrained(path), minutes_of(folder), path
        self.z = in_parts(self.model.encode, x)

    def codes(self): return dict(codes=self.z)
    def known(self, i): return in_parts(lambda i: self.model.decode(self.z[i]), i)
    def sample(self, n, g): return self.model.sample(n, g)
    def midway(self, a, b): return in_parts(lambda a, b: self.model.decode(slerp(self.z[a], self.z[b], .5)), a, b)
    def mixed(self, *sources): return in_parts(lambda *s: mix(self.model, {k: self.z[i] for k, i in zip(self.parts, s)}), *sources)

    def encoded(self, y, f): # of pictures that it has not seen
        start = time.process_time()
        y_hat = self.model.reconstruct(y[:32])
        return dict(once=dict(l1=float(mean_error(y_hat, y[:32]).mean()), seconds=(time.process_time() - start) / 32, kept=kept(y_hat, f[:32])))


class Drawn:
    "A cipher and the faces that it learned: a picture's code is a pattern that was drawn for it."
    parts = "first mask", "second mask", "third mask"
    def __init__(self, x, seed, folder):
        path = folder / "model.safetensors"
        if seed == 0: path = HERE.parent / "genae" / "weights" / "deciphering_toyfaces.safetensors"
        elif not path.exists():
            model = train_deciphering.train(toyfaces(NUM_IMAGES, SIZE, seed), CIPHER, IMAGES_SEEN, seed=seed, folder=folder)
            model.save(path, **model.about, minutes=round(minutes_of(folder), 2))
        self.model, self.path = DecipheringAutoencoder.from_pretrained(path), path
        self.minutes, self.patterns = self.model.about["minutes"], self.model.patterns()

    def codes(self): return dict(codes=torch.cat(self.patterns.masks(), 1), latents=self.latents(self.patterns))
    def latents(self, patterns): return in_parts(lambda i: self.model._latent(patterns.take(i), "known"), torch.arange(len(patterns)))
    def known(self, i): return in_parts(lambda i: self.model.decipher(self.patterns.take(i)), i)
    def sample(self, n, g): return self.model.sample(n, g)
    def midway(self, a, b): return in_parts(lambda a, b: self.model.interpolate(self.patterns.take(a), self.patterns.take(b), 3)[1::3], a, b)
    def mixed(self, *sources):
        active = [a[i] for a, i in zip(self.patterns.active, sources)]
        return in_parts(lambda i: self.model.decipher(Patterns(active, self.patterns.channels).take(i)), torch.arange(len(sources[0])))

    def encoded(self, y, f): # it cannot; three ways to search
        ways, drawn = {}, self.model.new_patterns(TRIES, rng(7))
        start = time.process_time()
        errors = in_parts(lambda i: self.errors(drawn.take(i), y[:32]), torch.arange(TRIES)) # (tries, faces)
        best = drawn.take(errors.argmin(0))
        ways["random"] = dict(l1=float(errors.amin(0).mean()), tries=TRIES, mean=float(errors.mean()), std=float(errors.std(0).mean()), seconds=(time.process_time() - start) / 32)
        start = time.process_time()
        found = [self.by_channel(best.take(slice(k, k + 1)), y[k:k + 1]) for k in range(4)]
        ways["by_channel"] = dict(l1=sum(e for e, _ in found) / 4, tries=TRIES + found[0][1], seconds=(time.process_time() - start) / 4 + ways["random"]["seconds"])
        start = time.process_time()
        y_hat = self.by_slope(y[:32])
        ways["latent"] = dict(l1=float(mean_error(y_hat, y[:32]).mean()), steps=STEPS, seconds=(time.process_time() - start) / 32, kept=kept(y_hat, f[:32]))
        return ways

    def errors(self, patterns, y): # (patterns, pictures)
        return torch.cdist(self.model.decipher(patterns, "new").flatten(1), y.flatten(1), p=1) / y[0].numel()

    def by_channel(self, pattern, y, sweeps=2):
        "Exchange one active channel for the best of all others, one after the other."
        active, tries = [a.long() for a in pattern.active], 0
        for layer, (n, k) in [pair for _ in range(sweeps) for pair in enumerate(self.model.layers)]:
            for slot in range(k):
                free = torch.tensor([c for c in range(n) if c not in active[layer][0, torch.arange(k) != slot]])
                many = [a.repeat(len(free), 1) for a in active]
                many[layer][:, slot] = free
                many[layer] = many[layer].sort(1).values
                error = in_parts(lambda i: self.errors(Patterns(many, self.model.patterns(1).channels).take(i), y), torch.arange(len(free)))[:, 0]
                active, tries = [a[error.argmin()][None] for a in many], tries + len(free)
        return float(error.min()), tries

    def by_slope(self, y):
        "No pattern at all: the best latent, by gradient."
        z, net = self.latents(self.patterns), self.model.net.requires_grad_(False)
        z, size = z.mean(0).repeat(len(y), 1).requires_grad_(), float(z.std(0).mean())
        optimiser, unmoved = torch.optim.Adam([z], lr=size / 10), torch.full((len(y), net.shift_axes), 50.)
        with torch.enable_grad(), batch_norm_statistics(self.model, "new"):
            for _ in range(STEPS):
                error = mean_error(net.decode(z, unmoved), y)
                optimiser.zero_grad(); error.sum().backward(); optimiser.step()
            return net.decode(z, unmoved).detach().clamp(-1, 1)


def whose(factors, sources, f):
    "Squared correlations of the factors that are read with those of each part's source (eq. 34.7)."
    centred = lambda t: (t - t.mean(0)) / t.std(0, correction=0)
    return [((centred(factors) * centred(f[i])).mean(0) ** 2).tolist() for i in sources]


def measure(held, x, y, f, f_y):
    "The same questions for both."
    every, reader, perceptual, g = torch.arange(len(x)), load_reader(SIZE), lpips("alex", min_size=64), rng(3)
    features = lambda p: in_parts(reader_features(SIZE).net, p)
    start = time.process_time()
    drawn = torch.cat([held.sample(128, rng(k)) for k in range(len(y) // 128)])
    speed = 1000 * (time.process_time() - start) / len(y)
    known, (a, b) = held.known(every), torch.randint(len(x), (2, len(y)), generator=g)
    apart = torch.randperm(len(x) * (len(x) - 1) // 2, generator=g)[:20_000]
    near = {name: {k: float(nearest_neighbours(p[:512], x, d)[0].median()) for k, p in dict(new=drawn, held_out=y).items()} for name, d in dict(pixels=None, lpips=perceptual).items()}
    sources = [torch.randperm(len(x), generator=g) for _ in held.parts]
    alone = held.mixed(*sources)
    pairs = {name: held.mixed(*(sources[name != k] for k in held.parts)) for name in held.parts} # one part of A, all others of B
    return dict(
        known=dict(l1=float(mean_error(known, x).mean()), lpips_alex_at_64=float(in_parts(perceptual, known, x).mean()), kept=dict(zip(FACTORS, r2(reader(known), f).tolist()))),
        frechet=dict(samples=frechet(features(y), features(drawn)), midway=frechet(features(y), features(held.midway(a, b))), training_pictures=frechet(features(y), features(x))),
        precision_recall=precision_recall(features(y), features(drawn)),
        nearness={k: v["new"] / v["held_out"] for k, v in near.items()},
        order={k: float(spearmanr(torch.pdist(v)[apart], torch.pdist(x.flatten(1))[apart])[0]) for k, v in held.codes().items()},
        whose=dict(zip(held.parts, whose(reader(alone), sources, f))),
        nearest_known=float(mean_error(y[:32], x[nearest_neighbours(y[:32], x)[1]]).mean()), of_two={k: dict(one=r2(reader(p), f[sources[0]]).tolist(), rest=r2(reader(p), f[sources[1]]).tolist()) for k, p in pairs.items()},
        encoded=held.encoded(y, f_y), parameters=sum(p.numel() for p in held.model.parameters()), bytes=held.path.stat().st_size, seconds_per_thousand_samples=speed)


def run(name, kind, seed=0):
    run = HERE.parent / "runs" / f"{MODELS[name]}{f'-seed{seed}' * bool(seed)}"
    dataset, held_out = toyfaces(NUM_IMAGES, SIZE, seed), toyfaces(2048, SIZE, seed + 1)
    x, y = (d.batch(torch.arange(len(d))) for d in (dataset, held_out))
    held = kind(x, seed, run)
    model, hardware = held.model, dict(machine=platform.machine(), threads=torch.get_num_threads(), torch=torch.__version__)
    with torch.no_grad(): numbers = measure(held, x, y, dataset.factors, held_out.factors)
    keys = "recipe", "images_seen", "steps", "seed"
    about = dict(name=name + f"-seed{seed}" * bool(seed), data="toyfaces", commit=commit(), settings=model.settings, **{k: model.about[k] for k in keys},
                 num_images=NUM_IMAGES, hardware=hardware, minutes=held.minutes, numbers=numbers)
    (HERE / f"{about['name']}.json").write_text(json.dumps(about, indent=1) + "\n")
    i, turned = torch.arange(8), torch.arange(8).roll(1)
    page = torch.cat([x[:8], held.known(i), held.sample(8, rng(1)), held.midway(i, turned), held.mixed(i, turned, turned), held.mixed(turned, turned, i)])
    show(page, 8, SIZE).save(HERE / f"{about['name']}.png") # learned, known, sampled, half-way to the neighbour, first part its own, last part its own
    print(about["name"], json.dumps(numbers), flush=True)


if __name__ == "__main__":
    for name, kind in zip(MODELS, (Learned, Drawn)): run(name, kind, int((sys.argv[1:] or [0])[0]))
