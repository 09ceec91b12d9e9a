"""Values that nobody computes, kept: recipes as runs were made with them, the order of an epoch, the smallest thing that may be asked for.

A change here is a decision: old runs can no longer be made again, or a checkpoint of yesterday goes on in another order."""
import warnings
from dataclasses import asdict, replace

import pytest
import torch
from genae import automodulator, deciphering
from genae.automodulator import Automodulator, ImagePool
from genae.core import rng
from genae.data import toyfaces
from genae.deciphering import DecipheringAutoencoder, Order
from genae.decoder import StyleLayer
from genae.engine import Ema, load_state, rows, save_state
from genae.mixing import interpolate
from safetensors.torch import save_file

SMALL = Automodulator(8, code=6, widths=(4, 4), depth=(1, 1)).eval()
CIPHER = DecipheringAutoencoder(16, ((8, 1), (16, 4)), pictures=4, widths=(8, 16, 32), latent=8, neck=8).eval()


def test_networks_of_the_papers():
    "Two convolutions at each resolution of both; the counts of lessons 12 and 13."
    with torch.device("meta"): nets = {k: Automodulator(64, **automodulator.RECIPES[k].model) for k in ("paper", "reference", "reference:celeba-hq")}
    assert {(n.decoder.n, n.code, sum(p.numel() for p in n.encoder.parameters())) for n in nets.values()} == {(9, 512, 24_254_464 + 4 * (3 + 1) * 512)} # and the four smaller sizes' way in
    large, small = (sum(p.numel() for p in nets[k].decoder.parameters()) for k in ("reference", "reference:celeba-hq"))
    assert (large - small, nets["paper"].decoder.canvas0) == (25_971_724 - 22_495_500, None)


def test_recipe_of_the_class():
    own = asdict(automodulator.RECIPES["class"])
    assert {k: own[k] for k in ("distance", "floor", "lambda_x", "lambda_z", "lambda_j", "lambda_joint", "decoder_learns_x", "decoder_rate", "betas", "fall", "half_life", "mixed", "model")} == dict(
        distance="robust", floor=.3, lambda_x=30., lambda_z=5., lambda_j=3., lambda_joint=1., decoder_learns_x=True, decoder_rate=4., betas=(.5, .99), fall=.3, half_life=2500., mixed=.25, model=dict(blur=True))
    assert [(p["size"], p["images"], p["fade"], p["batch"], p["lr"], p["margin"]) for p in own["phases"]] == [(8, 1., 0., 32, .003, .3), (16, 3., 1., 32, .003, .3), (32, 6., 2., 32, .003, .3), (64, 12., 4., 32, .003, .3)]
    other = {f.name for f in automodulator.PublicWays.__dataclass_fields__.values()} - {"mixed_theta", "stable_x"}
    assert not any(own[k] for k in other) and (own["mixed_theta"], own["stable_x"]) == (.25, 1.) # none of the public code's ways


def test_recipes_of_the_cipher():
    own = {k: asdict(deciphering.RECIPES[k]) for k in ("paper", "reference", "class", "lpips")}
    assert {k: own["class"][k] for k in ("layers", "model", "batch", "lr", "shift_lr", "decay", "distance", "lambda_pixels", "fall", "average")} == dict(
        layers=((32, 1), (64, 4), (128, 8)), model=dict(widths=(32, 64, 128, 256), latent=64, neck=32), batch=64, lr=2e-3, shift_lr=2e-4, decay=.08, distance="toyfaces-small", lambda_pixels=3., fall=.5, average=.998)
    assert {k: v for k, v in own["lpips"].items() if v != own["class"][k]} == dict(distance="lpips-alex", enlarge=64)
    assert {k: v for k, v in own["reference"].items() if v != own["paper"][k]} == dict(reaches=False, mirror=True, library=True)


def test_a_pool_is_remembered():
    pool, again = ImagePool(3), ImagePool(3)
    pool.swap(torch.rand(5, 1, 2, 2, generator=rng()), rng(1))
    again.load_state_dict(pool.state_dict())
    assert again.pictures.equal(pool.pictures) and len(pool.pictures) == 3


