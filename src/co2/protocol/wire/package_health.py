"""How the plugin packages of a satellite are, as it tells its relay, and what is wrong with them in words."""

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
"""Packages of one satellite that are told; those in trouble first."""

MAX_HEALTH_TEXT = 16 * 1024
"""Characters that all of that may have."""

MAX_ERROR = 300
"""Characters of one error."""

RECENT = 600.0
"""Seconds for which an error of a package that runs is trouble."""

DOES_NOTHING = ("failed", "parked")
"""States in which a package does nothing until somebody asks for another try."""

Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Health(msgspec.Struct, array_like=True, frozen=True):
    """One package. Times are as of when it was told.

    Attributes:
        name: of the package.
        state: ``starting``, ``running``, ``restarting``, ``parked``, ``failed`` or ``stopped``.
        load: number of its load, 0 where none has run.
        hangs: seconds that a call into it has been under way that is past the warning.
        dead_letters: messages that it did not take, and that are kept.
        refused: older code than the folder's goes on.
        error: its last one, on one line; '' for none.
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
        """Return how it is some seconds after this was told, where nothing else was since."""
        hangs = self.hangs + seconds if self.hangs else 0.0
        return msgspec.structs.replace(self, hangs=hangs, error_age=self.error_age + seconds)

    def words(self, duration: Callable[[float], str]) -> list[str]:
        """Return what is wrong, see :func:`trouble_words`."""
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
    """Say in a few words each what is wrong with a package, worst first; nothing where all is well.

    Args:
        name: of the package.
        state: see :class:`Health`, as the others.
        hangs: likewise.
        dead_letters: likewise.
        refused: likewise.
        error_age: None for no error.
        duration: writes seconds for people.
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
    """Return as many packages as may be told, those in trouble first."""
    rows: list[Health] = []
    size = 0
    for row in sorted(packages, key=lambda row: not row.words(str)):
        size += health_text((row,))
        if len(rows) >= MAX_HEALTH or size > MAX_HEALTH_TEXT:
            break
        rows.append(row)
    return rows


def health_text(packages: Iterable[Health]) -> int:
    """Return how many characters of text there are."""
    return sum(len(row.name) + len(row.state) + len(row.error) for row in packages)
