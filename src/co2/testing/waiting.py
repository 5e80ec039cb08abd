"""One-line assertions that wait, and show the messages that did come."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

__all__ = ["PATIENCE", "Heard", "Sender", "assert_received", "assert_sent", "wait_for"]

T = TypeVar("T")

PATIENCE = float(os.environ.get("CO2_TEST_PATIENCE", "20"))
"""Seconds within which an expected event between real hosts must happen."""

QUICK = 1.0
"""The same if all is in this process, and only threads of plugins can be late."""

_SHOWN = 20
_LONGEST = 300


class Heard(Protocol):
    """Something that has received messages: a plugin, a satellite or a network."""

    @property
    def received(self) -> Sequence[Mapping[str, Any]]: ...


class Sender(Protocol):
    """Something that has sent messages: a plugin, a satellite or a network."""

    @property
    def sent(self) -> Sequence[Mapping[str, Any]]: ...


def wait_for(condition: Callable[[], T], what: str = "", timeout: float = PATIENCE) -> T:
    """Return the first true result of a condition.

    Args:
        condition: called repeatedly.
        what: the expected event, for the error's text.
        timeout: seconds.

    Raises:
        AssertionError: it did not become true in time.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(0.01)


def assert_received(where: Heard, *, timeout: float | None = None, **keys: Any) -> Mapping[str, Any]:
    """Wait until a message with these keys has been received, and return it.

    Args:
        where: a plugin, a satellite, or a network: all that its members receive.
        timeout: seconds; None for 1 in memory and 20 between real hosts.
        keys: of the message: ``data=3, channel="stage.left"``; it may have further ones.

    Raises:
        AssertionError: none came in time; the text shows those that did.
    """
    __tracebackhide__ = True
    return _found(lambda: where.received, where, "received", timeout, keys)


def assert_sent(where: Sender, *, timeout: float | None = None, **keys: Any) -> Mapping[str, Any]:
    """Wait until a message with these keys has been sent, and return it; like :func:`assert_received`."""
    __tracebackhide__ = True
    return _found(lambda: where.sent, where, "sent", timeout, keys)


def _found(
    messages: Callable[[], Sequence[Mapping[str, Any]]],
    where: object,
    verb: str,
    timeout: float | None,
    keys: Mapping[str, Any],
) -> Mapping[str, Any]:
    __tracebackhide__ = True
    if timeout is None:
        timeout = getattr(where, "patience", QUICK)
    deadline = time.monotonic() + timeout
    while True:
        there = tuple(messages())
        for message in there:
            if all(key in message and message[key] == value for key, value in keys.items()):
                return message
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    wanted = ", ".join(f"{key}={value!r}" for key, value in keys.items())
    raise AssertionError(f"no message with {wanted} was {verb} by {where!r} within {timeout:g} s; {_shown(there)}")


def _shown(messages: Sequence[Mapping[str, Any]]) -> str:
    if not messages:
        return "there was none at all"
    left_out = len(messages) - _SHOWN
    head = f"  ({left_out} before these)\n" if left_out > 0 else ""
    lines = "\n".join(f"  {dict(message)!r:.{_LONGEST}}" for message in messages[-_SHOWN:])
    return f"there were:\n{head}{lines}"
