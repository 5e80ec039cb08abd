"""Output of commands: tables and colours at a terminal, plain aligned text in a pipe, JSON for programs."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from co2.unseen import escape_unseen

__all__ = ["age", "as_text", "coloured", "one_line", "print_json", "print_table", "to_json"]

_COLOURS = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "red": "31", "cyan": "36"}


def to_json(value: Any, indent: int | None = None) -> str:
    """Return a value as strict JSON: bytes as base64, NaN as null, invisible characters as escapes."""
    from co2.values import to_jsonable

    text = json.dumps(to_jsonable(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return escape_unseen(text, "\n", _json_escape)


def _json_escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else json.dumps(char)[1:-1]


def print_json(value: Any) -> None:
    """Print one JSON document on a line, and flush."""
    sys.stdout.write(to_json(value) + "\n")
    sys.stdout.flush()


def wants_colour() -> bool:
    """Return whether to print colours: NO_COLOR and FORCE_COLOR decide, otherwise whether stdout is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def coloured(text: str, colour: str) -> str:
    """Return text in a colour, or unchanged if no colours are printed."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if wants_colour() else text


def one_line(text: Any) -> str:
    """Return a value as one line without control characters: other hosts must not control the terminal."""
    return escape_unseen(str(text))


def as_text(found: Any) -> str:
    """Return text, decoded if it came as bytes: XML cannot contain every character."""
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found or "")


def age(seconds: float) -> str:
    """Return a duration in seconds as text in a suitable unit, such as ``3 min``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under headings. At a terminal long cells wrap; in a pipe each row is one line."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(headings, cells)
        return
    widths = [max(len(row[column]) for row in [list(headings), *cells]) for column in range(len(headings))]
    for row in [list(headings), *cells]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()


def _print_rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # Imported here, because its import takes longer than a short command.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STATE_STYLES.get(cell, "")) for cell in row))
    # Without a colour system rich writes no escape codes at all; no_color would leave bold ones.
    Console(color_system="auto" if wants_colour() else None, highlight=False).print(table)


_STATE_STYLES = {"ok": "green", "new": "cyan", "unreachable": "red"}
