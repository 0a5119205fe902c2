"""How fast a GPU denoises: `python -m pytest -m "gpu and bench" -s tests/test_gpu_speed.py`.

Or `python tests/test_gpu_speed.py model.onnx`, with the repository on PYTHONPATH: it needs no rawpy and no
installed skdn. Two and a half minutes at most; what there is no time for, and what fails, takes one line.

network: the model on planes that stay on the GPU, runs put in line without waiting, megapixels of the sensor.
counts: from uint16 mosaics of 24 MP in host memory to denoised ones there, 3 after another.
mosaic: the same, to float32 mosaics, as `skdn denoise` wants them.
dng: from uncompressed DNGs in memory to counts, parsing included.
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sk_deploy.denoiser import Denoiser
from sk_deploy.devices import cuda_devices
from sk_deploy.errors import SkdnError
from sk_deploy.gpu_libraries import preload_cuda
from sk_deploy.half import to_half
from sk_deploy.levels import Levels
from sk_deploy.model_file import read_model
from sk_deploy.models import DEFAULT_MODEL
from sk_deploy.noise import NoiseProfile
from sk_deploy.pinned import in_context
from sk_deploy.pipeline import Pipeline
from sk_deploy.session import Session
from sk_deploy.spec import METADATA_KEY
from sk_deploy.windows import window_shape

LIMIT_S = 150.0
SHAPE = 4000, 6000
NOISE = NoiseProfile(1e-3, 1e-5)
GAIN = 4
LEAST_S = 0.3
"""Of one measurement."""


@dataclass(frozen=True)
class Case:
    """One way to run a model."""

    what: str
    precision: str
    tile_px: int
    batch: int = 1
    options: str = "prefer_nhwc=1"
    """Of the CUDA provider, name=value and spaces between."""
    lanes: int = 2
    ensemble: bool = False
    provider: str = "cuda"

    def provider_options(self) -> dict[str, str]:
        return dict(option.split("=") for option in self.options.split())

    def __str__(self) -> str:
        way = f"batch {self.batch}" if self.what == "network" else f"lanes {self.lanes}"
        kind = f"{self.what}×8" if self.ensemble else self.what
        return f"{kind:9} {self.precision:7} {self.tile_px:5} px {way:8} {self.provider} {self.options}"


def cases() -> Iterator[Case]:
    """The most telling first."""
    for precision in ("float16", "float32"):
        yield Case("network", precision, 2048)
        yield Case("counts", precision, 2304)
        yield Case("counts", precision, 1152, ensemble=True)
    yield Case("mosaic", "float16", 2304)
    yield Case("dng", "float16", 2304)
    yield Case("counts", "float16", 2304, options="", provider="tensorrt")
    for graph, precision in product((0, 1), ("float16", "float32")):
        for tile_px, batch in ((512, 1), (1024, 1), (512, 8), (1024, 8)):
            options = "prefer_nhwc=1 enable_cuda_graph=1" if graph else "prefer_nhwc=1"
            yield Case("network", precision, tile_px, batch, options)
    for precision in ("float16", "float32"):
        yield Case("network", precision, 2048, options="prefer_nhwc=0")
        yield Case("network", precision, 2048, options="prefer_nhwc=1 fuse_conv_bias=1")
        yield Case("network", precision, 2048, options="prefer_nhwc=1 cudnn_conv_algo_search=EXHAUSTIVE")
        yield Case("network", precision, 2048, options="prefer_nhwc=1 cudnn_conv_algo_search=DEFAULT")
        yield Case("network", precision, 1024, options="prefer_nhwc=0 enable_cuda_graph=1")
        yield Case("counts", precision, 2304, lanes=1)
        yield Case("counts", precision, 2304, lanes=3)
        yield Case("counts", precision, 1152)
        yield Case("counts", precision, 2304, options="prefer_nhwc=0")
        yield Case("counts", precision, 640, ensemble=True)
        yield Case("counts", precision, 2304, ensemble=True)
    yield Case("network", "float32", 2048, options="prefer_nhwc=1 use_tf32=0")


@dataclass(frozen=True)
class Speed:
    mp_per_s: float
    ms: float
    """Of one run of the network, or one mosaic of 24 MP."""
    memory_mib: float
    """Of the GPU, more than before; ONNX Runtime gives nothing back, so it is the peak."""


def measure(case: Case, models: dict[str, Path]) -> Speed:
    """Opens, warms up, times and closes."""
    before = used_mib()
    session = Session(models[case.precision], case.provider, options=case.provider_options())
    if case.what == "network":
        megapixels, run = case.batch * case.tile_px**2 / 1e6, device_resident(session, case)
        seconds = timed(run)
    else:
        megapixels, run = SHAPE[0] * SHAPE[1] / 1e6, whole_mosaics(session, case)
        seconds = timed(run, at_least=3)
    return Speed(megapixels / seconds, 1e3 * seconds, used_mib() - before)


def timed(run: Callable[[], None], at_least: int = 20) -> float:
    """Seconds of one run in a row of them."""
    for _ in range(4):  # a CUDA graph is captured at the third
        run()
    synchronise()
    runs, started = 0, time.perf_counter()
    while runs < at_least or time.perf_counter() - started < LEAST_S:
        run()
        runs += 1
        if runs % 8 == 0:
            synchronise()
    synchronise()
    return (time.perf_counter() - started) / runs


def device_resident(session: Session, case: Case) -> Callable[[], None]:
    """One run of the network, put in line; inputs and output stay on the GPU."""
    import onnxruntime

    side = case.tile_px // 2
    planes = np.random.default_rng(0).normal(0.3, 0.1, (case.batch, 4, side, side)).astype(np.float32)
    values = {"input": planes}
    if not session.spec.blind:
        values["noise"] = np.tile(np.float32([[NOISE.shot, NOISE.read]]), (case.batch, 1))
    runtime = session._runtime
    binding = runtime.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, "cuda", 0))
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(planes.shape, np.float32, "cuda", 0)
    binding.bind_ortvalue_output("output", output)
    settings = onnxruntime.RunOptions()
    settings.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return lambda: runtime.run_with_iobinding(binding, settings)


def whole_mosaics(session: Session, case: Case) -> Callable[[], None]:
    """One mosaic of 24 MP, from host memory and back to it."""
    spec = session.spec
    windows = window_shape(SHAPE, "RGGB", case.tile_px // 2, spec.halo, spec.multiple, case.ensemble)
    assert windows is not None
    kind = np.float32 if case.what == "mosaic" else np.uint16
    pipeline = Pipeline(session, windows, np.uint16, kind, case.lanes)
    counts, target = noisy_counts(), np.zeros(SHAPE, kind)
    dng = uncompressed_dng(counts) if case.what == "dng" else b""

    def run() -> None:
        source, levels = read_dng(dng) if dng else (counts, LEVELS)
        pipeline.run(source, target, "RGGB", NOISE, 1.0, levels, GAIN)

    return run


LEVELS = Levels(
    np.full((2, 2), 512, np.float32),
    np.full((2, 2), 16383, np.float32),
    np.zeros(SHAPE[0], np.float32),
    np.zeros(SHAPE[1], np.float32),
)


def noisy_counts(shape: tuple[int, int] = SHAPE) -> NDArray[np.uint16]:
    """A grey ramp with noise, 14 bits."""
    ramp = np.linspace(700, 12000, shape[1], dtype=np.float32)
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return np.clip(ramp + 3 * np.sqrt(ramp) * noise, 0, 16383).astype(np.uint16)


def uncompressed_dng(counts: NDArray[np.uint16]) -> bytes:
    import tifffile

    tags = [
        (50706, 1, 4, bytes([1, 4, 0, 0]), True),
        (33421, 3, 2, (2, 2), True),
        (33422, 1, 4, bytes([0, 1, 1, 2]), True),
        (50714, 3, 1, 512, True),
        (50717, 4, 1, 16383, True),
    ]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(counts, photometric=32803, subfiletype=0, metadata=None, extratags=tags)
    return file.getvalue()


def read_dng(data: bytes) -> tuple[NDArray[np.uint16], Levels]:
    from sk_deploy.cfa import find_cfa, read_facts
    from sk_deploy.dng_pixels import decode_counts
    from sk_deploy.tiff import Tiff

    tiff = Tiff(data)
    cfa = find_cfa(tiff)
    facts = read_facts(tiff, cfa)
    counts = decode_counts(tiff, cfa, facts.height, facts.width)
    assert counts is not None
    white = np.full((2, 2), facts.white, np.float32)
    return counts, Levels(facts.black, white, facts.black_rows, facts.black_columns)


def agreement(models: dict[str, Path], precision: str, ensemble: bool) -> str:
    """The largest difference to the CPU, in steps of 14 bits, and the PSNR of one to the other."""
    counts = noisy_counts((700, 900))
    levels = replace(LEVELS, rows=LEVELS.rows[:700], columns=LEVELS.columns[:900])
    on_cpu, on_gpu = (
        Denoiser.from_file(models[name], provider, 600).counts(
            counts, levels, NOISE, "GRBG", ensemble, gain=GAIN
        )
        for name, provider in (("float32", "cpu"), (precision, "cuda"))
    )
    steps = np.abs(on_gpu / GAIN - on_cpu / GAIN)
    psnr_db = 20 * np.log10(16383 / max(np.sqrt(np.mean(np.square(steps))), 1e-9))
    return f"max {steps.max():.2f} steps, {psnr_db:.1f} dB"


def synchronise() -> None:
    assert in_context("cuCtxSynchronize") == 0


def used_mib() -> float:
    import ctypes

    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert in_context("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total)) == 0
    return (total.value - free.value) / 2**20


def both_precisions(model: Path, folder: Path) -> dict[str, Path]:
    """Precision -> a file of the model in it."""
    import onnx

    _, spec = read_model(model)
    half, facts = to_half(onnx.load(model)), replace(spec, precision="float16")
    onnx.helper.set_model_props(half, {METADATA_KEY: facts.to_json()})
    path = folder / f"{model.stem}_half.onnx"
    onnx.save(half, path)
    return {"float32": model, "float16": path}


def measure_all(model: Path, folder: Path) -> dict[Case, Speed]:
    """Print every case as it ends, and a table of all, fastest first."""
    started = time.perf_counter()
    models = both_precisions(model, folder)
    print(f"\n{model.name} on {cuda_devices()[0]}")
    for precision, ensemble in product(models, (False, True)):
        with one_line(f"agrees with the CPU, {precision}, ensemble {ensemble}") as told:
            told.append(agreement(models, precision, ensemble))
    speeds: dict[Case, Speed] = {}
    for case in cases():
        if time.perf_counter() - started > LIMIT_S - 10:
            print(f"{case}: no time left")
            continue
        with one_line(str(case)) as told:
            speed = speeds[case] = measure(case, models)
            told.append(f"{speed.mp_per_s:7.0f} MP/s {speed.ms:8.2f} ms {speed.memory_mib:6.0f} MiB")
        gc.collect()
    print(f"\nfastest first; {time.perf_counter() - started:.0f} s in all")
    for case, speed in sorted(speeds.items(), key=lambda pair: (pair[0].what, -pair[1].mp_per_s)):
        print(f"{speed.mp_per_s:7.0f} MP/s {speed.ms:8.2f} ms {speed.memory_mib:6.0f} MiB  {case}")
    return speeds


@contextlib.contextmanager
def one_line(what: str) -> Iterator[list[str]]:
    """Print what is told, with the seconds that it took, or in one line why it failed."""
    started, told = time.perf_counter(), list[str]()
    try:
        yield told
    except Exception as error:  # one case must not end the others
        told.append(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")
    print(f"{what}: {', '.join(told)} ({time.perf_counter() - started:.1f} s)", flush=True)


@pytest.mark.gpu
@pytest.mark.bench
@pytest.mark.filterwarnings("default")  # one library's complaint must not end the others' measurement
def test_speed(tmp_path: Path) -> None:
    if not cuda_devices():
        pytest.skip("no CUDA device")
    load_libraries()
    speeds = measure_all(default_model(), tmp_path)

    def best(what: str, ensemble: bool = False) -> float:
        return max(
            (s.mp_per_s for c, s in speeds.items() if (c.what, c.ensemble) == (what, ensemble)), default=0
        )

    if "H200" in cuda_devices()[0]:
        assert best("network") > 500
        assert best("counts") > 100
        assert best("counts", ensemble=True) > 24


def default_model() -> Path:
    return Path(__file__).parents[1] / "models" / f"{DEFAULT_MODEL}.onnx"


def load_libraries() -> None:
    """CUDA and cuDNN, where PyTorch's wheels bring them."""
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401
    with contextlib.suppress(SkdnError):
        preload_cuda()


if __name__ == "__main__":
    import tempfile

    load_libraries()
    with tempfile.TemporaryDirectory() as place:
        for path in map(Path, sys.argv[1:]) if sys.argv[1:] else [default_model()]:
            measure_all(path, Path(place))
