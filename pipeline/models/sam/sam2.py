"""SAM 2 on still images: Meta's checkpoints in ultralytics' network.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024. The network is the published one
less its memory of earlier frames of a video, which still images do not use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry.boxes import Boxes
from pipeline.geometry.patches import Patch
from pipeline.models import ultralytics_offline
from pipeline.models.sam.calibration import measures
from pipeline.models.sam.merge_views import MaskLogits, masks_of, patch_of
from pipeline.models.sam.views import ViewOptions, jittered_boxes, padded, peak_in_box
from pipeline.models.weights.store import Weights
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.types import Image, Masks

_SIDE = 1024
_BUILDERS = {
    "sam2.1_tiny": "build_sam2_t",
    "sam2.1_small": "build_sam2_s",
    "sam2.1_base_plus": "build_sam2_b",
    "sam2.1_large": "build_sam2_l",
}
SAM2_NAMES = tuple(_BUILDERS)
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_FEATURES = ((256, 256), (128, 128), (64, 64))
_VIDEO_WEIGHTS = {"no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias"}

Features = tuple[torch.Tensor, list[torch.Tensor]]  # the embedding, and two finer maps


class Sam2Segmenter:
    """A `PromptedSegmenter` on the whole image, stretched to a square as in SAM 2's training."""

    def __init__(
        self, network: Any, views: ViewOptions | None = None, device: torch.device | None = None
    ) -> None:
        """Of `views`, SAM 2 uses pad, margin, multimask and box_jitters.

        Raises ConfigError for views by crops or in several rounds.
        """
        self.views = views or ViewOptions()
        if self.views.rounds > 1 or self.views.crop_below > 0:
            raise ConfigError("SAM 2 sees whole images once; leave out rounds and crop_below")
        keep_freed_memory()
        self.device = device or torch.device("cpu")
        self.network = network.to(self.device).eval()

    @torch.inference_mode()
    def segment(
        self, image: Image, boxes: Boxes, heatmap: NDArray[np.float32] | None = None
    ) -> Masks:
        """See `SamSegmenter.segment`."""
        return masks_of(image, boxes, self.views.pad, lambda b: self._patches(image, b, heatmap))

    def _patches(
        self, image: Image, boxes: Boxes, heatmap: NDArray[np.float32] | None
    ) -> Iterator[tuple[Patch, dict[str, float]]]:
        """Each object's mask and figures."""
        size = (image.shape[0], image.shape[1])
        features = self._encode(image) if len(boxes) else None
        for box in boxes:
            point = None if heatmap is None else peak_in_box(heatmap, box)
            limits = None if self.views.margin is None else padded(box[None], self.views.margin)[0]
            logits = self._predict(features, box, point, size)
            patch = patch_of(logits, limits)
            if not patch.pixels.size:
                yield patch, {}
                continue
            boxes_beside = jittered_boxes(box, self.views.box_jitters)
            jittered = [
                patch_of(self._predict(features, b, None, size), limits) for b in boxes_beside
            ]
            yield patch, measures(patch, logits, box, size, [], jittered)

    def _encode(self, image: Image) -> Features:
        resized = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
        if max(image.shape[:2]) > _SIDE:
            resized = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        pixels = (resized.astype(np.float32) / 255 - _MEAN) / _STD
        batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        backbone = self.network.forward_image(batch.to(self.device))
        maps = self.network._prepare_backbone_features(backbone)[1]
        maps[-1] = maps[-1] + self.network.no_mem_embed
        shaped = [
            m.permute(1, 2, 0).reshape(1, -1, *size)
            for m, size in zip(maps, _FEATURES, strict=True)
        ]
        return shaped[-1], shaped[:-1]

    def _predict(
        self,
        features: Features | None,
        box: NDArray[np.float32],
        point: NDArray[np.float32] | None,
        size: tuple[int, int],
    ) -> MaskLogits:
        """One object's logits at the image's scale."""
        if features is None:
            raise ValueError("no image was encoded")
        height, width = size
        embedding, finer = features
        corners = [[box[0], box[1]], [box[2], box[3]]]
        places = np.array(corners if point is None else [*corners, point], np.float32)
        places *= np.array([_SIDE / width, _SIDE / height], np.float32)
        labels = torch.tensor([[2, 3] if point is None else [2, 3, 1]], device=self.device)
        at = torch.from_numpy(places)[None].to(self.device)
        encoder = self.network.sam_prompt_encoder
        sparse, dense = encoder(points=(at, labels), boxes=None, masks=None)
        logits, rated, _, _ = self.network.sam_mask_decoder(
            image_embeddings=embedding,
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=self.views.multimask,
            repeat_image=False,
            high_res_features=finer,
        )
        best = int(rated[0].argmax())
        low = logits[0, best].float().cpu().numpy()
        full = cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR)
        return MaskLogits(0, 0, np.asarray(full, np.float32), float(rated[0, best]), [])


def load_sam2(weights: Weights) -> Any:
    """SAM 2's network with Meta's checked weights, in evaluation mode, on the CPU.

    Raises ConfigError for weights that are no SAM 2, WeightsError for a file that does not fit.
    """
    if weights.name not in _BUILDERS:
        raise ConfigError(f"{weights.name!r} is no SAM 2; known: {', '.join(SAM2_NAMES)}")
    ultralytics_offline.load()
    from ultralytics.models.sam import build

    make: Callable[[], Any] = getattr(build, _BUILDERS[weights.name])
    network = make()
    try:
        state = torch.load(weights.path, map_location="cpu", weights_only=True)
        state = {k: v for k, v in state.get("model", state).items() if k not in _VIDEO_WEIGHTS}
        network.load_state_dict(state, strict=True)
    except (RuntimeError, AttributeError) as error:
        raise WeightsError(f"{weights.path}: does not fit {weights.name} ({error})") from error
    return network.eval()
