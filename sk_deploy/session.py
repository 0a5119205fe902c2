"""A model file, opened with ONNX Runtime on the provider that was asked for: no silent fallback."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cpu_arena import give_back, use_arena
from .devices import cpu_threads, cuda_absence, cuda_devices
from .errors import ModelError, ProviderError, SkdnError
from .gpu_libraries import missing_libraries, preload_cuda
from .model_file import read_model
from .provider_options import Options, provider_options
from .spec import ModelSpec

log = logging.getLogger(__name__)

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Our name -> ONNX Runtime's. `auto` is CUDA where a CUDA device is, else CPU."""

CPU_LANES = 2
"""Tiles that are computed at a time on a CPU. On 2 cores that takes 0.83 to 0.92 of the time of one after the
other on both: the threads of one network wait for each other at every operator, two networks never do, and
while one tile is cut out and packed the other is computed. Spinning, which shortens those waits, takes the
cores from everything else that runs (1.3 to 1.5 times as long beside one busy program)."""
CUDA_HINT = "`skdn providers` names what is missing; or ask for --provider cpu"
FATAL_ONLY = 4
"""ONNX Runtime's log level: what goes wrong comes back as an exception, and we say it in one line."""
CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Where these run, the model runs. Nodes that compute shapes stay on the CPU, on purpose."""
OUT_OF_MEMORY = ("bad_alloc", "out of memory", "failed to allocate", "alloc_failed", "available memory")
"""How allocators put it, in lower case: the C++ library, CUDA, ONNX Runtime's arena (twice), cuDNN."""


