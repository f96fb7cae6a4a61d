"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Gives the file `path` this content: whatever happens meanwhile, it has all of the new content or the old state.

    A link stays a link, to a file with the new content; a device or a pipe is simply written to.
    Raises OSError where it cannot be written; a write-protected file stays as it is.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    target = path.resolve()
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    # Named without the target's name, which may already be as long as a name can be.
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
