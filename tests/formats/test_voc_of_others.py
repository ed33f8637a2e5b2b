"""Pascal VOC as labelImg, Roboflow and VOC itself write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from voc_of_others import BOX, read, written, xml

from pipeline.errors import Faults
from pipeline.formats.registry import FORMATS
from pipeline.formats.source import SourceLog
from pipeline.formats.voc_reader import read_voc
from pipeline.geometry.masks import decode
from pipeline.io.images import write_png

NO_SIZES = [
    "", "<size/>", "<size><width></width><height/></size>",
    "<size><width>0</width><height>0</height></size>",
    "<size><width>30.0</width><height>20.0</height></size>",
    "<size><width>30.5</width><height>20.5</height></size>",
]  # fmt: skip


@pytest.mark.parametrize("size", NO_SIZES)
@pytest.mark.parametrize("flat", [False, True])
def test_a_size_that_the_file_lacks_is_that_of_the_photo(
    tmp_path: Path, size: str, flat: bool
) -> None:
    folders = ("", "") if flat else ("Annotations/", "JPEGImages/")
    root = written(tmp_path, {f"{folders[0]}a.xml": xml(size=size)}, (f"{folders[1]}a.png",))
    dataset, counts = read(root)
    (record,) = dataset.records
    assert (record.file_name, record.size) == ("a.png", (20, 30))
    assert dataset.on(record).boxes.tolist() == [[2, 2, 12, 8]]
    assert (counts.objects, counts.read) == (1, 1)


def test_swapped_corners_are_put_in_order_and_reported(tmp_path: Path) -> None:
    box = "<bndbox><xmin>12</xmin><ymin>8</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
    dataset, counts = read(written(tmp_path, {"a.xml": xml(box=box)}, ("a.png",)))
    assert dataset.on(dataset.records[0]).boxes.tolist() == [[2, 2, 12, 8]]
    (row,) = counts.converted
    assert (row.kind, row.to, row.count) == ("bndbox", "box with its corners swapped back", 1)


def test_an_object_without_a_box_is_left_out_and_named(tmp_path: Path) -> None:
    _, counts = read(written(tmp_path, {"a.xml": xml(box="<polygon/>")}, ("a.png",)))
    assert [(one.kind, one.count) for one in counts.left_out] == [("object", 1)]
    assert counts.left_out[0].examples == ("a.xml object 1",)


def test_difficult_and_truncated_are_kept_there_and_back(tmp_path: Path) -> None:
    box = f"<difficult>1</difficult><truncated>0</truncated><bndbox>{BOX}</bndbox>"
    dataset, _ = read(written(tmp_path / "a", {"a.xml": xml(box=box)}, ("a.png",)))
    FORMATS["coco"].write(tmp_path / "b", dataset, False, 0)
    FORMATS["voc"].write(tmp_path / "c", FORMATS["coco"].read(tmp_path / "b", None), False, 0)
    back, _ = read(tmp_path / "c")
    flags = back.on(back.records[0]).attributes
    assert {name: column.tolist() for name, column in flags.items()} == {"difficult": [True]}


@pytest.mark.parametrize(
    ("sides", "boxes", "to"),
    [
        ("3 3 12 8", [[2, 2, 12, 8]], []),
        ("0 0 12 8", [[0, 0, 12, 8]], ["box cut to the photo"]),
        ("3 3 40 8", [[2, 2, 30, 8]], ["box cut to the photo"]),
        ("13 3 12 8", [], []),  # xmin is xmax + 1: no pixel
        ("31 3 40 8", [], []),  # the photo has 30 columns
    ],
)
def test_boxes_are_cut_to_the_photo_and_those_without_a_pixel_left_out(
    tmp_path: Path, sides: str, boxes: list[list[float]], to: list[str]
) -> None:
    names = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{n}>{v}</{n}>" for n, v in zip(names, sides.split(), strict=True))
    root = written(tmp_path, {"a.xml": xml(box=f"<bndbox>{inner}</bndbox>")}, ("a.png",))
    dataset, counts = read(root)
    assert dataset.on(dataset.records[0]).boxes.tolist() == boxes
    assert [row.to for row in counts.converted] == to
    assert counts.objects == 1
    assert sum(row.count for row in counts.left_out) == 1 - len(boxes)


def test_a_turned_box_of_rolabelimg_is_a_mask(tmp_path: Path) -> None:
    """A box of 8 x 4 on its centre, turned by a quarter: 4 wide and 8 high."""
    turned = "<cx>11</cx><cy>10</cy><w>8</w><h>4</h><angle>1.5707963267948966</angle>"
    root = written(tmp_path, {"a.xml": xml(box=f"<robndbox>{turned}</robndbox>")}, ("a.png",))
    dataset, counts = read(root)
    assert [(row.kind, row.to) for row in counts.converted] == [("robndbox", "mask")]
    np.testing.assert_allclose(dataset.on(dataset.records[0]).boxes, [[8, 5, 13, 14]], atol=1)


def test_a_name_that_labelmap_lacks_is_a_category_and_reported(tmp_path: Path) -> None:
    files = {"Annotations/a.xml": xml(), "labelmap.txt": "background:0,0,0::\nstain:1,1,1::\n"}
    dataset, counts = read(written(tmp_path, files, ("JPEGImages/a.png",)))
    assert dataset.categories == ("stain", "crack")
    assert dataset.on(dataset.records[0]).labels.tolist() == [1]
    assert "crack" in counts.notes[0]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [("", None), ("<score>high</score>", None), ("<score>87</score>", None),
     ("<score>0.75</score>", [0.75]), ("<confidence>1</confidence>", [1.0])],
)  # fmt: skip
def test_a_score_from_0_to_1_is_kept(
    tmp_path: Path, tag: str, expected: list[float] | None
) -> None:
    text = xml().replace("</object>", f"{tag}</object>")
    dataset, _ = read(written(tmp_path, {"a.xml": text}, ("a.png",)))
    scores = dataset.on(dataset.records[0]).scores
    assert (None if scores is None else scores.tolist()) == expected


def test_a_faulty_object_takes_no_other_with_it(tmp_path: Path) -> None:
    faulty = "<object><name>x</name><bndbox><xmin>q</xmin></bndbox></object></annotation>"
    root = written(tmp_path, {"a.xml": xml().replace("</annotation>", faulty)}, ("a.png",))
    log = SourceLog(Faults(keep_going=True))
    dataset = read_voc(root, None, log)
    assert len(dataset.on(dataset.records[0])) == 1
    assert "object 2: xmin is 'q', not a number" in str(log.faults.errors[0])
    assert (log.counts(dataset).read, log.counts(dataset).objects) == (1, 2)


def test_supervisions_boxes_and_polygons_are_read_as_it_reads_them(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    mask = np.zeros((1, 20, 30), bool)
    mask[0, 4:9, 6:16] = True
    mask[0, 9:12, 6:9] = True
    boxes = np.array([[6, 4, 16, 12]], np.float32)
    for name, masks in (("boxes", None), ("masks", mask)):
        root = written(tmp_path / name, {}, ("a.png",))
        found = supervision.Detections(boxes, mask=masks, class_id=np.array([0]))
        path = str(root / "a.png")
        annotations = {path: found}
        theirs = supervision.DetectionDataset(["crack"], [path], annotations)
        theirs.as_pascal_voc(annotations_directory_path=str(root))
        dataset, counts = read(root)
        own = dataset.on(dataset.records[0])
        np.testing.assert_allclose(own.boxes, boxes)
        assert counts.read == 1
        if masks is not None:
            assert own.masks
            assert (decode(own.masks[0]) == mask[0]).all()


def test_datumaros_export_for_cvat_is_read(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    from datumaro.components.annotation import Bbox
    from datumaro.components.media import Image

    items = [
        datumaro.DatasetItem(
            name, subset=split, annotations=[Bbox(2, 3, 10, 5, label=1, attributes=flags)],
            media=Image.from_numpy(np.zeros((20, 30, 3), np.uint8)),
        )
        for name, split, flags in (("a", "train", {"difficult": True}), ("x/a", "val", {}))
    ]  # fmt: skip
    theirs = datumaro.Dataset.from_iterable(items, categories=["stain", "crack"])
    theirs.export(str(tmp_path / "voc"), "voc", save_media=True)
    dataset, counts = read(tmp_path / "voc")
    assert {r.file_name: r.split for r in dataset.records} == {"a.jpg": "train", "x/a.jpg": "val"}
    assert (counts.objects, counts.left_out) == (2, ())
    for record in dataset.records:
        assert dataset.categories[int(dataset.on(record).labels[0])] == "crack"
        np.testing.assert_allclose(dataset.on(record).boxes, [[2, 3, 12, 8]], atol=1)


def test_a_file_in_gbk_has_its_chinese_names(tmp_path: Path) -> None:
    """labelImg on a Chinese Windows."""
    root = written(tmp_path, {}, ("照片.png",))
    text = f"<?xml version='1.0' encoding='GBK'?>{xml('照片.png').replace('crack', '划痕')}"
    (root / "照片.xml").write_bytes(text.encode("gbk"))
    dataset, _ = read(root)
    assert dataset.categories == ("划痕",)
    assert dataset.records[0].file_name == "照片.png"


def test_the_border_of_a_mask_belongs_to_no_object(tmp_path: Path) -> None:
    """VOC's value 255 around an object of 3 x 3 pixels."""
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 5:10] = 255
    mask[5:8, 6:9] = 1
    root = written(tmp_path, {"Annotations/a.xml": xml()}, ("JPEGImages/a.png",))
    write_png(root / "SegmentationObject" / "a.png", mask)
    dataset, _ = read(root)
    assert dataset.on(dataset.records[0]).boxes.tolist() == [[6, 5, 9, 8]]


