"""The routes of the review's server. Each is behind the `Guard`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from pydantic import BaseModel, JsonValue, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.errors import DataError
from pipeline.geometry.masks import to_patch
from pipeline.io.heatmaps import read_heatmap
from pipeline.io.read import explain
from pipeline.review import pictures
from pipeline.review.actions import StaleError
from pipeline.review.assistant import Assistant, Click
from pipeline.review.figures import PackedQueue
from pipeline.review.guard import TooLargeError
from pipeline.review.learner import Learner, Learning
from pipeline.review.picture_cache import PictureCache
from pipeline.review.remaining import RightLabels
from pipeline.review.requests import (
    ActRequest,
    CategoryRequest,
    EmptyRequest,
    ImageRequest,
    SegmentRequest,
    to_move,
)
from pipeline.review.store import ReviewStore
from pipeline.review.views import (
    About,
    action_view,
    changes_view,
    colour_of,
    image_view,
    session_view,
)
from pipeline.review.wire import from_wire, patch_to_wire

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript",
          ".svg": "image/svg+xml"}  # fmt: skip
_KEPT = {"cache-control": "private, max-age=86400"}  # the address has the revision
Form = TypeVar("Form", bound=BaseModel)


@dataclass(frozen=True)
class Review:
    """All that the routes need. heatmaps: folder of heat maps, as anomaly writes it. learner: of
    the run; None for labels of none."""

    store: ReviewStore
    pictures: PictureCache
    assistant: Assistant
    about: About
    queue: PackedQueue
    right: RightLabels
    heatmaps: Path | None = None
    learner: Learner | None = None


Answer = Callable[[Review, Request], Response]
Action = Callable[[Review, Form], JsonValue]


def application(review: Review) -> Starlette:
    """The server's application, without its guard."""
    gets: Mapping[str, Answer] = {
        "/api/session": _session,
        "/api/queue": _queue,
        "/api/changes": _changes,
        "/api/image/{id:int}": _image,
        "/api/history/{id:int}": _history,
        "/api/remaining": _remaining,
        "/tile/{id:int}/{level:int}/{column:int}/{row:int}": _tile,
        "/close-up/{id:int}": _close_up,
        "/small/{id:int}": _small,
        "/heat/{id:int}": _heat,
    }
    routes = [Route(path, _answering(review, answer)) for path, answer in gets.items()]
    routes += [
        _post(review, "/api/act", ActRequest, _act),
        _post(review, "/api/undo", EmptyRequest, _undo),
        _post(review, "/api/redo", EmptyRequest, _redo),
        _post(review, "/api/segment", SegmentRequest, _segment),
        _post(review, "/api/prepare", ImageRequest, _prepare),
        _post(review, "/api/category", CategoryRequest, _category),
        _post(review, "/api/learn", EmptyRequest, _learn),
        _post(review, "/api/propose", EmptyRequest, _propose),
    ]
    files = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.is_file()}
    for name, data in files.items():
        address = "/" if name == "index.html" else f"/page/{name}"
        routes.append(Route(address, partial(_file, data, _TYPES[Path(name).suffix])))
    return Starlette(routes=routes)


async def _file(data: bytes, kind: str, _: Request) -> Response:
    return Response(data, media_type=kind)


def _answering(review: Review, answer: Answer) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        return await anyio.to_thread.run_sync(_answered, partial(answer, review, request))

    return endpoint


