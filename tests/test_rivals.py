"The rivals of lessons 31: files, and rates that no picture would give away."
import pytest
import torch
from genae.automodulator import Automodulator
from genae.baselines import AGE, VAE, WAE, Pioneer
from genae.core import rng
from genae.datasets import toyfaces
from genae.rivals import GLO, RAE, MixtureAutoencoder


@pytest.mark.parametrize("kind", [VAE, WAE, RAE, MixtureAutoencoder, Pioneer, AGE])
def test_a_rival_is_opened_as_what_it_is(tmp_path, kind):
    torch.manual_seed(0)
    model = kind(16, latent_dim=4, widths=(8, 6, 4)).eval()
    model.settle(toyfaces(300, 16))
    model.save(tmp_path / "model.safetensors", seed=0)
    again = kind.from_pretrained(tmp_path / "model.safetensors")
    assert torch.equal(model.sample(3, rng(1)), again.sample(3, rng(1))) and again.about == dict(seed=0)
    for other in {Automodulator, VAE, RAE} - {kind}:
        with pytest.raises(ValueError, match=f"does not hold a model of the kind {other.kind}"): other.from_pretrained(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="nor shipped: give the path"): kind.from_pretrained("mine")


def test_codes_of_glo_move_ten_times_as_fast():
    "A first step of Adam moves every number by its rate."
    torch.manual_seed(0)
    model, data = GLO(16, latent_dim=4, widths=(8, 6, 4)), toyfaces(32, 16)
    engine = model.engine(data, 32 * 100)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    engine.run(3200, stop_at=1, quiet=True)
    moved = {k: (p.detach() - before[k]).abs() for k, p in model.named_parameters()}
    rates = {k: v[v > 1e-6].median() / model.lr for k, v in moved.items() if (v > 1e-6).any()}
    assert 9.9 < rates.pop("codes") < 10.1 and len(rates) > 3 and all(.99 < r < 1.01 for r in rates.values()), rates
