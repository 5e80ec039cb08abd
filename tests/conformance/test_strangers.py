"""Who has not registered: may send, and call plugins' methods straight at the relay."""

import contextlib
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.raw import call_body, connected, read_reply, request, send
from tests.conformance.conftest import Network, Receiver
from tests.harness import Proxy, running, wait_for, write_plugin

HAM = """
from co2 import plugin

class X_Spam(plugin.Co2Plugin):
    def x_add(self, data_dict):
        return sum(data_dict["data"])
"""


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
    assert list(multi()) == [3]
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

        def offered() -> list[str]:
            rows: Any = proxy.relay.get_satellites({})
            return [row["host_id"] for row in rows if "ham.spam.add" in row["methods"]]

        with (
            running(tmp_path / "one", "satellite", "--relay", relay.url) as one,
            running(tmp_path / "two", "satellite", "--relay", relay.url) as two,
        ):
            wait_for(lambda: len(offered()) == 2)
            with fault(1009, one.host_id, two.host_id, "method_call with host_id"):
                proxy.ham.spam.add({"data": [1]})
            assert proxy.method_call({"method_name": "ham.spam.add", "data": [1], "host_id": two.host_id}) == 1
            two.stop()
            wait_for(lambda: len(offered()) == 1)
            assert proxy.ham.spam.add({"data": [2]}) == 2, "it is at the same address, so it is as good"
        wait_for(lambda: not offered())
        with connected(relay.port, "127.0.0.9") as sock:
            send(sock, request(call_body("relay.register", {"port": 9, "methods": ["ham.spam.add"]})))
            assert read_reply(sock) is not None
        [other] = offered()
        with fault(1009, one.host_id, other, "is away"):
            proxy.ham.spam.add({"data": [3]})
        with fault(1006):
            proxy.method_call({"method_name": "ham.spam.add", "data": [3], "host_id": other})
