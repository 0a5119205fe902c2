"""Levels of a window are those of the whole, at every site."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_images import raw_image

from sk_deploy.levels import Levels, normalise, to_counts

sides = st.integers(2, 30)


@given(height=sides, width=sides, seed=st.integers(0, 99), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_window_is_part_of_the_mosaic(height: int, width: int, seed: int, data: st.DataObject) -> None:
    """Bit for bit, whether it runs forwards or backwards, for levels that differ at every site."""
    raw = raw_image(height, width, seed)
    indices = []
    for size in (height, width):
        start, stop = sorted(data.draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True)))
        indices.append(np.arange(start, stop)[:: data.draw(st.sampled_from([1, -1]))])
    rows, columns = indices
    np.testing.assert_array_equal(raw.window(rows, columns), raw.mosaic[rows[:, None], columns])


def test_mosaic_by_hand() -> None:
    levels = Levels(
        np.array([[10, 20], [30, 40]], np.float32),
        np.array([[110, 120], [130, 140]], np.float32),
        np.array([0, 5], np.float32),
        np.array([0, 0, 7], np.float32),
    )
    counts = np.array([[10, 20, 117], [135, 145, 42]], np.uint16)
    expected = [[0, 0, 1], [1, 1, 0]]
    np.testing.assert_array_equal(normalise(counts, levels), expected)
    np.testing.assert_array_equal(to_counts(np.array(expected, np.float32), levels), counts)


def test_fractions_are_kept() -> None:
    raw = raw_image(5, 6, 0, exact=True)
    assert raw.exact is not None
    np.testing.assert_array_equal(raw.mosaic, raw.exact)
    np.testing.assert_array_equal(
        raw.window(np.array([2, 1]), np.array([3, 4])), raw.exact[[2, 1]][:, [3, 4]]
    )


@pytest.mark.parametrize("size", [(2, 2), (5, 9)])
def test_counts_come_back(size: tuple[int, int]) -> None:
    raw = raw_image(*size, 3)
    top, left, bottom, right = raw.area
    counts = np.rint(to_counts(raw.mosaic, raw.levels))
    np.testing.assert_array_equal(counts, raw.stored[top:bottom, left:right])
