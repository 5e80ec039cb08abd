"""Compiles the quick loops of plugin hosts when co2 is built or installed; where that fails, Python has them."""

import shutil
import sysconfig
import tempfile
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

MODULE = "co2.plugin._quick"
BUILT = Path(*MODULE.split(".")).with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts the compiled module into a wheel, which then is one for this platform.

    The source tree may be read-only, and keeps what an editable install has put there beside the source.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before anything is packed."""
        self._folder = tempfile.TemporaryDirectory()
        source = Path(self.root, "src")
        try:
            if version == "editable":
                (source / BUILT).unlink(missing_ok=True)
            built = compile_into(Path(self._folder.name), source)
            if version == "editable":
                shutil.move(built, source / BUILT)
        except Exception as error:  # no compiler, no headers, whatever it is: nobody needs the module
            self.app.display_warning(f"send and receive stay in Python, which works, only slower: {error}")
            return
        if version != "editable":
            build_data["force_include"][str(built)] = BUILT.as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        self._folder.cleanup()


def compile_into(folder: Path, source: Path) -> Path:
    """Compile; the module knows of what, so that ``quick.py`` takes no old one for it."""
    code = source.joinpath(*MODULE.split(".")).with_suffix(".c")
    macros = [("SOURCE", str(zlib.crc32(code.read_bytes()) >> 1))]
    extension = Extension(MODULE, [str(code)], define_macros=macros)
    command = build_ext(Distribution({"name": MODULE, "ext_modules": [extension]}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "temp")
    command.ensure_finalized()
    command.run()
    return folder / "lib" / BUILT
