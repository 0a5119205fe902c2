"""What a GPU's provider is told: looked at where it would be handed to ONNX Runtime."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import onnx
import onnx_models as models
import pytest

from sk_deploy import session as session_module
from sk_deploy.errors import ModelError
from sk_deploy.provider_options import engine_folder
from sk_deploy.session import PROVIDERS, Session


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, dict[str, str]]]:
    """The providers and their options of every session that is opened, on a machine with a GPU."""
    import onnxruntime

    everything: list[dict[str, dict[str, str]]] = []

    def refuse(data: bytes, settings: object, providers: list[Any], enable_fallback: int) -> None:
        everything.append(dict(providers))
        raise RuntimeError("seen")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(session_module, "cuda_devices", lambda: ("Test GPU",))
    monkeypatch.setattr(session_module, "preload_cuda", lambda: "")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return everything


def open_session(path: Path, provider: str, **options: Any) -> None:
    with pytest.raises(ModelError, match="seen"):
        Session(path, provider, **options)


def test_cuda_prefers_channels_last(tmp_path: Path, asked: list[dict[str, dict[str, str]]]) -> None:
    path = models.unet(tmp_path / "m.onnx")
    open_session(path, "cuda")
    open_session(path, "cuda", options={"prefer_nhwc": "0", "use_tf32": "0"})
    usual, changed = (options[PROVIDERS["cuda"]] for options in asked)
    assert usual["prefer_nhwc"] == "1"
    assert changed == usual | {"prefer_nhwc": "0", "use_tf32": "0"}
    assert list(asked[0]) == [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    assert asked[0][PROVIDERS["cpu"]] == {}


def test_tensorrt_keeps_its_engines_by_model(tmp_path: Path, asked: list[dict[str, dict[str, str]]]) -> None:
    """Two models of one architecture do not share them; half precision is for those that were made for it."""
    paths = [models.unet(tmp_path / f"{seed}.onnx", seed=seed) for seed in (0, 1)]
    half = models.unet(tmp_path / "half.onnx", precision="float16")
    for path in (*paths, paths[0], half):
        open_session(path, "tensorrt")
    first, second, again, in_half = (options[PROVIDERS["tensorrt"]] for options in asked)
    assert first == again
    assert first["trt_engine_cache_path"] != second["trt_engine_cache_path"]
    assert first["trt_timing_cache_path"] == second["trt_timing_cache_path"]
    assert Path(first["trt_engine_cache_path"]).is_relative_to(tmp_path / ".cache" / "skdn")
    assert Path(first["trt_engine_cache_path"]).is_dir()
    assert ("trt_fp16_enable" in first, in_half["trt_fp16_enable"]) == (False, "1")
    assert list(asked[0]) == [PROVIDERS[name] for name in ("tensorrt", "cuda", "cpu")]
    assert asked[0][PROVIDERS["cuda"]]["prefer_nhwc"] == "1"  # for what TensorRT leaves


def test_tensorrt_without_a_place_for_engines(
    tmp_path: Path, asked: list[dict[str, dict[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".cache").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        open_session(models.unet(tmp_path / "m.onnx"), "tensorrt")
    assert asked[0][PROVIDERS["tensorrt"]] == {}
    assert len(caplog.records) == 1
    assert "TensorRT builds anew each time" in caplog.records[0].message


def test_engine_folder_follows_the_weights(tmp_path: Path) -> None:
    model = onnx.load(models.unet(tmp_path / "m.onnx"))
    before = engine_folder(model.SerializeToString())
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    assert engine_folder(model.SerializeToString()) != before


def test_a_provider_that_falls_back_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from sk_deploy.errors import ProviderError

    monkeypatch.setattr(session_module, "missing_libraries", lambda provider: ["libnvinfer.so.10"])
    runtime = SimpleNamespace(get_providers=lambda: [PROVIDERS["cuda"], PROVIDERS["cpu"]])
    with pytest.raises(
        ProviderError, match=r"provider tensorrt fell back to cuda for want of libnvinfer\.so\.10: `skdn"
    ):
        session_module._refuse_fallback(runtime, "tensorrt")
