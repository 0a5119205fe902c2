"""Tiles: the plan covers every pixel once with a halo to spare, and the tiled result equals the whole one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_models as models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_deploy.bayer import PHASES
from sk_deploy.errors import ConfigError
from sk_deploy.session import Session
from sk_deploy.tiling import plan_spans, run_tiles

QUARTER_STEP = 1 / 16383 / 4
WHOLE = 1 << 20


@given(
    size=st.integers(1, 400),
    extra=st.integers(0, 60),
    halo=st.integers(0, 20),
    multiple=st.sampled_from([1, 2, 4, 8]),
)
@settings(max_examples=300, deadline=None)
def test_plan(size: int, extra: int, halo: int, multiple: int) -> None:
    tile = 2 * (-(-halo // multiple) * multiple) + multiple + extra
    spans = plan_spans(size, tile, halo, multiple)
    padded = -(-size // multiple) * multiple
    assert {span.length for span in spans} == {spans[0].length}
    assert spans[0].length <= max(tile, multiple)
    assert all(span.origin % multiple == 0 and span.length % multiple == 0 for span in spans)
    assert (spans[0].origin, spans[-1].origin + spans[-1].length) == (0, padded)
    assert (spans[0].keep_start, spans[-1].keep_stop) == (0, size)
    for left, right in pairwise(spans):
        assert left.keep_stop == right.keep_start
        assert left.keep_stop + halo <= left.origin + left.length
        assert right.keep_start - halo >= right.origin
    assert all(span.keep_start < span.keep_stop for span in spans)


def test_tiles_shrink_together() -> None:
    """Two tiles of 108 do the work that 200 and a sliver would do twice."""
    assert [(span.origin, span.length) for span in plan_spans(200, 192, 8, 4)] == [(0, 108), (92, 108)]


def test_tile_too_small_for_its_halo() -> None:
    with pytest.raises(ConfigError, match="needs at least 72 px"):
        plan_spans(200, 34, 16, 4)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Session]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "convolutions": Session(models.convolutions(folder / "c.onnx", layers=3, k=5), "cpu"),
        "unet": Session(models.unet(folder / "u.onnx"), "cpu"),
    }


def run(session: Session, mosaic: np.ndarray, phase: str, tile: int) -> np.ndarray:
    total = np.zeros_like(mosaic)
    spec = session.spec
    run_tiles(session.run, mosaic, phase, total, tile=tile, halo=spec.halo, multiple=spec.multiple)
    return total


@pytest.mark.parametrize("name", ["convolutions", "unet"])
@given(
    height=st.integers(2, 150),
    width=st.integers(2, 150),
    phase=st.sampled_from(sorted(PHASES)),
    extra=st.integers(0, 30),
)
@settings(max_examples=40, deadline=None)
def test_tiled_is_whole(
    networks: dict[str, Session], name: str, height: int, width: int, phase: str, extra: int
) -> None:
    session = networks[name]
    mosaic = np.random.default_rng(height * width).normal(0.2, 0.3, (height, width)).astype(np.float32)
    tile = 2 * session.spec.halo + session.spec.multiple + extra
    tiled, whole = run(session, mosaic, phase, tile), run(session, mosaic, phase, WHOLE)
    assert np.abs(tiled - whole).max() <= QUARTER_STEP


def test_a_halo_too_small_shows(networks: dict[str, Session]) -> None:
    """The check above can fail: without the halo, seams show."""
    session = networks["convolutions"]
    mosaic = np.random.default_rng(0).normal(0.2, 0.3, (100, 100)).astype(np.float32)
    total = np.zeros_like(mosaic)
    run_tiles(session.run, mosaic, "RGGB", total, tile=16, halo=0, multiple=1)
    assert np.abs(total - run(session, mosaic, "RGGB", WHOLE)).max() > 100 * QUARTER_STEP


@pytest.mark.parametrize("phase", sorted(PHASES))
def test_every_site_reaches_its_plane(phase: str) -> None:
    """Packed planes hold one colour each, borders and mirrored padding included."""
    height, width = 9, 13
    row, column = PHASES[phase]
    y, x = np.mgrid[:height, :width]
    colours = (2 * ((y - row) % 2) + (x - column) % 2).astype(np.float32)
    seen = []

    def network(planes: np.ndarray) -> np.ndarray:
        seen.append(planes)
        return planes

    total = np.zeros_like(colours)
    run_tiles(network, colours, phase, total, tile=WHOLE, halo=0, multiple=8)
    assert seen[0].shape[2:] == (8, 8)
    for plane in range(4):
        assert (seen[0][0, plane] == plane).all()
    np.testing.assert_array_equal(total, colours)


def test_progress_ends_at_one(networks: dict[str, Session]) -> None:
    shares: list[float] = []
    mosaic = np.zeros((90, 90), np.float32)
    run_tiles(
        networks["unet"].run,
        mosaic,
        "RGGB",
        mosaic.copy(),
        tile=24,
        halo=8,
        multiple=2,
        progress=shares.append,
    )
    assert shares == sorted(shares)
    assert len(shares) > 4
    assert shares[-1] == 1
