"""Compiles what is there in C too, when co2 is built or installed; where that fails, Python does the same.

A hook of hatchling, not the back-end of setuptools with ``Extension(optional=True)``: that one keeps ``build/`` in
the checkout. A module that had been deleted was in the next wheel, and so was, where the compiler failed, what had
been compiled of an older source.
"""

import shutil
import sysconfig
import tempfile
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

MODULES = ("co2.plugin.child._speedups", "co2.server.express._express")


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts the compiled modules into a wheel, which then is one for this platform.

    The source tree may be read-only, and keeps what an editable install has put there beside the source.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before anything is packed."""
        self._folder = tempfile.TemporaryDirectory()
        for module in MODULES:
            try:
                self._add(module, version, build_data)
            except Exception as error:  # no compiler, no headers, whatever it is: nobody needs the module
                self.app.display_warning(f"{module} stays in Python, which works, only slower: {error}")

    def _add(self, module: str, version: str, build_data: dict[str, Any]) -> None:
        source, built = Path(self.root, "src"), built_path(module)
        if version == "editable":
            (source / built).unlink(missing_ok=True)
        found = compile_into(Path(self._folder.name), source, module)
        if version == "editable":
            shutil.move(found, source / built)
        else:
            build_data["force_include"][str(found)] = built.as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        self._folder.cleanup()


def built_path(module: str) -> Path:
    """Give where a compiled module lies, below ``src``."""
    return Path(*module.split(".")).with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))


def compile_into(folder: Path, source: Path, module: str) -> Path:
    """Compile; the module knows of what, so that Python takes no old one for it (``compiled.py``)."""
    code = source.joinpath(*module.split(".")).with_suffix(".c")
    macros = [("SOURCE", str(zlib.crc32(code.read_bytes()) >> 1))]
    extension = Extension(module, [str(code)], define_macros=macros)
    command = build_ext(Distribution({"name": module, "ext_modules": [extension]}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "temp")
    command.ensure_finalized()
    command.run()
    return folder / "lib" / built_path(module)
