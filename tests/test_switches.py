"""Every switch of both recipes does what it says, and that alone.

A small run in double precision stands beside a textbook's: losses by torch.distributions, mixtures and shifts by loops, Adam,
AdamW and averages by their formulas. Each switch is a row: with it on, the package still agrees with the textbook, and the
textbook with it on does not agree with the textbook with it off."""
import math
from copy import copy, deepcopy
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from scipy.special import k1
from torch import distributions as D
from torch import nn
from torch.nn import functional as F

from genae import core, deciphering, train_automodulator, train_deciphering
from genae.automodulator import Automodulator
from genae.core import rng
from genae.datasets import ImageDataset, toyfaces
from genae.deciphering import DecipheringAutoencoder
from genae.growing import Phase
from genae.perceptual import Perceptual

pytestmark = pytest.mark.usefixtures("double")
NEAR = dict(rtol=1e-9, atol=1e-11) # two orders of summation in double precision


class Doubles(ImageDataset):
    "Pictures in double precision; `asked` are the indices of the last batch."
    def batch(self, index, *a, **k):
        self.asked = index
        return ((super().batch(index, *a, **k).double() + 1) * 127.5).round() / 127.5 - 1


@pytest.fixture(scope="module")
def faces(): return Doubles(toyfaces(12, size=16, seed=3).images)


KEPT = {}
def once(name, make): # runs with all switches off are made once
    if name not in KEPT: KEPT[name] = make()
    return KEPT[name]


def alike(a, b): return all(torch.allclose(x, y, **NEAR) for x, y in zip(a, b, strict=True))
def equal(a, b): return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------- the automodulator

AUTO = {f.name for f in fields(train_automodulator.Recipe)}
PAIRS = dict(shared_layers=(2, 0), lambda_inv=2.) # layers 2 to N are those of the mirror image as well
STILL = (Phase(16, 64., 0., batch=8, lr=0., margin=10.),) # a rate of 0: the gradients of a step are left, and the weights are those that it began with
BASE = train_automodulator.Recipe(
    phases=STILL, model={}, distance="L1", scale_lo=.2, lambda_x=2., lambda_z=3., lambda_j=1.5, l2_norm_j=False, lambda_joint=0., lambda_real=0., clamp_above=False,
    stable_lambda_x=1., mixed_fraction=.25, mixed_fraction_theta=.25, crossover_at_n=False, crossover_between_resolutions=False, shared_layers=(), lambda_inv=1.,
    pairs_replace_reconstruction=False, pool_size=0, flip=False, freeze_previous_to_rgb=False, keep_robust_grads=False, scrambled_growth=False, ema_per_step=False,
    decoder_learns_x=False, decoder_lr_factor=1., betas=(0., .99), lr_decay_fraction=0., ema_half_life=1e4)


def walked(faces, recipe, steps=1, t=0., dull=False):
    "Steps of a small model in evaluation mode, so that its networks are functions of their weights, and what was drawn and shown in each."
    torch.manual_seed(0)
    net = Automodulator(16, latent_dim=4, widths=(6, 5, 4), depth=(1, 2))
    for p in net.decoder.to_rgb.parameters() if dull else (): p.data.mul_(.01) # generated pictures are nearly grey, and their codes near to each other
    engine = train_automodulator.make_engine(net, faces, recipe, seed=1)
    net.eval()
    if "styles_optimiser" in engine.parts: engine.parts["styles_optimiser"].param_groups[0]["lr"] = recipe.phases[0].lr # else its own
    run = SimpleNamespace(engine=engine, net=net, draws=[], shown=[], terms=[], grads=[], average=engine.parts["ema"], distance=engine.parts.get("distance"))
    run.phi, run.theta = ([*part.parameters()] for part in (net.encoder, net.decoder))
    latents, loss = train_automodulator.sample_latents, train_automodulator.encoder_loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_automodulator, "sample_latents", lambda *a, **k: run.draws.append(latents(*a, **k)) or run.draws[-1])
        patch.setattr(train_automodulator, "encoder_loss", lambda e, d, x, fake, *a, **k: run.shown.append((x, fake)) or loss(e, d, x, fake, *a, **k))
        for s in range(steps):
            run.terms.append(engine.step(t[s] if isinstance(t, (list, tuple)) else t)[1])
            run.grads.append([[torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in ps] for ps in (run.phi, run.theta)])
    return run


def kl(z): # of a normal distribution for each number, to the standard one
    return D.kl_divergence(D.Normal(z.mean(0), z.std(0, correction=0)), D.Normal(torch.zeros(z.shape[1]), torch.ones(z.shape[1]))).mean()


