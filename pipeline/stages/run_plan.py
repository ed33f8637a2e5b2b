"""What a run does in a given time: how long each training is, by what it costs on this machine.

Every training keeps its share: with half of the time each takes half of its steps. The costs are
measured by benchmarks/step_costs.py, in the time of one training step of a whole network, and that
time is measured when a run begins.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

from pipeline.config.schema import RunConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.converted_set import read_objects
from pipeline.io.read import checked, read_json
from pipeline.io.write import write_json
from pipeline.runtime.progress import say
from pipeline.stages.finetune_segmenter import usual_steps

PLAN = "plan.json"
_FACTORS = (0.1, 10.0)  # of the steps in the configuration, the least and the most
_HALVINGS = 30  # until the factor is known to a millionth
_RESERVE = 0.08  # share of the time that is left free
_SIDE = 288  # pixels, of the images of the detector's cost
_BATCH = 6  # crops, of the cost of the segmenter


@dataclass(frozen=True)
class Counts:
    """What a run learns from: photos of train and val, their masks, and held-out photos."""

    photos: int
    masks: int
    held_out: int


@dataclass(frozen=True)
class Costs:
    """In steps of `step_seconds`, by benchmarks/step_costs.py (two cores of an Intel Xeon with AMX,
    2026-11-28).

    detector, sam, rest: of each, whatever is trained; rest: the other parts of a run.
    detector_photo: a photo of 288 pixels in one epoch. sam_step: a step. sam_mask: a mask, whatever
    the steps. decoder_step, step: of a network of the segmenter, without its encoder and with it.
    segmenter_photo: what a photo's map takes. label_photo: what its labels take. side_by_side: how
    many times sooner two trainings end side by side, by benchmarks/side_by_side.py.
    """

    detector: float = 39.0
    detector_photo: float = 0.19
    sam: float = 70.0
    sam_step: float = 0.53
    sam_mask: float = 0.97
    decoder_step: float = 0.68
    step: float = 0.75
    segmenter_photo: float = 0.88
    label_photo: float = 1.2
    rest: float = 100.0
    side_by_side: float = 1.5


@dataclass(frozen=True)
class Plan:
    """How long each training is. factor: of the steps in the configuration. seconds: by part, what
    each is expected to take."""

    factor: float
    epochs: int
    sam_steps: int
    decoder_steps: int
    steps: int
    seconds: dict[str, float]

    def apply(self, config: RunConfig) -> RunConfig:
        """The configuration with these steps."""
        segmenter = config.finetune_segmenter
        own = {"decoder_steps": self.decoder_steps, "steps": self.steps}
        return config.model_copy(
            update={
                "finetune": config.finetune.model_copy(
                    update={"epochs": self.epochs, "patience": max(self.epochs, 1)}
                ),
                "finetune_sam": config.finetune_sam.model_copy(update={"steps": self.sam_steps}),
                "finetune_segmenter": segmenter and segmenter.model_copy(update=own),
            }
        )


def planned(config: RunConfig, minutes: float, elapsed: float, at_once: int) -> RunConfig:
    """The configuration of a run whose photos are converted, for what is left of `minutes`.

    elapsed: seconds that went by. at_once: trainings that run side by side. Says what is planned. A
    run that goes on keeps its plan, which lies in `plan.json`.
    """
    counts = count(config.output / "data", keep_going=config.keep_going)
    key: JsonValue = {
        "minutes": minutes,
        "counts": {**asdict(counts)},
        "config": config.model_dump(mode="json"),
    }
    path = config.output / PLAN
    plan = _kept(path, key)
    if plan is None:
        from pipeline.models.devices import torch_device
        from pipeline.models.segmentation.step_time import step_seconds

        unit = step_seconds(torch_device(config.device))
        plan = choose(config, counts, 60 * minutes - elapsed, unit, at_once=at_once)
        write_json(path, {"for": key, "plan": {**asdict(plan)}})
    _say(plan, config, minutes)
    return plan.apply(config)


def count(data: Path, *, keep_going: bool) -> Counts:
    """What a folder of convert-masks holds."""
    train, test = (
        [
            dataset.on(record)
            for dataset in read_objects(data, splits, Faults(keep_going), good=True)
            for record in dataset.records
        ]
        for splits in (("train", "val"), ("test",))
    )
    return Counts(len(train), sum(map(len, train)), len(test))


def choose(
    config: RunConfig,
    counts: Counts,
    seconds: float,
    unit: float,
    costs: Costs | None = None,
    at_once: int = 1,
) -> Plan:
    """The longest plan within some seconds, or the shortest of all where even that takes longer.
    unit: of `step_seconds`. at_once: trainings that run side by side."""
    costs = costs or Costs()
    if at_once == 1:
        costs = replace(costs, side_by_side=1.0)
    least, most = _FACTORS
    budget = seconds * (1 - _RESERVE)
    for _ in range(_HALVINGS):
        middle = (least * most) ** 0.5
        if sum(_at(config, counts, middle, unit, costs).seconds.values()) <= budget:
            least = middle
        else:
            most = middle
    return _at(config, counts, least, unit, costs)


def _at(config: RunConfig, counts: Counts, factor: float, unit: float, costs: Costs) -> Plan:
    """The plan whose trainings have `factor` times the steps of the configuration."""
    finetune, sam, segmenter = config.finetune, config.finetune_sam, config.finetune_segmenter
    usual_decoder, usual = usual_steps(counts.masks)
    decoder_steps = (segmenter.decoder_steps if segmenter else None) or usual_decoder
    steps = (segmenter.steps if segmenter else None) or usual

    def times(number: int) -> int:
        return max(round(number * factor), 1)

    plan = Plan(
        round(factor, 4),
        times(finetune.epochs),
        times(sam.steps or max(200, 2 * counts.masks)),
        times(decoder_steps),
        times(steps),
        {},
    )
    photos = counts.photos + counts.held_out
    parts = {"the rest": costs.rest}
    area = (finetune.image_side / _SIDE) ** 2
    trainings = max(finetune.folds, 1)
    parts["detector"] = costs.detector + trainings * plan.epochs * counts.photos * area * (
        costs.detector_photo
    )
    if config.tune_sam:
        trainings = max(sam.folds, 1)
        parts["SAM"] = (
            costs.sam + counts.masks * costs.sam_mask + trainings * plan.sam_steps * costs.sam_step
        )
    if segmenter:
        batch = segmenter.batch / _BATCH
        each = batch * (plan.decoder_steps * costs.decoder_step + plan.steps * costs.step)
        networks = max(segmenter.folds, 1)
        parts["segmenter"] = networks * each + photos * costs.segmenter_photo
        parts["labels"] = photos * costs.label_photo
    for name in {"detector", "SAM", "segmenter"} & parts.keys():
        parts[name] /= costs.side_by_side
    return Plan(
        plan.factor, plan.epochs, plan.sam_steps, plan.decoder_steps, plan.steps,
        {name: round(cost * unit, 1) for name, cost in parts.items()},
    )  # fmt: skip


def _say(plan: Plan, config: RunConfig, minutes: float) -> None:
    def took(name: str) -> str:
        return f"{plan.seconds[name] / 60:.1f} min"

    segmenter = config.finetune_segmenter
    epochs = "1 epoch" if plan.epochs == 1 else f"{plan.epochs} epochs"
    parts = [f"detector {epochs} ({took('detector')})"]
    if config.tune_sam:
        parts.append(f"SAM {plan.sam_steps} steps ({took('SAM')})")
    if segmenter:
        networks = max(segmenter.folds, 1)
        parts.append(
            f"segmenter {networks} x ({plan.decoder_steps} + {plan.steps}) steps "
            f"({took('segmenter')})"
        )
        parts.append(f"labels ({took('labels')})")
    total = sum(plan.seconds.values()) / 60
    parts.append(f"the rest ({took('the rest')})")
    say(f"[plan] {minutes:g} minutes: {', '.join(parts)}; about {total:.1f} min from here")
    if plan.factor <= _FACTORS[0] * 1.001:
        say("[plan] this is the least that a run does: it may take longer than was asked for")


def _kept(path: Path, key: JsonValue) -> Plan | None:
    """The plan of an earlier call for the same; None where there is none."""
    if not path.is_file():
        return None
    try:
        written = checked(TypeAdapter(dict[str, JsonValue]), read_json(path), path)
        if written.get("for") != key:
            return None
        return checked(TypeAdapter(Plan), written.get("plan"), path)
    except DataError:
        return None
