from __future__ import annotations

import numpy as np
import pytest
import torch

from apptell.errors import MissingError, OutputError, UsageError
from apptell.learning.network_training import predict, train_network


def easy(n=120, seed=0):
    """Two apps: bright pixels in the upper or in the lower half."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 60, (n, 87, 87), dtype=np.uint8)
    targets = random.integers(0, 2, n)
    for image, target in zip(images, targets, strict=True):
        image[target * 43 : target * 43 + 43] += 150
    return images, targets.astype(np.int64)


def accuracy(network, images, targets):
    return (predict(network, images).argmax(axis=1) == targets).mean()


# few processors multiply bfloat16 fast
PRECISIONS = pytest.mark.parametrize(
    ("precision", "n"), [("float32", 24), ("bfloat16", 12)], ids=["float32", "bfloat16"]
)


@PRECISIONS
def test_it_learns_what_can_be_learned(precision, n):
    network, history = train_network(*easy(n), 2, epochs=4, precision=precision, device="cpu")
    assert accuracy(network, *easy(40, seed=9)) == 1
    assert history.precision == precision
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]
    assert history.best_epoch == 4
    assert not history.interrupted


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    images, targets = easy(70)
    runs = [train_network(images, targets, 2, epochs=1, seed=s, device="cpu")[0] for s in (3, 3, 4)]
    weights = [network.dense1.weight.detach().numpy() for network in runs]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_training_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train_network(*easy(10), 2, epochs=1, device="cpu")
    assert torch.equal(torch.rand(3), expected)


class Interrupting:
    """Presses Ctrl-C once an epoch is over."""

    def __init__(self, after):
        self.after = after
        self.calls = []

    def __call__(self, progress):
        self.calls.append(progress)
        if progress.done * progress.epochs > self.after:
            raise KeyboardInterrupt


def test_an_interruption_leaves_the_weights_of_the_last_finished_epoch(monkeypatch):
    monkeypatch.setattr("apptell.learning.network_training.REPORT_S", 0)
    images, targets = easy(70)
    stopped, history = train_network(
        images, targets, 2, epochs=5, seed=1, device="cpu", progress=Interrupting(2)
    )
    assert history.interrupted
    assert (len(history.rows), history.best_epoch) == (2, 2)
    whole, _ = train_network(images, targets, 2, epochs=2, seed=1, device="cpu")
    assert torch.equal(stopped.dense1.weight, whole.dense1.weight)


def test_an_interruption_before_the_first_epoch_is_over_goes_through(monkeypatch):
    monkeypatch.setattr("apptell.learning.network_training.REPORT_S", 0)
    with pytest.raises(KeyboardInterrupt):
        train_network(*easy(130), 2, epochs=2, device="cpu", progress=Interrupting(0))


def test_with_a_validation_share_the_best_epoch_is_kept():
    images, targets = easy(100)
    wrong = targets.copy()
    wrong[80:] = 1 - wrong[80:]  # the better it learns, the worse the watched rows look
    _, history = train_network(
        images, wrong, 2, epochs=4, device="cpu", validation=np.arange(80, 100)
    )
    losses = [row["validation_loss"] for row in history.rows]
    assert history.best_epoch == 1 + losses.index(min(losses)) < 4
    assert all(0 <= row["validation_accuracy"] <= 1 for row in history.rows)


def test_with_patience_it_ends_when_the_loss_no_longer_falls():
    images, targets = easy(100)
    wrong = targets.copy()
    wrong[80:] = 1 - wrong[80:]
    watched = np.arange(80, 100)
    network, history = train_network(
        images, wrong, 2, epochs=50, device="cpu", validation=watched, patience=2
    )
    assert len(history.rows) == history.best_epoch + 2 < 50
    again, _ = train_network(
        images, wrong, 2, epochs=history.best_epoch, device="cpu", validation=watched
    )
    assert torch.equal(network.dense1.weight, again.dense1.weight)  # as if nothing had come after


def test_patience_needs_flows_that_are_held_out():
    with pytest.raises(UsageError, match="patience=2 needs flows that are held out"):
        train_network(*easy(10), 2, epochs=1, device="cpu", patience=2)


def test_progress_counts_up_to_the_end():
    calls = []
    train_network(*easy(70), 2, epochs=2, device="cpu", progress=calls.append)
    assert {call.epoch for call in calls if call.done in (0.5, 1.0)} == {1, 2}
    assert calls[-1].done == 1
    assert calls[-1].remaining_s == 0
    assert calls[-1].flows_per_s > 0
    assert calls[-1].loss is not None


def test_an_interrupted_training_goes_on_to_the_same_bits(monkeypatch, tmp_path):
    monkeypatch.setattr("apptell.learning.network_training.REPORT_S", 0)
    monkeypatch.setattr("apptell.learning.network_training.KEEP_S", 0)
    images, targets = easy(70)
    watched, file = np.arange(60, 70), tmp_path / "deep" / "run.part"

    def train(progress=None, checkpoint=None):
        return train_network(
            images, targets, 2, epochs=4, seed=1, device="cpu", validation=watched,
            progress=progress, checkpoint=checkpoint,
        )  # fmt: skip

    whole, history = train()
    for after in (1, 2):
        assert train(Interrupting(after), file)[1].interrupted
        assert file.is_file()
    calls = []
    resumed, again = train(calls.append, file)
    assert not file.exists()
    assert calls[0].epoch == 3  # what was done is not done again
    assert calls[-1].remaining_s == 0
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor)
    assert [row["loss"] for row in again.rows] == [row["loss"] for row in history.rows]
    assert again.best_epoch == history.best_epoch


def test_a_damaged_checkpoint_is_said(tmp_path):
    file = tmp_path / "run.part"
    file.write_bytes(b"half")
    with pytest.raises(OutputError, match=r"run\.part: damaged; remove it"):
        train_network(*easy(10), 2, epochs=1, device="cpu", checkpoint=file)


@PRECISIONS
def test_a_gpu_s_way_through_the_network_learns_the_same_on_a_cpu(monkeypatch, precision, n):
    """Plain layers under autocast: what a GPU runs, as far as it can be tried without one."""
    monkeypatch.setattr("apptell.learning.convolutional._on_cpu", lambda _: False)
    network, _ = train_network(*easy(n), 2, epochs=4, precision=precision, device="cpu")
    assert accuracy(network, *easy(40, seed=9)) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said():
    with pytest.raises(MissingError, match="PyTorch finds no GPU"):
        train_network(*easy(4), 2, epochs=1, device="cuda")


def test_unknown_devices_and_precisions_are_said():
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        train_network(*easy(4), 2, epochs=1, device="tpu")
    with pytest.raises(UsageError, match="unknown precision 'int8'"):
        train_network(*easy(4), 2, epochs=1, precision="int8")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_the_same():
    network, history = train_network(*easy(), 2, epochs=4, device="cuda")
    assert history.device == "cuda"
    assert accuracy(network, *easy(40, seed=9)) == 1
