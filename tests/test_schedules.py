"A run keeps its schedule: phases, rates, epochs, averages, checkpoints. What one step does is of tests/test_switches.py."
import json
import os
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from test_switches import BASE, CIPHER, NEAR, SMALL, Doubles, alike, equal, faces, kl, new_engine, phi_loss, slopes, stub, walked

from genae import deciphering, train_automodulator, train_deciphering
from genae.automodulator import Automodulator
from genae.core import rng
from genae.datasets import toyfaces
from genae.engine import Engine
from genae.files import load_state, save_state
from genae.deciphering import DecipheringAutoencoder, batch_norms
from genae.growing import BATCHES, REFERENCE_PHASES, Phase, scale_schedule, growth_at
from genae.train_deciphering import EpochSampler, Stage


pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture(scope="module")
def dataset(): return Doubles(toyfaces(8, size=8, seed=4).images)


@pytest.fixture
def perceptual(monkeypatch): monkeypatch.setattr(train_deciphering, "distance_of", lambda recipe: stub())


def watched(engine, look):
    "Run to the end; what `look` sees after each step, with the pictures seen before it."
    seen, inner = [], engine.step
    def step(t):
        before, out = engine.images_seen, inner(t)
        seen.append((before, look()))
        return out
    engine.step = step
    engine.run(engine.total, quiet=True)
    return seen


def twentieth(t, lr_decay_fraction): return 1. if t < 1 - lr_decay_fraction else 1 - .95 * (t - (1 - lr_decay_fraction)) / lr_decay_fraction # eq. 17.3


# ---------------------------------------------------------------- the automodulator

def test_the_last_phase_goes_on():
    phases = (Phase(8, 20., 0.), Phase(16, 20., 10.))
    assert [growth_at(phases, s) for s in (0., 19.5, 20., 25., 30., 45., 1e9)] == [
        (phases[0], 1.), (phases[0], 1.), (phases[1], 0.), (phases[1], .5), (phases[1], 1.), (phases[1], 1.), (phases[1], 1.)]


def test_schedules_of_the_public_code():
    "Thousands of pictures from size to size, and to the end; batches of a GPU."
    ends = {"cifar10": [12_000], "celeba": [9600, 12_000, 16_800], "celeba-hq": [9600, 20_040, 27_500, 31_880], "ffhq": [9600, 20_040, 30_680, 35_700, 42_420],
            "bedrooms": [9600, 20_040, 24_840, 27_570], "cars": [9600, 20_040, 30_000, 32_060]}
    margins = {"cifar10": [], "celeba": [0., 0.], "celeba-hq": [.5, .2, .4], "ffhq": [.5] * 4, "bedrooms": [.5, .2, .5], "cars": [.5] * 3}
    for name, phases in REFERENCE_PHASES.items():
        begins = [0, 2400, 4800, 7200, *ends[name]]
        sizes = [4 * 2 ** k for k in range(len(phases))]
        assert [(p.size, p.images, p.fade, p.batch, p.lr, p.margin) for p in phases] == [
            (s, 1e3 * (b - a), 1.2e6 if s > 4 else 0., {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 32, 256: 16, 512: 4}[s], 5e-4 if 4 < s < 64 else 1e-3, m)
            for s, a, b, m in zip(sizes, begins, begins[1:], [0., 0., .5, .5, *margins[name]])]
    assert BATCHES[1024] == 1
    with pytest.raises(ValueError, match="no phase of 24 pixels"): scale_schedule(REFERENCE_PHASES["ffhq"], 24)
    assert sum(p.images for p in scale_schedule(REFERENCE_PHASES["ffhq"], 64, 1000.)) == pytest.approx(1000.) and [p.size for p in scale_schedule(REFERENCE_PHASES["ffhq"], 8)] == [4, 8]


PHASES = (Phase(8, 32., 0., 8, 2e-3, 1e-3), Phase(16, 64., 32., 4, 1e-3, 10.))


