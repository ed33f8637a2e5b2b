"""The network: its shapes, and what learns in it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.models.segmentation.network import (
    STAGES,
    Encoder,
    NetworkOptions,
    SegmentationNetwork,
    encoder_stages,
)


def network(categories: int = 2, encoder: Encoder = "mobilenet_v2") -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(NetworkOptions(encoder, categories))


def pixels(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "resnet18"])
@pytest.mark.parametrize("categories", [1, 3])
def test_logits_are_of_the_size_of_the_pixels_and_have_a_background(
    encoder: Encoder, categories: int
) -> None:
    logits = network(categories, encoder)(pixels())
    assert logits.shape == (2, 1 + categories, 64, 96)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "resnet18", "resnet50"])
def test_each_stage_halves_the_sides(encoder: Encoder) -> None:
    layer, widths = torch.zeros(1, 3, 64, 96), []
    with torch.no_grad():
        for stage in encoder_stages(encoder, None):
            layer = stage.eval()(layer)
            widths.append(layer.shape[3])
    assert widths == [48, 24, 12, 6, 3]


@pytest.mark.parametrize("frozen", [0, 2, STAGES])
def test_frozen_stages_get_no_gradient_and_all_others_do(frozen: int) -> None:
    own = network()
    own.freeze(frozen)
    own.train()
    own(pixels()).square().mean().backward()
    for number, stage in enumerate(own.stages):
        learned = [parameter.grad is not None for parameter in stage.parameters()]
        assert learned == [number >= frozen] * len(learned)
    assert all(parameter.grad is not None for parameter in own.decoder_parameters())
    assert len(own.encoder_parameters()) == sum(
        len(list(stage.parameters())) for stage in own.stages[frozen:]
    )


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "resnet18", "resnet50"])
def test_frozen_stages_give_the_same_layers_and_change_no_state(encoder: Encoder) -> None:
    own = network(encoder=encoder).train()
    for module in own.stages.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that a fold could get wrong
            nn.init.uniform_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    keys = set(own.state_dict())
    expected = own(pixels())
    own.freeze(STAGES)
    assert torch.allclose(own(pixels()), expected, atol=1e-3)
    assert set(own.state_dict()) == keys


def test_what_a_stage_learns_after_its_freezing_is_used_in_evaluation() -> None:
    own = network()
    own.freeze(STAGES)
    before = own.eval()(pixels())
    with torch.no_grad():
        next(own.stages[0].parameters()).mul_(2)
    assert not torch.equal(own.eval()(pixels()), before)


def test_each_parameter_is_of_the_encoder_or_of_the_decoder() -> None:
    own = network()
    parts = [*own.encoder_parameters(), *own.decoder_parameters()]
    assert {id(part) for part in parts} == {id(part) for part in own.parameters()}
    assert len(parts) == len(list(own.parameters()))


def test_the_encoders_batch_statistics_stay_and_the_pyramids_move() -> None:
    own = network().train()
    before = {key: value.clone() for key, value in own.state_dict().items()}
    own(pixels())
    after = own.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key.partition(".")[0] for key in moved} == {"standardise", "merge"}
    norms = [m for m in own.stages.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
