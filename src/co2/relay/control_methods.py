"""The methods ``relay.satellite.…``: a person at the relay's machine reads and controls a satellite over its link.

No other host, member or plugin may call them: nothing that is passed on, nothing over a link, and no plugin of
this relay.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from co2.errors import BadParams, Denied
from co2.protocol.wire.relay_requests import MAX_LETTERS, MAX_LINES, PackageReport, ReportedLetter
from co2.relay.satellite_control import SatelliteControl
from co2.server.rpc.arguments import integer, one_dict, text
from co2.xmlrpc.registry import Caller, Registry

__all__ = ["ControlMethods"]

_HIGHEST = 2**53


class ControlMethods:
    """Handlers of the methods.

    Args:
        control: makes the requests.
    """

    def __init__(self, control: SatelliteControl) -> None:
        self._control = control

    def add_to(self, registry: Registry) -> None:
        """Add the methods to the registry."""
        for handler, result in (
            (self.get_packages, "struct"),
            (self.get_log, "struct"),
            (self.get_dead_letters, "struct"),
            (self.reload, "struct"),
            (self.repeat_dead_letter, "boolean"),
            (self.drop_dead_letters, "int"),
        ):
            name = f"relay.satellite.{handler.__name__}"
            registry.add(name, handler, help=handler.__doc__ or "", signatures=[[result, "struct"]])

    # ---- their docstrings are what callers read ----------------------------------------------------------

    async def get_packages(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """List the plugin packages of a satellite, with whole errors. Only from the relay's own machine.

        Takes {host, after}: name or host_id of the satellite, or the beginning of one; only packages behind
        this name. Returns {packages, more}: a list of {name, state, load, code, …} by name. If ``more`` is
        true, call again with the last name as ``after``.
        """
        argument, host, asker = self._asked(params, caller)
        after = text(argument, "after", 64) if "after" in argument else ""
        part = await self._control.packages(host, after, asker)
        return {"packages": [_row(report) for report in part.packages], "more": part.more}

    async def get_log(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Return the last lines of a package's log at a satellite. Only from the relay's own machine.

        Takes {host, package, after, max}: those with a number above ``after``, at most ``max`` (100; 500).
        Returns {lines, more}: a list of {number, at, level, source, text}, oldest first. If ``more`` is true, not
        all have fitted: call again with the last number as ``after``.
        """
        argument, host, asker = self._asked(params, caller)
        part = await self._control.log(
            host,
            text(argument, "package", 64),
            integer(argument, "after", 0, 0, _HIGHEST),
            integer(argument, "max", 100, 1, MAX_LINES),
            asker,
        )
        return {"lines": [msgspec.structs.asdict(line) for line in part.lines], "more": part.more}

    async def get_dead_letters(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """List messages that plugins of a satellite did not take, oldest first. Only from the relay's own machine.

        Takes {host, package, after, max}, all but host optional: only those of this plugin package, only those
        with a higher id than ``after``, at most ``max`` (100; 500). Returns {letters, more}: a list of {id, at,
        package, plugin, host_id, reason, message}. If ``more`` is true, call again with the last id as ``after``.
        Of a message over 64 KiB only the beginning is returned, as text.
        """
        argument, host, asker = self._asked(params, caller)
        part = await self._control.dead_letters(
            host,
            _package(argument),
            integer(argument, "after", 0, 0, _HIGHEST),
            integer(argument, "max", 100, 1, MAX_LETTERS),
            asker,
        )
        return {"letters": [_letter(letter) for letter in part.letters], "more": part.more}

    async def reload(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Reload a plugin package of a satellite with the code in its folder there. Only from the relay's machine.

        Takes {host, package, fresh}, see ``co2.plugin.reload``; the package must be loaded there, running or not.
        Returns {name, state, load, code, …}.
        """
        argument, host, asker = self._asked(params, caller)
        fresh = argument.get("fresh", False)
        if not isinstance(fresh, bool):
            raise BadParams("key 'fresh': expected a boolean")
        return _row(await self._control.reload(host, text(argument, "package", 64), asker, fresh=fresh))

    async def repeat_dead_letter(self, params: Sequence[Any], caller: Caller) -> bool:
        """Pass a dead letter of a satellite to its plugin once more. Only from the relay's own machine.

        Takes {host, id}. Returns true when ``receive`` has returned, see ``co2.plugin.repeat_dead_letter``.
        """
        argument, host, asker = self._asked(params, caller)
        await self._control.repeat_dead_letter(host, integer(argument, "id", -1, 0, _HIGHEST), asker)
        return True

    async def drop_dead_letters(self, params: Sequence[Any], caller: Caller) -> int:
        """Delete the dead letters of a satellite up to an id. Only from the relay's own machine.

        Takes {host, up_to, package}; with ``package`` only those of this plugin package. Returns how many it
        deleted.
        """
        argument, host, asker = self._asked(params, caller)
        up_to = integer(argument, "up_to", -1, 0, _HIGHEST)
        return await self._control.drop_dead_letters(host, up_to, _package(argument), asker)

    @staticmethod
    def _asked(params: Sequence[Any], caller: Caller) -> tuple[dict[str, Any], str, str]:
        """Return the argument, the satellite's name and who asks; refuse everybody else."""
        if not caller.is_person_here:
            raise Denied(
                "satellites are controlled only from the relay's own machine: call 127.0.0.1 there, not through "
                "another host, a proxy or a plugin"
            )
        argument = one_dict(params)
        return argument, text(argument, "host"), f"{caller.address}:{caller.port}"


def _package(argument: dict[str, Any]) -> str | None:
    return text(argument, "package", 64) if "package" in argument else None


def _letter(letter: ReportedLetter) -> dict[str, Any]:
    """Return a dead letter in the form of ``co2.plugin.get_dead_letters``."""
    return msgspec.structs.asdict(letter) | {"at": datetime.fromtimestamp(letter.at, UTC)}


def _row(report: PackageReport) -> dict[str, Any]:
    """Return a package in the form of ``co2.plugin.reload`` and ``co2.get_properties``."""
    return {
        **{name: getattr(report, name) for name in _TOLD},
        "pid": report.pid or 0,
        "plugins": [plugin.name for plugin in report.plugins],
        "last_error_age": report.last_error_age or 0.0,
    }


_TOLD = (
    *("name", "state", "load", "code", "restarts", "reloads", "refused", "hangs", "received", "sent", "waiting"),
    *("dead_letters", "limits", "last_error", "uses"),
)
