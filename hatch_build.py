"""Compiles the quick loops of plugin hosts when co2 is built or installed; where that fails, Python has them."""

import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

MODULE = "co2.plugin._quick"
SOURCE = Path("src", *MODULE.split(".")).with_suffix(".c")
BUILT = SOURCE.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts the compiled module beside its source, and into a wheel, which then is one for this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before anything is packed."""
        root = Path(self.root)
        (root / BUILT).unlink(missing_ok=True)
        try:
            compile_into(root)
        except Exception as error:  # no compiler, no headers, whatever it is: nobody needs the module
            self.app.display_warning(f"send and receive stay in Python, which works, only slower: {error}")
            return
        build_data["artifacts"].append(f"/{BUILT.as_posix()}")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_into(root: Path) -> None:
    """Compile in a folder that goes away, and keep the module only."""
    with tempfile.TemporaryDirectory() as folder:
        extension = Extension(MODULE, [str(root / SOURCE)])
        command = build_ext(Distribution({"name": MODULE, "ext_modules": [extension]}))
        command.build_lib, command.build_temp = f"{folder}/lib", f"{folder}/temp"
        command.ensure_finalized()
        command.run()
        shutil.move(Path(folder, "lib", *BUILT.parts[1:]), root / BUILT)
