"""Commands that draw, convert, count and check labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    DEVICE,
    KEEP,
    OUTPUT,
    OUTSIDE,
    OVERWRITE,
    RUNNER,
    WORKERS,
    configured,
    options,
    printed,
)
from pipeline.cli.places import FILE

if TYPE_CHECKING:
    from pipeline.config.schema import (
        AuditConfig,
        ConvertConfig,
        ExportConfig,
        SynthesizeConfig,
    )
    from pipeline.runners import Runner
    from pipeline.stages.stats import PublishedName


@configured("SynthesizeConfig")
@options(OUTPUT)
def synthesize(config: SynthesizeConfig, output: Path) -> Any:
    """Draw zippers with defects in MVTec's layout.

    There are seven categories of defects."""
    from pipeline.stages.synthesize import synthesize as stage

    return stage(output=output, config=config)


@configured("ConvertConfig", "convert-masks")
@click.argument("products", nargs=-1, type=FILE)
@click.option(
    "--images", type=FILE, help="Folder of images: of a COCO file [beside it], or of --masks."
)
@click.option("--masks", type=FILE, help="Folder of masks, named as the images.")
@options(OUTPUT, KEEP, OUTSIDE)
@click.option("--workers", type=int, default=0, help="Processes [one for each core].")
@options(RUNNER)
def convert_masks(
    config: ConvertConfig, products: tuple[Path, ...], output: Path, images: Path | None,
    masks: Path | None, keep_going: bool, allow_outside: bool, workers: int, runner: Runner,
) -> Any:  # fmt: skip
    """Turn masks into COCO, YOLO and PNG.

    PRODUCTS are folders in a known layout, or COCO files with masks. If all images of these have a
    split, they keep it. In place of them, --images and --masks are a folder of images and one of
    their masks. The result counts what was lost."""
    from pipeline.stages.convert_masks import convert_masks as stage

    return stage(
        products=products, output=output, config=config, images=images, masks=masks,
        keep_going=keep_going, allow_outside=allow_outside, workers=workers, runner=runner,
    )  # fmt: skip


def _list_formats(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    from pipeline.formats.registry import FORMATS

    if is_given and not context.resilient_parsing:
        for name, form in FORMATS.items():
            print(f"{name:16} {form.about}")
        context.exit()


_FORMATS = click.option("--formats", is_flag=True, is_eager=True, expose_value=False,
                        callback=_list_formats, help="List the formats and leave.")  # fmt: skip


@configured("ExportConfig", "export", but=("annotator",))
@click.argument("source", type=FILE)
@click.option("--to", required=True, metavar="FORMAT", help="What to write; see --formats.")
@click.option("--images", type=FILE, help="Folder of the images [beside the file].")
@options(_FORMATS, OUTPUT, OUTSIDE, KEEP)
def export_labels(
    config: ExportConfig, source: Path, to: str, output: Path, images: Path | None,
    allow_outside: bool, keep_going: bool,
) -> Any:  # fmt: skip
    """Write labels for another tool.

    SOURCE is a COCO file, a folder of convert-masks, or a review. Where a review lies beside the
    labels, its labels are written. The result counts what was lost."""
    from pipeline.stages.export_labels import export_labels as stage

    return stage(
        source=source, to=to, output=output, config=config, images=images,
        allow_outside=allow_outside, keep_going=keep_going,
    )  # fmt: skip


@configured(
    "ExportConfig", "import", but=("below", "polygon_loss", "original", "finished", "shards")
)
@click.argument("source", type=FILE)
@click.option("--from", "origin", required=True, metavar="FORMAT",
              help="What the source is; see --formats.")  # fmt: skip
@click.option("--images", type=FILE, help="Folder of the images, where the source has none.")
@click.option("--onto", type=FILE, help="COCO labels that the source corrects: its images replace "
              "theirs, the others stay.")  # fmt: skip
@options(_FORMATS, OUTPUT, OUTSIDE, KEEP)
def import_labels(
    config: ExportConfig, source: Path, origin: str, output: Path, images: Path | None,
    onto: Path | None, allow_outside: bool, keep_going: bool,
) -> Any:  # fmt: skip
    """Read another tool's labels and write them as COCO."""
    from pipeline.stages.export_labels import import_labels as stage

    return stage(
        source=source, origin=origin, output=output, config=config, images=images, onto=onto,
        allow_outside=allow_outside, keep_going=keep_going,
    )  # fmt: skip


@click.command()
@click.argument("sources", nargs=-1, required=True, type=FILE)
@click.option("--images", type=FILE, help="Folder of the COCO files' images [beside them].")
@click.option("--fix", is_flag=True, help="Fix what is safe; the originals stay as *.orig.")
@options(OUTSIDE)
@printed
def validate(sources: tuple[Path, ...], images: Path | None, fix: bool, allow_outside: bool) -> Any:
    """Check COCO files and YOLO sets.

    Every fault is named with its place. Exit code 1 if one is left."""
    from pipeline.stages.validate import validate as stage

    return stage(sources=sources, images=images, fix=fix, allow_outside=allow_outside)


@configured("AuditConfig")
@click.argument("source", metavar="SET", type=FILE)
@click.option("--images", type=FILE, help="Folder of a COCO file's images [beside it].")
@options(OUTPUT, DEVICE, RUNNER, WORKERS, KEEP, OVERWRITE)
def audit(
    config: AuditConfig, source: Path, output: Path, images: Path | None, device: str,
    runner: Runner, workers: int, keep_going: bool, overwrite: bool,
) -> Any:  # fmt: skip
    """Search labels for errors.

    SET is a product folder, a folder of convert-masks, or a COCO file with masks. Missed defects,
    masks on nothing, wrong categories and loose outlines come out, the most suspicious first, as
    pictures and as labels to correct."""
    from pipeline.stages.audit import audit as stage

    return stage(
        source=source, output=output, config=config, images=images, device=device,
        keep_going=keep_going, overwrite=overwrite, runner=runner, workers=workers,
    )  # fmt: skip


@click.command()
@click.argument("source", type=FILE)
@click.option("--output", "-o", type=FILE, help="Folder for the plots.")
@click.option("--mask-threshold", type=int, help="Mask values above it are defect [0; of JPEG "
              "masks half-way between background and defects].")  # fmt: skip
@click.option("--published", type=click.Choice(["mvtec-zipper"]),
              help="Compare the counts with a published table.")  # fmt: skip
@options(KEEP, OUTSIDE)
@printed
def stats(
    source: Path, output: Path | None, mask_threshold: int | None, published: PublishedName | None,
    keep_going: bool, allow_outside: bool,
) -> Any:  # fmt: skip
    """Count and plot what a product or a COCO file holds."""
    from pipeline.stages.stats import stats as stage

    return stage(
        source=source, output=output, keep_going=keep_going, mask_threshold=mask_threshold,
        published=published, allow_outside=allow_outside,
    )  # fmt: skip
