"""What a plugin author sees."""

import datetime
import subprocess
import sys
from typing import Any

import pytest

import co2.plugin
from co2 import plugin
from co2.errors import FlushTimeout, MessageError, NotRunning, TooBig, ValueRefused
from co2.plugin.api import Binding
from co2.plugin.child.send_queue import QueuedEntry, SendQueue, make_send
from co2.values import unpack


class X_Ham(plugin.Co2Plugin):
    """A plugin."""


class Bound:
    """A host in the small."""

    def __init__(self) -> None:
        self.name = "ham.spam.X_Ham"
        self.initialised = False
        self.queue = SendQueue(self.name)
        self.send = make_send(self.queue, self, 1.0)
        self.asleep = False
        self.lines: list[tuple[int, str]] = []

    @property
    def sent(self) -> list[Any]:
        entries = self.queue.entries
        return [unpack(entry[0] if isinstance(entry, tuple) else entry) for entry in entries]  # type: ignore[arg-type]

    def attend(self) -> None:
        raise AssertionError("nobody sleeps")

    def add(self, queue: SendQueue, entry: QueuedEntry, timeout: float) -> None:
        queue.entries.append(entry)

    def flush(self, timeout: float) -> None:
        raise FlushTimeout(timeout)

    def record(self, level: int, text: str) -> None:
        self.lines.append((level, text))


def bound(kind: type[plugin.Co2Plugin] = X_Ham) -> tuple[plugin.Co2Plugin, Bound]:
    host: Bound = Bound()
    binding: Binding = host
    it = kind.__new__(kind)
    it._co2 = binding
    it.__init__({})  # type: ignore[misc]
    return it, host


def test_the_room_exports_what_authors_need_and_no_more() -> None:
    assert co2.plugin.__all__ == ["Channels", "Co2Plugin", "Co2RelayPlugin", "Host", "Timer", "errors", "marks"]


def test_the_import_line_is_light() -> None:
    code = (
        "import sys; before = {*sys.modules}; from co2 import plugin; import co2.plugin.child.host;"
        "print(*{*sys.modules} - before)"
    )
    modules = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(modules.split())
    assert "msgspec" in loaded
    assert not loaded & {"asyncio", "aiohttp", "logging", "click", "rich", "jinja2", "subprocess", "traceback"}
    assert not loaded & {"co2.plugin.packages.schemas", "co2.plugin.child.describing"}, "until somebody asks"


def test_outside_of_a_host_a_plugin_can_be_made_and_says_that_it_cannot_send() -> None:
    ham = X_Ham({})
    assert str(ham).endswith("test_api.X_Ham")
    assert ham.config == {}
    ham.log("nobody %s", "hears")
    with pytest.raises(NotRunning, match="X_Ham"):
        ham.send({"data": 1})
    with pytest.raises(NotRunning, match="X_Ham"):
        ham.flush()
    with pytest.raises(MessageError):
        ham.send({"date": 1})
    assert (ham.channels, ham.live, ham.durable) == ((), (), False)


def test_send_encodes_at_once_and_leaves_out_what_hosts_set() -> None:
    ham, host = bound()
    message = {"data": [1], "host_id": "evil", "client_address": 1, "channel": "x"}
    ham.send(message)
    message["data"].append(2)  # type: ignore[attr-defined]
    assert host.sent == [{"data": [1], "channel": "x"}]


def test_send_takes_its_argument_by_name_too() -> None:
    it, host = bound()
    it.send(data_dict={"data": 1})
    host.send(data_dict={"data": 2, "channel": "a"})  # type: ignore[call-arg]  # as a plugin has it that does not override it
    assert host.sent == [{"data": 1}, {"data": 2, "channel": "a"}]
    with pytest.raises(TypeError):
        host.send(other={"data": 3})  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ([1], MessageError),
        ({"date": 1}, MessageError),
        ({"data": 1, 2: 3}, MessageError),
        ({"data": object()}, ValueRefused),
        ({"data": datetime.timezone(datetime.timedelta(hours=1))}, ValueRefused),
        ({"data": "x" * 2_000_000}, TooBig),
    ],
)
def test_what_cannot_travel_raises_at_send(message: Any, error: type[Exception]) -> None:
    ham, host = bound()
    with pytest.raises(error) as caught:
        ham.send(message)
    assert isinstance(caught.value, ValueError)
    assert host.sent == []


def test_log_and_debug_take_text_and_values_as_logging_does() -> None:
    ham, host = bound()
    ham.log("plain 100%")
    ham.log("%s and %d", "ham", 2)
    ham.debug({"any": "thing"})
    ham.log("%d", "wrong")
    assert host.lines[:3] == [(20, "plain 100%"), (20, "ham and 2"), (10, "{'any': 'thing'}")]
    assert "wrong" in host.lines[3][1]


def test_a_string_form_of_its_own_is_put_before_its_lines() -> None:
    class X_Bacon(plugin.Co2Plugin):
        def __str__(self) -> str:
            return "crispy bacon"

    class X_Burnt(plugin.Co2Plugin):
        def __str__(self) -> str:
            raise RuntimeError

    for kind, text in ((X_Bacon, "crispy bacon: here"), (X_Burnt, "here")):
        it, host = bound(kind)
        it.log("here")
        assert host.lines == [(20, text)]


def test_the_string_form_is_the_name() -> None:
    ham, host = bound()
    assert (str(ham), repr(ham)) == ("ham.spam.X_Ham",) * 2
    assert host.initialised


def test_a_gap_is_a_warning_in_the_log_unless_it_is_overridden() -> None:
    ham, host = bound()
    ham.gap({"after": 1, "next": 5, "reason": "100% lost"})
    assert host.lines == [(30, "gap: messages are missing: 100% lost")]


def test_a_flush_that_is_not_acknowledged_says_what_to_do() -> None:
    ham, _ = bound()
    with pytest.raises(TimeoutError, match=r"within 5 s.*do not send them again.*longer timeout"):
        ham.flush()
