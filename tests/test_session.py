"""Opening model files: what is refused, in one line, and which provider runs."""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from mutations import Seed, mutate

from sk_deploy import session as session_module
from sk_deploy.errors import ModelError, ProviderError
from sk_deploy.models import find_model
from sk_deploy.session import Session


def test_runs_a_blind_model(tmp_path: Path) -> None:
    session = Session(models.identity(tmp_path / "m.onnx"), "cpu")
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 10)).astype(np.float32)
    np.testing.assert_array_equal(session.run(x), x)
    assert session.provider == "cpu"
    assert session.spec.name == "test"
    assert session.load_s > 0
    assert session.network_s > 0


def test_feeds_the_noise_level(tmp_path: Path) -> None:
    session = Session(models.noise_adder(tmp_path / "m.onnx"), "cpu")
    x = np.zeros((2, 4, 2, 2), np.float32)
    y = session.run(x, np.array([[0.25, 0.5], [0.5, 1]], np.float32))
    np.testing.assert_array_equal(y[:, 0, 0, 0], [0.75, 1.5])


def test_an_idle_session_leaves_the_processor_alone() -> None:
    session = Session(find_model("nano"), "cpu", threads=4, lanes=1)
    session.run(np.ones((1, 4, 256, 256), np.float32), np.ones((1, 2), np.float32))
    before = time.process_time()
    time.sleep(0.05)
    assert time.process_time() - before < 0.02  # 0.04 to 0.07 where its threads spin


def refuse(path: Path, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as refused:
        Session(path, "cpu")
    assert "\n" not in str(refused.value)
    assert path.name in str(refused.value)


def test_refuses_what_is_no_model(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.onnx", "cannot be read")
    (tmp_path / "text.onnx").write_text("no model at all")
    refuse(tmp_path / "text.onnx", "not an ONNX file")
    (tmp_path / "empty.onnx").touch()
    refuse(tmp_path / "empty.onnx", "no 'skdn' metadata")


def test_refuses_what_is_too_large_or_no_file(tmp_path: Path) -> None:
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(2**40)
    refuse(tmp_path / "huge.onnx", "1048576 MiB, expected a file of at most 512 MiB")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelError, match=r"no such file|expected a file"):
        Session(tmp_path / "folder.onnx", "cpu")


def test_refuses_constants_in_another_file(tmp_path: Path) -> None:
    """Inside the graph of a branch inside a node, too."""
    (tmp_path / "weights").write_bytes(bytes(16))
    tensor = onnx.helper.make_tensor("secret", onnx.TensorProto.FLOAT, [4], [0, 0, 0, 0])
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    branch = onnx.helper.make_graph(
        [constant], "branch", [], [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [4])]
    )
    condition = np.array(True)
    nodes = [
        onnx.helper.make_node("If", ["flag"], ["unused"], then_branch=branch, else_branch=branch),
        onnx.helper.make_node("Identity", ["input"], ["output"]),
    ]
    model = onnx.load(models.save(tmp_path / "m.onnx", nodes, {"flag": condition}, models.spec()))
    value = model.graph.node[0].attribute[0].g.node[0].attribute[0].t
    value.ClearField("float_data")
    value.data_location = onnx.TensorProto.EXTERNAL
    value.external_data.add(key="location", value="weights")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    refuse(tmp_path / "m.onnx", "in another file")


def test_damaged_models_are_refused_in_one_line(tmp_path: Path) -> None:
    makers = (models.identity, models.noise_adder, models.unet)
    seeds = [Seed(".onnx", make(tmp_path / f"{make.__name__}.onnx").read_bytes()) for make in makers]
    rng, path, refused = random.Random(0), tmp_path / "damaged.onnx", 0
    for _ in range(300):
        path.write_bytes(mutate(rng.choice(seeds), rng))
        reason = run_or_refuse(path)
        assert "\n" not in reason
        refused += reason != ""
    assert refused > 200


def run_or_refuse(path: Path) -> str:
    """The message of the ModelError that opening or running a model raises; empty where it runs."""
    try:
        session = Session(path, "cpu", threads=1)
        noise = None if session.spec.blind else np.zeros((1, 2), np.float32)
        session.run(np.zeros((1, 4, 8, 8), np.float32), noise)
    except ModelError as error:
        return str(error)
    return ""


