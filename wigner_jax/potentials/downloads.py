"""Published model files: from a folder of the user's, the cache, an installed program, or their official address."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._core.atomic_write import replacing, write_text
from .._core.temporaries import remove_forgotten
from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping


TIMEOUT = 60  # s without a byte
FOLDER = "WIGNER_JAX_MODELS"  # environment variable: a folder of model files, looked in first and never written to


class Published(NamedTuple):
    """Where a model is published, and the checksum of the file if it is known."""

    url: str
    sha256: str | None = None
    names: tuple[str, ...] = ()  # further names that the file goes by
    package: str | None = None  # where a Python package has the file, "sevenn/pretrained_potentials/…"
    cache: str | None = None  # where the original program keeps its downloads, "~/.cache/nequix/models/…"

    @property
    def file(self) -> str:
        return urllib.parse.unquote(self.url.rpartition("/")[2])


def cache_folder() -> Path:
    """Where downloaded models are kept: `potentials` in the package's folder of the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "wigner-jax" / "potentials"


def locate(published: Published) -> Path | None:
    """The file of a published model where it is on this machine already; its content is not looked at.

    The order is: the folder that WIGNER_JAX_MODELS names, the cache, an installed package that comes with the file
    (which is not imported), the cache of the original program.

    Raises:
        InputError: if WIGNER_JAX_MODELS is not a folder.
    """
    return _own(published) or _foreign(published)


def fetch(name: str, published: Published, known: Mapping[str, str] | None = None) -> Path:
    """The file of a published model, downloaded once if it is nowhere on this machine (`locate`).

    The checksum is the published one, or, where none is published, that of the first download, which is kept beside the
    file: a file that changes or decays in the cache is noticed. A file of another program that does not have the
    checksum (another version's, say) is passed over.

    Args:
        known: names of models by their checksums, to say what a wrong file is.

    Raises:
        InputError: if the file is neither on this machine nor can be downloaded (it says which file to put where), or
            does not have its checksum.
    """
    path = _own(published)
    foreign = _foreign(published) if path is None else None
    if foreign is not None and published.sha256 in (None, checksum(foreign)):
        return foreign
    fresh = path is None
    path = path or cache_folder() / published.file
    if fresh:
        _download(name, published.url, path)
    record = path.with_name(path.name + ".sha256")
    expected = published.sha256 or (record.read_text().split()[0] if record.exists() else None)
    found = checksum(path) if expected or fresh else ""
    if expected and found != expected:
        if fresh:
            path.unlink()
        what = f", it is that of {known[found]}" if known and found in known else ""
        raise InputError(
            f"{path} is not the published {name} (sha256 {found[:16]}…, expected {expected[:16]}…{what}): delete it and"
            f" try again, or download {published.url} by other means"
        )
    if fresh:
        write_text(record, f"{found}  {path.name}\n")
    return path


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own(published: Published) -> Path | None:
    """Where the user put the file: under any of its names in the folder, under the one of the address in the cache."""
    places = [cache_folder() / published.file]
    if folder := os.environ.get(FOLDER):
        if not Path(folder).expanduser().is_dir():
            raise InputError(f"{FOLDER} is {folder!r}, which is not a folder: correct or unset it")
        places = [Path(folder).expanduser() / name for name in (published.file, *published.names)] + places
    return next((path for path in places if path.is_file()), None)


def _foreign(published: Published) -> Path | None:
    """The file where the original program has it."""
    places = [] if published.cache is None else [Path(published.cache).expanduser()]
    if published.package is not None:
        package, _, inside = published.package.partition("/")
        spec = importlib.util.find_spec(package)  # of a top-level package: nothing is imported
        places = [Path(f, inside) for f in (spec.submodule_search_locations or () if spec else ())] + places
    return next((path for path in places if path.is_file()), None)


def _download(name: str, url: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_forgotten(path.parent)
        # never a half-written file under the final name
        with replacing(path) as part, urllib.request.urlopen(url, timeout=TIMEOUT) as response, part.open("wb") as file:
            size = response.headers.get("Content-Length")
            shutil.copyfileobj(response, file, 2**20)
            if size is not None and file.tell() != int(size):
                raise OSError(f"the connection ended after {file.tell()} of {size} bytes")
    except OSError as error:  # URLError is one
        reason = getattr(error, "reason", error)
        raise InputError(
            f"{name} is not on this machine and cannot be downloaded ({reason}): get {url} and put it at {path}, or give"
            f" the path of the file instead of the name, or set {FOLDER} to a folder that has it"
        ) from None
