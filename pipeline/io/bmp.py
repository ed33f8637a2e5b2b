"""BMP files whose pixels are packed by masks of bits. OpenCV takes the fourth byte of 32-bit ones
for alpha, knows one order of colours alone, and does not scale 5 bits to 8."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_NO_COMPRESSION, _BITFIELDS, _ALPHA_BITFIELDS = 0, 3, 6
_MASKS = 54  # where they are: behind the 40 bytes of the header, or in a longer one
_FIVE_BITS = (0x7C00, 0x3E0, 0x1F, 0)  # red, green, blue, alpha of 16 bits without masks
_HAS_ALPHA = 56  # bytes of the first header with a mask of alpha
_MOST_BITS = 16  # of a channel


def read_packed(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels (H, W, 3) BGR, or (H, W, 4) with alpha, of a BMP of 16 bits, or of 32 with masks;
    None for another. Raises ValueError and struct.error for a broken one."""
    (start,) = struct.unpack_from("<I", data, 10)
    (length,) = struct.unpack_from("<I", data, 14)
    if length < 40:
        return None  # OS/2
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    has_masks = compression in {_BITFIELDS, _ALPHA_BITFIELDS}
    if not (has_masks and bits in {16, 32}) and not (bits == 16 and compression == _NO_COMPRESSION):
        return None
    masks = _masks(data, length, compression) if has_masks else _FIVE_BITS
    stride = (width * bits + 31) // 32 * 4
    size = stride * abs(height)
    if len(data) < start + size:
        raise ValueError("fewer pixels than its size says")
    rows = np.frombuffer(data, np.uint8, size, start).reshape(abs(height), stride)
    packed = rows[:, : width * bits // 8].copy().view(f"<u{bits // 8}")
    if height > 0:
        packed = packed[::-1]
    channels = [_channel(packed, mask) for mask in (masks[2], masks[1], masks[0])]
    alpha = _channel(packed, masks[3]) if masks[3] else None
    if alpha is not None and alpha.any():
        channels.append(alpha)
    return np.ascontiguousarray(np.stack(channels, axis=2))


def _masks(data: bytes, length: int, compression: int) -> tuple[int, int, int, int]:
    """The masks of red, green, blue and alpha; 0 for none."""
    count = 4 if length >= _HAS_ALPHA or compression == _ALPHA_BITFIELDS else 3
    red, green, blue, *alpha = struct.unpack_from(f"<{count}I", data, _MASKS)
    return red, green, blue, alpha[0] if alpha else 0


def _channel(packed: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
    """The bits of a mask in [0, 255]. Raises ValueError for bits that are not side by side."""
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    most = mask >> shift
    if most & (most + 1) or most >> _MOST_BITS:
        raise ValueError("a mask of bits that are apart")
    if not most:
        return np.zeros(packed.shape, np.uint8)
    scale = (np.arange(most + 1) * 255 + most // 2) // most
    return np.asarray(scale.astype(np.uint8)[(packed >> shift) & most])
