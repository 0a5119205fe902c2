"""Files appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sk_deploy.errors import SkdnError
from sk_deploy.whole import remove_abandoned, whole


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


KILLED = """
import os, signal, sys
from pathlib import Path
from sk_deploy.whole import whole
with whole(Path(sys.argv[1])) as path:
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and locks")
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.bin")], check=False)
    (abandoned,) = tmp_path.iterdir()
    (tmp_path / ".skdn-0123.part").touch()  # not one of ours
    (tmp_path / ".skdn-0123456789abcdef.part").symlink_to(tmp_path / ".skdn-0123.part")
    with whole(tmp_path / "b.bin") as path:
        path.write_bytes(b"new")
        remove_abandoned(tmp_path)
        assert not abandoned.exists()
        assert path.exists()
    assert sorted(found.name for found in tmp_path.iterdir()) == [
        ".skdn-0123.part",
        ".skdn-0123456789abcdef.part",
        "b.bin",
    ]
    remove_abandoned(tmp_path / "absent")


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks")
def test_writing_while_others_clear_up(tmp_path: Path) -> None:
    """A new file is anybody's until it is locked: one that is taken away is replaced by another."""
    stop = threading.Event()

    def clear() -> None:
        while not stop.is_set():
            remove_abandoned(tmp_path)

    others = [threading.Thread(target=clear) for _ in range(3)]
    for other in others:
        other.start()
    try:
        for index in range(300):
            with whole(tmp_path / f"{index}.bin") as path:
                path.write_bytes(b"new")
    finally:
        stop.set()
        for other in others:
            other.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{index}.bin" for index in range(300))


@pytest.mark.skipif(sys.platform == "win32", reason="has none")
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with whole(tmp_path / "a.bin") as path:
        remove_abandoned(tmp_path)
        path.write_bytes(b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
