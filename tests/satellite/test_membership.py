"""Registered, or trying to be, for ever."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from co2.errors import TooManySatellites, Unreachable
from co2.satellite import membership as room
from co2.satellite.membership import Membership, retry_delays


class Client:
    """A relay that answers as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.answer: Callable[[str], Any] = lambda method: (
            {"host_id": "me@127.0.0.1:2004", "position": 1, "log_id": "a", "packed": True}
            if method == "relay.register"
            else []
        )

    async def call(self, url: str, method: str, *params: Any, timeout: float) -> Any:
        self.calls.append((method, params[0] if params else None))
        result = self.answer(method)
        if isinstance(result, Exception):
            raise result
        return result


def run(
    test: Callable[[Membership, Client], Any], *, bind: str = "127.0.0.1", url: str = "http://127.0.0.1:1"
) -> None:
    async def main() -> None:
        client = Client()
        member = Membership(
            url=url,
            origin="me",
            bind=bind,
            port=2004,
            client=client,  # type: ignore[arg-type]
            heartbeat=0.01,
            names=lambda: (["ham.spam.call_me"], ["ham.spam.X_Spam"]),
        )
        task = asyncio.create_task(member.run())
        try:
            async with asyncio.timeout(10):
                await test(member, client)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def registrations(client: Client) -> list[Any]:
    return [argument for method, argument in client.calls if method == "relay.register"]


def test_it_tells_who_it_is_and_what_it_has() -> None:
    async def test(member: Membership, client: Client) -> None:
        await member.registered.wait()
        told = registrations(client)[0]
        assert told["host_id"] == "me@127.0.0.1:2004"
        assert told["port"] == 2004
        assert told["methods"] == ["ham.spam.call_me"]
        assert told["plugins"] == ["ham.spam.X_Spam"]

    run(test)


def test_the_first_time_it_starts_at_the_head_and_later_it_resumes() -> None:
    async def test(member: Membership, client: Client) -> None:
        await until(lambda: len(registrations(client)) >= 2)
        first, second = registrations(client)[:2]
        assert first["resume"] is False
        assert (second["resume"], second["log_id"]) == (True, "a")

    run(test)


def test_a_relay_that_is_away_is_tried_until_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_FIRST_RETRY", 0.001)
    monkeypatch.setattr(room, "_LONGEST_RETRY", 0.002)

    async def test(member: Membership, client: Client) -> None:
        good = client.answer
        client.answer = lambda method: Unreachable("away")
        await until(lambda: len(client.calls) > 20)
        assert not member.registered.is_set()
        assert member.last_error == "away"
        client.answer = good
        await member.registered.wait()
        assert member.last_error == ""

    run(test)


def test_a_full_relay_is_tried_again_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_FIRST_RETRY", 0.001)
    monkeypatch.setattr(room, "_LONGEST_RETRY", 0.002)

    async def test(member: Membership, client: Client) -> None:
        good = client.answer
        client.answer = lambda method: TooManySatellites(3)
        await until(lambda: "max_sats is 3" in member.last_error)
        client.answer = good
        await member.registered.wait()

    run(test)


def test_an_answer_that_is_none_is_no_registration() -> None:
    async def test(member: Membership, client: Client) -> None:
        client.answer = lambda method: "hello"
        await until(lambda: "not a dictionary" in member.last_error)
        assert not member.registered.is_set()

    run(test)


def test_a_new_log_is_noticed() -> None:
    async def test(member: Membership, client: Client) -> None:
        await member.registered.wait()
        client.answer = lambda method: {"host_id": "me@127.0.0.1:2004", "position": 1, "log_id": "b"}
        await until(lambda: member.log_replaced == 1)
        assert not member.relay_speaks_packed

    run(test)


def test_where_the_relay_could_never_call_back_it_says_what_to_do() -> None:
    async def test(member: Membership, client: Client) -> None:
        await until(lambda: "--bind 0.0.0.0" in member.last_error)
        assert not client.calls

    run(test, url="http://192.0.2.7:2003")


def test_delays_grow_to_half_a_minute_with_jitter_and_never_end() -> None:
    delays = iter(retry_delays())
    found = [next(delays) for _ in range(50)]
    assert found[0] <= 0.25
    assert all(15 <= delay <= 30 for delay in found[-20:])
    assert len(set(found[-20:])) > 1
