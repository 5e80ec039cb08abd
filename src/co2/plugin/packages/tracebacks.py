"""Errors of plugins as text: one line, the whole traceback, and the place in the package's own files."""

import os
import sys
from pathlib import Path

from co2.plugin.packages.locate import BUNDLED
from co2.protocol.wire.plugin_frames.frames import text_for_frame

__all__ = ["MAX_ERROR_LINE", "MAX_TRACEBACK", "error_line", "files_of", "place_in", "traceback_text"]

MAX_TRACEBACK = 16 * 1024
"""Characters of a traceback that are sent to the log; of a longer one the end."""

MAX_ERROR_LINE = 500
"""Characters of an error for a caller: room for the event and for help."""

_LONGEST_WORD = 80
"""Characters that may be lost to cut between two words."""


def traceback_text(error: BaseException) -> str:
    """Format an exception for the log; of a very long traceback the end."""
    import traceback

    return "".join(traceback.format_exception(error)).rstrip()[-MAX_TRACEBACK:]


def error_line(error: BaseException) -> str:
    """Return type and first line of an exception: the part that a caller may know.

    A line over :data:`MAX_ERROR_LINE` is cut between two words, and ends in ``…``.
    """
    try:
        text = text_for_frame(str(error).partition("\n")[0])
    except BaseException:
        text = ""
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    line += _hint(error)
    if len(line) <= MAX_ERROR_LINE:
        return line
    end = line.rfind(" ", MAX_ERROR_LINE - _LONGEST_WORD, MAX_ERROR_LINE)
    return line[: end if end > 0 else MAX_ERROR_LINE - 1] + "…"


def files_of(module: str) -> Path:
    """Return the folder of the package that a module belongs to; or its file, if it is a single one.

    Args:
        module: its full import name.
    """
    bundled = module.startswith(f"{BUNDLED}.")
    package = ".".join(module.split(".")[: BUNDLED.count(".") + 2 if bundled else 1])
    file = Path(getattr(sys.modules.get(package), "__file__", None) or "/")
    return file.parent if file.name == "__init__.py" else file


def place_in(folder: Path, error: BaseException, *, but: Path | None = None) -> str:
    """Return ``file:line`` of the innermost frame of an error that is in this folder, '' for none.

    Args:
        folder: a folder or a single file.
        error: as it was caught.
        but: frames in this one do not count.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(folder) and not (but is not None and file.is_relative_to(but)):
            place = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _hint(error: BaseException) -> str:
    """Return a hint for a missing variable of the environment: plugins do not get all of them."""
    trace = error.__traceback__
    if trace is None or not isinstance(error, KeyError):
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    if trace.tb_frame.f_code.co_filename not in (os.__file__, "<frozen os>"):
        return ""
    return (
        f"; to pass this environment variable to plugins, add it in co2.toml: plugin_env = [{error.args[0]!r:.80}]"
    )
