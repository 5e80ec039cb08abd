"""Load, unload and reload plugin packages of a running host: over XML-RPC, from the page, when files change."""

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from co2.errors import BadParams, ConfigError, Denied, LoadError, NotLoadable
from co2.plugin.packages.locate import place_of
from co2.plugin.packages.source import read_code
from co2.plugin.packages.spec import PackageSpec
from co2.plugin.parent.resource_usage import usage_of
from co2.plugin.parent.status import PackageStatus
from co2.plugin.parent.supervisor import Supervisor
from co2.server.rpc.arguments import integer, text
from co2.web.text import brief
from co2.xmlrpc.registry import Caller, Registry

__all__ = ["MAX_LINES", "Found", "PluginControl", "package_row", "warn_of_those_that_do_not_run"]

MAX_LINES = 500
"""Lines of a package's log in one answer."""

_logger = logging.getLogger("co2.plugins")

_TOLD = (
    "name", "state", "load", "code", "restarts", "reloads", "refused", "hangs", "received", "sent", "waiting",
    "dead_letters", "transit", "limits",
)  # fmt: skip
"""Fields of a package's status that callers get unchanged."""

Found = tuple[list[PackageSpec], list[tuple[str, str]]]
"""Packages, and (name, problem) of those that cannot be loaded."""


