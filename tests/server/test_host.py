"""The common part of the hosts of both roles: what it says of itself, what it takes for itself and serves."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from co2.config import SatelliteConfig
from co2.errors import NoSuchMethod
from co2.host_id import HostId
from co2.plugin.parent.status import PackageStatus
from co2.server import host as host_module
from co2.server.door.answers import DoorRequest
from co2.server.door.routes import ROUTES
from co2.server.express import loop as express
from co2.server.host import RoleHost, RoleView
from co2.server.process.run import Foundation
from co2.web.satellite_pages import make_satellite_buttons, make_satellite_pages
from co2.web.view import FarSatellites, Numbers, Readiness
from co2.xmlrpc.registry import Caller

HERE = Caller("127.0.0.1", 1)
FAR = Caller("10.0.0.7", 1)
ERROR = 'Traceback (most recent call last):\n  File "/home/ada/ham.py", line 1\nValueError: no'


class Control:
    """Notes what is asked of the plugins."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def add_methods(self, registry: Any) -> None:
        registry.add("co2.plugin.reload", lambda _params, _caller: True, help="", signatures=[])

    async def reload_changed(self) -> None:
        self.asked.append("reload changed")

    async def load_or_reload(self, package: str) -> None:
        self.asked.append(f"load or reload {package}")


class Host(RoleHost):
    """A role without a network; it notes which calls are for other hosts."""

    def __init__(self) -> None:
        foundation = cast(Foundation, SimpleNamespace(sock="the socket"))
        super().__init__(SatelliteConfig(allowed_hosts=("foyer.example",)), foundation)
        self.control = Control()
        package = PackageStatus(name="ham", state="failed", last_error=ERROR)
        self.plugins = cast(Any, SimpleNamespace(control=self.control, status=lambda: [package]))
        self.elsewhere: list[tuple[Any, ...]] = []

    @property
    def host_id(self) -> HostId:
        return HostId("me", "10.0.0.1", 2004)

    @property
    def name(self) -> str:
        return "foyer-pi"

    def problems(self) -> list[str]:
        return ["the disk is full"]

    def _own_counters(self) -> dict[str, int]:
        return {"relayed": 7}

    def _own_properties(self) -> dict[str, Any]:
        return {"max_sats": 512}

    def _methods_elsewhere(self) -> Iterator[tuple[str, Sequence[str]]]:
        yield "spam@10.0.0.8:2004", ["spam.eggs"]

    async def _call_elsewhere(
        self, host: str | None, method: str, argument: dict[str, Any], caller: Caller
    ) -> Any:
        self.elsewhere.append((host, method, argument))
        return "elsewhere"

    @property
    def listening(self) -> Any:
        return self._sock

    def serve(self, **more: Any) -> None:
        self._serve(View(self), door={}, elsewhere="ask the relay", **more)


class View(RoleView):
    def readiness(self) -> Readiness:
        raise NotImplementedError

    def numbers(self) -> Numbers:
        raise NotImplementedError


def with_host(test: Callable[[Host], Any]) -> Any:
    async def run() -> Any:
        return await test(Host())

    return asyncio.run(run())


def test_what_a_host_says_of_itself() -> None:
    async def test(host: Host) -> None:
        found = host.properties(here=True)
        assert {name: found[name] for name in ("role", "name", "host_id", "problems", "max_sats")} == {
            "role": "satellite",
            "name": "foyer-pi",
            "host_id": "me@10.0.0.1:2004",
            "problems": ["the disk is full"],
            "max_sats": 512,
        }
        assert found["software"]["co2"] == found["version"]
        assert found["hardware"]["processors"] > 0
        assert found["counters"] == {"relayed": 7, **express.counts()._asdict()}
        assert [row["name"] for row in found["plugins"]] == ["ham"]

    with_host(test)


def test_only_who_is_on_this_machine_gets_whole_errors() -> None:
    async def test(host: Host) -> None:
        (row,) = host.properties(here=True)["plugins"]
        assert row["last_error"] == ERROR
        for found in (host.properties(), host.properties(here=False), View(host).properties()):
            assert "/home/ada" not in found["plugins"][0]["last_error"]

    with_host(test)


def test_how_long_a_host_has_been_up_in_seconds_and_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        began = time.monotonic()
        with monkeypatch.context() as patched:
            patched.setattr(time, "monotonic", lambda: began)
            host = Host()
            patched.setattr(time, "monotonic", lambda: began + 12.34567)
            assert host.properties()["uptime"] == 12.346

    asyncio.run(test())


