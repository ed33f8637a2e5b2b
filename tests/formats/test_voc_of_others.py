"""Pascal VOC as labelImg, Roboflow and VOC itself write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError, Faults
from pipeline.formats.registry import FORMATS
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.formats.voc_reader import read_voc
from pipeline.geometry.masks import decode
from pipeline.io.images import write_png
from pipeline.types import Dataset

BOX = "<xmin>3</xmin><ymin>3</ymin><xmax>12</xmax><ymax>8</ymax>"  # pixels 2 to 11, 2 to 7
SIZE = "<size><width>30</width><height>20</height></size>"


def xml(name: str = "a.png", size: str = SIZE, box: str = f"<bndbox>{BOX}</bndbox>") -> str:
    return (
        f"<annotation><filename>{name}</filename>{size}"
        f"<object><name>crack</name>{box}</object></annotation>"
    )


def written(root: Path, files: dict[str, str], photos: tuple[str, ...]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in photos:
        write_png(root / name, np.zeros((20, 30, 3), np.uint8))
    return root


def read(root: Path) -> tuple[Dataset, SourceCounts]:
    log = SourceLog()
    dataset = read_voc(root, None, log)
    return dataset, log.counts(dataset)


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


@pytest.mark.parametrize(
    "name", ["", "a", "A.PNG", "renamed_later.png", "C:\\photos\\a.png", "sub/a.png"]
)
def test_the_photo_of_the_files_own_name_is_found(tmp_path: Path, name: str) -> None:
    root = written(tmp_path, {"Annotations/a.xml": xml(name)}, ("JPEGImages/a.png",))
    assert read(root)[0].records[0].file_name == "a.png"


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


def test_trainval_and_the_lists_of_a_category_are_no_splits(tmp_path: Path) -> None:
    lists = {"train": "a\n", "val": "b\n", "trainval": "a\nb\n", "crack_train": "a  1\n",
             "crack_trainval": "a  1\nb -1\n"}  # fmt: skip
    files = {f"ImageSets/Main/{name}.txt": text for name, text in lists.items()}
    files |= {f"Annotations/{name}.xml": xml(f"{name}.png") for name in "ab"}
    root = written(tmp_path, files, ("JPEGImages/a.png", "JPEGImages/b.png"))
    assert [record.split for record in read(root)[0].records] == ["train", "val"]


def test_a_folder_without_xml_of_voc_names_the_file(tmp_path: Path) -> None:
    root = written(tmp_path, {"a.xml": "<annotations/>"}, ("a.png",))
    with pytest.raises(DataError, match=r"a\.xml: is not Pascal VOC's XML; check --from"):
        read(root)


LISTS = {
    "a category's alone": {"ImageSets/Main/crack_val.txt": "a  1\n",
                           "ImageSets/Main/trainval.txt": "a\n"},
    "of segmentation": {"ImageSets/Segmentation/val.txt": "a\n"},
    "without a folder": {"ImageSets/valid.txt": "a\n"},
    "paths": {"ImageSets/Main/val.txt": "JPEGImages\\a.png\r\n"},
    "pairs beside the folders": {"val_list.txt": "./JPEGImages/a.png ./Annotations/a.xml\n"},
    "twice, then held out": {"ImageSets/Main/train.txt": "a\n", "ImageSets/Main/val.txt": "a\n"},
}  # fmt: skip


@pytest.mark.parametrize("lists", LISTS.values(), ids=LISTS.keys())
def test_the_split_is_found_in_lists_of_every_form(tmp_path: Path, lists: dict[str, str]) -> None:
    root = written(tmp_path, {"Annotations/a.xml": xml(), **lists}, ("JPEGImages/a.png",))
    assert read(root)[0].records[0].split == "val"


def test_trainval_alone_is_reported_as_no_split(tmp_path: Path) -> None:
    files = {"Annotations/a.xml": xml(), "ImageSets/Main/trainval.txt": "a\n"}
    dataset, counts = read(written(tmp_path, files, ("JPEGImages/a.png",)))
    assert dataset.records[0].split == ""
    assert "trainval.txt is no split" in counts.notes[0]


SEVERAL = {
    "a kit of two years": ("VOC2007/Annotations/1.xml", "VOC2007/JPEGImages/1.png",
                           "VOC2012/Annotations/1.xml", "VOC2012/JPEGImages/1.png"),
    "Roboflow": ("train/1.xml", "train/1.png", "valid/1.xml", "valid/1.png"),
    "folders below": ("Annotations/x/1.xml", "JPEGImages/x/1.png",
                      "Annotations/y/1.xml", "JPEGImages/y/1.png"),
    "cameras": ("x/1.xml", "x/1.png", "y/1.xml", "y/1.png"),
    "small letters": ("x/annotations/1.xml", "x/images/1.png",
                      "y/annotations/1.xml", "y/images/1.png"),
}  # fmt: skip


@pytest.mark.parametrize("paths", SEVERAL.values(), ids=SEVERAL.keys())
def test_photos_of_one_name_in_two_folders_keep_their_labels(
    tmp_path: Path, paths: tuple[str, str, str, str]
) -> None:
    boxes = {paths[0]: BOX, paths[2]: BOX.replace("12", "20")}
    files = {name: xml("1.png", box=f"<bndbox>{box}</bndbox>") for name, box in boxes.items()}
    dataset, _ = read(written(tmp_path, files, (paths[1], paths[3])))
    found = {str(r.path.relative_to(tmp_path)): dataset.on(r).boxes[0, 2] for r in dataset.records}
    assert found == {paths[1]: 12, paths[3]: 20}
    assert len({record.file_name for record in dataset.records}) == 2


def test_roboflows_folders_are_the_splits(tmp_path: Path) -> None:
    names = ("train", "valid", "test")
    files = {f"{name}/1.xml": xml("1.png") for name in names}
    dataset, _ = read(written(tmp_path, files, tuple(f"{name}/1.png" for name in names)))
    assert {r.file_name: r.split for r in dataset.records} == {
        "test/1.png": "test", "train/1.png": "train", "valid/1.png": "val"
    }  # fmt: skip


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


def test_two_files_of_one_photo_are_refused(tmp_path: Path) -> None:
    root = written(tmp_path, {"a.xml": xml(), "b.xml": xml()}, ("a.png",))
    with pytest.raises(DataError, match=r"b\.xml: names the photo a\.png, which is that of a\.xml"):
        read(root)


def test_a_faulty_object_takes_no_other_with_it(tmp_path: Path) -> None:
    faulty = "<object><name>x</name><bndbox><xmin>q</xmin></bndbox></object></annotation>"
    root = written(tmp_path, {"a.xml": xml().replace("</annotation>", faulty)}, ("a.png",))
    log = SourceLog(Faults(keep_going=True))
    dataset = read_voc(root, None, log)
    assert len(dataset.on(dataset.records[0])) == 1
    assert "object 2: xmin is 'q', not a number" in str(log.faults.errors[0])
    assert (log.counts(dataset).read, log.counts(dataset).objects) == (1, 2)


def test_ignored_files_are_reported(tmp_path: Path) -> None:
    parts = f"<part><name>head</name><bndbox>{BOX}</bndbox></part>"
    box = f"<pose>Left</pose><bndbox>{BOX}</bndbox>{parts}"
    files = {"a.xml": xml(box=box), "b.aux.xml": "<PAMDataset/>"}
    _, counts = read(written(tmp_path, files, ("a.png", "c.png")))
    assert [(row.kind, row.count) for row in counts.left_out] == [("part", 1)]
    for name in ("a.xml object 1", "b.aux.xml", "c.png"):
        assert any(name in note for note in counts.notes)


def test_one_xml_file_is_a_set(tmp_path: Path) -> None:
    root = written(tmp_path, {"a.xml": xml(), "b.xml": xml("b.png")}, ("a.png", "b.png"))
    dataset, counts = read(root / "a.xml")
    assert [record.file_name for record in dataset.records] == ["a.png"]
    assert counts.notes == ()


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


def test_the_photo_of_another_camera_is_not_taken(tmp_path: Path) -> None:
    files = {"Annotations/cam1/1.xml": xml("1.png")}
    root = written(tmp_path, files, ("JPEGImages/cam2/1.png",))
    with pytest.raises(DataError, match=r"cam1/1\.xml: its photo .*cam1/1\.png: no such image"):
        read(root)


@pytest.mark.parametrize(("others", "photo"), [((), "b.png"), (("b",), "a.png")])
def test_a_named_photo_is_read_unless_it_is_that_of_another_file(
    tmp_path: Path, others: tuple[str, ...], photo: str
) -> None:
    files = {f"{name}.xml": xml("b.png") for name in ("a", *others)}
    dataset, _ = read(written(tmp_path, files, ("a.png", "b.png")))
    assert dataset.records[0].file_name == photo


def test_the_border_of_a_mask_belongs_to_no_object(tmp_path: Path) -> None:
    """VOC's value 255 around an object of 3 x 3 pixels."""
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 5:10] = 255
    mask[5:8, 6:9] = 1
    root = written(tmp_path, {"Annotations/a.xml": xml()}, ("JPEGImages/a.png",))
    write_png(root / "SegmentationObject" / "a.png", mask)
    dataset, _ = read(root)
    assert dataset.on(dataset.records[0]).boxes.tolist() == [[6, 5, 9, 8]]


def test_files_that_all_name_one_photo_have_those_of_their_own_names(tmp_path: Path) -> None:
    files = {f"{name}.xml": xml("image.png") for name in "ab"}
    dataset, _ = read(written(tmp_path, files, ("a.png", "b.png", "image.png")))
    assert [record.file_name for record in dataset.records] == ["a.png", "b.png"]


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
