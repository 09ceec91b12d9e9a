"""The metrics of lesson 30 beside the packages that everybody uses, on the same features and, where their weights and pictures are at hand, on the same photographs.

torch-fidelity is no requirement of genae: `pip install torch-fidelity` to run what is skipped without it."""
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genae.automodulator import Automodulator
from genae.core import rng, to_float
from genae.datasets import data_root, open_dataset, toyfaces
from genae.metrics import (FeatureExtractor, Measurement, Moments, compared, described, drawn_mixtures, face_crop, features_of, frechet, frechet_distance, in_batches,
                           inception_features, inception_score, kid, layer_entanglement, mixtures, moments_of, path_lengths, perceptual_error, perceptual_path_length, precision_recall,
                           reader_features, reference_features, table_one)
from genae.perceptual import lpips, small_perceptual

CHECKPOINTS = Path(torch.hub.get_dir()) / "checkpoints"
needs_inception = pytest.mark.skipif(not (CHECKPOINTS / "pt_inception-2015-12-05-6726825d.pth").exists() or not (data_root() / "cifar10.safetensors").exists(),
                                     reason="the weights of FID and CIFAR-10 are not here")
needs_alex = pytest.mark.skipif(not (CHECKPOINTS / "alexnet-owt-7be5be79.pth").exists(), reason="the weights of AlexNet are not here")


@pytest.fixture(scope="module")
def clouds():
    "Features like Inception's: not negative, correlated, of two kinds."
    mix = torch.rand(48, 48, generator=rng(0))
    return [(torch.randn(n, 48, generator=rng(k)) @ mix * s).relu() + .1 for k, (n, s) in enumerate([(500, 1.), (400, 1.1)], 1)]


# ---------------------------------------------------------------- the same features

@pytest.mark.parametrize("d", (2, 5, 48))
def test_frechet_is_that_of_both_packages(clouds, d):
    from pytorch_fid.fid_score import calculate_frechet_distance
    a, b = (c[:, :d].double() for c in clouds)
    ours = frechet_distance(Moments(a), Moments(b))
    stats = [(c.mean(0).numpy(), np.atleast_2d(np.cov(c.numpy(), rowvar=False))) for c in (a, b)]
    assert ours == pytest.approx(calculate_frechet_distance(*stats[0], *stats[1]), rel=1e-6)
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    stats = [dict(mu=m, sigma=s) for m, s in stats]
    assert ours == pytest.approx(fidelity.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"], rel=1e-6)


def test_kid_is_that_of_torch_fidelity(clouds):
    fidelity = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = (c[:400].double() for c in clouds)
    whole = fidelity.kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=400, verbose=False, rng_seed=0)
    assert kid(a, b) == pytest.approx(whole["kernel_inception_distance_mean"], rel=1e-9)
    some = fidelity.kid_features_to_metric(a, b, kid_subsets=100, kid_subset_size=100, verbose=False, rng_seed=0)
    error = some["kernel_inception_distance_std"] / 10
    assert abs(kid(a, b) - some["kernel_inception_distance_mean"]) < 5 * error # what the mean over subsets tends to


@pytest.mark.parametrize("k", (1, 3, 5))
def test_precision_and_recall_are_those_of_torch_fidelity(clouds, k):
    fidelity = pytest.importorskip("torch_fidelity.metric_prc")
    real, made = (c.double() for c in clouds)
    theirs = fidelity.prc_features_to_metric(made, real, prc_neighborhood=k, prc_batch_size=10_000, save_cpu_ram=False, verbose=False)
    assert precision_recall(real, made, k) == pytest.approx((theirs["precision"], theirs["recall"]), abs=2 / 400) # a pair at the very edge of a ball
    assert 0 < theirs["precision"] < 1


def test_inception_score_is_that_of_torch_fidelity():
    fidelity = pytest.importorskip("torch_fidelity.metric_isc")
    logits = torch.randn(505, 20, generator=rng(3)).double() * 2
    theirs = fidelity.isc_features_to_metric(logits, 10, False, 0)
    assert inception_score(logits.softmax(1)) == pytest.approx((theirs["inception_score_mean"], theirs["inception_score_std"]), rel=1e-9)
    assert inception_score(torch.eye(4).repeat(9, 1), 3)[0] == pytest.approx(4) # zeros in the answers


# ---------------------------------------------------------------- the same photographs

