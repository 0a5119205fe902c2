"""`skdn show`: text and JSON of runs and of model files, and what it must not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest
from click.testing import Result
from command_line import invoke
from onnx import TensorProto, helper
from synthetic_run import lines, make_genotype, make_run, search_rows, write

from sk_deploy.errors import ConfigError, ModelError
from sk_deploy.spec import METADATA_KEY, ModelSpec


def show(*words: object) -> Result:
    return invoke("show", *words)


def make_model(path: Path, **facts: object) -> Path:
    """An identity network that says of itself what an exported one says."""
    planes = ["batch", 4, "height", "width"]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, planes) for name in ("input", "output"))
    noise = helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", 2])
    inputs = [x] if facts.get("conditioning") == "none" else [x, noise]
    identity = helper.make_node("Identity", ["input"], ["output"])
    model = helper.make_model(helper.make_graph([identity], "identity", inputs, [y]))
    spec = ModelSpec(
        **{
            "name": "night",
            "licence": "Apache-2.0",
            "multiple": 8,
            "halo": 32,
            "conditioning": "anscombe",
            "macs_per_mp": 7.1e9,
            "parameters": 412_345,
            "genotype": make_genotype(),
            "training_data": "photos",
            **facts,
        }
    )
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, path)
    return path


def test_run_as_text(tmp_path: Path) -> None:
    text = show(make_run(tmp_path / "run")).stdout
    for fact in (
        "skipinit-unet, joint superkernels, full",
        "7.10 GMAC per raw megapixel, 412,345 parameters",
        "finished, 20,000 of 20,000 steps; best 38.17 dB, 38.35 dB with self-ensemble (noisy 30.00 dB)",
        "finished, 10,000 of 10,000 steps; best 38.50 dB",
        "1 of 14 superkernels are undecided",
        "models/night.onnx, proven equal",
        "next: skdn denoise INPUT --model models/night.onnx",
    ):
        assert fact in text
    rows = [line.split() for line in text.splitlines() if ".conv" in line and "×" in line]
    assert len(rows) == 14
    assert ["encoder.1.0.conv2", "5×5", "16/32", "████░░░░", "0.41", "0.72", "undecided"] in rows


def test_run_as_json(tmp_path: Path) -> None:
    facts = json.loads(show(make_run(tmp_path / "run"), "--json").stdout)
    assert facts["kind"] == "run"
    assert facts["seed"] == 17
    assert facts["best"]["stage"] == "finetune"
    assert facts["best"]["psnr_db"] == pytest.approx(38.5)
    assert facts["stages"]["search"]["finished"] is True
    assert facts["stages"]["exported"] == "models/night.onnx"
    undecided = [entry["name"] for entry in facts["superkernels"] if entry["undecided"]]
    assert undecided == ["encoder.1.0.conv2"]
    assert facts["superkernels"][0]["name"] == "encoder.0.0.conv1"
    assert facts["superkernels"][-1]["name"] == "decoder.0.0.conv2"


@pytest.mark.parametrize(
    ("parts", "following"),
    [
        ("", "skdn search --out {run} --resume"),
        ("search", "skdn export {run} run.onnx"),
        ("search genotype", "skdn export {run} run.onnx"),
        ("search genotype finetune", "skdn export {run} run.onnx"),
        ("search genotype finetune parity", "skdn denoise INPUT --model models/night.onnx --ensemble"),
    ],
)
def test_next_step_of_a_run(tmp_path: Path, parts: str, following: str) -> None:
    run = make_run(tmp_path / "run", parts, widths=(16, 32))
    result = show(run)
    assert result.exit_code == 0
    assert result.stdout.endswith(f"\nnext: {following.format(run=run)}\n")


def test_a_refused_export_is_none(tmp_path: Path) -> None:
    """Its differences are stored, and no model's name."""
    run = make_run(tmp_path / "run")
    write(run / "export" / "parity.json", json.dumps({"torch_onnx": 0.3, "limits": {"torch_onnx": 1e-5}}))
    assert json.loads(show(run, "--json").stdout)["stages"]["exported"] is None
    text = show(run).stdout
    assert "exported      not yet" in text
    assert f"next: skdn export {run} run.onnx" in text


