"""The recipes of the papers: each runs, and one step of `paper` and of `reference` is the step that their equations ask for.

The textbook below shares nothing with the package but the weights and the random codes: convolutions, spectral norm, AdaIN, the divergence and the
robust loss are written once more, in double precision, from the equations. Spectral norm is frozen and noise is off (evaluation mode)."""
from dataclasses import replace

import pytest
import torch
from genae.automodulator import Automodulator
from genae.core import rng
from genae.cycles import d_x, sample_latents
from genae.datasets import ImageDataset, toyfaces
from genae.growing import Phase, Growth
from genae.train_automodulator import LAMBDA_X, RECIPES, ImagePool, StepEma, distance_of, real_batch, crossovers, make_engine, training_step
from torch.nn import functional as F

SMALL = dict(latent_dim=6, widths=(8, 6), depth=(2, 2))
NAMES = ("paper", "reference")


def small(recipe):
    "The recipe's own model, with few channels."
    model = recipe.model | SMALL
    return model | dict(decoder_widths=None if recipe.model.get("decoder_widths") is None else (8, 6))


# ---------------------------------------------------------------- a textbook

def spectral(conv):
    "W over its largest singular value, by the vectors that the layer has found so far."
    p = conv.parametrizations.weight
    u, v, w = p[0]._u, p[0]._v, p.original
    return w / (u @ w.flatten(1) @ v)


