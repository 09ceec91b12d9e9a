"""Train the runs that the lessons talk about, and write one json for each into this folder.

python results/make.py                 all runs that have no json yet
python results/make.py toyfaces        this run, again; if it was interrupted, from its last checkpoint on
python results/make.py toyfaces-seed2  the same with another seed: other pictures, weights and order
python results/make.py --gpu automodulator-64 [minutes] [--tiny]    at the papers' size on a GPU, nine minutes unless told otherwise; also deciphering-cifar10

Each takes between a quarter of an hour and two hours on one processor core. `fashion-mnist` needs its set (lesson 08); names with `cipher` are of lesson 23, and some need the weights of LPIPS (lesson 21).
"""
import json, platform, subprocess, sys, time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from genae import sharp, train_deciphering
from genae.automodulator import Automodulator
from genae.ciphernet import variance_shares
from genae.core import pick_device, rng, show
from genae.cycles import d_x
from genae.datasets import open_dataset, toyfaces
from genae.deciphering import nearest_neighbours
from genae.faces import FACTORS
from genae.files import load_state
from genae.growing import Phase, grow, growth_at
from genae.metrics import Moments, frechet_distance, perceptual_error
from genae.mixing import mix, mixing_grid, pose_identity
from genae.perceptual import lpips, small_perceptual
from genae.reader import load_reader, pyramid, r2, read_factors
from genae.reports import automodulator_pictures, cipher_pictures, measure, report, write_pictures
from genae.sharp import SHARP, active, copying, first_layer_only, narrow, perceptual_at_hand, principal, size_direction, tidy, whiten
from genae.train_automodulator import PAPER_MODEL, RECIPES, blended, train

HERE = Path(__file__).resolve().parent
SIZE, SHIPPED = 32, "toyfaces-pose" # the run whose weights come with the package
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split() # its labels, 0 to 9
def phases(images): return tuple(Phase(size, n, fade, batch=32, lr=2e-3, margin=.3) for size, n, fade in [(8, 12e3, 0.), (16, 48e3, 16e3), (SIZE, images, 32e3)])


