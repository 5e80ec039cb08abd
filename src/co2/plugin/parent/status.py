"""How a package is: plain values, from the supervisor to pages, metrics and callers."""

from collections.abc import Mapping, Sequence

import msgspec

from co2.protocol.wire.plugin_frames.frames import PluginInfo

__all__ = ["PackageStatus"]


class PackageStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a package is, at one moment. Counters are since the start of the satellite.

    Attributes:
        name: of the package.
        state: ``starting``, ``running``, ``restarting``, ``parked``, ``failed`` or ``stopped``.
        pid: of its plugin host; None where it has none.
        plugins: what is loaded of it.
        restarts: how often its plugin host was started anew.
        last_error: '' for never.
        last_error_age: seconds since then; None for never.
        received: messages that all its plugins are done with.
        sent: messages that its plugins sent.
        failed: calls of ``receive`` and ``gap`` that raised.
        dead_letters: messages that their plugin did not take: ``receive`` raised, or the plugin host died in it
            again and again.
        letters_unkept: those among them that nobody can look at, because they came too fast or a death kept them.
        dropped: messages it did not get, because too many waited.
        send_waits: calls of ``send`` that had to wait for room.
        waiting: messages queued for it.
        slowest: longest call into it that was seen, in seconds; quick ones are not measured.
        hangs: seconds that the longest call into it has been under way, where it is past the warning; 0 for none.
        load: number of the load that runs, or ran last; each attempt to load the package has one.
        code: hash of the code that runs, or ran last; '' for none.
        reloads: changes of code: ``ok``, ``failed`` (the old code went on), ``reverted`` (it came back).
        refused: the last change of code did not work, and older code than the folder's goes on.
        limits: what it may use, as in the table ``[limits.<name>]``; 0 is no limit.
        uses: what its plugin host uses now (:func:`~co2.plugin.parent.resource_usage.usage_of`); empty where that
            is not known, or not asked for.
        transit: what became of messages on their way through its relay plugins
            (:class:`~co2.plugin.parent.filter_stage.TransitCounts`); empty where it has none.
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
