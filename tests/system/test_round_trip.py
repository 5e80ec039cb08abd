"""Any value that send() accepts arrives, equal after the documented normalisation, over every edge.

Real hosts: a plugin sends, another on the second satellite takes it, a plain XML-RPC client fetches it, and what
a client sends reaches the plugins.
"""

import base64
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from co2.values import key_text, unused_key
from tests.harness import HostProcess, Proxy, running, wait_for, write_plugin

MIRROR = '''
import base64
import dataclasses
import datetime
import decimal
import enum
import uuid

import msgspec

from co2 import plugin


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Colour(enum.Enum):
    RED = "red"


ODD = {
    "tuple": (1, (2, 3)),
    "set": {7},
    "decimal": decimal.Decimal("0.815"),
    "uuid": uuid.UUID(int=5),
    "naive": datetime.datetime(2003, 8, 28, 12, 0),
    "dataclass": Point(1, 2.5),
    "enum": Colour.RED,
    "bytearray": bytearray(b"ni"),
}


class X_Mirror(plugin.Co2Plugin):
    """Sends what it is given in MessagePack, keeps what it receives."""

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.got = []

    def receive(self, data_dict):
        self.got.append(msgspec.msgpack.encode(data_dict))

    def x_send(self, data_dict):
        self.send(msgspec.msgpack.decode(data_dict["data"]))
        return True

    def x_send_odd(self, data_dict):
        self.send({"data": ODD[data_dict["data"]], "token": data_dict["data"]})
        return True

    def x_refused(self, data_dict):
        """Try to send what cannot travel; tell the errors' names."""
        loop = []
        loop.append(loop)
        class Anything: pass
        results = []
        for value in (Anything(), loop, 2**64, -2**63 - 1, "\\ud800", lambda: 0, "x" * 800_000):
            try:
                self.send({"data": value})
                results.append("sent")
            except ValueError as error:
                results.append(type(error).__name__)
        return results

    def x_take(self, data_dict):
        got, self.got = self.got, []
        return got
'''


@dataclass
class Hosts:
    a: Proxy
    b: Proxy
    relay: Proxy
    me: dict[str, Any]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    base: Path = tmp_path_factory.mktemp("trip")
    for name in ("a", "b"):
        write_plugin(base / name, "mirror", mod=MIRROR)
    with (
        running(base / "relay", "relay") as relay,
        running(base / "a", "satellite", "--relay", relay.url) as a,
        running(base / "b", "satellite", "--relay", relay.url) as b,
        a.proxy() as to_a,
        b.proxy() as to_b,
        relay.proxy() as to_relay,
    ):
        ready(to_relay, a, b)
        yield Hosts(to_a, to_b, to_relay, to_relay.relay.register({}))


def ready(relay: Proxy, *satellites: HostProcess) -> None:
    wanted = {satellite.host_id for satellite in satellites}
    wait_for(lambda: wanted <= {row["host_id"] for row in relay.relay.get_satellites()}, "all registered")


def taken(satellite: Proxy, token: str) -> bytes:
    """Wait for the message with this token at a mirror; give its data, encoded."""
    seen: list[dict[str, Any]] = []

    def found() -> dict[str, Any] | None:
        seen.extend(msgspec.msgpack.decode(packed) for packed in satellite.mirror.mod.take({"data": 0}))
        return next((message for message in seen if message.get("token") == token), None)

    message = wait_for(found, f"{token} at a mirror")
    assert message is not None
    return msgspec.msgpack.encode(message["data"])


