"""Rendered charts: within range, what they are named after, the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from sk_deploy.bayer import pack
from sk_search.charts import CHART_LEVELS, CONTENTS, EXAMPLES, SIDE_PX, chart_examples, chart_set
from sk_search.eval_set import Picture


@pytest.fixture(scope="module")
def charts() -> dict[str, list[Picture]]:
    found: dict[str, list[Picture]] = {}
    for picture in chart_set().pictures:
        found.setdefault(picture.group, []).append(picture)
    return found


def test_every_content_at_every_level(charts: dict[str, list[Picture]]) -> None:
    assert list(charts) == list(CONTENTS)
    assert chart_set().count == sum(map(len, charts.values()))
    for pictures in charts.values():
        assert tuple(picture.noise for picture in pictures) == CHART_LEVELS
        clean = pictures[0].clean
        assert clean.shape == (SIDE_PX, SIDE_PX)
        assert clean.min() >= 0
        assert clean.max() <= 1
        assert clean.std() > 1e-3  # something is on it
        for picture in pictures:
            error = picture.noisy - picture.clean
            free = (picture.noisy < 1) & (picture.clean < 0.8)  # white is clipped
            expected = picture.noise.shot * picture.clean[free].mean() + picture.noise.read + 2.0**-28 / 12
            assert error[free].var() == pytest.approx(expected, rel=0.1)


def test_contents_are_what_they_are_named_after(charts: dict[str, list[Picture]]) -> None:
    clean = {content: pack(pictures[0].clean) for content, pictures in charts.items()}
    for plane in clean["highlights"]:  # white exactly, and much of it, in every colour
        assert (plane > 1 - 1e-6).mean() > 0.05
    assert np.median(clean["stars"]) < 0.01
    assert clean["stars"].max() > 0.2
    assert clean["shadows"].max() < 0.02
    assert abs(np.diff(clean["sky"], axis=1)).max() < 0.01
    saturation = clean["lights"].max(0) - clean["lights"].min(0)
    assert (saturation > 0.3).any()
    # Bars at the mosaic's Nyquist frequency: one green bright, the other dark.
    assert np.abs(clean["bars"][1] - clean["bars"][2]).max() > 0.5
    assert np.abs(np.diff(clean["zone plate"][1], axis=1)).max() > 0.5


def test_the_same_each_time(charts: dict[str, list[Picture]]) -> None:
    for example, (content, noise) in zip(chart_examples(), EXAMPLES, strict=True):
        (twin,) = (picture for picture in charts[content] if picture.noise == noise)
        np.testing.assert_array_equal(example.noisy, twin.noisy)