def painted(decoder, styles): # layer by layer, one code for each
    canvas, seen = decoder.initial_canvas(len(styles[0])), {}
    for i, z in enumerate(styles, 1): seen[decoder.layer_resolutions[i - 1]] = canvas = decoder.run(canvas, z, i, i)
    x = decoder.to_rgb[str(decoder.size)](canvas)
    if decoder.alpha_fade == 1: return x
    old = decoder.to_rgb[str(decoder.size // 2)](seen[decoder.size // 2]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return decoder.alpha_fade * x + (1 - decoder.alpha_fade) * old


def generated(decoder, latents): # plain pictures, mixtures, and the mixtures' canvas after layer j
    N, plain = decoder.n, len(latents.z) - len(latents.z_b)
    z, z_a = latents.z[:plain], latents.z[plain:]
    canvas = decoder.initial_canvas(len(z_a))
    for i in range(1, latents.crossover + 1): canvas = decoder.run(canvas, z_a, i, i)
    return painted(decoder, [z] * N), painted(decoder, [z_a] * latents.crossover + [latents.z_b] * (N - latents.crossover)), canvas


def charbonnier(run, recipe): # the robust loss where its shapes begin, at 1, in closed form
    def distance(x, x_hat):
        latent_dim = run.distance.scale_latent[str(x.shape[-1])]
        c = recipe.scale_lo + (1 - recipe.scale_lo) * (1 + latent_dim.exp() * (math.e - 1)).log()
        return (((((x - x_hat) / c) ** 2 + 1).sqrt() - 1 + c.log()).mean() + math.log(2 * math.e * k1(1.)))
    return distance


def phi_loss(run, recipe, shown=None):
    x, fake = shown or run.shown[-1]
    encoder, decoder = run.net.encoder, run.net.decoder
    z, margin, N = encoder(x), recipe.phases[-1].margin, decoder.n
    distance = dict(L1=lambda a, b: (a - b).abs().mean(), L2=lambda a, b: ((a - b) ** 2).mean(), robust=charbonnier(run, recipe) if run.distance is not None else None)[recipe.distance]
    real = kl(z)
    gap, half, pairs = real - kl(encoder(fake)), len(x) // 2, recipe.shared_layers
    instead = pairs and recipe.pairs_replace_reconstruction
    if instead: gap = gap - real + (real := (kl(z[:half]) + kl(z[half:])) / 2)
    loss = gap.clamp(min=-margin)
    if recipe.clamp_above: loss = loss.clamp(max=margin / 2)
    weight = recipe.lambda_x * (recipe.stable_lambda_x if decoder.alpha_fade == 1 else 1)
    if not instead: loss = loss + weight * distance(x, painted(decoder, [z] * N))
    loss = loss + recipe.lambda_real * real
    if recipe.lambda_joint:
        centred = z - z.mean(0)
        whole = D.MultivariateNormal(z.mean(0), centred.T @ centred / len(z) + 1e-8 * torch.eye(z.shape[1]))
        loss = loss + recipe.lambda_joint * D.kl_divergence(whole, D.MultivariateNormal(torch.zeros(z.shape[1]), torch.eye(z.shape[1]))) / z.shape[1]
    if pairs: # both pictures of each pair, first layer their own, the rest driven by the other's code
        a, b = z[:half], z[half:]
        inv = distance(x[:half], painted(decoder, [a] + [b] * (N - 1))) + distance(x[half:], painted(decoder, [b] + [a] * (N - 1)))
        loss = loss + (weight if instead else recipe.lambda_inv) * inv
    return loss


def theta_loss(run, recipe, latents=None):
    encoder, decoder, latents = run.net.encoder, run.net.decoder, latents or run.draws[-1]
    plain, mixed, canvas = generated(decoder, latents)
    codes, again = encoder(torch.cat([plain, mixed])), decoder.initial_canvas(len(mixed))
    z, z_hat = latents.z[:len(plain)], codes[:len(plain)]
    loss = kl(codes) + recipe.lambda_z * sum(1 - F.cosine_similarity(a, b, 0) for a, b in zip(z, z_hat)) / len(z)
    for i in range(1, latents.crossover + 1): again = decoder.run(again, codes[len(plain):], i, i)
    if len(mixed): loss = loss + recipe.lambda_j * ((again - canvas).flatten(1).norm(dim=1).mean() if recipe.l2_norm_j else ((again - canvas) ** 2).mean())
    return loss


def slopes(loss, parameters): return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True))]


def textbook(run, recipe):
    "The gradients of both halves of the last step."
    phi, theta = slopes(phi_loss(run, recipe), run.phi), slopes(theta_loss(run, recipe), run.theta)
    if recipe.decoder_learns_x: theta = [a + b for a, b in zip(theta, slopes(phi_loss(run, recipe), run.theta))]
    return phi, theta


