"""Checks of the one dictionary that a method takes, with faults that describe valid values."""

from collections.abc import Mapping, Sequence
from typing import Any

from co2.errors import BadParams, IdentityRefused
from co2.host_id import ADDRESS_PREFIX, HostId
from co2.host_name import is_host_word
from co2.xmlrpc.registry import Caller

__all__ = ["callers_host_id", "host_id_of", "host_in", "integer", "number", "one_dict", "text"]


def one_dict(params: Sequence[Any]) -> dict[str, Any]:
    """Return the single dictionary argument.

    Raises:
        BadParams: none, several, or of another type.
    """
    if len(params) != 1 or not isinstance(params[0], dict):
        found = ", ".join(type(param).__name__ for param in params[:4]) or "nothing"
        raise BadParams(f"expected exactly one argument of type dictionary (struct), got {found}")
    argument: dict[str, Any] = params[0]
    return argument


def text(argument: Mapping[str, Any], key: str, max_length: int = 256) -> str:
    """Return a mandatory string.

    Raises:
        BadParams: missing, of another type, empty or longer than ``max_length`` characters.
    """
    value = argument.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= max_length:
        found = "nothing" if value is None else f"{type(value).__name__} {value!r:.80}"
        raise BadParams(f"key {key!r}: expected a string of 1 to {max_length} characters, got {found}")
    return value


def integer(argument: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    """Return an integer within bounds, ``default`` if the key is missing.

    Raises:
        BadParams: of another type or out of bounds.
    """
    value = argument.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadParams(f"key {key!r}: expected an integer from {low} to {high}, got {value!r:.80}")
    return value


def number(argument: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    """Return a number within bounds, ``default`` if the key is missing.

    Raises:
        BadParams: of another type or out of bounds.
    """
    value = argument.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise BadParams(f"key {key!r}: expected a number from {low:g} to {high:g}, got {value!r:.80}")
    return float(value)


def host_id_of(argument: Mapping[str, Any]) -> HostId:
    """Return the ``host_id`` of a dictionary.

    Raises:
        BadParams: missing or malformed.
    """
    if argument.get("host_id") is None:
        raise BadParams("key 'host_id' is missing; relay.register at the relay returns one")
    try:
        return HostId.parse(text(argument, "host_id"))
    except ValueError as error:
        raise BadParams(str(error)) from None


def host_in(argument: Mapping[str, Any]) -> str:
    """Return the host that the ``host_id`` of a dictionary names: a host_id, a name, or the beginning of one.

    Raises:
        BadParams: missing or malformed.
    """
    found = text(argument, "host_id")
    if "@" in found:
        return str(host_id_of(argument))
    if not is_host_word(found):
        raise BadParams(f"key 'host_id': {found!r:.80} is neither a host_id, <random>@<ip>:<port>, nor a name")
    return found


def callers_host_id(argument: Mapping[str, Any], caller: Caller) -> HostId:
    """Return the ``host_id`` of a dictionary, which must be the caller's own (seed: "spoof-proof").

    Raises:
        BadParams: missing or malformed.
        IdentityRefused: its host part is not the address that the request came from.
    """
    host_id = host_id_of(argument)
    if not host_id.matches(caller.address):
        raise IdentityRefused(f"host_id {host_id} does not match the address of this request, {caller.address}")
    if host_id.origin.startswith(ADDRESS_PREFIX) and host_id.origin != HostId.of_address(host_id.ip).origin:
        raise IdentityRefused(f"{host_id.origin} belongs to another address, {host_id.ip}")
    return host_id
