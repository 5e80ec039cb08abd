"""Trouble anywhere on the network, for the first page of a relay: worst first, with the command to type next."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.package_health import DOES_NOTHING, Health, trouble_words
from co2.web.text import brief, duration, in_shell
from co2.web.view import SatelliteRow

__all__ = ["MAX_TROUBLE", "Trouble", "mood", "network_trouble", "tone_of", "worst_first"]

MAX_TROUBLE = 100
"""Packages in trouble that are shown; further ones are only counted."""

_SAID = ("is parked", "is not loaded")
_TONES = {
    "running": "good",
    "ok": "good",
    "starting": "wait",
    "new": "wait",
    "silent": "wait",
    "restarting": "wait",
    "parked": "bad",
    "failed": "bad",
    "unreachable": "bad",
}
_LOAD = "co2 plugin load"
_ORDER = ("failed", "parked", "restarting", "starting", "running")


@dataclass(frozen=True, slots=True)
class Trouble:
    """One package that somebody should look at.

    Attributes:
        package: its name.
        host_id: of its satellite.
        name: of its satellite, '' for none.
        page: address of the satellite's page of plugins, its own or that on the relay; '' for none.
        tone: ``bad``, or ``wait`` for trouble that goes away by itself.
        what: in a few words each.
        error: the last one of the package, '' for none.
        command: to type next.
        is_here: whether on the relay's machine, where the viewer is; otherwise on that of the satellite.
    """

    package: str
    host_id: str
    name: str
    page: str
    tone: str
    what: Sequence[str]
    error: str
    command: str
    is_here: bool


def network_trouble(rows: Iterable[SatelliteRow]) -> list[Trouble]:
    """Return all packages in trouble, first those that do nothing until somebody acts."""
    found = [trouble for row in rows for trouble in _of(row)]
    return sorted(found, key=lambda one: one.tone != "bad")


def mood(row: SatelliteRow) -> tuple[str, str]:
    """Return (state, tone) of a satellite: those of its worst package if its link is ok."""
    if row.state == "ok" and row.packages:
        tones = {_tone(health) for health in row.packages if health.words(duration)}
        if "bad" in tones:
            return "trouble", "bad"
        if tones:
            return "restarting", "wait"
    return row.state, tone_of(row.state)


def tone_of(state: str) -> str:
    """Return the colour of a state of a package or a satellite."""
    return _TONES.get(state, "off")


def worst_first(packages: Iterable[PackageStatus], letters_kept: int) -> dict[str, tuple[PackageStatus, str, str]]:
    """Return a host's own packages by name, those that do not run first, then those in trouble.

    Args:
        packages: in any order.
        letters_kept: dead letters that are kept now; a package's own number only grows.

    Returns:
        Each with its state and trouble in words, and their tone.
    """
    rows = []
    for package in packages:
        words = _words(package, letters_kept)
        tone = "bad" if words and package.state == "running" else tone_of(package.state)
        order = _ORDER.index(package.state) if package.state in _ORDER else 0
        rows.append((order, not words, package, ", ".join((package.state, *words)), tone))
    rows.sort(key=lambda row: row[:2])
    return {package.name: (package, state, tone) for _, _, package, state, tone in rows}


def _words(package: PackageStatus, letters_kept: int) -> list[str]:
    found = trouble_words(
        package.name,
        package.state,
        hangs=package.hangs,
        dead_letters=min(package.dead_letters, letters_kept),
        refused=package.refused,
        error_age=package.last_error_age if package.last_error else None,
        duration=duration,
    )
    words = [word.removeprefix(package.name).lstrip(": ") for word in found]
    return [word for word in words if word != package.state]


def _of(row: SatelliteRow) -> Iterator[Trouble]:
    url = f"http://127.0.0.1:{row.port}"
    for health in row.packages or ():
        words = health.words(duration)
        if words:
            error = brief(health.error)
            for said in _SAID:
                error = error.removeprefix(f"plugin package {health.name} {said}: ")
            error = error.partition(". Fix it, then: ")[0]  # the command is shown beside it
            # An error repaired since is not shown beside the current trouble.
            shown = error if health.state in (*DOES_NOTHING, "restarting") or health.refused else ""
            what = [word.removeprefix(health.name).lstrip(": ") for word in words]
            command = _command(health)
            # No code is loaded through the relay that its owner has not loaded.
            is_here = bool(row.reach) and not command.startswith(_LOAD)
            yield Trouble(
                health.name,
                row.host_id,
                row.name,
                f"{row.page}/plugins" if row.page else row.through_relay,
                _tone(health),
                what,
                shown or error,
                f"{command} {row.reach if is_here else f'--url {url}'}",
                is_here,
            )


def _tone(health: Health) -> str:
    return "wait" if health.state == "restarting" else "bad"


def _command(health: Health) -> str:
    name = in_shell(health.name)
    if health.state in DOES_NOTHING:
        return f"co2 plugin reload {name}" if health.load else f"{_LOAD} {name}"
    if health.refused:
        return f"co2 plugin reload {name}"
    if health.dead_letters and not health.hangs:
        return f"co2 dead-letters --package {name}"
    return f"co2 plugin logs {name}"