def test_phases_and_fade_by_pictures_seen(faces):
    torch.manual_seed(0)
    engine = train_automodulator.make_engine(Automodulator(16, latent_dim=4, widths=(6, 5, 4)), faces, replace(BASE, phases=PHASES, lr_decay_fraction=.5, decoder_lr_factor=3.))
    parts = engine.parts
    def look():
        nets = [net for whole in (parts["model"], parts["ema"].net) for net in (whole.encoder, whole.decoder)]
        return [(net.size, net.alpha_fade) for net in nets], [parts[f"{k}coder_optimiser"].param_groups[0]["lr"] for k in ("en", "de")]
    run = watched(engine, look)
    assert [s for s, _ in run] == [0, 8, 16, 24, *range(32, 96, 4)] # batches of eight, then of four
    for seen, (stages, rates) in run:
        size, alpha, lr = (8, 1., 2e-3) if seen < 32 else (16, min(1., (seen - 32) / 32), 1e-3)
        assert stages == [(size, alpha)] * 4
        assert rates == pytest.approx([lr * twentieth(seen / 96, .5), 3 * lr * twentieth(seen / 96, .5)])


def test_a_longer_run_is_the_same_run_stretched(faces):
    phases = tuple(replace(p, batch=8) for p in PHASES)
    engine = train_automodulator.make_engine(Automodulator(16, latent_dim=4, widths=(6, 5, 4)), faces, replace(BASE, phases=phases), 144)
    run = watched(engine, lambda: (engine.parts["model"].size, engine.parts["model"].encoder.alpha_fade))
    assert run == [(s, (8, 1.) if s < 48 else (16, min(1., (s - 48) / 48))) for s in range(0, 144, 8)]


def test_real_pictures_are_faded_in(faces):
    run = walked(faces, replace(BASE, phases=PHASES), t=40 / 96)
    x = run.shown[0][0]
    index = faces.asked
    whole = faces.batch(index)
    coarse = (whole[..., ::2, ::2] + whole[..., 1::2, ::2] + whole[..., ::2, 1::2] + whole[..., 1::2, 1::2]) / 4
    assert torch.allclose(x, .25 * whole + .75 * coarse.repeat_interleave(2, 2).repeat_interleave(2, 3), **NEAR)
    small = walked(faces, replace(BASE, phases=PHASES), t=.1).shown[0][0]
    assert small.shape == (8, 3, 8, 8) and len(x) == 4


@pytest.mark.parametrize("t", (.1, .9))
def test_each_phase_has_its_margin(faces, t): # one that is reached, then one that is not
    phases = tuple(replace(p, lr=0., fade=0.) for p in PHASES)
    run = walked(faces, replace(BASE, phases=phases), t=t, dull=True)
    with torch.no_grad(): gap = kl(run.net.encoder(run.shown[0][0])) - kl(run.net.encoder(run.shown[0][1]))
    assert -10 < gap < -1e-3
    for phase in phases:
        want = slopes(phi_loss(run, replace(BASE, phases=(phase,))), run.phi)
        assert alike(run.grads[0][0], want) == (phase.size == run.net.size)


def test_a_run_leaves_the_average(faces):
    recipe = replace(BASE, phases=(Phase(8, 40., 0., 8, 1e-2, 10.),), ema_half_life=12.)
    dataset = Doubles(faces.images[..., ::2, ::2])
    torch.manual_seed(0)
    engine = train_automodulator.make_engine(Automodulator(8, latent_dim=4, widths=(6, 5)), dataset, recipe)
    net, average = engine.parts["model"], None
    for seen, weights in watched(engine, lambda: [p.detach().clone() for p in net.parameters()]):
        keep = min(.5 ** (8 / 12), 1 - 8 / (seen + 8))
        average = weights if average is None else [keep * a + (1 - keep) * w for a, w in zip(average, weights)]
    best = train_automodulator.finalize(engine, recipe, 0)
    assert alike(best.parameters(), average) and not alike(best.parameters(), net.parameters()) and not best.training
    assert any(k.endswith("_u") for k, _ in net.named_buffers()) and equal(best.buffers(), net.buffers()) # the vectors of spectral norm
    again = train_automodulator.train(dataset, recipe, 40, quiet=True, latent_dim=4, widths=(6, 5))
    assert equal(again.parameters(), best.parameters())


# ---------------------------------------------------------------- deciphering

