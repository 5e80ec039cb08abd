"""The code of a package: read once, hashed, and executed from memory.

Python keeps compiled code beside the source and considers it current if time and size of the source are the same:
two edits within a second and of one size fool it. So a package's own files are compiled each time they are loaded,
and no compiled file is read or written. The source that was read is kept: a module that is imported later is of
the same age as the others, whatever happened to its file since. Imports from elsewhere load as usual.
"""

import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NOT_OURS", "Code", "Uncached", "own_files", "read_code", "serve_code"]

NOT_OURS = frozenset(("__pycache__", "site-packages", "node_modules"))
"""Folders in a package that hold no code of its own; hidden folders hold none either."""

_COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Code:
    """A package's own files at one moment.

    Attributes:
        sources: content by path, relative to the package's folder.
        digest: hash of all of them, and of compiled extensions; a change of either changes it.
    """

    sources: Mapping[str, bytes]
    digest: str


def own_files(place: Path) -> Iterator[Path]:
    """Yield a package's own Python files and compiled extensions, in a fixed order; links are followed.

    Args:
        place: the package's folder, or its single file.
    """
    if place.is_file():
        yield place
    seen: set[str] = set()
    for folder, folders, files in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()  # a link that leads back up
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name not in NOT_OURS and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if name.endswith((".py", *_COMPILED)))


def read_code(place: Path) -> Code:
    """Read the code of a package; unreadable files are left out, and fail when they are imported.

    Args:
        place: the package's folder, or its single file.
    """
    sources: dict[str, bytes] = {}
    hashed: list[bytes] = []
    for path in own_files(place):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        relative = path.name if path == place else path.relative_to(place).as_posix()
        if path.suffix == ".py":
            sources[relative] = content
        hashed += (os.fsencode(relative), len(content).to_bytes(8, "big"), content)
    # 48 bits that distinguish versions of one package; they are no protection.
    return Code(sources, importlib.util.source_hash(b"\0".join(hashed)).hex()[:12])


class Uncached(importlib.machinery.SourceFileLoader):
    """Loads a module from its source, without Python's compiled files."""

    def get_code(self, fullname: str) -> types.CodeType:
        """Compile the source."""
        code: types.CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


class _Source(Uncached):
    """Loads one module from the source in memory."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_data(self, path: str) -> bytes:
        """Return the source in memory; for any other file, its content."""
        return self._source if path == self.path else super().get_data(path)


class _Finder:
    """Finds the modules of one package in its code; comes before Python's own finders."""

    def __init__(self, package: str, place: Path, code: Code) -> None:
        self.package = package
        self._place = place
        self._code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module of the package; None for others, and for modules that are not source."""
        if fullname == self.package and self._place.name in self._code.sources:
            return self._spec(fullname, self._place, self._code.sources[self._place.name])  # a single file
        if fullname != self.package and not fullname.startswith(f"{self.package}."):
            return None
        stem = fullname[len(self.package) + 1 :].replace(".", "/")
        for relative in (f"{stem}/__init__.py".lstrip("/"), f"{stem}.py"):
            source = self._code.sources.get(relative)
            if source is None:
                continue
            return self._spec(fullname, self._place / relative, source)
        return None

    @staticmethod
    def _spec(fullname: str, file: Path, source: bytes) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_file_location(
            fullname,
            file,
            loader=_Source(fullname, str(file), source),
            submodule_search_locations=[str(file.parent)] if file.name == "__init__.py" else None,
        )


def serve_code(package: str, place: Path) -> Code:
    """Read a package's code and import it from there, in this process, from now on.

    Its modules loaded before are forgotten.

    Args:
        package: full import name.
        place: its folder, or its single file.
    """
    code = read_code(place)
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if not (isinstance(finder, _Finder) and finder.package == package)
    ]
    sys.meta_path.insert(0, _Finder(package, place, code))
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
    return code
