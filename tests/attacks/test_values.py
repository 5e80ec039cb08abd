"""Rows 1 to 21: documents and values. Each test bears the number of its row."""

import re
from typing import Any

import pytest

from co2.errors import RemoteFault, ValueRefused
from co2.values import pack
from co2.xmlrpc.reader import MAX_DEPTH, read_response
from co2.xmlrpc.writer import write_value
from tests.attacks.conftest import Target
from tests.attacks.raw import Reply, call_body, connected, exchange, read_reply, request, send


@pytest.fixture(params=["relay", "satellite"])
def target(request: pytest.FixtureRequest, real_hosts: dict[str, Target]) -> Target:
    """Both roles, as processes."""
    return real_hosts[request.param]


def post(target: Target, body: bytes, *headers: str) -> Reply:
    reply = exchange(target.port, request(body, *headers))
    assert reply is not None
    return reply


def fault_code(reply: Reply) -> int:
    """Give the code of the Fault, of which nothing may come from Python."""
    with pytest.raises(RemoteFault) as caught:
        read_response(reply.body)
    assert not re.search(r"Traceback|Error\b|Exception|line \d+, in |object at 0x", caught.value.text), (
        caught.value
    )
    return caught.value.code


def refused(target: Target, body: bytes, code: int) -> None:
    """The connection stays: there was no doubt where the request ended."""
    reply = post(target, body)
    assert (reply.status, fault_code(reply)) == (200, code)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert not reply.closed


def document(inner: str) -> bytes:
    return call_body("test", "@").replace(b"<string>@</string>", inner.encode())


def echo(target: Target, inner: str) -> tuple[bytes, Any]:
    """Give the answer to ``test`` as bytes and as a value."""
    reply = post(target, document(inner))
    assert reply.status == 200
    return reply.body, read_response(reply.body)


def test_row_01_billion_laughs(target: Target) -> None:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    body = f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY l0 "lol">{entities}]>'.encode() + document("&l9;")
    refused(target, body, -32700)


def test_row_02_quadratic_blow_up(target: Target) -> None:
    body = f'<!DOCTYPE q [<!ENTITY a "{"a" * 100_000}">]>'.encode() + document("&a;" * 100_000)
    refused(target, body, -32700)


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">',
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
        '<!DOCTYPE x PUBLIC "a" "b">',
        "<!DOCTYPE x>",
    ],
)
def test_row_03_external_entities(target: Target, doctype: str) -> None:
    refused(target, doctype.encode() + document("&e;"), -32700)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 20_000])
def test_row_04_deep_nesting(target: Target, depth: int) -> None:
    inner = "<array><data><value>" * depth
    refused(target, document(inner), -32602)


@pytest.mark.parametrize("digits", [20, 4_300, 4_301, 1_000_000])
def test_row_05_long_integers(target: Target, digits: int) -> None:
    refused(target, document(f"<int>{'9' * digits}</int>"), -32602)


@pytest.mark.parametrize("tag", ["int", "i4", "i8"])
@pytest.mark.parametrize("value", [2147483648, -2147483649, 2**63 - 1, -(2**63)])
def test_row_06_what_is_accepted_can_be_written_again(target: Target, tag: str, value: int) -> None:
    body, read = echo(target, f"<{tag}>{value}</{tag}>")
    assert read == value
    assert b"<i8>" in body


def test_row_07_nil_goes_both_ways(target: Target) -> None:
    assert echo(target, "<nil/>")[1] is None


@pytest.mark.parametrize("raw", [*"\x00\x01\x08\x0b\x1f", "\ufffe", "&#0;", "&#1;", "&#xFFFE;"])
def test_row_08_characters_that_xml_cannot_carry(target: Target, raw: str) -> None:
    refused(target, document(f"<string>{raw}</string>"), -32700)


@pytest.mark.parametrize("text", ["\x00", "\x1f", "\ufffe", "\uffff"])
def test_row_08_our_own_go_as_base64(text: str) -> None:
    assert b"<base64>" in write_value(text)


@pytest.mark.parametrize("raw", [b"\xed\xa0\x80", b"&#xD800;", b"\xff", b"\xc0\x80"])
def test_row_09_lone_surrogates_and_broken_utf_8(target: Target, raw: bytes) -> None:
    refused(target, document("<string>@</string>").replace(b"@", raw), -32700)


def test_row_10_carriage_returns_survive(target: Target) -> None:
    body, read = echo(target, "<string>a&#13;\nb&#xD;</string>")
    assert read == "a\r\nb\r"
    assert b"\r" not in body


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "Infinity", "1e999", "-1e999", "1_0.0", "0x1p3"])
def test_row_11_doubles_that_are_none(target: Target, text: str) -> None:
    refused(target, document(f"<double>{text}</double>"), -32602)


