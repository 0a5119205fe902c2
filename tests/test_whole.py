"""Files appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from sk_deploy.errors import SkdnError
from sk_deploy.whole import whole


def test_the_target_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with whole(target) as path:
        path.write_bytes(b"new")
        assert path.parent == tmp_path
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def fail_half_way(target: Path, error: BaseException) -> None:
    with whole(target) as path:
        path.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("the body's own")])
def test_a_failure_leaves_the_older_target_alone(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        fail_half_way(target, error)
    assert caught.value is error
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with pytest.raises(SkdnError) as caught:
        fail_half_way(target, OSError(errno.ENOSPC, "No space left on device"))
    assert str(caught.value) == (
        f"{target}: cannot be written (No space left on device): check the folder and its disk"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing/a.bin", "folder"])
def test_a_place_that_refuses(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SkdnError, match=f"{name}: cannot be written"), whole(tmp_path / name) as path:
        path.write_bytes(b"new")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole(tmp_path / "a.bin") as path:
            path.write_bytes(b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o640
