from collections.abc import Sequence

SOURCE: int
MAX_EXPECTED: int
MAX_BECOMES: int
MAX_HEAD: int
MAX_NUMBERS: int
MAX_COUNTERS: int
MAX_RUN: int
MAX_RUN_SIZE: int
MAX_MESSAGES: int
MAX_PIECES: int
MAX_HELD: int
HABITS_SIZE: int

Row = tuple[int, int, bytes, int, bytes, bool, tuple[tuple[int, int, bool], ...]]

def wait(
    others: int,
    timeout: float,
    linger: float,
    follow: float,
    latest: float,
    work: float,
    clock: tuple[float, float, float],
    habits: bytearray,
    expected: tuple[tuple[Row, tuple[Row, ...], int], ...],
    counters: tuple[int, ...],
    /,
) -> tuple[Sequence[tuple[int, bytes, float]], Sequence[tuple[int, int, Sequence[bytes]]]] | None: ...
def write_now(descriptor: int, pieces: list[bytes], /) -> int: ...
def note_arrival(habits: bytearray, descriptor: int, /) -> None: ...
