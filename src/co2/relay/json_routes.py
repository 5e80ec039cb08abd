"""The routes of the JSON door that only a relay has, or has in its own way: send, hosts, last values, log."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from co2.errors import BadParams, PeerError
from co2.exact_json.messages import SentMessage, message_in
from co2.exact_json.reader import parts_steps, read_steps
from co2.exact_json.writer import write
from co2.protocol.wire.batch import MAX_BATCH_MESSAGES
from co2.relay.log_lines import LogLines, message_text, read_query
from co2.relay.member_methods import MemberMethods
from co2.relay.message_methods import MessageMethods
from co2.relay.value_methods import ValueMethods
from co2.relay.why_methods import WhyMethods
from co2.server.door.answers import LINES, DoorAnswer, DoorHandler, DoorRequest, json_answer
from co2.server.door.long_json import LongJson

__all__ = ["MAX_SENT", "MAX_SENT_VALUES", "JsonRoutes"]

MAX_SENT = MAX_BATCH_MESSAGES
"""Messages in one request."""

MAX_SENT_VALUES = 100_000
"""Values of all messages of one request together; one message has fewer (``exact_json.reader.MAX_VALUES``)."""


class JsonRoutes:
    """Handlers of a relay.

    Args:
        messages: takes what is sent.
        members: lists the hosts.
        values: the last ones of channels.
        why: says which message made a message happen.
        lines: of the log.
        long: reads bodies, writes results.
        host_id: returns the relay's.
    """

    def __init__(
        self,
        messages: MessageMethods,
        members: MemberMethods,
        values: ValueMethods,
        why: WhyMethods,
        *,
        lines: LogLines,
        long: LongJson,
        host_id: Callable[[], str],
    ) -> None:
        self._messages = messages
        self._members = members
        self._values = values
        self._why = why
        self._lines = lines
        self._long = long
        self._host_id = host_id

    def handlers(self) -> dict[str, DoorHandler]:
        """Return the handlers by path of the route."""
        return {
            "/api/send": self.send,
            "/api/hosts": self.hosts,
            "/api/last": self.last,
            "/api/log": self.log,
            "/api/why": self.why,
        }

    async def send(self, request: DoorRequest) -> DoorAnswer:
        """Send a message, a list of messages, or one in each line; all or, if one is malformed, none of them."""
        is_list = request.is_lines or request.body.lstrip()[:1] == b"["
        read = _lines_in if request.is_lines else _list_in if is_list else _one_in
        messages = await self._long.through(request.body, read)
        position = await self._messages.send(messages, request.caller)
        return json_answer({"position": position, **({"count": len(messages)} if is_list else {})})

    async def hosts(self, request: DoorRequest) -> DoorAnswer:
        """List the satellites, as ``relay.get_satellites`` does."""
        query = dict(request.query)
        argument: dict[str, Any] = {key: query.pop(key) for key in ("after",) if key in query}
        for key in ("names", "away"):
            if key in query:
                argument[key] = _boolean(key, query.pop(key))
        if "max" in query:
            argument["max"] = _number("max", query.pop("max"))
        if query:
            raise BadParams(f"unknown key {min(query)[:40]!r} in the query; there are after, away, max, names")
        if not argument.keys() & {"after", "max"}:
            argument.setdefault("away", True)
        rows = await self._members.get_satellites([argument], request.caller)
        told = {"relay": self._host_id(), "hosts": rows}
        return DoorAnswer(await self._long.write(told) + b"\n")

    async def last(self, request: DoorRequest) -> DoorAnswer:
        """Return the last message on each channel, as ``relay.last`` does."""
        query = dict(request.query)
        patterns = query.pop("channel", ">").split(",")
        if query:
            raise BadParams(f"unknown key {min(query)[:40]!r} in the query; there is channel")
        found = await self._values.find(patterns, message_text)
        rows = b",".join(
            b'{"channel":%b,"age":%b,"message":%b}' % (write(row.channel), write(row.age), row.message)
            for row in found.values
        )
        told = b'{"values":[%b],"position":%d,"left_out":%d}\n' % (rows, found.position, found.left_out)
        return DoorAnswer(told)

    async def why(self, request: DoorRequest) -> DoorAnswer:
        """Say which message made a message happen, as ``relay.why`` does."""
        query = dict(request.query)
        position = _number("position", query.pop("position", ""))
        if query:
            raise BadParams(f"unknown key {min(query)[:40]!r} in the query; there is position")
        found = await self._why.find(position, message_text)
        rows = b",".join(
            b'{"message":%b,"name":%b,"plugin":%b%b}'
            % (row.message, write(row.name), write(row.plugin), b',"size":%d' % row.size if row.size else b"")
            for row in found.chain
        )
        end = write({"kind": found.end.kind, "text": found.end.text, "position": found.end.position})
        return DoorAnswer(b'{"chain":[%b],"end":%b}\n' % (rows, end))

    async def log(self, request: DoorRequest) -> DoorAnswer:
        """Stream messages of the log as JSON Lines."""
        query = read_query(request.query)
        pieces = self._lines.read(query, (request.caller.address, request.caller.port))
        await anext(pieces)  # it is admitted, or refused with an error
        return DoorAnswer(content_type=LINES, pieces=pieces, is_endless=query.follow)


def _one_in(body: bytes) -> Generator[None, None, Sequence[SentMessage]]:
    return [message_in((yield from read_steps(body)))]


def _list_in(body: bytes) -> Generator[None, None, Sequence[SentMessage]]:
    texts = yield from parts_steps(body, MAX_SENT_VALUES)
    return (yield from _each("message", texts))


def _lines_in(body: bytes) -> Generator[None, None, Sequence[SentMessage]]:
    texts = body.split(b"\n", MAX_SENT + 1)
    yield
    return (yield from _each("line", texts))


def _each(what: str, texts: Sequence[bytes]) -> Generator[None, None, Sequence[SentMessage]]:
    messages = []
    for number, text in enumerate(texts, 1):
        if number > MAX_SENT:
            if text.strip():
                raise BadParams(f"more than {MAX_SENT} messages in one request: send the rest in another one")
            continue
        if not text.strip():
            continue  # an empty line
        try:
            messages.append(message_in((yield from read_steps(text))))
        except PeerError as error:
            raise type(error)(f"{what} {number}: {error}") from None
        yield
    if not messages:
        raise BadParams("no message in the body")
    return messages


def _boolean(key: str, text: str) -> bool:
    if text not in ("0", "1", "false", "true"):
        raise BadParams(f"key {key!r}: expected 0 or 1, got {text[:40]!r}")
    return text in ("1", "true")


def _number(key: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise BadParams(f"key {key!r}: expected a number, got {text[:40]!r}")
    return int(text)
