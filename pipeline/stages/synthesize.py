"""`pipeline synthesize`: draw the default product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.schema import SynthesizeConfig
from pipeline.io.run_record import RunRecord
from pipeline.synthesis.defects import DEFECTS
from pipeline.synthesis.product import MVTEC_ZIPPER, long_tail, write_product


def synthesize(output: Path, config: SynthesizeConfig) -> dict[str, Any]:
    """Draw a zipper product in MVTec layout into `output`. Returns counts."""
    record = RunRecord("synthesize", config.model_dump(mode="json"))
    if config.long_tail:
        counts = long_tail(*config.long_tail)
    elif config.per_defect == "mvtec":
        counts = MVTEC_ZIPPER
    else:
        counts = dict.fromkeys(DEFECTS, config.per_defect)
    with record.whole_folder(output) as folder:
        images = write_product(
            folder, config.size, config.good_train, config.good_test, counts, config.seed
        )
        summary = {"output": str(output), "images": images, "side": config.size, "defects": counts}
        record.write(folder, summary)
    return summary
