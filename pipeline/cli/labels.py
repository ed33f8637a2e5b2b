"""Verbs that make, convert, count and check labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    CONFIG,
    FILE,
    KEEP,
    OUTPUT,
    OUTSIDE,
    SEED,
    SET,
    build,
    common,
    options,
)

if TYPE_CHECKING:
    from pipeline.runners.local import Runner
    from pipeline.stages.stats import PublishedName

_COPY = click.option("--copy-images", is_flag=True, help="Copy images instead of linking them.")
_LOSS = click.option("--polygon-loss", type=float,
                     help="Share of IoU a polygon may lose for fewer vertices [0].")  # fmt: skip
_LEAST = click.option("--min-iou", type=float,
                      help="Exit code 1 if an object keeps less than this IoU.")  # fmt: skip


@click.command()
@options(OUTPUT, SEED, CONFIG, SET)
@click.option("--size", type=click.Choice(["512", "1024"]), help="Side of the images [512].")
@click.option("--good-train", type=int, help="Good images for training [24].")
@click.option("--good-test", type=int, help="Good images for test [8].")
@click.option("--per-defect", help="Images of each defect, or `mvtec` for MVTec's counts [8].")
@click.option("--long-tail", nargs=2, type=int, help="Most and fewest images of a defect.")
@common
def synthesize(
    output: Path, config: Path | None, settings: tuple[str, ...], size: str | None, **said: Any
) -> Any:
    """Draw zippers with defects in MVTec's layout.

    They have seven kinds of defect."""
    from pipeline.stages.synthesize import synthesize as stage

    per_defect = said.pop("per_defect")
    if per_defect is not None:
        said["per_defect"] = int(per_defect) if per_defect.isdigit() else per_defect
    side = int(size) if size else None
    return stage(output, build("SynthesizeConfig", config, settings, size=side, **said))


@click.command("convert-masks")
@click.argument("products", nargs=-1, required=True, type=FILE)
@click.option("--images", type=FILE, help="Folder of a COCO file's images [beside it].")
@options(OUTPUT, SEED, KEEP, CONFIG, SET)
@click.option("--val", type=float, help="Share of images for validation [0.2].")
@click.option("--test", type=float, help="Share of images held out for test [0.2].")
@click.option("--folds", type=int, help="Also write this many folds over train and val.")
@click.option("--group-by", help="Regular expression on the file stem; its first parenthesis names "
              "the object, whose pictures never straddle a split.")  # fmt: skip
@click.option("--split-file", type=FILE, help="Reuse a split.json.")
@click.option("--one-instance", is_flag=True, help="One instance per image, not per component.")
@click.option("--min-area", type=int, help="Leave out specks of fewer pixels [0].")
@click.option("--bridge-gap", type=int, help="Join parts at most so many pixels apart [0].")
@click.option("--mask-threshold", type=int, help="Mask values above it are defect [0].")
@click.option("--polygons", is_flag=True, help="COCO polygons in place of RLE.")
@options(_COPY, _LOSS, _LEAST, OUTSIDE)
@click.option("--workers", type=int, default=0, help="Processes [one a core].")
@click.option("--runner", type=click.Choice(["local", "ray"]), default="local",
              help="Where the work is done: here, or on a Ray cluster [local].")  # fmt: skip
@common
def convert_masks(
    products: tuple[Path, ...], output: Path, config: Path | None, settings: tuple[str, ...],
    keep_going: bool, runner: Runner, workers: int, images: Path | None, allow_outside: bool,
    **said: Any,
) -> Any:  # fmt: skip
    """Turn MVTec masks into COCO, YOLO and PNG.

    COCO files with masks do in place of product folders; if all their images have parts, they keep
    them. It says what was lost."""
    from pipeline.stages.convert_masks import convert_masks as stage

    chosen = build("ConvertConfig", config, settings, **said)
    return stage(
        products, output, chosen, images=images, keep_going=keep_going, runner=runner,
        workers=workers, allow_outside=allow_outside,
    )  # fmt: skip


def _list_formats(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    from pipeline.formats.registry import FORMATS

    if wanted and not context.resilient_parsing:
        for name, form in FORMATS.items():
            print(f"{name:16} {form.about}")
        context.exit()


_FORMATS = click.option("--formats", is_flag=True, is_eager=True, expose_value=False,
                        callback=_list_formats, help="List the formats and leave.")  # fmt: skip


@click.command("export")
@click.argument("source", type=FILE)
@click.option("--to", required=True, metavar="FORMAT", help="What to write; see --formats.")
@click.option("--images", type=FILE, help="Folder of the images [beside the file].")
@click.option("--below", type=float, help="Only images with an object whose expected IoU, or score "
              "where there is none, is lower.")  # fmt: skip
@options(_FORMATS, OUTPUT, _COPY, _LOSS, _LEAST, OUTSIDE, CONFIG, SET)
@common
def export_labels(
    source: Path, to: str, images: Path | None, output: Path, config: Path | None,
    settings: tuple[str, ...], allow_outside: bool, **said: Any,
) -> Any:  # fmt: skip
    """Write labels for another tool.

    They come from a COCO file or a folder of convert-masks; it says what was lost."""
    from pipeline.stages.export_labels import export_labels as stage

    chosen = build("ExportConfig", config, settings, **said)
    return stage(source, to, output, chosen, images=images, allow_outside=allow_outside)


@click.command("import")
@click.argument("source", type=FILE)
@click.option("--from", "origin", required=True, metavar="FORMAT",
              help="What the source is; see --formats.")  # fmt: skip
@click.option("--images", type=FILE, help="Folder of the images, where the source does not say.")
@click.option("--onto", type=FILE, help="COCO labels of which the source holds some images, "
              "reviewed; the others are kept.")  # fmt: skip
@options(_FORMATS, OUTPUT, _COPY, _LEAST, OUTSIDE, CONFIG, SET)
@common
def import_labels(
    source: Path, origin: str, images: Path | None, onto: Path | None, output: Path,
    config: Path | None, settings: tuple[str, ...], allow_outside: bool, **said: Any,
) -> Any:  # fmt: skip
    """Read another tool's labels and write them as COCO."""
    from pipeline.stages.export_labels import import_labels as stage

    chosen = build("ExportConfig", config, settings, **said)
    return stage(
        source, origin, output, chosen, images=images, onto=onto, allow_outside=allow_outside
    )  # fmt: skip


