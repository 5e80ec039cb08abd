"""The gate: a strict grammar, and nothing but documented errors."""

import xmlrpc.client
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.errors import BadParams, NoSuchMethod, ParseError, PeerError, RemoteFault, WrongEncoding
from co2.xmlrpc.reader import MAX_DEPTH, MAX_VALUES, read_call, read_response
from co2.xmlrpc.writer import write_call, write_value
from tests.xmlrpc.strategies import exact


def call(inner: str, method: str = "test") -> bytes:
    """A request with this inside of <value>."""
    params = f"<params><param><value>{inner}</value></param></params>"
    return f"<methodCall><methodName>{method}</methodName>{params}</methodCall>".encode()


def value(inner: str) -> Any:
    return read_call(call(inner)).params[0]


@pytest.mark.parametrize(
    ("inner", "read"),
    [
        ("<int>1</int>", 1),
        ("<i4>-007</i4>", -7),
        ("<i8>-9223372036854775808</i8>", -(2**63)),
        ("<int>9223372036854775807</int>", 2**63 - 1),
        ("<double>0.815</double>", 0.815),
        ("<double>-1e-3</double>", -0.001),
        ("<double>+.5</double>", 0.5),
        ("<double>12</double>", 12.0),
        ("<boolean>1</boolean>", True),
        ("<boolean>0</boolean>", False),
        ("<string>a &lt; b</string>", "a < b"),
        ("<string/>", ""),
        ("<string> a </string>", " a "),
        ("<string><![CDATA[<a>]]></string>", "<a>"),
        ("text", "text"),
        ("", ""),
        ("a<!-- comment -->b", "ab"),
        ("<nil/>", None),
        ("<base64>bmk=</base64>", b"ni"),
        ("<base64>\n bm\n k= \n</base64>", b"ni"),
        ("<base64/>", b""),
        ("<dateTime.iso8601>20030828T12:34:56</dateTime.iso8601>", datetime(2003, 8, 28, 12, 34, 56, tzinfo=UTC)),
        (
            "<dateTime.iso8601>2003-08-28T12:34:56Z</dateTime.iso8601>",
            datetime(2003, 8, 28, 12, 34, 56, tzinfo=UTC),
        ),
        ("<array><data/></array>", []),
        ("<array><data><value><int>1</int></value><value>b</value></data></array>", [1, "b"]),
        ("<struct/>", {}),
        (
            "<struct><member><name>a</name><value/></member> "
            "<member><name/><value><nil/></value></member></struct>",
            {"a": "", "": None},
        ),
    ],
)
def test_values(inner: str, read: Any) -> None:
    assert value(inner) == read
    assert type(value(inner)) is type(read)
    assert value(f" \n{inner}\t\r\n") == read or not inner.startswith("<")


@pytest.mark.parametrize(
    "inner",
    [
        "<int>1_000</int>",
        "<int>\u0661\u0662</int>",
        "<int> 7\n</int>",
        "<int>+5</int>",
        "<int></int>",
        "<int>1.0</int>",
        "<int>0x10</int>",
        "<i8>9223372036854775808</i8>",
        f"<int>{'9' * 4300}</int>",
        f"<int>{'0' * 100_000}</int>",
        "<double>nan</double>",
        "<double>inf</double>",
        "<double>-Infinity</double>",
        "<double>1e999</double>",
        "<double>1_0.0</double>",
        "<double> 1.0</double>",
        "<double>.</double>",
        "<double>1e</double>",
        f"<double>{'1' * 401}</double>",
        "<boolean>2</boolean>",
        "<boolean>true</boolean>",
        "<boolean/>",
        "<dateTime.iso8601>yesterday</dateTime.iso8601>",
        "<dateTime.iso8601>20031328T12:00:00</dateTime.iso8601>",
        "<dateTime.iso8601>20030828T12:00:60</dateTime.iso8601>",
        "<dateTime.iso8601>2003-0828T12:00:00</dateTime.iso8601>",
        "<dateTime.iso8601>20030828T12:00:00+02:00</dateTime.iso8601>",
        "<base64>n</base64>",
        "<base64>b*k=</base64>",
        "<base64>bmk=bmk=</base64>",
        "<base64>\u20ac</base64>",
        "<struct><member><name>a</name><value>1</value></member><member><name>a</name><value>2</value></member></struct>",
    ],
)
def test_values_that_are_refused(inner: str) -> None:
    with pytest.raises(BadParams) as caught:
        read_call(call(inner))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "inner",
    [
        "<float>1</float>",
        "<ex:nil/>",
        "<nil>x</nil>",
        "a<int>1</int>",
        "<int>1</int>b",
        "<int>1</int><int>2</int>",
        "<int><i4>1</i4></int>",
        "<struct><member><name>a</name></member></struct>",
        "<struct><member><value>a</value></member></struct>",
        "<struct><member><value>a</value><name>a</name></member></struct>",
        "<struct><member><name>a</name><value/><value/></member></struct>",
        "<struct><member/></struct>",
        "<struct>x</struct>",
        "<struct><value/></struct>",
        "<array/>",
        "<array><value/></array>",
        "<array><data/><data/></array>",
        "<array><data>x</data></array>",
        "<string>\x01</string>",
        "<string>&#0;</string>",
        "<string>&#xD800;</string>",
        "<string>&unknown;</string>",
    ],
)
def test_what_is_no_xml_rpc(inner: str) -> None:
    with pytest.raises(ParseError):
        read_call(call(inner))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b" ",
        b"ping",
        b"<methodCall/>",
        b"<methodCall><params/></methodCall>",
        b"<methodCall><methodName>a</methodName><methodName>a</methodName></methodCall>",
        b"<methodCall><methodName>a</methodName><params/><params/></methodCall>",
        b"<methodCall><methodName>a</methodName><params><param/></params></methodCall>",
        b"<methodCall><methodName>a</methodName>x</methodCall>",
        b"<methodResponse><params><param><value/></param></params></methodResponse>",
        b"<params><param><value><int>1</int></value></param></params>",
        call("x") * 2,
        call("x")[:-1],
        call("x").replace(b"x", b"\xff"),
        b'<!DOCTYPE a [<!ENTITY x "y">]>' + call("&x;"),
        b"<!DOCTYPE methodCall>" + call("x"),
    ],
)
def test_documents_that_are_refused(document: bytes) -> None:
    with pytest.raises(ParseError):
        read_call(document)


