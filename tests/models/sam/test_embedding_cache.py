from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.io.disk_cache import DiskCache
from pipeline.models.sam.embedding_cache import get_embedding, pack, put_embedding, unpack


@given(arrays.arrays(np.float16, st.tuples(*[st.integers(1, 4)] * 3)))
def test_packing_loses_no_bit(values: np.ndarray) -> None:
    assert unpack(pack(values)).tobytes() == values.tobytes()


def test_an_embedding_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="is \\(C, H, W\\)"):
        pack(np.zeros((4, 4), np.float16))


def test_an_embedding_is_kept_and_found(tmp_path: Path) -> None:
    embedding = np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float16)
    cache = DiskCache(tmp_path, 1 << 20)
    assert get_embedding(cache, "key") is None
    put_embedding(cache, "key", embedding)
    found = get_embedding(cache, "key")
    assert found is not None
    assert (found == embedding).all()
