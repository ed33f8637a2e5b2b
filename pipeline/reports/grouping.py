"""Which images of a set show one object, and what a split does to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.converted_set import leak_text
from pipeline.formats.groups import NEAR_DUPLICATES, group_by, group_file
from pipeline.io.images import read_image, write_png
from pipeline.runners import Runner
from pipeline.runtime.progress import say
from pipeline.splits import leaks, merge_groups
from pipeline.types import Dataset, ImageRecord
from pipeline.visualization.pairs import Captioned, side_by_side

_NAMED, _DRAWN = 3, 12  # pairs of a leak that are named, and drawn
PICTURE = "leaks.png"


@dataclass(frozen=True, kw_only=True)
class GroupCounts:
    """by: near-duplicates, none, file or pattern. images: those that share a group with another.
    groups: of at least two images. largest: images of the largest group."""

    by: str
    images: int = 0
    groups: int = 0
    largest: int = 1


@dataclass(frozen=True, kw_only=True)
class LeakCounts:
    """images: held-out images whose object train or val has too, of `held_out`. examples: of
    pairs, held out and not."""

    images: int
    held_out: int
    examples: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Grouping:
    """A dataset whose records have their groups. near: for each record its near-duplicates, the
    most alike first. notes: what the user should know."""

    dataset: Dataset
    counts: GroupCounts
    near: Mapping[int, tuple[int, ...]]
    notes: tuple[str, ...] = ()


def grouped(
    dataset: Dataset, by: str, roots: Sequence[Path], runner: Runner = "local", workers: int = 0
) -> Grouping:
    """Group the images of a set; groups that the layout gives stay together.

    by: see `ConvertConfig.group_by`. roots: the folders that paths of images are relative to.
    Raises DataError and ConfigError as `formats.groups.group_by`.
    """
    if by == NEAR_DUPLICATES:
        return _by_near_duplicates(dataset, runner, workers)
    by_user = group_by(dataset, by, roots)
    notes = (f"{by_user.unmatched} images have no match of --group-by, and are alone",)
    way = "none" if by == "none" else "file" if group_file(by) else "pattern"
    return Grouping(
        by_user.dataset, _counts(by_user.dataset, way), {}, notes * bool(by_user.unmatched)
    )


def _by_near_duplicates(dataset: Dataset, runner: Runner, workers: int) -> Grouping:
    from pipeline.models.near_duplicates.search import find_near_duplicates  # loads scipy

    duplicates = find_near_duplicates(dataset.records, runner, workers)
    near: dict[int, list[int]] = {}
    for pair in sorted(duplicates.pairs, key=lambda pair: -pair.agreement):
        near.setdefault(pair.one, []).append(pair.other)
        near.setdefault(pair.other, []).append(pair.one)
    joined = merge_groups(dataset, ((pair.one, pair.other) for pair in duplicates.pairs))
    notes: tuple[str, ...] = ()
    if duplicates.unreadable:
        first = dataset.records[duplicates.unreadable[0]].path
        count = len(duplicates.unreadable)
        notes = (f"{count} images cannot be read, and are not compared, such as {first}",)
    return Grouping(joined, _counts(joined, by=NEAR_DUPLICATES),
                    {row: tuple(others) for row, others in near.items()}, notes)  # fmt: skip


def _counts(dataset: Dataset, by: str) -> GroupCounts:
    sizes = [n for n in Counter(record.group for record in dataset.records).values() if n > 1]
    return GroupCounts(by=by, images=sum(sizes), groups=len(sizes), largest=max(sizes, default=1))


def lacking_splits(records: Sequence[ImageRecord], wanted: Sequence[str]) -> tuple[str, ...]:
    """A note for a set with fewer groups than splits: what is missing, and what it means.

    wanted: the splits that the settings name. Empty where each has an image.
    """
    missing = [name for name in wanted if name not in {record.split for record in records}]
    if not missing:
        return ()
    objects, none = len({record.group for record in records}), " and ".join(missing)
    if len(records) == 1:
        return (f"{records[0].path} is the only image: there is no {none} split to measure on",)
    shown = "one object" if objects == 1 else f"{objects} objects"
    return (
        f"the {len(records)} images show {shown}: there is no {none} split, and no figure of this "
        "set holds for other objects; --group-by none splits by image",
    )


def report_leaks(folder: Path, grouping: Grouping, records: Sequence[ImageRecord]) -> LeakCounts:
    """Count the held-out images whose object is in another split, name some, and draw them as
    `leaks.png` in `folder`. records: with their splits, in the order of the grouping's dataset."""
    leaking = leaks(records)
    test = "test" if any(record.split == "test" for record in records) else "val"
    held_out = sum(record.split == test for record in records)
    if not leaking:
        return LeakCounts(images=0, held_out=held_out)
    pairs = _pairs(leaking, grouping.near, records)
    _draw(folder / PICTURE, pairs[:_DRAWN])
    examples = tuple(f"{a.file_name} = {b.file_name}" for a, b in pairs[:_NAMED])
    return LeakCounts(images=len(leaking), held_out=held_out, examples=examples)


def leak_note(leaking: LeakCounts) -> tuple[str, ...]:
    """The warning of a split that leaks, which is also printed; empty for one that does not."""
    if not leaking.examples:
        return ()
    text = leak_text(leaking.images, leaking.held_out)
    note = f"{text}, such as {leaking.examples[0]}; see {PICTURE}. Figures on them are too high"
    say(note)
    return (note,)


def _pairs(
    leaking: Mapping[int, tuple[int, ...]], near: Mapping[int, tuple[int, ...]],
    records: Sequence[ImageRecord],
) -> list[tuple[ImageRecord, ImageRecord]]:  # fmt: skip
    """For each leaking image the one in training that is most alike; those that are alike
    themselves, not only in one group, come first."""
    alike: list[tuple[ImageRecord, ImageRecord]] = []
    others: list[tuple[ImageRecord, ImageRecord]] = []
    for row, rows in leaking.items():
        close = [other for other in near.get(row, ()) if other in set(rows)]
        (alike if close else others).append((records[row], records[(close or rows)[0]]))
    return alike + others


def _draw(path: Path, pairs: Sequence[tuple[ImageRecord, ImageRecord]]) -> None:
    drawn = []
    for pair in pairs:
        try:
            one, other = (_captioned(record) for record in pair)
        except DataError:
            continue  # the conversion names a file that cannot be read
        drawn.append((one, other))
    if drawn:
        write_png(path, side_by_side(drawn))


def _captioned(record: ImageRecord) -> Captioned:
    return read_image(record.path), f"{record.split}: {record.path.name}"