def encode(e, x, alpha):
    "8 pixels to a code; the way of 4 pixels has weight 1 - alpha."
    colours = lambda r, x: F.conv2d(x, e.from_rgb[str(r)].weight, e.from_rgb[str(r)].bias)
    h = colours(8, x)
    for k in (0, 2): h = F.leaky_relu(F.conv2d(h, spectral(e.blocks["8"][k]), e.blocks["8"][k].bias, padding=1), .2)
    down = lambda x: (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    h = alpha * down(h) + (1 - alpha) * colours(4, down(x))
    h = F.leaky_relu(F.conv2d(h, spectral(e.last[0]), e.last[0].bias, padding=1), .2)
    z = F.conv2d(h, spectral(e.last[2]), e.last[2].bias).flatten(1)
    return z / z.square().sum(1, keepdim=True).sqrt()


def canvases(d, public, codes):
    "The canvas after each layer, layer i driven by codes[i]."
    c, seen = torch.ones(len(codes[0]), d.layers[0].conv.weight.shape[1], 4, 4), []
    for layer, r, z in zip(d.layers, d.layer_resolutions, codes):
        first = r > c.shape[-1]
        if first: c = c.repeat_interleave(2, -1).repeat_interleave(2, -2)
        w = layer.conv.weight
        c = F.conv2d(c, w * (2 / w[0].numel()) ** .5, layer.conv.bias, padding=1)
        if public and first:
            b = torch.tensor([1., 2., 1.]) / 4
            c = F.conv2d(c, (b[:, None] * b).expand(c.shape[1], 1, 3, 3), padding=1, groups=c.shape[1])
        c = torch.where(c > 0, c, .2 * c)
        scale, shift = (z @ layer.adain.g.weight.T + layer.adain.g.bias)[..., None, None].chunk(2, 1)
        mean, n = c.mean((2, 3), keepdim=True), c[0, 0].numel()
        var = (c - mean).square().sum((2, 3), keepdim=True) / (n - 1 if public else n)
        c = scale * (c - mean) / (var + (0 if public else 1e-5)).sqrt() + shift
        seen.append(c)
    return seen


def picture(d, seen, alpha):
    colours = lambda r: F.conv2d(seen[max(i for i, p in enumerate(d.layer_resolutions) if p == r)], d.to_rgb[str(r)].weight, d.to_rgb[str(r)].bias)
    return alpha * colours(8) + (1 - alpha) * colours(4).repeat_interleave(2, -1).repeat_interleave(2, -2)


def kl(z):
    m, v = z.mean(0), (z - z.mean(0)).square().mean(0)
    return ((v + m ** 2 - v.log() - 1) / 2).mean()


def robust(x, x_hat):
    "Mean negative log-likelihood where all shapes and scales are 1, as they begin; Z(1) = 2 e K_1(1)."
    from scipy.special import k1
    return (((x - x_hat) ** 2 + 1).sqrt() - 1).mean() + torch.tensor(2 * torch.e * k1(1.)).log()


def textbook(model, x, growth, public, optimisers, generator):
    phi, theta, alpha, N, M = model.encoder, model.decoder, growth.alpha_fade, model.decoder.n, growth.phase.margin
    def generated(share):
        m = len(x) - int(share * len(x))
        cuts = [1] if public else [1, 2, 3] # layers at 4, 8, 8 pixels: between resolutions; or anywhere, N included
        d = sample_latents(len(x), model.latent_dim, cuts, generator, share)
        late = torch.cat([d.z[:m], d.z_b])
        return m, d, canvases(theta, public, [d.z] * d.crossover + [late] * (N - d.crossover))
    for o in optimisers: o.zero_grad()
    with torch.no_grad(): fake = picture(theta, generated(.25)[2], alpha)
    z = encode(phi, x, alpha)
    gap, rec = kl(z) - kl(encode(phi, fake, alpha)), robust(x, picture(theta, canvases(theta, public, [z] * N), alpha))
    if public: loss = kl(z) + gap.clamp(-M, M / 2) + (3. if alpha == 1 else 2.) * rec
    else: loss = gap.clamp(min=-M) + 2. * rec
    loss.backward()
    optimisers[0].step()
    for o in optimisers: o.zero_grad()
    m, d, seen = generated(.5 if public else .25)
    z_hat = encode(phi, picture(theta, seen, alpha), alpha)
    again = canvases(theta, public, [z_hat[m:]] * N)[d.crossover - 1] - seen[d.crossover - 1][m:]
    l_j = 10 * again.square().mean() if public else again.flatten(1).square().sum(1).sqrt().mean()
    loss = kl(z_hat) + 1000 / 512 * (1 - (d.z[:m] * z_hat[:m]).sum(1).mean()) + l_j
    loss.backward()
    if public: theta.to_rgb["4"].zero_grad() # the former resolution's colours rest
    optimisers[1].step()


@pytest.mark.parametrize("alpha", (1., .4))
@pytest.mark.parametrize("margin, spread", ((.5, 1.), (.01, 1.), (.01, .01))) # no clamp acts; the lower one; the upper one, as real pictures are all alike
@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_the_textbooks(name, margin, spread, alpha, double):
    recipe, ends = RECIPES[name], {}
    for way in ("ours", "textbook", "nothing"):
        torch.manual_seed(3)
        model = Automodulator(8, **small(recipe)).eval()
        for net in (model.encoder, model.decoder): net.grow(8, alpha)
        x, growth = spread * (torch.rand(16, 3, 8, 8, generator=rng(1)) * 2 - 1), Growth(Phase(8, 1, margin=margin), alpha)
        distance, g = distance_of(recipe, model), rng(2)
        sgd = tuple(torch.optim.SGD(net.parameters(), .01) for net in (model.encoder, model.decoder))
        if way == "ours": training_step(model, x, recipe, growth, distance, ImagePool(200) if recipe.pool_size else None, sgd, g)
        if way == "textbook": textbook(model, x, growth, name == "reference", sgd, g)
        ends[way] = torch.cat([p.detach().flatten() for p in model.parameters()])
    moved = (ends["ours"] - ends["nothing"]).abs().max()
    assert moved > 1e-3 and (ends["ours"] - ends["textbook"]).abs().max() < 1e-6 * moved # the table of ln Z has seven digits


@pytest.mark.parametrize("name", [n for n in RECIPES if n != "class"])
def test_recipes_run(name, tmp_path):
    "A few steps over two phases and a fade, with the recipe's own switches; numbers stay numbers, and both networks move."
    recipe = RECIPES[name]
    phases = tuple(replace(p, images=32, fade=16 * (p.size > 4), batch=8) for p in recipe.phases[:2])
    torch.manual_seed(0)
    model = Automodulator(8, **small(recipe))
    before = {k: v.clone() for k, v in model.named_parameters()}
    engine = make_engine(model, toyfaces(16, size=8, seed=1), replace(recipe, phases=phases))
    log = engine.run(64, quiet=True, note_every=1)
    still = {k for k, v in model.named_parameters() if torch.equal(v, before[k])}
    assert len(log) == 8 and all(torch.isfinite(torch.tensor(list(row.values()))).all() for row in log)
    assert still == set(), still
    assert isinstance(engine.parts["ema"], StepEma) == name.startswith("reference")


def test_the_weight_goes_with_the_distance():
    for name in NAMES:
        for distance, weight in dict(robust=2., L1=10., L2=10.).items():
            assert LAMBDA_X[replace(RECIPES[name], distance=distance).distance] == weight and RECIPES[name].lambda_x is None
    losses = {}
    for distance in ("L1", "L2"):
        torch.manual_seed(0)
        model = Automodulator(8, **small(RECIPES["paper"])).eval()
        x, recipe = torch.rand(8, 3, 8, 8, generator=rng(1)) * 2 - 1, replace(RECIPES["paper"], distance=distance)
        sgd = tuple(torch.optim.SGD(net.parameters(), 0.) for net in (model.encoder, model.decoder))
        losses[distance] = training_step(model, x, recipe, Growth(Phase(8, 1), 1.), distance_of(recipe, model), None, sgd, rng(2))["d_x"]
        difference = x - model.decoder(model.encoder(x))
        want = difference.abs().mean() if distance == "L1" else difference.square().mean()
        assert abs(losses[distance] - want) < 1e-5


def test_partners_and_flips():
    dataset, others = toyfaces(32, size=8, seed=1), toyfaces(32, size=8, seed=2)
    recipe = replace(RECIPES["class"], shared_layers=(1, 1))
    find = lambda x, dataset: (dataset.batch(torch.arange(32))[None] - x[:, None]).abs().flatten(2).sum(2).argmin(1)
    x = real_batch(dataset, 16, recipe, rng(3), others)
    assert torch.equal(find(x[:8], dataset), find(x[8:], others)) and torch.equal(x[8:], others.batch(find(x[8:], others)))
    x = real_batch(dataset, 16, recipe, rng(3))
    assert torch.equal(x[8:], x[:8].flip(-1))
    plain, flipped = (real_batch(dataset, 16, replace(recipe, shared_layers=(), flip=flip), rng(3)) for flip in (False, True))
    turned = [(not torch.equal(p, f), torch.equal(p.flip(-1), f)) for p, f in zip(plain, flipped)]
    assert {(True, True), (False, False)} == set(turned) # some are mirrored, some are not, and nothing else happens
    with pytest.raises(ValueError, match="one partner of the same size"): make_engine(Automodulator(8, **small(recipe)), dataset, recipe, partners=ImageDataset(others.images[:5]))


def test_pairs_in_the_public_way():
    "The pairs' terms replace the reconstruction, each half has its own divergence, and the maps from code to statistics move in the encoder's half of the step."
    torch.manual_seed(0)
    recipe = replace(RECIPES["class"], distance="L1", lambda_x=7., shared_layers=(2, 0), lambda_joint=0., decoder_learns_x=False, pairs_replace_reconstruction=True)
    model = Automodulator(8, 6, (8, 6), (1, 1)).eval()
    styles = [p for layer in model.decoder.layers for p in layer.adain.parameters()]
    x, growth = torch.rand(16, 3, 8, 8, generator=rng(1)) * 2 - 1, Growth(Phase(8, 1, margin=9.), 1.)
    x[8:] = x[:8].flip(-1)
    sgd = tuple(torch.optim.SGD(ps, lr) for ps, lr in ((model.encoder.parameters(), 0.), (model.decoder.parameters(), 0.), (styles, 1.)))
    before, z = [p.detach().clone() for p in styles], model.encoder(x)
    late = z.roll(8, 0)
    swapped = model.decoder.to_image(model.decoder.canvases([z, late]))
    gradients = torch.autograd.grad(7. * 2 * d_x(x, swapped), styles)
    rest = [p.detach().clone() for p in model.decoder.parameters() if all(p is not q for q in styles)]
    training_step(model, x, recipe, growth, d_x, None, sgd, rng(2))
    for p, b, g in zip(styles, before, gradients): assert torch.allclose(b - p, g, atol=1e-5)
    assert all(torch.equal(p, q) for p, q in zip(rest, [p for p in model.decoder.parameters() if all(p is not q for q in styles)]))


def test_the_publics_average():
    torch.manual_seed(0)
    net = Automodulator(8, 6, (8, 6), (1, 1))
    average = StepEma(net, 1.)
    want = [p.detach().clone() for p in net.decoder.parameters()]
    for k in range(3):
        with torch.no_grad(): [p.add_(torch.randn(p.shape, generator=rng(k))) for p in net.parameters()]
        average.update(net, 8)
        want = [.999 * w + .001 * p.detach() for w, p in zip(want, net.decoder.parameters())]
    for a, w in zip(average.net.decoder.parameters(), want): assert torch.allclose(a, w, atol=1e-6)
    for a, p in zip(average.net.encoder.parameters(), net.encoder.parameters()): assert torch.equal(a, p)


def test_splits():
    decoder = Automodulator(16, 6, (8, 8, 8), (1, 2), extra=((8, 1),)).decoder
    assert decoder.layer_resolutions == [4, 8, 8, 8, 16, 16]
    assert {name: crossovers(decoder, RECIPES[name]) for name in ("paper", "reference", "class")} == dict(paper=[1, 2, 3, 4, 5, 6], reference=[1, 4], **{"class": [1, 2, 3, 4, 5]})
