"""Several processes that train one network as one process would: torch's process group.

Each computes its share of a batch. A loss is that of the whole batch in every process, made of sums
over all of them; DDP then gives each the gradient of the whole. `runners.training` starts the
processes. In a process without a group, nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

State = TypeVar("State")


def count() -> int:
    """How many processes train together; 1 without a group."""
    return distributed.get_world_size() if _in_group() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if _in_group() else 0


def share(batch: int) -> tuple[slice, int]:
    """The part of a batch of so many items that this process computes, and how many items count.

    Where there are fewer items than processes, some compute the first one, and it counts as none:
    all processes must take part in every step.
    """
    start, stop = (batch * number // count() for number in (rank(), rank() + 1))
    return (slice(start, stop), stop - start) if start < stop else (slice(0, 1), 0)


def total(own: torch.Tensor) -> torch.Tensor:
    """The sum over all processes of a tensor, which has the same shape in each. Its gradient is the
    sum of the gradients in all of them."""
    if count() == 1:
        return own
    summed: torch.Tensor = _Total.apply(own)
    return summed


def mean(own: torch.Tensor, items: int) -> torch.Tensor:
    """The mean over the items of all processes. own: the mean over those of this one; finite also
    where it has none. items: how many these are."""
    if count() == 1:
        return own
    return total(own * items) / total(torch.tensor(float(items), device=own.device))


def joined(
    compute: Callable[..., torch.Tensor], *modules: nn.Module
) -> Callable[..., torch.Tensor]:
    """`compute` for a training in all processes, by DDP: they begin with the weights of the first
    one, and a gradient is the mean of those of all. modules: what `compute` learns."""
    if count() == 1:
        return compute
    whole = _Computation(compute, modules)
    return DistributedDataParallel(whole, find_unused_parameters=True)  # those of frozen layers


def of_first(make: Callable[[], State]) -> State:
    """What `make` gives in the first process. The others get a copy, and do not call it."""
    if count() == 1:
        return make()
    made = [make() if rank() == 0 else None]
    distributed.broadcast_object_list(made)
    return made[0]  # type: ignore[return-value]


class BatchNorm(nn.BatchNorm2d):
    """A batch norm whose statistics in training are those of the whole batch, also where each
    process has a part. torch's own SyncBatchNorm needs GPUs."""

    def forward(self, layer: torch.Tensor) -> torch.Tensor:
        """Layers (N, C, H, W) to layers of the same shape."""
        if not self.training or count() == 1:
            return super().forward(layer)
        values, shape, axes = layer.float(), (1, -1, 1, 1), (0, 2, 3)
        pixels = total(torch.tensor(values[:, 0].numel(), device=layer.device))
        mean = total(values.sum(axes)) / pixels
        centred = values - mean.view(shape)
        variance = total(centred.square().sum(axes)) / pixels
        self._remember(mean.detach(), variance.detach() * pixels / (pixels - 1))
        normed = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed.to(layer.dtype)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Let the running statistics follow those of a batch, as torch does."""
        momentum = self.momentum or 0.0
        for kept, new in ((self.running_mean, mean), (self.running_var, variance)):
            if kept is not None:
                kept.lerp_(new, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _Computation(nn.Module):
    """A computation and the modules that learn by it, as the one module that DDP takes."""

    def __init__(
        self, compute: Callable[..., torch.Tensor], modules: tuple[nn.Module, ...]
    ) -> None:
        super().__init__()
        self.learning = nn.ModuleList(modules)
        self._compute = (compute,)  # in a tuple, so that it is no second name of a module

    def forward(self, *inputs: Any) -> torch.Tensor:
        return self._compute[0](*inputs)


class _Total(torch.autograd.Function):
    """The sum over all processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor) -> torch.Tensor:
        del ctx
        summed = own.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        del ctx
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed


def _in_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