@pytest.mark.parametrize("seed", (0, 3))
def test_orders_of_the_epochs(seed):
    order = Order(6, 2, seed)
    for epoch in range(3):
        assert torch.cat([order.next() for _ in range(3)]).equal(torch.randperm(6, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)))


def test_the_least_that_can_be_asked_for():
    g = rng(1)
    assert SMALL.sample(1, g).shape == (1, 3, 8, 8) and CIPHER.sample(1, g).shape == (1, 3, 16, 16)
    x = SMALL.sample(2, g)
    assert interpolate(SMALL, x, x.flip(0), 1).shape == (2, 3, 8, 8) and CIPHER.interpolate(CIPHER.patterns(2), CIPHER.patterns(2), 1).shape == (2, 3, 16, 16)
    torch.testing.assert_close(interpolate(SMALL, x, x.flip(0), 1), SMALL.reconstruct(x)) # where it begins
    edge = torch.tensor([-1.01, 1.01], dtype=torch.float64).repeat(4).expand(1, 3, 8, 8)
    assert SMALL.encode(edge).shape == (1, 6)
    for far in (edge.clamp(min=-1) * 1.0101, edge.clamp(max=1) * 1.0101):
        with pytest.raises(ValueError, match="pictures with values from"): SMALL.encode(far)


def test_what_is_not_said():
    bank = toyfaces(3, size=8, seed=1)
    known = {p.numpy().tobytes() for p in bank.batch(torch.arange(3))}
    assert {p.numpy().tobytes() for p in bank.sample(40, rng(0))} == known # not mirrored
    assert not any("strength" in k for k, _ in StyleLayer(3, 4, 5, False).named_parameters()) # no noise


@pytest.mark.parametrize("distance", automodulator.LAMBDA_X)
def test_a_distance_brings_its_weight(distance):
    bank, base = toyfaces(8, size=8, seed=1), replace(automodulator.RECIPES["class"], distance=distance, lambda_x=None)
    def after(weight): return automodulator.train(bank, replace(base, lambda_x=weight), 32, quiet=True, code=4, widths=(4, 4)).encoder.last[0].bias
    assert after(None).equal(after(dict(robust=2., L1=10., L2=10.)[distance])) and not after(None).equal(after(5.))


def test_pairs_replace_nothing_where_nothing_is_shared():
    recipes = [replace(automodulator.RECIPES["class"], pairs_instead=True, shared=s) for s in ((), (2, 0))]
    engines = [automodulator.trainer(Automodulator(8, code=4, widths=(4, 4)), toyfaces(8, size=8, seed=1), r, 64) for r in recipes]
    assert ["styles_optimiser" in e.parts for e in engines] == [False, True]


def test_an_average_has_no_graph():
    net = SMALL.encoder
    average = Ema(net, 10.)
    average.update(net, 5), average.update(net, 5)
    assert any(p.requires_grad for p in net.parameters()) and not any(p.requires_grad for p in average.net.parameters())


def test_folders_are_made_for_a_file(tmp_path):
    save_state(tmp_path / "a" / "b" / "c.safetensors", dict(x=torch.ones(1)))
    assert load_state(tmp_path / "a" / "b" / "c.safetensors")["x"] == 1


def test_files_that_others_wrote(tmp_path):
    save_file(dict(x=torch.ones(1)), tmp_path / "x.safetensors", metadata=dict(format="pt"))
    with pytest.raises(ValueError, match="is a safetensors file, but was not written by genae"): load_state(tmp_path / "x.safetensors")


@pytest.mark.parametrize("end, warned", (("", False), ("\n", True))) # a half line at the end is a run that was killed, a whole one is damage
def test_the_last_line_of_a_log(end, warned, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2' + end)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert rows(tmp_path / "log.jsonl", 5) == [dict(step=1)]
    assert [w.message.args[0].endswith("line 2 cannot be read and is left out") for w in said] == [True] * warned