@pytest.mark.parametrize("text", ["1_000", "\u0661\u0662", " 7\n", "+5", "", "-", "1.0", "0x1"])
def test_row_12_integers_that_are_none(target: Target, text: str) -> None:
    refused(target, document(f"<int>{text}</int>"), -32602)


@pytest.mark.parametrize("text", ["yesterday", "20031301T00:00:00", "20030828T25:00:00", "", "0" * 10_000])
def test_row_13_dates_that_are_none(target: Target, text: str) -> None:
    refused(target, document(f"<dateTime.iso8601>{text}</dateTime.iso8601>"), -32602)


def test_row_14_one_key_twice(target: Target) -> None:
    member = "<member><name>host_id</name><value>{}</value></member>"
    refused(target, document(f"<struct>{member.format(1)}{member.format(2)}</struct>"), -32602)


@pytest.mark.parametrize(
    "body",
    [
        document("<struct><member><name>a</name></member></struct>"),
        document("<float>1</float>"),
        document("<struct><member><value>1</value></member></struct>"),
        b"<params><param><value><int>1</int></value></param></params>",
        b"<methodCall><params><param><value/></param></params></methodCall>",
        b"<methodResponse><params><param><value/></param></params></methodResponse>",
        b"<html/>",
    ],
)
def test_row_15_what_is_no_xml_rpc(target: Target, body: bytes) -> None:
    refused(target, body, -32700)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_row_16_utf_16(target: Target, encoding: str) -> None:
    reply = post(target, document("x").split(b"\n", 1)[1].decode().encode(encoding))
    assert (reply.status, fault_code(reply)) == (200, -32701)


@pytest.mark.parametrize("encoding", ["utf-7", "utf-16", "iso-8859-5", "ebcdic-us", "nonsense"])
def test_row_16_declared_encodings(target: Target, encoding: str) -> None:
    body = f"<?xml version='1.0' encoding='{encoding}'?>".encode() + document("x").split(b"\n", 1)[1]
    reply = post(target, body)
    assert (reply.status, fault_code(reply)) == (200, -32701)


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", '"koi8-r"', "utf-8; charset=latin1", ""])
def test_row_16_charsets_of_the_content_type(target: Target, charset: str) -> None:
    reply = post(target, document("x"), f"Content-Type: text/xml; charset={charset}")
    assert (reply.status, fault_code(reply)) == (200, -32701)


def test_row_16_the_charset_counts_before_the_declaration(target: Target) -> None:
    body = b"<?xml version='1.0' encoding='utf-8'?>" + document("caf\u00e9").decode().split("\n", 1)[1].encode(
        "latin-1"
    )
    for charset, code in (("iso-8859-1", 0), ("us-ascii", -32700), ("utf-8", -32700)):
        reply = post(target, body, f"Content-Type: text/xml; charset={charset}")
        if code:
            assert fault_code(reply) == code
        else:
            assert read_response(reply.body) == "caf\u00e9"


@pytest.mark.parametrize(
    "body", [b"", b" ", document("x")[:-1], document("x")[:20], document("x") * 2, b"\xef\xbb\xbf"]
)
def test_row_17_truncated_empty_or_two(target: Target, body: bytes) -> None:
    refused(target, body, -32700)


def test_row_17_a_request_that_ends_too_early(target: Target) -> None:
    reply = exchange(target.port, request(document("x"))[:-10], end=True)
    assert reply is not None
    assert (reply.status, reply.closed) == (400, True)


def test_row_17_one_byte_at_a_time(target: Target) -> None:
    with connected(target.port) as sock:
        for byte in request(call_body("ping")):
            send(sock, bytes((byte,)))
        reply = read_reply(sock)
    assert reply is not None
    assert read_response(reply.body) is True


@pytest.mark.parametrize("name", ["", "a" * 129, "a" * 1_000_000, "a b", "caf\u00e9", "a\n", "%00", "a;b"])
def test_row_18_method_names(target: Target, name: str) -> None:
    body = call_body("@").replace(b"@", name.encode())
    refused(target, body, -32601)


@pytest.mark.parametrize(
    "inner",
    [
        f"<array><data>{'<value/>' * 10_001}</data></array>",
        f"<array><data>{'<value/>' * 120_000}</data></array>",
        "<struct>{}</struct>".format(
            "".join(f"<member><name>{n:x}</name><value/></member>" for n in range(20_000))
        ),
    ],
)
def test_row_19_too_many_values(target: Target, inner: str) -> None:
    refused(target, document(inner), -32602)


def test_row_20_objects_are_not_written() -> None:
    class Anything:
        def __init__(self) -> None:
            self.secret = "canary"

    with pytest.raises(ValueRefused):
        write_value({"a": Anything()})


def test_row_21_a_plugin_that_sends_what_cannot_travel() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueRefused):
        pack({"data": loop})
    with pytest.raises(ValueError, match="keys of a message"):
        pack({"data": 1, 2: 3})  # type: ignore[dict-item]  # what a plugin may try
