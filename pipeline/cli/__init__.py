"""The command `pipeline`: read options and configuration, call one stage, print its summary."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

import click

import pipeline
from pipeline.cli import anomalies, jobs, labels, models, reviews
from pipeline.cli.weights import weights
from pipeline.errors import PipelineError
from pipeline.runtime import progress, signals

_STOPPED = "stopped; call the same command again to go on"
_READER_GONE = 141  # the shell's exit code for SIGPIPE


def main() -> NoReturn:
    """Run the command. Exit code 0: done; 1: weights did not verify, or a fault of the program;
    2: the user must correct something; 129, 130, 143: stopped by SIGHUP, SIGINT (Ctrl-C), SIGTERM;
    141: the reader of the summary closed it (`| head`)."""
    signals.install()
    text = ""
    try:
        try:
            code = _int(command.main(standalone_mode=False, prog_name="pipeline"))
            sys.stdout.flush()
        finally:
            signals.finish()
    except BaseException as error:
        if isinstance(error, Exception) and os.environ.get("PIPELINE_DEBUG"):
            raise
        text, code = _outcome(error)
    progress.clear_bars()
    if text:
        progress.write_line(f"pipeline: {' '.join(text.split())}")
    _leave_stdout()
    sys.exit(code)


def _outcome(error: BaseException) -> tuple[str, int]:
    """The line and the exit code for what ended a command. A signal counts before the errors that
    it may have caused."""
    if stopped := signals.exit_code():
        return _STOPPED, stopped
    if isinstance(error, (BrokenPipeError, SystemExit)):  # click turns the first into the second
        return "", _READER_GONE
    if isinstance(error, click.exceptions.Abort) and isinstance(error.__cause__, EOFError):
        error = error.__cause__  # the input ended before an answer
    if isinstance(error, (click.exceptions.Abort, KeyboardInterrupt)):
        return _STOPPED, 130
    return _fault(error)


def _fault(error: BaseException) -> tuple[str, int]:
    if isinstance(error, click.ClickException):
        return f"{error.format_message()} (see --help)", 2
    if isinstance(error, PipelineError):
        return str(error), 2
    if isinstance(error, MemoryError):
        return "out of memory; use a smaller batch or image side", 2
    if isinstance(error, OSError):
        where = error.filename or "system"
        return f"{where}: {error.strerror or error}; correct it and try again", 2
    what = f"{type(error).__name__}: {error}"
    return f"a fault of the program ({what}); report it with PIPELINE_DEBUG=1's traceback", 1


def _int(code: object) -> int:
    return code if isinstance(code, int) else 0


def _leave_stdout() -> None:
    """Drop what cannot be printed, so that the interpreter does not try again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    labels.audit,
    reviews.review,
    reviews.learn,
    reviews.next_images,
    weights,
    models.finetune_yolo,
    models.finetune_sam,
    models.finetune_segmenter,
    models.combine,
    models.calibrate,
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
