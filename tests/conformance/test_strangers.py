"""Who has not registered: may send, and call plugins' methods straight at the relay."""

import contextlib
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.raw import call_body, connected, read_reply, request, send
from tests.attacks.raw_link import linked
from tests.conformance.conftest import Network, Receiver
from tests.harness import HostProcess, Proxy, running, wait_for, write_plugin

HAM = """
from co2 import plugin

class X_Spam(plugin.Co2Plugin):
    def x_add(self, data_dict):
        return sum(data_dict["data"])
"""


ADD = "ham.spam.add"


def offering(proxy: Proxy) -> list[str]:
    """Return who is connected and has the method."""
    rows: Any = proxy.relay.get_satellites({})
    return [row["host_id"] for row in rows if ADD in row["methods"]]


def gone(proxy: Proxy) -> list[str]:
    """Return who is away, the last who went first."""
    rows: Any = proxy.relay.get_satellites({"away": True})
    return [row["host_id"].partition("@")[0] for row in rows if row["state"] in ("away", "stopped")]


@contextlib.contextmanager
def fault(code: int, *said: str) -> Iterator[None]:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        yield
    assert caught.value.faultCode == code, caught.value.faultString
    for words in said:
        assert words in caught.value.faultString


def test_a_message_without_a_host_id_has_one_of_the_address(proxy: Proxy, at_b: Receiver, token: str) -> None:
    assert proxy.relay.relay({"data": token}) > 0
    assert at_b(lambda m: m["data"] == token)["host_id"] == "addr-127-0-0-1@127.0.0.1:0"
    with fault(-32602, "'id'", "relay.register"):
        proxy.relay.relay({"data": token, "id": "1"})
    for malformed in (5, "", "x"):
        with fault(-32602):
            proxy.relay.relay({"data": token, "host_id": malformed})


@pytest.mark.parametrize("method", ["register", "relay"])
def test_nobody_takes_the_host_id_of_an_address(proxy: Proxy, method: str) -> None:
    with fault(1001, "addr-10-0-0-7"):
        getattr(proxy.relay, method)({"host_id": "addr-10-0-0-7@127.0.0.1:0", "data": 1})


def test_a_plugins_method_at_the_relay(network: Network, proxy: Proxy) -> None:
    assert proxy.ham.spam.add({"data": [40, 2]}) == 42
    multi = xmlrpc.client.MultiCall(proxy)
    multi.ham.spam.add({"data": [1, 2]})
    assert [*iter(multi())] == [3]
    with fault(-32602, "dictionary"):
        proxy.ham.spam.add(5)


def test_a_slip_is_told_with_what_was_meant(proxy: Proxy) -> None:
    for name in ("ham.spam.ad", "hm.spam.add"):
        with fault(-32601, "did you mean 'ham.spam.add'?"):
            getattr(proxy, name)({"data": 1})
        with fault(-32601, "did you mean 'ham.spam.add'?"):
            proxy.method_call({"method_name": name, "data": 1})
    with fault(-32601):
        proxy.method_call({"method_name": "ham.spam.add", "host_id": proxy.co2.get_properties()["host_id"]})


