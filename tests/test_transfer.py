"""Objects through a pipe: whole, and held once."""

from __future__ import annotations

import threading
import tracemalloc
from multiprocessing import Pipe

import numpy as np
import pytest
from raw_images import raw_image

from sk_deploy import transfer
from sk_deploy.transfer import receive, send


def test_arrays_of_any_size_arrive() -> None:
    """Below, at and above a piece; of no size; not contiguous; and what is no array."""
    n = transfer.PIECE_BYTES
    arrays = [np.arange(size, dtype=np.uint8) for size in (0, 1, n - 1, n, n + 1, 3 * n)]
    sent = {"arrays": [*arrays, np.arange(24.0).reshape(4, 6)[::2, 1::2]], "text": "ä"}
    ours, theirs = Pipe()
    thread = threading.Thread(target=send, args=(theirs, sent))
    thread.start()
    received = receive(ours)
    thread.join()
    assert received["text"] == "ä"
    for one, other in zip(sent["arrays"], received["arrays"], strict=True):
        np.testing.assert_array_equal(one, other)
    received["arrays"][-2][0] = 7  # and can be written to


def test_a_raw_image_is_held_once() -> None:
    raw = raw_image(1000, 2000)
    ours, theirs = Pipe()
    thread = threading.Thread(target=send, args=(theirs, raw))
    tracemalloc.start()
    try:
        thread.start()
        received = receive(ours)
        thread.join()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(received.stored, raw.stored)
    assert received.area == raw.area
    assert peak < raw.stored.nbytes + 5 * transfer.PIECE_BYTES


def test_the_other_side_is_gone() -> None:
    ours, theirs = Pipe()
    theirs.send((b"", [10]))
    theirs.close()
    with pytest.raises(EOFError):
        receive(ours)
