"""The ``x_`` methods of plugins in a host's registry."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from co2.errors import BadParams
from co2.plugin.parent.supervisor import Supervisor
from co2.server.rpc.arguments import one_dict
from co2.xmlrpc.registry import Caller, RegisteredMethod

__all__ = ["plugin_entries"]


def plugin_entries(supervisor: Supervisor) -> dict[str, RegisteredMethod]:
    """Return the methods of all current plugins, by name."""
    return {
        name: RegisteredMethod(
            handler=_caller_of(supervisor, name),
            help=method.help,
            signatures=method.signatures,
            describe=partial(supervisor.describe_method, name),
        )
        for name, method in supervisor.methods.items()
    }


def _caller_of(supervisor: Supervisor, name: str) -> Any:
    async def call(params: Sequence[Any], _caller: Caller) -> Any:
        argument = one_dict(params)
        if "data" not in argument:
            raise BadParams("the key 'data' is mandatory")
        return await supervisor.call(name, argument)

    return call
