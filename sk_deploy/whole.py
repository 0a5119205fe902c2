"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import SkdnError


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`; flushed to disk, then renamed over it.

    Nothing is left behind on failure; an older target is untouched. Raises SkdnError in one line naming
    `target` when the folder or disk refuses, whether before, during or after the body.
    """
    temporary = target.with_name(f".skdn-{secrets.token_hex(8)}.part")
    try:
        temporary.touch(exist_ok=False)  # a new file, with the permissions of any other
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise SkdnError(f"{target}: cannot be written ({reason}): check the folder and its disk") from error
