"""What the losses give beside their value: terms by name, no graph kept, every distance and switch handed on. Values are of the lessons."""
import pytest
import torch
from genae.cycles import LatentBatch, decoder_loss, sample_latents, encoder_loss, invariance_loss, layer_disentanglement_loss, pair_loss
from genae.decoder import Decoder
from genae.encoder import Encoder
from genae.kl import kl_to_normal
from torch.nn import functional as F

N = 3 # layers of the pair below


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return Encoder(8, 4, (6, 5)).double(), Decoder(8, 4, (6, 5)).double()


def codes(n, seed): return F.normalize(torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_terms_of_the_decoder_loss(pair):
    phi, theta = pair
    z, z_b = codes(5, 1), codes(2, 2)
    loss, terms = decoder_loss(phi, theta, LatentBatch(z, z_b, 2), 3., 7.)
    fake = torch.cat([theta(z[:3]), theta.decode([z[3:], z[3:], z_b])])
    z_hat = phi(fake)
    cosine = 1 - (z[:3] * z_hat[:3]).sum() / 3
    leak = (theta.run(theta.initial_canvas(2), z_hat[3:], 1, 2) - theta.run(theta.initial_canvas(2), z[3:], 1, 2)).square().mean()
    want = dict(kl_fake_theta=kl_to_normal(z_hat), d_cos=cosine, l_j=leak)
    assert terms.keys() == want.keys() and not any(t.requires_grad for t in terms.values())
    for k in want: torch.testing.assert_close(terms[k], want[k].detach())
    torch.testing.assert_close(loss, want["kl_fake_theta"] + 3 * cosine + 7 * leak)
    plain, terms = decoder_loss(phi, theta, LatentBatch(z, z_b[:0], 2), 3., 7.) # nothing is mixed
    torch.testing.assert_close(plain, kl_to_normal(phi(theta(z))) + 3 * (1 - (z * phi(theta(z))).sum() / 5))
    assert terms["l_j"] == 0 and decoder_loss(phi, theta, LatentBatch(z, z_b, 2), 3., 0.)[1]["l_j"] == 0


def test_terms_of_the_encoder_loss(pair):
    phi, theta = pair
    x, fake = torch.rand(4, 3, 8, 8, dtype=torch.float64) * 2 - 1, torch.rand(2, 3, 8, 8, dtype=torch.float64)
    loss, terms = encoder_loss(phi, theta, x, fake, 10., 5.)
    want = dict(kl_real=kl_to_normal(phi(x)), kl_fake=kl_to_normal(phi(fake)), d_x=(x - theta(phi(x))).abs().mean())
    assert terms.keys() == want.keys() and not any(t.requires_grad for t in terms.values())
    for k in want: torch.testing.assert_close(terms[k], want[k].detach())
    torch.testing.assert_close(loss, want["kl_real"] - want["kl_fake"] + 5 * want["d_x"])


def test_distances_are_handed_on(pair):
    phi, theta = pair
    x, fake = torch.rand(4, 3, 8, 8, dtype=torch.float64) * 2 - 1, torch.rand(2, 3, 8, 8, dtype=torch.float64)
    z, far = phi(x), lambda a, b: (a - b).pow(4).mean()
    swapped = theta.decode([z, z.roll(2, 0), z.roll(2, 0)])
    for got, times in ((invariance_loss(theta, x, z.roll(2, 0), z, 2, N, far), 1), (pair_loss(theta, x, z, 2, N, far), 2)):
        torch.testing.assert_close(got, times * far(x, swapped))
    torch.testing.assert_close(encoder_loss(phi, theta, x, fake, 10., 5., far)[1]["d_x"], far(x, theta(z)).detach())
    whole = encoder_loss(phi, theta, x, fake, 10., 0., far, shared_layers=(2, N), lambda_inv=3.)[0] - encoder_loss(phi, theta, x, fake, 10., 0., far)[0]
    torch.testing.assert_close(whole, 6 * far(x, swapped))


def test_leak_as_printed_and_as_in_the_public_code(pair):
    theta, z, canvas = pair[1], codes(3, 1), torch.rand(3, 5, 8, 8, dtype=torch.float64)
    apart = theta.run(theta.initial_canvas(3), z, 1, 2) - canvas
    torch.testing.assert_close(layer_disentanglement_loss(theta, z, canvas, 2, norm=True), sum(a.square().sum().sqrt() for a in apart) / 3)
    torch.testing.assert_close(layer_disentanglement_loss(theta, z, canvas, 2), apart.square().sum() / apart.numel())


@pytest.mark.parametrize("cuts, batch, mixed", (([1, 2], 8, .25), ([3], 9, .5), ([], 8, .25)))
def test_draws(cuts, batch, mixed):
    g = torch.Generator().manual_seed(0)
    draws = [sample_latents(batch, 6, cuts, g, mixed) for _ in range(40)]
    assert {(len(d.z), len(d.z_b)) for d in draws} == {(batch, int(batch * mixed) if cuts else 0)} and {d.crossover for d in draws} == set(cuts or [1])
    for d in draws: torch.testing.assert_close(torch.cat([d.z, d.z_b]).norm(dim=1), torch.ones(batch + len(d.z_b)))
