"""CVAT's XML for video: tracks become the objects of each frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.config.schema import ExportConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.cvat import read_cvat
from pipeline.formats.cvat_shapes import Shape
from pipeline.formats.cvat_tracks import between, polygon_between
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.io.images import read_image, write_png
from pipeline.stages.export_labels import import_labels
from pipeline.types import Dataset

HEIGHT, WIDTH = 60, 80
LABELS = "<labels><label><name>crack</name></label></labels>"


def meta(size: int | None = None, more: str = "") -> str:
    count = "" if size is None else f"<size>{size}</size>"
    sides = f"<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size>"
    return f"<meta><task><id>7</id>{count}{more}{LABELS}{sides}</task></meta>"


def box(frame: int, x: float, outside: int = 0, more: str = "") -> str:
    """A box of 10 * 20 pixels, 30 below the top."""
    sides = f'xtl="{x}" ytl="30" xbr="{x + 10}" ybr="50"'
    return f'<box frame="{frame}" keyframe="1" outside="{outside}" {sides} {more}/>'


def track(*rows: str, more: str = "") -> str:
    return f'<track id="0" label="crack" source="manual" {more}>{"".join(rows)}</track>'


def write(folder: Path, about: str, *tracks: str, frames: tuple[str, ...] = ()) -> Path:
    for number, name in enumerate(frames):
        write_png(folder / "images" / name, np.full((HEIGHT, WIDTH, 3), number, np.uint8))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "annotations.xml"
    path.write_text(f"<annotations>{about}{''.join(tracks)}</annotations>", encoding="utf-8")
    return path


def read(
    source: Path, images: Path | None = None, log: SourceLog | None = None
) -> tuple[Dataset, SourceCounts]:
    log = log or SourceLog()
    dataset = read_cvat(source, images, log)
    return dataset, log.counts(dataset)


def lefts(dataset: Dataset) -> dict[str, list[float]]:
    """The left sides of the boxes on each image."""
    return {r.file_name: dataset.on(r).boxes[:, 0].tolist() for r in dataset.records}


FRAMES = tuple(f"frame_{number:06d}.PNG" for number in range(5))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], [[], [], [], [], []]),
        ([box(0, 10)], [[10], [10], [10], [10], [10]]),  # to the end of the video
        ([box(0, 10), box(4, 50)], [[10], [20], [30], [40], [50]]),
        ([box(0, 10), box(2, 30), box(3, 0, outside=1)], [[10], [20], [30], [], []]),
        ([box(0, 10), box(1, 0, outside=1), box(3, 40)], [[10], [], [], [40], [40]]),
        ([box(3, 40), box(0, 10), box(4, 0, outside=1)], [[10], [20], [30], [40], []]),
        ([box(0, 10, outside=1)], [[], [], [], [], []]),
    ],
)
def test_a_track_is_read_in_each_frame_where_it_is_in_sight(
    tmp_path: Path, rows: list[str], expected: list[list[float]]
) -> None:
    path = write(tmp_path, meta(5), track(*rows), frames=FRAMES)
    dataset, counts = read(path)
    assert list(lefts(dataset).values()) == expected
    given = sum('outside="0"' in row for row in rows)
    assert (counts.read, counts.objects) == (given, sum(map(len, expected)))
    if counts.objects > given:
        (row,) = counts.converted
        assert (row.kind, row.to) == ("box between key frames", "box")


def test_a_video_without_tracks_has_frames_without_objects(tmp_path: Path) -> None:
    dataset, _ = read(write(tmp_path, meta(2), frames=FRAMES))
    assert list(lefts(dataset)) == list(FRAMES[:2])  # those of the task


def test_only_the_frames_of_the_task_are_interpolated(tmp_path: Path) -> None:
    about = meta(3, "<start_frame>0</start_frame><stop_frame>4</stop_frame>"
                    "<frame_filter>step=2</frame_filter>")  # fmt: skip
    path = write(tmp_path, about, track(box(0, 10), box(4, 50)), frames=FRAMES)
    assert list(lefts(read(path)[0]).items()) == [
        (FRAMES[0], [10.0]), (FRAMES[2], [30.0]), (FRAMES[4], [50.0])
    ]  # fmt: skip


def test_a_frame_that_was_deleted_has_no_image_and_no_object(tmp_path: Path) -> None:
    frames = FRAMES[:1] + FRAMES[2:3]
    path = write(tmp_path, meta(3), track(box(0, 10), box(2, 30)), frames=frames)
    assert list(lefts(read(path)[0]).values()) == [[10], [30]]


def test_without_meta_tracks_end_with_the_last_frame_that_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "", track(box(0, 10)), track(box(1, 50)), frames=FRAMES)
    assert list(lefts(read(path)[0]).values()) == [[10], [10, 50]]


def test_a_frame_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, meta(3), track(box(0, 10), box(2, 30)), frames=FRAMES[:1])
    with pytest.raises(DataError, match=r"frame_000002\.png: no such image, which a track names"):
        read(path)
    log = SourceLog(Faults(keep_going=True))
    assert list(lefts(read(path, log=log)[0]).values()) == [[10]]
    assert len(log.faults.errors) == 1


@pytest.mark.parametrize(
    ("row", "left"),
    [
        ('<polyline frame="0" outside="0" points="1,1;9,9"/>', {"polyline": 1}),
        ('<points frame="0" outside="1" points="1,1"/>', {}),
        ('<skeleton frame="0"><points label="a" points="1,1" outside="0"/></skeleton>',
         {"skeleton": 1}),
        ('<cuboid frame="0" outside="0"/>', {"cuboid": 1}),
        ('<polygon frame="0" outside="0" points="1,1;9,9"/>', {"polygon": 1}),
    ],
)  # fmt: skip
def test_tracks_without_an_area_are_left_out(
    tmp_path: Path, row: str, left: dict[str, int]
) -> None:
    path = write(tmp_path, meta(1), track(row), track(box(0, 10)), frames=FRAMES[:1])
    dataset, counts = read(path)
    assert list(lefts(dataset).values()) == [[10]]
    assert {each.kind: each.count for each in counts.left_out} == left


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        (track(box(0, 1), box(0, 2)), "track 0: it has frame 0 twice"),
        (track(box(0, 1), more="").replace("crack", "old"), "track 0: it names 'old'"),
        (track(box(0, 1).replace('frame="0"', "")), "track 0: it lacks frame"),
        (track(box(0, 1).replace("xtl", "x")), "track 0: it lacks xtl"),
        ('<image name="a.png"/>' + track(box(0, 1)), "has images and tracks"),
    ],
)
def test_a_faulty_track_is_one_line(tmp_path: Path, tracks: str, message: str) -> None:
    path = write(tmp_path, meta(1), tracks, frames=(*FRAMES[:1], "a.png"))
    with pytest.raises(DataError, match=message):
        read(path)


@pytest.mark.parametrize("keep_going", [False, True])
def test_endless_tracks_end_in_one_line(tmp_path: Path, keep_going: bool) -> None:
    about = meta(2_000_000_000, "<source>a.avi</source>")
    path = write(tmp_path, about, track(box(0, 10)), track(box(5, 10), box(1_999_999_999, 20)))
    (tmp_path / "a.avi").write_bytes(b"RIFF\0\0\0\0AVI ")
    log = SourceLog(Faults(keep_going))
    if keep_going:
        assert read(path, log=log)[0].records == ()
        assert len(log.faults.errors) == 1
    else:
        with pytest.raises(DataError, match=r"a\.avi: is not a video that OpenCV reads"):
            read(path)


def test_images_of_any_name_are_frames_in_their_order(tmp_path: Path) -> None:
    """CVAT exports a task made of images for video too, and then names no image."""
    names = ("b.png", "c.png", "a.png")
    path = write(tmp_path, meta(3), track(box(0, 10), box(2, 30)), frames=names)
    assert lefts(read(path)[0]) == {"a.png": [10], "b.png": [20], "c.png": [30]}
    path = write(tmp_path, meta(4), track(box(0, 10)), frames=names)
    with pytest.raises(DataError, match=r"frame_000000\.png: no such image"):
        read(path)


PROJECT = (
    "<meta><project><id>1</id>{labels}<tasks>"
    "<task><id>4</id><size>2</size><subset>Train</subset></task>"
    "<task><id>5</id><size>1</size><subset>{subset}</subset></task></tasks></project></meta>"
)


def test_the_tasks_of_a_project_have_their_own_frames(tmp_path: Path) -> None:
    about = PROJECT.format(labels=LABELS, subset="Test")
    rows = track(box(0, 10), more='task_id="4" subset="Train"')
    path = write(tmp_path, about, rows, frames=("Train/frame_000000.png", "Train/frame_000001.png",
                                                "Test/frame_000000.png"))  # fmt: skip
    dataset, _ = read(path)
    assert lefts(dataset) == {"Train/frame_000000.png": [10], "Train/frame_000001.png": [10],
                              "Test/frame_000000.png": []}  # fmt: skip
    assert [record.split for record in dataset.records] == ["train", "train", "test"]


def test_two_tasks_in_one_subset_are_refused_for_their_frames_are_one(tmp_path: Path) -> None:
    about = PROJECT.format(labels=LABELS, subset="Train")
    path = write(tmp_path, about, frames=("Train/frame_000000.png",))
    with pytest.raises(DataError, match="holds the frames of task 4 and of task 5"):
        read(path)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames, each ten levels brighter than the last."""
    path = tmp_path / "in" / "belt 3.avi"
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for number in range(10):
        writer.write(np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("given", [False, True])
def test_the_frames_of_a_video_are_written_into_the_output(
    tmp_path: Path, video: Path, given: bool
) -> None:
    source = "" if given else "<source>belt 3.avi</source>"
    rows = track(box(3, 10), box(5, 30), box(6, 0, outside=1))
    write(tmp_path / "in", meta(10, source), rows)
    found = import_labels(
        tmp_path / "in", "cvat", tmp_path / "out", ExportConfig(), images=video if given else None
    )
    assert (found.images, found.objects) == (3, 3)
    paths = sorted((tmp_path / "out" / "images").rglob("*.png"))
    assert [path.name for path in paths] == [f"frame_{n:06d}.png" for n in (3, 4, 5)]
    assert [int(read_image(path).mean().round(-1)) for path in paths] == [30, 40, 50]


def test_a_video_with_too_few_frames_is_refused(tmp_path: Path, video: Path) -> None:
    path = write(tmp_path / "in", meta(20), track(box(12, 10), box(13, 0, outside=1)))
    with pytest.raises(DataError, match=r"belt 3\.avi: has 10 frames; the labels name frame 12"):
        read(path, video)


@pytest.mark.parametrize("content", [b"", b"#EXTM3U\nfile:///etc/passwd", b"RIFF\0\0\0\0WAVE"])
def test_a_file_that_is_no_video_is_not_opened_by_a_decoder(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, meta(1), track(box(0, 10)))
    (tmp_path / "list.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"list\.mp4: is not a video \(MP4, MOV, AVI"):
        read(path, tmp_path / "list.mp4")


@pytest.mark.parametrize(
    ("degrees", "share", "expected"),
    [(0, 0.5, 0), (90, 0.5, 45), (350, 0.5, 355), (270, 0.5, 315), (10, 0.25, 2.5)],
)
def test_a_shape_turns_the_shorter_way(degrees: float, share: float, expected: float) -> None:
    one, two = (Shape("box", np.zeros(4), turned) for turned in (0.0, degrees))
    assert between(one, two, share).rotation == pytest.approx(expected)


SQUARE = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], float)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (SQUARE, SQUARE),
        (SQUARE + 10, SQUARE + 5),
        (SQUARE * 3, SQUARE * 2),
        # with a point in the middle of the upper side, that no point goes to: the corner before
        # goes there too, and half of the usual distance of 2.5 keeps both
        (np.insert(SQUARE, 1, [5, 0], axis=0),
         [(0, 0), (2.5, 0), (10, 0), (10, 10), (0, 10)]),
    ],
)  # fmt: skip
def test_the_points_of_a_polygon_go_straight(other: np.ndarray, expected: np.ndarray) -> None:
    assert polygon_between(SQUARE, other, 0.5).tolist() == pytest.approx(np.array(expected))


def test_polygons_that_are_one_point_stay_one() -> None:
    assert not polygon_between(SQUARE * 0, SQUARE * 0, 0.5).any()
