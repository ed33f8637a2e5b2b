from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.models.sam.lora import add_lora, lora_state_dict, merge_lora


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 3)))


def test_lora_changes_nothing_before_training() -> None:
    values, adapted = torch.randn(5, 4), network()
    learning = add_lora(adapted, rank=2)
    assert torch.equal(adapted(values), network()(values))
    assert [tuple(p.shape) for p in learning] == [(2, 4), (8, 2), (2, 8), (3, 2)]
    assert sum(p.requires_grad for p in adapted.parameters()) == len(learning)


def test_lora_added_to_the_weights_gives_the_same_output() -> None:
    values, adapted, plain = torch.randn(5, 4), network(), network()
    for parameter in add_lora(adapted, rank=2):
        nn.init.normal_(parameter)
    merge_lora(plain, lora_state_dict(adapted))
    torch.testing.assert_close(plain(values), adapted(values))


def test_lora_for_no_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="is no linear layer"):
        merge_lora(network(), {"1.down": torch.zeros(1, 4), "1.up": torch.zeros(4, 1)})
