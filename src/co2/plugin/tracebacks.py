"""Errors of plugins in words: one line, the whole traceback, and the place in the package's own files."""

from pathlib import Path

from co2.protocol.frames import text_for_frame

__all__ = ["MAX_TRACEBACK", "error_line", "place_in", "traceback_text"]

MAX_TRACEBACK = 16 * 1024
"""Characters of a traceback that travel to the log; of a longer one the end."""


def traceback_text(error: BaseException) -> str:
    """Format an exception for the log; of a very long traceback the end."""
    import traceback

    return "".join(traceback.format_exception(error)).rstrip()[-MAX_TRACEBACK:]


def error_line(error: BaseException) -> str:
    """Give type and first line of an exception, at most 200 characters: what a caller may know."""
    try:
        text = text_for_frame(str(error).partition("\n")[0])
    except BaseException:
        text = ""
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:200]


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
