"""The SAMs of a cross-validation, kept beside the tuned one: a training photo is segmented by the
SAM that did not learn from it.

Each is a delta in `folds/N` of a finetune-sam folder. The card has its sha256 and the photos that
it did not learn from. It views objects as the tuned SAM does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.io.read import checked, read_json, sha256_of
from pipeline.io.write import make_folder
from pipeline.models.cards import SAM_CARD, PatchPriorCard, SamFoldCard
from pipeline.models.sam.model import (
    CARD,
    DELTA,
    PRIOR,
    SamModel,
    network_with,
    read_sam,
)
from pipeline.models.sam.patch_prior import PatchPrior, read_patch_prior
from pipeline.models.sam.trainer import Delta, learns_encoder, write_delta
from pipeline.models.tensors import read_tensors
from pipeline.models.weights.store import WeightsStore

_FOLDS = "folds"


@dataclass(frozen=True)
class FoldSam:
    """A SAM, and the groups of photos that it did not learn from."""

    sam: SamModel
    groups: frozenset[str]


def has_fold(folder: Path, fold: int) -> bool:
    """Whether a fold's delta is in the folder of a tuning."""
    return (_fold(folder, fold) / DELTA).is_file()


def write_fold(folder: Path, fold: int, delta: Delta, prior: PatchPrior | None) -> None:
    """Write a fold's delta, and its patch prior if there is one."""
    make_folder(_fold(folder, fold))
    if prior:
        prior.write(_fold(folder, fold) / PRIOR)
    write_delta(_fold(folder, fold) / DELTA, delta)


def fold_cards(
    folder: Path, groups: Sequence[Sequence[str]], prior: PatchPriorCard | None
) -> list[SamFoldCard]:
    """What the card says of each fold that `write_fold` wrote. groups: held out, by fold. prior: of
    the tuned SAM in its card; without one, the priors of the folds are deleted."""
    return [_fold_card(_fold(folder, fold), own, prior) for fold, own in enumerate(groups)]


def _fold_card(folder: Path, groups: Sequence[str], prior: PatchPriorCard | None) -> SamFoldCard:
    path, own = folder / PRIOR, None
    if prior is None:
        path.unlink(missing_ok=True)
    elif path.is_file():
        own = prior.model_copy(update={"sha256": sha256_of(path)})
    return SamFoldCard(
        delta_sha256=sha256_of(folder / DELTA), groups=sorted(groups), patch_prior=own
    )


def read_folds(folder: Path, store: WeightsStore) -> list[FoldSam]:
    """The SAMs of the folds; none for a tuning without a cross-validation, and for one of an older
    version. Raises WeightsError for files other than the card names."""
    if not (folder / CARD).is_file():
        return []
    card = checked(SAM_CARD, read_json(folder / CARD), folder / CARD)
    if not card.folds:
        return []
    tuned = replace(read_sam(folder, store), calibration=None, patch_prior=None)
    sams = []
    for number, fold in enumerate(card.folds):
        place = _fold(folder, number)
        delta = read_tensors(place / DELTA, fold.delta_sha256, CARD)
        prior = None
        if fold.patch_prior:
            prior = read_patch_prior(place / PRIOR, fold.patch_prior, store)
        sam = replace(
            tuned,
            load=network_with(tuned.base, place / DELTA, delta),
            patch_prior=prior,
            delta_sha256=fold.delta_sha256,
            encoder_tuned=learns_encoder(delta),
        )
        sams.append(FoldSam(sam, frozenset(fold.groups)))
    return sams


def _fold(folder: Path, fold: int) -> Path:
    return folder / _FOLDS / str(fold)
