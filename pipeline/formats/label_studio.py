"""Label Studio's JSON: brush strokes as run-length codes, rectangles in percent of the image.

The brush code is rle-pack (github.com/thi-ng/umbrella, packages/rle-pack): 32 bits hold the number
of values, 5 the bits of a value less 1, four times 4 the sizes of run lengths less 1. Then follow
blocks: 1 bit says run or literals, 2 bits which size, then the length less 1, then one value or as
many. The values are the image's RGBA bytes, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.geometry.boxes import as_boxes, xyxy_to_xywh
from pipeline.geometry.masks import bounding_boxes, decode, encode, from_box
from pipeline.geometry.patches import Mask
from pipeline.io.read import read_json
from pipeline.io.write import place_file, write_json, write_text
from pipeline.types import Dataset, Detections, ImageRecord

_FILE = "tasks.json"
_LOCAL = "/data/local-files/?d="
_SIZES = (3, 4, 8, 16)  # bits of a run's length
_LONGEST = 1 << _SIZES[-1]


def write_label_studio(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write tasks.json to import, label_config.xml for the project's interface, and the images,
    which tasks name as local files. Objects with an expected IoU or a score become predictions with
    that as score, a task's being its least, to sort by; others become annotations."""
    tasks = []
    for record in dataset.records:
        place_file(record.path, root / "images" / record.file_name, copy_images)
        objects = dataset.on(record)
        results = [_result(objects, row, dataset.categories, record) for row in range(len(objects))]
        entry: dict[str, Any] = {
            "id": record.id,
            "data": {"image": _LOCAL + quote(f"images/{record.file_name}"), "part": record.part},
        }
        if objects.trust and len(objects):
            least = round(float(_trust(objects).min()), 6)
            answer = {"model_version": "pipeline", "score": least}
            entry["predictions"] = [{**answer, "result": results}]
        else:
            entry["annotations"] = [{"id": record.id, "result": results}]
        tasks.append(entry | {"size": [record.height, record.width]})
    write_json(root / _FILE, tasks)
    write_text(root / "label_config.xml", _config(dataset.categories))


def read_label_studio(source: Path, images: Path | None = None) -> Dataset:
    """Read a JSON export, or the folder of tasks.json: brush strokes and rectangles.

    Where an image has brush strokes, its rectangles become filled masks. The first annotation of a
    task counts, or its first prediction where there is none. Raises DataError.
    """
    path = source / _FILE if source.is_dir() else source
    tasks = read_json(path)
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and "data" in t for t in tasks):
        raise DataError(path, "is not Label Studio's JSON", "export as JSON, not JSON-MIN")
    results = [_results_of(task) for task in tasks]
    config = path.parent / "label_config.xml"
    categories = _categories(config) or sorted({_label(row) for rows in results for row in rows})
    records, objects = [], {}
    for number, (task, rows) in enumerate(zip(tasks, results, strict=True), start=1):
        try:
            name = _name(str(task["data"]["image"]))
            size = (
                (int(rows[0]["original_height"]), int(rows[0]["original_width"]))
                if rows
                else tuple(int(side) for side in task["size"])
            )
            objects[number] = _parse(rows, categories, (size[0], size[1]))
            place = (images or path.parent / "images") / name
            part = str(task["data"].get("part", ""))
            records.append(ImageRecord(number, place, name, size[0], size[1], part=part))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                path, f"task {task.get('id')} cannot be read ({error!r})", "export it anew"
            ) from error
    return Dataset(tuple(categories), tuple(records), objects)