NARROW = dict(phases=(replace(STILL[0], margin=.6),)) # the divergences differ by more than its half, and by less than the whole
LOSSES = dict(none=({}, {}, ""), # switch: values, what they need to be seen, whose gradient they may change
    lambda_x=(dict(lambda_x=7.), {}, "phi"), lambda_real=(dict(lambda_real=.7), {}, "phi"), lambda_joint=(dict(lambda_joint=.7), {}, "phi"), clamp_above=(dict(clamp_above=True), NARROW, "phi"),
    stable_lambda_x=(dict(stable_lambda_x=1.5), {}, "phi"), distance=(dict(distance="robust"), {}, "phi"), L2=(dict(distance="L2"), {}, "phi"), scale_lo=(dict(scale_lo=.5), dict(distance="robust"), "phi"),
    lambda_z=(dict(lambda_z=.5), {}, "theta"), lambda_j=(dict(lambda_j=6.), {}, "theta"), decoder_learns_x=(dict(decoder_learns_x=True), {}, "theta"), l2_norm_j=(dict(l2_norm_j=True), {}, "theta"),
    mixed_fraction_theta=(dict(mixed_fraction_theta=.5), {}, "theta"), mixed_fraction=(dict(mixed_fraction=.5), {}, "both"), pairs=(PAIRS, {}, "both"), lambda_inv=(dict(lambda_inv=5.), PAIRS, "phi"), pairs_replace_reconstruction=(dict(pairs_replace_reconstruction=True), PAIRS, "phi"))
ALIAS = dict(L2="distance", pairs="shared_layers")


@pytest.mark.parametrize("switch", LOSSES)
def test_a_loss(faces, switch):
    values, needs, whose = LOSSES[switch]
    off = replace(BASE, **needs)
    on = replace(off, **values)
    was, now = once(repr(needs), lambda: walked(faces, off)), walked(faces, on)
    if switch == "scale_lo": # where the scales lie at it
        for run in (was, now):
            with torch.no_grad(): run.distance.scale_latent["16"].fill_(-60.)
        assert torch.allclose(now.distance.scale(16), torch.full((3, 16, 16), .5), **NEAR) and torch.allclose(was.distance.scale(16), torch.full((3, 16, 16), .2), **NEAR)
        with torch.no_grad(): assert torch.allclose(now.distance(now.shown[0][0], now.shown[0][0] * .5), charbonnier(now, on)(now.shown[0][0], now.shown[0][0] * .5), **NEAR)
        return
    for got, want, net in zip(now.grads[-1], textbook(now, on), ("phi", "theta")): assert alike(got, want), f"{switch}: the gradient of {net}"
    if switch == "clamp_above": assert .3 < now.terms[0]["kl_real"] - now.terms[0]["kl_fake"] < .6
    if switch == "pairs": assert equal([now.shown[-1][0][:4].flip(-1)], [now.shown[-1][0][4:]])
    if switch == "mixed_fraction": assert len(was.draws[0].z_b) == 2 and len(now.draws[0].z_b) == 4 == 2 * len(now.draws[1].z_b)
    if switch == "mixed_fraction_theta": assert len(was.draws[1].z_b) == 2 and len(now.draws[1].z_b) == 4 == 2 * len(now.draws[0].z_b)
    if switch == "distance": # its shapes and scales are trained by the same loss
        assert alike([p.grad for p in now.distance.scale_latent.values() if p.grad is not None], slopes(phi_loss(now, on), [now.distance.scale_latent["16"]]))
    if switch == "none": return
    differ = {net: not alike(a, b) for a, b, net in zip(was.grads[-1], now.grads[-1], ("phi", "theta"))}
    assert (differ["phi"] or whose == "theta") and (differ["theta"] or whose == "phi")
    if whose != "both" and not switch.startswith("mixed"): assert differ == dict(phi=whose == "phi", theta=whose == "theta"), f"{switch} moves {differ}"


def test_whole_blocks(faces): # layers at 4, 8, 8, 16, 16 pixels
    def places(recipe): return {d.crossover for d in walked(faces, recipe, 8).draws}
    inner = places(BASE)
    assert {2, 4} & inner and inner <= {1, 2, 3, 4} and places(replace(BASE, crossover_between_resolutions=True)) == {1, 3}
    assert 5 in places(replace(BASE, crossover_at_n=True))


def test_stable_x_waits_until_a_resolution_is_faded_in(faces):
    phases = (Phase(8, 16., 0., 8, 0., 10.), Phase(16, 64., 64., 8, 0., 10.))
    one, other = (walked(faces, replace(BASE, phases=phases, stable_lambda_x=s), t=.4) for s in (1., 1.5))
    assert other.net.encoder.alpha_fade < 1 and equal(one.grads[0][0], other.grads[0][0])
    assert alike(one.grads[0][0], textbook(one, replace(BASE, phases=phases))[0])


def test_hold_colours(faces):
    phases = (Phase(8, 16., 0., 8, 1e-2, 10.), Phase(16, 64., 64., 8, 1e-2, 10.))
    runs, moved = [], []
    for hold in (False, True):
        run = walked(faces, replace(BASE, phases=phases, freeze_previous_to_rgb=hold), t=.4)
        torch.manual_seed(0)
        before = Automodulator(16, latent_dim=4, widths=(6, 5, 4), depth=(1, 2)).state_dict()
        runs.append(run.net.state_dict())
        moved.append({k for k, v in runs[-1].items() if not torch.equal(v, before[k])})
    held = {"decoder.to_rgb.8.weight", "decoder.to_rgb.8.bias"}
    assert held <= moved[0] and moved[1] == moved[0] - held
    assert all(torch.equal(runs[0][k], runs[1][k]) for k in moved[1]) # and the rest of the step is the same


