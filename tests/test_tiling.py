"""Tiles: the plan covers every pixel once with a halo to spare, and the tiled result equals the whole one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import onnx_models as models
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sk_deploy.bayer import PHASES, cut
from sk_deploy.errors import ConfigError
from sk_deploy.models import find_model, shipped_models
from sk_deploy.session import Session
from sk_deploy.tiling import _OVERHEAD, BORDER, Span, least_tile_px, plan_tiles, run_tiles

QUARTER_STEP = 1 / 16383 / 4
WHOLE = 1 << 20


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    extra=st.integers(0, 5000),
    halo=st.integers(0, 20),
    multiple=st.sampled_from([1, 2, 4, 8]),
)
@settings(max_examples=300, deadline=None)
def test_plan(height: int, width: int, extra: int, halo: int, multiple: int) -> None:
    most = (least_tile_px(halo, multiple) // 2) ** 2 + extra
    rows, columns = plan_tiles(height, width, most, halo, multiple)
    assert rows[0].length * columns[0].length <= most
    for spans, size in ((rows, height), (columns, width)):
        check_axis(spans, size, halo, multiple)


def check_axis(spans: list[Span], size: int, halo: int, multiple: int) -> None:
    padded = -(-size // multiple) * multiple
    assert {span.length for span in spans} == {spans[0].length}
    assert all(span.origin % multiple == 0 and span.length % multiple == 0 for span in spans)
    assert (spans[0].origin, spans[-1].origin + spans[-1].length) == (0, padded)
    assert (spans[0].keep_start, spans[-1].keep_stop) == (0, size)
    for left, right in pairwise(spans):
        assert left.keep_stop == right.keep_start
        assert left.keep_stop + halo <= left.origin + left.length
        assert right.keep_start - halo >= right.origin
    assert all(span.keep_start < span.keep_stop for span in spans)


def computed(height: int, width: int, most: int, halo: int, multiple: int) -> float:
    """Pixels computed for each that is kept."""
    rows, columns = plan_tiles(height, width, most, halo, multiple)
    return len(rows) * len(columns) * rows[0].length * columns[0].length / (height * width)


@given(
    height=st.integers(40, 300),
    width=st.integers(40, 300),
    edge=st.integers(40, 120),
    halo=st.integers(0, 16),
    multiple=st.sampled_from([1, 2, 4, 8]),
)
@example(height=40, width=257, edge=48, halo=1, multiple=8)
@settings(max_examples=100, deadline=None)
def test_no_square_tile_takes_less(height: int, width: int, edge: int, halo: int, multiple: int) -> None:
    """Pixels and what each tile takes however small: fewer tiles may compute a few pixels more."""
    halo = -(-halo // multiple) * multiple
    side = edge // multiple * multiple
    padded = [-(-size // multiple) * multiple for size in (height, width)]
    counts = [max(1, -(-(size - 2 * halo) // (side - 2 * halo))) for size in padded]
    square = math.prod(min(side, size) for size in padded)
    rows, columns = plan_tiles(height, width, side**2, halo, multiple)
    planned = len(rows) * len(columns) * (rows[0].length * columns[0].length + _OVERHEAD)
    assert planned <= math.prod(counts) * (square + _OVERHEAD)


def test_what_tiles_cost() -> None:
    """12 MP, halo 24, multiple 8: today's tiles, twice as many pixels in one, and all of them."""
    assert computed(1500, 2000, 512**2, 24, 8) == pytest.approx(1.179, abs=1e-3)
    assert computed(1500, 2000, 2 * 512**2, 24, 8) == pytest.approx(1.109, abs=1e-3)
    assert computed(1500, 2000, 1504 * 2000, 24, 8) == 1504 / 1500


def test_lanes_share_evenly() -> None:
    """Two lanes do not leave one of them idle, nor cut small pictures into slivers."""
    rows, columns = plan_tiles(1500, 2000, 1504 * 2000, 24, 8, lanes=2)
    assert (len(rows), len(columns)) == (1, 2)
    rows, columns = plan_tiles(1504, 2000, 1504 * 700, 24, 8, lanes=2)
    assert len(rows) * len(columns) == 4
    rows, columns = plan_tiles(33, 33, 1000**2, 0, 1, lanes=2)
    assert len(rows) * len(columns) == 2


def test_an_error_ends_all_lanes() -> None:
    """The first tile that fails is the last to begin, but for the one beside it."""
    begun = []

    def network(planes: np.ndarray) -> np.ndarray:
        begun.append(planes.shape)
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        tiled(network, np.zeros((200, 200), np.float32), "RGGB", 16**2, halo=0, multiple=1, lanes=2)
    assert len(begun) <= 2


def test_tiles_shrink_together() -> None:
    """Two tiles of 108 do the work that 200 and a sliver would do twice."""
    rows, columns = plan_tiles(200, 100, 192 * 100, 8, 4)
    assert [(span.origin, span.length) for span in rows] == [(0, 108), (92, 108)]
    assert len(columns) == 1


def test_tile_too_small_for_its_halo() -> None:
    with pytest.raises(ConfigError, match="needs 72² at least"):
        plan_tiles(200, 200, 34**2, 16, 4)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Session]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "convolutions": Session(models.convolutions(folder / "c.onnx", layers=3, k=5), "cpu"),
        "unet": Session(models.unet(folder / "u.onnx"), "cpu"),
    }


