"""The answer to a call over a link; the same on both sides."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from co2.errors import BadParams, CallTimeout, TooBig, ValueRefused
from co2.protocol.wire.link_frames import Call, Result
from co2.values import MAX_MESSAGE_SIZE, pack_value, unpack_value
from co2.xmlrpc.faults import fault_of

__all__ = ["MAX_TEXT", "answer_call"]

MAX_TEXT = 4096
"""Characters of an error that are sent to the other side."""


async def answer_call(call: Call, called: Callable[[str, Any], Awaitable[Any]]) -> Result:
    """Execute a call within its timeout.

    Args:
        call: as received.
        called: takes method and argument, returns the value; our own error in it is logged, and reported as such.
    """
    if len(call.argument) > MAX_MESSAGE_SIZE:  # not from our hosts: encoding it as XML would take seconds
        return Result(call.call_id, b"", BadParams.code, str(TooBig(len(call.argument), MAX_MESSAGE_SIZE)))
    try:
        async with asyncio.timeout(call.timeout):
            value = await called(call.method, unpack_value(call.argument))
        return Result(call.call_id, pack_value(value))
    except TimeoutError:
        return Result(call.call_id, b"", CallTimeout.code, f"{call.method}: no answer in time")
    except (ValueRefused, TooBig) as error:
        return Result(call.call_id, b"", BadParams.code, str(error))
    except Exception as error:
        code, text = fault_of(error, call.method)
        return Result(call.call_id, b"", code, text[:MAX_TEXT])