def encode_brush(mask: Mask) -> list[int]:
    """A mask (H, W) as rle-pack bytes of its RGBA values, each 0 or 255."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * 4
    bits = [f"{flat.size * 4:032b}{8 - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for value, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        rest = length
        while rest:
            step = min(rest, _LONGEST)
            choice = next(i for i, size in enumerate(_SIZES) if step <= 1 << size)
            bits.append(f"1{choice:02b}{step - 1:0{_SIZES[choice]}b}{255 * value:08b}")
            rest -= step
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def decode_brush(data: Sequence[int], height: int, width: int) -> Mask:
    """The mask (H, W) of rle-pack bytes: where the alpha channel is not 0. Raises ValueError."""
    text = "".join(f"{byte:08b}" for byte in data)
    count, bits = int(text[:32], 2), int(text[32:37], 2) + 1
    sizes = [int(text[37 + 4 * k : 41 + 4 * k], 2) + 1 for k in range(4)]
    if count != height * width * 4:
        raise ValueError(f"a brush of {count} values on an image of {width}x{height}")
    values = np.zeros(count, dtype=np.uint32)
    at, place = 53, 0
    while place < count:
        run, choice = text[at] == "1", int(text[at + 1 : at + 3], 2)
        at += 3
        end = place + int(text[at : at + sizes[choice]], 2) + 1
        at += sizes[choice]
        if run:
            values[place:end] = int(text[at : at + bits], 2)
            at += bits
        else:
            stop = at + bits * (end - place)
            values[place:end] = [int(text[i : i + bits], 2) for i in range(at, stop, bits)]
            at = stop
        place = end
    return np.asarray(values.reshape(height, width, 4)[:, :, 3] > 0)


def _result(
    objects: Detections, row: int, categories: Sequence[str], record: ImageRecord
) -> dict[str, Any]:
    name = categories[int(objects.labels[row])]
    common = {
        "id": f"{record.id}-{row + 1}",
        "to_name": "image",
        "original_width": record.width,
        "original_height": record.height,
        "image_rotation": 0,
    }
    if objects.trust:
        common["score"] = round(float(_trust(objects)[row]), 6)
    if objects.masks is not None:
        code = encode_brush(decode(objects.masks[row]))
        value: dict[str, Any] = {"format": "rle", "rle": code, "brushlabels": [name]}
        return common | {"type": "brushlabels", "from_name": "brush", "value": value}
    x, y, width, height = xyxy_to_xywh(objects.boxes[row : row + 1].astype(np.float64))[0].tolist()
    value = {
        "x": 100 * x / record.width,
        "y": 100 * y / record.height,
        "width": 100 * width / record.width,
        "height": 100 * height / record.height,
        "rotation": 0,
        "rectanglelabels": [name],
    }
    return common | {"type": "rectanglelabels", "from_name": "box", "value": value}


def _trust(objects: Detections) -> NDArray[np.float32]:
    return next(iter(objects.trust.values()))


def _results_of(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    answers = task.get("annotations") or task.get("predictions") or [{"result": []}]
    kinds = {"brushlabels", "rectanglelabels"}
    return [row for row in answers[0].get("result", []) if row.get("type") in kinds]


def _label(row: Mapping[str, Any]) -> str:
    return str(row["value"][row["type"]][0])


def _parse(
    rows: Sequence[Mapping[str, Any]], categories: Sequence[str], size: tuple[int, int]
) -> Detections:
    if not rows:
        return Detections.none()
    labels = np.array([categories.index(_label(row)) for row in rows], dtype=np.int64)
    scored = all("score" in row for row in rows)
    scores = np.array([row["score"] for row in rows], dtype=np.float32) if scored else None
    if all(row["type"] == "rectanglelabels" for row in rows):
        return Detections(as_boxes([_box(row, size) for row in rows]), labels, scores)
    masks = tuple(
        encode(decode_brush(row["value"]["rle"], *size))
        if row["type"] == "brushlabels"
        else from_box(as_boxes([_box(row, size)])[0], *size)
        for row in rows
    )
    return Detections(bounding_boxes(masks), labels, scores, masks)


def _box(row: Mapping[str, Any], size: tuple[int, int]) -> list[float]:
    value, (height, width) = row["value"], size
    if value.get("rotation"):
        raise ValueError("a rotated rectangle is no box")
    x, y = value["x"] * width / 100, value["y"] * height / 100
    return [x, y, x + value["width"] * width / 100, y + value["height"] * height / 100]


def _name(image: str) -> str:
    """An image's name: of a local file its path below `images`, of an address its last part."""
    place = unquote(image.partition("?d=")[2])
    if not place:
        return unquote(image.rsplit("/", 1)[-1])
    _, found, below = f"/{place}".rpartition("/images/")
    return below if found else place


def _config(categories: Sequence[str]) -> str:
    labels = "".join(f"\n    <Label value={quoteattr(name)}/>" for name in categories)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="brush" toName="image">{labels}\n  </BrushLabels>\n'
        f'  <RectangleLabels name="box" toName="image">{labels}\n  </RectangleLabels>\n</View>\n'
    )


def _categories(config: Path) -> list[str]:
    from xml.etree import ElementTree

    if not config.is_file():
        return []
    try:
        labels = ElementTree.parse(config).getroot().iterfind("BrushLabels/Label")
    except ElementTree.ParseError as error:
        raise DataError(config, f"is not readable XML ({error})", "mend or remove it") from error
    return [label.get("value", "") for label in labels]
