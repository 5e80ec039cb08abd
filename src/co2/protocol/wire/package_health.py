"""The health of a satellite's plugin packages, as reported to its relay, and their trouble in words."""

from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec

__all__ = [
    "DOES_NOTHING",
    "MAX_ERROR",
    "MAX_HEALTH",
    "MAX_HEALTH_TEXT",
    "RECENT",
    "Health",
    "fitting",
    "health_text",
    "trouble_words",
]

MAX_HEALTH = 100
"""Packages of one satellite that are reported; those in trouble first."""

MAX_HEALTH_TEXT = 16 * 1024
"""Characters of text in one report."""

MAX_ERROR = 300
"""Characters of an error."""

RECENT = 600.0
"""Seconds for which an error of a running package counts as trouble."""

DOES_NOTHING = ("failed", "parked")
"""States in which a package does nothing until somebody starts it again."""

Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Health(msgspec.Struct, array_like=True, frozen=True):
    """Health of one package. Times are those of the report.

    Attributes:
        name: of the package.
        state: ``starting``, ``running``, ``restarting``, ``parked``, ``failed`` or ``stopped``.
        load: number of its load, 0 if none has run.
        hangs: seconds that a call into it has taken so far, if that is past the warning; else 0.
        dead_letters: kept messages that the package did not accept.
        refused: older code than the folder's still runs.
        error: the last one, on one line; '' for none.
        error_age: seconds since then.
    """

    name: Annotated[str, msgspec.Meta(max_length=64)]
    state: Annotated[str, msgspec.Meta(max_length=16)]
    load: Count = 0
    hangs: Seconds = 0.0
    dead_letters: Count = 0
    refused: bool = False
    error: Annotated[str, msgspec.Meta(max_length=MAX_ERROR)] = ""
    error_age: Seconds = 0.0

    def later(self, seconds: float) -> "Health":
        """Return the health some seconds after this report, if nothing else has changed."""
        hangs = self.hangs + seconds if self.hangs else 0.0
        return msgspec.structs.replace(self, hangs=hangs, error_age=self.error_age + seconds)

    def words(self, duration: Callable[[float], str]) -> list[str]:
        """Return the trouble in words, see :func:`trouble_words`."""
        return trouble_words(
            self.name,
            self.state,
            hangs=self.hangs,
            dead_letters=self.dead_letters,
            refused=self.refused,
            error_age=self.error_age if self.error else None,
            duration=duration,
        )


def trouble_words(
    name: str,
    state: str,
    *,
    hangs: float,
    dead_letters: int,
    refused: bool,
    error_age: float | None,
    duration: Callable[[float], str],
) -> list[str]:
    """Return the trouble of a package, a few words each, worst first; nothing if there is none.

    Args:
        name: of the package.
        state: see :class:`Health`, as for the others.
        hangs: likewise.
        dead_letters: likewise.
        refused: likewise.
        error_age: None for no error.
        duration: formats seconds for people.
    """
    if state in DOES_NOTHING:
        return [f"{name} {state}"]
    found = [f"{name} restarting"] if state == "restarting" else []
    found += [f"{name} hangs"] if hangs else []
    found += [f"{name}: new code refused"] if refused else []
    found += [f"{name}: {dead_letters} dead letter{'' if dead_letters == 1 else 's'}"] if dead_letters else []
    if not found and error_age is not None and error_age < RECENT:
        found = [f"{name}: error {duration(error_age)} ago"]
    return found


def fitting(packages: Iterable[Health]) -> list[Health]:
    """Return as many packages as fit a report, those in trouble first."""
    rows: list[Health] = []
    size = 0
    for row in sorted(packages, key=lambda row: not row.words(str)):
        size += health_text((row,))
        if len(rows) >= MAX_HEALTH or size > MAX_HEALTH_TEXT:
            break
        rows.append(row)
    return rows


def health_text(packages: Iterable[Health]) -> int:
    """Return the number of characters of their texts."""
    return sum(len(row.name) + len(row.state) + len(row.error) for row in packages)
