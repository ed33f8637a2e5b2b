"""A folder of images and a folder of masks of the same names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import DataError, Faults
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.layouts.class_tables import LABEL_MAP, TABLES, table_in, values_of
from pipeline.formats.layouts.jpeg_masks import threshold_notes
from pipeline.formats.layouts.label_maps import (
    CategoryNames,
    Meaning,
    Seen,
    look_at,
    meaning_of,
    parse_categories,
)
from pipeline.formats.layouts.letter_case import other_letters
from pipeline.formats.layouts.listing import Layout, Listed, Search, inner
from pipeline.formats.layouts.pairs import PairedMask, Pairs, pair_up
from pipeline.formats.layouts.records import as_dataset, records_of
from pipeline.formats.record_masks import value_name
from pipeline.io.mask_files import MaskSource, read_mask_values
from pipeline.runtime.progress import say
from pipeline.types import GOOD, SPLITS, Dataset, ImageRecord, split_of

DEFECT = "defect"
_BY_FOLDER = "folders"
_GOOD_NAMES = frozenset({GOOD, "ok", "normal"})
_SHOWN = 5


@dataclass(frozen=True)
class MaskFolders:
    """suffix: of the names of masks; None finds it. categories: what `--categories` says. meaning:
    of the values of masks. threshold: values above it are defect; see `Search`."""

    images: Path
    masks: Path
    suffix: str | None = None
    categories: str | None = None
    meaning: Meaning = "auto"
    threshold: int | None = None


@dataclass(frozen=True)
class FolderListing:
    """The images of two folders. without_mask: images that have none, which are good; None for
    products. notes: what
    was found out about names and values."""

    dataset: Dataset
    without_mask: int | None = None
    notes: tuple[str, ...] = ()


def read_mask_folders(
    folders: MaskFolders, faults: Faults, allow_outside: bool = False
) -> FolderListing:
    """List the images of a folder with the masks of another. An image without mask is good; so is
    one whose masks are black. Raises DataError, ConfigError; `faults` takes single files."""
    inside = NamedFolders([folders.images, folders.masks], allow_outside)
    search = Search(folders.images, inside, faults, threshold=folders.threshold)
    listed, notes = _listed(folders, inside, faults)
    records = records_of(listed, search)
    without = sum(not entry.masks for entry in listed)
    if without:
        notes.append(f"{without} images have no mask: they are good")
    notes += _without_defect(listed, records, folders.threshold)
    notes += threshold_notes(records, folders.threshold)
    if not records:
        raise DataError(folders.images, "holds no usable image", "check the path")
    dataset = as_dataset(_with_splits(records), faults)
    return FolderListing(dataset, without, tuple(notes))


def _without_defect(
    listed: Sequence[Listed], records: Sequence[ImageRecord], threshold: int | None
) -> list[str]:
    """Notes on images whose masks show no defect: black ones, and those that a threshold cuts."""
    good = {record.path for record in records if record.defect == GOOD}
    sources = [entry.masks for entry in listed if entry.masks and entry.path in good]
    highest = [
        max((int(read_mask_values(mask.path).max(initial=0)) for mask in own), default=0)
        for own in (sources if threshold else ())
    ]
    faint = sum(value > 0 for value in highest)
    notes = []
    if black := len(sources) - faint:
        notes.append(f"{black} images have black masks: they are good")
    if faint:
        notes.append(
            f"{faint} images have masks without a value above --mask-threshold {threshold}: they "
            f"are taken as good; their highest value is {max(highest)}"
        )
    return notes


def _listed(
    folders: MaskFolders, inside: NamedFolders, faults: Faults
) -> tuple[list[Listed], list[str]]:
    """The images with their masks, and notes on names and values."""
    names, table = _names(folders, inside)
    pairs = pair_up(folders.images, folders.masks, folders.suffix, faults)
    notes = [f"the categories are those of {table}"] if table else []
    notes += [f"the names of masks end in {pairs.suffix}"] if pairs.suffix else []
    if (starts := pairs.prefixes)[1]:
        notes.append(
            f"the names of masks begin with {starts[1]}, of images with {starts[0] or '-'}"
        )
    if pairs.other_letters:
        letters = {mask.name: image.name for mask, image in pairs.other_letters.items()}
        notes.append(other_letters(letters))
    masks = _checked(pairs, inside, faults)
    by_folder, note = _by_folder(folders, masks, names)
    notes += [note] if note else []
    meaning, values, more = _meaning(folders, names, masks)
    rules = _Rules(folders.images, names, by_folder, meaning, values, table)
    return [rules.listed(path, own) for path, own in masks.items()], notes + more


def _names(folders: MaskFolders, inside: NamedFolders) -> tuple[CategoryNames, Path | None]:
    """The names that the user gives; else those of a table beside the masks or their folder, and
    that table."""
    if folders.categories or folders.meaning in {"defect", "instances"}:
        return parse_categories(folders.categories), None
    for folder in (folders.masks, folders.masks.parent):
        if table := table_in(folder, (*TABLES, LABEL_MAP)):
            (NamedFolders([folder]) if folder != folders.masks else inside).refuse_outside(table)
            is_map = table.name.lower() == LABEL_MAP
            return (
                parse_categories(str(table)) if is_map else CategoryNames(values_of(table))
            ), table
    return CategoryNames(), None


def _listed_folder(search: Search) -> Iterator[Listed]:
    """The folders `images` and `masks` in one folder."""
    folders = MaskFolders(inner(search.root, "images"), inner(search.root, "masks"))
    listed, notes = _listed(folders, search.inside, search.faults)
    for note in notes:
        say(note)
    yield from listed


FOLDERS = Layout("images and masks", {"images": "images/", "masks": "masks/"}, _listed_folder)


@dataclass(frozen=True)
class _Rules:
    """How a mask becomes a source of pixels. table: that names the values, if the user does not."""

    root: Path
    names: CategoryNames
    by_folder: bool
    meaning: Meaning
    values: tuple[tuple[int, str], ...]
    table: Path | None = None

    def listed(self, path: Path, masks: Sequence[PairedMask]) -> Listed:
        name = path.relative_to(self.root).as_posix()
        sources = tuple(self._source(path, mask) for mask in masks)
        return Listed(path, name, "", "" if masks else GOOD, sources)

    def _source(self, image: Path, mask: PairedMask) -> MaskSource:
        category = self._category(image, mask)
        if self.meaning == "categories" and not mask.folders:
            return MaskSource(mask.path, values=self.values, table=self.table)
        return MaskSource(mask.path, category, mask.is_instance,
                          is_numbered=self.meaning == "instances")  # fmt: skip

    def _category(self, image: Path, mask: PairedMask) -> str:
        folders = [name for name in mask.folders if name not in SPLITS]
        if self.names.single and self.names.single != _BY_FOLDER:
            return self.names.single
        if folders:
            return "_".join(folders)
        own = [name for name in image.relative_to(self.root).parts[:-1] if name not in SPLITS]
        return "_".join(own) if own and self.by_folder else DEFECT


def _by_folder(
    folders: MaskFolders, masks: dict[Path, tuple[PairedMask, ...]], names: CategoryNames
) -> tuple[bool, str]:
    """Whether the folders that images and masks share are categories, and a note that says so."""
    shared = {path.relative_to(folders.images).parts[:-1] for path in masks}
    own = sorted({name for parts in shared for name in parts} - set(SPLITS))
    if not own or names.single not in {"", _BY_FOLDER}:
        return False, ""
    text = ", ".join(own[:_SHOWN]) + (", ..." if len(own) > _SHOWN else "")
    if names.single == _BY_FOLDER or any(name.lower() in _GOOD_NAMES for name in own):
        return True, f"folders are taken as categories: {text} (else --categories {DEFECT})"
    return False, f"folders are not taken as categories: {text} (else --categories {_BY_FOLDER})"


def _meaning(
    folders: MaskFolders, names: CategoryNames, masks: dict[Path, tuple[PairedMask, ...]]
) -> tuple[Meaning, tuple[tuple[int, str], ...], list[str]]:
    """What the values of the masks mean, the category of each, and notes that say so."""
    plain = [mask.path for own in masks.values() for mask in own if not mask.folders]
    if names.values:
        return "categories", names.values, []
    if folders.meaning in {"defect", "instances"}:
        return folders.meaning, (), []
    if names.single and names.single != _BY_FOLDER:
        return "defect", (), []
    seen = look_at(plain, folders.masks)
    meaning = (
        folders.meaning if folders.meaning == "categories" else meaning_of(seen, folders.masks)
    )
    if meaning != "categories":
        return meaning, (), _soft(seen, folders.threshold)
    values = tuple((value, value_name(value)) for value in sorted(seen.values))
    shown = ", ".join(name for _, name in values[:_SHOWN]) + (
        ", ..." if len(values) > _SHOWN else ""
    )
    note = (
        f"values {shown} of the masks are taken as categories of that name; name them by "
        f"--categories {values[0][1] if values else 1}=NAME,..., or say what they are by "
        "--mask-values"
    )
    return "categories", values, [note]


def _soft(seen: Seen, threshold: int | None) -> list[str]:
    if len(seen.values) < 2:
        return []
    return [
        f"masks have soft edges ({len(seen.values)} values): values above {threshold or 0} are "
        "defect; "
        "another --mask-threshold cuts elsewhere"
    ]


def _checked(
    pairs: Pairs, inside: NamedFolders, faults: Faults
) -> dict[Path, tuple[PairedMask, ...]]:
    """The pairs without masks that lie outside the folders."""
    kept: dict[Path, tuple[PairedMask, ...]] = {}
    for path, masks in pairs.masks.items():
        try:
            for mask in masks:
                inside.refuse_outside(mask.path)
        except DataError as error:
            faults.add(error)
            continue
        kept[path] = masks
    return kept


def _with_splits(records: list[ImageRecord]) -> list[ImageRecord]:
    """The records with the split that their folder names."""
    return [replace(record, split=split_of(record.file_name)) for record in records]
