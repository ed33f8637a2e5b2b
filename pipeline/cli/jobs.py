"""Verbs over whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import (
    DEVICE,
    FILE,
    OUTSIDE,
    OVERWRITE,
    SET,
    build,
    common,
    options,
)


@click.command()
@click.argument("run_folder", metavar="RUN", type=FILE)
@click.option("--output", "-o", type=FILE, help="HTML file to write [RUN/report.html].")
@common
def report(run_folder: Path, output: Path | None) -> Any:
    """Write the report of a run anew."""
    from pipeline.stages.report import report as stage

    return stage(run_folder, output)


@click.command()
@click.argument("run_folder", metavar="RUN", type=FILE)
@click.option("--output", "-o", type=FILE, help="Folder to write [RUN/comparison].")
@options(DEVICE)
@common
def compare(run_folder: Path, output: Path | None, device: str) -> Any:
    """Compare all models of a run.

    Which image is defective, which pixels are, at what cost in labels?"""
    from pipeline.stages.compare import compare as stage

    return stage(run_folder, output or run_folder / "comparison", device)


@click.command()
@click.argument("config", type=FILE)
@click.option("--output", "-o", type=FILE, help="Folder of the run, in place of the file's.")
@click.option("--device", help="In place of the file's [auto].")
@options(OVERWRITE, OUTSIDE, SET)
@common
def run(config: Path, settings: tuple[str, ...], overwrite: bool, **said: Any) -> Any:
    """Do a whole job, from photos to report.

    It draws or takes data, converts, fine-tunes, segments, classifies, evaluates, reports. A step
    whose inputs have not changed is skipped, one that was stopped goes on."""
    from pipeline.stages.run import run as stage

    summary = stage(build("RunConfig", config, settings, **said), overwrite)
    return {key: value for key, value in summary.items() if key != "stats"}
