"""What can run a model here: which ONNX Runtime is installed, which providers work, what is missing."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires, version
from typing import Any

from .devices import cpu_name, cpu_threads, cuda_devices
from .session import PROVIDERS

TRIAL_S = 120.0
"""TensorRT takes tens of seconds to begin."""


@dataclass(frozen=True)
class Provider:
    """One that skdn knows, tried out."""

    name: str
    built_in: bool
    """Whether this ONNX Runtime has it at all."""
    runs: bool
    """A small convolution ran on it, and came out right."""
    reason: str
    """Why it does not run; empty where it does."""
    missing: list[str]
    """Libraries that the loader does not find, by file name."""
    fix: str
    """What to install; empty where that is not known."""


@dataclass(frozen=True)
class Providers:
    """Everything that decides where a model runs."""

    packages: dict[str, str]
    """Distributions that bring the module `onnxruntime`, with versions. Two overwrite each other."""
    cuda_version: str
    """That this ONNX Runtime was built for; empty without CUDA."""
    offered: list[str]
    """By ONNX Runtime, in its own names, whether or not they work."""
    cpu: str
    threads: int
    cuda_devices: list[str]
    providers: list[Provider]
    auto: str
    """What `--provider auto` runs on."""
    auto_reason: str

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def look_up() -> Providers:
    """Try every provider out, each in a process of its own."""
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    packages = {name: version(name) for name in set(packages_distributions().get("onnxruntime", []))}
    providers = [_provider(name, PROVIDERS[name] in offered, list(packages)) for name in PROVIDERS]
    cuda = next(provider for provider in providers if provider.name == "cuda")
    return Providers(
        packages=packages,
        cuda_version=getattr(onnxruntime, "cuda_version", "") or "",
        offered=offered,
        cpu=cpu_name(),
        threads=cpu_threads(),
        cuda_devices=list(cuda_devices()),
        providers=providers,
        auto="cuda" if cuda.runs else "cpu",
        auto_reason="CUDA runs" if cuda.runs else f"CUDA does not: {cuda.reason}",
    )


def _provider(name: str, built_in: bool, packages: list[str]) -> Provider:
    if not built_in:
        fix = "" if sys.platform == "darwin" else "onnxruntime-gpu"
        return Provider(name, False, False, "not in this build of ONNX Runtime", [], fix)
    trial = try_apart(name)
    missing = trial["missing"]
    if missing and trial["reason"]:
        reason = re.split(" for want of |: `skdn", trial["reason"])[0]  # what is missing is told beside it
        fix = _fix(packages, missing) if cuda_devices() else ""
        return Provider(name, True, False, reason, missing, fix)
    return Provider(name, True, not trial["reason"], trial["reason"], missing, "")


def try_apart(name: str, timeout_s: float = TRIAL_S) -> dict[str, Any]:
    """`provider_trial.try_out` in a new process; a crash or a hang becomes the reason."""
    command = [sys.executable, "-P", "-m", "sk_deploy.provider_trial", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return {"reason": f"no answer in {timeout_s:.0f} s", "missing": []}
    if done.returncode < 0:
        return {"reason": f"it crashed ({signal.Signals(-done.returncode).name})", "missing": []}
    try:
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        last = (done.stderr.splitlines() or ["it said nothing"])[-1]
        return {"reason": f"it ended with status {done.returncode}: {last}", "missing": []}
    return told


def _fix(packages: list[str], missing: list[str]) -> str:
    """What pip would take the CUDA libraries from: ONNX Runtime's own extras, where it has them."""
    if any("nvinfer" in library for library in missing):
        return ""  # TensorRT's wheels are not on the loader's path
    for package in packages:
        for extra in ("cuda", "cudnn"):
            if not any(f'extra == "{extra}"' in requirement for requirement in requires(package) or []):
                break
        else:
            return f'"{package}[cuda,cudnn]"'
    return ""
