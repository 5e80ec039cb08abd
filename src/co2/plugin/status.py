"""What the supervisor is given and what it tells: plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from co2.protocol.frames import PluginInfo

__all__ = ["PackageSpec", "PackageStatus", "PluginSettings"]


@dataclass(frozen=True, slots=True)
class PackageSpec:
    """A package to load.

    Attributes:
        name: of the package.
        folder: the folder that holds it; None for one that is installed.
        config: the table ``[plugin.<name>]``.
        limits: the table ``[limits.<name>]``: ``memory``, ``open_files``, ``cpu_seconds``, ``deaths``; what it
            does not have is as for all.
        module: what Python imports it by, where it is installed; '' for a bundled one.
        config_file: where that table stands; None for nowhere.
        store: the file behind ``self.store``; None for none.
        note: what people should know of where it was found; '' for nothing.
        env: names of variables of the environment that it gets beside those that all get.
    """

    name: str
    folder: Path | None
    config: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    module: str = ""
    config_file: Path | None = None
    store: Path | None = None
    note: str = ""
    env: Sequence[str] = ()

    def all_limits(self, settings: "PluginSettings") -> dict[str, int]:
        """Give all four limits, its own before those of all packages; 0 is none."""
        return {
            "memory": settings.plugin_memory,
            "open_files": settings.plugin_open_files,
            "cpu_seconds": settings.plugin_cpu_seconds,
            "deaths": settings.plugin_deaths,
            **self.limits,
        }

    def load_keys(self) -> dict[str, str]:
        """Give what a Load frame says of where things are, but for the folder."""
        config_file, store = self.config_file or "", self.store or ""
        return {"module": self.module, "config_file": str(config_file), "store": str(store)}


class PluginSettings(Protocol):
    """What a satellite's configuration says about plugins; times in seconds.

    Attributes:
        isolation: ``process`` or ``thread``.
        receive_warning: a call into a plugin that takes longer is told in the log.
        receive_deadline: one that takes longer ends its plugin host.
        load_timeout: for import and every ``__init__`` of a package.
        send_timeout: how long ``send`` waits for room.
        plugin_memory: MiB of address space of one plugin host, 0 for no limit.
        plugin_open_files: open files of one plugin host, 0 for what the system allows.
        plugin_cpu_seconds: CPU seconds of one plugin host, 0 for no limit.
        plugin_deaths: deaths within a minute that park a package.
        exit_timeout: for every ``__exit__`` of a package whose code is changed.
    """

    @property
    def isolation(self) -> str: ...
    @property
    def receive_warning(self) -> float: ...
    @property
    def receive_deadline(self) -> float: ...
    @property
    def load_timeout(self) -> float: ...
    @property
    def send_timeout(self) -> float: ...
    @property
    def plugin_memory(self) -> int: ...
    @property
    def plugin_open_files(self) -> int: ...
    @property
    def plugin_cpu_seconds(self) -> int: ...
    @property
    def plugin_deaths(self) -> int: ...
    @property
    def exit_timeout(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageStatus:
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
        transit: what became of messages on their way through its relay plugins
            (:class:`~co2.plugin.passing.TransitCounts`); empty where it has none.
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
    reloads: Mapping[str, int] = field(default_factory=dict)
    refused: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    transit: Mapping[str, int] = field(default_factory=dict)
