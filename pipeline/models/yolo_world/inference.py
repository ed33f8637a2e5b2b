"""YOLO-World on a CPU through OpenVINO: the boxes of ultralytics, in a fraction of the time.

The graph ends before the boxes are decoded: in bfloat16 a coordinate of some hundred pixels would
be off by one. ultralytics' own functions resize the image before it and choose boxes after it.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.io.disk_cache import disk_cache, key_of
from pipeline.models import ultralytics_offline
from pipeline.models.backends import openvino_precision
from pipeline.models.openvino_graphs import EntryStore, Graph
from pipeline.models.openvino_offline import load_openvino
from pipeline.types import Image

_CACHE_GB = 20.0
_STRIDE = 32  # pixels; the sides of an input are multiples of it


class CompiledYoloWorld:
    """A YOLO-World network with its texts as a graph for images of any size, which is exported at
    its first use and kept in the cache."""

    def __init__(self, network: Any, side: int) -> None:
        """network: ultralytics' WorldModel. side: pixels to which an image's longer side is
        resized."""
        ultralytics_offline.load()
        self._network, self._side = network.float().eval(), side

    def boxes(
        self, image: Image, confidence: float, nms_iou: float, max_boxes: int
    ) -> NDArray[np.float32]:
        """(N, 6) of an image (H, W, 3): x0, y0, x1, y1 in its pixels, score and label, best first;
        see `YoloWorldDetector`."""
        from ultralytics.data.augment import LetterBox
        from ultralytics.utils import nms, ops

        resized = np.asarray(LetterBox(self._side, auto=True, stride=_STRIDE)(image=image))
        pixels = np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32) / 255
        distances, scores = (
            torch.from_numpy(np.array(output, np.float32))
            for output in self._graph.compiled(pixels).values()
        )
        decoded = self._decoded(distances, scores, (pixels.shape[2], pixels.shape[3]))
        rows = nms.non_max_suppression(decoded, confidence, nms_iou, max_det=max_boxes)[0]
        rows[:, :4] = ops.scale_boxes(pixels.shape[2:], rows[:, :4], image.shape[:2])
        return np.asarray(rows.numpy(), np.float32)

    def _decoded(
        self, distances: torch.Tensor, scores: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        """(1, 4 + C, A): centre, width and height in pixels of the input, and scores in [0, 1]. The
        distance of a side is the mean of a distribution over whole numbers (Li et al., Generalized
        Focal Loss, 2020)."""
        from ultralytics.utils.tal import dist2bbox, make_anchors

        strides = self._network.stride
        sizes = [(size[0] // int(stride), size[1] // int(stride)) for stride in strides]
        levels = [torch.empty(1, 1, *each) for each in sizes]
        anchors, stride = (each.transpose(0, 1) for each in make_anchors(levels, strides, 0.5))
        bins = distances.view(1, 4, -1, distances.shape[-1]).softmax(2)
        means = torch.einsum("ijkl,k->ijl", bins, torch.arange(bins.shape[2]).float())
        boxes = dist2bbox(means, anchors.unsqueeze(0), xywh=True, dim=1) * stride
        return torch.cat((boxes, scores.sigmoid()), 1)

    @cached_property
    def _graph(self) -> Graph:
        state = self._network.state_dict()
        texts = self._network.txt_feats
        about = f"YOLO-World {load_openvino().__version__} {tuple(texts.shape)}"
        tensors = [*(value for _, value in sorted(state.items())), texts]
        weights = (each.contiguous().cpu().numpy().data for each in tensors)
        store = EntryStore(disk_cache(_CACHE_GB), key_of(about, *weights))
        return Graph(store, self._traced, openvino_precision())

    def _traced(self, openvino: Any) -> Any:
        sample = torch.zeros(1, 3, 2 * _STRIDE, 2 * _STRIDE)
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's tracer on what is constant here
            return openvino.convert_model(
                _Undecoded(self._network),
                example_input=sample,
                input=[openvino.PartialShape([1, 3, -1, -1])],
            )


class _Undecoded(nn.Module):
    """Pixels (1, 3, H, W) in [0, 1] to the distributions of the distances (1, 64, A), and the
    logits of the categories (1, C, A)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = network

    def train(self, mode: bool = True) -> _Undecoded:
        """In evaluation, whatever the mode. The head alone trains: then it returns what it would
        decode."""
        del mode
        super().train(False)
        self._network.model[-1].training = True
        return self

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self._network(pixels)
        return found["boxes"], found["scores"]
