"""`skdn denoise` as a stranger runs it: results on stdout, errors on stderr in one line, exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest

from sk_deploy.dng import write_dng
from sk_deploy.raw import read_raw

SHARED = Path(__file__).parents[1].parent / "shared"
MAIN = "from skdn_cli.main import main; main()"
HEED_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


def skdn(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run it in its own process, as its entry point does."""
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 1, done
    assert reason in done.stderr
    assert done.stderr.startswith("skdn: ")
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Takes a noise level, as what ships does, and changes nothing."""
    return models.identity(tmp_path / "model.onnx", name="same", conditioning="map")


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    """A plain mosaic of noise."""
    counts = np.random.default_rng(0).integers(900, 1100, (64, 48), np.uint16)
    np.save(tmp_path / "mosaic.npy", counts)
    return tmp_path / "mosaic.npy"


@pytest.fixture
def shot(mosaic: Path, tmp_path: Path) -> Path:
    raw = read_raw(mosaic, "BGGR")
    write_dng(raw, raw.mosaic, tmp_path / "shot.dng", noise=None, software="test")
    return tmp_path / "shot.dng"


def test_one_file(model: Path, shot: Path) -> None:
    done = skdn("denoise", shot, "--model", model, "--ensemble")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{shot.with_name('shot_denoised.dng')}: 0.0 MP in ")
    assert "same on cpu" in done.stdout
    assert "estimated" in done.stdout
    denoised = read_raw(shot.with_name("shot_denoised.dng"))
    np.testing.assert_array_equal(denoised.stored, read_raw(shot).stored)
    again = skdn("denoise", shot, "--model", model)
    assert (again.returncode, again.stderr) == (0, "")
    assert "exists: --force overwrites it" in again.stdout


def test_a_blind_model_is_told_no_noise(shot: Path, tmp_path: Path) -> None:
    blind = models.identity(tmp_path / "blind.onnx", name="blind")
    done = skdn("denoise", shot, "--model", blind)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("blind on cpu), a blind model\n")


def test_many_files_as_json(model: Path, shot: Path, mosaic: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.dng"
    bad.write_bytes(shot.read_bytes()[:2000])
    out = tmp_path / "deep/out"
    given = ("--noise", "1e-4,1e-6", "--pattern", "BGGR", "--json", "--out", out)
    done = skdn("denoise", shot, bad, mosaic, "--model", model, *given)
    refused(done, "bad.dng")
    results = {Path(line["source"]).name: line for line in map(json.loads, done.stdout.splitlines())}
    assert {name: line["status"] for name, line in results.items()} == {
        "shot.dng": "done",
        "bad.dng": "failed",
        "mosaic.npy": "done",
    }
    assert results["shot.dng"]["noise"] == {"shot": 1e-4, "read": 1e-6}
    assert results["shot.dng"]["noise_source"] == "given"
    assert results["shot.dng"]["target"] == str(out / "shot.dng")
    assert {path.name for path in out.iterdir()} == {"shot.dng", "mosaic.dng"}


def test_many_files_end_in_a_table(model: Path, shot: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.dng"
    bad.write_bytes(shot.read_bytes()[:2000])
    (tmp_path / "old_denoised.dng").touch()
    (tmp_path / "old.dng").write_bytes(shot.read_bytes())
    done = skdn("denoise", tmp_path / "shot.dng", bad, tmp_path / "old.dng", "--model", model)
    refused(done, "bad.dng")
    told, table = done.stdout.splitlines()[:2], done.stdout.splitlines()[2:]
    assert [line.split()[0] for line in told] == [
        str(tmp_path / "old_denoised.dng"),
        f"{tmp_path / 'shot_denoised.dng'}:",
    ]
    assert [line.split()[:2] for line in table[1:5]] == [
        ["done", "1"],
        ["skipped", "1"],
        ["failed", "1"],
        ["all", "3"],
    ]
    assert table[0].split() == ["files", "MP", "decode", "s", "denoise", "s", "write", "s"]
    assert table[5].startswith("failed: bad.dng")
    assert len(table) == 6


@pytest.mark.parametrize("form", ["dng", "tiff", "npy", "png", "jpg"])
def test_formats(model: Path, mosaic: Path, form: str) -> None:
    done = skdn("denoise", mosaic, "--pattern", "GRBG", "--model", model, "--format", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{mosaic.with_name(f'mosaic_denoised.{form}')}: ")
    assert mosaic.with_name(f"mosaic_denoised.{form}").exists()


def test_levels_of_plain_mosaics(model: Path, mosaic: Path) -> None:
    given = ("--pattern", "GRBG", "--levels", "64,1100", "--model", model)
    assert skdn("denoise", mosaic, *given).returncode == 0
    denoised = read_raw(mosaic.with_name("mosaic_denoised.dng"))
    assert (denoised.black.max(), denoised.white.max()) == (64, 1100)
    np.testing.assert_array_equal(denoised.stored, np.load(mosaic))


def test_a_mosaic_without_a_header(model: Path, mosaic: Path) -> None:
    counts = np.load(mosaic)
    bare = mosaic.with_name("bare.raw")
    bare.write_bytes(counts.astype("<u2").tobytes())
    given = ("denoise", bare, "--pattern", "GRBG", "--model", model)
    refused(skdn(*given), "needs its size (--size WxH)")
    assert skdn(*given, "--size", f"{counts.shape[1]}x{counts.shape[0]}").returncode == 0
    denoised = read_raw(mosaic.with_name("bare_denoised.dng"))
    assert denoised.phase == "GRBG"
    np.testing.assert_array_equal(denoised.stored, counts)


def test_a_folder_of_plain_mosaics(model: Path, mosaic: Path, tmp_path: Path) -> None:
    refused(skdn("denoise", tmp_path, "--model", model, "--out", tmp_path / "out"), "no raw file found")
    done = skdn("denoise", tmp_path, "--pattern", "GRBG", "--model", model, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mosaic.dng"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_names_of_any_bytes(model: Path, shot: Path, tmp_path: Path) -> None:
    """UTF-8, and what older systems wrote."""
    folder = tmp_path / "Ürlaub in Łódź"
    folder.mkdir()
    names = ["ä b.dng", os.fsdecode(b"latin\xe9.dng"), "new\nline.dng", "-v.dng"]
    for name in names:
        (folder / name).write_bytes(shot.read_bytes())
    done = skdn("denoise", folder, "--model", model, "--out", tmp_path / "aus gabe", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert {json.loads(line)["status"] for line in done.stdout.splitlines()} == {"done"}
    assert sorted(path.name for path in (tmp_path / "aus gabe").iterdir()) == sorted(names)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal")
def test_progress_on_a_terminal(model: Path, shot: Path, tmp_path: Path) -> None:
    """Files done, megapixels a second, time left; results go to stdout, which is no terminal here."""
    import pty

    terminal, stderr = pty.openpty()
    command = ["denoise", shot, tmp_path / "absent.dng", "--model", model]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(stderr)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the process is gone
            break
    os.close(terminal)
    assert process.stdout is not None
    assert process.stdout.read().decode().count("MP/s") == 2
    process.stdout.close()
    assert process.wait(60) == 1
    display = shown.decode()
    for part in ("0/2 files", "2/2 files", "MP/s", "0:00:00", "shot.dng"):
        assert part in display


def test_bad_inputs(model: Path, shot: Path, mosaic: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.nef"
    text.write_text("no raw")
    refused(skdn("denoise", tmp_path / "absent.dng", "--model", model), "absent.dng: no such file")
    refused(skdn("denoise", text, "--model", model), "text.nef: ")
    refused(skdn("denoise", mosaic, "--model", model), "mosaic.npy: ")
    refused(skdn("denoise", shot, "--model", model, "--out", shot.parent), "is an original")
    refused(skdn("denoise", shot, "--model", model, "--out", model / "out"), "a file, expected a folder")
    assert not list(tmp_path.glob("*_denoised*"))


def test_bad_models(model: Path, shot: Path, tmp_path: Path) -> None:
    refused(skdn("denoise", shot, "--model", "absent"), "model absent: no such file")
    refused(skdn("denoise", shot, "--model", shot), "not an ONNX file")
    refused(skdn("denoise", tmp_path / "absent.dng", "--model", shot), "not an ONNX file")  # before any input
    models.identity(tmp_path / "future.onnx", schema=7)
    refused(skdn("denoise", shot, "--model", tmp_path / "future.onnx"), "schema 7, expected 1")
    plain = onnx.load(model)
    del plain.metadata_props[:]
    onnx.save(plain, tmp_path / "plain.onnx")
    refused(skdn("denoise", shot, "--model", tmp_path / "plain.onnx"), "no 'skdn' metadata")


@pytest.mark.parametrize(
    "option",
    [
        ("--levels", "64"),
        ("--levels", "9,8"),
        ("--size", "64"),
        ("--noise", "3"),
        ("--noise", "2,2"),
        ("--strength", "2"),
        ("--provider", "npu"),
        ("--tile", "0"),
    ],
)
def test_usage(shot: Path, option: tuple[str, str]) -> None:
    done = skdn("denoise", shot, *option)
    assert done.returncode == 2
    assert option[0] in done.stderr


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="everything is writable to root")
def test_unwritable_folder(model: Path, shot: Path) -> None:
    shot.parent.chmod(0o500)
    try:
        refused(skdn("denoise", shot, "--model", model), "no permission to write there")
    finally:
        shot.parent.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit")
def test_a_disk_that_takes_no_more(model: Path, shot: Path) -> None:
    import resource

    size = shot.stat().st_size
    before = sorted(shot.parent.iterdir())
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))  # noqa: E731
    refused(skdn("denoise", shot, "--model", model, preexec_fn=limit), "shot_denoised.dng: cannot be written")
    assert sorted(shot.parent.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT to a process group")
def test_interrupted(shot: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches the decoder too, as in a terminal; neither leaves a partial output or a traceback."""
    slow = models.convolutions(tmp_path / "slow.onnx", layers=40, k=5)
    folder = tmp_path / "in"
    folder.mkdir()
    counts = np.random.default_rng(0).integers(900, 1100, (1400, 1400), np.uint16)
    for name in ("a", "b"):
        np.save(folder / f"{name}.npy", counts)
    files = [folder / name for name in ("absent.npy", "a.npy", "b.npy")]
    command = ["denoise", *files, "--pattern", "RGGB", "--model", slow, "--ensemble"]
    process = subprocess.Popen(
        # Tests that run in the background of a shell inherit a SIGINT that is ignored.
        [sys.executable, "-c", f"{HEED_INTERRUPTS}; {MAIN}", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().endswith("absent.npy: no such file\n")
    time.sleep(0.5)  # into the first of sixteen slow passes
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)
    assert (process.returncode, *output) == (130, "", "\nskdn: interrupted\n")
    assert sorted(path.name for path in folder.iterdir()) == ["a.npy", "b.npy"]


def test_a_real_photograph_comes_back_bit_identical_but_for_warm_pixels(model: Path, tmp_path: Path) -> None:
    source = SHARED / "data/raw/nikon_d5000_gbrg_12bit_ljpeg_iso200.dng"
    if not source.exists():
        pytest.skip(f"{source.name} is not beside this checkout")
    done = skdn("denoise", source, "--model", model, "--out", tmp_path / "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    denoised, before = read_raw(tmp_path / "out" / source.name), read_raw(source)
    mended = json.loads(done.stdout)["defects"]
    assert 5 < mended < 50  # warm pixels: one to two a megapixel
    assert np.count_nonzero(denoised.stored != before.stored) == mended
