"""Memory that was needed once goes back to the system."""

import ctypes
import subprocess
import sys
from typing import Any

import pytest

from co2.server.process.allocator import ARENAS, LARGE, give_back_large_pieces

CODE = """
import sys
from pathlib import Path
from co2.server.process.allocator import give_back_large_pieces

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

told = sys.argv[1:] == ["told"] and give_back_large_pieces()
before = held()
kept = [bytes(1) * 2**24]
kept.clear()
for n in range(30):
    large = b"x" * (2**21 + n * 8192)  # fits into no hole that one before it has left
    kept.append(b"y" * 5000)           # and this lies behind it
    del large
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is nothing to be told")
def test_large_pieces_that_are_free_do_not_stay_with_the_process() -> None:
    left, told = (
        int(
            subprocess.run([sys.executable, "-c", CODE, *more], capture_output=True, check=True, timeout=60).stdout
        )
        for more in ((), ("told",))
    )
    assert told < 2**22 < left, "this test shows nothing where the C library gives it back by itself"


@pytest.mark.parametrize(
    ("system", "refused", "told", "done"),
    [
        ("linux", (), True, [(-3, LARGE), (-8, ARENAS)]),
        ("linux", (-3,), False, [(-3, LARGE)]),
        ("linux", (-8,), False, [(-3, LARGE), (-8, ARENAS)]),
        ("linux", None, False, []),  # a C library without such a function
        ("darwin", (), False, []),
    ],
)
def test_it_says_whether_the_c_library_does_it(
    system: str, refused: tuple[int, ...] | None, told: bool, done: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def __init__(self, _name: None) -> None:
            if refused is not None:
                self.mallopt = self._set

        def _set(self, option: int, value: int) -> int:
            asked.append((option, value))
            return int(option not in (refused or ()))

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(sys, "platform", system)
    assert give_back_large_pieces() is told
    assert asked == done
