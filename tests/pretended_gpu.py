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

GPU = torch.device("cuda:0")
_aten = torch.ops.aten
_TAKE_BOTH = {  # as on a real GPU: copies, and indices that lie on the CPU
    _aten.copy_.default,
    _aten.index.Tensor,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}
_READ = {"numpy", "__array__"}
_CARRY = {"to", "cpu", *_READ}


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
        seen: list[torch.Tensor] = []
        inner_args = _down(args, seen)
        inner_kwargs = _down(kwargs, seen) if kwargs else {}
        for tensor in seen:
            strange = not isinstance(tensor, OnGpu) and tensor.dim()  # a number may lie anywhere
            if strange and func not in _TAKE_BOTH:
                place = f"{tuple(tensor.shape)} on the CPU"
                raise RuntimeError(f"{func}: {place} beside one on the GPU")
        if "device" in inner_kwargs:
            inner_kwargs["device"] = torch.device("cpu")
        answer = func(*inner_args, **inner_kwargs)
        if func._schema.is_mutable:
            for tensor in seen:
                if isinstance(tensor, OnGpu) and tensor.held is answer:
                    return tensor
        return _up(answer)


def _down(value: Any, seen: list[torch.Tensor]) -> Any:
    """What an operation is given, with the tensors of the CPU in it; `seen` gets those it had.
    Written out, because torch's own trees take most of the time of these tests."""
    if isinstance(value, torch.Tensor):
        seen.append(value)
        return value.held if isinstance(value, OnGpu) else value
    if isinstance(value, (list, tuple)):
        return type(value)([_down(each, seen) for each in value])
    if isinstance(value, dict):
        return {key: _down(each, seen) for key, each in value.items()}
    return value


def _up(value: Any) -> Any:
    """What an operation answers, with its tensors on the GPU."""
    if isinstance(value, torch.Tensor):
        return OnGpu(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_up(each) for each in value])
    return value


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
        given = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _CARRY and args and isinstance(args[0], torch.Tensor):
            if name == "to" and not any(isinstance(a, torch.Tensor) for a in args[1:]):
                return _moved(args[0], args[1:], dict(given))
            if name == "cpu":
                return _moved(args[0], ("cpu",), {})
            if name in _READ and isinstance(args[0], OnGpu):
                raise TypeError("a tensor of the GPU cannot become an array; use .cpu() first")
        wanted = given.get("device")
        if wanted is not None and torch.device(wanted).type == "cuda":
            return _up(func(*args, **given | {"device": "cpu"}))
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
