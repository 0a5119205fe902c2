"""Files appear whole or not at all, and what a killed process left behind can be told and removed.

A temporary file is locked for as long as it is being written. The lock ends with its process, however that
ends, so a temporary file that can be locked is nobody's.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConfigError, SkdnError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"\.skdn-[0-9a-f]{16}\.part")


def check_place(target: Path, *, force: bool) -> None:
    """Before the work whose result goes there. Raises ConfigError: it exists, or its folder does not."""
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is not a folder: make it, or choose another place")
    if target.exists() and not force:
        raise ConfigError(f"{target} exists: --force overwrites it")


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`; flushed to disk, then renamed over it.

    Nothing is left behind on failure; an older target is untouched. Raises SkdnError in one line naming
    `target` when the folder or disk refuses, whether before, during or after the body.
    """
    try:
        temporary, lock = _new_part(target)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        finally:
            if lock is not None:
                os.close(lock)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SkdnError(f"{target}: cannot be written ({reason}): check the folder and its disk") from error


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files in a folder whose processes were killed; what is being written stays."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError):  # none of ours to search
        for path in list(folder.iterdir()):
            if _PART.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_unless_locked(path)


def _new_part(target: Path) -> tuple[Path, int | None]:
    """A new file beside `target`, with the permissions of any other, and the descriptor that locks it.

    No descriptor where the system or the file system knows no locks: nothing is removed there.
    """
    while True:
        path = target.with_name(f".skdn-{secrets.token_hex(8)}.part")
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            if fcntl is None:
                raise OSError
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            return path, None
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # `remove_abandoned` was faster


def _remove_unless_locked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)
