"results/: the command can be loaded, and what it wrote before names things as the package does now."
import json
import math
import re
import runpy
import sys
from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from house import ROOT

from genae import core, sharp, tables, train_automodulator, train_deciphering
from genae.automodulator import Automodulator
from genae.core import rng
from genae.cycles import d_x
from genae.datasets import toyfaces
from genae.deciphering import DecipheringAutoencoder
from genae.growing import Phase
from genae.kl import kl_joint
from genae.perceptual import small_perceptual
from genae.sharp import SHARP, Copyist, active, copy_step, hearing, listeners, loudness, narrow, principal, tidy, uniformity
from genae.sphere import sample_sphere

MAKE = runpy.run_path(str(ROOT / "results" / "make.py"), run_name="make")
sys.path.append(str(ROOT / "results")) # where the others find make.py
BASELINES = runpy.run_path(str(ROOT / "results" / "baselines.py"), run_name="baselines")
TWO = runpy.run_path(str(ROOT / "results" / "two_papers.py"), run_name="two_papers")
RUNS = sorted(p.stem for p in (ROOT / "results").glob("*.json") if "numbers" in json.loads(p.read_text()))


@pytest.mark.parametrize("name", RUNS)
def test_a_run_speaks_the_package_s_names(name):
    about = json.loads((ROOT / "results" / f"{name}.json").read_text())
    stem, known = name.partition("-seed")[0], MAKE["RUNS"] | MAKE["CIPHERS"] | MAKE["COPIES"] | BASELINES["RUNS"] | TWO["MODELS"] | tables.RECIPES
    recipes = [train_deciphering.Recipe] if stem in MAKE["CIPHERS"] or name.startswith("two-cipher") else [train_automodulator.Recipe, sharp.Sharp]
    assert stem in known, "a result of a run that neither results/*.py nor lesson 32 knows"
    assert about["num_images"] > 0 and about["images_seen"] >= 0
    assert any(set(about["recipe"] or {}) <= {f.name for f in fields(recipe)} for recipe in recipes)


@pytest.mark.parametrize("name", ["wae-classic", "dcgan", "glo"]) # what can encode, and what cannot
def test_a_rival_from_training_to_json(tmp_path, name):
    make = runpy.run_path(str(ROOT / "results" / "baselines.py"), run_name="baselines")
    kind, settings = make["RUNS"][name]
    (tmp_path / "results").mkdir()
    make["run"].__globals__.update(HERE=tmp_path / "results", IMAGES=96, PICTURES=256, HELD_OUT=512, MODEL=dict(latent_dim=4, widths=(8,) * 5), RUNS={name: (kind, {k: v for k, v in settings.items() if k != "widths"})})
    make["run"](name)
    about = json.loads((tmp_path / "results" / f"{name}.json").read_text())
    assert about["images_seen"] == 96 and about["num_images"] == 256 and about["numbers"]["frechet"]["samples"] > about["numbers"]["frechet"]["two_halves_of_real"]
    assert ("l1" in about["numbers"]) == (name == "wae-classic") and (tmp_path / "results" / f"{name}.png").exists()


def test_a_run_from_copy_to_json(tmp_path):
    "Copy with a wide code, make it narrow, train on, measure and write: the way of the shipped weights, with few pictures."
    make = runpy.run_path(str(ROOT / "results" / "make.py"), run_name="make")
    own = make["run"].__globals__
    game = replace(make["GAME"], phases=(Phase(32, 320., 0., batch=32, lr=1e-3, margin=.3),))
    data = lambda name, _: [toyfaces(n, 64 if name.endswith("64") else 32, s) for s, n in enumerate((256, 1024))]
    for place in ("results", "runs", "genae/weights"): (tmp_path / place).mkdir(parents=True)
    own |= {k: partial(own[k], few=8) for k in ("active", "narrow")} | dict(HERE=tmp_path / "results", SOFT=replace(make["SOFT"], model=dict(widths=(8, 16, 16, 8, 8), blur=True)), COPY_IMAGES=640, TIDY_IMAGES=320, PAIR_IMAGES=320, GROW_IMAGES=96, NARROWS=(11, 40), COPIES={"copy-256": 32}, sets=data, lpips_of=lambda *_: None)
    own["RUNS"] = {"toyfaces": ("toyfaces", "tidy"), "toyfaces-game": ("toyfaces", game), "toyfaces-pose": ("toyfaces", "pose"), "toyfaces-64": ("toyfaces:64", "grown")}
    for name in own["RUNS"]: make["run"](name)
    copy, about, pose, grown = (json.loads((tmp_path / "results" / f"{name}.json").read_text()) for name in ("copy-256", "toyfaces", "toyfaces-pose", "toyfaces-64"))
    assert copy["images_seen"] == 640 and copy["settings"]["latent_dim"] == 32 and set(copy["numbers"]["by_effect"]) == {"11"}
    assert about["settings"]["latent_dim"] == make["NARROW"] and about["images_seen"] == 640 + 320 and about["minutes"] > copy["minutes"] and about["numbers"]["l1"] < 1
    assert json.loads((tmp_path / "results" / "toyfaces-game.json").read_text())["images_seen"] == 320
    model = Automodulator.from_pretrained(tmp_path / "genae" / "weights" / "automodulator_toyfaces.safetensors")
    assert model.about["numbers"] == pose["numbers"] and pose["images_seen"] == 320
    assert grown["settings"]["size"] == 64 and grown["images_seen"] == 640 + 96 + 320 and grown["numbers"]["kept"].keys() == about["numbers"]["kept"].keys()


