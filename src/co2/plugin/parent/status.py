"""Status of a package as plain values, for pages, metrics and callers."""

from collections.abc import Mapping, Sequence

import msgspec

from co2.protocol.wire.plugin_frames.frames import PluginInfo

__all__ = ["PackageStatus"]


class PackageStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Status of a package. Counters start with the satellite.

    Attributes:
        name: of the package.
        state: ``starting``, ``running``, ``restarting``, ``parked``, ``failed`` or ``stopped``.
        pid: of its plugin host; None where it has none.
        plugins: its loaded plugins.
        restarts: restarts of its plugin host.
        last_error: text of the last error, '' for none.
        last_error_age: seconds since the last error; None for none.
        received: messages that all its plugins are done with.
        sent: messages that its plugins sent.
        failed: calls of ``receive`` and ``gap`` that raised.
        dead_letters: messages that a plugin did not accept: ``receive`` raised, or the plugin host died in it
            repeatedly.
        letters_unkept: dead letters that are lost, because they came too fast or the plugin host died.
        dropped: messages it did not get, because too many waited.
        send_waits: calls of ``send`` that had to wait for room.
        waiting: messages queued for it.
        slowest: seconds of the longest call that the watchdog saw; short calls are not measured.
        hangs: seconds of the longest call under way that is past the warning; 0 for none.
        load: number of the load that runs, or ran last; each attempt counts.
        code: hash of the code that runs, or ran last; '' for none.
        reloads: changes of code: ``ok``, ``failed`` (the old code stayed), ``reverted`` (it came back).
        refused: the last change of code failed, and code older than the folder's still runs.
        limits: resources it may use, as in the table ``[limits.<name>]``; 0 is no limit.
        uses: resources its plugin host uses now (:func:`~co2.plugin.parent.resource_usage.usage_of`); empty if
            unknown or not requested.
        transit: counts of the messages through its relay plugins
            (:class:`~co2.plugin.parent.filter_stage.TransitCounts`); empty if it has none.
    """

    name: str
    state: str
    pid: int | None = None
    plugins: Sequence[PluginInfo] = ()
    restarts: int = 0
    last_error: str = ""
    last_error_age: float | None = None
    received: int = 0
    sent: int = 0
    failed: int = 0
    dead_letters: int = 0
    letters_unkept: int = 0
    dropped: int = 0
    send_waits: int = 0
    waiting: int = 0
    slowest: float = 0.0
    hangs: float = 0.0
    load: int = 0
    code: str = ""
    reloads: Mapping[str, int] = {}
    refused: bool = False
    limits: Mapping[str, int] = {}
    uses: Mapping[str, float] = {}
    transit: Mapping[str, int] = {}
