"""The edges of the small modules: what a door refuses, and the last number that it lets through; defaults; precision and kind of what comes out.

What is derived in a lesson is checked there; here is what a reader need not see."""
import math
from itertools import combinations

import lpips as package
import pytest
import torch
from genae import core, sphere
from genae.adain import AdaIN, adain, instance_stats
from genae.core import HOWS, LEDGER, check, error_of, recap, rng, show, to_float, to_uint8, z_score
from genae.faces import draw_faces, named_factors
from genae.kl import VAR_FLOOR, batch_moments, kl_bias, kl_floor, kl_from_normal, kl_joint, kl_to_normal, merge_moments, moments_from_normal, moments_to_normal
from genae.patterns import Patterns, cluster_images, count_patterns, draw_patterns, sample_labels, overlap_distribution, random_draws, repeats, subsets
from genae.perceptual import Perceptual, lpips, small_perceptual, unit_features
from genae.reader import FactorReader, load_reader, pyramid, r2
from genae.robust import AdaptiveLoss, log_partition, general_robust_loss
from genae.sphere import normalize, sample_sphere, slerp, slerp_grid
from scipy import integrate
from torch import nn
from torchvision import models

close = torch.testing.assert_close
double = lambda *shape, seed=0: torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def refused(words, f, *args, **kwargs):
    with pytest.raises(ValueError, match=words): f(*args, **kwargs)


# ---------------------------------------------------------------- core

@pytest.fixture
def ledger(monkeypatch):
    monkeypatch.delenv("GENAE_LEDGER", raising=False) # the one of `make test` is for lessons
    kept, LEDGER[:] = LEDGER[:], []
    yield LEDGER
    LEDGER[:] = kept


def test_errors_are_relative_above_one_and_absolute_below():
    assert error_of(torch.tensor([0., 3.]), torch.tensor([1., 4.])) == .25 and error_of(torch.tensor([.5]), torch.tensor([.25])) == .25
    assert error_of(torch.tensor([-9., 4.]), torch.tensor([-10., 4.])) == pytest.approx(.1) and error_of(torch.tensor([math.nan]), torch.tensor([1.])) == math.inf
    assert error_of(torch.tensor([1.]), torch.tensor([math.nan])) == math.inf


def test_standard_errors():
    samples = torch.tensor([[1., 10.], [2., 14.], [3., 12.], [6., 12.]]).double()
    spread = [((4 + 1 + 0 + 9) / 3 / 4) ** .5, (8 / 3 / 4) ** .5]
    assert z_score(samples, torch.tensor([2., 11.]).double()) == pytest.approx(max(1 / spread[0], 1 / spread[1]))
    assert z_score(samples, torch.tensor([3.5, 12.]).double()) == pytest.approx(.5 / spread[0])