def test_interrupted_search_is_to_be_resumed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "")
    rows = [row for row in search_rows(make_genotype()) if row["step"] <= 7000]
    write(run / "metrics.jsonl", lines(rows))
    text = show(run).stdout
    assert "under way or interrupted at 7,000 of 20,000 steps" in text
    assert f"next: skdn search --out {run} --resume" in text


def test_model_as_text(tmp_path: Path) -> None:
    path = make_model(tmp_path / "night.onnx")
    text = show(path).stdout
    for fact in ("night\n", "7.10 GMAC", "anscombe", "Apache-2.0", "multiples of 8, halo 32", "photos"):
        assert fact in text
    assert sum(".conv" in line and "×" in line for line in text.splitlines()) == 14
    assert f"next: skdn denoise INPUT --model {path} --ensemble" in text


def test_blind_model_without_genotype(tmp_path: Path) -> None:
    path = make_model(tmp_path / "plain.onnx", genotype={}, conditioning="none", training_data="")
    text = show(path).stdout
    assert "none (blind)" in text
    assert "trained on" not in text
    assert json.loads(show(path, "--json").stdout)["superkernels"] == []


def test_model_and_run_agree_on_the_superkernels(tmp_path: Path) -> None:
    of_run = json.loads(show(make_run(tmp_path / "run"), "--json").stdout)
    of_model = json.loads(show(make_model(tmp_path / "m.onnx"), "--json").stdout)
    assert of_run["superkernels"] == of_model["superkernels"]


def skdn(*arguments: str | Path, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`skdn` in a fresh process, in which importing one of `without` fails as if it were not installed."""
    argv = ["skdn", *map(str, arguments)]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({without!r})); sys.argv = {argv!r}\n"
        "from skdn_cli.main import main; main()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_model_is_shown_by_an_environment_that_only_deploys(tmp_path: Path) -> None:
    path = make_model(tmp_path / "night.onnx")
    done = skdn("show", path, without=("torch", "matplotlib", "sk_search", "onnxruntime"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "night" in done.stdout


def test_a_shipped_model_is_shown_by_its_name_unless_a_run_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(show("nano", "--json").output)["kind"] == "model"
    make_run(tmp_path / "nano")
    assert json.loads(show("nano", "--json").output)["kind"] == "run"


def test_run_is_shown_without_torch_and_matplotlib(tmp_path: Path) -> None:
    done = skdn("show", make_run(tmp_path / "run"), without=("torch", "matplotlib"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("wrong", ["absent", "empty folder", "not ONNX", "foreign ONNX", "foreign schema"])
def test_what_is_neither_gets_one_line(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "thing"
    kind: type[Exception] = ModelError
    if wrong == "absent":
        kind, message = ConfigError, "does not exist"
    elif wrong == "empty folder":
        path.mkdir()
        kind, message = ConfigError, "has no config.json"
    elif wrong == "not ONNX":
        path.write_bytes(b"# certainly no model\n")
        message = "not an ONNX file"
    elif wrong == "foreign ONNX":
        model = onnx.load(make_model(path))
        del model.metadata_props[:]
        onnx.save(model, path)
        message = "no 'skdn' metadata"
    else:
        make_model(path, schema=99)
        message = "schema 99, expected 1"
    with pytest.raises(kind, match=message) as caught:
        show(path)
    assert "\n" not in str(caught.value)


def test_the_architecture_is_drawn_into_a_file(tmp_path: Path) -> None:
    run, target = make_run(tmp_path / "run"), tmp_path / "net.svg"
    assert skdn("show", run, "--svg", target).returncode == 0
    genotype = json.loads((run / "genotype.json").read_text())
    drawn = ElementTree.parse(target).getroot().attrib["aria-label"]
    assert drawn.endswith(f"{len(genotype['superkernels'])} superkernels")
    again = skdn("show", run, "--svg", target)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "--force" in again.stderr
    (run / "genotype.json").unlink()
    assert "skdn distil" in skdn("show", run, "--svg", tmp_path / "other.svg").stderr
    assert skdn("show", run, make_run(tmp_path / "other"), "--svg", target).returncode == 2


def test_error_reaches_the_shell_in_one_line(tmp_path: Path) -> None:
    done = skdn("show", tmp_path / "gone")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("skdn: ")
    assert done.stderr.count("\n") == 1
