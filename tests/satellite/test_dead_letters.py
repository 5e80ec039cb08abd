"""The satellite's book of dead letters: beside the loop, bounded, on full and failing disks; who may do what."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from co2.errors import BadParams, Denied, PluginFailed, StorageFailed
from co2.protocol.wire.plugin_frames.frames import DeadLetter
from co2.satellite import dead_letters
from co2.satellite.dead_letters import DeadLetters
from co2.values import pack
from co2.xmlrpc.registry import Caller, Registry
from tests.harness import PATIENCE

HERE = Caller("127.0.0.1", 4567)


def letter(data: Any = None, **keys: Any) -> DeadLetter:
    return DeadLetter("ham.spam.X_Ham", "a@10.0.0.7:2004", ("10.0.0.7", 5), "E: no", pack({"data": data, **keys}))


class Book:
    """Dead letters, and the methods over them."""

    def __init__(self, path: Path) -> None:
        self.repeated: list[tuple[str, DeadLetter]] = []
        self.refuses = ""
        self.letters = DeadLetters(path, self._repeat)
        self.registry = Registry()
        self.letters.add_methods(self.registry)

    async def _repeat(self, package: str, given: DeadLetter) -> None:
        self.repeated.append((package, given))
        await asyncio.sleep(0)
        if self.refuses:
            raise PluginFailed(self.refuses)

    async def call(self, method: str, *params: Any, caller: Caller = HERE) -> Any:
        return await self.registry.dispatch(f"co2.plugin.{method}", list(params), caller)

    async def kept(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.letters.kept != count:
                await asyncio.sleep(0.005)


def carried(path: Path, scenario: Callable[[Book], Awaitable[None]]) -> None:
    async def run() -> None:
        book = Book(path)
        await book.letters.start()
        try:
            await scenario(book)
        finally:
            await book.letters.close()

    asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dead_letters.db"


def test_a_letter_is_listed_as_a_foreign_receiver_would_have_seen_the_message(path: Path) -> None:
    async def scenario(book: Book) -> None:
        book.letters.take("ham", letter(1, channel="a.b", id="own"))
        book.letters.take(
            "ham", DeadLetter("ham.spam.X_Ham", "a@10.0.0.7:2004", ("10.0.0.7", 5), "E: no", b"\xc1")
        )
        await book.kept(2)
        first, second = await book.call("get_dead_letters")
        assert first["at"].tzinfo is not None
        del first["at"]
        assert first == {
            "id": 1,
            "package": "ham",
            "plugin": "ham.spam.X_Ham",
            "host_id": "a@10.0.0.7:2004",
            "reason": "E: no",
            "message": {
                "data": 1,
                "channel": "a.b",
                "keys": {"id": "own"},
                "host_id": "a@10.0.0.7:2004",
                "client_address": ["10.0.0.7", 5],
            },
        }
        assert second["message"] == b"\xc1", "what is no message is shown as its bytes"

    carried(path, scenario)


def test_reading_goes_on_in_pages_of_bounded_size(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(book: Book) -> None:
        for number in range(6):
            book.letters.take("ham" if number % 2 else "eggs", letter("x" * 100_000))
        await book.kept(6)
        assert [row["id"] for row in await book.call("get_dead_letters", {})] == [1, 2]
        assert [row["id"] for row in await book.call("get_dead_letters", {"after": 2, "max": 1})] == [3]
        assert [row["id"] for row in await book.call("get_dead_letters", {"package": "ham"})] == [2, 4]
        assert await book.call("get_dead_letters", {"after": 6}) == []
        for wrong in ({"after": -1}, {"max": 0}, {"max": 1001}, {"package": 5}, {"after": "x"}):
            with pytest.raises(BadParams):
                await book.call("get_dead_letters", wrong)

    carried(path, scenario)


@pytest.mark.parametrize(
    "caller", [Caller("10.0.0.9", 1), Caller("127.0.0.1", 0, relayed=True), Caller("", 0), Caller("::2", 1)]
)
def test_from_elsewhere_or_through_a_relay_letters_are_only_read(path: Path, caller: Caller) -> None:
    async def scenario(book: Book) -> None:
        book.letters.take("ham", letter())
        await book.kept(1)
        assert len(await book.call("get_dead_letters", caller=caller)) == 1
        for method, argument in (("drop_dead_letters", {"up_to": 9}), ("repeat_dead_letter", {"id": 1})):
            with pytest.raises(Denied):
                await book.call(method, argument, caller=caller)
        assert (book.letters.kept, book.repeated) == (1, [])
        assert await book.call("drop_dead_letters", {"up_to": 9}, caller=Caller("::1", 1)) == 1

    carried(path, scenario)


def test_a_letter_is_deleted_when_it_was_taken_and_stays_where_it_was_not(path: Path) -> None:
    async def scenario(book: Book) -> None:
        for number in range(3):
            book.letters.take("ham", letter(number))
        await book.kept(3)
        book.refuses = "it raised again"
        with pytest.raises(PluginFailed, match="raised again"):
            await book.call("repeat_dead_letter", {"id": 2})
        assert book.letters.kept == 3
        book.refuses = ""
        assert await book.call("repeat_dead_letter", {"id": 2}) is True
        assert book.repeated[-1] == ("ham", letter(1))
        assert [row["id"] for row in await book.call("get_dead_letters")] == [1, 3]
        with pytest.raises(BadParams, match="no dead letter has the id 2"):
            await book.call("repeat_dead_letter", {"id": 2})
        for wrong in ({}, {"id": True}, {"id": "1"}):
            with pytest.raises(BadParams):
                await book.call("repeat_dead_letter", wrong)
        with pytest.raises(BadParams):
            await book.call("drop_dead_letters", {})

    carried(path, scenario)


def test_two_who_repeat_the_same_letter_give_it_once(path: Path) -> None:
    async def scenario(book: Book) -> None:
        book.letters.take("ham", letter())
        await book.kept(1)
        calls = (book.call("repeat_dead_letter", {"id": 1}) for _ in range(2))
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert done[0] is True
        assert isinstance(done[1], BadParams)
        assert len(book.repeated) == 1

    carried(path, scenario)


def test_a_full_disk_is_waited_for_in_bounds_and_told_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dead_letters, "RETRY", 0.01)
    monkeypatch.setattr(dead_letters, "MAX_WAITING", 10)
    tries: list[int] = []

    async def scenario(book: Book) -> None:
        store = book.letters._store
        add = store.add

        def fails(letters: Any) -> None:
            tries.append(len(letters))
            raise apsw.FullError("database or disk is full")

        store.add = fails  # type: ignore[method-assign]  # a disk that is full
        for number in range(15):
            book.letters.take("ham", letter(number))
        assert (book.letters.lost, book.letters.gone) == (5, 5)
        async with asyncio.timeout(PATIENCE):
            while len(tries) < 5:
                await asyncio.sleep(0.005)
        assert await book.call("get_dead_letters") == []
        store.add = add  # type: ignore[method-assign]
        await book.kept(10)
        assert [row["message"]["data"] for row in await book.call("get_dead_letters")] == [*range(10)]

    with caplog.at_level(logging.WARNING):
        carried(path, scenario)
    assert caplog.text.count("dead letters cannot be written to disk and wait in memory") == 1
    assert "dead letters are written to disk again" in caplog.text
    assert sum(record.args[0] for record in caplog.records if "were dropped" in record.msg) == 5  # type: ignore[index,misc]


def test_a_disk_that_fails_is_a_fault_to_who_reads_and_ends_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(book: Book) -> None:
        path.mkdir()  # nobody can open that, or set it aside
        book.letters.take("ham", letter())
        for method, argument in (
            ("get_dead_letters", {}),
            ("drop_dead_letters", {"up_to": 1}),
            ("repeat_dead_letter", {"id": 1}),
        ):
            with pytest.raises(StorageFailed):
                await book.call(method, argument)
        assert await book.letters.last("ham", 20) == []
        path.rmdir()
        await book.kept(1)

    monkeypatch.setattr(dead_letters, "RETRY", 0.01)
    carried(path, scenario)
    assert "dead letters cannot be written" in caplog.text


def test_what_cannot_be_stored_at_all_is_lost_and_counted_and_what_follows_is_kept(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(book: Book) -> None:
        strange = DeadLetter("ham.spam.X_Ham", "a@b:1", ("10.0.0.7", 2**64 - 1), "E: no", b"")
        book.letters.take("ham", strange)
        async with asyncio.timeout(PATIENCE):
            while not book.letters.lost:
                await asyncio.sleep(0.005)
        book.letters.take("ham", letter())
        await book.kept(1)

    carried(path, scenario)
    assert "1 dead letters cannot be written, and are lost" in caplog.text


def test_what_waits_at_the_end_is_written(path: Path) -> None:
    async def scenario(book: Book) -> None:
        for number in range(100):
            book.letters.take("ham", letter(number))

    async def later(book: Book) -> None:
        assert book.letters.kept == 100

    carried(path, scenario)
    carried(path, later)
