from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from apptell.learning.convolutional import ByteNetwork, PaperNetwork, drop


def images(n=4):
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 87, 87), dtype=torch.uint8, generator=random)


def layer_by_layer(network, x):
    """Table 2 as it is printed: convolution, ReLU, pooling; no dropout, as in identification."""
    x = x[:, None].float() / 255
    x = functional.relu(network.convolution1(x))
    assert x.shape[1:] == (32, 85, 85)
    x = functional.max_pool2d(x, 2)
    assert x.shape[1:] == (32, 42, 42)
    x = functional.relu(network.convolution2(x))
    assert x.shape[1:] == (64, 40, 40)
    x = functional.max_pool2d(x, 2).flatten(1)
    assert x.shape[1:] == (25600,)
    return network.dense2(functional.relu(network.dense1(x)))


def test_six_apps_take_the_papers_number_of_parameters():
    assert sum(p.numel() for p in PaperNetwork(6).parameters()) == 3_296_518


@pytest.fixture(params=["a CPU's way", "a GPU's way"])
def way(request, monkeypatch):
    """Both ways through the network, on a CPU."""
    if request.param == "a GPU's way":
        monkeypatch.setattr("apptell.learning.convolutional._on_cpu", lambda _: False)


@pytest.mark.usefixtures("way")
def test_the_scores_are_those_of_table_2_layer_by_layer():
    network = PaperNetwork(6).eval()
    with torch.no_grad():
        found, expected = network(images()), layer_by_layer(network, images())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("way")
def test_the_gradients_are_those_of_table_2_layer_by_layer():
    # in one of fifteen networks two pixels of a pooling window tie but for rounding, and either may win
    torch.manual_seed(0)
    network = PaperNetwork(6).eval()
    found = []
    for scores in (network(images()), layer_by_layer(network, images())):
        network.zero_grad()
        functional.cross_entropy(scores, torch.tensor([0, 1, 2, 5])).backward()
        found.append([p.grad.clone() for p in network.parameters()])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_weights_begin_glorot_uniform_and_biases_zero():
    network = PaperNetwork(6)
    limit = (6 / (25600 + 128)) ** 0.5
    weight = network.dense1.weight.detach()
    assert limit * 0.99 < float(weight.abs().max()) <= limit
    assert float(weight.var()) == pytest.approx(limit**2 / 3, rel=0.01)
    limit = (6 / (9 * 32 + 9 * 64)) ** 0.5
    assert limit * 0.99 < float(network.convolution2.weight.detach().abs().max()) <= limit
    for layer in (network.convolution1, network.convolution2, network.dense1, network.dense2):
        assert not layer.bias.any()


def test_dropout_drops_a_quarter_in_training_and_nothing_else():
    network = PaperNetwork(2)
    torch.manual_seed(0)
    x = torch.ones(400, 1001)
    dropped = drop(x, training=network.training)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.005)
    assert dropped[dropped != 0].unique().tolist() == [pytest.approx(4 / 3)]
    assert float(dropped.mean(dim=0).std()) < 0.05  # no place is dropped more often
    torch.manual_seed(0)
    assert torch.equal(drop(x, training=network.training), dropped)
    assert torch.equal(drop(x, training=False), x)


def one_dimension_by_hand(network, x):
    """Table II of Wang et al. (2017): "same" padding everywhere, ReLU before pooling."""
    x = functional.pad(x[:, None].float() / 255, (12, 12))
    x = functional.relu(functional.conv1d(x, *network.convolution1.parameters()))
    assert x.shape[1:] == (32, 784)
    x = functional.max_pool1d(functional.pad(x, (1, 1)), 3)
    assert x.shape[1:] == (32, 262)
    x = functional.conv1d(functional.pad(x, (12, 12)), *network.convolution2.parameters())
    x = functional.max_pool1d(functional.pad(functional.relu(x), (1, 1)), 3).flatten(1)
    assert x.shape[1:] == (88 * 64,)
    return network.dense2(functional.relu(network.dense1(x)))


def test_the_one_dimensional_network_is_the_literatures():
    torch.manual_seed(0)
    network = ByteNetwork(6).eval()
    assert sum(p.numel() for p in network.parameters()) == 5_826_438
    x = torch.randint(0, 256, (3, 784), dtype=torch.uint8)
    torch.testing.assert_close(network(x), one_dimension_by_hand(network, x), atol=1e-5, rtol=1e-4)