def test_the_layout_of_pictures_in_memory_changes_nothing(monkeypatch):
    monkeypatch.setattr(core, "has_bfloat16", lambda device: False)
    x, seen = toyfaces(8, 16).batch(torch.arange(8)), []
    def distance(a, b): return seen.append(a.is_contiguous(memory_format=torch.channels_last)) or (a - b).square().mean()
    def net(): return sharp.new_model(toyfaces(8, 16), replace(SHARP, model=dict(latent_dim=8, widths=(8, 8, 8), blur=True)), 0).train()
    by_step, by_hand = net(), net()
    d = sharp.copy_step(sharp.Copyist(by_step), x, 0., distance)
    other = distance(x, by_hand.decoder(by_hand.encoder(x)))
    other.backward()
    assert seen == [True, False]
    torch.testing.assert_close(d, other.detach(), rtol=1e-5, atol=0)
    for p, q in zip(by_step.parameters(), by_hand.parameters()):
        if q.grad is not None: torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-5 * float(q.grad.abs().max()) + 1e-9)


@pytest.mark.parametrize("stop", [3, 6]) # before and after the code is made narrow
def test_a_sharp_run_goes_on_where_it_stopped(tmp_path, stop):
    recipe, data = replace(SHARP, model=dict(latent_dim=24, widths=(8, 8, 8)), total_images=8 * 32), toyfaces(64, 16)
    def engine(folder):
        e = sharp.make_engine(sharp.new_model(data, recipe, 0), data, recipe, folder=folder)
        e.settings = dict(name="sharp")
        return e
    whole, first, second = engine(tmp_path / "a"), engine(tmp_path / "b"), engine(tmp_path / "b")
    whole.run(whole.total, quiet=True)
    def stop_at(t, step=first.step):
        if first.done == stop: raise KeyboardInterrupt
        return step(t)
    first.step = stop_at
    with pytest.raises(KeyboardInterrupt): first.run(first.total, quiet=True, save_every=1)
    assert second.resume() and second.done == stop
    second.run(second.total, quiet=True)
    a, b = (sharp.finalize(e, recipe, 0) for e in (whole, second))
    assert a.latent_dim == b.latent_dim < 24 and all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


def test_a_sharp_run_leaves_even_codes():
    recipe, data = replace(SHARP, model=dict(latent_dim=24, widths=(8, 8, 8)), total_images=8 * 32), toyfaces(256, 16)
    engine = sharp.make_engine(sharp.new_model(data, recipe, 0), data, recipe)
    engine.run(engine.total, quiet=True)
    model, x = sharp.finalize(engine, recipe, 0), data.batch(torch.arange(64))
    trained = engine.parts["copyist"].model.eval()
    (far, before, _, _), (near, after, _, _) = (principal(m, data) for m in (trained, model))
    assert near.norm() < .2 * far.norm() and after[0] / after[-1] < .5 * before[0] / before[-1]
    assert abs(d_x(x, model.reconstruct(x)) / d_x(x, trained.reconstruct(x)) - 1) < .1 # and pictures stay


def leaves(tree):
    inside = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return [tree] if inside is None else [leaf for t in inside for leaf in leaves(t)]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_tells_all(name):
    about = json.loads((ROOT / "results" / f"{name}.json").read_text())
    kinds = dict(name=str, data=str, commit=str, settings=dict, images_seen=int, seed=int, num_images=int, hardware=dict, minutes=(int, float), numbers=dict)
    assert all(isinstance(about[k], kind) for k, kind in kinds.items()) and isinstance(about["recipe"], (dict, type(None)))
    assert set(about) <= set(kinds) | {"recipe", "steps", "epochs", "log", "protocols", "seen"}
    assert about["name"] == name and about["seed"] == int(name.partition("-seed")[2] or 0) and about["minutes"] > 0
    assert re.fullmatch(r"(\S+-g)?[0-9a-f]{7,}(-dirty)?", about["commit"]) and {"machine", "torch"} <= set(about["hardware"])
    assert all(isinstance(v, (int, float)) and math.isfinite(v) for v in leaves(about["numbers"]))
    protocols = about.get("protocols", {})
    assert set(protocols) <= set(about["numbers"]) and all(p and all(isinstance(v, (str, int, float, bool)) for v in p.values()) for p in protocols.values())
    seen = [n for n, _ in about.get("seen", [])]
    assert seen == sorted(set(seen)) and all(0 < n < about["images_seen"] for n in seen)