@pytest.mark.parametrize("host_id", ["foyer-pi", "me", "me@10.0.0.1:2004", "me@192.168.0.1:9"])
def test_a_host_knows_itself_by_its_name_and_its_origin_wherever_it_is(host_id: str) -> None:
    async def test(host: Host) -> None:
        host.registry.add("ham", lambda _params, _caller: "here", help="", signatures=[])
        asked = {"method_name": "ham", "host_id": host_id}
        assert await host.calls.method_call([asked], HERE) == "here"
        assert host.elsewhere == []

    with_host(test)


@pytest.mark.parametrize("host_id", ["stage-pi", "you@10.0.0.1:2004", "other"])
def test_other_hosts_are_called_by_the_role(host_id: str) -> None:
    async def test(host: Host) -> None:
        host.registry.add("ham", lambda _params, _caller: "here", help="", signatures=[])
        asked = {"method_name": "ham", "host_id": host_id, "data": 1}
        assert await host.calls.method_call([asked], HERE) == "elsewhere"
        assert host.elsewhere == [(host_id, "ham", {"data": 1})]

    with_host(test)


@pytest.mark.parametrize(("argument", "params"), [({"data": 1}, [{"data": 1}]), ({}, []), (None, [])])
def test_the_other_end_of_a_link_calls_with_one_argument_or_none(argument: Any, params: list[Any]) -> None:
    async def test(host: Host) -> None:
        host.registry.add("ham", lambda given, caller: (given, caller), help="", signatures=[])
        assert await host.dispatch("ham", argument, FAR) == (params, FAR)
        with pytest.raises(NoSuchMethod):
            await host.dispatch("spam", argument, FAR)

    with_host(test)


def test_a_hangup_loads_changed_code_and_a_button_that_of_one_package() -> None:
    async def test(host: Host) -> None:
        await host.hangup()
        await View(host).reload("ham")
        assert host.control.asked == ["reload changed", "load or reload ham"]

    with_host(test)


def test_a_role_finds_the_socket_that_is_bound_already() -> None:
    async def test(host: Host) -> None:
        assert host.listening == "the socket"

    with_host(test)


def test_every_host_has_these_methods() -> None:
    async def test(host: Host) -> None:
        host.serve()
        names = host.registry.names()
        assert {"system.listMethods", "co2.plugin.reload", "method_call", "web.method_call"} <= set(names)
        assert host.registry.entry("method_call").help.startswith("Call a method by name.")
        assert host.registry.entry("method_call").signatures == [["any", "struct"]]
        for caller, whole in ((HERE, True), (FAR, False)):
            found = await host.registry.dispatch("co2.get_properties", [], caller)
            assert (found["plugins"][0]["last_error"] == ERROR) is whole
        assert host.server.connections == 0

    with_host(test)


def test_the_routes_that_every_host_has_know_this_host_and_others() -> None:
    async def test(host: Host) -> None:
        handlers = host.routes.handlers()
        for path, caller, expected in (
            (
                "/api/methods",
                FAR,
                b'{"name":"spam.eggs","hosts":["spam@10.0.0.8:2004"]}',
            ),
            ("/api/status", HERE, b'"host_id":"me@10.0.0.1:2004"'),
            ("/api/status", HERE, b"/home/ada"),
        ):
            route = next(one for one in ROUTES if one.path == path)
            answer = await handlers[path](DoorRequest(route, "", {}, b"", False, caller))
            assert expected in answer.body

    with_host(test)


def test_pages_of_satellites_and_of_the_owner_are_served_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(host_module, "HttpServer", lambda **given: served.append(given))
    far = cast(FarSatellites, object())

    async def test(_host: Host) -> None:
        Host().serve()
        Host().serve(far=far)
        Host().serve(own_pages=tmp_path)

    with_host(test)
    plain, with_far, with_own = served
    render = cast(Any, None)
    assert with_far["pages"].keys() - plain["pages"].keys() == make_satellite_pages(far, render).keys()
    assert with_far["buttons"].keys() - plain["buttons"].keys() == make_satellite_buttons(far, render).keys()
    assert with_own["buttons"].keys() == plain["buttons"].keys()
    assert [path for path in with_own["pages"] if path not in plain["pages"]] == ["/pages/*"]
    for given in served:
        assert given["pages"].keys() >= {"/", "/methods"}
        assert given["allowed_hosts"] == ("foyer.example",)
        assert {"/api/call/", "/api/methods", "/api/status"} <= given["door"].keys()


def test_only_a_relay_has_these_pages() -> None:
    async def test(host: Host) -> None:
        view = View(host)
        assert (view.name, view.host_id) == ("foyer-pi", "me@10.0.0.1:2004")
        assert await view.dead_letters("ham", 10) == ()
        assert await view.satellites() == view.away(10) == ()
        assert view.away_states() == {}
        assert [row.name for row in view.plugins()] == ["ham"]

    with_host(test)
