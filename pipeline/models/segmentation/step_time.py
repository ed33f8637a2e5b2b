"""How fast a device trains: the time of one step of the segmentation network."""

from __future__ import annotations

import time

import torch

from pipeline.models.devices import has_bfloat16
from pipeline.models.segmentation.crops import SIDE
from pipeline.models.segmentation.losses import segmentation_loss
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork

_BATCH = 6
_STEPS = 3


def step_seconds(device: torch.device) -> float:
    """Seconds of one training step, with the encoder, on six crops: the least of three."""
    torch.manual_seed(0)
    network = SegmentationNetwork(NetworkOptions("mobilenet_v2", 2)).train()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = torch.rand(_BATCH, 3, SIDE, SIDE, device=device) * 255
    labels = (pixels[:, 0] > 240).long()
    times = []
    for _ in range(1 + _STEPS):  # the first prepares
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            logits = network(pixels.contiguous(memory_format=torch.channels_last))
        segmentation_loss(logits.float(), labels).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
