from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from apptell.learning.first_block import FirstBlock

WEIGHT = torch.randn(32, 1, 3, 3, generator=torch.Generator().manual_seed(0)) / 3
BIAS = torch.randn(32, generator=torch.Generator().manual_seed(1)) / 9


def in_pytorch(images, weight, bias):
    maps = functional.conv2d(images[:, None].float() / 255, weight, bias)
    return functional.relu(functional.max_pool2d(maps, 2))


def pixels(n=5, side=87):
    random = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (n, side, side), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize("side", [4, 5, 87])
def test_the_maps_are_those_of_three_separate_layers(side):
    images = pixels(side=side)
    found = FirstBlock.apply(images, WEIGHT, BIAS)
    torch.testing.assert_close(found, in_pytorch(images, WEIGHT, BIAS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 5])
def test_the_gradients_are_those_of_three_separate_layers(n):
    images = pixels(n)
    slope = torch.randn(n, 32, 42, 42, generator=torch.Generator().manual_seed(3))
    found = []
    for block in (FirstBlock.apply, in_pytorch):
        weight, bias = WEIGHT.clone().requires_grad_(), BIAS.clone().requires_grad_()
        block(images, weight, bias).backward(slope)
        found.append((weight.grad, bias.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3 * n**0.5)


def test_float_images_are_taken_too():
    images = pixels().float() + 0.25
    found = FirstBlock.apply(images, WEIGHT, BIAS)
    torch.testing.assert_close(found, in_pytorch(images, WEIGHT, BIAS), rtol=1e-5, atol=1e-5)


def test_the_gradient_has_the_same_bits_for_any_number_of_threads():
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            weight = WEIGHT.clone().requires_grad_()
            FirstBlock.apply(pixels(7), weight, BIAS).square().sum().backward()
            found.append(weight.grad.numpy().copy())
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_no_images_give_no_maps():
    assert FirstBlock.apply(pixels(0), WEIGHT, BIAS).shape == (0, 32, 42, 42)


def test_the_kernels_stay_within_their_arrays(bounds_checked):
    code = (
        "import torch; from apptell.learning.first_block import FirstBlock\n"
        "w = torch.rand(32, 1, 3, 3, requires_grad=True)\n"
        "x = torch.randint(0, 256, (2, 87, 87), dtype=torch.uint8)\n"
        "FirstBlock.apply(x, w, torch.zeros(32)).sum().backward()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=bounds_checked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
