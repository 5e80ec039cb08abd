"""A package to load, and its limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = ["PackageSpec", "PluginSettings"]


@dataclass(frozen=True, slots=True)
class PackageSpec:
    """A package to load.

    Attributes:
        name: of the package.
        folder: that holds it; None for an installed package.
        config: the table ``[plugin.<name>]``.
        limits: the table ``[limits.<name>]``: ``memory``, ``open_files``, ``cpu_seconds``, ``deaths``; missing
            ones are as for all packages.
        module: import name of an installed package; '' for a bundled one.
        config_file: file with that table; None for none.
        store: the file behind ``self.store``; None for none.
        note: for people, about the place where it was found; '' for none.
        env: names of variables of the environment that it gets beside the usual ones.
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
        """Return all four limits, its own before those of all packages; 0 is none."""
        return {
            "memory": settings.plugin_memory,
            "open_files": settings.plugin_open_files,
            "cpu_seconds": settings.plugin_cpu_seconds,
            "deaths": settings.plugin_deaths,
            **self.limits,
        }

    def load_keys(self) -> dict[str, str]:
        """Return the keys of a Load frame about places, except the folder."""
        config_file, store = self.config_file or "", self.store or ""
        return {"module": self.module, "config_file": str(config_file), "store": str(store)}


class PluginSettings(Protocol):
    """The part of a host's configuration about plugins; times in seconds.

    Attributes:
        isolation: ``process`` or ``thread``.
        receive_warning: a longer call into a plugin is logged.
        receive_deadline: a longer call ends its plugin host.
        load_timeout: for import and every ``__init__`` of a package.
        send_timeout: time that ``send`` waits for room.
        plugin_memory: MiB of address space of one plugin host, 0 for no limit.
        plugin_open_files: open files of one plugin host, 0 for the system's limit.
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
