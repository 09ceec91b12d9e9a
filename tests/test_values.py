"""Values that nobody computes, kept: recipes as runs were made with them, the order of an epoch, the smallest thing that may be asked for.

A change here is a decision: old runs can no longer be made again, or a checkpoint of yesterday goes on in another order."""
import warnings
from dataclasses import asdict, replace

import pytest
import torch
from genae import train_automodulator, train_deciphering
from genae.automodulator import Automodulator
from genae.core import COLOURS, rng
from genae.datasets import toyfaces
from genae.deciphering import DecipheringAutoencoder, recompute_batch_norm
from genae.decoder import StyleLayer
from genae.engine import Ema, Engine, rows, run_to_end
from genae.files import load_model, load_state, pack, save_state
from genae.mixing import interpolate
from genae.train_automodulator import ImagePool
from genae.train_deciphering import EpochSampler
from safetensors.torch import save_file

SMALL = Automodulator(8, latent_dim=6, widths=(4, 4), depth=(1, 1)).eval()
CIPHER = DecipheringAutoencoder(16, ((8, 1), (16, 4)), num_images=4, widths=(8, 16, 32), latent_dim=8, bottleneck_channels=8).eval()


def test_networks_of_the_papers():
    "Two convolutions at each resolution of both; the counts of lessons 12 and 13."
    with torch.device("meta"): nets = {k: Automodulator(64, **train_automodulator.RECIPES[k].model) for k in ("paper", "reference", "reference:celeba-hq")}
    assert {(n.decoder.n, n.latent_dim, sum(p.numel() for p in n.encoder.parameters())) for n in nets.values()} == {(9, 512, 24_254_464 + 4 * (3 + 1) * 512)} # and the four smaller sizes' way in
    large, small = (sum(p.numel() for p in nets[k].decoder.parameters()) for k in ("reference", "reference:celeba-hq"))
    assert (large - small, nets["paper"].decoder.canvas0) == (25_971_724 - 22_495_500, None)


def test_recipe_of_the_class():
    own = asdict(train_automodulator.RECIPES["class"])
    assert {k: own[k] for k in ("distance", "scale_lo", "lambda_x", "lambda_z", "lambda_j", "lambda_joint", "decoder_learns_x", "decoder_lr_factor", "betas", "lr_decay_fraction", "ema_half_life", "mixed_fraction", "model")} == dict(
        distance="robust", scale_lo=.3, lambda_x=30., lambda_z=5., lambda_j=3., lambda_joint=1., decoder_learns_x=True, decoder_lr_factor=4., betas=(.5, .99), lr_decay_fraction=.3, ema_half_life=2500., mixed_fraction=.25, model=dict(blur=True))
    assert [(p["size"], p["images"], p["fade"], p["batch"], p["lr"], p["margin"]) for p in own["phases"]] == [(8, 1., 0., 32, .003, .3), (16, 3., 1., 32, .003, .3), (32, 6., 2., 32, .003, .3), (64, 12., 4., 32, .003, .3)]
    other = {f.name for f in train_automodulator.ReferenceQuirks.__dataclass_fields__.values()} - {"mixed_fraction_theta", "stable_lambda_x"}
    assert not any(own[k] for k in other) and (own["mixed_fraction_theta"], own["stable_lambda_x"]) == (.25, 1.) # none of the public code's ways


def test_recipes_of_the_cipher():
    own = {k: asdict(train_deciphering.RECIPES[k]) for k in ("paper", "reference", "class", "lpips")}
    assert {k: own["class"][k] for k in ("layers", "model", "batch", "lr", "shift_lr", "weight_decay", "distance", "lambda_pixels", "lr_decay_fraction", "ema_decay")} == dict(
        layers=((32, 1), (64, 4), (128, 8)), model=dict(widths=(32, 64, 128, 256), latent_dim=64, bottleneck_channels=32), batch=64, lr=2e-3, shift_lr=2e-4, weight_decay=.08, distance="toyfaces-small", lambda_pixels=3., lr_decay_fraction=.5, ema_decay=.998)
    assert {k: v for k, v in own["lpips"].items() if v != own["class"][k]} == dict(distance="lpips-alex", distance_min_size=64)
    assert {k: v for k, v in own["reference"].items() if v != own["paper"][k]} == dict(decay_reaches_target=False, mirror=True, library_ema=True)


def test_a_pool_is_remembered():
    pool, again = ImagePool(3), ImagePool(3)
    pool.swap(torch.rand(5, 1, 2, 2, generator=rng()), rng(1))
    again.load_state_dict(pool.state_dict())
    assert again.images.equal(pool.images) and len(pool.images) == 3


@pytest.mark.parametrize("seed", (0, 3))
def test_orders_of_the_epochs(seed):
    order = EpochSampler(6, 2, seed)
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
    dataset = toyfaces(3, size=8, seed=1)
    known = {p.numpy().tobytes() for p in dataset.batch(torch.arange(3))}
    assert {p.numpy().tobytes() for p in dataset.sample(40, rng(0))} == known # not mirrored
    assert not any("strength" in k for k, _ in StyleLayer(3, 4, 5, False).named_parameters()) # no noise


