"""Commands over whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import DEVICE, KEEP, OVERWRITE, configured, options, printed
from pipeline.cli.places import FILE

if TYPE_CHECKING:
    from pipeline.config.schema import RunConfig


@click.command()
@click.argument("run_folder", metavar="RUN", type=FILE)
@click.option("--output", "-o", type=FILE, help="HTML file to write [RUN/report.html].")
@printed
def report(run_folder: Path, output: Path | None) -> Any:
    """Write the report of a run again."""
    from pipeline.stages.report import report as stage

    return stage(run_folder, output)


@click.command()
@click.argument("run_folder", metavar="RUN", type=FILE)
@click.option("--output", "-o", type=FILE, help="Folder to write [RUN/comparison].")
@options(DEVICE, KEEP)
@printed
def compare(run_folder: Path, output: Path | None, device: str, keep_going: bool) -> Any:
    """Compare all models of a run.

    Which image is defective, which pixels are, and at what cost in labels?"""
    from pipeline.stages.compare import compare as stage

    folder = output or run_folder / "comparison"
    return stage(run_folder, folder, device=device, keep_going=keep_going)


@configured("RunConfig", but=("output",), file_argument=True)
@click.option("--output", "-o", type=FILE, help="Folder of the run, in place of the file's.")
@options(OVERWRITE)
def run(config: RunConfig, output: Path | None, overwrite: bool) -> Any:
    """Do a whole job, from photos to report.

    It draws or takes data, converts, fine-tunes, segments, classifies, evaluates and reports. A
    step whose inputs have not changed is skipped, one that was stopped goes on."""
    from pipeline.stages.run import run as stage

    if output:
        config = config.model_copy(update={"output": output})
    return stage(config, overwrite=overwrite)
