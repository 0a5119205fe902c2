"""Which files are meant, and where their outputs go."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sk_deploy.inputs import Job, find_jobs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def pairs(jobs: list[Job]) -> dict[str, str]:
    """Source -> target, of jobs that have no problem."""
    assert not [job.problem for job in jobs if job.problem]
    return {job.source.as_posix(): job.target.as_posix() for job in jobs}


def problem(jobs: list[Job]) -> str:
    """Of the only job that has one."""
    (found,) = (job.problem for job in jobs if job.problem)
    assert "\n" not in found
    return found


@pytest.mark.usefixtures("folder")
def test_beside_the_original() -> None:
    touch("a/shot.dng", "a/other.NEF")
    assert pairs(find_jobs(["a/shot.dng", "a/other.NEF"])) == {
        "a/shot.dng": "a/shot_denoised.dng",
        "a/other.NEF": "a/other_denoised.dng",
    }


@pytest.mark.usefixtures("folder")
def test_a_folder_keeps_its_shape_under_out() -> None:
    touch("in/b.DNG", "in/x/b.dng", "in/x/y/c.nef", "in/notes.txt", "in/mosaic.npy")
    assert pairs(find_jobs(["in"], Path("out"))) == {
        "in/b.DNG": "out/b.DNG",
        "in/x/b.dng": "out/x/b.dng",
        "in/x/y/c.nef": "out/x/y/c.dng",
    }


@pytest.mark.usefixtures("folder")
def test_a_pattern_keeps_the_shape_below_its_fixed_part() -> None:
    touch("in/b.dng", "in/x/b.dng", "in/x/c.nef")
    expected = {"in/b.dng": "out/b.dng", "in/x/b.dng": "out/x/b.dng"}
    assert pairs(find_jobs(["in/**/*.dng"], Path("out"))) == expected
    assert pairs(find_jobs([str(Path.cwd() / "in/?.dng")], Path("out"))) == {
        (Path.cwd() / "in/b.dng").as_posix(): "out/b.dng"
    }


@pytest.mark.usefixtures("folder")
def test_a_name_that_looks_like_a_pattern() -> None:
    touch("[1].dng", "1.dng")
    assert pairs(find_jobs(["[1].dng"])) == {"[1].dng": "[1]_denoised.dng"}


@pytest.mark.usefixtures("folder")
def test_a_folder_denoised_twice_is_denoised_once() -> None:
    touch("in/b.dng", "in/c.nef")
    for job in find_jobs(["in"]):
        job.target.touch()
    for job in find_jobs(["in"], Path("in/out")):
        job.target.parent.mkdir(exist_ok=True)
        job.target.touch()
    touch("in/.skdn-0123.part", "in/._b.dng", "in/.trash/b.dng")
    sources = [Path("in/b.dng"), Path("in/c.nef")]
    assert [job.source for job in find_jobs(["in"], Path("in/out"))] == sources
    assert [job.source for job in find_jobs(["in/*"], Path("out"))] == sources
    # A shell would expand in/*.dng; an output whose original is not given was asked for.
    shell = ["in/b.dng", "in/b_denoised.dng", "in/c.nef", "in/c_denoised.dng"]
    assert [job.source for job in find_jobs(shell)] == sources
    assert pairs(find_jobs(["in/b_denoised.dng"])) == {"in/b_denoised.dng": "in/b_denoised_denoised.dng"}


@pytest.mark.usefixtures("folder")
def test_each_file_once() -> None:
    touch("in/b.dng")
    assert len(find_jobs(["in", "in/b.dng", Path.cwd() / "in", "in/*.dng"])) == 1


@pytest.mark.usefixtures("folder")
def test_suffixes_tell_outputs_apart() -> None:
    touch("a/shot.dng", "a/shot.NEF", "a/shot.cr2")
    assert set(pairs(find_jobs(["a"])).values()) == {
        "a/shot_denoised.dng",
        "a/shot_nef_denoised.dng",
        "a/shot_cr2_denoised.dng",
    }
    assert set(pairs(find_jobs(["a"], Path("o"))).values()) == {
        "o/shot.dng",
        "o/shot_nef.dng",
        "o/shot_cr2.dng",
    }
    for job in find_jobs(["a"]):
        job.target.touch()
    assert len(find_jobs(["a", *Path("a").iterdir()])) == 3


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "inputs", [["a/shot.dng", "b/shot.dng", "c.dng"], ["a", "b", "c.dng"], ["?/*", "c*"]]
)
def test_folders_tell_outputs_apart(inputs: list[str]) -> None:
    """As of a camera's 100CANON and 101CANON."""
    touch("a/shot.dng", "b/shot.dng", "c.dng")
    expected = {"a/shot.dng": "out/a/shot.dng", "b/shot.dng": "out/b/shot.dng", "c.dng": "out/c.dng"}
    assert pairs(find_jobs(inputs, Path("out"))) == expected


