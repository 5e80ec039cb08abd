"""What a relay may ask of its satellite for a person at the relay's machine, and the form of the answers.

A request is a :class:`~co2.protocol.wire.link_frames.Call` with an ``asker``. A relay sets that only for its own
requests and never in a call that it passes on, so no other member can make one; a relay that is too old for
requests never sets it. The names below are in no registry: without an ``asker`` they are unknown.

Answers come from a host that may be hostile: the relay accepts only these types, within these limits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import msgspec

from co2.protocol.wire.host_names import MAX_NAME

__all__ = [
    "DROP_DEAD_LETTERS",
    "GET_DEAD_LETTERS",
    "GET_LOG",
    "GET_PACKAGES",
    "MAX_ANSWER",
    "MAX_LETTER",
    "MAX_LETTERS",
    "MAX_LINE",
    "MAX_LINES",
    "MAX_PART",
    "MAX_PLUGINS",
    "MAX_REASON",
    "MAX_SHOWN_PACKAGES",
    "MAX_TEXT",
    "RELOAD",
    "REPEAT_DEAD_LETTER",
    "REQUESTS",
    "Count",
    "LetterPart",
    "LogLine",
    "LogPart",
    "PackageList",
    "PackageReport",
    "PluginReport",
    "RelayRequest",
    "ReportedLetter",
    "cut",
]

MAX_ANSWER = 512 * 1024
"""Bytes of one encoded answer; a longer one is refused before it is decoded."""

MAX_PART = 128 * 1024
"""Bytes of log lines, dead letters or packages in one answer, roughly; at least one is in it. The rest is in
further parts."""

MAX_LINES = 500
"""Log lines in one part."""

MAX_LINE = 16 * 1024
"""Characters of one log line; a longer one is cut."""

MAX_LETTERS = 500
"""Dead letters in one part."""

MAX_LETTER = 64 * 1024
"""Bytes of the message of a dead letter; of a longer one comes the beginning, as text."""

MAX_REASON = 8 * 1024
"""Characters of the reason of a dead letter; a longer one is cut."""

MAX_SHOWN_PACKAGES = 200
"""Packages in one part."""

MAX_PLUGINS = 100
"""Plugins of one package that are reported."""

MAX_TEXT = 2 * 1024
"""Characters of a plugin's text or docstring, and of an error; longer ones are cut."""

MAX_COUNTS = 32
"""Entries of a dictionary of numbers."""

MAX_MOMENT = 2**33
"""Latest time in seconds since 1970: the year 2242."""


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """One request.

    Attributes:
        name: of the method.
        controls: it changes something at the satellite; otherwise it only reads.
        timeout: seconds for its answer.
    """

    name: str
    controls: bool
    timeout: float


GET_PACKAGES = RelayRequest("packages", controls=False, timeout=10.0)
GET_LOG = RelayRequest("log", controls=False, timeout=10.0)
GET_DEAD_LETTERS = RelayRequest("dead_letters", controls=False, timeout=10.0)
RELOAD = RelayRequest("reload", controls=True, timeout=55.0)
REPEAT_DEAD_LETTER = RelayRequest("repeat_dead_letter", controls=True, timeout=30.0)
DROP_DEAD_LETTERS = RelayRequest("drop_dead_letters", controls=True, timeout=30.0)

REQUESTS: Mapping[str, RelayRequest] = MappingProxyType(
    {
        request.name: request
        for request in (
            *(GET_PACKAGES, GET_LOG, GET_DEAD_LETTERS),
            *(RELOAD, REPEAT_DEAD_LETTER, DROP_DEAD_LETTERS),
        )
    }
)
"""Every request, by name."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Figure = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]  # also refuses nan and infinities
Moment = Annotated[float, msgspec.Meta(ge=0.0, le=MAX_MOMENT)]
Word = Annotated[str, msgspec.Meta(max_length=64)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Counts = Annotated[dict[Word, Count], msgspec.Meta(max_length=MAX_COUNTS)]
Figures = Annotated[dict[Word, Figure], msgspec.Meta(max_length=MAX_COUNTS)]


class PluginReport(msgspec.Struct, frozen=True):
    """A plugin of a package: fields of :class:`~co2.protocol.wire.plugin_frames.frames.PluginInfo`."""

    name: Name
    text: Text = ""
    help: Text = ""
    receives: bool = False


class PackageReport(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a package: fields of :class:`~co2.plugin.parent.status.PackageStatus`."""

    name: Word
    state: Word
    pid: Count | None = None
    plugins: Annotated[list[PluginReport], msgspec.Meta(max_length=MAX_PLUGINS)] = []
    restarts: Count = 0
    last_error: Text = ""
    last_error_age: Figure | None = None
    received: Count = 0
    sent: Count = 0
    failed: Count = 0
    dead_letters: Count = 0
    letters_unkept: Count = 0
    dropped: Count = 0
    send_waits: Count = 0
    waiting: Count = 0
    slowest: Figure = 0.0
    hangs: Figure = 0.0
    load: Count = 0
    code: Word = ""
    reloads: Counts = {}
    refused: bool = False
    limits: Counts = {}
    uses: Figures = {}


class PackageList(msgspec.Struct, frozen=True):
    """Packages of a satellite, by name; ``more`` means that others follow the last one."""

    packages: Annotated[list[PackageReport], msgspec.Meta(max_length=MAX_SHOWN_PACKAGES)]
    more: bool = False


class LogLine(msgspec.Struct, frozen=True):
    """A line of a package's log."""

    number: Count
    at: Moment
    level: Word
    source: Name
    text: Annotated[str, msgspec.Meta(max_length=MAX_LINE + 64)]


class LogPart(msgspec.Struct, frozen=True):
    """Lines of a package's log, oldest first; ``more`` means that newer ones were wanted and did not fit."""

    lines: Annotated[list[LogLine], msgspec.Meta(max_length=MAX_LINES)]
    more: bool = False


class ReportedLetter(msgspec.Struct, frozen=True):
    """A dead letter."""

    id: Count
    at: Moment
    package: Word
    plugin: Name
    host_id: Name
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON + 64)]
    message: Any


class LetterPart(msgspec.Struct, frozen=True):
    """Dead letters, oldest first; ``more`` means that there may be others with higher ids."""

    letters: Annotated[list[ReportedLetter], msgspec.Meta(max_length=MAX_LETTERS)]
    more: bool = False


def cut(text: str, most: int) -> str:
    """Return at most so many characters of a text, and how many are missing."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"
