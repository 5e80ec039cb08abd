"""A package to load, and the limits it is loaded with."""

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