SOFT = replace(RECIPES["class"], phases=phases(180e3), model=dict(blur=True, widths=(64, 64, 48, 32, 16)), lambda_x=10., lr_decay_fraction=.5, ema_half_life=5e3, shared_layers=(2, 0), lambda_inv=10.)
GAME = replace(RECIPES["class"], phases=(Phase(SIZE, 32e3, 0., batch=32, lr=1e-3, margin=.3),), distance="L1", lambda_perceptual=6., lambda_x=20., lr_decay_fraction=.5, ema_half_life=2.5e3, bfloat16=True) # goes on from the run toyfaces
NARROW, TIDY_IMAGES, PAIR_IMAGES, GROW_IMAGES = 14, 300_000, 150_000, 100_000 # lesson 24: numbers of the code that is left of a copying network, and pictures that put it in order
REAL_PICTURES = replace(SHARP, total_images=200_000) # with the perceptual distance that is at hand
RUNS = { # name: data, recipe
    "toyfaces": ("toyfaces", "tidy"), # copies, narrow and in order
    "toyfaces-seed1": ("toyfaces", "tidy"), # other pictures, weights and order
    "toyfaces-pairs": ("toyfaces", "pairs"), # on from it, with mirror images that share all but the first layer (Fig. 5a)
    "toyfaces-pose": ("toyfaces", "pose"), # the same, and half-way the size of a turn is handed to the first layer; shipped
    "toyfaces-pose-seed1": ("toyfaces", "pose"), # on from toyfaces-seed1
    "toyfaces-game": ("toyfaces", GAME), # on from toyfaces, by the game
    "toyfaces-64": ("toyfaces:64", "grown"), # the wide network grown to 64 pixels, and then like toyfaces
    "soft": ("toyfaces", SOFT), # before lesson 24: a code of 16, no perceptual term; lambda_x 10 with pairs is as much as 30 without
    "soft-no-lj": ("toyfaces", replace(SOFT, lambda_j=0.)), # all else equal, also the pictures seen
    "soft-l1": ("toyfaces", replace(SOFT, distance="L1")),
    "soft-no-pairs": ("toyfaces", replace(SOFT, shared_layers=(), lambda_x=30.)), # the regular training of Fig. 5a
    "soft-untrained": ("toyfaces", None),
    "fashion-mnist": ("fashion-mnist", REAL_PICTURES),
    "cifar10": ("cifar10", REAL_PICTURES),
    "cifar10-automobile": ("cifar10:automobile", REAL_PICTURES), # one class of ten
}
CIPHER, REAL = train_deciphering.RECIPES["class"], train_deciphering.RECIPES["lpips"]
CIPHERS = { # name: data, pictures in the set, pictures seen, recipe
    "cipher-512": ("toyfaces", 512, 512 * 300, CIPHER), # the class recipe as it is
    "cipher-128": ("toyfaces", 128, 512 * 300, CIPHER), # as many steps, with fewer and with more pictures to learn
    "cipher-2048": ("toyfaces", 2048, 512 * 300, CIPHER),
    "cipher-clusters": ("toyfaces", 512, 512 * 300, replace(CIPHER, model=CIPHER.model | dict(clusters=8))), # k-means clusters choose among the first layer's channels
    "cipher-shipped": ("toyfaces", 512, 512 * 600, replace(CIPHER, model=CIPHER.model | dict(clusters=8), bfloat16=True)), # twice as long; shipped
    "cipher-no-shift": ("toyfaces", 512, 512 * 300, replace(CIPHER, stages=tuple(replace(s, shift=0) for s in CIPHER.stages))),
    "cipher-pixels": ("toyfaces", 512, 512 * 300, replace(CIPHER, lambda_pixels=1000 * CIPHER.lambda_pixels)), # beside which the perceptual distance is nothing
    "cipher-lpips": ("toyfaces", 512, 512 * 300, REAL),
    "cipher-no-pixels": ("toyfaces", 512, 512 * 300, replace(REAL, lambda_pixels=0.)), # the paper's loss
    "cipher-cifar10": ("cifar10", 512, 512 * 300, replace(REAL, bfloat16=True)),
    "cipher-fashion-mnist": ("fashion-mnist", 512, 512 * 300, REAL),
}
CIPHERS |= {f"cipher-clusters-{k}": ("toyfaces", 512, 512 * 300, replace(CIPHER, model=CIPHER.model | dict(clusters=k))) for k in (16, 32)} # lesson 32; 64 do not fit into the first layer's 32 channels
CIPHERS |= {f"{name}-seed1": CIPHERS[name] for name in ("cipher-512", "cipher-clusters", "cipher-clusters-16", "cipher-clusters-32", "cipher-no-shift")} # those that lesson 32 compares

COPY_IMAGES, NARROWS = 300_000, (11, 12, 13, 14, 16, 20, 24, 32) # directions kept, to be tried
COPIES = {f"copy-{d}{seed}": d for d in (16, 256) for seed in ("", "-seed1")} # numbers in a code; reconstruction alone, for lesson 24


def seeded(name):
    "The run that a name with a seed is of, and the seed."
    stem, _, seed = name.partition("-seed")
    return stem, int(seed or 0)


def commit():
    return subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()


def frechet(a, b):
    "Frechet distance of two sets of features (N, d)."
    return frechet_distance(Moments(a), Moments(b))


def sets(data, seed):
    "Pictures to train on, and held-out pictures: other faces, or the set's own test pictures."
    data, _, label = data.partition(":")
    if data == "toyfaces": return [toyfaces(n, int(label or SIZE), s) for n, s in ((16384, seed), (4096, seed + 1))]
    both = open_dataset(data, SIZE), open_dataset(data, SIZE, split="test")
    if label: both = [d.take((d.labels == CIFAR10.index(label)).nonzero()[:, 0]) for d in both]
    return both[0], both[1].take(torch.arange(min(len(both[1]), 4096)))


