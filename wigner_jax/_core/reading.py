"""Files that anybody may have made: read within limits, and whatever goes wrong becomes `InputError` naming the file.

A few hundred bytes can ask for any amount of memory or time: by a ratio of compression, by a size that is declared and
not there, by nesting, or by references that are followed again and again. So sizes are compared with the file's own
before anything is made, and every reader works inside `reading`, the one place that knows what libraries raise.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import json
import lzma
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


F = TypeVar("F", bound="Callable[..., Any]")
OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".lzma": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
RATIO = 100  # of text to its compressed file; forces and conductivities reach 20
FREE = 2**21  # bytes of text that a file of any size may unpack to
LARGEST = 2**29  # bytes of text that are parsed
DEPTH = 100  # of nested lists and tables; the deepest that is read here has 8
NODES = 100_000  # of a yaml file, beside those that its size allows
ADVICE = "check the file, or make it anew"


@contextmanager
def reading(path: str | Path, what: str, remedy: str = ADVICE, *, folder: bool = False) -> Iterator[None]:
    """Whatever goes wrong inside becomes `InputError` naming the file, with the exception as its cause.

    An `InputError` from inside stays as it is, with the file in front where it does not name it. Warnings of the package
    pass, numpy's about numbers that overflow do not appear: who reads numbers checks that they are finite.

    Args:
        path: the file.
        what: what it should be, "a complete Nequix file".
        remedy: what to do where it is not.
        folder: whether `path` may be a folder.

    Raises:
        InputError: also for a file that is not there, a folder, or something else than a file (a pipe would be waited for).
    """
    with _naming(path, what, remedy):
        _require_file(Path(path), folder)
        yield


@contextmanager
def _naming(path: str | Path, what: str, remedy: str) -> Iterator[None]:
    try:
        with np.errstate(all="ignore"):
            yield
    except InputError as error:
        if error.file is not None or str(path) in str(error):
            error.file = error.file or str(path)
            raise
        raise _of(path, type(error)(f"{path}: {error.found}", error.remedy)) from error
    except Warning:
        raise
    except Exception as error:
        raise _of(path, InputError(f"cannot read {path}: not {what} ({reason(error)})", remedy)) from error


def _of(path: str | Path, error: InputError) -> InputError:
    error.file = str(path)
    return error


def reads(what: str, remedy: str = ADVICE, *, here: bool = True) -> Callable[[F], F]:
    """`reading` around a whole function whose first argument is the path.

    Args:
        here: whether the path must be that of a file; otherwise the function says what it does with others.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def inside(path: str | Path, *args: Any, **options: Any) -> Any:
            if here:
                with reading(path, what, remedy):
                    return function(path, *args, **options)
            with _naming(path, what, remedy):
                return function(path, *args, **options)

        return inside  # type: ignore[return-value]

    return decorate


def _require_file(path: Path, folder: bool) -> None:
    try:
        there, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:
        raise InputError(f"no such file: {path} ({reason(error)})") from error
    if not there:
        raise InputError(f"no such file: {path}", "check the name")
    if is_folder and not folder:
        raise InputError(f"{path} is a folder", "give the file in it")
    if not (is_file or is_folder):
        raise InputError(f"{path} is no file that can be read at any place", "copy its contents into one")


def reason(error: BaseException) -> str:
    """What an exception says, in a few words of one line."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"it has no {ascii(error.args[0])[:100] if error.args else 'such entry'}"
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is not None:  # of yaml
        return f"{problem}{'' if mark is None else f', line {mark.line + 1}'}"[:120]
    text = getattr(error, "strerror", None) or " ".join(str(error).split())
    return str(text)[:120] or type(error).__name__


def in_words(size: float) -> str:
    """A number of bytes."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def require_size(size: int, file: int, free: int, ratio: int) -> None:
    """InputError if a file of `file` bytes would take more than `ratio` times that, and more than `free` bytes."""
    if size > max(free, ratio * file):
        times = f"{size // max(file, 1)} times its own {in_words(file)}"
        raise InputError(f"it would take {in_words(size)} of memory, {times}", "it is damaged or hostile: make it anew")


