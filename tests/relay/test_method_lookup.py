"""Whose a name is while its satellite is away: for some minutes, by a clock that only grows."""

import asyncio

import pytest

from co2.errors import Ambiguous
from co2.host_id import HostId
from co2.protocol.relay.away import AwayBook
from co2.protocol.relay.cursors import Peer
from co2.relay.members import Member
from co2.relay.method_lookup import NAME_KEPT, member_having
from co2.xmlrpc.registry import Caller
from tests.protocol.network import FakeLog
from tests.relay.test_relay import Client, FullRelay, make_relay

OWNER = HostId("owner", "10.0.0.2", 2004)


def having(relay: FullRelay, method: str = "m") -> Member:
    """Return the member that has a method."""
    return member_having(relay.members, relay.away, relay.core.names, relay.now(), method)


def register(relay: FullRelay, origin: str, ip: str) -> None:
    """Register a member that claims the method."""
    relay.methods.register([{"host_id": f"{origin}@{ip}:0", "methods": ["m"]}], Caller(ip, 1))


def test_a_name_stays_with_who_had_it_first_for_some_minutes_and_with_nobody_else() -> None:
    now = 1000.0

    async def test() -> None:
        nonlocal now
        relay = make_relay(Client(), FakeLog())
        relay.away = AwayBook(wall=lambda: 5e8, now=lambda: now)
        claim = relay.away.next_claim()
        register(relay, "later", "10.0.0.9")
        relay.away.joined(OWNER, ["m"], [], {"m": claim})
        relay.away.left("owner", stopped=False)
        now += NAME_KEPT - 1
        with pytest.raises(
            Ambiguous,
            match=r"owner@10\.0\.0\.2:2004 had m and is away; host-later \(later@10\.0\.0\.9:0\) now announces it",
        ):
            having(relay)
        now += 2
        assert having(relay).host_id.origin == "later"

        relay.away.joined(OWNER, ["m"], [], {"m": relay.away.next_claim()})
        relay.away.left("owner", stopped=False)
        register(relay, "later", "10.0.0.9")
        assert having(relay).host_id.origin == "later", "who registers again has it as long as before"
        await relay.stop()

    asyncio.run(test())


def link(host_id: HostId, *methods: str) -> Peer:
    return Peer(None, (host_id.ip, 1), host_id=host_id, methods=methods)  # type: ignore[arg-type]


def test_who_was_first_is_known_over_newer_links_and_names_that_come_and_go() -> None:
    stranger = HostId("stranger", "10.0.0.9", 2004)

    async def test() -> None:
        relay = make_relay(Client(), FakeLog())
        owner = link(OWNER, "m", "n")
        relay.joined(owner)

        def visit() -> None:
            """Let the stranger come, be noticed, and go."""
            guest = link(stranger, "m")
            relay.joined(guest)
            with pytest.raises(Ambiguous, match="several hosts have m"):
                having(relay)
            relay.left(guest, "", "its link has ended")

        visit()
        assert having(relay).peer is owner
        newer = link(OWNER, "m", "n")
        relay.joined(newer)  # takes the place of the other one
        assert having(relay).peer is newer
        visit()
        newer.methods = ("n",)
        relay.joined(newer)  # the package is unloaded
        newer.methods = ("m", "n")
        relay.joined(newer)
        visit()
        assert having(relay).peer is newer

        relay.left(newer, "", "its link has ended")
        guest = link(stranger, "m", "n")
        relay.joined(guest)
        back = link(OWNER)
        relay.joined(back)
        for name in ("m", "n"):
            with pytest.raises(Ambiguous, match=r"owner@.* had [mn], was away, and has not announced it again"):
                having(relay, name)
        back.methods = ("n",)
        relay.joined(back)
        relay.left(guest, "", "its link has ended")
        assert having(relay, "n").peer is back
        await relay.stop()

    asyncio.run(test())