def _post(review: Review, path: str, form: type[Form], action: Action[Form]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            body = await request.body()
        except TooLargeError:
            return JSONResponse({"error": "the request is too large"}, 413)

        def work() -> Response:
            return JSONResponse(action(review, form.model_validate_json(body or b"{}")))

        return await anyio.to_thread.run_sync(_answered, work)

    return Route(path, endpoint, methods=["POST"])


def _answered(work: Callable[[], Response]) -> Response:
    """The answer, or the fault as one line."""
    try:
        return work()
    except StaleError as error:
        return JSONResponse({"error": str(error), "stale": True}, 409)
    except ValidationError as error:
        return JSONResponse({"error": explain(error)}, 400)
    except ValueError as error:
        return JSONResponse({"error": str(error)}, 400)
    except DataError as error:
        return JSONResponse({"error": str(error)}, 500)


def _session(review: Review, _: Request) -> Response:
    return JSONResponse(session_view(review.store, review.about))


def _queue(review: Review, _: Request) -> Response:
    return Response(review.queue.bytes(), media_type="application/octet-stream")


def _changes(review: Review, request: Request) -> Response:
    text = request.query_params.get("since", "0")
    since = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
    learning = review.learner.status() if review.learner else Learning("off")
    return JSONResponse(changes_view(review.store, review.assistant, learning, since))


def _image(review: Review, request: Request) -> Response:
    image = review.store.image(request.path_params["id"])
    levels = review.pictures.levels(image)
    return JSONResponse(image_view(image, review.store.objects_on(image.id), len(levels)))


def _history(review: Review, request: Request) -> Response:
    actions = review.store.actions_on(request.path_params["id"])
    return JSONResponse([action_view(action) for action in actions])


def _remaining(review: Review, _: Request) -> Response:
    return JSONResponse(asdict(review.right.remaining()))


def _tile(review: Review, request: Request) -> Response:
    place = request.path_params
    image = review.store.image(place["id"])
    data = pictures.tile(
        review.pictures.levels(image), place["level"], place["column"], place["row"]
    )
    if data is None:
        return Response(status_code=404)
    return Response(data, media_type="image/jpeg", headers=_KEPT)


def _close_up(review: Review, request: Request) -> Response:
    saved = review.store.object_by_id(request.path_params["id"])
    if saved.value is None:
        return Response(status_code=404)
    image = review.store.image(saved.image)
    colour = colour_of(saved.value.category)
    data = pictures.close_up(
        review.pictures.levels(image), saved.value.box, saved.value.rle(image.size), colour
    )
    return Response(data, media_type="image/jpeg", headers=_KEPT)


def _small(review: Review, request: Request) -> Response:
    image = review.store.image(request.path_params["id"])
    values = [each.value for each in review.store.objects_on(image.id) if each.value]
    masks = [(rle, colour_of(v.category)) for v in values if v.state != "rejected"
             if (rle := v.rle(image.size))]  # fmt: skip
    data = pictures.small_view(review.pictures.levels(image), masks)
    return Response(data, media_type="image/jpeg", headers=_KEPT)


def _heat(review: Review, request: Request) -> Response:
    image = review.store.image(request.path_params["id"])
    if review.heatmaps is None:
        return Response(status_code=404)
    heatmap = read_heatmap(review.heatmaps, image.file_name, image.size)
    return Response(pictures.heat_png(heatmap), media_type="image/png", headers=_KEPT)


def _act(review: Review, request: ActRequest) -> JsonValue:
    action = review.store.act(review.about["who"], to_move(request, review.store))
    return action_view(action) if action else None


def _undo(review: Review, _: EmptyRequest) -> JsonValue:
    action = review.store.undo(review.about["who"])
    return action_view(action) if action else None


def _redo(review: Review, _: EmptyRequest) -> JsonValue:
    action = review.store.redo(review.about["who"])
    return action_view(action) if action else None


def _segment(review: Review, request: SegmentRequest) -> JsonValue:
    image = review.store.image(request.image)
    pixels = review.pictures.levels(image)[0]
    categories = review.store.categories
    category = categories[request.category] if request.category < len(categories) else ""
    before = to_patch(from_wire(request.before, image.size)) if request.before else None
    clicks = [Click(click.x, click.y, click.inside) for click in request.clicks]
    proposal = review.assistant.propose(image.id, pixels, clicks, request.box, before, category)
    return {
        "mask": patch_to_wire(proposal.patch).model_dump(),
        "iou": round(proposal.iou, 4),
        "is_expected": proposal.is_expected,
    }


def _prepare(review: Review, request: ImageRequest) -> JsonValue:
    image = review.store.image(request.image)
    return review.assistant.prepare(image.id, review.pictures.levels(image)[0])


def _category(review: Review, request: CategoryRequest) -> JsonValue:
    return review.store.add_category(request.name)


def _learn(review: Review, _: EmptyRequest) -> JsonValue:
    _learner(review).start()
    return None


def _propose(review: Review, _: EmptyRequest) -> JsonValue:
    made = _learner(review).take()
    review.assistant.renew()
    return {"images": made.images, "objects": made.objects}


def _learner(review: Review) -> Learner:
    if review.learner is None:
        raise ValueError("these labels are of no run: there is nothing that could learn")
    return review.learner
