"""`skdn providers`: what runs is told apart from what is only offered, and nothing takes the command down."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import onnxruntime
import pytest
from command_line import succeed
from skdn_cli.providers import describe

from sk_deploy import gpu_libraries, provider_trial, providers, session
from sk_deploy.devices import cpu_name, cuda_absence, cuda_devices
from sk_deploy.errors import ProviderError


def test_command() -> None:
    facts = json.loads(succeed("providers", "--json"))
    states = {provider["name"]: provider for provider in facts["providers"]}
    assert states.keys() == session.PROVIDERS.keys()
    assert states["cpu"]["runs"]
    assert facts["offered"] == onnxruntime.get_available_providers()
    assert onnxruntime.__version__ in facts["packages"].values()
    assert facts["cpu"] == cpu_name()
    assert facts["auto"] == ("cuda" if states["cuda"]["runs"] else "cpu")
    for provider in facts["providers"]:
        assert provider["runs"] != bool(provider["reason"])
    if not cuda_devices() and states["cuda"]["built_in"]:
        assert states["cuda"]["reason"] == cuda_absence()


def test_description() -> None:
    cuda = providers.Provider(
        "cuda", True, False, "cuda fell back to cpu", ["libcudnn.so.9"], '"onnxruntime-gpu[cuda,cudnn]"'
    )
    tensorrt = providers.Provider("tensorrt", False, False, "not in this build", [], "onnxruntime-gpu")
    cpu = providers.Provider("cpu", True, True, "", [], "")
    found = providers.Providers(
        packages={"onnxruntime": "1.24.1", "onnxruntime-gpu": "1.31.1"},
        cuda_version="13.0",
        offered=["CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"],
        cpu="Some CPU",
        threads=2,
        cuda_devices=["Some GPU"],
        providers=[cuda, tensorrt, cpu],
        auto="cpu",
        auto_reason="CUDA does not: cuda fell back to cpu",
    )
    assert describe(found).splitlines() == [
        "onnxruntime 1.24.1 and onnxruntime-gpu 1.31.1, built for CUDA 13.0",
        "two packages in one place overwrite each other: uninstall both, then install one",
        "cuda      fails     cuda fell back to cpu",
        "                    not found: libcudnn.so.9",
        '                    pip install "onnxruntime-gpu[cuda,cudnn]"',
        "tensorrt  absent    not in this build: pip install onnxruntime-gpu in its place",
        "cpu       runs      Some CPU, 2 threads",
        "auto      runs on cpu: CUDA does not: cuda fell back to cpu",
        "also in this ONNX Runtime, not used by skdn: AzureExecutionProvider",
    ]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it crashed (SIGSEGV)"),
        ("import time; time.sleep(60)", "no answer in 1 s"),
        ("raise ImportError('libx.so')", "it ended with status 1: ImportError: libx.so"),
        ("pass", "it ended with status 0: it said nothing"),
    ],
)
def test_a_trial_that_dies(monkeypatch: pytest.MonkeyPatch, code: str, reason: str) -> None:
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **how: run([sys.executable, "-c", code], **how))
    assert providers.try_apart("cuda", timeout_s=1 if "sleep" in code else 60) == {
        "reason": reason,
        "missing": [],
    }


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    complaint = (
        "Failed to load libcurand.so.10: libcurand.so.10: cannot open shared object file: No such file"
    )
    monkeypatch.setattr(gpu_libraries, "preload_cuda", lambda: complaint)
    monkeypatch.setattr(gpu_libraries, "CUDNN", "libno-such-library.so.9")
    missing = gpu_libraries.missing_libraries("cuda")
    assert {"libcurand.so.10", "libno-such-library.so.9"} <= set(missing)


def test_a_wrong_result_is_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(run=lambda names, feeds: [feeds["x"].repeat(2, axis=1)])
    monkeypatch.setattr(provider_trial, "open_runtime", lambda *asked: runtime)
    assert "came out wrong" in provider_trial.try_out("cpu")["reason"]


def test_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = ['nvidia-curand~=10.0; extra == "cuda"', 'nvidia-cudnn-cu13~=9.0; extra == "cudnn"']
    monkeypatch.setattr(providers, "requires", lambda package: extras)
    assert providers._fix(["onnxruntime-gpu"], ["libcudnn.so.9"]) == '"onnxruntime-gpu[cuda,cudnn]"'
    assert providers._fix(["onnxruntime-gpu"], ["libnvinfer.so.10"]) == ""
    monkeypatch.setattr(providers, "requires", lambda package: None)
    assert providers._fix(["onnxruntime-gpu"], ["libcudnn.so.9"]) == ""


def runtime(names: list[str], placed: dict[str, list[str]]) -> SimpleNamespace:
    """A session on `names` whose nodes are placed as told: provider -> operators."""
    parts = [
        SimpleNamespace(ep_name=name, get_nodes=lambda ops=ops: [SimpleNamespace(op_type=op) for op in ops])
        for name, ops in placed.items()
    ]
    return SimpleNamespace(get_providers=lambda: names, get_provider_graph_assignment_info=lambda: parts)


CPU, CUDA, TENSORRT = (session.PROVIDERS[name] for name in ("cpu", "cuda", "tensorrt"))


def test_convolutions_that_fall_to_the_cpu_are_an_error() -> None:
    partly = runtime([CUDA, CPU], {CUDA: ["Conv", "Concat"], CPU: ["Conv", "ConvTranspose", "Gather"]})
    assert session.elsewhere(partly) == {"Conv": 1, "ConvTranspose": 1, "Gather": 1}
    with pytest.raises(
        ProviderError, match="provider cuda leaves 2 convolutions to another: `skdn providers`"
    ):
        session._refuse_fallback(partly, "cuda")


def test_shapes_may_stay_on_the_cpu() -> None:
    whole = runtime([CUDA, CPU], {CUDA: ["Conv", "Concat"], CPU: ["Gather", "Gather"]})
    session._refuse_fallback(whole, "cuda")
    assert session.elsewhere(whole) == {"Gather": 2}


def test_tensorrt_that_falls_back_to_cuda_is_an_error() -> None:
    with pytest.raises(ProviderError, match="provider tensorrt fell back to cuda"):
        session._refuse_fallback(runtime([CUDA, CPU], {CUDA: ["Conv"]}), "tensorrt")
    with pytest.raises(ProviderError, match="provider tensorrt leaves 1 convolutions"):
        session._refuse_fallback(
            runtime([TENSORRT, CUDA, CPU], {TENSORRT: ["Relu"], CUDA: ["Conv"]}), "tensorrt"
        )


def test_an_older_onnxruntime_does_not_say_where_nodes_run() -> None:
    assert session.elsewhere(SimpleNamespace(get_providers=lambda: [CUDA, CPU])) == {}
