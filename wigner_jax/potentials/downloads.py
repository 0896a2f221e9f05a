"""Published model files: from the user's cache, or from their official address, checked."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError

TIMEOUT = 60  # s without a byte


class Published(NamedTuple):
    """Where a model is published, and the checksum of the file if it is known."""

    url: str
    sha256: str | None = None

    @property
    def file(self) -> str:
        return urllib.parse.unquote(self.url.rpartition("/")[2])


def cache_folder() -> Path:
    """Where downloaded models are kept: `potentials` in the package's folder of the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "wigner-jax" / "potentials"


def fetch(name: str, published: Published) -> Path:
    """The file of a published model, downloaded once.

    The checksum is the published one, or, where none is published, that of the first download, which is kept beside the
    file: a file that changes or decays in the cache is noticed.

    Raises:
        InputError: if the file is neither cached nor can be downloaded (it says which file to put where), or does not
            have its checksum.
    """
    path = cache_folder() / published.file
    record = path.with_name(path.name + ".sha256")
    fresh = not path.exists()
    if fresh:
        _download(name, published.url, path)
    expected = published.sha256 or (record.read_text().split()[0] if record.exists() else None)
    found = _checksum(path) if expected or fresh else ""
    if expected and found != expected:
        if fresh:
            path.unlink()
        raise InputError(
            f"{path} is not the published {name} (sha256 {found[:16]}…, expected {expected[:16]}…): delete it and try"
            f" again, or download {published.url} by other means"
        )
    if fresh:
        record.write_text(f"{found}  {path.name}\n")
    return path


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name: str, url: str, path: Path) -> None:
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, partial.open("wb") as file:
            size = response.headers.get("Content-Length")
            shutil.copyfileobj(response, file, 2**20)
            if size is not None and file.tell() != int(size):
                raise OSError(f"the connection ended after {file.tell()} of {size} bytes")
        partial.replace(path)  # never a half-written file under the final name
    except OSError as error:  # URLError is one
        partial.unlink(missing_ok=True)
        reason = getattr(error, "reason", error)
        raise InputError(
            f"{name} is not in the cache and cannot be downloaded ({reason}): get {url} and put it at {path}, or give"
            " the path of the file instead of the name"
        ) from None