@needs_inception
def test_features_are_those_of_pytorch_fid_and_fid_too():
    from pytorch_fid.fid_score import calculate_frechet_distance
    from pytorch_fid.inception import InceptionV3
    extractor, package = inception_features(), InceptionV3([3]).eval()
    theirs, ours = [], []
    for split in ("train", "test"):
        dataset = open_dataset("cifar10", 32, n=12, split=split)
        ours.append(features_of(in_batches(dataset, 5), extractor))
        with torch.no_grad(): theirs.append(package(dataset.images.float() / 255)[0].flatten(1))
        torch.testing.assert_close(ours[-1], theirs[-1], rtol=1e-3, atol=1e-4) # other layout, other batches
    stats = [s for f in theirs for s in (f.double().mean(0).numpy(), np.cov(f.double().numpy(), rowvar=False))]
    fid = frechet(*ours, extractor)
    assert fid.name == "FID" and extractor.weights in repr(fid)
    assert fid.value == pytest.approx(calculate_frechet_distance(*stats), rel=1e-3) # covariances of rank 11: roots of their product are rough


@needs_inception
def test_torch_fidelity_enlarges_in_another_way():
    fidelity = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    x = open_dataset("cifar10", 32, n=2, split="test").images.float()
    theirs = fidelity.interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
    assert (theirs - torch.nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)).abs().max() > 10 # of 255


@needs_alex
def test_lpips_of_reconstructions_is_the_packages(monkeypatch):
    import lpips as package
    model, x = Automodulator.from_pretrained("toyfaces"), toyfaces(70, 32, 5).batch(torch.arange(70))
    x_hat, grow = model.reconstruct(x), lambda p: torch.nn.functional.interpolate(p, size=64, mode="bilinear", align_corners=False)
    theirs = package.LPIPS(net="alex", verbose=False).eval()
    with torch.no_grad():
        whole, face = theirs(grow(x), grow(x_hat)).mean(), theirs(grow(x[..., 12:28, 8:24]), grow(x_hat[..., 12:28, 8:24])).mean()
    assert perceptual_error(x, x_hat, lpips("alex")) == pytest.approx(float(whole), abs=1e-6)
    assert perceptual_error(x, x_hat, lpips("alex"), crop=True) == pytest.approx(float(face), abs=1e-6)


# ---------------------------------------------------------------- doors and protocols

def test_numbers_of_other_protocols_refuse():
    a = Measurement("FID", 3., dict(samples=5, weights="0" * 16))
    assert a < Measurement("FID", 4., a.protocol) and a <= a and not a > a and a - Measurement("FID", 1., a.protocol) == 2 and float(a) == 3
    for b, why in ((replace(a, name="KID"), "metric is KID there and FID here"), (replace(a, protocol=a.protocol | dict(samples=6)), "samples is 6 there and 5 here"),
                   (replace(a, protocol=a.protocol | dict(weights="1" * 16)), "the weights are others"), (replace(a, protocol=dict(samples=5)), "weights is None there"),
                   (replace(a, protocol=a.protocol | dict(crop=True)), "crop is True there and None here")):
        for compare in (lambda: a < b, lambda: b - a, lambda: a >= b):
            with pytest.raises(ValueError, match="cannot be compared"): compare()
        with pytest.raises(ValueError, match=why): a.alike(b)
        assert a != b
    with pytest.raises(TypeError, match="no protocol"): a < 3


def test_kept_features_belong_to_pictures_and_weights(tmp_path):
    asked = []
    def net(x): asked.append(len(x)); return x.mean((2, 3))
    e, data = FeatureExtractor("means", net, "a" * 16, "none"), toyfaces(60, 16)
    first = reference_features(data, e, tmp_path)
    assert reference_features(data, e, tmp_path).equal(first) and asked == [50, 10] and first.shape == (60, 3)
    reference_features(toyfaces(60, 16, 1), e, tmp_path); reference_features(data, replace(e, weights="b" * 16), tmp_path)
    assert len(asked) == 6 and len(list(tmp_path.iterdir())) == 3


