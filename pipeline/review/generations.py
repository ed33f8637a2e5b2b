"""What a run learned from its reviews: folders `learned/1`, `learned/2` and so on, each with its
models and the labels that it proposes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.io.read import RUN_FILE
from pipeline.io.run_record import RunFile, read_run_file
from pipeline.review.proposing import ProposedLabels, propose
from pipeline.review.source import Source, read_labels
from pipeline.review.store import ReviewStore

LEARNED, LABELS = "learned", "labels"  # folders of a run, and of a generation
_MODELS = ("segmenter", "sam", "detector", "labeller", "anomaly_patchcore")
_NOTE = "proposed"  # entry of a session: the last generation whose labels it has


@dataclass(frozen=True)
class Generation:
    """number: from 1; 0 is the run itself. folder: of its models."""

    number: int
    folder: Path

    @property
    def record(self) -> RunFile | None:
        """Its run.json; None for one that is not finished, and for the run itself."""
        path = self.folder / RUN_FILE
        if not self.number or not path.is_file():
            return None
        return read_run_file(self.folder)


def generations(run: Path) -> list[Generation]:
    """The run itself, then what was learned, the unfinished last one too."""
    found = [Generation(0, run)]
    while (folder := run / LEARNED / str(len(found))).is_dir():
        found.append(Generation(len(found), folder))
    return found


def finished_generations(run: Path) -> list[Generation]:
    """The run itself, then the finished ones."""
    return [
        each for each in generations(run) if not each.number or (each.folder / RUN_FILE).is_file()
    ]


def last_models(run: Path) -> dict[str, Path]:
    """The last folder of each model of a run, by its name."""
    return {
        name: generation.folder / name
        for generation in finished_generations(run)
        for name in _MODELS
        if (generation.folder / name / "card.json").is_file()
    }


def offered(run: Path, store: ReviewStore) -> Generation | None:
    """The last finished generation, if the session has not its labels yet."""
    last = finished_generations(run)[-1]
    return last if last.number > _known(store) else None


def propose_labels(store: ReviewStore, generation: Generation) -> ProposedLabels:
    """Let the labels of a generation enter a session, as actions. Raises DataError for labels that
    cannot be read, and when the system refuses."""
    path = generation.folder / LABELS / "instances.json"
    who, notes = f"learn {generation.number}", {_NOTE: str(generation.number)}
    if not path.is_file():  # no image was left
        return propose(store, (), {}, {}, who, notes)
    found = read_labels(Source(path, None, "", store.path))
    ids = {image.file_name: image.id for image in store.images()}
    labels, missed = {}, {}
    for record in found.dataset.records:
        if (number := ids.get(record.file_name)) is not None:
            labels[number] = found.dataset.on(record)
            if record.id in found.missed:
                missed[number] = found.missed[record.id]
    return propose(store, found.dataset.categories, labels, missed, who, notes)


def _known(store: ReviewStore) -> int:
    """The last generation whose labels a session has; 0 for none."""
    text = store.note(_NOTE) or "0"
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