def test_what_check_lets_through(ledger, tmp_path, monkeypatch):
    monkeypatch.setenv("GENAE_LEDGER", str(tmp_path / "ledger"))
    one, two = torch.ones(3), torch.ones(3).double()
    assert check("eq-a", one + 5e-6, one, "scipy") < 1e-5 and check("eq-a", two + 5e-4, two, "autograd", tol=6e-4) > 0
    assert check("eq-b", two * (1 + 5e-10), two, "brute-loop") == pytest.approx(5e-10, rel=1e-3)
    for got, want in ((one + 3e-5, one), (two + 3e-9, two), (two.float() + 3e-5, two), (two + math.nan, two)):
        with pytest.raises(AssertionError, match="eq-c by scipy: error"): check("eq-c", got, want, "scipy")
    check("eq-d", two + 5e-6, one, "scipy") # the lesser precision of the two
    draws = torch.randn(10_000, 2, generator=rng())
    assert check("eq-e", draws, torch.zeros(2), "monte-carlo") < 5 and ledger[-1]["tol"] == 5
    with pytest.raises(AssertionError, match="eq-f by monte-carlo"): check("eq-f", draws, torch.full((2,), .06), "monte-carlo")
    check("eq-g", torch.tensor(2., requires_grad=True), 2., "scipy")
    with pytest.raises(AssertionError, match="error 1 exceeds 0.8"): check("eq-g", torch.tensor([2.]), torch.tensor([1.]), "scipy", .8) # over what is wanted
    refused("not a road", check, "eq-h", one, one, "eye")
    refused("never broadcasts", check, "eq-h", one, torch.ones(1, 3), "scipy")
    refused("never broadcasts", check, "eq-h", draws, torch.zeros(()), "monte-carlo")
    assert [l["label"] for l in ledger] == ["eq-a", "eq-a", "eq-b", "eq-d", "eq-e", "eq-g"] and {l["how"] for l in ledger} <= set(HOWS)
    assert len((tmp_path / "ledger").read_text().splitlines()) == len(ledger)
    rows = [*recap().rows()]
    assert [r[:3] for r in rows[:2]] == [("eq-a", 2, "autograd, scipy"), ("eq-b", 1, "brute-loop")] and float(rows[0][3]) == pytest.approx(.83, abs=.01)
    assert "| eq-a | 2 |" in recap()._repr_markdown_() and repr(recap()).startswith("eq-a  2  ")
    ledger.clear()
    assert repr(recap()) == recap()._repr_markdown_() == core.NO_EQUATIONS


def test_a_lesson_begins_anew(ledger):
    check("eq-a", 1., 1., "scipy")
    a, b = [(core.lesson("04_kl", seed), torch.rand(3).tolist(), core.random.random())[1:] for seed in (0, 1)]
    assert not ledger and core.LESSON[0] == "04_kl" and a != b and a[0] != b[0] and a[1] != b[1]
    assert a == (core.lesson("x"), torch.rand(3).tolist(), core.random.random())[1:]
    core.LESSON[0] = "?"


def test_devices(monkeypatch):
    monkeypatch.setenv("GENAE_DEVICE", "cuda:7")
    assert core.pick_device() == "cuda:7"
    monkeypatch.delenv("GENAE_DEVICE")
    for cuda, mps, want in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        assert core.pick_device() == want
    assert torch.rand(3, generator=rng()).equal(torch.rand(3, generator=rng(0))) and not torch.rand(3, generator=rng(1)).equal(torch.rand(3, generator=rng(0)))


def test_bytes_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert to_uint8(to_float(every)).equal(every) and to_float(every)[[0, 255]].tolist() == [-1, 1] and to_float(every).dtype == torch.float32
    assert to_uint8(torch.tensor([-3., -1., 0., 1 / 255, 1., 3.])).tolist() == [0, 0, 128, 128, 255, 255]


def test_grids_of_pictures():
    x = torch.zeros(5, 3, 16, 16, requires_grad=True)
    assert show(x).size == (5 * (64 + 2) + 2, 64 + 4) and show(x, columns=2, height=16).size == (2 * 18 + 2, 3 * 18 + 2) and show(x, 5, 4).size[1] == 20
    grid = show(torch.full((2, 1, 2, 2), 9, dtype=torch.uint8), height=2)
    assert grid.getpixel((0, 0)) == (255,) * 3 and grid.getpixel((3, 3)) == (9,) * 3
    assert grid._repr_png_().startswith(b"\x89PNG") and grid._repr_jpeg_() is None


# ---------------------------------------------------------------- sphere

def test_what_has_no_direction():
    for x in ([0., 0.], [math.nan, 1.], [math.inf, 1.], [1e-23, 0.]): refused("has no direction", normalize, torch.tensor([[1., 1.], x]))
    close(normalize(torch.tensor([[3., -4.], [1e-12, 0.]])), torch.tensor([[.6, -.8], [1., 0.]]))
    z = sample_sphere(7, 5, rng(3))
    close(z, (torch.randn(7, 5, generator=rng(3)).T / torch.randn(7, 5, generator=rng(3)).square().sum(1).sqrt()).T)
    assert z.shape == (7, 5)


