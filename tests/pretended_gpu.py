"""A GPU that is not there: tensors that say they lie on cuda:0 and are computed by the CPU.

It refuses what a real one refuses, a tensor of the CPU beside one of the GPU and numpy on what was
not brought back, so that a forgotten `.to(device)` fails a test on any machine. It says nothing of
speed, of bfloat16 (autocast leaves these tensors as they are) or of ultralytics' own trainer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda:0")
_aten = torch.ops.aten
_TAKE_BOTH = {  # as on a real GPU: copies, and indices that lie on the CPU
    _aten.copy_.default,
    _aten.index.Tensor,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}


class OnGpu(torch.Tensor):
    """A tensor around one of the CPU, `held`, which does the work."""

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    held: torch.Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnGpu:
        made: OnGpu = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub lacks the classmethod
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = (args, dict(kwargs or {}))
        leaves = tree_leaves(given)
        for leaf in leaves:
            strange = isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnGpu)
            if strange and leaf.dim() and func not in _TAKE_BOTH:  # a bare number may lie anywhere
                raise RuntimeError(f"{func}: {tuple(leaf.shape)} on the CPU beside one on the GPU")
        inner_args, inner_kwargs = tree_map(lambda t: t.held if isinstance(t, OnGpu) else t, given)
        if "device" in inner_kwargs:
            inner_kwargs["device"] = torch.device("cpu")
        answer = func(*inner_args, **inner_kwargs)
        if func._schema.is_mutable:
            for leaf in leaves:
                if isinstance(leaf, OnGpu) and leaf.held is answer:
                    return leaf
        return tree_map(_up, answer)


def _up(value: Any) -> Any:
    return OnGpu(value) if isinstance(value, torch.Tensor) else value


class _Upload(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return OnGpu(values.detach().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient.held


class _Download(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Any) -> torch.Tensor:
        found: torch.Tensor = values.held.detach().clone()
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return OnGpu(gradient)


class _Moves(TorchFunctionMode):
    """What carries tensors between the two, and makes them on the GPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if args and isinstance(args[0], torch.Tensor):
            if name == "to" and not any(isinstance(a, torch.Tensor) for a in args[1:]):
                return _moved(args[0], args[1:], given)
            if name == "cpu":
                return _moved(args[0], ("cpu",), {})
            if name in ("numpy", "__array__") and isinstance(args[0], OnGpu):
                raise TypeError("a tensor of the GPU cannot become an array; use .cpu() first")
        wanted = given.get("device")
        if wanted is not None and torch.device(wanted).type == "cuda":
            return tree_map(_up, func(*args, **given | {"device": "cpu"}))
        return func(*args, **given)


def _moved(values: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """`Tensor.to`."""
    kwargs.pop("copy", None)
    where, dtype, _, form = torch._C._nn._parse_to(*args, **kwargs)
    if where is not None and where.type == "cpu" and isinstance(values, OnGpu):
        values = _Download.apply(values)
    if dtype is not None:
        values = values.type(dtype)
    if form is not None:
        values = values.contiguous(memory_format=form)
    if where is not None and where.type == "cuda" and not isinstance(values, OnGpu):
        values = _Upload.apply(values)
    return values


def _without_gradients(self: Any) -> None:
    self._pretended = torch.no_grad()  # inference mode knows no tensors such as these
    self._pretended.__enter__()


def _with_gradients(self: Any, *error: Any) -> None:
    self._pretended.__exit__(*error)


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Torch sees one GPU in here."""
    replaced = {
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.is_bf16_supported": lambda *args: True,
        "torch.inference_mode.__enter__": _without_gradients,
        "torch.inference_mode.__exit__": _with_gradients,
        "torch.optim.Optimizer._accelerator_graph_capture_health_check": lambda self: None,
    }
    with ExitStack() as stack:
        for place, value in replaced.items():
            stack.enter_context(mock.patch(place, value))
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, before)
        stack.enter_context(_Moves())
        yield