@pytest.mark.parametrize(
    ("degrees", "box", "converted"),
    [
        # the box of pixels 2 to 12, 2 to 8 has its centre at (7, 5), and half sides of 5 and 3
        ("0.0", [2, 2, 12, 8], 0),
        ("90.0", [4, 0, 10, 10], 0),  # (7 - 3, 5 - 5) to (7 + 3, 5 + 5)
        ("-180", [2, 2, 12, 8], 0),
        # half extents of 8 / sqrt(2) = 5.66: x 1.34 to 12.66, y to 10.66, and cut at 0. A pixel
        # counts by its centre; the corners lie 0.09 off a line of centres: 1.5, 12.5, 10.5 count
        ("45", [1, 0, 13, 11], 1),
    ],
)
def test_a_box_that_cvat_turns_is_read_as_it_lies(
    tmp_path: Path, degrees: str, box: list[int], converted: int
) -> None:
    turned = f"<attribute><name>rotation</name><value>{degrees}</value></attribute>"
    text = xml(box=f"<attributes>{turned}</attributes><bndbox>{BOX}</bndbox>")
    dataset, counts = read(written(tmp_path, {"a.xml": text}, ("a.png",)))
    assert dataset.on(dataset.records[0]).boxes.tolist() == [box]
    assert [(row.kind, row.to, row.count) for row in counts.converted] == (
        [("turned box", "mask", 1)] if converted else []
    )
    assert counts.objects == 1
