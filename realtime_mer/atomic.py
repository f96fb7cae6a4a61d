"""Writes files whole or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces the content of a file. If that is interrupted, the file still has all of its old content.

    If path is a link, the file that it points to is replaced; a device or a pipe is written to directly.
    Raises OSError if it cannot be written, also if the file is write-protected.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    target = path.resolve()
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    # Without the target's name, which may already have the greatest length.
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
