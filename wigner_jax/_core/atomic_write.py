"""Files that appear complete or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def atomic_write(path: str | Path, advice: str = "choose another place") -> Iterator[Path]:
    """A path beside `path` to write to: renamed onto it at the end, removed after an error.

    Raises:
        InputError: the file cannot be written; the line ends with `advice`.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error}): {advice}") from error
    finally:
        part.unlink(missing_ok=True)