def test_stale_shapes(faces):
    off, on = (walked(faces, replace(BASE, distance="robust", keep_robust_grads=s), k) for s, k in ((False, 1), (True, 3)))
    single = []
    for x, fake in on.shown: single.append(slopes(phi_loss(on, replace(BASE, distance="robust"), (x, fake)), [on.distance.scale_latent["16"]])[0])
    assert torch.allclose(on.distance.scale_latent["16"].grad, sum(single), **NEAR) # never zeroed
    again = walked(faces, replace(BASE, distance="robust"), 3)
    assert torch.allclose(again.distance.scale_latent["16"].grad, single[-1], **NEAR) and torch.allclose(off.distance.scale_latent["16"].grad, single[0], **NEAR)


@pytest.mark.parametrize("scrambled_growth", (False, True))
def test_scrambled(faces, scrambled_growth):
    phases = tuple(Phase(s, 16., 0., 8, 0., 10.) for s in (4, 8, 16))
    torch.manual_seed(0)
    net = Automodulator(16, latent_dim=4, widths=(6, 5, 4), depth=(1, 2))
    engine = train_automodulator.make_engine(net, faces, replace(BASE, phases=phases, distance="robust", scrambled_growth=scrambled_growth))
    tables = engine.parts["distance"].scale_latent
    with torch.no_grad(): tables["4"].copy_(torch.arange(48.).view(3, 4, 4) / 48)
    engine.step(.1)
    engine.step(.4)
    old, new = tables["4"].tolist(), tables["8"].flatten().tolist()
    flat = [v for plane in old for row in plane for v in row]
    want = [flat[k // 4] for k in range(192)] if scrambled_growth else [old[c][y // 2][x // 2] for c in range(3) for y in range(8) for x in range(8)]
    assert new == want


def test_pool(faces):
    phases = (Phase(8, 24., 0., 8, 0., 10.), Phase(16, 64., 16., 8, 0., 10.))
    t = [0., .1, .2, .3, .4, .6, .7, .8, .9, .95] # three steps at 8 px, two while 16 px are faded in, then five
    run, without = (walked(faces, replace(BASE, phases=phases, pool_size=n, mixed_fraction=0.), 10, t) for n in (12, 0))
    def key(x): return [round(v, 9) for v in x.flatten(1)[:, ::7].sum(1).tolist()]
    made, seen = [], []
    for s, (latents, (_, fake)) in enumerate(zip(run.draws[::2], run.shown)):
        run.net.encoder.grow(8 if s < 3 else 16); run.net.decoder.grow(8 if s < 3 else 16, {3: fake_alpha(phases, .3), 4: fake_alpha(phases, .4)}.get(s, 1.))
        with torch.no_grad(): made.append(key(generated(run.net.decoder, latents)[0]))
        seen.append(key(fake))
    new_pattern_statistics, old = zip(*((sum(k in made[s] for k in ks), sum(k in sum(made[:s], []) for k in ks)) for s, ks in enumerate(seen)))
    assert all(f + o == 8 for f, o in zip(new_pattern_statistics, old)) # whatever is shown was made
    assert old[0] == 0 < old[1] + old[2] and old[3:6] == (0, 0, 0) and sum(old[6:]) > 4 and sum(new_pattern_statistics[7:]) > 4 # empty, filling; not while fading; emptied with the size; about half
    later = sum(seen[5:], []) + key(run.engine.parts["pool"].images)
    assert set(later) == set(sum(made[5:], [])) and len(run.engine.parts["pool"].images) == 12 # nothing is lost on the way
    assert all(torch.allclose(torch.cat(generated(without.net.decoder, d)[:2]), x, **NEAR) for d, (_, x) in zip(without.draws[10::2], without.shown[5:]))


def fake_alpha(phases, t): return (t * sum(p.images for p in phases) - phases[0].images) / phases[1].fade


def adam(p, grads, rates, betas):
    "The weights after some steps of Adam, by its formula."
    m = v = torch.zeros_like(p)
    for k, (g, lr) in enumerate(zip(grads, rates), 1):
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        p = p - lr * (m / (1 - betas[0] ** k)) / ((v / (1 - betas[1] ** k)).sqrt() + 1e-8)
    return p


MOVING = replace(BASE, phases=(replace(STILL[0], lr=1e-3),))
STEPS = dict(betas=(dict(betas=(.5, .9)), (0., .99), 1., (1., 1., 1.)), decoder_lr_factor=(dict(decoder_lr_factor=4.), (0., .99), 4., (1., 1., 1.)),
             lr_decay_fraction=(dict(lr_decay_fraction=.5), (0., .99), 1., (1., 1 - .95 * .5, .05)), none=({}, (0., .99), 1., (1., 1., 1.)))


@pytest.mark.parametrize("switch", STEPS)
def test_a_step_of_adam(faces, switch):
    values, betas, rate, falls = STEPS[switch]
    betas = values.get("betas", betas)
    torch.manual_seed(0)
    before = Automodulator(16, latent_dim=4, widths=(6, 5, 4), depth=(1, 2))
    run = walked(faces, replace(MOVING, **values), 3, [0., .75, 1.])
    for part, (ps, start, factor) in enumerate(((run.phi, before.encoder.parameters(), 1.), (run.theta, before.decoder.parameters(), rate))):
        for k, (p, p0) in enumerate(zip(ps, start)):
            want = adam(p0.detach(), [g[part][k] for g in run.grads], [1e-3 * f * factor for f in falls], betas)
            assert torch.allclose(p, want, rtol=1e-7, atol=1e-9), (switch, part, k) # Adam divides by roots of small squares


def test_half_life(faces):
    for half_life in (20., 1e4):
        run, averages = walked(faces, replace(MOVING, ema_half_life=half_life)), []
        torch.manual_seed(0)
        want, seen = [p.detach().clone() for p in run.theta], 8
        assert equal(run.average.net.decoder.parameters(), want) # after its first step the average is the model
        for _ in range(4):
            run.engine.step(0.)
            seen += 8
            keep = min(.5 ** (8 / half_life), 1 - 8 / seen)
            want = [keep * w + (1 - keep) * p.detach() for w, p in zip(want, run.theta)]
        assert alike(run.average.net.decoder.parameters(), want)


def test_average_by_step(faces):
    for batch in (4, 8): # whatever the batch; late in a run, where no warm-up matters
        run = walked(faces, replace(MOVING, ema_per_step=True, phases=(replace(STILL[0], lr=1e-2, batch=batch),)))
        run.average.images_seen, was = 10 ** 9, [p.clone() for p in run.average.net.decoder.parameters()]
        run.engine.step(0.)
        assert alike(run.average.net.decoder.parameters(), [.999 * w + .001 * p.detach() for w, p in zip(was, run.theta)])


def test_flip(faces):
    def mirrored(recipe):
        run, turned = walked(faces, recipe, 4), 0
        known = faces.batch(torch.arange(12))
        for x, _ in run.shown:
            for p in x:
                assert any(torch.equal(p, q) or torch.equal(p, q.flip(-1)) for q in known)
                turned += not any(torch.equal(p, q) for q in known)
        return turned
    assert mirrored(BASE) == 0 and 6 < mirrored(replace(BASE, flip=True)) < 26


def test_perceptual(faces):
    "The second distance moves both networks through the reconstruction, by its weight, and changes nothing else."
    def grads(weight, perceptual):
        torch.manual_seed(0)
        net = Automodulator(16, latent_dim=4, widths=(6, 5, 4), depth=(1, 2))
        recipe = replace(BASE, lambda_perceptual=weight, lambda_x=2., decoder_learns_x=True)
        engine = train_automodulator.make_engine(net, faces, recipe, perceptual=perceptual)
        grads = []
        for name in ("encoder", "decoder"): engine.parts[f"{name}_optimiser"].register_step_pre_hook(lambda o, *_: grads.append([p.grad.clone() for group in o.param_groups for p in group["params"] if p.grad is not None]))
        return engine.step(0.)[1], [torch.cat([g.flatten() for g in gs]) for gs in grads]
    square = lambda x, x_hat: (x - x_hat).square().mean((1, 2, 3))
    (off, none), (low, one), (high, two) = grads(0., None), grads(1., square), grads(2., square)
    for a, b, c in zip(none, one, two): assert (b - a).abs().max() > 1e-4 and torch.allclose(c - a, 2 * (b - a), rtol=1e-6, atol=1e-9)
    assert torch.allclose(high["d_x"] - off["d_x"], 2 * (low["d_x"] - off["d_x"]), **NEAR) and high["d_x"] > off["d_x"]
    with pytest.raises(ValueError, match="nothing to measure it with: give `perceptual`"): grads(1., None)
    with pytest.raises(ValueError, match="lambda_perceptual=0: set its weight"): grads(0., square)


def test_bfloat16_of_the_automodulator(monkeypatch):
    "Where the recipe says so and the processor can: products in sixteen bits; codes, pictures, losses, gradients and weights are not."
    torch.set_default_dtype(torch.float32)
    for can in (True, False):
        monkeypatch.setattr(core, "has_bfloat16", lambda device: can)
        for wanted in (True, False):
            torch.manual_seed(0)
            net, kinds = Automodulator(16, latent_dim=4, widths=(6, 5, 4), depth=(1, 2), noise=4), {}
            for k, m in (("conv", net.encoder.blocks["16"][0]), ("code", net.encoder), ("style", net.decoder.layers[1].adain.g), ("picture", net.decoder)): m.register_forward_hook(lambda m, i, o, k=k: kinds.setdefault(k, set()).add(o.dtype))
            engine = train_automodulator.make_engine(net, toyfaces(12, 16), replace(BASE, bfloat16=wanted, distance="robust", lambda_j=1., mixed_fraction=.5))
            terms = engine.step(0.)[1]
            single = {torch.float32}
            assert kinds == dict(conv={torch.bfloat16} if can and wanted else single, code=single, style=single, picture=single)
            assert all(t.dtype == torch.float32 and t.isfinite() for t in terms.values()) and all(p.dtype == p.grad.dtype == torch.float32 for p in net.parameters() if p.grad is not None)


def test_every_switch_of_the_automodulator_has_a_row():
    rows = {ALIAS.get(k, k) for k in LOSSES} - {"none"} | set(STEPS) - {"none"} | {"crossover_between_resolutions", "freeze_previous_to_rgb", "keep_robust_grads", "scrambled_growth", "pool_size", "ema_half_life", "ema_per_step", "crossover_at_n", "flip", "lambda_perceptual", "bfloat16"}
    assert AUTO - rows == {"phases", "model"} # of tests/test_schedules.py


# ---------------------------------------------------------------- deciphering

def stub(min_size=8, seed=5):
    "Stands in for a judge whose weights must be fetched."
    g = rng(seed)
    stages = [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 1, 1)]
    with torch.no_grad():
        for p in [p for s in stages for p in s.parameters()]: p.copy_(torch.randn(p.shape, generator=g) * .3)
    return Perceptual(stages, [torch.linspace(.1, 1, 4), torch.linspace(1, .1, 5)], "a stub", min_size=min_size).double()


def judged(x, y, perceptual): # the distance of two pictures, place by place (eq. 21.2)
    total = 0.
    for i, (stage, a, b) in enumerate(zip(perceptual.stages, *(features(p, perceptual) for p in (x, y)))):
        a, b = (f / (f.square().sum(0, keepdim=True) + 1e-10).sqrt() for f in (a, b))
        total = total + (getattr(perceptual, f"weight{i}")[0] * (a - b) ** 2).sum(0).mean()
    return total


def features(p, perceptual):
    f, out = F.interpolate(p[None], size=max(p.shape[-1], perceptual.min_size), mode="bilinear", align_corners=False), []
    for stage in perceptual.stages: out.append(f := stage(f))
    return [f[0] for f in out]


SMALL = dict(widths=(8, 8, 16), latent_dim=4, bottleneck_channels=4)
CIPHER = train_deciphering.Recipe(layers=((8, 2), (8, 3)), model=SMALL, stages=(train_deciphering.Stage(2, 2, .5), train_deciphering.Stage(2, 0)), batch=4, lr=2e-3, shift_lr=5e-4, weight_decay=.3, decay_reaches_target=True, mirror=False,
                            distance="stub", distance_min_size=16, lambda_pixels=0., lr_decay_fraction=0., ema_decay=.9, library_ema=False)


@pytest.fixture
def perceptuals(monkeypatch):
    "Distances by name, none of which is fetched; what was asked for."
    asked = []
    def lpips(net, min_size): return asked.append((net, min_size)) or stub(min_size, dict(alex=5, vgg=6)[net])
    monkeypatch.setattr(train_deciphering, "lpips", lpips)
    monkeypatch.setattr(train_deciphering, "small_perceptual", lambda: asked.append("small") or stub(8, 7))
    return asked


@pytest.fixture(scope="module")
def dataset(): return Doubles(toyfaces(9, size=8, seed=4).images)


def new_engine(dataset, recipe, total_images=None, seed=0):
    "A new cipher for a data set, and the engine that trains it."
    return train_deciphering.make_engine(train_deciphering.new_model(dataset, recipe, seed), dataset, recipe, total_images, seed)


def ran(dataset, recipe, total_images=None, seed=2):
    "The engine of a run that is over."
    engine = new_engine(dataset, recipe, total_images, seed)
    engine.model0 = deepcopy(engine.parts["model"])
    engine.asked = []
    def step(t, inner=engine.step):
        n, terms = inner(t)
        engine.asked.append(dataset.asked)
        return n, terms
    engine.step = step
    engine.run(engine.total, quiet=True, note_every=1)
    return engine


def moved(p, right): # a picture to the right, by loops; what is missing is reflected
    S, out = p.shape[-1], torch.empty_like(p)
    for w in range(S):
        i = abs(w - right)
        out[..., w] = p[..., i if i < S else 2 * (S - 1) - i]
    return out


def heard(s, max_shift): # the shift as the fingers of 64 clocks, sines and then cosines
    r = 50 + 50 * s / max_shift if max_shift else 50.
    angles = [r * 10_000 ** (-k / 63) for k in range(64)]
    return torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])


