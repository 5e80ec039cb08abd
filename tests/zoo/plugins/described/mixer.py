"""Methods, a configuration and messages of every kind that has a schema."""

import dataclasses
import enum
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from co2 import plugin

Level = Annotated[float, msgspec.Meta(ge=0, le=1, description="0 is silence.")]


class Curve(enum.Enum):
    """How a level moves."""

    STRAIGHT = "straight"
    SMOOTH = "smooth"


class Point(msgspec.Struct):
    """A place on the stage."""

    x: float
    y: float = 0.0


@dataclasses.dataclass
class Cue:
    name: str
    points: list[Point] = dataclasses.field(default_factory=list)
    follows: "Cue | None" = None


class X_Mixer(plugin.Co2Plugin):
    """Has everything."""

    class Config(msgspec.Struct):
        """The table of the mixer."""

        port: Annotated[int, msgspec.Meta(ge=1, le=65535, extra_json_schema={"unit": "port"})]
        folder: Path = Path("cues")
        names: list[str] = []
        curve: Literal["straight", "smooth"] = "straight"

    sends = {"stage.*": Level, "cue.>": Cue}

    def x_old(self, data_dict):
        """Do what was done in 2003."""
        return data_dict["data"]

    def x_bare(self, data_dict: dict[str, Any]) -> dict[str, int]:
        return {"n": len(data_dict)}

    @plugin.marks(danger="look", unit={"return": "s"})
    def x_now(self) -> float:
        """Return the time.

        It has no parameters.
        """
        return 1.5

    @plugin.marks(danger="touch", unit={"level": "dB", "seconds": "s"})
    def x_fade(
        self,
        level: Annotated[float, msgspec.Meta(ge=-90, lt=12)],
        seconds: float = 1.0,
        curve: Literal["straight", "smooth"] = "straight",
    ) -> list[float]:
        """Fade to a level."""
        return [level, seconds]

    async def x_move(self, to: Point, when: datetime | None = None, /, *, curve: Curve = Curve.SMOOTH) -> Point:
        """Move."""
        return to

    def x_run(self, cues: list[Cue], tags: dict[str, int], pair: tuple[int, str] = (1, "a")) -> None:
        """Run cues."""

    @plugin.marks(danger="harm")
    def x_load(self, file: Path, raw: bytes = b"\x00", times: Annotated[int, msgspec.Meta(ge=1)] = 1) -> str | None:
        """Load a file."""
        return str(file)
