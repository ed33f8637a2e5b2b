"""`pipeline review`: labels are corrected in the browser, and every action is kept beside them."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.labels import ReviewConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.image_files import NamedFolders
from pipeline.io.locks import BUSY, folder_lock
from pipeline.io.read import sha256_of
from pipeline.results import StageResult
from pipeline.review.create import create_session
from pipeline.review.export import is_stale
from pipeline.review.schema import ACCEPTED, ADDED, CHANGED, REJECTED
from pipeline.review.source import Source, find_source, image_root, read_labels
from pipeline.review.store import ReviewStore
from pipeline.review.views import About
from pipeline.runtime.progress import say

_DEFAULT = ReviewConfig()


@dataclass(frozen=True, kw_only=True)
class ReviewLabelsResult(StageResult):
    """session: the file of the review. actions: in it, of this call and those before. The others
    count objects by their state."""

    session: Path
    images: int
    objects: int
    actions: int
    accepted: int
    changed: int
    added: int
    rejected: int


def review_labels(
    source: Path,
    config: ReviewConfig = _DEFAULT,
    *,
    images: Path | None = None,
    session: Path | None = None,
    heatmaps: Path | None = None,
    device: str = "auto",
    who: str = "",
    host: str = "127.0.0.1",
    port: int | None = None,
    opened: Callable[[str], None] = print,
) -> ReviewLabelsResult:
    """Serve the page of a review until Ctrl-C.

    source: a COCO file, or the folder of a command or a run. images: the folder of its images;
    without it, the one beside the labels. session: the file that keeps the review; by default
    beside the labels. heatmaps: folder of heat maps, as anomaly writes it. who: stands beside every
    action. opened: gets the address once the server listens. Raises DataError for labels, a session
    or images that cannot be read, ConfigError for an address that cannot be used.
    """
    found = find_source(source, images, session)
    with _locked(found.session):
        if not found.session.exists():
            _create(found, config)
        with ReviewStore(found.session) as store:
            root = image_root(found, store.root, images)
            notices = _notices(store, found, root)
            title = f"{found.labels.absolute().parent.name}/{found.labels.name}"
            about = About(
                title=title, who=who or _user(), notices=notices, has_heat=heatmaps is not None
            )
            _serve(store, root, about, found, config, heatmaps, device, host, port, opened)
            return _result(store)


@contextmanager
def _locked(session: Path) -> Iterator[None]:
    """One server at a time on a session."""
    try:
        with folder_lock(session, "review"):
            yield
    except DataError as error:
        if error.remedy != BUSY:
            raise
        reason = error.reason.replace("is being written by", "is being reviewed through")
        raise DataError(error.path, reason, "use its page, or end it with Ctrl-C") from error


def _create(found: Source, config: ReviewConfig) -> None:
    """Write a new session of the labels."""
    root = found.images or found.labels.parent
    sha256 = sha256_of(found.labels)
    labels = read_labels(found)
    folders = NamedFolders([root], config.allow_outside)
    missing = []
    for record in labels.dataset.records:
        folders.refuse_outside(record.path)
        if not record.path.is_file():
            missing.append(record)
    if len(missing) == len(labels.dataset.records):
        raise DataError(missing[0].path, "no such image", "give their folder with --images")
    create_session(found.session, labels, root, sha256)


def _notices(store: ReviewStore, found: Source, root: Path) -> list[str]:
    """What the page says above the queue, and the terminal once. Raises DataError where no image
    of a session is found."""
    notices = []
    images = store.images()
    missing = [image for image in images if not (root / image.place).is_file()]
    if missing and len(missing) == len(images):
        remedy = f"give their folder with --images; it was {store.root}"
        raise DataError(root / missing[0].place, "no such image", remedy)
    if missing:
        notices.append(f"{len(missing)} images are not there, such as {missing[0].file_name}")
    if is_stale(store, found.labels):
        notices.append(
            f"{found.labels.name} was changed after this review began: the review goes on with the "
            "labels it began with"
        )
    for notice in notices:
        say(f"{store.path}: {notice}")
    return notices


def _serve(
    store: ReviewStore, root: Path, about: About, found: Source, config: ReviewConfig,
    heatmaps: Path | None, device: str, host: str, port: int | None,
    opened: Callable[[str], None],
) -> None:  # fmt: skip
    try:
        from pipeline.review.serve import serve
        from pipeline.review.server import Review, application
    except ModuleNotFoundError as error:
        raise ConfigError(f"review needs {error.name}; install the program again") from error
    from pipeline.review.assistant import sam_assistant
    from pipeline.review.figures import PackedQueue
    from pipeline.review.generations import last_models
    from pipeline.review.learner import Learner
    from pipeline.review.picture_cache import PictureCache
    from pipeline.review.remaining import RightLabels

    queue = PackedQueue(store)
    queue.bytes()  # before the page asks

    def last() -> str:
        """The SAM that the run has now."""
        learned = last_models(found.run).get("sam") if found.run else None
        return str(learned or found.sam or "none")

    words = ("--labels", found.labels, "--images", root, "--session", found.session,
             "--device", device)  # fmt: skip
    learner = Learner(store, found.run, [*map(str, words)]) if found.run else None
    is_own = config.sam == "auto"
    assistant = sam_assistant(last() if is_own else config.sam, device, last if is_own else None)
    parts = Review(
        store, PictureCache(root, config.allow_outside), assistant, about,
        queue, RightLabels(store), heatmaps, learner,
    )  # fmt: skip
    try:
        serve(application(parts), host, port, opened)
    finally:
        assistant.close()
        if learner:
            learner.close()


def _user() -> str:
    """The name of the user on this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "user"


def _result(store: ReviewStore) -> ReviewLabelsResult:
    query = "SELECT state, COUNT(*) FROM objects WHERE value IS NOT NULL GROUP BY state"
    counts = {int(str(code)): int(str(count)) for code, count in store.rows(query)}
    return ReviewLabelsResult(
        session=store.path,
        images=len(store.images()),
        objects=sum(counts.values()),
        actions=store.revision,
        accepted=counts.get(ACCEPTED, 0),
        changed=counts.get(CHANGED, 0),
        added=counts.get(ADDED, 0),
        rejected=counts.get(REJECTED, 0),
    )