def test_who_is_meant_is_asked_where_it_is_not_clear(tmp_path: Path) -> None:
    """Two have it; then one that is away had it, and somebody at another address says that it has it now."""
    for name in ("one", "two"):
        write_plugin(tmp_path / name, "ham", spam=HAM)
    with running(tmp_path / "relay", "relay") as relay, relay.proxy() as proxy:
        with (
            running(tmp_path / "one", "satellite", "--relay", relay.url) as one,
            running(tmp_path / "two", "satellite", "--relay", relay.url) as two,
        ):
            wait_for(lambda: len(offering(proxy)) == 2)
            with fault(1009, one.host_id, two.host_id, "method_call with host_id"):
                proxy.ham.spam.add({"data": [1]})
            assert proxy.method_call({"method_name": "ham.spam.add", "data": [1], "host_id": two.host_id}) == 1
            two.stop()
            wait_for(lambda: len(offering(proxy)) == 1)
            assert proxy.ham.spam.add({"data": [2]}) == 2, "it is at the same address, so it is as good"
        wait_for(lambda: not offering(proxy))
        with connected(relay.port, "127.0.0.9") as sock:
            send(sock, request(call_body("relay.register", {"port": 9, "methods": ["ham.spam.add"]})))
            assert read_reply(sock) is not None
        [other] = offering(proxy)
        with fault(1009, one.host_id, other, "is away"):
            proxy.ham.spam.add({"data": [3]})
        with fault(1006):
            proxy.method_call({"method_name": "ham.spam.add", "data": [3], "host_id": other})


def test_who_came_later_with_a_name_and_has_gone_takes_nobodys_callers_along(tmp_path: Path) -> None:
    """Whose a name was first is known over absences and starts of all of them."""
    write_plugin(tmp_path / "owner", "ham", spam=HAM)
    with running(tmp_path / "relay", "relay") as relay, relay.proxy() as proxy:
        with running(tmp_path / "owner", "satellite", "--relay", relay.url) as owner:
            wait_for(lambda: offering(proxy) == [owner.host_id])
            with linked(relay.port, "stranger", "127.0.0.9", ADD):
                wait_for(lambda: len(offering(proxy)) == 2)
                with fault(1009, owner.host_id, "stranger@127.0.0.9:9", "several hosts"):
                    proxy.ham.spam.add({"data": [1]})
            wait_for(lambda: gone(proxy) == ["stranger"])
            assert proxy.ham.spam.add({"data": [1]}) == 1
        wait_for(lambda: not offering(proxy))
        with linked(relay.port, "stranger", "127.0.0.9", ADD):
            wait_for(lambda: len(offering(proxy)) == 1)
            with fault(1009, owner.host_id, "is away", "stranger@127.0.0.9:9"):
                proxy.ham.spam.add({"data": [1]})
            again = HostProcess(tmp_path / "owner", "satellite", "--relay", relay.url)
            wait_for(lambda: len(offering(proxy)) == 2)
        wait_for(lambda: gone(proxy) == ["stranger"])
        assert proxy.ham.spam.add({"data": [2]}) == 2, (
            "it was away in between, and had the name first all the same"
        )
        assert again.stop() == 0
    with running(tmp_path / "relay", "relay") as relay, relay.proxy() as proxy:
        with linked(relay.port, "stranger", "127.0.0.9", ADD):
            wait_for(lambda: len(offering(proxy)) == 1)
            with fault(1009, owner.host_id.partition("@")[0], "is away"):
                proxy.ham.spam.add({"data": [3]})
            with running(tmp_path / "owner", "satellite", "--relay", relay.url):
                wait_for(lambda: len(offering(proxy)) == 2)
        with running(tmp_path / "owner", "satellite", "--relay", relay.url):
            wait_for(lambda: len(offering(proxy)) == 1 and gone(proxy) == ["stranger"])
            assert proxy.ham.spam.add({"data": [3]}) == 3


def test_nobody_gets_the_calls_of_one_that_is_back_and_whose_plugins_load(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay, relay.proxy() as proxy:
        with linked(relay.port, "owner", "127.0.0.8", ADD):
            wait_for(lambda: offering(proxy))
        wait_for(lambda: gone(proxy) == ["owner"])
        with linked(relay.port, "stranger", "127.0.0.9", ADD), linked(relay.port, "owner", "127.0.0.8"):
            wait_for(lambda: not gone(proxy) and offering(proxy) == ["stranger@127.0.0.9:9"])
            with fault(1009, "owner@127.0.0.8:9", "stranger@127.0.0.9:9", "has not announced it again"):
                proxy.ham.spam.add({"data": [1]})
