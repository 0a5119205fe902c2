"""The training verbs on bad input: one clear line, exit 1, nothing harmed."""

import subprocess
import sys

import pytest

MAIN = "from skdn_cli.main import main; main()"


def fails(cwd, *arguments):
    """The one line that a command fails with."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MAIN, *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "file").write_text("not a run")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"schema": 99}')
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text('{"schema": 1, "config": []}')
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("search", "--preset", "tiny", "--out", "file"), "file cannot be made"),
        (("search", "--preset", "tiny", "--out", "foreign"), "--resume"),
        (("search", "--preset", "tiny", "--data", "absent", "--out", "new"), "absent is not a folder"),
        (("search", "--preset", "tiny", "--data", "empty", "--out", "new"), "no JPEG, PNG or TIFF"),
        (("search", "--resume", "--out", "empty"), "not a run"),
        (("search", "--preset", "tiny", "--target-macs", "0.001", "--out", "new"), "smallest"),
        (("search", "--type", "none", "--target-macs", "5", "--out", "new"), "leave the target out"),
        (("distil", "absent"), "not a run"),
        (("distil", "foreign"), "schema 99"),
        (("distil", "damaged"), "damaged"),
        (("finetune", "empty"), "not a run"),
        (("export", "empty", "model.onnx"), "not a run"),
        (("export", "empty", "model.pt"), "does not end in .onnx"),
        (("export", "empty", "absent/model.onnx"), "absent is not a folder"),
        (("demo", "--out", "foreign"), "not empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_one_line(folder, arguments, says):
    assert says in fails(folder, *arguments)
    assert not (folder / "new" / "config.json").exists()
