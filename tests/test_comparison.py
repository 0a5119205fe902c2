"""The picture of a model card: what stands where, whole pixels, an old file kept."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sk_deploy.errors import ConfigError
from sk_search.charts import chart_examples
from sk_search.comparison import CROP_PX, SCALE, check_picture, comparison, write_picture
from sk_search.unprocess import develop


def test_rows_and_columns() -> None:
    """A model that returns the clean picture looks like the last column; nothing is interpolated."""
    examples = chart_examples()
    answers = {id(picture): picture.clean for picture in examples}
    page = comparison(examples, {"oracle": lambda picture: answers[id(picture)]})
    width = (CROP_PX + 1) * SCALE
    assert page.shape[1] == 4 * width  # noisy, NLM, oracle, clean
    height = page.shape[0] // len(examples)
    for row, picture in enumerate(examples):
        pixels = page[(row + 1) * height - CROP_PX * SCALE : (row + 1) * height]
        noisy, nlm, oracle, clean = np.split(pixels, 4, axis=1)
        np.testing.assert_array_equal(oracle, clean)
        assert np.abs(nlm.astype(int) - clean).mean() < np.abs(noisy.astype(int) - clean).mean()
        part = clean[::SCALE, : CROP_PX * SCALE : SCALE]
        np.testing.assert_array_equal(part.repeat(SCALE, 0).repeat(SCALE, 1), clean[:, : CROP_PX * SCALE])
        whole = develop(picture.clean)
        windows = np.lib.stride_tricks.sliding_window_view(whole[..., 0], (CROP_PX, CROP_PX))
        assert (windows[:, :, 0] == part[0, :, 0]).all(-1).any()  # cut out of the developed picture


def test_written_and_read_back(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    path = tmp_path / "card.png"
    check_picture(path, force=False)
    write_picture(path, rgb)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], rgb)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigError, match="exists: --force overwrites it"):
        check_picture(path, force=False)
    check_picture(path, force=True)
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        check_picture(tmp_path / "card.jpg", force=False)
    with pytest.raises(ConfigError, match="is not a folder"):
        check_picture(tmp_path / "none" / "card.png", force=False)