@click.command()
@click.argument("sources", nargs=-1, required=True, type=FILE)
@click.option("--images", type=FILE, help="Folder of the COCO files' images [beside them].")
@click.option("--fix", is_flag=True, help="Mend what is safe; the originals stay as *.orig.")
@options(OUTSIDE)
@common
def validate(sources: tuple[Path, ...], images: Path | None, fix: bool, allow_outside: bool) -> Any:
    """Check COCO files and YOLO sets.

    Every fault is named; exit code 1 when one is left."""
    from pipeline.stages.validate import validate as stage

    return stage(sources, images=images, fix=fix, allow_outside=allow_outside)


@click.command()
@click.argument("source", type=FILE)
@click.option("--output", "-o", type=FILE, help="Folder for the pictures.")
@click.option("--mask-threshold", type=int, default=0, help="Mask values above it are defect [0].")
@click.option("--published", type=click.Choice(["mvtec-zipper"]),
              help="Compare the counts with a published table.")  # fmt: skip
@options(KEEP, OUTSIDE)
@common
def stats(
    source: Path, output: Path | None, keep_going: bool, mask_threshold: int,
    published: PublishedName | None, allow_outside: bool,
) -> Any:  # fmt: skip
    """Count and draw what a product or COCO file holds."""
    from pipeline.stages.stats import stats as stage

    return stage(
        source, output, mask_threshold=mask_threshold, published=published,
        keep_going=keep_going, allow_outside=allow_outside,
    )  # fmt: skip
