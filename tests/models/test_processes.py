"""Processes that train together: the loss, the gradients and the statistics of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from pipeline.models import processes
from pipeline.models.processes import BatchNorm, joined, mean, of_first, share, total
from pipeline.models.segmentation.losses import segmentation_loss
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork

State = dict[str, torch.Tensor]


def test_without_a_group_there_is_one_process_and_nothing_changes() -> None:
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert (processes.rank(), processes.count()) == (0, 1)
    assert total(value) is value
    assert mean(value, 0) is value
    assert joined(torch.relu, torch.nn.Linear(1, 1)) is torch.relu
    assert of_first(lambda: "made") == "made"


@pytest.mark.parametrize(
    ("batch", "count", "shares"),
    [
        (0, 1, [([], 0)]),
        (6, 1, [([0, 1, 2, 3, 4, 5], 6)]),
        (1, 2, [([0], 0), ([0], 1)]),
        (3, 2, [([0], 1), ([1, 2], 2)]),
        (4, 2, [([0, 1], 2), ([2, 3], 2)]),
        (2, 3, [([0], 0), ([0], 1), ([1], 1)]),
    ],
)
def test_each_item_of_a_batch_counts_once(
    monkeypatch: pytest.MonkeyPatch, batch: int, count: int, shares: list[tuple[list[int], int]]
) -> None:
    """A process without an item computes one all the same, and it counts as none."""
    monkeypatch.setattr(processes, "count", lambda: count)
    found = []
    for number in range(count):
        monkeypatch.setattr(processes, "rank", lambda own=number: own)
        own, items = share(batch)
        found.append(([*range(batch)][own], items))
    assert found == shares


def step() -> State:
    """Everything that one step of a training changes. Of three crops, the last has no defect."""
    torch.manual_seed(0)
    network = SegmentationNetwork(NetworkOptions("mobilenet_v2", 2))
    network.freeze(2)
    network.train()
    pixels = torch.rand(3, 3, 64, 64) * 255
    labels = torch.zeros(3, 64, 64, dtype=torch.int64)
    labels[0, 5:20, 5:30], labels[0, 40:50, 2:9], labels[1, 30:60, 20:40] = 1, 2, 1
    logits_of, (own, _) = joined(network, network), share(3)
    loss = segmentation_loss(logits_of(pixels[own]), labels[own])
    loss.backward()
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    kept = {
        str(n): norm.running_var for n, norm in enumerate(norms) if norm.running_var is not None
    }
    return {
        "loss": loss.detach(),
        **{f"statistics {name}": value for name, value in kept.items()},
        **{key: value.grad for key, value in network.named_parameters() if value.grad is not None},
    }


SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path[:0] = sys.argv[4:]
from test_processes import in_group
folder, rank, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
torch.save(in_group(folder, rank, count), folder / f"{rank}.pt")
"""


def in_group(folder: Path, rank: int, count: int) -> State:
    distributed.init_process_group(
        "gloo", init_method=(folder / "group").as_uri(), rank=rank, world_size=count
    )
    assert of_first(lambda: rank) == 0
    _, items = share(1)
    assert items == rank
    assert float(mean(torch.tensor(2.0 + rank), items)) == 3  # of the second process alone
    state = step()
    distributed.destroy_process_group()
    return state


@pytest.mark.slow
def test_two_processes_have_the_loss_and_the_gradients_of_one(
    tmp_path: Path, one_thread: None
) -> None:
    """One has a crop, the other two, of which one has no defect. All compute with one thread: with
    two, sums differ in their last digits, and some pixels get past a limit of ReLU6."""
    here = Path(__file__).parent
    both = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path, str(n), "2", here, here.parent])
        for n in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    one = step()
    assert len(one) > 100
    for rank in range(2):
        found: State = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == one.keys()
        for key, value in one.items():
            torch.testing.assert_close(found[key], value, atol=1e-4, rtol=1e-3, msg=key)