def epochs(order, n): return [torch.cat([order.next() for _ in range(order.per_epoch // order.batch)]).tolist() for _ in range(n)]


@pytest.mark.parametrize("n, batch", ((8, 4), (9, 4), (6, 6), (5, 8)))
def test_every_epoch_is_whole_and_in_an_order_of_its_own(n, batch):
    order = EpochSampler(n, batch, 3)
    seen = epochs(order, 6)
    assert order.epoch == 5 and all(len(set(e)) == len(e) == n // min(batch, n) * min(batch, n) for e in seen)
    assert len({tuple(e) for e in seen}) == 6 and set(sum(seen, [])) == set(range(n)) # whoever is left over is another one each time
    assert epochs(EpochSampler(n, batch, 3), 6) == seen != epochs(EpochSampler(n, batch, 4), 6)


@pytest.mark.parametrize("decay_reaches_target", (True, False))
def test_decay_rate_and_shift_of_each_epoch(dataset, perceptual, decay_reaches_target):
    encode_shift = []
    recipe = replace(CIPHER, stages=(Stage(4, 2, .5), Stage(2, 0)), weight_decay=.08, decay_reaches_target=decay_reaches_target, lr_decay_fraction=.25, batch=4)
    engine = new_engine(dataset, recipe)
    assert engine.total == 6 * 8
    engine.parts["model"].net.shift.register_forward_hook(lambda m, i, o: encode_shift.append(o.detach().clone()))
    run = watched(engine, lambda: [(g["weight_decay"], g["lr"]) for g in engine.parts["optimiser"].param_groups])
    for seen, groups in run:
        e = seen // 8 # two steps an epoch
        decay = .08 * [0, .5, 1, 1, 1, 1][e] if decay_reaches_target else .08 * [0, .5, .5, .5, 1, 1][e]
        slow = twentieth(seen / 48, .25)
        assert [v for g in groups for v in g] == pytest.approx([decay, 2e-3 * slow, decay, 5e-4 * slow])
    own = {id(p) for p in engine.parts["model"].net.shift.parameters()}
    assert [{id(p) in own for p in g["params"]} for g in engine.parts["optimiser"].param_groups] == [{False}, {True}]
    assert sum(len(g["params"]) for g in engine.parts["optimiser"].param_groups) == len([*engine.parts["model"].net.parameters()])
    shift_images = [len({tuple(row) for row in o.tolist()}) > 1 for o in encode_shift]
    assert any(shift_images[:8]) and not any(shift_images[8:]) # the network is told of a shift in the first stage alone


def test_optimiser_and_average_begin_anew_with_a_stage(dataset, perceptual):
    engine = new_engine(dataset, replace(CIPHER, stages=(Stage(2, 2, .5), Stage(2, 0))))
    optimiser, average, net = engine.parts["optimiser"], engine.parts["ema"], engine.parts["model"].net
    look = lambda: ({int(s["step"]) for s in optimiser.state.values()}, average.images_seen, equal(average.net.parameters(), net.parameters()), equal(average.net.buffers(), net.buffers()))
    assert [r for _, r in watched(engine, look)] == [({k}, 4 * k, k == 1, True) for k in (1, 2, 3, 4) * 2]


def test_the_cipher_that_a_run_leaves(dataset, perceptual):
    engine = new_engine(dataset, CIPHER, seed=1)
    engine.run(engine.total, quiet=True)
    average, last = [p.clone() for p in engine.parts["ema"].net.parameters()], [p.clone() for p in engine.parts["model"].net.parameters()]
    model = train_deciphering.finalize(engine, CIPHER, 1)
    assert equal(model.net.parameters(), average) and not alike(average, last) and not model.training
    again = train_deciphering.train(dataset, CIPHER, seed=1, quiet=True)
    assert equal(again.state_dict().values(), model.state_dict().values())


def test_statistics_of_new_patterns_are_for_new_patterns():
    torch.manual_seed(0)
    model = DecipheringAutoencoder(8, CIPHER.layers, 9, **SMALL)
    for p in model.parameters(): p.data.mul_(3)
    want, g = {}, rng(4)
    for of in ("new", "known"): # new patterns are drawn first
        patterns = model.new_patterns(9, g) if of == "new" else model.patterns()
        net, sums = deepcopy(model.net).train(), [[] for _ in batch_norms(model.net)]
        for m, s in zip(batch_norms(net), sums): m.register_forward_hook(lambda m, i, o, s=s: s.append(torch.stack([i[0].mean((0, 2, 3)), i[0].transpose(0, 1).flatten(1).var(1)])))
        if of == "new": draw = g
        for _ in range(2): # twice each, in batches of all
            with torch.no_grad(): net(torch.randn(9, 3, 8, 8, generator=draw), patterns.masks(), torch.full((9, 1), 50.))
        want[of] = torch.cat([sum(s) / 2 for s in sums], 1)
    deciphering.recompute_batch_norm(model, rng(4))
    known = torch.stack([torch.cat([getattr(m, k) for m in batch_norms(model.net)]) for k in ("running_mean", "running_var")])
    assert torch.allclose(model.new_pattern_statistics, want["new"], **NEAR) and torch.allclose(known, want["known"], **NEAR) and not torch.allclose(model.new_pattern_statistics, known, rtol=.01)
    few = model.new_patterns(4, rng(6))
    for of, own in want.items():
        net, at = deepcopy(model.net).eval(), 0
        for m in batch_norms(net):
            m.running_mean, m.running_var = own[:, at:at + m.num_features].clone()
            at += m.num_features
        with torch.no_grad(): picture = net(model.noise.expand(4, -1, -1, -1), few.masks(), torch.full((4, 1), 50.)).clamp(-1, 1)
        assert torch.allclose(model.decipher(few, of), picture, **NEAR)
        assert torch.allclose(model.sample(4, rng(6)), picture, **NEAR) == (of == "new")
        assert torch.allclose(model.decipher(few), picture, **NEAR) == (of == "known")


@pytest.mark.parametrize("clusters", (1, 2))
def test_new_patterns_are_never_old_ones(clusters):
    "Where there are so few patterns that the new ones must be all that are left."
    n, first = {1: (9, range(4)), 2: (5, (2, 3))}[clusters]
    model = DecipheringAutoencoder(8, ((4, 1), (4, 1)), n, clusters, widths=(4, 4, 8), latent_dim=4, bottleneck_channels=4)
    model.labels.fill_(clusters - 1)
    rows = lambda patterns: [tuple(int(a[i]) for a in patterns.active) for i in range(len(patterns))]
    for seed in range(8): assert sorted(rows(model.patterns()) + rows(model.new_patterns(4 * len(first) - n, rng(seed)))) == [(a, b) for a in first for b in range(4)]


# ---------------------------------------------------------------- the engine

class Counter:
    "A part that counts; every step has a random number for its log."
    def __init__(self): self.n = torch.zeros(())
    def state_dict(self): return dict(n=self.n)
    def load_state_dict(self, state): self.n = state["n"].clone()
    def step(self, t):
        self.n += 1
        return 10, dict(loss=torch.rand(()))


def counting(folder, broken_at=None):
    part = Counter()
    def step(t):
        if part.n + 1 == broken_at: raise KeyboardInterrupt
        return part.step(t)
    return Engine(step, dict(counter=part), folder)


def test_the_log_is_cut_where_the_checkpoint_is(tmp_path):
    torch.manual_seed(0)
    straight = counting(None).run(100, note_every=1, quiet=True)
    torch.manual_seed(0)
    engine = counting(tmp_path, broken_at=8)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        save, allowed = Engine.save, [3, 6]
        patch.setattr(Engine, "save", lambda e: save(e) if e.done in allowed else None) # power is lost: nobody saves at the end
        engine.run(100, note_every=1, save_every=3, quiet=True)
    file = tmp_path / "log.jsonl"
    read = lambda: [json.loads(line) for line in file.read_text().splitlines()]
    assert [r["step"] for r in read()] == [1, 2, 3, 4, 5, 6, 7]
    with open(file, "a") as f: f.write('{"step": 8, "se') # and a line is half written
    torch.manual_seed(9)
    engine = counting(tmp_path)
    assert engine.resume() and engine.done == 6 and [r["step"] for r in engine.log] == [1, 2, 3, 4, 5, 6] # the file is written anew with the first new line
    engine.run(100, note_every=1, quiet=True)
    assert engine.log == read() == straight


def test_a_file_is_whole_or_it_is_the_old_one(tmp_path, monkeypatch):
    path, replaced = tmp_path / "checkpoint.safetensors", os.replace
    save_state(path, dict(x=torch.zeros(3)))
    def dies(source, target): # just before the rename
        if str(target) == str(path):
            assert load_state(source)["x"].tolist() == [1, 1, 1] and load_state(target)["x"].tolist() == [0, 0, 0]
            raise OSError("the machine has died")
        return replaced(source, target)
    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(OSError, match="has died"): save_state(path, dict(x=torch.ones(3)))
    monkeypatch.undo()
    assert load_state(path)["x"].tolist() == [0, 0, 0]
    save_state(path, dict(x=torch.ones(3)))
    assert load_state(path)["x"].tolist() == [1, 1, 1]