def test_pictures_count_as_their_files_would():
    e = FeatureExtractor("means", lambda x: x.mean((2, 3)), "", "")
    x = torch.randn(8, 3, 4, 4, generator=rng(1))
    written = to_float(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    assert features_of([x], e).equal(features_of([written], e)) and not features_of([x], e).equal(x.mean((2, 3)))
    assert moments_of((x[i:i + 3] for i in (0, 3, 6)), e).n == 8


def test_doors():
    good = torch.randn(9, 3)
    for bad in (good[0], good[:0], good * math.inf):
        with pytest.raises(ValueError, match="finite numbers"): Moments(bad)
    with pytest.raises(ValueError, match="one extractor"): frechet_distance(Moments(good), Moments(good[:, :2]))
    for b in (good[:1], good[:, :2]):
        with pytest.raises(ValueError, match="two or more rows"): kid(good, b)
    with pytest.raises(ValueError, match="no 3 neighbours"): precision_recall(good, good[:3])
    with pytest.raises(ValueError, match="eighths"): face_crop(torch.zeros(1, 3, 36, 36))
    with pytest.raises(ValueError): perceptual_error(torch.zeros(65, 3, 32, 32) - .1, torch.zeros(64, 3, 32, 32) - .1, small_perceptual())
    assert Moments(good).merge(Moments()).n == Moments().merge(Moments(good)).n == 9


# ---------------------------------------------------------------- models

@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return Automodulator(16, latent_dim=6, widths=(8, 8, 8)).eval()


def test_mixtures_pair_different_pictures_and_cut_everywhere(tiny):
    seen, pairs = [], []
    class Watched:
        decoder, latent_dim = tiny.decoder, tiny.latent_dim
        def encode(self, x): pairs.append(x); return tiny.encode(x)
        def decode(self, z): seen.append(z); return tiny.decode(z)
    data = toyfaces(3, 16)
    assert sum(map(len, drawn_mixtures(Watched(), data, 230, rng(4)))) == 230
    a, b = (torch.cat(pairs[k::2]) for k in (0, 1))
    assert ((a - b).flatten(1).abs().amax(1) > 0).all()
    z = torch.cat(seen, 1)
    cut = (z == z[:1]).all(-1).sum(0) # layers that obey the first code
    assert set(cut.tolist()) == set(range(1, tiny.decoder.n))


def test_a_path_sees_the_same_noise_twice_and_leaves_the_callers_alone(tiny):
    state, drawn = torch.get_rng_state(), []
    def decode(z): drawn.append(torch.randn(2)); return z
    path_lengths(decode, lambda p, q: (p - q).square().sum(1), 4, 60, rng(0))
    assert drawn[0].equal(drawn[1]) and drawn[2].equal(drawn[3]) and not drawn[0].equal(drawn[2]) and torch.get_rng_state().equal(state)
    v = torch.arange(200.)
    assert perceptual_path_length(v[torch.randperm(200, generator=rng(1))]) == pytest.approx(float(v[1:199].mean()))
    assert perceptual_path_length(v.square(), (0, .5)) == pytest.approx(float(v[:101].square().mean()))


def test_no_entanglement_where_the_encoder_gives_back_the_early_code(tiny):
    z_a, z_b = (torch.nn.functional.normalize(torch.randn(70, 6, generator=rng(k)), dim=1) for k in (1, 2))
    class Model: decoder = tiny.decoder
    told = []
    def knows(x): told.append(len(x)); return z_a[sum(told[:-1]) % 70:][:len(x)]
    Model.encoder = staticmethod(knows)
    assert layer_entanglement(Model, z_a, z_b).abs().max() < 1e-6
    told.clear()
    Model.encoder = staticmethod(lambda x: (told.append(len(x)), z_a.roll(1, 0)[sum(told[:-1]) % 70:][:len(x)])[1])
    torch.testing.assert_close(layer_entanglement(Model, z_a, z_b), torch.ones(tiny.decoder.n - 1), rtol=1e-4, atol=0)


def test_table_one_measures_what_it_says(tiny, tmp_path):
    training, held_out, e = toyfaces(80, 16, 1), toyfaces(30, 16, 2), reader_features(16)
    table = table_one(tiny, training, held_out, e, small_perceptual(), n=60, seed=3, folder=tmp_path)
    assert table == table_one(tiny, training, held_out, e, small_perceptual(), n=60, seed=3, folder=tmp_path)
    assert set(table) == {f"{s} {k}" for s in ("samples", "mixtures") for k in ("frechet", "kid", "precision", "recall")} | {"path length", "reconstruction", "entanglement"}
    assert not any("FID" in m.name or "LPIPS" in m.name or "PPL" in m.name for m in table.values()) # networks of our own
    assert all(m.protocol["reference"] == described(training) and m.protocol["samples"] == 60 for k, m in table.items() if "s " in k)
    g = rng(3)
    drawn = [tiny.sample(50, g), tiny.sample(10, g)]
    again = compared(features_of(in_batches(training), e), features_of(drawn, e), e)
    for k, m in again.items(): assert m.value == pytest.approx(table[f"samples {k}"].value, rel=1e-6)
    x = held_out.batch(torch.arange(30))
    assert table["reconstruction"].value == pytest.approx(perceptual_error(x, tiny.reconstruct(x), small_perceptual()), rel=1e-5)