@pytest.mark.parametrize(
    "document",
    [
        call("x").decode().encode("utf-16"),
        call("x").decode().encode("utf-16-be"),
        call("x").decode().encode("utf-16-le"),
        call("x").decode().encode("utf-32"),
        b'<?xml version="1.0" encoding="iso-8859-1"?>' + call("x"),
        b'<?xml version="1.0" encoding="UTF-16"?>' + call("x"),
        b'<?xml version="1.0" encoding="utf-7"?>' + call("x"),
    ],
)
def test_utf_8_only(document: bytes) -> None:
    with pytest.raises(ParseError):
        read_call(document)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"<?xml version='1.0' encoding='UTF-8'?>\n", b"\n"])
def test_utf_8_in_all_its_declarations(start: bytes) -> None:
    assert read_call(start + call("\u20ac")).params == ["\u20ac"]


def test_declared_encodings_have_an_error_of_their_own() -> None:
    with pytest.raises(WrongEncoding):
        read_call(b'<?xml version="1.0" encoding="latin-1"?>' + call("x"))


@pytest.mark.parametrize("name", ["", " a", "a b", "a\n", "\u00e9", "a" * 129, "a" * 1_000_000, "__class__()"])
def test_names_that_no_method_has(name: str) -> None:
    with pytest.raises(NoSuchMethod) as caught:
        read_call(call("x", method=name))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["a", "system.listMethods", "a/b:c-d_e.9", "a" * 128])
def test_names_that_methods_may_have(name: str) -> None:
    assert read_call(call("x", method=name)).method == name


def test_params_may_be_missing() -> None:
    assert read_call(b"<methodCall><methodName>a</methodName></methodCall>").params == []
    assert read_call(b"<methodCall><methodName>a</methodName><params/></methodCall>").params == []


def nested(depth: int) -> str:
    return "<array><data><value>" * (depth - 1) + "</value></data></array>" * (depth - 1)


def test_depth_is_bounded_while_parsing() -> None:
    value(nested(MAX_DEPTH))
    with pytest.raises(BadParams, match="nested"):
        value(nested(MAX_DEPTH + 1))


def test_number_of_values_is_bounded_while_parsing() -> None:
    def array(count: int) -> str:
        return f"<array><data>{'<value/>' * count}</data></array>"

    assert len(value(array(MAX_VALUES - 1))) == MAX_VALUES - 1
    with pytest.raises(BadParams, match="too many"):
        value(array(MAX_VALUES))


@given(exact)
def test_reads_what_the_standard_library_writes(given_value: Any) -> None:
    try:
        document = xmlrpc.client.dumps((given_value,), "test", allow_none=True)
    except OverflowError:
        return  # it knows 32 bits only
    mine = read_call(document.encode()).params[0]
    theirs = read_call(write_call("test", [write_value(given_value)])).params[0]
    if "\r" not in document:  # it forgets to escape them
        assert mine == theirs


@given(st.binary(max_size=200) | st.text(alphabet="<>/&;valuestringint x1", max_size=100).map(str.encode))
def test_garbage_is_a_documented_error(document: bytes) -> None:
    for read in (read_call, read_response):
        with pytest.raises(PeerError):
            read(document)


@given(exact, st.data())
def test_damage_is_a_documented_error_or_harmless(given_value: Any, data: st.DataObject) -> None:
    document = bytearray(write_call("test", [write_value(given_value)]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(document) - 1))
        document[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    try:
        read_call(bytes(document))
    except PeerError as error:
        assert -32799 < error.code < -32500


def response(inner: str) -> bytes:
    return f"<methodResponse>{inner}</methodResponse>".encode()


def fault(inner: str) -> bytes:
    return response(f"<fault><value>{inner}</value></fault>")


@pytest.mark.parametrize(
    "document",
    [
        response(""),
        response("<params/>"),
        response("<params><param/></params>"),
        response("<params><param><value/></param><param><value/></param></params>"),
        response("<params><param><value/></param></params><fault><value/></fault>"),
        response("<fault/>"),
        fault("no struct"),
        fault("<struct/>"),
        fault("<struct><member><name>faultCode</name><value>1</value></member></struct>"),
        response("<params><param><value><int>x</int></value></param></params>"),
        call("x"),
    ],
)
def test_responses_that_are_refused(document: bytes) -> None:
    with pytest.raises(ParseError):
        read_response(document)


def test_a_fault_is_raised_with_its_text_shortened() -> None:
    inner = "<member><name>faultString</name><value>{}</value></member>".format("x" * 10_000)
    code = "<member><name>faultCode</name><value><int>7</int></value></member>"
    with pytest.raises(RemoteFault) as caught:
        read_response(fault(f"<struct>{code}{inner}</struct>"))
    assert caught.value.code == 7
    assert len(caught.value.text) == 4096
