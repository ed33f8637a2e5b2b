"""CVAT's XML for images as CVAT writes it: what is read, converted, left out and refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import ExportConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.cvat import read_cvat
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.geometry.masks import area
from pipeline.io.images import write_png
from pipeline.stages.export_labels import import_labels
from pipeline.types import Dataset

HEIGHT, WIDTH = 60, 80
META = (
    "<meta><task><id>7</id><size>2</size><mode>annotation</mode><labels>"
    "<label><name>crack</name></label><label><name>stain</name><type>any</type></label>"
    "<label><name>tip</name><type>points</type><parent>stain</parent></label>"
    "</labels></task></meta>"
)
BOX = '<box label="crack" xtl="10.00" ytl="20.00" xbr="40.00" ybr="30.00"/>'
POLYGON = '<polygon label="stain" points="50.00,10.00;70.00,10.00;70.00,30.00;50.00,30.00"/>'


def image(*shapes: str, name: str = "a.png", more: str = "") -> str:
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    return f'<image id="0" name="{name}" {more} {size}>{"".join(shapes)}</image>'


def write(
    folder: Path, *nodes: str, images: tuple[str, ...] = ("a.png",), meta: str = META
) -> Path:
    for name in images:
        write_png(folder / "images" / name, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    path = folder / "annotations.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"<annotations><version>1.1</version>{meta}{''.join(nodes)}</annotations>"
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}', encoding="utf-8")
    return path


def read(
    source: Path, images: Path | None = None, log: SourceLog | None = None
) -> tuple[Dataset, SourceCounts]:
    log = log or SourceLog()
    dataset = read_cvat(source, images, log)
    return dataset, log.counts(dataset)


def left_out(counts: SourceCounts) -> dict[str, int]:
    return {row.kind: row.count for row in counts.left_out}


@pytest.mark.parametrize(
    ("shape", "box", "pixels", "converted"),
    [
        (BOX, [10, 20, 40, 30], None, {}),
        (BOX.replace("/>", ' rotation="0.00"/>'), [10, 20, 40, 30], None, {}),
        # about its centre, (25, 25): 30 wide and 10 high become 10 wide and 30 high
        (BOX.replace("/>", ' rotation="90.00"/>'), [20, 10, 30, 40], None, {}),
        (BOX.replace("/>", ' rotation="180.00"/>'), [10, 20, 40, 30], None, {}),
        # half of the width: 15 cos 30 + 5 sin 30 = 15.5, of the height: 15 sin 30 + 5 cos 30 = 11.8
        (BOX.replace("/>", ' rotation="30.00"/>'), [9.5, 13.2, 40.5, 36.8], 300, {"mask": 1}),
        ('<box label="crack" xtl="40" ytl="30" xbr="10" ybr="20"/>', [10, 20, 40, 30], None,
         {"box with its corners swapped back": 1}),
        (POLYGON, [50, 10, 70, 30], 400, {}),
        # pi * 10 * 5 = 157
        ('<ellipse label="stain" cx="40" cy="30" rx="10" ry="5"/>', [30, 25, 50, 35], 157,
         {"mask": 1}),
        ('<ellipse label="stain" cx="40" cy="30" rx="10" ry="5" rotation="90"/>', [35, 20, 45, 40],
         157, {"mask": 1}),
        ('<mask label="stain" rle="1, 2, 1, 2" left="3" top="4" width="3" height="2"/>',
         [4, 4, 6, 6], 4, {}),
        # of 3x2 pixels two columns are left of the image: 2 remain
        ('<mask label="stain" rle="0, 6" left="-2" top="4" width="3" height="2"/>',
         [0, 4, 1, 6], 2, {"mask clipped to the image": 1}),
        (POLYGON.replace('"/>', ';"/>'), [50, 10, 70, 30], 400, {}),
    ],
)  # fmt: skip
def test_each_shape_with_an_area_is_read(
    tmp_path: Path, shape: str, box: list[float], pixels: int | None, converted: dict[str, int]
) -> None:
    dataset, counts = read(write(tmp_path, image(shape)))
    objects = dataset.on(dataset.records[0])
    assert objects.boxes[0] == pytest.approx(box, abs=1.0 if converted else 0.01)
    assert {row.to: row.count for row in counts.converted} == converted
    assert (counts.objects, counts.left_out) == (1, ())
    if pixels is None:
        assert objects.masks is None
    else:
        assert objects.masks is not None
        assert area(objects.masks[0]) == pytest.approx(pixels, rel=0.05 if converted else 0)


@pytest.mark.parametrize(
    ("shapes", "objects", "left"),
    [
        ([], 0, {}),
        (['<tag label="crack"/>', BOX], 1, {"tag": 1}),
        (['<polyline label="crack" points="1,1;9,9"/>'] * 2, 0, {"polyline": 2}),
        (['<points label="crack" points="1,1"/>', POLYGON], 1, {"points": 1}),
        (['<skeleton label="stain"><points label="tip" points="1,1"/></skeleton>'], 0,
         {"skeleton": 1}),
        (['<cuboid label="crack" xtl1="1"/>'], 0, {"cuboid": 1}),
        (['<polygon label="crack" points="1,1;9,9"/>'], 0, {"polygon": 1}),
        (['<box label="crack" xtl="5" ytl="5" xbr="5" ybr="9"/>'], 0, {"box": 1}),
        (['<ellipse label="crack" cx="5" cy="5" rx="0" ry="0"/>'], 0, {"ellipse": 1}),
        (['<polygon label="crack" points="1,1;1.1,1;1.1,1.1"/>', BOX], 1, {"polygon": 1}),
        (['<blob label="crack"/>'], 0, {"blob": 1}),
    ],
)  # fmt: skip
def test_what_has_no_area_is_left_out_and_counted(
    tmp_path: Path, shapes: list[str], objects: int, left: dict[str, int]
) -> None:
    dataset, counts = read(write(tmp_path, image(*shapes)))
    assert len(dataset.on(dataset.records[0])) == objects
    assert left_out(counts) == left
    assert counts.objects == objects + sum(left.values())
    assert dataset.categories == ("crack", "stain")  # without the parts of skeletons


def test_boxes_beside_masks_become_filled_masks(tmp_path: Path) -> None:
    dataset, counts = read(write(tmp_path, image(BOX, POLYGON)))
    assert [area(mask) for mask in dataset.on(dataset.records[0]).masks or ()] == [300, 400]
    assert [(row.kind, row.to, row.count) for row in counts.converted] == [
        ("box", "filled mask", 1)
    ]


@pytest.mark.parametrize(
    ("name", "more", "there", "found", "split"),
    [
        ("a.png", "", ["a.png"], "a.png", ""),
        ("train/a.png", "", ["train/a.png"], "train/a.png", "train"),
        ("line 1\\a.png", "", ["line 1/a.png"], "line 1/a.png", ""),
        ("frame_000000", "", ["frame_000000.PNG"], "frame_000000.PNG", ""),
        ("a.png", 'subset="Train" task_id="1"', ["Train/a.png", "Test/a.png"], "Train/a.png",
         "train"),
        ("x/a.png", 'subset="Validation"', ["Validation/x/a.png"], "Validation/x/a.png", "val"),
        ("a.png", 'subset="default"', ["default/a.png"], "default/a.png", ""),
        ("a.png", 'subset="night shift"', ["a.png"], "a.png", "night shift"),
    ],
)  # fmt: skip
def test_the_photo_is_found_below_its_subset(
    tmp_path: Path, name: str, more: str, there: list[str], found: str, split: str
) -> None:
    path = write(tmp_path, image(BOX, name=name, more=more), images=tuple(there))
    (record,) = read(path)[0].records
    assert (record.file_name, record.split) == (found, split)
    assert record.path.is_file()


def test_two_tasks_with_one_photo_are_refused(tmp_path: Path) -> None:
    nodes = (image(BOX, more=f'subset="Train" task_id="{key}"') for key in (1, 2))
    path = write(tmp_path, *nodes, images=("Train/a.png",))
    with pytest.raises(DataError, match=r"is the photo of image 'a\.png' of task 1 and of image"):
        read(path)


def test_an_image_without_a_size_has_that_of_its_photo(tmp_path: Path) -> None:
    path = write(tmp_path, f'<image id="0" name="a.png">{BOX}</image>')
    assert read(path)[0].records[0].size == (HEIGHT, WIDTH)


def test_a_size_may_be_written_with_a_point(tmp_path: Path) -> None:
    node = image(BOX).replace(f'width="{WIDTH}"', f'width="{WIDTH}.0"')
    dataset, _ = read(write(tmp_path, node))
    assert dataset.records[0].size == (HEIGHT, WIDTH)
    with pytest.raises(DataError, match=r"width is '80\.5', not a whole number"):
        read(write(tmp_path, node.replace(".0", ".5")))


def test_labels_come_from_the_shapes_where_none_are_declared(tmp_path: Path) -> None:
    tag, line = '<tag label="a tag"/>', '<polyline label="a line" points="1,1;2,2"/>'
    dataset, _ = read(write(tmp_path, image(POLYGON, BOX, tag, line), meta=""))
    assert dataset.categories == ("crack", "stain")


def test_keep_going_reads_the_images_after_a_faulty_one(tmp_path: Path) -> None:
    log = SourceLog(Faults(keep_going=True))
    nodes = [
        image(BOX, name="gone.png"),
        image(BOX.replace("crack", "other")),
        image(BOX, name="c.png"),
    ]
    path = write(tmp_path, *nodes, images=("a.png", "c.png"))
    dataset, counts = read(path, log=log)
    assert [record.file_name for record in dataset.records] == ["a.png", "c.png"]
    assert [str(fault).split(": ", 1)[1] for fault in log.faults.errors] == [
        "no such image; give their folder with --images",
        "image 'a.png': box 1: it names 'other', which is not declared; export it again",
    ]
    assert (counts.images, counts.read) == (3, 1)


def zipped(folder: Path, target: Path, below: str = "") -> Path:
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{below}{path.relative_to(folder).as_posix()}")
    return target


@pytest.mark.parametrize("below", ["", "task 7/"])
def test_the_zip_is_read_and_its_photos_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    write(
        tmp_path / "task", image(BOX), image(POLYGON, name="b/c.png"), images=("a.png", "b/c.png")
    )
    source = zipped(tmp_path / "task", tmp_path / "task_7.zip", below)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    found = import_labels(source, "cvat", tmp_path / "out", ExportConfig())
    assert (found.images, found.objects, found.source.read) == (2, 2, 2)
    assert (tmp_path / "out" / "images" / "b" / "c.png").is_file()
    assert not list((tmp_path / "temporary").iterdir())


def test_a_zip_of_labels_alone_takes_the_photos_of_a_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "task", image(BOX))
    photos = (tmp_path / "task" / "images").rename(tmp_path / "photos")
    source = zipped(path.parent, tmp_path / "zip" / "task_7.zip")
    with pytest.raises(DataError, match=f"{source.parent}/a.png: no such image"):
        read(source)
    assert len(read(source, photos)[0].records) == 1
    photos.rename(source.parent / "images")  # beside the zip
    assert len(read(source)[0].records) == 1


def test_a_folder_may_hold_its_one_xml_file_under_any_name(tmp_path: Path) -> None:
    write(tmp_path, image(BOX)).rename(tmp_path / "Train.xml")
    assert len(read(tmp_path)[0].records) == 1
    (tmp_path / "Test.xml").write_text("<annotations/>")
    with pytest.raises(DataError, match=r"holds several XML files \(Test\.xml, Train\.xml\)"):
        read(tmp_path)


def test_the_photos_may_lie_beside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, image(BOX), images=())
    write_png(tmp_path / "a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert read(path)[0].records[0].path == tmp_path / "a.png"


def test_datumaro_writes_what_is_read(tmp_path: Path) -> None:
    """datumaro is the library behind CVAT's formats; it has no ellipses."""
    datumaro = pytest.importorskip("datumaro")
    write_png(tmp_path / "a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    annotation = datumaro.components.annotation
    shapes = [
        annotation.Bbox(10, 20, 30, 10, label=0),
        annotation.RotatedBbox(25, 25, 30, 10, 90, label=1),
        annotation.Polygon([50, 10, 70, 10, 70, 30, 50, 30], label=1),
        annotation.PolyLine([1, 1, 9, 9], label=0),
        annotation.Points([3, 3], label=0),
        annotation.Label(0),
    ]
    media = datumaro.components.media.Image.from_file(path=str(tmp_path / "a.png"))
    items = [datumaro.DatasetItem("a", subset="train", media=media, annotations=shapes)]
    dataset = datumaro.Dataset.from_iterable(items, categories=["crack", "stain"])
    dataset.export(str(tmp_path / "out"), "cvat", save_media=True)
    found, counts = read(tmp_path / "out")
    objects = found.on(found.records[0])
    assert objects.labels.tolist() == [0, 1, 1]
    assert [area(mask) for mask in objects.masks or ()] == [300, 300, 400]
    assert objects.boxes[1].tolist() == [20, 10, 30, 40]
    assert left_out(counts) == {"polyline": 1, "points": 1, "tag": 1}


@pytest.mark.parametrize(("right", "to"), [(80.4, []), (95, ["polygon clipped to the image"])])
def test_a_polygon_over_the_edge_is_clipped_and_counted(
    tmp_path: Path, right: float, to: list[str]
) -> None:
    """From column 50 to the edge at 80, 20 rows: 600 pixels. Up to half a pixel is rounding."""
    points = f"50,10;{right},10;{right},30;50,30"
    source = write(tmp_path, image(f'<polygon label="stain" points="{points}"/>'))
    dataset, counts = read(source)
    (mask,) = dataset.on(dataset.records[0]).masks or ()
    assert area(mask) == 600
    assert [row.to for row in counts.converted] == to
    assert (counts.objects, counts.read) == (1, 1 - len(to))