def tiled(
    network: Callable[[np.ndarray], np.ndarray],
    mosaic: np.ndarray,
    phase: str,
    most: int,
    halo: int,
    multiple: int,
    lanes: int = 1,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """A mosaic through tiles; every site is written once."""
    out = np.full_like(mosaic, np.nan)

    def write(rows: slice, columns: slice, denoised: np.ndarray) -> None:
        assert np.isnan(out[rows, columns]).all()
        out[rows, columns] = denoised

    read = partial(cut, mosaic)
    shape, limits = mosaic.shape, {"most": most, "halo": halo, "multiple": multiple, "lanes": lanes}
    run_tiles(network, read, write, shape, phase, **limits, progress=progress)
    return out


def run(session: Session, mosaic: np.ndarray, phase: str, most: int, lanes: int = 1) -> np.ndarray:
    return tiled(session.run, mosaic, phase, most, session.spec.halo, session.spec.multiple, lanes)


@pytest.mark.parametrize("name", ["convolutions", "unet"])
@given(
    height=st.integers(2, 150),
    width=st.integers(2, 150),
    phase=st.sampled_from(sorted(PHASES)),
    extra=st.integers(0, 2000),
)
@settings(max_examples=40, deadline=None)
def test_tiled_is_whole(
    networks: dict[str, Session], name: str, height: int, width: int, phase: str, extra: int
) -> None:
    session = networks[name]
    mosaic = np.random.default_rng(height * width).normal(0.2, 0.3, (height, width)).astype(np.float32)
    most = (least_tile_px(session.spec.halo, session.spec.multiple) // 2) ** 2 + extra
    pieces, whole = run(session, mosaic, phase, most, lanes=2), run(session, mosaic, phase, WHOLE)
    assert np.abs(pieces - whole).max() <= QUARTER_STEP


@pytest.fixture(scope="module", params=shipped_models())
def shipped(request: pytest.FixtureRequest) -> Session:
    return Session(find_model(request.param), "cpu")


@given(
    height=st.integers(2, 300),
    width=st.integers(2, 300),
    phase=st.sampled_from(sorted(PHASES)),
    share=st.floats(0, 1),
    light=st.floats(0.01, 1),
    shot=st.sampled_from([1e-4, 1e-2]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shipped_models_tile_exactly(
    shipped: Session, height: int, width: int, phase: str, share: float, light: float, shot: float
) -> None:
    """From the smallest tiles there are to nearly the whole."""
    rng = np.random.default_rng(height * width)
    scene = cv2.GaussianBlur(rng.random((height, width), np.float32), (0, 0), 3)
    scene *= np.float32(light) / scene.max()
    noise = rng.standard_normal((height, width), np.float32) * np.sqrt(shot * scene + shot / 100)
    mosaic = (scene + noise).astype(np.float32)
    level = None if shipped.spec.blind else np.array([[shot, shot / 100]], np.float32)
    halo, multiple = shipped.spec.halo, shipped.spec.multiple
    least = (least_tile_px(halo, multiple) // 2) ** 2
    most = round(least + share * max(0, height * width / 4 - least))

    def network(planes: np.ndarray) -> np.ndarray:
        return shipped.run(planes, level)

    pieces = tiled(network, mosaic, phase, most, halo, multiple, lanes=2)
    whole = tiled(network, mosaic, phase, WHOLE, halo, multiple)
    assert np.abs(pieces - whole).max() <= QUARTER_STEP


def test_a_halo_too_small_shows(networks: dict[str, Session]) -> None:
    """The check above can fail: without the halo, seams show."""
    session = networks["convolutions"]
    mosaic = np.random.default_rng(0).normal(0.2, 0.3, (100, 100)).astype(np.float32)
    seamed = tiled(session.run, mosaic, "RGGB", 16**2, halo=0, multiple=1)
    assert np.abs(seamed - run(session, mosaic, "RGGB", WHOLE)).max() > 100 * QUARTER_STEP


@pytest.mark.parametrize("phase", sorted(PHASES))
@pytest.mark.parametrize("most", [24**2, WHOLE])
def test_no_network_sees_the_end_of_a_mosaic(networks: dict[str, Session], phase: str, most: int) -> None:
    """Of one whose halo is within the border: as if the mosaic went on as its mirror image."""
    session = networks["convolutions"]
    assert session.spec.halo <= BORDER
    mosaic = np.random.default_rng(0).normal(0.2, 0.3, (61, 90)).astype(np.float32)
    beyond = 4 * BORDER
    continued = run(session, np.pad(mosaic, beyond, "reflect"), phase, WHOLE)
    inside = continued[beyond:-beyond, beyond:-beyond]
    assert np.abs(run(session, mosaic, phase, most) - inside).max() <= QUARTER_STEP


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

    total = tiled(network, colours, phase, WHOLE, halo=0, multiple=8)
    assert seen[0].shape[2:] == (8, 8)
    for plane in range(4):
        assert (seen[0][0, plane] == plane).all()
    np.testing.assert_array_equal(total, colours)


def test_progress_ends_at_one(networks: dict[str, Session]) -> None:
    shares: list[float] = []
    mosaic = np.zeros((90, 90), np.float32)
    tiled(networks["unet"].run, mosaic, "RGGB", 24**2, 8, 2, progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) > 4
    assert shares[-1] == 1