class Session:
    """One model on one provider."""

    spec: ModelSpec
    data: bytes
    """The model file's."""
    provider: str
    """The provider that really runs: "cuda", "tensorrt" or "cpu"."""
    elsewhere: dict[str, int]
    """Nodes that another provider runs, by operator: no convolutions, unless `auto` warned of it."""
    threads: int
    """CPU threads of one run."""
    load_s: float
    """Seconds that opening took."""
    lanes: int
    """Runs that should go on at a time, from as many threads."""
    network_s: float
    """Seconds in which the network ran since opening; on a GPU, where one graph does everything, in which
    that did, copies included."""

    def __init__(
        self,
        path: str | Path,
        provider: str = "auto",
        threads: int | None = None,
        trace: Path | None = None,
        options: Options | None = None,
        lanes: int = CPU_LANES,
    ) -> None:
        """Open a model file; `trace` begins the name of the file that `end_trace` writes.

        `lanes`: runs at a time on a CPU, which share the threads; 1 where a trace is written. `options` go to
        a GPU's provider beside its usual ones. Raises ModelError when it is not a denoiser that this version
        knows, ProviderError when the provider that was named cannot run it. `auto` runs on the CPU where
        there is no CUDA device, and warns where there is one that cannot be used.
        """
        started = time.perf_counter()
        path = Path(path)
        data, self.spec = read_model(path)
        self.threads = threads or cpu_threads()
        self.data, self._trace = data, trace
        self._options = dict(options or {})
        if provider == "tensorrt" and self.spec.precision == "float16":
            self._options["trt_fp16_enable"] = "1"
        lanes = min(lanes, self.threads) if trace is None else 1  # a trace shows one run at a time
        self._runtime = self._traced = open_runtime(
            data, path.name, provider, self.threads, trace, self._options, lanes
        )
        self.provider, self.elsewhere = provider_of(self._runtime), elsewhere(self._runtime)
        self.lanes = lanes if self.provider == "cpu" else 1
        if provider == "auto" and self.provider == "cpu" and cuda_devices():
            log.warning("CUDA cannot be used on %s; running on the CPU: %s", cuda_devices()[0], CUDA_HINT)
        elif self.provider != "cpu" and not self.on_gpu:
            log.warning("not all convolutions run on %s: %s", self.provider, CUDA_HINT)
        self.load_s = time.perf_counter() - started
        self.network_s = 0.0
        self._lock, self._running, self._since = threading.Lock(), 0, 0.0
        self._largest = 0  # numbers in an input so far

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU runs every convolution."""
        return self.provider != "cpu" and not any(operator in self.elsewhere for operator in CONVOLUTIONS)

    def run(
        self, planes: NDArray[np.float32], noise: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Denoise planes [B,4,h,w], h and w multiples of `spec.multiple`, given noise [B,2] unless blind.

        Several threads may run at a time. Raises MemoryError when the provider cannot allocate, ModelError
        when the graph cannot run.
        """
        feeds = {"input": planes} if self.spec.blind else {"input": planes, "noise": noise}
        try:
            with self._timed():
                self._make_room(feeds)
                (output,) = self._runtime.run(["output"], feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise self.failure(error) from error
        if output.shape != planes.shape:
            raise ModelError(
                f"model {self.spec.name} made {output.shape} of {planes.shape}: expected the same shape"
            )
        denoised: NDArray[np.float32] = output
        return denoised

    def rest(self) -> None:
        """Give the memory of activations back to the system, until the next run."""
        if self.provider == "cpu":
            side = self.spec.multiple
            few = {"input": np.ones((1, 4, side, side), np.float32), "noise": np.ones((1, 2), np.float32)}
            give_back(self._runtime, {"input": few["input"]} if self.spec.blind else few)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Count the time to `network_s` that this or another run takes."""
        with self._lock:
            if self._running == 0:
                self._since = time.perf_counter()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self.network_s += time.perf_counter() - self._since

    def _make_room(self, feeds: dict[str, Any]) -> None:
        """Before inputs larger than any before, have what was held for those given back."""
        planes, multiple = feeds["input"], self.spec.multiple
        with self._lock:
            grows = 0 < self._largest < planes.size
            self._largest = max(self._largest, planes.size)
        if grows and self.provider == "cpu":
            give_back(self._runtime, feeds | {"input": planes[..., :multiple, :multiple]})

    def open(self, graph: Any) -> Any:
        """ONNX Runtime's session of another graph around this model, on the same provider and threads.

        Raises ProviderError, ModelError or MemoryError. A trace then is the last such graph's.
        """
        try:
            self._traced = open_runtime(
                graph.SerializeToString(),
                self.spec.name,
                self.provider,
                self.threads,
                self._trace,
                self._options,
            )
        except ModelError as error:
            raise self.failure(error) from error
        return self._traced

    def failure(self, error: Exception) -> SkdnError | MemoryError:
        """What an exception of ONNX Runtime is to be raised as: MemoryError, or ModelError in one line."""
        if isinstance(error, SkdnError) and not _lacks_memory(str(error)):
            return error
        reason = _one_line(error)
        if _lacks_memory(reason):
            return MemoryError(reason)
        return ModelError(f"model {self.spec.name} failed on {self.provider}: {reason}")

    def end_trace(self) -> Path:
        """Stop tracing: ONNX Runtime's own profile of every run since opening, JSON."""
        return Path(self._traced.end_profiling())


def open_runtime(
    data: bytes,
    name: str,
    provider: str,
    threads: int,
    trace: Path | None = None,
    options: Options | None = None,
    lanes: int = 1,
) -> Any:
    """ONNX Runtime's session of a graph, on the provider that was asked for; `name` is for its errors.

    `options` go to a GPU's provider beside its usual ones. On a CPU, `threads` are those of all `lanes`, the
    runs that go on at a time. Raises ProviderError when that provider would not
    run it, or not all of its convolutions.
    """
    import onnxruntime

    asked = _choose(provider, onnxruntime.get_available_providers())
    onnxruntime.set_default_logger_severity(FATAL_ONLY)
    if asked[0] != PROVIDERS["cpu"]:
        preload_cuda()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = FATAL_ONLY
    settings.intra_op_num_threads = threads - (lanes - 1)  # the calling threads compute too
    if asked[0] == PROVIDERS["cpu"]:
        use_arena(settings)
        # Or its threads spin after a run, in case of a next one, while another session needs the cores.
        settings.add_session_config_entry("session.force_spinning_stop", "1")
    else:
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if trace is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, str(trace)
    set_up = {helper: provider_options(helper, data) for helper in asked}
    if asked[0] != PROVIDERS["cpu"]:
        set_up[asked[0]] = set_up[asked[0]] | (options or {})
    try:
        runtime = _create(data, name, settings, set_up)
    except ModelError:
        if provider != "auto" or asked == [PROVIDERS["cpu"]]:
            raise
        use_arena(settings)
        runtime = _create(data, name, settings, {PROVIDERS["cpu"]: {}})
    if provider != "auto":
        _refuse_fallback(runtime, provider)
    return runtime


def _refuse_fallback(runtime: Any, provider: str) -> None:
    if (ran := provider_of(runtime)) != provider:
        lacking = f" for want of {', '.join(missing)}" if (missing := missing_libraries(provider)) else ""
        raise ProviderError(f"provider {provider} fell back to {ran}{lacking}: {CUDA_HINT}")
    if strays := sum(elsewhere(runtime).get(operator, 0) for operator in CONVOLUTIONS):
        raise ProviderError(f"provider {provider} leaves {strays} convolutions to another: {CUDA_HINT}")


def elsewhere(runtime: Any) -> dict[str, int]:
    """Operator -> nodes of an open session that its first provider does not run.

    Empty on the CPU, and where ONNX Runtime does not say (before 1.24).
    """
    first = runtime.get_providers()[0]
    if first == PROVIDERS["cpu"] or not hasattr(runtime, "get_provider_graph_assignment_info"):
        return {}
    parts = runtime.get_provider_graph_assignment_info()
    return dict(Counter(node.op_type for part in parts if part.ep_name != first for node in part.get_nodes()))


def _create(data: bytes, name: str, settings: Any, set_up: dict[str, Options]) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(data, settings, providers=list(set_up.items()), enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"model {name}: ONNX Runtime cannot open it: {_one_line(error)}") from error


def _choose(provider: str, available: list[str]) -> list[str]:
    """ONNX Runtime's names of the provider that was asked for, and of those that may help it."""
    if provider not in ("auto", *PROVIDERS):
        raise ProviderError(f"provider {provider!r}: expected auto, {', '.join(PROVIDERS)}")
    if provider == "auto":
        provider = "cuda" if cuda_devices() and PROVIDERS["cuda"] in available else "cpu"
    if PROVIDERS[provider] not in available:
        raise ProviderError(
            f"provider {provider}: this onnxruntime was built without it: install onnxruntime-gpu"
        )
    if provider != "cpu" and not cuda_devices():
        raise ProviderError(f"provider {provider}: {cuda_absence()}: ask for --provider cpu")
    helpers = {"tensorrt": ["tensorrt", "cuda", "cpu"], "cuda": ["cuda", "cpu"], "cpu": ["cpu"]}
    return [PROVIDERS[helper] for helper in helpers[provider] if PROVIDERS[helper] in available]


def provider_of(runtime: Any) -> str:
    """The name of the provider that an open session runs on first."""
    first: str = runtime.get_providers()[0]
    return {theirs: ours for ours, theirs in PROVIDERS.items()}.get(first, first)


def _lacks_memory(reason: str) -> bool:
    return any(sign in reason.lower() for sign in OUT_OF_MEMORY)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
