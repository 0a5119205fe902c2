"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from .errors import RawError


def write_whole(target: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write `chunks` to a temporary name beside `target`, flush to the disk, then rename over `target`.

    Raises RawError in one line when the folder or the disk refuses; nothing is left behind then, and an older
    `target` is untouched.
    """
    temporary = target.with_name(f".skdn-{secrets.token_hex(8)}.part")
    try:
        try:
            with temporary.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise RawError(
            f"{target}: cannot be written ({error.strerror}): check the folder and its disk"
        ) from error