def test_rows_of_a_table_were_measured_alike():
    "A verdict that the protocols forbid is never printed, and no run behind a table has one of its own."
    said = [c for table in tables.RUNS for c in tables.compare(table, ROOT / "results")]
    assert len(said) > 50 and not [c for c in said if c["verdict"] == "other protocol"]


@pytest.mark.parametrize("heard, prices", {False: (1, 1.5, 1, 1.5, 1), True: (1, 1.5, 1, 1.5, 1.5)}.items())
def test_tidy_counts_what_is_told_or_heard(heard, prices):
    torch.manual_seed(0)
    model, z = Automodulator(16, latent_dim=3, widths=(6, 5, 4)), sample_sphere(12, 3, rng(1))
    n = hearing(model.decoder, z[:8], rng(2)) if heard else loudness(model.decoder)
    even, dear = .1 * uniformity(z) + .05 * kl_joint(z), torch.tensor((1.5, *prices[1:]))
    for more, c in (((), torch.tensor(prices)), ((1,), dear)):
        assert torch.allclose(tidy(model, z, rng(2), heard, more), even + .2 * listeners(n, c), rtol=1e-4)


def test_pairs_count_twice_beside_the_copy():
    torch.manual_seed(0)
    model, x, seen = Automodulator(8, latent_dim=4, widths=(6, 5)), toyfaces(2, 8).batch(torch.arange(2)), []
    x = torch.cat([x, x.flip(-1)])
    model.encoder.register_forward_hook(lambda module, given, z: seen.append(z.detach().float()))
    def distance(a, b):
        seen.append(b.detach().float())
        return 1 + len(seen) + 0 * b.sum()
    d = copy_step(Copyist(model), x, 0., distance, shared_layers=(2, 3)) # a rate of 0 leaves the weights
    z, own, lent = seen
    with torch.no_grad(): for_lent = model.decoder.decode(torch.stack([z, z.roll(2, 0), z.roll(2, 0)]))
    assert torch.allclose(lent, for_lent, atol=.05) and not torch.allclose(lent, own, atol=.05) # atol: sixteen bits
    assert d == (3 + 2 * 4) / 3


def test_narrow_keeps_what_the_directions_hold():
    "Where all directions are kept, the new decoder draws what the old one drew of the same wide codes."
    torch.manual_seed(0)
    dataset, wide = toyfaces(200, 16), Automodulator(16, latent_dim=6, widths=(12, 8, 8)).eval()
    slim, (mean, s, V, _) = narrow(wide, dataset, 6, small_perceptual()), principal(wide, dataset)
    effects, U = active(wide, dataset, small_perceptual(), s[:, None] * V)
    y = sample_sphere(5, 6, rng(1))
    z = (mean + 6 ** .5 * y.double() @ ((V.T * s) @ U).T).float()
    assert torch.equal(effects, effects.sort(descending=True).values)
    with torch.no_grad(): assert torch.allclose(slim.decoder(y), wide.decoder(z), atol=1e-4)
    assert (slim.encode(toyfaces(9, 16, seed=3).batch(torch.arange(9))).norm(dim=1) - 1).abs().max() < 1e-6
    for wrong in (1, 7):
        with pytest.raises(ValueError, match=f"latent_dim={wrong} given, 2 to 6"): narrow(wide, dataset, wrong, small_perceptual())


def test_two_models_are_measured_alike():
    "The questions of two_papers.py, put to models that have learned nothing, of few pictures."
    torch.manual_seed(0)
    own = TWO["measure"].__globals__
    own |= dict(TRIES=8, STEPS=2, lpips=lambda *_, **__: small_perceptual())
    dataset, held_out = toyfaces(128, 32), toyfaces(128, 32, 1)
    x, y = (d.batch(torch.arange(128)) for d in (dataset, held_out))
    learned, drawn = (object.__new__(TWO[k]) for k in ("Learned", "Drawn"))
    learned.model, learned.path = Automodulator(32, latent_dim=6, widths=(8, 8, 8, 8)).eval(), ROOT / "README.md"
    learned.z = learned.model.encode(x)
    drawn.model = DecipheringAutoencoder(32, ((4, 1), (6, 2), (6, 2)), 128, widths=(4, 6, 6, 8), latent_dim=4, bottleneck_channels=4).eval()
    drawn.path, drawn.patterns = ROOT / "README.md", drawn.model.patterns()
    with torch.no_grad(): a, b = (TWO["measure"](held, x, y, dataset.factors, held_out.factors) for held in (learned, drawn))
    assert a.keys() == b.keys() and b["encoded"]["by_channel"]["l1"] <= b["encoded"]["random"]["mean"]
    assert a["frechet"]["training_pictures"] == b["frechet"]["training_pictures"]
    f = dataset.factors[:40]
    shares = TWO["whose"](f, [torch.arange(40), torch.arange(40).roll(1)], f)
    assert torch.allclose(torch.tensor(shares[0]), torch.ones(11)) and max(shares[1]) < .5
