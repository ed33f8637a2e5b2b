"""An audit of grey images with dark spots and bright scratches, and some labels that are wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from small import CallPipeline

from pipeline.config.schema import AuditConfig
from pipeline.errors import DataError
from pipeline.formats.coco import read_coco
from pipeline.io.images import write_png
from pipeline.metrics.label_errors.evidence import image_evidence
from pipeline.models.segmentation import pixel_probe
from pipeline.stages.audit import AuditResult, audit

SIDE = 160
WIDE = {"spot": (14, 14), "scratch": (6, 40)}  # height and width


def draw(root: Path, count: int = 12, good: int = 4) -> Path:
    """A product: `count` images of each category with one defect, and good ones."""
    generator = np.random.default_rng(0)

    def ground() -> np.ndarray:
        noise = generator.normal(128, 8, (SIDE, SIDE, 3))
        return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0))

    for number in range(good):
        write_png(root / "train" / "good" / f"{number:03d}.png", ground().astype(np.uint8))
    for name, (height, width) in WIDE.items():
        for number in range(count):
            image, mask = ground(), np.zeros((SIDE, SIDE), np.uint8)
            y, x = (int(generator.integers(4, SIDE - extent - 4)) for extent in (height, width))
            image[y : y + height, x : x + width] += -70 if name == "spot" else 70
            mask[y : y + height, x : x + width] = 255
            write_png(root / "test" / name / f"{number:03d}.png", image.clip(0, 255).astype("u1"))
            write_png(root / "ground_truth" / name / f"{number:03d}_mask.png", mask)
    return root


def read(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


def mask_of(product: Path, name: str, number: int) -> Path:
    return product / "ground_truth" / name / f"{number:03d}_mask.png"


def spoil(product: Path) -> None:
    """An empty mask, a mask at another place, and a missing second label."""
    write_png(mask_of(product, "spot", 1), np.zeros((SIDE, SIDE), np.uint8))
    moved = np.zeros((SIDE, SIDE), np.uint8)
    right = read(mask_of(product, "scratch", 2))
    moved[: WIDE["scratch"][0], : WIDE["scratch"][1]] = 255
    if right[:10].any():
        moved = moved[::-1].copy()
    write_png(mask_of(product, "scratch", 2), moved)
    path = product / "test" / "spot" / "003.png"
    image = read(path)
    top = 4 if not read(mask_of(product, "spot", 3))[:30].any() else 130
    image[top : top + 14, 40:54] = np.maximum(image[top : top + 14, 40:54], 70) - 70
    write_png(path, image)


@pytest.fixture(scope="module", autouse=True)
def _short_training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_probe, "_STEPS", 60)
        patch.setattr(pixel_probe, "_BATCH", 256)
        yield


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = draw(tmp_path_factory.mktemp("photos") / "plate")
    spoil(root)
    return root


@pytest.fixture(scope="module")
def audited(product: Path, tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    return audit(product, tmp_path_factory.mktemp("audits") / "out")


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "suspects.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_wrong_labels_come_first(audited: AuditResult) -> None:
    first = [(row["kind"], Path(row["image"]).name) for row in rows(audited.output)[:6]]
    assert first[0] == ("empty mask", "plate_test_spot_001.png")
    assert ("missed defect", "plate_test_spot_003.png") in first
    assert {"plate_test_scratch_002.png"} <= {name for _, name in first}
    assert audited.images == 28
    assert audited.labels == 23  # 12 and 12, one of which is empty
    assert audited.suspects["empty mask"] == 1
    assert audited.worst[0].startswith("1.00 empty mask on ")


@pytest.mark.slow
def test_an_audit_writes_pictures_and_labels_to_correct(audited: AuditResult) -> None:
    page = (audited.output / "audit.html").read_text()
    assert page.count("<figure>") == min(60, len(rows(audited.output)))
    review = audited.output / "review"
    assert {path.name for path in review.iterdir()} == {"coco", "cvat", "label-studio", "labelme"}
    labels = read_coco(review / "coco" / "annotations" / "instances.json", review / "coco/images")
    first = labels.records[0]
    assert Path(first.file_name).name == "plate_test_spot_001.png"  # the most suspicious
    worst = [
        float(q) for r in labels.records for q in labels.on(r).quality.get("label_quality", ())
    ]
    assert 0 <= min(worst) < 0.5
    suggested = json.loads((audited.output / "suggestions.json").read_text())
    assert {row["category_id"] for row in suggested["annotations"]} <= {1, 2}
    assert all(0 <= row["score"] <= 1 for row in suggested["annotations"])


@pytest.mark.slow
def test_a_stopped_audit_goes_on(
    product: Path, audited: AuditResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    look = image_evidence

    def stop(record: object, *rest: object, **options: object) -> object:
        if len(seen) == 20:
            raise KeyboardInterrupt
        seen.append(record.file_name)  # type: ignore[attr-defined]
        return look(record, *rest, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stages.audit.image_evidence", stop)
        with pytest.raises(KeyboardInterrupt):
            audit(product, tmp_path / "out")
    before, seen[:] = list(seen), []

    def note(record: object, *rest: object, **options: object) -> object:
        seen.append(record.file_name)  # type: ignore[attr-defined]
        return look(record, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("pipeline.stages.audit.image_evidence", note)
    again = audit(product, tmp_path / "out")
    assert sorted(before + seen) == sorted({*before, *seen})  # none is done twice
    assert (again.output / "suspects.csv").read_bytes() == (
        audited.output / "suspects.csv"
    ).read_bytes()


@pytest.mark.slow
def test_a_converted_set_is_audited_with_its_splits(
    product: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    data = tmp_path / "data"
    assert call_pipeline("convert-masks", product, "-o", data).code == 0
    ended = call_pipeline("audit", data, "-o", tmp_path / "out", "--folds", 2, "--json")
    assert ended.code == 0
    result = json.loads(ended.stdout)
    assert result["leaks"]["images"] == 0
    assert result["rare_categories"] == {}
    assert result["groups"]["by"] == "near-duplicates"


@pytest.mark.slow
def test_few_labels_are_not_ranked_and_rare_categories_are_named(tmp_path: Path) -> None:
    product = draw(tmp_path / "plate", 2, 2)
    result = audit(product, tmp_path / "out", AuditConfig(folds=2))
    assert result.rare_categories == {"scratch": 2, "spot": 2}
    assert "4 labels are too few" in result.notes[-1]
    assert {row["kind"] for row in rows(result.output)} <= {"missed defect"}


def test_a_set_of_one_object_and_one_without_labels_are_refused(tmp_path: Path) -> None:
    one = draw(tmp_path / "one", 1, 0)
    groups = tmp_path / "groups.csv"
    names = [f"test/{name}/000.png,same" for name in WIDE]
    groups.write_text("\n".join(["image,group", *names]) + "\n")
    with pytest.raises(DataError, match="the 2 images show one object"):
        audit(one, tmp_path / "out", AuditConfig(group_by=str(groups)))
    empty = draw(tmp_path / "empty", 1, 1)
    for name in WIDE:
        write_png(mask_of(empty, name, 0), np.zeros((SIDE, SIDE), np.uint8))
    with pytest.raises(DataError, match="holds no label"):
        audit(empty, tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


@pytest.mark.slow
def test_an_unreadable_image_is_one_line_or_left_out(
    tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    product = draw(tmp_path / "plate", 2, 2)
    broken = product / "test" / "spot" / "000.png"
    broken.write_bytes(broken.read_bytes()[:400])
    ended = call_pipeline("audit", product, "-o", tmp_path / "out")
    assert ended.code == 2
    assert "000.png" in ended.stderr.splitlines()[-1]
    ended = call_pipeline("audit", product, "-o", tmp_path / "out", "--keep-going", "--json")
    assert ended.code == 0
    assert "000.png" in json.loads(ended.stdout)["faults"][0]


@pytest.mark.slow
def test_jpeg_masks_are_cut_as_convert_masks_cuts_them(tmp_path: Path) -> None:
    """JPEG gives a mask values around its edge, which are no defects of their own."""
    product = draw(tmp_path / "plate", 2, 2)
    for name in WIDE:
        for number in range(2):
            path = mask_of(product, name, number)
            cv2.imwrite(str(path.with_suffix(".jpg")), read(path), [cv2.IMWRITE_JPEG_QUALITY, 60])
            path.unlink()
    assert audit(product, tmp_path / "out", AuditConfig(folds=2)).labels == 4
