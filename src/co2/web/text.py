"""Text of values on a page: durations, sizes, numbers."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from co2.unseen import escape_unseen
from co2.values import to_jsonable

__all__ = [
    "amount",
    "anchor",
    "as_text",
    "brief",
    "duration",
    "in_shell",
    "moment",
    "paragraphs",
    "rate",
    "reach",
    "shorten",
    "size",
    "words",
]

MAX_TEXT = 4000
"""Characters of a value on a page."""

MAX_BRIEF = 300
"""Characters of an error that everybody on the network may read."""

_DEFAULT_PORT = "2003"
"""That of a relay, at which commands look for it."""

_FOLDERS = re.compile(r"""(?<![\w/:.])/(?:[^/\s:'",]+/)+|(?<!\w)[A-Za-z]:\\(?:[^\\\s:'",]+\\)*""")

_SECONDS = re.compile(r"uptime|heartbeat|durability|\w+_(wait|interval|after|age|timeout|deadline)")
_BYTES = re.compile(r"body|outbox_max|bytes_written|\w+_(bytes|size)")
_MEBIBYTES = re.compile(r"memory|\w+_memory")


def duration(seconds: float | None) -> str:
    """Return text like ``3 h 12 min``: two units, rounded down."""
    if seconds is None:
        return "never"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.{0 if seconds >= 10 else 1}f} s".replace(".0 s", " s")
    whole = int(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    parts = []
    for length, unit in units:
        number, whole = divmod(whole, length)
        if number:
            parts.append(f"{number} {unit}")
        if parts and (len(parts) == 2 or not number):
            break
    return " ".join(parts)


def moment(seconds: float) -> str:
    """Return text like ``2026-11-23 17:28:15 CET`` for seconds since 1970, in local time as in the logs."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def size(number: float) -> str:
    """Return text like ``64 MiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(number) < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:,.4g} {unit}"


def words(value: Any, key: str = "") -> str:
    """Return any value of the properties as text; ``key`` implies the unit."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value, key)
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, Mapping):
        return shorten(", ".join(f"{name} {words(item, str(name))}" for name, item in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return shorten(", ".join(words(item) for item in value))
    return shorten(str(value))


def _number(value: float, key: str) -> str:
    if _SECONDS.fullmatch(key):
        return duration(value)
    if _BYTES.fullmatch(key):
        return size(value)
    if _MEBIBYTES.fullmatch(key):
        return size(value * 2**20)
    return f"{value:,}"


def amount(number: float, resource: str) -> str:
    """Return an amount of a resource: memory and address space are in MiB, ``cpu_seconds`` in seconds."""
    if resource in ("memory", "address_space"):
        return size(number * 2**20)
    return duration(number) if resource == "cpu_seconds" else f"{number:,}"


def shorten(text: str) -> str:
    """Return at most :data:`MAX_TEXT` characters."""
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " …"


def brief(error: str) -> str:
    """Shorten an error for everybody to read: its first line, and of a path only the file name.

    The rest, tracebacks with source lines and folders of that machine, is only for its own users.
    """
    line = _FOLDERS.sub("", error.strip().partition("\n")[0])
    return line if len(line) <= MAX_BRIEF else line[: MAX_BRIEF - 1] + "…"


def paragraphs(text: str) -> list[list[tuple[bool, str]]]:
    """Split a docstring at its blank lines; return each paragraph as pieces (is it code, text).

    Lines are joined, except where they are indented or listed. Text in double backquotes is code.
    """
    result = []
    for block in re.split(r"\n\s*\n", shorten(text).strip()):
        lines = block.splitlines()
        as_it_stands = any(line.startswith((" ", "\t", "* ", "- ")) for line in lines)
        joined = "\n".join(lines) if as_it_stands else " ".join(lines)
        pieces = joined.split("``")
        result.append([(number % 2 == 1, piece) for number, piece in enumerate(pieces) if piece])
    return result


def anchor(name: str) -> str:
    """Return a name in the form for ``id`` and behind ``#``."""
    return quote(name, safe="._-")


def as_text(value: Any) -> str:
    """Return a message as JSON on one line; text stays as it is."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(to_jsonable(value), ensure_ascii=False)
    except RecursionError:
        return "a value that is nested too deeply to be shown"


def in_shell(name: str) -> str:
    """Return a name for a command that a person pastes into a shell: somebody else chose it."""
    return shlex.quote(escape_unseen(name))


def reach(name: str, relay_host_id: str) -> str:
    """Return the options with which a command at the relay's machine reaches a satellite.

    Args:
        name: of the satellite, or its origin.
        relay_host_id: of the relay.
    """
    port = relay_host_id.rpartition(":")[2]
    at = "" if port == _DEFAULT_PORT else f" --relay http://127.0.0.1:{port}"
    return f"--host {in_shell(name)}{at}"


def rate(number: float) -> str:
    """Return text like ``12/s`` or ``0.4/s``."""
    return f"{number:,.0f}/s" if number >= 10 else f"{number:.2g}/s"