def test_slerp_by_rotation():
    a, b = normalize(double(4, 5)), normalize(double(4, 5, seed=1))
    for t in (0., .25, 1., torch.tensor([0., .3, .5, 1.])):
        cos = (a * b).sum(1, keepdim=True)
        side, omega = normalize(b - cos * a), cos.acos()
        turn = torch.as_tensor(t).double().reshape(-1, 1) * omega
        close(slerp(a, b, t), turn.cos() * a + turn.sin() * side)
    close(slerp(a, a, .3), a)
    close(sphere.angle(a, b), (a * b).sum(1).acos())
    near = normalize(a + 1e-9 * b)
    close(sphere.angle(a, near), (near - a).norm(dim=1), rtol=1e-6, atol=0)
    refused("opposite", slerp, a, -a, .5)
    refused("opposite", slerp, torch.cat([a, a]), torch.cat([b, -a]), .5)
    for pair in ((2 * a, b), (a, .9 * b), (a, torch.cat([b[:3], 2 * b[3:]]))): refused("length one", slerp, *pair, .5)
    close(slerp(a * (1 + 5e-4), b, 0.), a * (1 + 5e-4))


def test_grid_between_corners():
    corners, n = normalize(double(4, 6)), 4
    grid = slerp_grid(corners, n)
    assert grid.shape == (n, n, 6)
    for i in range(n):
        for j in range(n):
            left, right = slerp(corners[0], corners[2], i / 3), slerp(corners[1], corners[3], i / 3)
            close(grid[i, j], slerp(left, right, j / 3))


# ---------------------------------------------------------------- divergences

def test_moments_and_divergences_by_sums():
    z = double(7, 3)
    mean = [sum(z[i, k] for i in range(7)) / 7 for k in range(3)]
    var = [sum((z[i, k] - mean[k]) ** 2 for i in range(7)) / 7 for k in range(3)]
    close(torch.stack(batch_moments(z)), torch.tensor([mean, var]).double())
    there = sum((v + m * m - math.log(v) - 1) / 2 for m, v in zip(mean, var)) / 3
    back = sum(((1 + m * m) / v + math.log(v) - 1) / 2 for m, v in zip(mean, var)) / 3
    close(kl_to_normal(z), torch.as_tensor(there)), close(kl_from_normal(z), torch.as_tensor(back))
    apart = z - z.mean(0)
    cov = sum(torch.outer(a, a) for a in apart) / 7
    close(kl_joint(z), (torch.trace(cov) + z.mean(0) @ z.mean(0) - torch.logdet(cov) - 3) / 2 / 3, rtol=1e-6, atol=0)


def test_doors_of_the_divergences():
    for f in (batch_moments, kl_to_normal, kl_from_normal): refused("at least 2 needed", f, torch.zeros(1, 3))
    for shape in ((3,), (2, 3, 1)): refused("at least 2 needed", batch_moments, torch.zeros(shape))
    assert kl_to_normal(torch.tensor([[1.], [-1.]])) == 0
    refused("no covariance of full rank", kl_joint, double(3, 3))
    assert kl_joint(double(4, 3)).isfinite()
    refused("is none", kl_floor, 0)
    assert kl_floor(1) == 0
    refused("has no variance", kl_bias, 1)
    assert kl_bias(2) > kl_bias(3) > 0


