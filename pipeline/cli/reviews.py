"""The commands of a review: to serve it, to learn from it, and to go on with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import DEVICE, KEEP, OVERWRITE, configured, options
from pipeline.cli.places import FILE

if TYPE_CHECKING:
    from pipeline.config.schema import LearnConfig, NextConfig, ReviewConfig


@configured("ReviewConfig", "review")
@click.argument("source", metavar="RUN|COCO", type=FILE)
@click.option("--images", type=FILE, help="Folder of the images [beside the labels].")
@click.option("--session", type=FILE, help="File that keeps the review [beside the labels].")
@click.option("--heatmaps", type=FILE, help="Folder of heat maps, as anomaly writes it.")
@click.option("--as", "who", default="", metavar="NAME", help="Who reviews [the user's name].")
@click.option("--host", default="127.0.0.1", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=click.IntRange(0, 65535), help="Port [8765, or the next free one].")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@options(DEVICE)
def review(
    config: ReviewConfig, source: Path, images: Path | None, session: Path | None,
    heatmaps: Path | None, who: str, host: str, port: int | None, no_browser: bool, device: str,
) -> Any:  # fmt: skip
    """Correct labels in the browser.

    RUN|COCO is a COCO file, or the folder of segment, label, convert-masks or run. The page opens,
    and its address is printed. Every action is kept in a file beside the labels, which never
    change; Ctrl-C ends the server, and the same command goes on. `export` writes the result."""
    from pipeline.stages.review_labels import review_labels as stage

    def opened(address: str) -> None:
        print(address, flush=True)
        if not no_browser:
            from pipeline.review.serve import open_browser

            open_browser(address)

    return stage(
        source=source, config=config, images=images, session=session, heatmaps=heatmaps,
        device=device, who=who, host=host, port=port, opened=opened,
    )  # fmt: skip


@configured("LearnConfig")
@click.argument("run_folder", metavar="RUN", type=FILE)
@click.option("--labels", type=FILE, help="Labels that were reviewed [those of the run].")
@click.option("--images", type=FILE, help="Folder of their images [beside the labels].")
@click.option("--session", type=FILE, help="File that keeps the review [beside the labels].")
@options(DEVICE, KEEP, OVERWRITE)
def learn(
    config: LearnConfig, run_folder: Path, labels: Path | None, images: Path | None,
    session: Path | None, device: str, keep_going: bool, overwrite: bool,
) -> Any:  # fmt: skip
    """Let the models of a run learn from its review.

    RUN is the folder of pipeline run. Images that a person marked, or whose labels are all judged,
    are learned from; the others get new labels, which enter the review. A stopped run goes on when
    the command is called again."""
    from pipeline.stages.learn import learn as stage

    return stage(
        run=run_folder, config=config, labels=labels, images=images, session=session,
        device=device, keep_going=keep_going, overwrite=overwrite,
    )  # fmt: skip


@configured("NextConfig", "next")
@click.argument("run_folder", metavar="RUN", type=FILE)
@click.option("--images", type=FILE, help="Folder to choose from [the run's labelled images].")
@click.option("--output", "-o", type=FILE, help="File of the names to write [RUN/next.txt].")
@options(DEVICE, KEEP)
def next_images(
    config: NextConfig, run_folder: Path, images: Path | None, output: Path | None, device: str,
    keep_going: bool,
) -> Any:  # fmt: skip
    """Choose the images to label next.

    RUN is the folder of pipeline run. Those come first whose labels are doubtful, and which are
    unlike what the models have learned from and unlike each other."""
    from pipeline.stages.next_images import next_images as stage

    return stage(
        run=run_folder, config=config, images=images, output=output, device=device,
        keep_going=keep_going,
    )  # fmt: skip
