"""`pipeline synthesize`: draw the default product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.labels import SynthesizeConfig
from pipeline.io.run_record import RunRecord
from pipeline.results import StageResult
from pipeline.synthesis.defects import DEFECTS
from pipeline.synthesis.product import MVTEC_ZIPPER, long_tail, write_product

_DEFAULT = SynthesizeConfig()


@dataclass(frozen=True, kw_only=True)
class SynthesizeResult(StageResult):
    """output: the product folder. images: their number. side: of each image, in pixels. defects:
    number of images by category."""

    output: Path
    images: int
    side: int
    defects: Mapping[str, int]


def synthesize(output: Path, config: SynthesizeConfig = _DEFAULT) -> SynthesizeResult:
    """Draw a zipper product in MVTec's layout into `output`.

    Raises ConfigError for an impossible long tail, DataError when a file cannot be written.
    """
    record = RunRecord("synthesize", config.model_dump(mode="json"))
    counts = _counts(config)
    with record.whole_folder(output) as folder:
        images = write_product(
            folder, config.size, config.good_train, config.good_test, counts, config.seed
        )
        result = SynthesizeResult(output=output, images=images, side=config.size, defects=counts)
        record.write(folder, result.to_json())
    return result


def _counts(config: SynthesizeConfig) -> Mapping[str, int]:
    """The number of images of each defect."""
    if config.long_tail:
        return long_tail(*config.long_tail)
    if config.per_defect == "mvtec":
        return MVTEC_ZIPPER
    return dict.fromkeys(DEFECTS, config.per_defect)
