"""What convert-masks reports: the counts of each image, added up while images are converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.metrics.fidelity import Comparison
from pipeline.types import GOOD, ImageRecord

_EXAMPLES = 3  # places of tiny instances that are named


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """images: of a split, `good` of them without defect. instances: objects on them."""

    images: int = 0
    good: int = 0
    instances: int = 0


@dataclass(frozen=True)
class Converted:
    """One converted image: its entry and annotations as JSON texts, the comparison of each format,
    and the losses; see `ConvertMasksResult`."""

    image: str
    rows: Sequence[str]
    comparisons: Mapping[str, Comparison]
    specks: int = 0
    pixels: int = 0
    pixels_in_coco: int = 0
    grey: bool = False
    joined: int = 0
    torn: int = 0
    tiny: tuple[str, ...] = ()


@dataclass
class ConvertedCounts:
    """The counts of a conversion, added up image by image; see `ConvertMasksResult`."""

    images: int = 0
    instances: int = 0
    specks_dropped: int = 0
    pixels_in_masks: int = 0
    pixels_in_coco: int = 0
    masks_with_grey_values: int = 0
    kept_whole: int = 0
    torn_pieces: int = 0
    tiny_instances: int = 0
    tiny_examples: tuple[str, ...] = ()
    mostly_defect: int = 0
    defect_images_without_instance: tuple[str, ...] = ()
    splits: dict[str, SplitCounts] = field(default_factory=dict)

    def add(self, record: ImageRecord, converted: Converted) -> None:
        """Count one image."""
        before = self.splits.get(record.split, SplitCounts())
        self.splits[record.split] = SplitCounts(
            images=before.images + 1,
            good=before.good + (record.defect == GOOD),
            instances=before.instances + len(converted.rows),
        )
        self.images += 1
        self.instances += len(converted.rows)
        self.specks_dropped += converted.specks
        self.pixels_in_masks += converted.pixels
        self.pixels_in_coco += converted.pixels_in_coco
        self.masks_with_grey_values += converted.grey
        self.kept_whole += converted.joined
        self.torn_pieces += converted.torn
        self.tiny_instances += len(converted.tiny)
        self.tiny_examples = (*self.tiny_examples, *converted.tiny)[:_EXAMPLES]
        self.mostly_defect += converted.pixels * 2 > record.height * record.width
        if record.masks and not converted.rows:
            self.defect_images_without_instance += (str(record.path),)

    def inverted_note(self) -> tuple[str, ...]:
        """A note where most masks are defect over most of the image: black may be the defect."""
        masks = sum(split.images - split.good for split in self.splits.values())
        if self.mostly_defect * 2 <= masks:
            return ()
        text = "masks are defect over more than half of their image: where black is the defect,"
        return (f"{self.mostly_defect} of {masks} {text} invert them",)