def deciphered(net, noise, rows, words):
    f = noise
    for stage, row in zip(net.encoder, rows): f = stage(f) * row[:, :, None, None]
    z = torch.cat([net.to_latent(net.encoder[-1](f).flatten(1)), net.shift(words)], 1)
    return net.decoder(net.input_norm(net.from_latent(z).view(len(z), *net.latent_grid)))


def textbook_run(engine, dataset, recipe, perceptual, steps, seed=2):
    "The run once more, as one would write it: weights, averaged weights, losses."
    model, g = engine.model0, rng(seed)
    net = model.net.train()
    table, pixels = model.patterns(), dataset.images.double() / 127.5 - 1
    B = min(recipe.batch, len(dataset))
    per_epoch, whole = len(dataset) // B, sum(s.epochs for s in recipe.stages)
    epochs, average, losses, stage_was = steps / per_epoch, None, [], None
    for step in range(steps):
        epoch, starts = step // per_epoch, [sum(s.epochs for s in recipe.stages[:k]) / whole * epochs for k in range(len(recipe.stages))]
        stage = max(k for k, start in enumerate(starts) if step / per_epoch >= start - 1e-9)
        if stage != stage_was: moments, average, taken, stage_was = {}, None, 0, stage
        own = recipe.stages[stage]
        rise, e = own.warmup * own.epochs / whole * epochs, int(step / per_epoch - starts[stage] + 1e-9)
        decay = recipe.weight_decay if not rise else recipe.weight_decay * min(1., (e if recipe.decay_reaches_target else min(e, math.ceil(rise) - 1)) / rise)
        slow = 1 - .95 * max(0., (step / steps - 1 + recipe.lr_decay_fraction) / recipe.lr_decay_fraction) if recipe.lr_decay_fraction else 1.
        i, turned = engine.asked[step].tolist(), recipe.mirror and epoch % 2 == 1
        shift = torch.randint(-own.shift, own.shift + 1, (B, 1), generator=g)[:, 0].tolist()
        noise, x, rows = torch.randn(B, 3, 8, 8, generator=g), [], [torch.zeros(B, n) for n, _ in recipe.layers]
        for b, k in enumerate(i):
            p = pixels[k].flip(-1) if turned else pixels[k]
            x.append(moved(p, shift[b]))
            for layer, active in enumerate(table.active):
                for c in active[k].tolist(): rows[layer][b, recipe.layers[layer][0] - 1 - c if turned and layer == len(rows) - 1 else c] = 1.
        y = deciphered(net, noise, rows, torch.stack([heard(s, own.shift) for s in shift]))
        loss = sum(judged(a, b, perceptual) for a, b in zip(x, y)) / B + recipe.lambda_pixels * ((torch.stack(x) - y) ** 2).mean()
        losses.append(loss.item())
        grads = dict(zip(names := dict(net.named_parameters()), torch.autograd.grad(loss, names.values())))
        taken += 1
        with torch.no_grad():
            for k, p in names.items(): # AdamW
                m, v = moments.get(k, (torch.zeros_like(p),) * 2)
                m, v = moments[k] = .9 * m + .1 * grads[k], .999 * v + .001 * grads[k] ** 2
                lr = slow * (recipe.shift_lr if k.startswith("shift.") else recipe.lr)
                p.sub_(lr * decay * p).sub_(lr * (m / (1 - .9 ** taken)) / ((v / (1 - .999 ** taken)).sqrt() + 1e-8))
            keep = min(recipe.ema_decay, 1 - 1 / taken)
            if recipe.library_ema: keep = 0. if taken == 1 else 1. # of so short a run: a copy of the first step, until the eleventh
            average = [p.clone() if not keep else keep * a + (1 - keep) * p for a, p in zip(average or names.values(), names.values())]
    return [p.detach() for p in net.parameters()], average, losses


