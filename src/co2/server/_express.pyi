from collections.abc import Sequence

SOURCE: int
MAX_EXPECTED: int
MAX_BECOMES: int
MAX_HEAD: int

Row = tuple[int, int, bytes, int, bytes]

def wait(
    others: int, timeout: float, linger: float, expected: tuple[tuple[Row, tuple[Row, ...]], ...], /
) -> tuple[int, bytes, Sequence[bytes] | None] | None: ...