def minutes_of(folder):
    "Of training, however often it was interrupted."
    return load_state(folder / "checkpoint.safetensors")["seconds"] / 60


def lpips_of(x, x_hat):
    "Mean LPIPS (AlexNet) of pairs of pictures, enlarged to 64 pixels; None where its weights cannot be had."
    try: return perceptual_error(x, x_hat, lpips("alex"))
    except OSError as e: return print(f"No LPIPS: {e}")


def of_faces(model, held_out):
    "Frechet distances in the 64 features of the factor reader, the factors it reads off reconstructions, and Fig. 5a's numbers (eqs. 19.9, 16.13)."
    n, features = len(held_out), lambda x: torch.cat([load_reader(SIZE).layers[:-1](pyramid(c, min_size=SIZE)[-1]) for c in x.split(512)])
    x, drawn = held_out.batch(torch.arange(n)), torch.cat([model.sample(512, rng(k)) for k in range(n // 1024)])
    rec = torch.cat([model.reconstruct(c) for c in x.split(512)])
    with torch.no_grad(): a, b, kept = features(x[:n // 2]), features(x[n // 2:]), read_factors(rec)
    few = x[:512]
    late_of_mirror = mix(model, {(1, 1): few}, rest=few.flip(-1))
    return dict(frechet=dict(pictures=n // 2, samples=frechet(a, features(drawn)), reconstructions=frechet(a, features(rec[:n // 2])), two_halves_of_real=frechet(a, b)),
                kept=dict(zip(FACTORS, r2(kept, held_out.factors).tolist())), pose_identity=pose_identity(model, held_out, read_factors, 1, rng(6)),
                asked=float((late_of_mirror - few).abs().mean() - (rec[:512] - few).abs().mean()))


def in_order(model, dataset, images, seed, folder, **more):
    "The engine of a copying run with `tidy`, after its end."
    ways = {k: more.pop(k) for k in ("heard", "dear") if k in more}
    engine = copying(model, dataset, images, blended(d_x, small_perceptual(), SHARP.lambda_perceptual), lr=1e-3, seed=seed, folder=folder, penalty=partial(tidy, **ways), **more)
    engine.settings = dict(name=folder.name, total_images=images, seed=seed)
    engine.resume()
    engine.run(engine.total)
    return engine


def whitened(model, dataset):
    "Codes as even as drawn ones (lesson 24); what it tells of its run stays."
    new = whiten(model, dataset)
    new.log, new.about = model.log, model.about
    return new


def tidied(dataset, seed, folder, first=None):
    "The network of a copying run, its code made narrow and put in order: first by what layers are told, then by what pictures hear (lesson 24)."
    first = first or trained("copy-256", seed)
    model = narrow(first, dataset, NARROW, small_perceptual())
    told = in_order(model, dataset, TIDY_IMAGES // 2, seed, folder / "told")
    heard = in_order(model, dataset, TIDY_IMAGES // 2, seed + 100, folder / "heard", heard=True)
    model.log, seen = told.log + heard.log, first.about["images_seen"] + told.images_seen + heard.images_seen
    model.about = dict(recipe=None, images_seen=seen, steps=first.about["images_seen"] // 32 + told.done + heard.done, seed=seed)
    return model.eval(), first.about["minutes"] + (told.seconds + heard.seconds) / 60 # of all, however often they were interrupted


def grown(dataset, seed, folder):
    "The network of a copying run, with layers for pictures twice as large (lesson 14), treated likewise."
    small = trained("copy-256", seed)
    torch.manual_seed(seed)
    model = Automodulator(**small.settings | dict(size=2 * small.size, widths=(*small.settings["widths"], 16)))
    model.load_state_dict(small.state_dict(), strict=False)
    engine = copying(model, dataset, GROW_IMAGES, blended(d_x, small_perceptual(), SHARP.lambda_perceptual), lr=1e-3, seed=seed, folder=folder / "wide")
    engine.settings, step = dict(name=folder.name, total_images=GROW_IMAGES, seed=seed), engine.step
    def fading(t):
        grow(model, growth_at((Phase(model.decoder.size, GROW_IMAGES, GROW_IMAGES / 4),), engine.images_seen))
        return step(t)
    engine.step = fading
    engine.resume()
    engine.run(engine.total)
    model.about = dict(images_seen=small.about["images_seen"] + engine.images_seen, minutes=small.about["minutes"] + engine.seconds / 60)
    model, minutes = tidied(dataset, seed, folder, model.eval())
    return whitened(model, dataset), minutes


def paired(dataset, seed, folder):
    "The tidy network, taught that a mirror changes nothing but what the first layer says (lesson 24)."
    model = trained("toyfaces", seed)
    engine = in_order(model, dataset, PAIR_IMAGES, seed, folder, heard=True, dear=(1,), shared_layers=(2, model.decoder.n))
    model.log, model.about = engine.log, dict(recipe=None, images_seen=engine.images_seen, steps=engine.done, seed=seed)
    return model.eval(), engine.seconds / 60


def posed(dataset, seed, folder):
    "The tidy network, taught pairs; half-way, what tells the size of a turn is handed to the first layer (lesson 24)."
    def taught(model, part): return in_order(model, dataset, PAIR_IMAGES // 2, seed, folder / part, heard=True, dear=(1,), shared_layers=(2, model.decoder.n))
    side = taught(trained("toyfaces", seed), "side")
    model, x = side.parts["copyist"].model.eval(), dataset.batch(torch.arange(min(4096, len(dataset))))
    z, z_mirror = (torch.cat([model.encode(c) for c in p.split(128)]) for p in (x, x.flip(-1)))
    size = taught(first_layer_only(model, size_direction(z, z_mirror), rng(seed)), "size")
    model = size.parts["copyist"].model
    model.log, model.about = side.log + size.log, dict(recipe=None, images_seen=side.images_seen + size.images_seen, steps=side.done + size.done, seed=seed)
    return whitened(model.eval(), dataset), (side.seconds + size.seconds) / 60


WAYS = dict(tidy=tidied, grown=grown, pairs=paired, pose=posed)


def trained(name, seed):
    "The network of a run; it is made first if it is not there."
    name += f"-seed{seed}" * bool(seed)
    path = HERE.parent / "runs" / name / "model.safetensors"
    if not path.exists(): (run_copy if name in COPIES else run)(name, seed)
    return Automodulator.from_pretrained(path)


def run(name, seed=0):
    data, recipe = RUNS[seeded(name)[0]]
    (dataset, held_out), folder, minutes = sets(data, seed), HERE.parent / "runs" / name, 0.
    if recipe is None:
        torch.manual_seed(seed)
        model = Automodulator(SIZE, **SOFT.model).eval()
        model.about, model.log = dict(recipe=None, steps=0, images_seen=0, seed=seed), []
    elif recipe is REAL_PICTURES: model = sharp.train(dataset, recipe, seed=seed, folder=folder, perceptual=perceptual_at_hand(drawn=False))
    elif isinstance(recipe, str): model, minutes = WAYS[recipe](dataset, seed, folder)
    else:
        more = dict(perceptual=small_perceptual(), start=trained("toyfaces", seed)) if recipe.lambda_perceptual else {}
        model = train(dataset, recipe, seed=seed, folder=folder, **more)
    if recipe and not isinstance(recipe, str): minutes = minutes_of(folder)
    hardware = dict(machine=platform.machine(), threads=torch.get_num_threads(), torch=torch.__version__)
    few = held_out.take(torch.arange(512))
    x = few.batch(torch.arange(512))
    numbers = measure(model, None, few) | dict(lpips_alex_at_64=lpips_of(x, model.reconstruct(x)))
    if held_out.factors is not None: numbers |= of_faces(model, held_out)
    about = dict(name=name, data=data, commit=commit(), settings=model.settings, **model.about, num_images=len(dataset), hardware=hardware, minutes=round(minutes, 2), numbers=numbers)
    thin = model.log[::max(1, len(model.log) // 100)]
    (HERE / f"{name}.json").write_text(json.dumps(about | dict(log=thin), indent=1) + "\n")
    write_pictures(automodulator_pictures(model, None, few), folder)
    model.save(folder / "model.safetensors", **about, log=thin)
    if data != "toyfaces": # a picture, since these weights are not shipped: held out, reconstructed, coarse layers mixed, sampled
        y = x[:8]
        show(torch.cat([y, model.reconstruct(y), mix(model, dict(coarse=y), rest=y.flip(0)), model.sample(16, rng(1))]), 8, model.size).save(HERE / f"{name}.png")
    if recipe == "pose": # rows give the pose, columns all the rest (Fig. 5a)
        show(mixing_grid(model, x[:6], x[6:14], (1, 1)), 9, SIZE).save(HERE / f"{name}.png")
    if name == SHIPPED: model.save(HERE.parent / "genae" / "weights" / "automodulator_toyfaces.safetensors", **about, log=thin)
    print(name, json.dumps({k: v for k, v in numbers.items() if k != "factors"}), f"{about['minutes']} minutes", flush=True)


def of_cipher(model, x, y, faces, known="known", new="new"):
    "How well the table was learned, and how good and how new samples are (eqs. 23.1, 22.4); x are the training pictures, y held-out ones."
    torch.manual_seed(0) # for the fresh noise of "batch"
    perceptual, n = lpips("alex", min_size=64), min(512, len(x))
    x_hat = torch.cat([model.decipher(model.patterns(n).take(i), known) for i in torch.arange(n).split(64)])
    drawn = torch.cat([model.sample(128, rng(k), new) for k in range(len(y) // 128)])
    with torch.no_grad(): d = torch.cat([perceptual(p, q) for p, q in zip(x[:n].split(64), x_hat.split(64))]).mean()
    numbers = dict(deciphered=n, l1=float((x[:n] - x_hat).abs().mean()), lpips_alex_at_64=float(d))
    for name, distance in dict(pixels=None, lpips=perceptual).items():
        near = {k: nearest_neighbours(p[:512], x, distance)[0].median() for k, p in dict(new=drawn, held_out=y).items()}
        numbers[f"nearness_{name}"] = float(near["new"] / near["held_out"])
    if faces:
        features = lambda p: torch.cat([load_reader(32).layers[:-1](c) for c in p.split(512)]).detach()
        numbers["frechet"] = dict(samples=frechet(features(y), features(drawn)), training_pictures=frechet(features(y), features(x)))
    return numbers | dict(variance_shares=variance_shares(model.net, model.patterns(16).masks(), torch.randn(16, 3, 32, 32, generator=rng(1))))


def run_cipher(name, seed=0):
    data, n, seen, recipe = CIPHERS[seeded(name)[0]]
    dataset, held_out = (toyfaces(n, SIZE, seed), toyfaces(2048, SIZE, seed + 1)) if data == "toyfaces" else [b.take(torch.arange(k)) for b, k in zip(sets(data, seed), (n, 2048))]
    folder = HERE.parent / "runs" / name
    model = train_deciphering.train(dataset, recipe, seen, seed=seed, folder=folder)
    x, y = (b.batch(torch.arange(len(b))) for b in (dataset, held_out))
    hardware = dict(machine=platform.machine(), threads=torch.get_num_threads(), torch=torch.__version__)
    faces = data == "toyfaces"
    numbers = of_cipher(model, x, y, faces) | dict(by_batch=of_cipher(model, x, y, faces, "batch", "batch"), swapped=of_cipher(model, x, y, faces, "new", "known"))
    about = dict(name=name, data=data, commit=commit(), settings=model.settings, **model.about, num_images=n, hardware=hardware, minutes=round(minutes_of(folder), 2), numbers=numbers)
    thin = model.log[::max(1, len(model.log) // 100)]
    (HERE / f"{name}.json").write_text(json.dumps(about | dict(log=thin), indent=1) + "\n")
    model.save(folder / "model.safetensors", **about, log=thin)
    write_pictures(cipher_pictures(model, dataset, held_out), folder)
    page = torch.cat([x[:16], model.decipher(model.patterns(16)), model.sample(16, rng(1))])
    show(page, 16, SIZE).save(HERE / f"{name}.png") # of the set, deciphered, sampled
    if name == "cipher-shipped": model.save(HERE.parent / "genae" / "weights" / "deciphering_toyfaces.safetensors", **about, log=thin)
    print(name, json.dumps(numbers), f"{about['minutes']} minutes", flush=True)


def run_copy(name, seed=0):
    "Encoder and decoder with nothing to do but copy: does the smile come through, and can the code be made narrow (lesson 24)?"
    (dataset, held_out), folder, log = sets("toyfaces", seed), HERE.parent / "runs" / name, []
    torch.manual_seed(seed)
    model, few, reader = Automodulator(SIZE, **SOFT.model | dict(latent_dim=COPIES[seeded(name)[0]])), held_out.take(torch.arange(1024)), load_reader(SIZE)
    engine, y = copying(model, dataset, COPY_IMAGES, blended(d_x, small_perceptual(), SHARP.lambda_perceptual), seed=seed, folder=folder), few.batch(torch.arange(1024))
    def kept(net):
        y_hat = torch.cat([net.eval().reconstruct(c) for c in y.split(256)])
        with torch.no_grad(): return dict(l1=float(d_x(y, y_hat)), **dict(zip(FACTORS, r2(reader(y_hat), few.factors).tolist())))
    engine.settings = dict(name=name, total_images=COPY_IMAGES, seed=seed)
    rows = folder / "kept.json"
    if engine.resume() and rows.exists(): log = json.loads(rows.read_text())
    step = engine.step
    def watched(t): # the factors every ten thousand pictures
        used, terms = step(t)
        if (engine.images_seen + used) % 10_000 < used:
            log.append(dict(images_seen=engine.images_seen + used) | kept(model))
            rows.write_text(json.dumps(log))
        return used, terms
    engine.step = watched
    engine.run(engine.total)
    hardware = dict(machine=platform.machine(), threads=torch.get_num_threads(), torch=torch.__version__)
    mean, spread, V, _ = principal(model.eval(), dataset)
    perceptual, wide = small_perceptual(), [d for d in NARROWS if d < COPIES[seeded(name)[0]]]
    numbers = kept(model) | dict(spectrum=(spread ** 2 / (spread ** 2).sum()).tolist()[:64], mean_code=float(mean.norm()), effects=active(model, dataset, perceptual, (spread[:, None] * V)[:32])[0].tolist(),
                                 by_spread={d: kept(narrow(model, dataset, d, perceptual, first=d)) for d in wide}, by_effect={d: kept(narrow(model, dataset, d, perceptual)) for d in wide})
    about = dict(name=name, data="toyfaces", commit=commit(), settings=model.settings, recipe=None, seed=seed, images_seen=engine.images_seen, num_images=len(dataset), hardware=hardware, minutes=round(engine.seconds / 60, 2), numbers=numbers)
    (HERE / f"{name}.json").write_text(json.dumps(about | dict(log=log), indent=1) + "\n")
    model.save(folder / "model.safetensors", **about)
    show(torch.cat([y[:16], model.reconstruct(y[:16])]), 16, SIZE).save(HERE / f"{name}.png")
    print(name, json.dumps({k: v for k, v in numbers.items() if k not in ("spectrum", "effects")}), f"{about['minutes']} minutes", flush=True)


GPU = { # name: module, data, size, recipe, a model to try the command with on a CPU
    "automodulator-64": (sharp, "toyfaces", 64, replace(SHARP, model=PAPER_MODEL | dict(canvas="learned", blur=True, noise=0)), dict(model=dict(latent_dim=16, widths=(8,) * 5))),
    "deciphering-cifar10": (train_deciphering, "cifar10", 32, replace(train_deciphering.RECIPES["paper"], bfloat16=True, compiled=True),
                            dict(model=dict(widths=(8, 16, 16), latent_dim=8, bottleneck_channels=8), layers=((8, 1), (16, 4)), batch=32, distance="toyfaces-small", distance_min_size=32)),
}


def matmul_speed(device):
    "Operations a second of a large product in bfloat16: what this processor can do at best."
    a = torch.randn(4096 if device != "cpu" else 1024, 4096 if device != "cpu" else 1024, device=device, dtype=torch.bfloat16)
    best = 1e9
    for _ in range(8):
        start = time.perf_counter()
        b = a @ a
        if device == "cuda": torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * len(a) ** 3 / best


def operations(model, x, recipe, more):
    "Additions and multiplications of one picture's share of a step; a backward pass takes twice its forward pass."
    model.requires_grad_(False)
    def forward(f, *args):
        with FlopCounterMode(display=False) as counted: f(*args)
        return counted.get_total_flops() / len(x)
    if isinstance(model, Automodulator): # copying; what loudness costs in the second half is not counted
        return 3 * (forward(model.encoder, x) + forward(model.decoder, model.encode(x)) + forward(more["perceptual"].embed, x))
    perceptual = train_deciphering.distance_of(recipe).to(x.device)
    net = forward(model.net, x, model.patterns(len(x)).masks(), torch.zeros(len(x), model.net.shift_axes, device=x.device))
    return 3 * net + 3 * forward(perceptual.embed, x)


def run_gpu(name, minutes=9., tiny=False, seed=0):
    "A model of the papers' size in minutes: checkpoint, pictures and a report in runs/, numbers and speed in results/."
    book, data, size, recipe, small = GPU[name]
    device, folder = pick_device(), HERE.parent / "runs" / f"gpu-{name}{'-tiny' * tiny}"
    if tiny: recipe, data, minutes = replace(recipe, **small), "toyfaces", min(minutes, .2)
    dataset, held_out = (toyfaces(512 if tiny else 65536, size, seed), toyfaces(512, size, seed + 1)) if data == "toyfaces" else (open_dataset(data, size), open_dataset(data, size, n=512, split="test"))
    dataset, held_out = dataset.to(device), held_out.to(device)
    more = dict(perceptual=perceptual_at_hand()) if getattr(recipe, "lambda_perceptual", 0) else {}
    floor = 1000 * operations(book.new_model(dataset, recipe, seed).to(device), dataset.batch(torch.arange(2)), recipe, more) / matmul_speed(device)
    start = time.time()
    model = book.train(dataset, recipe, minutes=minutes, seed=seed, folder=folder, **more)
    took, seen = time.time() - start, model.about["images_seen"]
    report(model, dataset, held_out, folder, run=dict(name=name, data=data, size=size, recipe=recipe.__class__.__name__), minutes=round(took / 60, 2))
    speed = dict(seconds_per_thousand_pictures=1000 * took / seen, floor=floor)
    hardware = dict(machine=torch.cuda.get_device_name() if device == "cuda" else platform.machine(), torch=torch.__version__)
    about = dict(name=f"gpu-{name}", data=data, commit=commit(), settings=model.settings, **model.about, num_images=len(dataset), hardware=hardware, minutes=round(took / 60, 2), numbers=speed)
    (folder / "about.json" if tiny else HERE / f"gpu-{name}.json").write_text(json.dumps(about, indent=1) + "\n")
    print(name, json.dumps(speed), f"{seen} pictures in {took / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--gpu"]:
        name, *rest = sys.argv[2:] or [""]
        if name not in GPU: sys.exit(f"no run named {name!r}: choose from {', '.join(GPU)}")
        sys.exit(run_gpu(name, *(float(m) for m in rest if m != "--tiny"), tiny="--tiny" in rest))
    every = RUNS | CIPHERS | COPIES
    names = sys.argv[1:] or [n for n in every if not (HERE / f"{n}.json").exists()]
    if unknown := [n for n in names if seeded(n)[0] not in every]: sys.exit(f"no run named {', '.join(unknown)}: choose from {', '.join(every)}")
    for name in names:
        stem, seed = seeded(name)
        (run if stem in RUNS else run_copy if stem in COPIES else run_cipher)(name, seed)