def agree(engine, book): # Adam divides by roots of small squares
    parts = (engine.parts["model"].net, book[0]), (engine.parts["ema"].net, book[1])
    return all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) for net, want in parts for a, b in zip(net.parameters(), want, strict=True))


RUNS = dict( # switch: values, judge's seed and size
    none=({}, {}), mirror=(dict(mirror=True), {}), decay_reaches_target=(dict(decay_reaches_target=False), {}), library_ema=(dict(library_ema=True), {}), lambda_pixels=(dict(lambda_pixels=3.), {}),
    distance=(dict(distance="lpips-vgg"), dict(seed=6)), small=(dict(distance="toyfaces-small"), dict(seed=7, min_size=8)), distance_min_size=(dict(distance_min_size=24), dict(min_size=24)),
    weight_decay=(dict(weight_decay=.9), {}), lr=(dict(lr=5e-3), {}), shift_lr=(dict(shift_lr=4e-3), {}), lr_decay_fraction=(dict(lr_decay_fraction=.8), {}), ema_decay=(dict(ema_decay=.3), {}), batch=(dict(batch=3), {}),
    layers=(dict(layers=((8, 1), (8, 5))), {}), model=(dict(model=SMALL | dict(clusters=4)), {}), stages=(dict(stages=(train_deciphering.Stage(1, 1), train_deciphering.Stage(2, 3, .9))), {}))