@pytest.mark.usefixtures("folder")
def test_outputs_that_would_meet() -> None:
    touch("a/shot.nef", "a/shot.NEF", "b/a/shot.nef", "b/b/shot.nef")
    jobs = find_jobs(["a/shot.nef", "a/shot.NEF"], Path("results"))
    assert not jobs[0].problem
    assert "results/shot_nef.dng is also that of a/shot.nef" in problem(jobs)
    deep = find_jobs(["b/a/shot.nef", "b/b/shot.nef"], Path("results"), "png")
    assert [job.target.as_posix() for job in deep] == ["results/a/shot_nef.png", "results/b/shot_nef.png"]


@pytest.mark.usefixtures("folder")
def test_a_format_is_a_suffix() -> None:
    touch("in/b.DNG", "in/c.nef")
    assert list(pairs(find_jobs(["in"], form="png")).values()) == ["in/b_denoised.png", "in/c_denoised.png"]
    assert list(pairs(find_jobs(["in"], Path("o"), "tiff")).values()) == ["o/b.tiff", "o/c.tiff"]


@pytest.mark.usefixtures("folder")
def test_plain_mosaics_are_found_where_their_phase_is_given() -> None:
    touch("in/b.dng", "in/c.npy", "in/d.TIF", "in/e.txt", "in/e_denoised.tiff")
    assert [job.source.name for job in find_jobs(["in"])] == ["b.dng"]
    assert [job.source.name for job in find_jobs(["in"], plain=True)] == ["b.dng", "c.npy", "d.TIF"]


@pytest.mark.usefixtures("folder")
def test_links_are_followed_and_loops_are_not() -> None:
    touch("in/sub/b.dng", "elsewhere/year/c.dng")
    Path("in/a.dng").symlink_to("sub/b.dng")  # the file itself is in the folder too
    Path("in/again").symlink_to("sub")
    Path("in/elsewhere").symlink_to("../elsewhere")
    Path("in/sub/up").symlink_to("..")
    Path("in/sub/top").symlink_to("../..")
    Path("elsewhere/year/back").symlink_to("../../in")
    Path("in/out").symlink_to("../out")
    touch("out/d.dng")
    assert pairs(find_jobs(["in"], Path("out"))) == {
        "in/sub/b.dng": "out/sub/b.dng",
        "in/elsewhere/year/c.dng": "out/elsewhere/year/c.dng",
    }


@pytest.mark.usefixtures("folder")
def test_links_to_nowhere_are_named_when_they_are_opened() -> None:
    touch("in/b.dng")
    Path("in/self.dng").symlink_to("self.dng")
    Path("in/gone.dng").symlink_to("absent.dng")
    assert [job.source.name for job in find_jobs(["in"])] == ["b.dng", "gone.dng", "self.dng"]
    assert [job.source.name for job in find_jobs(["in/self.dng", "in/b.dng"])] == ["self.dng", "b.dng"]


@pytest.mark.usefixtures("folder")
def test_a_folder_that_cannot_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/b.dng", "in/locked/c.dng")
    listing = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    jobs = find_jobs(["in"])
    assert [job.source.name for job in jobs] == ["b.dng", "locked"]
    assert problem(jobs) == "in/locked: cannot be searched (Permission denied)"


@pytest.mark.usefixtures("folder")
def test_names_of_any_letters() -> None:
    touch("Ürlaub 2024/Bild (1) – ä.dng", "Ürlaub 2024/[x].dng", "Ürlaub 2024/-v.dng")
    assert pairs(find_jobs(["Ürlaub 2024"], Path("aus gabe"))) == {
        f"Ürlaub 2024/{name}": f"aus gabe/{name}" for name in ("-v.dng", "Bild (1) – ä.dng", "[x].dng")
    }


@pytest.mark.usefixtures("folder")
def test_an_output_onto_an_original() -> None:
    touch("a/shot.dng")
    assert "is an original" in problem(find_jobs(["a"], Path("a")))
    Path("link").symlink_to("a", target_is_directory=True)
    assert "is an original" in problem(find_jobs(["a"], Path("link")))


@pytest.mark.usefixtures("folder")
def test_nothing_found() -> None:
    Path("empty").mkdir()
    assert problem(find_jobs(["empty"])) == "empty: no raw file found"
    assert problem(find_jobs(["*.dng"])) == "*.dng: no raw file found"
    assert pairs(find_jobs(["absent.dng"])) == {"absent.dng": "absent_denoised.dng"}  # opening it tells


@pytest.mark.usefixtures("folder")
def test_nowhere_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("a/shot.dng", "file")
    assert problem(find_jobs(["a"], Path("file/out"))).startswith("file: a file, expected a folder")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert problem(find_jobs(["a"], Path("out/deep"))).startswith(".: no permission to write")
