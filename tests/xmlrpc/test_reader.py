"""The gate: a strict grammar, and nothing but documented errors."""

import xmlrpc.client
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.errors import AnswerTooBig, BadParams, NoSuchMethod, ParseError, PeerError, RemoteFault, WrongEncoding
from co2.xmlrpc.encodings import charset_of
from co2.xmlrpc.reader import MAX_DEPTH, MAX_VALUES, STEP, call_steps, read_call, read_response
from co2.xmlrpc.writer import write_call, write_response, write_value
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
        b'<?xml version="1.0" encoding="UTF-16"?>' + call("x"),
        b'<?xml version="1.0" encoding="utf-7"?>' + call("x"),
    ],
)
def test_other_encodings_are_not_read(document: bytes) -> None:
    with pytest.raises(ParseError):
        read_call(document)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"<?xml version='1.0' encoding='UTF-8'?>\n", b"\n"])
def test_utf_8_in_all_its_declarations(start: bytes) -> None:
    assert read_call(start + call("\u20ac")).params == ["\u20ac"]


def test_declared_encodings_have_an_error_of_their_own() -> None:
    with pytest.raises(WrongEncoding):
        read_call(b'<?xml version="1.0" encoding="koi8-r"?>' + call("x"))


TEXT = "caf\u00e9"


@pytest.mark.parametrize(
    ("codec", "names"),
    [
        ("latin-1", ["iso-8859-1", "ISO-8859-1", "latin1", "Latin-1", "ISO_8859-1", "l1"]),
        ("cp1252", ["windows-1252", "Windows-1252", "cp1252"]),
        ("utf-8", ["utf-8", "UTF-8", "utf8"]),
    ],
)
def test_encodings_of_one_byte_are_read_as_declared(codec: str, names: list[str]) -> None:
    for name in names:
        document = f"<?xml version='1.0' encoding='{name}'?>".encode() + call(TEXT).decode().encode(codec)
        assert read_call(document).params == [TEXT]
        bare = call(TEXT).decode().encode(codec)
        assert read_call(bare, charset_of(f'text/xml; charset="{name}"')).params == [TEXT]


def test_windows_1252_has_characters_where_latin_1_has_controls() -> None:
    document = b"<?xml version='1.0' encoding='windows-1252'?>" + call("\u20ac").decode().encode("cp1252")
    assert read_call(document).params == ["\u20ac"]
    with pytest.raises(ParseError, match="0x81"):
        read_call(document.replace(b"\x80", b"\x81"))


def test_us_ascii_is_a_part_of_utf_8() -> None:
    """Perl's RPC::XML declares it, and sends UTF-8."""
    declared = b"<?xml version='1.0' encoding='us-ascii'?>"
    assert read_call(declared + call("x &lt; &#233;")).params == ["x < \u00e9"]
    assert read_call(declared + call(TEXT)).params == [TEXT]
    assert read_call(call(TEXT), charset_of("text/xml; charset=US-ASCII")).params == [TEXT]
    with pytest.raises(ParseError, match="not well-formed"):
        read_call(declared + call(TEXT).decode().encode("latin-1"))


def test_who_disagrees_is_settled_as_rfc_7303_says() -> None:
    """The mark before the charset before the declaration."""
    latin = b"<?xml version='1.0' encoding='iso-8859-1'?>"
    bytes_of_both = b"<?xml version='1.0' encoding='iso-8859-1'?>" + call(TEXT)
    assert read_call(bytes_of_both).params == ["caf\u00c3\u00a9"]
    assert read_call(bytes_of_both, charset_of("text/xml; charset=utf-8")).params == [TEXT]
    assert read_call(b"\xef\xbb\xbf" + bytes_of_both).params == [TEXT]
    assert read_call(b"\xef\xbb\xbf" + latin + call(TEXT), "iso-8859-1").params == [TEXT]
    assert read_call(b"<?xml version='1.0' encoding='koi8-r'?>" + call("x"), "utf-8").params == ["x"]
    latin_bytes = call(TEXT).decode().encode("latin-1")
    declared = b"<?xml version='1.0' encoding='utf-8'?>" + latin_bytes
    assert read_call(declared, charset_of("text/xml; charset=iso-8859-1")).params == [TEXT]
    for charset in ("text/xml; charset=koi8-r", "text/xml; charset=utf-8; charset=latin1", "text/xml; charset="):
        with pytest.raises(WrongEncoding):
            charset_of(charset)


@pytest.mark.parametrize("body", [b"<value a='b'><int>1</int></value>", b"<value><int x:y=''>1</int></value>"])
def test_attributes_are_refused_but_for_the_namespaces_of_the_outermost_element(body: bytes) -> None:
    inside = b"<methodName>m</methodName><params><param>%b</param></params></methodCall>"
    with pytest.raises(ParseError, match="attributes"):
        read_call(b"<methodCall>" + inside % body)
    plain = inside % b"<value><int>1</int></value>"
    assert read_call(b"<methodCall xmlns:ex='http://ws.apache.org/xmlrpc'>" + plain).params == [1]


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 300_000])
def test_an_answer_in_pieces_is_what_it_is_in_one(size: int) -> None:
    for value in ("x" * size, ["\u20ac\r\n"] * (size // 20), {"a" * size: size}):
        assert read_response(write_response(write_value(value))) == value
    with pytest.raises(ParseError, match="not well-formed"):
        read_response(write_response(write_value("x" * size))[:-1])


@pytest.mark.parametrize("charset", ["", "iso-8859-1"])
@pytest.mark.parametrize("size", [1, STEP, STEP + 1, 10 * STEP])
def test_a_call_in_steps_is_what_it_is_at_once(size: int, charset: str) -> None:
    for value in ("x" * size, ["\u00fc\r\n"] * (size // 20), {"a" * size: size}):
        body = write_call("some.method", [write_value(value)])
        if charset:
            body = body.decode().encode(charset)
        steps, count = call_steps(body, charset), 0
        try:
            while True:
                next(steps)
                count += 1
        except StopIteration as end:
            assert end.value == read_call(body, charset)
        assert (count > 0) == (len(body) > STEP)


@pytest.mark.parametrize("token", [b"<!--%b-->", b"<?x %b?>", b"<value a='%b'/>"])
def test_a_token_without_end_is_refused(token: bytes) -> None:
    document = b"<methodResponse><params><param>" + token % (b"x" * 2**20)
    with pytest.raises(ParseError, match="more than 262144 bytes"):
        read_response(document + b"<value/></param></params></methodResponse>")


def test_an_answer_of_too_many_values_has_an_error_of_its_own() -> None:
    document = write_response(write_value([1] * 10))
    assert read_response(document, max_values=11) == [1] * 10
    with pytest.raises(AnswerTooBig, match="more than 10 values"):
        read_response(document, max_values=10)


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
