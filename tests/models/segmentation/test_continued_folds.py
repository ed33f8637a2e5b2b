"""Networks that go on: what was held out from one stays so, and a new category begins at random."""

from __future__ import annotations

from pathlib import Path

import torch
from segmenters import CPU, drawn_photo

from pipeline.models.segmentation.cross_fit import continued_folds
from pipeline.models.segmentation.model import Member
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.models.segmentation.photos import LabelledPhoto

OPTIONS = NetworkOptions("mobilenet_v2", 2)


def members(*unseen: set[str]) -> list[Member]:
    network = SegmentationNetwork(OPTIONS)
    return [Member(network, frozenset(groups)) for groups in unseen]


def photos(folder: Path, *labels: int) -> list[LabelledPhoto]:
    """A photo of one block for each label, in the groups p0, p1 and so on; -1 is a good one."""
    return [
        drawn_photo(folder / f"{n}.png", (32, 32), [(label, 4, 4, 9, 9)] * (label >= 0), f"p{n}")
        for n, label in enumerate(labels)
    ]


def test_known_groups_keep_their_fold_and_new_ones_go_where_their_category_is_rare(
    tmp_path: Path,
) -> None:
    """p0 and p1 are known, both of category 0 and in fold 0. The new ones of it fill fold 1 up."""
    found = continued_folds(photos(tmp_path, 0, 0, 0, 0, 1, 1, -1), members({"p0", "p1"}, {"old"}))
    assert (found["p0"], found["p1"], found["p2"], found["p3"]) == (0, 0, 1, 1)
    assert {found["p4"], found["p5"]} == {0, 1}
    assert set(found) == {f"p{n}" for n in range(7)}


def test_one_network_without_folds_stays_one(tmp_path: Path) -> None:
    assert continued_folds(photos(tmp_path, 0, 1), members(set())) == {}


def test_a_new_category_has_a_row_of_its_own_and_the_others_are_as_before() -> None:
    torch.manual_seed(0)
    old, new = SegmentationNetwork(OPTIONS), SegmentationNetwork(NetworkOptions("mobilenet_v2", 3))
    last = new.head.weight[3].clone()
    new.load_trained(old)
    assert torch.equal(new.head.weight[:3], old.head.weight)
    assert torch.equal(new.head.weight[3], last)
    pixels = torch.rand(1, 3, 32, 32, device=CPU) * 255
    with torch.no_grad():
        assert torch.allclose(new.eval()(pixels)[:, :3], old.eval()(pixels), atol=1e-4)
