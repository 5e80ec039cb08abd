"""The life cycle of a plugin package as a table: what happens in which phase, and the phase it leads to.

``lifecycle.py`` moves by it, and the diagram in ``docs/explanation/architecture.md`` is drawn from it
(``tools/draw_states.py``). What is not in it cannot happen: :func:`~co2.protocol.transitions.next_state` raises.

That a package is told to stop is no phase: it may come in any of them, and what is under way sees it. Neither is
the loading of new code beside the old one, which goes on as it was.
"""

from collections.abc import Mapping
from enum import StrEnum

__all__ = [
    "FAILED",
    "PACKAGE",
    "PARKED",
    "RESTARTING",
    "RETRYING",
    "REVERTING",
    "RUNNING",
    "STARTING",
    "STOPPED",
    "SWITCHING",
    "TRIAL",
    "Event",
    "shown",
]

STARTING, RUNNING, TRIAL, SWITCHING, REVERTING = "starting", "running", "trial", "switching", "reverting"
RESTARTING, PARKED, RETRYING, FAILED, STOPPED = "restarting", "parked", "retrying", "failed", "stopped"


class Event(StrEnum):
    """What happens to a package."""

    CARRIED = "carried"
    """A generation carries it, or goes on to."""

    ON_TRIAL = "carried on trial"
    """The same, and the code before is kept to come back."""

    NOT_LOADED = "not loaded"
    """The code does not load, or its plugin host ended while it did."""

    HANDOVER = "handover"
    """New code is loaded and takes the place of the one that runs: nothing is given to anybody meanwhile."""

    TRIAL_OVER = "trial over"
    """The trial has lasted long enough: the code before is let go."""

    TRIAL_FAILED = "trial failed"
    """New code crashed or raised on trial: the code before comes back."""

    DIED = "died"
    """Its plugin host ended, and nothing else carries it."""

    GIVEN_UP = "died too often"
    """It died so often that nobody starts it again unasked."""

    ASKED = "asked"
    """Somebody asks for another try."""

    STOPPED = "stopped"
    """It was told to stop, and all of it has ended."""


PACKAGE: Mapping[str, Mapping[Event, str]] = {
    STARTING: {Event.CARRIED: RUNNING, Event.NOT_LOADED: FAILED, Event.STOPPED: STOPPED},
    RUNNING: {Event.HANDOVER: SWITCHING, Event.DIED: RESTARTING, Event.STOPPED: STOPPED},
    SWITCHING: {
        Event.CARRIED: RUNNING,
        Event.ON_TRIAL: TRIAL,
        Event.TRIAL_OVER: SWITCHING,  # of the code that is to hand over, and has ended
        Event.TRIAL_FAILED: REVERTING,
        Event.DIED: RESTARTING,
        Event.STOPPED: STOPPED,
    },
    TRIAL: {
        Event.HANDOVER: SWITCHING,
        Event.TRIAL_OVER: RUNNING,
        Event.TRIAL_FAILED: REVERTING,
        Event.STOPPED: STOPPED,
    },
    REVERTING: {Event.CARRIED: RUNNING, Event.DIED: RESTARTING, Event.STOPPED: STOPPED},
    RESTARTING: {
        Event.CARRIED: RUNNING,
        Event.NOT_LOADED: RESTARTING,
        Event.GIVEN_UP: PARKED,
        Event.STOPPED: STOPPED,
    },
    PARKED: {Event.ASKED: RETRYING, Event.STOPPED: STOPPED},
    RETRYING: {Event.CARRIED: RUNNING, Event.NOT_LOADED: PARKED, Event.STOPPED: STOPPED},
    FAILED: {Event.ASKED: STARTING, Event.STOPPED: FAILED},
    STOPPED: {},
}
"""The next phase, by phase and event; the first one is where a package begins."""

_SHOWN = {TRIAL: RUNNING, SWITCHING: RUNNING, REVERTING: RUNNING, RETRYING: RESTARTING}


def shown(phase: str) -> str:
    """Return the state of :class:`~co2.plugin.parent.status.PackageStatus` that stands for a phase."""
    return _SHOWN.get(phase, phase)