def read_bytes(path: str | Path) -> bytes:
    """The contents of a file, unpacked if its name ends in .gz, .xz, .lzma or .bz2.

    Raises:
        InputError: more than `LARGEST` bytes, or more than `RATIO` times what is stored.
    """
    path = Path(path)
    stored = path.stat().st_size
    opener = OPENERS.get(path.suffix)
    most = LARGEST if opener is None else min(LARGEST, max(FREE, RATIO * stored))
    if opener is None and stored > most:
        raise InputError(f"{path} has {in_words(stored)}, and at most {in_words(most)} of text are read")
    with path.open("rb") if opener is None else opener(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(
            f"{path} unpacks to more than {in_words(most)} from {in_words(stored)}",
            "unpack it, and check what is in it",
        )
    return content


def read_text(path: str | Path) -> str:
    """The same as text."""
    return read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")


def read_json(path: str | Path) -> Any:
    """The contents of a JSON file, packed or not. Inside `reading`.

    Raises:
        InputError: nested deeper than `DEPTH`: Python's own limit can be raised by any library, and then the stack ends first.
    """
    content = read_bytes(path)
    depth = most = 0
    for bracket in re.findall(rb"[\[\]{}]", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", content)):
        depth += 1 if bracket in b"[{" else -1
        most = max(most, depth)
        if most > DEPTH:
            raise InputError(f"it is nested deeper than {DEPTH} levels", "make it anew")
    return json.loads(content)


def read_yaml(path: str | Path) -> Any:
    """The contents of a yaml file, packed or not, without names that stand for parts. Inside `reading`.

    Raises:
        InputError: nested deeper than `DEPTH`, more parts than the file's size can mean, or aliases that unfold to them.
    """
    content = read_bytes(path)
    limit = NODES + min(len(content) // 4, 4 * Path(path).stat().st_size)
    loader = _yaml_loader(limit)(content)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _yaml_loader(limit: int) -> Any:
    """A loader of plain data that refuses depth and unfolding before it composes them."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster, where it is there

    class Loader(base):
        depth = nodes = 0

        def descend_resolver(self, current_node: Any, current_index: Any) -> None:
            self.depth, self.nodes = self.depth + 1, self.nodes + 1
            if self.depth > DEPTH:
                raise InputError(f"lists and tables are nested more than {DEPTH} deep")
            if self.nodes > limit:
                raise InputError(f"it has more than {limit} parts, more than its size can mean")

        def ascend_resolver(self) -> None:
            self.depth -= 1

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            if len(node.value) > 1000 and not all(key.tag.endswith(":str") for key, _ in node.value):
                raise InputError("a table of more than 1000 entries whose keys are not all text")

        def construct_document(self, node: Any) -> Any:
            if unfolded(node, _parts_of_node) > limit:
                raise InputError(f"its aliases unfold to more than {limit} parts", "write them out")
            return super().construct_document(node)

    return Loader


def _parts_of_node(node: Any) -> list[Any]:
    if isinstance(node.value, str):
        return []
    return [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]


def unfolded(root: Any, parts: Callable[[Any], list[Any]], own: Callable[[Any], int] = lambda _: 1) -> float:
    """How large a structure is if shared parts are counted wherever they are used; infinite if one holds itself.

    Args:
        parts: what an object consists of; nothing for a leaf.
        own: what counts of an object beside its parts.
    """
    sizes: dict[int, float] = {}
    open_: set[int] = set()
    stack: list[tuple[Any, list[Any] | None]] = [(root, None)]
    while stack:
        item, inside = stack.pop()
        if inside is not None:
            sizes[id(item)] = own(item) + sum(sizes[id(x)] for x in inside)
            open_.discard(id(item))
        elif id(item) in open_:
            return float("inf")
        elif id(item) not in sizes:
            inside = parts(item)
            if not inside:
                sizes[id(item)] = own(item)
                continue
            open_.add(id(item))
            stack.append((item, inside))
            stack.extend((x, None) for x in inside)
    return sizes[id(root)]


def whole_number(value: Any, name: str, low: int, high: int) -> int:
    """An integer of a file between two bounds; InputError with both."""
    if isinstance(value, (bool, str)) or int(value) != value or not low <= value <= high:
        raise InputError(f"{name} is {str(value)[:40]}, not a whole number from {low} to {high}")
    return int(value)


def positive_number(value: Any, name: str, high: float = float("inf")) -> float:
    """A number of a file above zero and below a bound; InputError otherwise."""
    if isinstance(value, (bool, str)) or not 0 < float(value) < high:
        raise InputError(
            f"{name} is {str(value)[:40]}, not a number above 0{f' and below {high:g}' if high < 1e300 else ''}"
        )
    return float(value)


__all__ = [
    "OPENERS",
    "positive_number",
    "read_bytes",
    "read_json",
    "read_text",
    "read_yaml",
    "reading",
    "reads",
    "reason",
    "require_size",
    "unfolded",
    "whole_number",
]