@pytest.mark.parametrize("switch", RUNS)
def test_a_run_of_the_cipher(dataset, perceptuals, switch):
    values, perceptual = RUNS[switch]
    off = replace(CIPHER, distance="lpips-alex")
    on = replace(off, **values)
    engine = ran(dataset, on, 8 * on.batch)
    book = textbook_run(engine, dataset, on, stub(**dict(min_size=16) | perceptual), 8)
    assert engine.done == 8 and agree(engine, book)
    assert switch == "none" or not agree(once("cipher", lambda: ran(dataset, off, 32)), book)
    assert perceptuals[0] == dict(distance=("vgg", 16), small="small", distance_min_size=("alex", 24)).get(switch, ("alex", 16))


@pytest.mark.parametrize("name", train_deciphering.RECIPES)
def test_a_recipe_of_the_cipher(dataset, perceptuals, name):
    "Both stages of each recipe with all its switches, narrow and short."
    recipe = train_deciphering.RECIPES[name]
    clusters = dict(clusters=4) if "clusters" in recipe.model else {}
    recipe = replace(recipe, layers=((8, 1), (8, 3)), model=SMALL | clusters, batch=4, distance_min_size=16)
    engine = ran(dataset, recipe, 8 * 4)
    perceptual = stub(8, 7) if recipe.distance == "toyfaces-small" else stub(16)
    assert agree(engine, textbook_run(engine, dataset, recipe, perceptual, 8)) and engine.parts["order"].stage == 1
    model = train_deciphering.finalize(engine, recipe, 2)
    assert model.clusters == clusters.get("clusters", 1) and model.sample(3, rng(0)).isfinite().all()