def test_below_the_floor_of_the_variance():
    "The logarithm and the inverse go on along their tangents: values and slopes meet."
    f = VAR_FLOOR
    zero, at = torch.zeros((), dtype=torch.float64), torch.tensor(f, dtype=torch.float64)
    for v in (0., .25 * f, .75 * f):
        v = torch.tensor(v, dtype=torch.float64)
        close(moments_to_normal(zero, v), (v - (math.log(f) + (v - f) / f) - 1) / 2)
        close(moments_from_normal(zero, v), ((1 / f - (v - f) / f ** 2) + (math.log(f) + (v - f) / f) - 1) / 2)
    for g in (moments_to_normal, moments_from_normal):
        slopes = [torch.autograd.grad(g(zero, v := (at * s).requires_grad_()), v)[0] for s in (.999999, 1.000001)]
        close(*slopes, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype, out", ((torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)))
def test_precision_of_the_moments(dtype, out):
    z = (300 * double(8, 5)).to(dtype)
    mean, var = batch_moments(z)
    assert mean.dtype == var.dtype == out and var.isfinite().all() and kl_joint(z).dtype == out
    close(mean, z.to(out).sum(0) / 8, rtol=1e-5, atol=1e-4)


def test_moments_of_pieces():
    z, counts = double(9, 2), torch.tensor([2, 3, 4])
    parts = z.split(counts.tolist())
    got = merge_moments(counts, torch.stack([p.mean(0) for p in parts]), torch.stack([p.var(0, correction=0) for p in parts]))
    close(torch.stack(got), torch.stack(batch_moments(z)))


# ---------------------------------------------------------------- AdaIN

def test_adain_by_maps():
    x, scale, shift = double(2, 3, 4, 5), double(2, 3, seed=1), double(2, 3, seed=2)
    for eps, unbiased in ((1e-5, False), (0., False), (0., True), (.3, True)):
        want = torch.zeros_like(x)
        for b in range(2):
            for c in range(3):
                m = x[b, c].sum() / 20
                v = (x[b, c] - m).square().sum() / (19 if unbiased else 20)
                want[b, c] = scale[b, c] * (x[b, c] - m) / (v + eps).sqrt() + shift[b, c]
        close(adain(x, scale, shift, eps, unbiased), want), close(adain(x, scale[..., None, None], shift[..., None, None], eps, unbiased), want)
    mean, std = instance_stats(x)
    assert mean.shape == std.shape == (2, 3, 1, 1)
    close(std[1, 2, 0, 0], (x[1, 2] - x[1, 2].mean()).square().mean().sqrt())
    for wrong in (scale[:1], scale[:, :2], scale[0], scale[..., None]):
        refused("scale has shape", adain, x, wrong, shift), refused("shift has shape", adain, x, scale, wrong)
    refused("one pixel", adain, x[..., :1, :1], scale, shift, unbiased=True)
    close(adain(x[..., :1, :1], scale, shift), shift[..., None, None])
    assert adain(x[:0], scale[:0], shift[:0]).shape == (0, 3, 4, 5)
    net = AdaIN(4, 3).double()
    close(torch.stack(net.style(torch.zeros(2, 4).double())), torch.stack([torch.ones(2, 3), torch.zeros(2, 3)]).double())
    assert net.eps == 1e-5 and not net.unbiased


# ---------------------------------------------------------------- robust loss

def test_robust_loss_by_its_formula():
    x = torch.tensor([-7., -.3, 0., 1e-4, .5, 40.]).double()
    for c in (.5, 1., torch.tensor(2.)):
        u = (x / c).square()
        want = {2.: u / 2, 0.: (u / 2 + 1).log(), -math.inf: 1 - (-u / 2).exp(), math.inf: (u.clamp(max=1e3) / 2).exp() - 1}
        for alpha in (1., -2., 1.3, .05, -.05, 1.95, 2.05, 3.): want[alpha] = abs(alpha - 2) / alpha * ((u / abs(alpha - 2) + 1) ** (alpha / 2) - 1)
        for alpha, w in want.items():
            if alpha == math.inf: assert general_robust_loss(x[:5], alpha, c)[-1] == pytest.approx(w[4].item(), rel=1e-6)
            else: close(general_robust_loss(x, alpha, c), w, rtol=1e-7, atol=1e-14)
    assert general_robust_loss(x, 1.).equal(general_robust_loss(x, 1., 1.)) and general_robust_loss(x.float(), 1.).dtype == torch.float32 and general_robust_loss(torch.tensor(1e300).double(), 2.).isfinite()


@pytest.mark.parametrize("alpha", (0., .01, .5, 1., 1.5, 1.99, 2.))
def test_partition_by_quadrature(alpha):
    f = lambda x: math.exp(-general_robust_loss(torch.tensor(x, dtype=torch.float64), alpha).item())
    z = 2 * (integrate.quad(f, 0, 1)[0] + integrate.quad(lambda t: f(1 / t) / t ** 2, 1e-12, 1, limit=400)[0])
    assert log_partition(torch.tensor([alpha]).double()).item() == pytest.approx(math.log(z), abs=1e-6)


def test_doors_of_the_robust_loss():
    for bad in (-1e-6, 2 + 1e-6): refused("0 to 2 needed", log_partition, torch.tensor([1., bad]).double())
    assert log_partition(torch.zeros(0)).shape == (0,)
    for scale_lo in (0., 1.): refused("scale_lo=", AdaptiveLoss, 8, scale_lo=scale_lo)
    for size in (2, 12): refused(f"size={size} given", AdaptiveLoss, size)
    loss = AdaptiveLoss(8, 2, scale_lo=.1).double()
    assert {k: tuple(p.shape) for k, p in loss.shape_latent.items()} == {"4": (2, 4, 4), "8": (2, 8, 8)} and sorted(AdaptiveLoss().shape_latent) == ["16", "32", "4", "8"]
    x = double(3, 2, 8, 8)
    for a, b in ((x, x[:2]), (x[:, :1], x[:, :1]), (x[..., :4], x[..., :4])): refused("needed", loss, a, b)
    refused("no table for 16 pixels", loss, double(1, 2, 16, 16), double(1, 2, 16, 16)), refused("no table for 16 pixels", loss.grow, 16)
    close(loss.alpha_robust(8), torch.ones(2, 8, 8).double()), close(loss.scale(4), torch.ones(2, 4, 4).double())
    for p in loss.parameters(): p.data.copy_(double(*p.shape, seed=p.shape[-1]))
    a, s = (t["8"] for t in (loss.shape_latent, loss.scale_latent))
    close(loss.alpha_robust(8), .001 + 1.998 / (1 + (-a).exp())), close(loss.scale(8), .1 + .9 * (1 + (s + math.log(math.e - 1)).exp()).log())
    y = double(3, 2, 8, 8, seed=9)
    want = general_robust_loss(y - x, loss.alpha_robust(8), loss.scale(8)) + loss.scale(8).log() + log_partition(loss.alpha_robust(8))
    close(loss(x, y), want.mean(), rtol=1e-6, atol=1e-8)
    for p in loss.shape_latent.values(): p.data.fill_(-50), close(loss.alpha_robust(p.shape[-1]), torch.full_like(p, .001))
    loss.grow(8)
    for t in (loss.shape_latent, loss.scale_latent):
        for i in range(8):
            for j in range(8): assert t["8"][:, i, j].equal(t["4"][:, i // 2, j // 2])
    with torch.no_grad(): loss.scale_latent["8"].fill_(7.)
    loss.grow(8), loss.grow(4) # once only
    assert (loss.scale_latent["8"] == 7).all() and loss.grown == 8


# ---------------------------------------------------------------- patterns

def test_counts_of_patterns():
    assert count_patterns() == 128 * math.comb(256, 4) * math.comb(512, 16) and count_patterns(((6, 2), (4, 1)), 2) == 3 * 4
    close(overlap_distribution(5, 2), torch.tensor([len([1 for b in combinations(range(5), 2) if len({0, 1} & set(b)) == o]) for o in range(3)]).double() / 10)


def test_every_subset_once():
    "All draws of Floyd's algorithm, each as often as it is likely: 3 of 5 channels."
    draws = torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(5))
    found = [tuple(r) for r in subsets(draws, 5).tolist()]
    assert {s: found.count(s) for s in combinations(range(5), 3)} == {s: 6 for s in combinations(range(5), 3)} and draws.shape == (60, 3)


def test_random_numbers_by_counting():
    "splitmix64 in whole numbers of Python."
    wrap = (1 << 64) - 1
    def scramble(z):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & wrap
        z = (z ^ z >> 27) * 0x94D049BB133111EB & wrap
        return z ^ z >> 31
    for seed, attempt in ((0, 0), (7, 0), (7, 3)):
        got = random_draws(seed, torch.tensor([0, 5, 2 ** 40]), [10, 3, 2 ** 53], attempt)
        for index, row in zip((0, 5, 2 ** 40), got.tolist()):
            key = scramble((scramble((scramble((seed + 0x9E3779B97F4A7C15) & wrap) + index) & wrap) + attempt) & wrap)
            assert row == [(scramble((key + (k + 1) * 0x9E3779B97F4A7C15) & wrap) >> 11) % b for k, b in enumerate((10, 3, 2 ** 53))]
    assert random_draws(3, torch.arange(2), [9]).equal(random_draws(3, torch.arange(2), [9], 0))


def test_patterns_are_drawn_once(tmp_path):
    layers = ((6, 1), (5, 2)) # 60 of them
    rows = lambda p: [tuple(r) for r in torch.cat([a.long() for a in p.active], 1).tolist()]
    every = draw_patterns(60, layers, seed=2)
    assert len(set(rows(every))) == 60 and rows(draw_patterns(20, layers, seed=2)) != rows(draw_patterns(20, layers, seed=3))
    assert rows(draw_patterns(5, layers, seed=2)) == rows(draw_patterns(9, layers, seed=2))[:5]
    refused("only 60 patterns", draw_patterns, 61, layers)
    old = draw_patterns(40, layers, seed=2)
    assert not set(rows(draw_patterns(20, layers, seed=2, avoid=old))) & set(rows(old))
    refused("only 60 patterns", draw_patterns, 21, layers, avoid=old)
    labels = torch.tensor([0, 2, 1, 2] * 5)
    clustered = draw_patterns(20, layers, labels=labels, clusters=3)
    assert (clustered.active[0].long()[:, 0] // 2).equal(labels) and len(set(rows(clustered))) == 20
    refused("choose a divisor", draw_patterns, 3, layers, clusters=4, labels=labels[:3]), refused("choose a divisor", draw_patterns, 3, ((6, 3), (5, 2)), clusters=3, labels=labels[:3])
    crowded = draw_patterns(55, layers, labels=torch.arange(55) % 3, clusters=3) # 20 for each cluster, 19 of one are used
    assert len(set(rows(crowded))) == 55 and rows(draw_patterns(5, layers, seed=4, labels=torch.tensor([0, 1, 1, 2, 2]), clusters=3, avoid=crowded))
    refused("21 pictures, but only 20 patterns", draw_patterns, 23, layers, labels=torch.tensor([0] * 21 + [1, 2]), clusters=3)
    refused("21 pictures, but only 20 patterns", draw_patterns, 2, layers, labels=torch.tensor([0, 0]), clusters=3, avoid=crowded)
    refused("but no labels", draw_patterns, 3, layers, clusters=3)
    assert repeats([torch.tensor([[1], [2], [1], [1]]), torch.tensor([[3], [3], [3], [4]])]).tolist() == [False, False, True, False]
    every.save(tmp_path / "p")
    again = Patterns.load(tmp_path / "p")
    assert rows(again) == rows(every) and again.channels == (6, 5) and len(again) == 60
    assert rows(every.mirrored()) == [(a, 4 - c, 4 - b) for a, b, c in rows(every)]
    first, second = every.take(torch.tensor([3, 1])).masks()
    assert first.shape == (2, 6) and second.sum(1).tolist() == [2, 2] and [tuple(map(int, (*a.nonzero(), *b.nonzero()))) for a, b in zip(first, second)] == [rows(every)[3], rows(every)[1]]
    assert every.masks(torch.tensor([3, 1]))[1].equal(second)


@pytest.mark.parametrize("active, channels", (([[[0], [3]]], (3,)), ([[[-1]]], (3,)), ([[0, 1]], (3,)), ([[[0], [1]], [[0]]], (3, 3))))
def test_patterns_that_cannot_be(active, channels): refused("whole numbers from 0 to 2", Patterns, [torch.tensor(a) for a in active], channels)


def test_narrow_and_wide_layers():
    with pytest.raises(ValueError): Patterns([torch.tensor([[0]])], (3, 3)) # channels of a layer that is not there
    for n, kind in ((256, torch.uint8), (257, torch.int16)): assert Patterns([torch.tensor([[n - 1]])], (n,)).active[0].dtype == kind


def test_clusters_of_alike_pictures():
    dark, light = torch.randint(0, 60, (6, 1, 4, 4), generator=rng()), torch.randint(190, 250, (5, 1, 4, 4), generator=rng())
    labels = cluster_images(torch.cat([dark, light]).to(torch.uint8), 2)
    assert len(set(labels[:6].tolist())) == len(set(labels[6:].tolist())) == 1 and labels[0] != labels[6] and labels.dtype == torch.int64
    drawn = sample_labels(3000, labels, rng(1))
    assert drawn.shape == (3000,) and (drawn == labels[0]).double().mean().item() == pytest.approx(6 / 11, abs=.06)


# ---------------------------------------------------------------- perceptual distance

def test_doors_of_the_perceptual_distance():
    perceptual, x = small_perceptual(), torch.rand(2, 3, 32, 32) * 2 - 1
    assert perceptual.name == "toyfaces-small" and not any(p.requires_grad for p in perceptual.parameters()) and not perceptual.training
    for a, b in ((x, x[:1]), (x[:, :1], x[:, :1]), (x[0], x[0])): refused("two of", perceptual, a, b)
    for bad in (x / 2 + .5, x * 1.02 / x.abs().max(), x * math.nan): refused("given, .-1, 1. needed", perceptual, bad, x)
    assert perceptual(x * 1.005 / x.abs().max(), x).shape == (2,) and perceptual(x[:0], x[:0]).shape == (0,)
    refused("a weight is negative", Perceptual, [nn.Identity()], [torch.tensor([1., -.1, 1.])], "a test")
    Perceptual([nn.Identity()], [torch.zeros(3)], "a test")
    refused("choose one of alex, vgg", lpips, "squeeze")
    state, judge2 = torch.get_rng_state(), small_perceptual()
    assert torch.get_rng_state().equal(state) and judge2(x[:1], x[1:]).equal(perceptual(x[:1], x[1:])) # nobody's random numbers are used up
    f = double(2, 3, 2, 2)
    close(unit_features(f)[1, :, 0, 1], f[1, :, 0, 1] / f[1, :, 0, 1].square().sum().sqrt(), rtol=1e-8, atol=0)
    assert unit_features(f * 0).abs().max() == 0


@pytest.mark.filterwarnings("ignore:.*:UserWarning:torchvision") # the package asks torchvision in its old way
@pytest.mark.parametrize("net", ("alex", "vgg"))
def test_the_packages_distance_on_any_weights(net, tmp_path):
    "Random weights, so not LPIPS: the same file, read by the book, and put into the package's network, gives the same numbers."
    torch.manual_seed(0)
    with torch.device("meta"): parts = models.get_model(dict(alex="alexnet", vgg="vgg16")[net]).features
    trunk = parts.to_empty(device="cpu")
    for m in trunk:
        if isinstance(m, nn.Conv2d): nn.init.kaiming_normal_(m.weight), nn.init.normal_(m.bias, std=.1)
    torch.save({f"features.{k}": v for k, v in trunk.state_dict().items()}, tmp_path / dict(alex="alexnet-owt-7be5be79.pth", vgg="vgg16-397923af.pth")[net])
    theirs = package.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    for k in range(1, 6):
        for at, m in getattr(theirs.net, f"slice{k}").named_children(): m.load_state_dict(trunk[int(at)].state_dict())
    ours, x = lpips(net, tmp_path), torch.rand(2, 2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        close(ours(*x), theirs(*x).flatten(), rtol=1e-4, atol=1e-6)
        small = torch.rand(2, 2, 3, 32, 32) * 2 - 1
        close(ours(*small), theirs(*(nn.functional.interpolate(s, size=64, mode="bilinear", align_corners=False) for s in small)).flatten(), rtol=1e-4, atol=1e-6)
    assert ours.name == f"lpips-{net}"


def test_weights_that_cannot_be_read(tmp_path):
    path = tmp_path / "alexnet-owt-7be5be79.pth"
    for write in (lambda: path.write_bytes(b"nothing"), lambda: torch.save(nn.Identity(), path)): # a pickle of code is not opened
        write()
        with pytest.raises(OSError, match="alexnet-owt-7be5be79.pth could not be read"): lpips("alex", tmp_path)


def test_weights_that_must_be_fetched(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home")) # where nothing lies yet
    def fetched(self, **kwargs): asked.append((self.url, kwargs)); return models.alexnet().state_dict()
    monkeypatch.setattr(models.AlexNet_Weights, "get_state_dict", fetched)
    assert lpips("alex", tmp_path).name == "lpips-alex" and lpips().name == "lpips-alex"
    url, quiet = models.AlexNet_Weights.IMAGENET1K_V1.url, dict(progress=False, check_hash=True)
    assert asked == [(url, dict(model_dir=str(tmp_path), **quiet)), (url, dict(model_dir=torch.hub.get_dir() + "/checkpoints", **quiet))]
    def unreachable(self, **kwargs): raise TimeoutError("no network\nat all")
    monkeypatch.setattr(models.AlexNet_Weights, "get_state_dict", unreachable)
    with pytest.raises(OSError, match=rf"could not be fetched \(TimeoutError: no network\)\. .*{url}; put the file into {tmp_path}"): lpips("alex", tmp_path)


# ---------------------------------------------------------------- drawn faces

def test_each_colour_is_where_it_belongs():
    "A corner is ground, the top of the head is hair, a cheek is skin, and each follows its own factor alone."
    places = dict(ground=(2, 2), hair=(13, 32), skin=(44, 32))
    for name in places:
        low, high = (draw_faces(named_factors(**{name: v}), size=64)[0].float() for v in (-1, 1))
        moved = {place: (low - high)[:, y, x].abs().max() > 20 for place, (y, x) in places.items()}
        assert moved == {place: place == name for place in places}, name


def test_doors_of_the_reader():
    table = torch.tensor([[1., 4.], [3., 8.]])
    close(r2(table + torch.tensor([[0., 1.], [0., 1.]]), table), torch.tensor([1., 1 - 2 / 8])) # two rows are enough
    for pair in ((table[:1], table[:1]), (table, table[:, :1])): refused("two tables of one shape and at least two rows", r2, *pair)
    assert [p.shape[-1] for p in pyramid(torch.zeros(1, 3, 16, 16))] == [16, 8, 4]
    for size in (24, 12): refused(f"{size} pixels cannot be halved to 8", pyramid, torch.zeros(1, 3, size, size), 8)
    for size in (8, 64): refused(f"there is no reader for {size} pixels", FactorReader, size)
    for shape in ((1, 3, 32, 32), (1, 1, 16, 16)): refused("this reader takes", load_reader(16), torch.zeros(shape))
