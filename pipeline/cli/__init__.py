"""The command `pipeline`: read options and configuration, call one stage, print its summary."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

import pipeline
from pipeline.cli import anomalies, jobs, labels, models
from pipeline.cli.weights import weights
from pipeline.errors import PipelineError


def main() -> NoReturn:
    """Run the command. Exit code 0: done; 1: weights did not verify, or a fault of the program;
    2: the user must mend something; 130: stopped."""
    try:
        code = command.main(standalone_mode=False, prog_name="pipeline")
    except click.exceptions.Abort:
        _fail("stopped; call the same command again to go on", 130)
    except KeyboardInterrupt:
        _fail("stopped; call the same command again to go on", 130)
    except click.ClickException as error:
        _fail(f"{error.format_message()} (see --help)", 2)
    except PipelineError as error:
        _fail(str(error), 2)
    except MemoryError:
        _fail("out of memory; use a smaller batch or image side", 2)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}; mend it and try again", 2)
    except Exception as error:
        if os.environ.get("PIPELINE_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        _fail(f"a fault of the program ({what}); report it with PIPELINE_DEBUG=1's traceback", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> NoReturn:
    print(f"pipeline: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(pipeline.__version__, prog_name="pipeline")
def command() -> None:
    """From a few defect masks to a detector, masks and COCO labels for all the rest."""


_VERBS = (
    labels.synthesize,
    labels.convert_masks,
    labels.stats,
    labels.export_labels,
    labels.import_labels,
    labels.validate,
    weights,
    models.finetune_yolo,
    models.finetune_sam,
    models.segment,
    models.evaluate,
    models.classify,
    models.study,
    anomalies.anomaly,
    anomalies.label,
    anomalies.predict,
    anomalies.export_model,
    jobs.compare,
    jobs.report,
    jobs.run,
)
for _verb in _VERBS:
    command.add_command(_verb)