@pytest.mark.parametrize("distance", train_automodulator.LAMBDA_X)
def test_a_distance_brings_its_weight(distance):
    dataset, base = toyfaces(8, size=8, seed=1), replace(train_automodulator.RECIPES["class"], distance=distance, lambda_x=None)
    def after(weight): return train_automodulator.train(dataset, replace(base, lambda_x=weight), 32, quiet=True, latent_dim=4, widths=(4, 4)).encoder.last[0].bias
    assert after(None).equal(after(dict(robust=2., L1=10., L2=10.)[distance])) and not after(None).equal(after(5.))


def test_pairs_replace_nothing_where_nothing_is_shared():
    recipes = [replace(train_automodulator.RECIPES["class"], pairs_replace_reconstruction=True, shared_layers=s) for s in ((), (2, 0))]
    engines = [train_automodulator.make_engine(Automodulator(8, latent_dim=4, widths=(4, 4)), toyfaces(8, size=8, seed=1), r, 64) for r in recipes]
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


@pytest.mark.parametrize("flip", (False, True))
def test_pairs_are_flipped_only_where_asked(flip):
    dataset = toyfaces(9, size=8, seed=1)
    known = {p.numpy().tobytes() for p in dataset.batch(torch.arange(9))}
    x = train_automodulator.real_batch(dataset, 40, replace(train_automodulator.RECIPES["class"], shared_layers=(2, 0), flip=flip), rng(3))
    assert x[20:].equal(x[:20].flip(-1)) and all(p.numpy().tobytes() in known for p in x[:20]) != flip


def test_averages_of_the_public_code_have_no_graph():
    step, library = train_automodulator.StepEma(SMALL, 1.), train_deciphering.LibraryEma(CIPHER.net, 10.)
    for _ in range(12): step.update(SMALL, 4), library.update(CIPHER.net, 4)
    assert step.images_seen == library.images_seen == 48
    assert not any(p.requires_grad for average in (step, library) for p in average.net.parameters())


def test_how_styles_begin_in_the_public_code():
    "Shifts of one, too."
    net = Automodulator(8, latent_dim=4, widths=(4, 4), styles="reference")
    assert all((layer.adain.g.bias == 1).all() for layer in net.decoder.layers)


def test_quiet_is_quiet(capfd):
    dataset, recipe = toyfaces(8, size=8, seed=1), replace(train_automodulator.RECIPES["class"], model={})
    for quiet in (True, False):
        train_automodulator.train(dataset, recipe, 64, quiet=quiet, latent_dim=4, widths=(4, 4))
        assert bool(capfd.readouterr().err) != quiet


def test_pictures_that_remember(recwarn):
    x = SMALL.sample(2, rng(0)).requires_grad_()
    assert SMALL.preprocess(x).requires_grad and not SMALL.encode(x).requires_grad and not recwarn.list


def test_a_seed_is_a_model():
    dataset, recipe = toyfaces(8, size=8, seed=1), replace(train_deciphering.RECIPES["class"], layers=((4, 1),), model=dict(widths=(4, 8), latent_dim=4, bottleneck_channels=4))
    one, other, again = (train_deciphering.new_model(dataset, recipe, seed).net.to_latent.weight for seed in (0, 1, 0))
    assert one.equal(again) and not one.equal(other)


def test_statistics_depend_on_the_batch_and_keep_no_graph():
    found, graphs = [], []
    for batch in (2, 4):
        torch.manual_seed(0)
        model = DecipheringAutoencoder(16, ((8, 1), (16, 4)), num_images=4, widths=(8, 16, 32), latent_dim=8, bottleneck_channels=8)
        model.net.register_forward_hook(lambda m, i, o: graphs.append(o.requires_grad))
        recompute_batch_norm(model, rng(1), batch=batch)
        found.append(model.new_pattern_statistics.clone())
    assert not found[0].allclose(found[1]) and graphs and not any(graphs)


def test_a_file_of_many_numbers(tmp_path):
    net = torch.nn.Linear(600, 600)
    save_state(tmp_path / "x.safetensors", dict(model="line", settings=dict(in_features=600, out_features=600), weights=net.state_dict(), about={}))
    assert load_model(torch.nn.Linear, "line", tmp_path / "x.safetensors")[0].weight.equal(net.weight)
    pack(dict(w=net.weight), tensors := {})
    assert not tensors["0"].requires_grad and tensors["0"].data_ptr() != net.weight.data_ptr()


def test_colours_of_the_figures(): assert list(COLOURS) == ["encoder", "decoder", "code", "picture"]


def test_a_run_shows_its_bar_unless_told(capfd):
    for more, shown in ({}, True), (dict(quiet=True), False):
        engine = Engine(lambda t: (1, {}), {})
        engine.total = 3
        run_to_end(engine, model="none", images=torch.zeros(1), recipe=None, recipes={}, **more)
        assert bool(capfd.readouterr().err) == shown and engine.done == 3
