"""The life cycle of a plugin package as a table: the next phase for each phase and event.

``lifecycle.py`` follows it, and ``tools/draw_states.py`` draws the diagram in ``docs/architecture.md``
from it. An event without an entry cannot happen: :func:`~co2.protocol.transitions.next_state` raises.

A request to stop is no phase: it can come in any phase, and the work under way checks for it. Loading new code
beside the old, which continues, is no phase either.
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
    """An event in the life of a package."""

    CARRIED = "carried"
    """A generation carries it, or resumes."""

    ON_TRIAL = "carried on trial"
    """A generation carries it on trial; the code before is kept and can come back."""

    NOT_LOADED = "not loaded"
    """The code does not load, or its plugin host ended during the load."""

    HANDOVER = "handover"
    """Loaded new code replaces the running code; all gates are held meanwhile."""

    TRIAL_OVER = "trial over"
    """The trial has lasted long enough: the code before is dropped."""

    TRIAL_FAILED = "trial failed"
    """New code crashed or raised on trial: the code before comes back."""

    DIED = "died"
    """Its plugin host ended, and no other generation carries it."""

    GIVEN_UP = "died too often"
    """It died so often that it restarts only on request."""

    ASKED = "asked"
    """Another try is requested."""

    STOPPED = "stopped"
    """It was stopped, and all of it has ended."""


PACKAGE: Mapping[str, Mapping[Event, str]] = {
    STARTING: {Event.CARRIED: RUNNING, Event.NOT_LOADED: FAILED, Event.STOPPED: STOPPED},
    RUNNING: {Event.HANDOVER: SWITCHING, Event.DIED: RESTARTING, Event.STOPPED: STOPPED},
    SWITCHING: {
        Event.CARRIED: RUNNING,
        Event.ON_TRIAL: TRIAL,
        Event.TRIAL_OVER: SWITCHING,  # the trial of code that should hand over, but has ended
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
"""The next phase, by phase and event; a package begins in the first phase."""

_SHOWN = {TRIAL: RUNNING, SWITCHING: RUNNING, REVERTING: RUNNING, RETRYING: RESTARTING}


def shown(phase: str) -> str:
    """Return the state of :class:`~co2.plugin.parent.status.PackageStatus` that stands for a phase."""
    return _SHOWN.get(phase, phase)