def test_clusters():
    dark, light = torch.zeros(5, 3, 8, 8, dtype=torch.uint8), torch.full((4, 3, 8, 8), 250, dtype=torch.uint8)
    dataset = ImageDataset(torch.cat([dark, light]) + torch.randint(5, (9, 3, 8, 8), generator=rng(0)).to(torch.uint8))
    settings = SMALL | dict(clusters=2)
    engine = new_engine(dataset, replace(CIPHER, distance="toyfaces-small", model=settings))
    model = engine.parts["model"]
    assert model.labels[:5].unique().numel() == model.labels[5:].unique().numel() == 1 and model.labels[0] != model.labels[8]
    for patterns, labels in ((model.patterns(), model.labels), (model.new_patterns(40, rng(1)), None)):
        group = patterns.active[0].long() // 4 # of the eight channels of the first layer, four for each cluster
        assert (group == group[:, :1]).all() and (labels is None or torch.equal(group[:, 0], labels.long()))
    assert .2 < (group[:, 0] == model.labels[8]).double().mean() < .7 # as often as in training, 4 of 9
    free = DecipheringAutoencoder(8, CIPHER.layers, 40, **SMALL).patterns().active[0].long() // 4
    assert (free != free[:, :1]).any()


def test_bfloat16(dataset, monkeypatch):
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    model, kinds = DecipheringAutoencoder(8, CIPHER.layers, 9, **SMALL), []
    model.net.to_latent.register_forward_hook(lambda m, i, o: kinds.append(o.dtype))
    sgd = torch.optim.SGD(model.net.parameters(), 0.)
    for can in (True, False):
        monkeypatch.setattr(core, "has_bfloat16", lambda device: can)
        for sixteen in (False, True):
            x = dataset.batch(torch.arange(4)).float()
            train_deciphering.training_step(model, x, model.patterns(4).masks(), 1, stub().float(), replace(CIPHER, bfloat16=sixteen), sgd, rng(0))
    assert kinds == [torch.float32, torch.bfloat16, torch.float32, torch.float32] # where the machine can and the recipe says so
    assert not any(r.bfloat16 for r in train_deciphering.RECIPES.values())


class OnCard:
    "The tensor of a data set that says that it lies on a GPU."
    device = torch.device("cuda")
    def __init__(self, t): self.t = t
    def __getattr__(self, name): return getattr(self.t, name)
    def __len__(self): return len(self.t)


def test_compiled(dataset, perceptuals, monkeypatch):
    done, card = [], copy(dataset)
    card.images = OnCard(dataset.images)
    monkeypatch.setattr(deciphering.CipherNet, "compile", lambda net: done.append("net"))
    monkeypatch.setattr(torch, "compile", lambda f: done.append("perceptual") or f)
    for cls in (DecipheringAutoencoder, Perceptual): monkeypatch.setattr(cls, "to", lambda m, device: m)
    monkeypatch.setattr(train_deciphering, "rng", lambda seed, device="cpu": rng(seed))
    for compiled in (True, False):
        done.clear()
        train_deciphering.make_engine(DecipheringAutoencoder(8, CIPHER.layers, 9, **SMALL), card, replace(CIPHER, distance="lpips-alex", compiled=compiled))
        assert done == (["net", "perceptual"] if compiled else [])
    assert {k: r.compiled for k, r in train_deciphering.RECIPES.items()} == {"paper": False, "reference": False, "class": True, "lpips": True}


def test_every_switch_of_the_cipher_has_a_row():
    assert {f.name for f in fields(train_deciphering.Recipe)} == set(RUNS) - {"none", "small"} | {"bfloat16", "compiled"}
