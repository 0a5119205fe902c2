"""The training verbs on bad input: one clear line, exit 1, nothing harmed."""

import sys

import pytest
from skdn_cli.main import main


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
def test_one_line(folder, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["skdn", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (1, "")
    assert err.count("\n") == 1
    assert says in err
    assert not (folder / "new" / "config.json").exists()