def fetched(hosts: Hosts, token: str) -> Any:
    """Fetch as a plain client until the message with this token comes; give its data."""
    while True:
        answer = hosts.relay.relay.fetch(
            {"host_id": hosts.me["host_id"], "after": hosts.me["position"], "wait": 20, "max": 1000}
        )
        assert answer["messages"], f"{token} does not come"
        hosts.me["position"] = answer["next"]
        for message in answer["messages"]:
            if message.get("token") == token:
                return message["data"]


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.text(alphabet="\x00\x0b\r\n\t\ufffe\u20ac<>&]\"'", max_size=8)
    | st.binary(max_size=40)
    | st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC))
)
keys = st.text(max_size=8) | st.integers(-5, 5) | st.binary(max_size=3)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_client_sees(value: Any) -> Any:
    """The documented normalisation of the XML edge, written down independently of the writer."""
    if isinstance(value, bool) or value is None or isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode() if _NOT_XML.search(value) else value
    if isinstance(value, datetime):
        return value.replace(microsecond=0, tzinfo=None)
    if isinstance(value, list):
        return [as_client_sees(item) for item in value]
    result: dict[str, Any] = {}
    for key, item in value.items():
        escaped = _NOT_XML.sub(
            lambda c: f"\\x{ord(c[0]):02x}" if ord(c[0]) < 256 else f"\\u{ord(c[0]):04x}", key_text(key)
        )
        result[unused_key(escaped, result)] = as_client_sees(item)
    return result


counter = iter(range(10**9))
real_hosts = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)


@real_hosts
@given(value=values)
def test_from_a_plugin_to_a_plugin_and_to_a_client(hosts: Hosts, value: Any) -> None:
    token = f"t{next(counter)}"
    packed = msgspec.msgpack.encode({"data": value, "token": token})
    decoded = msgspec.msgpack.decode(packed)["data"]
    hosts.a.mirror.mod.send({"data": packed})
    assert taken(hosts.b, token) == msgspec.msgpack.encode(decoded)
    assert fetched(hosts, token) == as_client_sees(decoded)


client_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(
        alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=40
    )
    | st.binary(max_size=40)
)
client_values = st.recursive(
    client_scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(alphabet="abcdef_ ", max_size=6), inner, max_size=5)
    ),
    max_leaves=20,
)


@real_hosts
@given(value=client_values)
def test_from_a_client_to_a_plugin(hosts: Hosts, value: Any) -> None:
    token = f"t{next(counter)}"
    hosts.relay.relay.relay({"host_id": hosts.me["host_id"], "data": value, "token": token})
    assert taken(hosts.b, token) == msgspec.msgpack.encode(value)


@pytest.mark.parametrize(
    ("name", "arrives"),
    [
        ("tuple", [1, [2, 3]]),
        ("set", [7]),
        ("decimal", "0.815"),
        ("uuid", "00000000-0000-0000-0000-000000000005"),
        ("naive", "2003-08-28T12:00:00"),
        ("dataclass", {"x": 1, "y": 2.5}),
        ("enum", "red"),
        ("bytearray", b"ni"),
    ],
)
def test_other_types_arrive_in_their_decoded_form(hosts: Hosts, name: str, arrives: Any) -> None:
    hosts.a.mirror.mod.send_odd({"data": name})
    assert taken(hosts.b, name) == msgspec.msgpack.encode(arrives)
    assert fetched(hosts, name) == arrives


def test_what_cannot_travel_raises_at_send(hosts: Hosts) -> None:
    assert hosts.a.mirror.mod.refused({"data": 0}) == ["ValueRefused"] * 6 + ["TooBig"]


def test_nesting_far_beyond_the_gate_of_xml_arrives_at_plugins_and_clients(hosts: Hosts) -> None:
    value: Any = "bottom"
    for _ in range(400):
        value = [value]
    packed = msgspec.msgpack.encode({"data": value, "token": "deep"})
    hosts.a.mirror.mod.send({"data": packed})
    assert taken(hosts.b, "deep") == msgspec.msgpack.encode(value)
    assert fetched(hosts, "deep") == value


def test_the_largest_message_arrives(hosts: Hosts) -> None:
    value = bytes(700_000)
    packed = msgspec.msgpack.encode({"data": value, "token": "large"})
    with pytest.raises(Exception, match="body larger than 1048576 bytes"):
        hosts.a.mirror.mod.send({"data": base64.b64encode(packed) * 2})
    hosts.a.mirror.mod.send({"data": packed})
    assert taken(hosts.b, "large") == msgspec.msgpack.encode(value)
    assert fetched(hosts, "large") == value