def test_refuses_foreign_metadata(tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("Identity", ["input"], ["output"])]
    refuse(models.save(tmp_path / "plain.onnx", nodes, {}, None), "no 'skdn' metadata")
    refuse(models.identity(tmp_path / "future.onnx", schema=99), "schema 99, expected 1")
    model = onnx.load(models.identity(tmp_path / "m.onnx"))
    model.metadata_props[0].value = '{"schema": 1, "name": "half"}'
    onnx.save(model, tmp_path / "half.onnx")
    refuse(tmp_path / "half.onnx", "incomplete")


def test_refuses_weights_in_another_file(tmp_path: Path) -> None:
    model = onnx.load(models.convolutions(tmp_path / "m.onnx"))
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, size_threshold=0)
    refuse(tmp_path / "split.onnx", "another file")


@pytest.mark.parametrize("axes", [["batch", 3, "height", "width"], ["batch", 4, 64, 64], ["batch", 4, "n"]])
def test_refuses_other_shapes(tmp_path: Path, axes: list) -> None:
    model = onnx.load(models.identity(tmp_path / "m.onnx"))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, axes))
    onnx.save(model, tmp_path / "shape.onnx")
    refuse(tmp_path / "shape.onnx", r"expected input float \[\?,4,\?,\?\]")


def test_refuses_other_inputs(tmp_path: Path) -> None:
    model = onnx.load(models.noise_adder(tmp_path / "m.onnx"))
    del model.graph.input[1]
    onnx.save(model, tmp_path / "deaf.onnx")
    refuse(tmp_path / "deaf.onnx", r"expected input .*noise float")


def test_refuses_a_graph_that_cannot_run(tmp_path: Path) -> None:
    model = onnx.load(models.identity(tmp_path / "m.onnx"))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "op.onnx")
    refuse(tmp_path / "op.onnx", "ONNX Runtime cannot open it")


def test_running_out_of_memory_is_told_apart(tmp_path: Path) -> None:
    session = Session(models.identity(tmp_path / "m.onnx"), "cpu")

    class Runtime:
        def __init__(self, reason: str) -> None:
            self.reason = reason

        def run(self, names: list[str], feeds: dict) -> None:
            raise RuntimeError(self.reason)

    x = np.zeros((1, 4, 2, 2), np.float32)
    session._runtime = Runtime("BFCArena: Failed to allocate memory for requested buffer of size 8")
    with pytest.raises(MemoryError, match="requested buffer"):
        session.run(x)
    session._runtime = Runtime("Non-zero status code\nwhile running Conv")
    with pytest.raises(ModelError, match="test failed on cpu: Non-zero status code while running Conv"):
        session.run(x)


def test_unknown_provider(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="expected auto, cuda, tensorrt, cpu"):
        Session(models.identity(tmp_path / "m.onnx"), "gpu")


def test_cuda_without_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(session_module, "cuda_devices", lambda: ())
    path = models.identity(tmp_path / "m.onnx")
    with pytest.raises(ProviderError, match="cuda: "):
        Session(path, "cuda")
    assert Session(path, "auto").provider == "cpu"
    assert capfd.readouterr() == ("", "")  # ONNX Runtime tried nothing that it would complain about


@pytest.fixture
def broken_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose libraries do not load: ONNX Runtime then runs on the CPU without saying so."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built without CUDA")
    if session_module.cuda_devices():
        pytest.skip("CUDA works here")
    monkeypatch.setattr(session_module, "cuda_devices", lambda: ("Test GPU",))


@pytest.mark.usefixtures("broken_cuda")
def test_cuda_that_falls_back_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(ProviderError, match="cuda fell back to cpu"):
        Session(models.identity(tmp_path / "m.onnx"), "cuda")
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("broken_cuda")
def test_auto_that_falls_back_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        session = Session(models.identity(tmp_path / "m.onnx"), "auto")
    assert session.provider == "cpu"
    assert [record.message for record in caplog.records] == [
        f"CUDA cannot be used on Test GPU; running on the CPU: {session_module.CUDA_HINT}"
    ]


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(tmp_path: Path) -> None:
    path = models.unet(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(0.3, 0.2, (1, 4, 64, 96)).astype(np.float32)
    cuda, cpu = Session(path, "cuda"), Session(path, "cpu")
    assert cuda.provider == "cuda"
    np.testing.assert_allclose(cuda.run(x), cpu.run(x), atol=2e-3)  # TF32 keeps ten bits
