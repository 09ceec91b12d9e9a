"""Every network against a forward that is written once more, from the equations.

The textbook shares with the package nothing but the weights: plain functions and loops, in double precision. Which layer comes where is
derived here from the settings, never read from the network. All parameters are random, biases and strengths too, so that none can be left out."""
import math

import pytest
import torch
from genae.ciphernet import CipherNet, sinusoidal_embedding, variance_shares
from genae.decoder import Decoder
from genae.encoder import Encoder
from genae.layers import Blur, EqualConv2d, LayerNoise, downsample, sn_conv
from genae.perceptual import Perceptual
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("double")
NEAR = dict(rtol=1e-9, atol=1e-9) # rounding in double precision; sums run in another order


def shaken(net):
    "No bias is zero, no gain is one; statistics of batch normalisation are some that were never measured."
    with torch.no_grad():
        for p in net.parameters(): p.add_(.3 * torch.randn(p.shape))
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(), m.running_var.uniform_(.5, 2.)
    return net


leaky = lambda x, slope: torch.where(x > 0, x, slope * x)
conv = lambda m, x, pad=0: F.conv2d(x, m.weight, m.bias, padding=pad)
twice = lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2)
half = lambda x: (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def loops(x, w, bias, pad):
    "A convolution, entry by entry."
    B, H, W, k = len(x), x.shape[2], x.shape[3], w.shape[-1]
    padded = torch.zeros(B, x.shape[1], H + 2 * pad, W + 2 * pad)
    padded[:, :, pad:pad + H, pad:pad + W] = x
    out = torch.zeros(B, len(w), H + 2 * pad - k + 1, W + 2 * pad - k + 1)
    for b in range(B):
        for o in range(len(w)):
            for i in range(out.shape[2]):
                for j in range(out.shape[3]): out[b, o, i, j] = (padded[b, :, i:i + k, j:j + k] * w[o]).sum() + bias[o]
    return out


# ---------------------------------------------------------------- small parts

def test_convolutions_by_loops():
    torch.manual_seed(0)
    for k in (1, 3):
        m, x = shaken(EqualConv2d(3, 4, k)), torch.randn(2, 3, 4, 5)
        torch.testing.assert_close(m(x), loops(x, m.weight * (2 / (3 * k * k)) ** .5, m.bias, k // 2), **NEAR)
    torch.testing.assert_close(m.upsample_conv(x), loops(twice(x), m.weight * (2 / 27) ** .5, m.bias, 1), **NEAR)


def test_blur_by_loops():
    torch.manual_seed(0)
    x, weights = torch.randn(2, 3, 4, 5), (1, 2, 1)
    want = torch.zeros_like(x)
    for i in range(4):
        for j in range(5):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    if 0 <= i + di < 4 and 0 <= j + dj < 5: want[..., i, j] += weights[di + 1] * weights[dj + 1] / 16 * x[..., i + di, j + dj]
    torch.testing.assert_close(Blur(3)(x), want, **NEAR)


def test_a_convolution_begins_without_bias():
    "And so do the canvas's copies: what is added is learned."
    torch.manual_seed(0)
    assert not any(m.bias.any() for m in (EqualConv2d(3, 4, 3), sn_conv(3, 4, 3), sn_conv(3, 4, 1)))


@pytest.mark.parametrize("shape", ((1, 3, 5, 4), (1, 3, 4, 5), (3, 5, 4), (3, 4, 5)))
def test_odd_numbers_are_not_halved(shape):
    with pytest.raises(ValueError, match=f"{shape[-2]} by {shape[-1]} pixels cannot be halved"): downsample(torch.zeros(shape))


def test_noise_is_independent():
    "Between any two pixels, channels and pictures; a correlation of n draws has a standard deviation of n ** -.5, and six of them are allowed."
    torch.manual_seed(0)
    strengths, n = torch.tensor([.5, 2., 7.]), 3000
    noise = LayerNoise(3)
    with torch.no_grad(): noise.strength.copy_(strengths)
    x = torch.randn(1, 3, 4, 4)
    drawn = (noise(x.expand(n, -1, -1, -1)) - x).detach()
    assert ((drawn.std((0, 2, 3)) / strengths - 1).abs() < .03).all() and (drawn.mean((0, 2, 3)).abs() < .05 * strengths).all()
    apart = lambda rows: (torch.corrcoef(rows) - torch.eye(len(rows))).abs().max() < 6 * rows.shape[1] ** -.5
    assert apart(drawn.flatten(1).T) # 48 places: pixels and channels
    assert apart(noise(torch.zeros(20, 3, 32, 32)).detach().div(strengths[:, None, None]).flatten(1)) # 20 pictures
    assert apart(torch.stack([noise(torch.zeros(1, 3, 32, 32)).detach().flatten() for _ in range(5)])) # 5 calls
    assert torch.equal(noise.eval()(x), x)
    noise.in_eval = True
    assert not torch.equal(noise(x), x)


def test_spectral_norm_is_one():
    torch.manual_seed(0)
    e = shaken(Encoder(16, 5, (4, 5, 6), 2)).train()
    convs = [m for m in e.modules() if hasattr(m, "parametrizations")]
    assert len(convs) == 6 # two at 16 and at 8 pixels, two last
    for m in convs: assert torch.linalg.svdvals(m.parametrizations.weight.original.flatten(1))[0] > 1.2
    for _ in range(150): e(torch.zeros(1, 3, 16, 16))
    for m in [*convs, sn_conv(3, 4, 3)]:
        for _ in range(150): w = m.weight
        assert abs(torch.linalg.svdvals(w.detach().flatten(1))[0] - 1) < 1e-6
    for m in convs: # training pictures were enough
        w = m.eval().weight.detach()
        assert abs(torch.linalg.svdvals(w.flatten(1))[0] - 1) < 1e-6


# ---------------------------------------------------------------- encoder

def encode(e, x, depth, size, alpha):
    "Halve down to 4 pixels; the picture of half the size, with the colours of its own layer, has weight 1 - alpha after the first halving."
    def rectified(m, h, pad):
        w = m.parametrizations.weight.original
        return F.conv2d(h, w / torch.linalg.svdvals(w.flatten(1))[0], m.bias, padding=pad)
    h, r = conv(e.from_rgb[str(size)], x), size
    while r > 4:
        for k in range(depth): h = leaky(rectified(e.blocks[str(r)][2 * k], h, 1), .2)
        h = half(h)
        if r == size: h = alpha * h + (1 - alpha) * conv(e.from_rgb[str(r // 2)], half(x))
        r //= 2
    h = leaky(rectified(e.last[0], h, 1), .2)
    z = rectified(e.last[2], h, 0)[:, :, 0, 0]
    return z / z.square().sum(1, keepdim=True).sqrt()


@pytest.mark.parametrize("depth", (1, 2))
@pytest.mark.parametrize("size", (16, 32))
def test_encoder(size, depth):
    torch.manual_seed(size + depth)
    e = shaken(Encoder(size, 5, (4, 5, 6, 7), depth, channels=2)).train()
    for m in e.modules():
        if hasattr(m, "parametrizations"):
            for _ in range(400): m.weight # until the power iteration has arrived
    e.eval()
    for r in (s for s in (4, 8, 16, 32) if s <= size):
        x, codes = torch.rand(3, 2, r, r) * 2 - 1, []
        for alpha in (1., .3) if r > 4 else (1.,):
            codes.append(e.grow(r, alpha)(x))
            torch.testing.assert_close(codes[-1], encode(e, x, depth, r, alpha), rtol=1e-6, atol=1e-6) # what the power iteration leaves
        assert r == 4 or (codes[0] - codes[1]).abs().max() > 1e-3


# ---------------------------------------------------------------- decoder

def plan(size, depth, extra):
    "(resolution, whether it is doubled first) of each layer."
    rows, r = [], 4
    while r <= size:
        rows += [(r, k == 0 and r > 4) for k in range((depth if r > 4 else 1) + dict(extra).get(r, 0))]
        r *= 2
    return rows


def decode(d, codes, size, alpha, depth=2, canvas="learned", blur=False, noise=0, extra=(), eps=1e-5, unbiased=False):
    "Double, convolve, blur, noise, rectify, modulate; then colours, blended with those of half the size."
    c = d.canvas0.expand(len(codes[0]), -1, -1, -1) if canvas == "learned" else torch.ones(len(codes[0]), d.layers[0].conv.weight.shape[1], 4, 4)
    last = {}
    for layer, z, (r, double) in zip(d.layers, codes, plan(size, depth, extra), strict=False):
        if double: c = twice(c)
        w = layer.conv.weight
        c = F.conv2d(c, w * (2 / (w.shape[1] * 9)) ** .5, layer.conv.bias, padding=1)
        if blur and double:
            b = torch.tensor([1., 2., 1.]) / 4
            c = torch.cat([F.conv2d(c[:, k:k + 1], torch.outer(b, b)[None, None], padding=1) for k in range(c.shape[1])], 1)
        if noise and r >= noise: c = c + layer.noise.strength.view(1, -1, 1, 1) * torch.randn(c.shape)
        c = leaky(c, .2)
        maps = c.shape[1]
        style = z @ layer.adain.g.weight.T + layer.adain.g.bias
        s, m, n = style[:, :maps, None, None], style[:, maps:, None, None], r * r
        mean = c.sum((2, 3), keepdim=True) / n
        var = (c - mean).square().sum((2, 3), keepdim=True) / (n - unbiased)
        c = last[r] = s * (c - mean) / (var + eps).sqrt() + m
    x = conv(d.to_rgb[str(size)], c)
    return x if size == 4 or alpha == 1 else alpha * x + (1 - alpha) * twice(conv(d.to_rgb[str(size // 2)], last[size // 2]))


DECODERS = dict(plain={}, one=dict(depth=1), ones=dict(canvas="ones"), blur=dict(blur=True), noise4=dict(noise=4), noise8=dict(noise=8), extra=dict(extra=((8, 2),)),
                eps=dict(eps=.4), unbiased=dict(eps=0., unbiased=True), both=dict(eps=.3, unbiased=True),
                public=dict(canvas="ones", blur=True, noise=8, eps=0., unbiased=True, extra=((4, 1), (16, 1))))


@pytest.mark.parametrize("size", (16, 32))
@pytest.mark.parametrize("name", DECODERS)
def test_decoder(name, size):
    kinds, depth = DECODERS[name], DECODERS[name].get("depth", 2)
    torch.manual_seed(len(name) + size)
    d = shaken(Decoder(size, 5, (6, 5, 4, 3), channels=2, **kinds)).train()
    for r in (s for s in (4, 8, 16, 32) if s <= size):
        layers = len(plan(r, depth, kinds.get("extra", ())))
        codes, pictures = torch.randn(layers, 2, 5), []
        for alpha in (1., .3) if r > 4 else (1.,):
            assert d.grow(r, alpha).n == layers
            for some, ours in ((codes, lambda: d.decode(codes)), (codes[:1].expand(layers, -1, -1), lambda: d(codes[0]))):
                torch.manual_seed(r)
                got = ours()
                torch.manual_seed(r)
                torch.testing.assert_close(got, decode(d, some, r, alpha, **kinds), **NEAR)
                pictures.append(got)
        assert r == 4 or (pictures[0] - pictures[2]).abs().max() > 1e-3
    assert len(d.layers) == layers


def test_each_option_changes_the_picture():
    "Otherwise the textbook above could leave it out as well."
    pictures = {}
    for name, kinds in DECODERS.items():
        torch.manual_seed(0)
        d = Decoder(16, 5, (6, 5, 4), channels=2)
        other = Decoder(16, 5, (6, 5, 4), channels=2, **kinds)
        shared = shaken(d).state_dict() | {k: torch.full_like(v, .5) for k, v in other.state_dict().items() if "strength" in k}
        other.load_state_dict({k: shared[k] for k in other.state_dict() if k in shared and shared[k].shape == other.state_dict()[k].shape}, strict=False)
        torch.manual_seed(1)
        pictures[name] = other(torch.ones(1, 5))
    for name in pictures: assert name == "plain" or (pictures[name] - pictures["plain"]).abs().max() > 1e-3, name


def test_scales():
    "4 and 8 pixels are coarse, 16 and 32 middle, 64 and more fine (paper, section 4); moved down for smaller pictures."
    d = Decoder(128, 3, (2,) * 6)
    assert {r: d.grow(r).scales() for r in (4, 8, 16, 32, 64, 128)} == {
        4: dict(fine=(1, 1)), 8: dict(coarse=(1, 1), fine=(2, 3)), 16: dict(coarse=(1, 1), middle=(2, 3), fine=(4, 5)),
        32: dict(coarse=(1, 3), middle=(4, 5), fine=(6, 7)), 64: dict(coarse=(1, 3), middle=(4, 7), fine=(8, 9)),
        128: dict(coarse=(1, 3), middle=(4, 7), fine=(8, 11))}
    d = Decoder(64, 3, (2,) * 5, depth=1, extra=((8, 2), (64, 1)))
    assert {r: d.grow(r).scales() for r in (8, 16, 32, 64)} == {
        8: dict(coarse=(1, 1), fine=(2, 4)), 16: dict(coarse=(1, 1), middle=(2, 4), fine=(5, 5)),
        32: dict(coarse=(1, 4), middle=(5, 5), fine=(6, 6)), 64: dict(coarse=(1, 4), middle=(5, 6), fine=(7, 8))}
    z = torch.arange(3.)[:, None, None].expand(-1, 1, 3)
    assert d.grow(32).styles(dict(coarse=z[0], middle=z[1], fine=z[2]))[:, 0, 0].tolist() == [0, 0, 0, 0, 1, 2]


def test_what_is_not_said_is_the_default():
    torch.manual_seed(0)
    e, d = Encoder(widths=(3, 3, 3, 3)), Decoder(widths=(3, 3, 3, 3))
    assert e(torch.zeros(1, 3, 32, 32)).shape == (1, 16) and d(torch.zeros(1, 16)).shape == (1, 3, 32, 32)
    assert not any("strength" in k for k, _ in d.named_parameters()) # no noise
    assert Encoder(8, 4, (3, 3), channels=2)(torch.zeros(1, 2, 8, 8)).shape == (1, 4) and Decoder(8, 4, (3, 3), channels=2)(torch.zeros(1, 4)).shape == (1, 2, 8, 8)
    with pytest.raises(ValueError, match="canvas='zeros': choose"): Decoder(8, 4, (3, 3), canvas="zeros")


# ---------------------------------------------------------------- deciphering network

def cipher(net, noise, masks, r, train):
    "Stage by stage; batch normalisation with the batch's statistics, or with those it has kept."
    def normed(m, x):
        mean, var = (x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)) if train else (m.running_mean, m.running_var)
        across = lambda v: v[:, None, None]
        return (x - across(mean)) / (across(var) + 1e-5).sqrt() * across(m.weight) + across(m.bias)
    def halved(m, x): # each square of four pixels becomes one
        return sum(torch.einsum("bchw,oc->bohw", x[..., i::2, j::2], m.weight[:, :, i, j]) for i in (0, 1) for j in (0, 1)) + m.bias[:, None, None]
    def doubled(m, x, groups): # each pixel becomes a square of four, each group of channels by itself
        a, b = x.shape[1] // groups, m.weight.shape[1]
        out = torch.zeros(len(x), b * groups, 2 * x.shape[2], 2 * x.shape[3])
        for g in range(groups):
            for i in (0, 1):
                for j in (0, 1): out[:, g * b:(g + 1) * b, i::2, j::2] = torch.einsum("bchw,co->bohw", x[:, g * a:(g + 1) * a], m.weight[g * a:(g + 1) * a, :, i, j])
        return out + m.bias[:, None, None]
    f = noise
    for k, stage in enumerate(net.encoder):
        f = leaky(normed(stage[1], halved(stage[0], f)), .01)
        f = leaky(normed(stage[4], conv(stage[3], f, 1)), .01)
        if k < 3: f = torch.stack([torch.stack([c if keep else torch.zeros_like(c) for c, keep in zip(one, row)]) for one, row in zip(f, masks[k])])
    z = f.reshape(len(f), -1) @ net.to_latent.weight.T + net.to_latent.bias
    heard = torch.tensor([[fn(angle) for axis in row for fn in (torch.sin, torch.cos) for angle in [axis / 1e4 ** (torch.tensor(k) / 63.) for k in range(64)]] for row in r])
    s = leaky(heard @ net.shift[0].weight.T + net.shift[0].bias, .01) @ net.shift[2].weight.T + net.shift[2].bias
    h = torch.cat([z, s], 1) @ net.from_latent.weight.T + net.from_latent.bias
    h = leaky(normed(net.input_norm[0], h.reshape(len(h), 16, 2, 2)), .01)
    for stage, groups in zip(net.decoder, (8, 4, 2)):
        h = leaky(normed(stage[1], doubled(stage[0], h, groups)), .01)
        for block in stage[3:]:
            m = block.layers
            g = leaky(normed(m[1], conv(m[0], h)), .01)
            g = leaky(normed(m[4], conv(m[3], g, 1)), .01)
            h = h + normed(m[7], conv(m[6], g))
    stage = net.decoder[3]
    h = leaky(normed(stage[1], doubled(stage[0], h, 1)), .01)
    for block in (stage[3], stage[4]):
        m = block.layers
        h = h + normed(m[4], conv(m[3], leaky(normed(m[1], conv(m[0], h, 1)), .01), 1))
    return conv(stage[5], h, 1)


@pytest.mark.parametrize("shift_axes", (1, 2))
@pytest.mark.parametrize("train", (True, False))
def test_ciphernet(train, shift_axes):
    torch.manual_seed(shift_axes)
    net = shaken(CipherNet(32, (2, 4, 8, 16), latent_dim=5, bottleneck_channels=3, shift_axes=shift_axes, channels=2)).train(train)
    noise, masks, r = torch.randn(3, 2, 32, 32), [(torch.rand(3, n) < .5) * 1. for n in (2, 4, 8)], torch.rand(3, shift_axes) * 100
    masks[0][:, 0] = 1.
    want = cipher(net, noise, masks, r, train)
    torch.testing.assert_close(net(noise, masks, r), want, **NEAR)
    for k in range(3): # each mask counts
        other = [1 - m if i == k else m for i, m in enumerate(masks)]
        assert (cipher(net, noise, other, r, train) - want).abs().max() > 1e-4


@pytest.mark.parametrize("n", (4, 10))
def test_sinusoids_of_any_length(n):
    want = [[fn(r / 1e4 ** (k / (n // 2 - 1))) for fn in (math.sin, math.cos) for k in range(n // 2)] for r in (0., 50., 99.5)]
    torch.testing.assert_close(sinusoidal_embedding(torch.tensor([0., 50., 99.5]), n), torch.tensor(want), **NEAR)


def test_shares_of_the_variance():
    "Means of squares around means, divided by how many there are; and no graph is kept of it."
    torch.manual_seed(0)
    net = shaken(CipherNet(16, (2, 4, 8, 16), latent_dim=5, bottleneck_channels=3)).eval() # the smallest picture that four stages halve
    masks, noise = [(torch.rand(3, n) < .5) * 1. for n in (2, 4, 8)], torch.randn(2, 3, 16, 16)
    one = lambda p, q: net(noise[q:q + 1], [m[p:p + 1] for m in masks], torch.tensor([[50.]]))[0].detach()
    y = [[one(p, q) for q in range(2)] for p in range(3)]
    means = [(a + b) / 2 for a, b in y]
    pattern = sum((m - sum(means) / 3) ** 2 for m in means).mean() / 3
    rest = sum((y[p][q] - means[p]) ** 2 for p in range(3) for q in range(2)).mean() / 6
    calls = []
    net.register_forward_hook(lambda m, i, o: calls.append(o.requires_grad))
    assert variance_shares(net, masks, noise) == pytest.approx(dict(pattern=(pattern / (pattern + rest)).item(), noise=(rest / (pattern + rest)).item()), rel=1e-6)
    assert calls and not any(calls)
    with pytest.raises(ValueError, match="size=24"): CipherNet(24, (2, 4, 8, 16))
    with pytest.raises(ValueError, match="size=8"): CipherNet(8, (2, 4, 8, 16))


# ---------------------------------------------------------------- perceptual distance

@pytest.mark.parametrize("small", (False, True))
def test_perceptual_by_pixels(small):
    "Zhang et al.: unit features, weighted squared differences, the mean over places, the sum over stages."
    torch.manual_seed(0)
    stages = [shaken(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.LeakyReLU(.1))), shaken(nn.Sequential(nn.Conv2d(4, 5, 3, 1, 1), nn.LeakyReLU(.1)))]
    with torch.no_grad(): [p.mul_(3e-6) for p in stages[0].parameters()] # so weak that eps = 1e-10 is seen
    with torch.no_grad(): stages[1][0].weight.mul_(1e5)
    weights, shift, scale = [torch.rand(4), torch.rand(5)], (-.1, .2, .3), (.5, .6, .7)
    perceptual = Perceptual(stages, weights, "a test", shift, scale, min_size=8).double()
    size = 4 if small else 8
    x, y = (torch.rand(2, 2, 3, size, size) * 2 - 1).unbind()

    def enlarged(x): # to twice the size, each new pixel a quarter of a pixel from its old one
        new = torch.zeros(*x.shape[:2], 8, 8)
        for i in range(8):
            for j in range(8):
                for a in (0, 1):
                    for b in (0, 1):
                        p, q = (max(0., k / 2 - .25) for k in (i, j))
                        wi, wj = (p % 1 if a else 1 - p % 1), (q % 1 if b else 1 - q % 1)
                        new[..., i, j] += wi * wj * x[..., min(int(p) + a, 3), min(int(q) + b, 3)]
        return new
    def features(x):
        x = enlarged(x) if small else x
        x = torch.stack([(x[:, c] - shift[c]) / scale[c] for c in range(3)], 1)
        one = leaky(F.conv2d(x, stages[0][0].weight, stages[0][0].bias, stride=2, padding=1), .1)
        return one, leaky(conv(stages[1][0], one, 1), .1)
    want = torch.zeros(2)
    for w, f, g in zip(weights, features(x), features(y)):
        for b in range(2):
            for i in range(f.shape[2]):
                for j in range(f.shape[3]):
                    u, v = (a[b, :, i, j] / (a[b, :, i, j].square().sum() + 1e-10).sqrt() for a in (f, g))
                    want[b] += (w * (u - v).square()).sum() / (f.shape[2] * f.shape[3])
    torch.testing.assert_close(perceptual(x, y), want, rtol=1e-6, atol=0) # shift, scale and weights were single
    assert (perceptual(x, x) == 0).all() and want.min() > .01
