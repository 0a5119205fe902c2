"""The graph that a GPU runs, on a CPU: what comes out is what the tiles of `denoiser` give."""

from __future__ import annotations

import contextlib
import gc
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_images import raw_image

from sk_deploy import pinned
from sk_deploy import pipeline as pipeline_module
from sk_deploy.bayer import PHASES
from sk_deploy.denoiser import Denoiser
from sk_deploy.errors import ModelError
from sk_deploy.half import to_half
from sk_deploy.levels import Levels, normalise, to_counts
from sk_deploy.models import DEFAULT_MODEL
from sk_deploy.noise import NoiseProfile
from sk_deploy.pipeline import Pipeline
from sk_deploy.pipeline_graph import Kind
from sk_deploy.session import Session
from sk_deploy.tiling import BORDER, least_tile_px
from sk_deploy.windows import WindowShape, plan_windows, window_shape

QUARTER_STEP = 1 / 16383 / 4
NOISE = NoiseProfile(1e-3, 1e-5)

sizes = st.integers(80, 200)
phases = st.sampled_from(sorted(PHASES))


@given(
    shape=st.tuples(st.integers(2, 300), st.integers(2, 300)),
    phase=phases,
    tile=st.integers(1, 80),
    halo=st.integers(0, 20),
    multiple=st.sampled_from([1, 2, 4, 8]),
    ensemble=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_plan(
    shape: tuple[int, int], phase: str, tile: int, halo: int, multiple: int, ensemble: bool
) -> None:
    """Every site once, from windows on the grid of their flip that hold the core and what it depends on."""
    windows = window_shape(shape, phase, tile, halo, multiple, ensemble)
    if windows is None:
        return
    tiles = plan_windows(shape, phase, windows, halo, multiple)
    covered = np.zeros(shape, int)
    for one in tiles:
        covered[one.row.fresh, one.column.fresh] += 1
    assert (covered == 1).all()
    for axis, (size, red) in enumerate(zip(shape, PHASES[phase], strict=True)):
        for one in {
            id(axis_tile): axis_tile for axis_tile in [(t.row, t.column)[axis] for t in tiles]
        }.values():
            assert one.patch.stop - one.patch.start <= windows.patch
            sites = one.sites + one.patch.start
            assert sites.min() >= 0
            assert sites.max() < one.patch.stop
            core = np.arange(windows.core) + one.fresh.start - one.fresh_of_core.start
            for flip in range(windows.flips):
                kept = one.kept[flip]
                np.testing.assert_array_equal(sites.reshape(-1)[kept], core)
                row, packed = np.divmod(kept - flip * 2 * windows.window, windows.window)
                check_window(sites[flip], core, 2 * packed + row, size, red, flip, halo, multiple)


def check_window(
    sites: np.ndarray,
    core: np.ndarray,
    at: np.ndarray,
    size: int,
    red: int,
    flip: int,
    halo: int,
    multiple: int,
) -> None:
    """One flip's window [2,T], which has the core at its sites `at`."""
    in_order = sites.T.reshape(-1)
    assert (np.abs(np.diff(in_order)) == 1).all()  # side by side, or folded at a border
    if flip:
        core, red = size - 1 - core, (red + size - 1) % 2
    border = 2 * min(halo, BORDER)
    outside = red + border
    start = set(core + outside - at)  # in sites of the flipped mosaic's packed grid
    assert len(start) == 1
    first = start.pop()
    last, padded = first + len(in_order), -(-(size + outside + border) // (2 * multiple)) * 2 * multiple
    assert first % (2 * multiple) == 0
    assert 0 <= first < last <= padded
    assert first == 0 or first <= core.min() + outside - 2 * halo
    assert last == padded or last > core.max() + outside + 2 * halo


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Denoiser:
    """Untiled, so that what tiles do shows."""
    return Denoiser.from_file(models.unet(tmp_path_factory.mktemp("models") / "unet.onnx"), "cpu")


def open_pipeline(
    denoiser: Denoiser,
    shape: tuple[int, int],
    phase: str,
    tile: int,
    ensemble: bool,
    source: Kind,
    target: Kind,
) -> Pipeline:
    spec = denoiser.spec
    windows = window_shape(shape, phase, tile, spec.halo, spec.multiple, ensemble)
    assert windows is not None
    return Pipeline(denoiser.session, windows, source, target)


@given(height=sizes, width=sizes, phase=phases, ensemble=st.booleans(), strength=st.sampled_from([0, 0.7, 1]))
@settings(max_examples=25, deadline=None)
def test_mosaics_equal_the_tiles(
    unet: Denoiser, height: int, width: int, phase: str, ensemble: bool, strength: float
) -> None:
    mosaic = np.random.default_rng(height).normal(0.2, 0.3, (height, width)).astype(np.float32)
    expected = unet(mosaic, phase=phase, ensemble=ensemble, strength=strength)
    pipeline = open_pipeline(unet, mosaic.shape, phase, 40, ensemble, np.float32, np.float32)
    denoised = np.full_like(mosaic, np.nan)
    pipeline.run(mosaic, denoised, phase, None, strength)
    np.testing.assert_allclose(denoised, expected, atol=1e-6)


@given(height=sizes, width=sizes, phase=phases, ensemble=st.booleans(), strength=st.sampled_from([0, 0.7, 1]))
@settings(max_examples=25, deadline=None)
def test_counts_equal_the_tiles(
    unet: Denoiser, height: int, width: int, phase: str, ensemble: bool, strength: float
) -> None:
    """Other black and white at each site, black that drifts, negatives and what is above white."""
    counts, levels = raw(height, width)
    before = counts.copy()
    expected = unet.counts(counts, levels, None, phase, ensemble, strength, gain=4)
    pipeline = open_pipeline(unet, counts.shape, phase, 40, ensemble, np.uint16, np.uint16)
    denoised = np.full_like(counts, 12345)
    pipeline.run(counts, denoised, phase, None, strength, levels, gain=4)
    off = np.abs(denoised.astype(int) - expected.astype(int))
    assert off.max() <= 1  # a quarter of a step, where a value lies half-way between two
    assert (off > 0).mean() < 0.02
    np.testing.assert_array_equal(counts, before)


def raw(height: int, width: int) -> tuple[np.ndarray, Levels]:
    rng = np.random.default_rng(height + width)
    black, white = rng.uniform(400, 600, (2, 2)), rng.uniform(15000, 16000, (2, 2))
    rows, columns = rng.normal(0, 5, height), rng.normal(0, 5, width)
    levels = Levels(*(part.astype(np.float32) for part in (black, white, rows, columns)))
    return np.clip(rng.normal(3000, 4000, (height, width)), 0, 16383).astype(np.uint16), levels


def test_counts_are_those_of_the_mosaic(unet: Denoiser) -> None:
    counts, levels = raw(61, 83)
    mosaic = unet(normalise(counts, levels), ensemble=True)
    expected = np.clip(np.rint(4 * to_counts(mosaic, levels)), 0, 65535)
    np.testing.assert_array_equal(unet.counts(counts, levels, ensemble=True, gain=4), expected)


def test_strength_0_and_an_identity_change_no_bit(tmp_path: Path, unet: Denoiser) -> None:
    counts, levels = raw(101, 87)
    identity = Denoiser.from_file(models.identity(tmp_path / "m.onnx", multiple=8), "cpu")
    for denoiser, strength in ((unet, 0), (identity, 1)):
        pipeline = open_pipeline(denoiser, counts.shape, "GBRG", 40, True, np.uint16, np.uint16)
        denoised = np.zeros_like(counts)
        pipeline.run(counts, denoised, "GBRG", None, strength, levels)
        np.testing.assert_array_equal(denoised, counts)


def test_every_site_meets_its_plane_and_the_noise_its_input(tmp_path: Path, network_alone: None) -> None:
    """Also where the model transposes: gains that differ by plane, Gr and Gb apart."""
    mosaic = np.random.default_rng(0).normal(0.3, 0.1, (70, 90)).astype(np.float32)
    for path in (
        models.plane_gains(tmp_path / "gains.onnx", (1, 2, 3, 4)),
        models.noise_adder(tmp_path / "noise.onnx"),
    ):
        denoiser = Denoiser.from_file(path, "cpu")
        for ensemble in (False, True):
            pipeline = open_pipeline(denoiser, mosaic.shape, "GRBG", 16, ensemble, np.float32, np.float32)
            denoised = np.zeros_like(mosaic)
            pipeline.run(mosaic, denoised, "GRBG", NoiseProfile(0.25, 0.5), 1)
            expected = denoiser(mosaic, NoiseProfile(0.25, 0.5), "GRBG", ensemble)
            np.testing.assert_allclose(denoised, expected, rtol=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_the_shipped_model(tmp_path: Path, half: bool, network_alone: None) -> None:
    """In half precision too, which a CPU rounds here and there as it pleases."""
    exact = 16 * QUARTER_STEP if half else QUARTER_STEP
    import onnx

    from sk_deploy.models import find_model

    path = find_model("nano")
    if half:
        path = tmp_path / "half.onnx"
        onnx.save(to_half(onnx.load(find_model("nano"))), path)
    denoiser = Denoiser(Session(path, "cpu", threads=1))
    tile = least_tile_px(denoiser.spec.halo, denoiser.spec.multiple)
    counts, levels = raw(430, 375)
    mosaic = normalise(counts, levels)
    for ensemble in (False, True):
        pipeline = open_pipeline(denoiser, mosaic.shape, "BGGR", tile, ensemble, np.float32, np.float32)
        denoised = np.zeros_like(mosaic)
        pipeline.run(mosaic, denoised, "BGGR", NOISE, 1)
        np.testing.assert_allclose(denoised, denoiser(mosaic, NOISE, "BGGR", ensemble), atol=exact)


@pytest.fixture
def as_on_a_gpu(unet: Denoiser, monkeypatch: pytest.MonkeyPatch) -> Denoiser:
    """A denoiser that takes its CPU for a GPU."""
    monkeypatch.setattr(unet.session, "provider", "cuda")
    monkeypatch.setattr(unet.session, "open", lambda graph: open_on_cpu(unet.session, graph))
    return Denoiser(unet.session, 256)


def open_on_cpu(session: Session, graph: object) -> object:
    from sk_deploy.session import open_runtime

    return open_runtime(graph.SerializeToString(), "pipeline", "cpu", 1)  # type: ignore[attr-defined]


def test_a_gpu_takes_the_graph(as_on_a_gpu: Denoiser) -> None:
    counts, levels = raw(150, 171)
    shares: list[float] = []
    denoised = as_on_a_gpu.counts(counts, levels, phase="GBRG", ensemble=True, gain=4, progress=shares.append)
    assert [kinds for _, *kinds in as_on_a_gpu._pipelines._open] == [[np.uint16, np.uint16]]
    assert shares[-1] == 1
    assert all(earlier < later for earlier, later in pairwise(shares))
    mosaic = as_on_a_gpu(normalise(counts, levels), phase="GBRG", ensemble=True)
    assert [kinds for _, *kinds in as_on_a_gpu._pipelines._open][1:] == [[np.float32, np.float32]]
    np.testing.assert_allclose(denoised, (4 * to_counts(mosaic, levels)).clip(0, 65535), atol=0.51)
    small = as_on_a_gpu(normalise(counts, levels)[:20, :20])  # mostly halo: through tiles
    assert small.shape == (20, 20)


@pytest.mark.parametrize("exact", [False, True])
def test_a_raw_image_crosses_as_counts(as_on_a_gpu: Denoiser, exact: bool) -> None:
    """And comes back as a mosaic, unless its file had fractions."""
    raw_file = raw_image(170, 141, exact=exact)
    for ensemble, strength in ((False, 0.7), (True, 1)):
        denoised = as_on_a_gpu.image(raw_file, NOISE, ensemble, strength)
        expected = as_on_a_gpu(raw_file.mosaic, NOISE, raw_file.phase, ensemble, strength)
        np.testing.assert_allclose(denoised, expected, atol=1e-6)
    kinds = [source for _, source, _ in as_on_a_gpu._pipelines._open]
    assert (np.uint16 in kinds) is not exact


def test_out_of_memory_halves_the_tile_and_goes_on(
    as_on_a_gpu: Denoiser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counts, levels = raw(150, 171)
    expected = as_on_a_gpu.counts(counts, levels, ensemble=True)

    class Scarce(Pipeline):
        """Windows above 40 packed pixels do not fit."""

        def run(self, *given: object, **options: object) -> None:
            if self.windows.window > 40:
                raise MemoryError("no room")
            super().run(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline_module, "Pipeline", Scarce)
    scarce = Denoiser(as_on_a_gpu.session, 256)
    denoised = scarce.counts(counts, levels, ensemble=True)
    assert scarce.tile_px == 128
    assert [record.message for record in caplog.records] == [
        "not enough memory for tiles of 256 px; going on with 128 px"
    ]
    np.testing.assert_allclose(denoised, expected, atol=1)


def test_what_onnx_runtime_raises_is_told_apart(unet: Denoiser) -> None:
    mosaic = np.zeros((100, 100), np.float32)
    pipeline = open_pipeline(unet, mosaic.shape, "RGGB", 40, False, np.float32, np.float32)

    class Runtime:
        def __init__(self, reason: str) -> None:
            self.reason = reason

        def run_with_iobinding(self, binding: object) -> None:
            raise RuntimeError(self.reason)

    for reason, kind in (("CUDNN_STATUS_ALLOC_FAILED", MemoryError), ("CUDA\nfailure 700", ModelError)):
        for lane in (lanes := [pipeline._lanes.get() for _ in range(2)]):
            lane._runtime = Runtime(reason)
        for lane in lanes:
            pipeline._lanes.put(lane)
        with pytest.raises(kind, match=" ".join(reason.split())):
            pipeline.run(mosaic, mosaic.copy(), "RGGB", None, 1)


def test_window_shapes() -> None:
    """Of `small`, on a photograph and on something that is mostly halo."""
    assert window_shape((4000, 6000), "RGGB", 1152, 24, 8, True) == WindowShape(
        1056, 2000, 2130, 2
    )  # 6 tiles
    assert window_shape((4000, 6000), "RGGB", 1024, 24, 8, False) == WindowShape(560, 1008, 1138, 1)  # 24
    assert window_shape((160, 6000), "RGGB", 1024, 24, 8, False) is None


def test_pinned_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a driver that stands in for NVIDIA's, with the last array that looks at it."""
    import ctypes

    held: dict[int, ctypes.Array] = {}

    class Driver:
        def cuCtxPushCurrent_v2(self, context: object) -> int:
            return 0

        cuCtxPopCurrent_v2 = cuCtxPushCurrent_v2

        def cuMemHostAlloc(self, address: object, size: ctypes.c_size_t, flags: int) -> int:
            memory = ctypes.create_string_buffer(b"\1" * size.value, size.value)
            held[ctypes.addressof(memory)] = memory
            address._obj.value = ctypes.addressof(memory)  # type: ignore[attr-defined]
            return 0

        def cuMemFreeHost(self, address: ctypes.c_void_p) -> int:
            del held[address.value]
            return 0

    monkeypatch.setattr(pinned, "_primary_context", lambda: (Driver(), ctypes.c_void_p()))
    array = pinned.pinned_zeros((3, 5), np.uint16)
    view = array[1:]
    assert array.ctypes.data in held
    assert not array.any()
    del array
    gc.collect()
    view[...] = 7
    assert len(held) == 1
    del view
    gc.collect()
    assert not held


def test_without_a_gpu_memory_is_ordinary() -> None:
    if pinned.in_context("cuCtxSynchronize") == 0:
        pytest.skip("there is a GPU")
    assert pinned.pinned_zeros((3, 5), np.float32).sum() == 0


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("ensemble", [False, True])
def test_cuda_equals_the_cpu(ensemble: bool) -> None:
    """TF32 keeps ten bits, so one is not told from the other by more than that."""
    with contextlib.suppress(ImportError):  # its wheels may bring the CUDA libraries
        import torch  # noqa: F401
    counts, levels = raw(700, 901)
    path = Path(__file__).parents[1] / "models" / f"{DEFAULT_MODEL}.onnx"
    cpu, cuda = (Denoiser.from_file(path, provider, 600) for provider in ("cpu", "cuda"))
    for phase in PHASES:
        expected = cpu.counts(counts, levels, NOISE, phase, ensemble)
        off = np.abs(cuda.counts(counts, levels, NOISE, phase, ensemble).astype(int) - expected)
        assert np.sqrt(np.mean(np.square(off))) < 2
