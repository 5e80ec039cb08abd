"""Errors of plugins in words: one line, the whole traceback, and the place in the package's own files."""

from pathlib import Path

from co2.protocol.frames import text_for_frame

__all__ = ["MAX_ERROR_LINE", "MAX_TRACEBACK", "error_line", "place_in", "traceback_text"]

MAX_TRACEBACK = 16 * 1024
"""Characters of a traceback that travel to the log; of a longer one the end."""

MAX_ERROR_LINE = 500
"""Characters of an error that a caller is told: room for what happened and for what helps."""

_LONGEST_WORD = 80
"""Characters that are given up to cut between two words."""


def traceback_text(error: BaseException) -> str:
    """Format an exception for the log; of a very long traceback the end."""
    import traceback

    return "".join(traceback.format_exception(error)).rstrip()[-MAX_TRACEBACK:]


def error_line(error: BaseException) -> str:
    """Give type and first line of an exception: what a caller may know.

    One over :data:`MAX_ERROR_LINE` is cut between two words, and ends in ``…``.
    """
    try:
        text = text_for_frame(str(error).partition("\n")[0])
    except BaseException:
        text = ""
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if len(line) <= MAX_ERROR_LINE:
        return line
    end = line.rfind(" ", MAX_ERROR_LINE - _LONGEST_WORD, MAX_ERROR_LINE)
    return line[: end if end > 0 else MAX_ERROR_LINE - 1] + "…"


def place_in(folder: Path, error: BaseException) -> str:
    """Give ``file:line`` of the innermost frame of an error that is in this folder, '' for none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if Path(file).is_relative_to(folder):
            place = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