class PluginControl:
    """Controls which code runs.

    Args:
        supervisor: of the packages.
        find: finds packages by the current configuration: all that should be loaded, or these ones.
        exit_timeout: seconds for every ``__exit__``.
        not_found: (name, problem) of packages that were not found at the start; one found later is removed.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        find: Callable[[Sequence[str] | None], Found],
        exit_timeout: float,
        not_found: list[tuple[str, str]],
    ) -> None:
        self._supervisor = supervisor
        self._find = find
        self._exit_timeout = exit_timeout
        self._not_found = not_found
        self._unloaded: set[str] = set()
        self._tried: dict[str, str] = {}

    # from inside

    async def load(self, name: str) -> PackageStatus:
        """Load a package that is not loaded, or restart one that has failed or is parked.

        Raises:
            NotLoadable: the text says why.
        """
        return await self._do(name, self._supervisor.load)

    async def reload(self, name: str, *, fresh: bool = False) -> PackageStatus:
        """Load the new code of a package, and its configuration.

        Args:
            name: of the package.
            fresh: the new code gets no handover.

        Raises:
            NotLoadable: the text says why; a package that ran continues to run unchanged.
        """
        return await self._do(name, functools.partial(self._supervisor.reload, fresh=fresh))

    async def load_or_reload(self, name: str) -> None:
        """Load the code that is in a package's folder now, whether or not the package is loaded.

        Raises:
            NotLoadable: the text says why; a package that ran continues to run unchanged.
        """
        loaded = any(row.name == name for row in self._supervisor.status())
        await (self.reload(name) if loaded else self.load(name))

    async def unload(self, name: str) -> None:
        """End a package and forget it.

        Raises:
            NotLoadable: it is not loaded.
        """
        try:
            await self._supervisor.unload(name, self._exit_timeout)
        except LoadError as error:
            raise NotLoadable(str(error)) from None
        self._unloaded.add(name)

    async def reload_changed(self) -> None:
        """Reload every package whose code or configuration has changed; load new ones in the folder.

        The same code of a package is tried once: after a failure it is tried again when it has been edited.
        """
        try:
            specs, _ = await asyncio.to_thread(self._find, None)
        except ConfigError as error:
            _logger.error("nothing is reloaded: %s", error)
            return
        loaded = {row.name: row for row in self._supervisor.status()}
        missing = [name for name in loaded if name not in {spec.name for spec in specs}]
        if missing:  # loaded by name, beside those that the configuration lists
            specs += (await asyncio.to_thread(self._find, missing))[0]
        for spec in specs:
            digest = await asyncio.to_thread(_digest, spec)
            row = loaded.get(spec.name)
            try:
                if row is None:
                    if spec.name not in self._unloaded and self._tried.get(spec.name) != digest:
                        await self.load(spec.name)
                elif self._differs(row, spec, digest):
                    await self.reload(spec.name)
                elif digest == row.code and digest != self._tried.get(spec.name):
                    self._tried[spec.name] = digest  # the refused edit was undone
                    self._supervisor.keep(spec.name)
            except NotLoadable:
                continue  # the log and the page show it

    def _differs(self, row: PackageStatus, spec: PackageSpec, digest: str) -> bool:
        if self._supervisor.spec(spec.name) != spec:
            return True
        return digest != row.code and digest != self._tried.get(spec.name)

    async def _do(self, name: str, work: Callable[[PackageSpec], Any]) -> PackageStatus:
        try:
            spec = await self._spec(name)
            self._tried[name] = await asyncio.to_thread(_digest, spec)
            await work(spec)
        except LoadError as error:
            raise NotLoadable(str(error)) from None
        self._unloaded.discard(name)
        self._not_found[:] = [row for row in self._not_found if row[0] != name]
        return self._status(name)

    async def _spec(self, name: str) -> PackageSpec:
        try:
            specs, problems = await asyncio.to_thread(self._find, [name])
        except ConfigError as error:
            raise NotLoadable(str(error)) from None
        if problems:
            raise NotLoadable(problems[0][1])
        return specs[0]

    def _status(self, name: str) -> PackageStatus:
        row = next((row for row in self._supervisor.status() if row.name == name), None)
        if row is None:
            raise NotLoadable(f"plugin package {name!r}: it is no longer loaded")
        return row

    # methods; their docstrings are what callers read

    def add_methods(self, registry: Registry) -> None:
        """Add ``co2.plugin.load`` and the like to the registry."""
        struct = [["struct", "string"], ["struct", "struct"]]
        for name, handler, signatures in (
            ("load", self._load, struct),
            ("unload", self._unload, [["boolean", "string"], ["boolean", "struct"]]),
            ("reload", self._reload, struct),
            ("get_log", self._get_log, [["array", "string"], ["array", "struct"]]),
            ("get_config_schema", self._get_config_schema, struct),
            ("get_sends_schema", self._get_sends_schema, [["array", "string"], ["array", "struct"]]),
        ):
            registry.add(f"co2.plugin.{name}", handler, help=handler.__doc__ or "", signatures=signatures)

    async def _load(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Load a plugin package by its name. Only from the host's own machine.

        Takes the name, or {package}. It is looked up in the plugin folder, then among the bundled packages; one
        that has failed or is parked is tried again. Returns {name, state, load, code, …}.
        """
        _only_from_here(caller)
        return package_row(await self.load(_name(params)))

    async def _unload(self, params: Sequence[Any], caller: Caller) -> bool:
        """End a plugin package: __exit__ is called, its methods are gone. Only from the host's own machine.

        Takes the name, or {package}. Returns true.
        """
        _only_from_here(caller)
        await self.unload(_name(params))
        return True

    async def _reload(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Reload a plugin package with the code that is in its folder now. Only from the host's own machine.

        Takes the name, or {package, fresh}. No message is lost or doubled. If the new code does not load, the
        old one continues, and the answer is a Fault that says why. With ``fresh`` true the new code gets no
        handover from the old one. Returns {name, state, load, code, …}.
        """
        _only_from_here(caller)
        fresh = params[0].get("fresh", False) if params and isinstance(params[0], dict) else False
        if not isinstance(fresh, bool):
            raise BadParams("key 'fresh': expected a boolean")
        return package_row(await self.reload(_name(params), fresh=fresh))

    async def _get_log(self, params: Sequence[Any], caller: Caller) -> list[dict[str, Any]]:
        """Return the last lines of a plugin package's log. Only from the host's own machine.

        Takes the name, or {package, after, max}: those with a number above ``after``, at most ``max`` (100; 500).
        Returns a list of {number, at, level, source, text}, oldest first.
        """
        _only_from_here(caller)
        argument = params[0] if params and isinstance(params[0], dict) else {}
        after = integer(argument, "after", 0, 0, 2**53)
        maximum = integer(argument, "max", 100, 1, MAX_LINES)
        name = _name(params)
        rows = self._supervisor.log(name, after, maximum)
        if rows is None:
            raise NotLoadable(f"plugin package {name!r}: it is not loaded")
        return rows

    async def _get_config_schema(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Return the JSON Schema of a package's table of the configuration. Only from the host's own machine.

        Takes the name, or {package}. Defaults are those of the code, not the values in the file.
        """
        _only_from_here(caller)
        found: dict[str, Any] = await self._schema(_name(params), "config")
        return found

    async def _get_sends_schema(self, params: Sequence[Any], _caller: Caller) -> list[dict[str, Any]]:
        """List what the plugins of a package say they send.

        Takes the name, or {package}. Returns a list of {channel, plugin, data}: a pattern of channels, the plugin
        that says it sends on them, and the JSON Schema of ``data`` there.
        """
        found: list[dict[str, Any]] = await self._schema(_name(params), "sends")
        return found

    async def _schema(self, name: str, what: str) -> Any:
        try:
            return await self._supervisor.describe(name, what)
        except LoadError as error:
            raise NotLoadable(str(error)) from None


def package_row(row: PackageStatus, *, here: bool = True) -> dict[str, Any]:
    """Return the facts about a package for callers.

    Args:
        row: its status.
        here: the caller is on this machine: it may read whole errors, with tracebacks and paths.
    """
    facts = msgspec.structs.asdict(row)
    return {name: facts[name] for name in _TOLD} | {
        "pid": row.pid or 0,
        "plugins": [plugin.name for plugin in row.plugins],
        "last_error": row.last_error if here else brief(row.last_error),
        "last_error_age": row.last_error_age or 0.0,
        "uses": usage_of(row.pid),
    }


def warn_of_those_that_do_not_run(packages: Sequence[PackageStatus], port: int) -> None:
    """Warn, before a host is ready, of packages that do not run, with the command to type next.

    Args:
        packages: all of the host's.
        port: of the host.
    """
    for row in packages:
        if row.state in ("failed", "parked"):
            verb = "reload" if row.load else "load"
            _logger.warning(
                "plugin package %s does not run (%s); fix it, then: co2 plugin %s %s --url http://127.0.0.1:%d",
                row.name, row.state, verb, row.name, port,
            )  # fmt: skip


def _digest(spec: PackageSpec) -> str:
    try:
        return read_code(place_of(spec.name, str(spec.folder or ""), spec.module).path).digest
    except ImportError:
        return ""  # it is no longer installed: loading it reports that


def _name(params: Sequence[Any]) -> str:
    if len(params) != 1:
        raise BadParams(f"expected one argument, the name of a package or {{package}}, got {len(params)}")
    argument = params[0]
    if isinstance(argument, dict):
        return text(argument, "package" if "package" in argument else "data", 64)
    return text({"package": argument}, "package", 64)


def _only_from_here(caller: Caller) -> None:
    if not caller.is_local:
        raise Denied("allowed only from the host's own machine: call 127.0.0.1, not through a relay")
