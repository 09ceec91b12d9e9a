"`LibraryEma` beside the library that the public code takes its average from: the same weights after every step."
import math

import pytest
import torch
from torch import nn

from genae.train_deciphering import LibraryEma

BATCH = 64


def walk(net, g):
    "Move weights and running statistics a little, as a step of training does."
    with torch.no_grad():
        for t in (*net.parameters(), *net.buffers()): t.add_(torch.randn(t.shape, generator=g) if t.is_floating_point() else 1)


@pytest.mark.parametrize("beta", (.99995, .9)) # the first is never reached, the second within 150 steps
def test_the_average_is_the_librarys(beta):
    from ema_pytorch import EMA # of the development's packages: where it is missing, this fails
    g = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    theirs = EMA(net, beta=beta, update_after_step=100, update_every=10)
    ours, when = LibraryEma(net, BATCH * math.log(.5) / math.log(beta)), []
    for step in range(1, 302):
        walk(net, g)
        before = ours.net[0].weight.clone()
        theirs.update()
        ours.update(net, BATCH)
        if not torch.equal(before, ours.net[0].weight): when.append(step)
        for (k, mine), its in zip(ours.net.state_dict().items(), theirs.ema_model.state_dict().values()):
            torch.testing.assert_close(mine, its, rtol=0, atol=1e-5, msg=f"step {step}: {k} differs") # the library computes its decay in single precision
    assert when == list(range(1, 302, 10))
