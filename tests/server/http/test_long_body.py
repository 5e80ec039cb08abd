"""The body of a long answer, part by part."""

from hypothesis import given
from hypothesis import strategies as st

from co2.server.http.long_body import LongBody


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 200))
def test_parts_of_any_size_are_the_body(pieces: list[bytes], most: int) -> None:
    whole = b"".join(pieces)
    body = LongBody(pieces)
    parts = []
    while body.left:
        parts.append(body.take(most))
        assert len(parts[-1]) == most or not body.left
    assert b"".join(parts) == whole
    assert body.size == len(whole)
    assert body.take(most) == b""


def test_a_part_keeps_nothing_of_its_piece() -> None:
    piece = bytearray(1_000_000)
    body = LongBody([piece])  # type: ignore[list-item]  # one that says whether somebody looks at it
    part = body.take(10)
    del body
    piece.clear()  # raises where anything still does
    assert part == bytes(10)
