"""Every statement of the plugin API document of 2003, as a test against real hosts.

The names of the tests are the statements. ``ham``, ``eggs`` … are in ``plugins/`` beside this file.
"""

import re
import shutil
import xmlrpc.client
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import PLUGINS, Network, Receiver, lines
from tests.harness import RECORDER, HostProcess, Proxy, running, wait_for, write_plugin

# ---- overview ------------------------------------------------------------------------------------------


def test_what_one_plugin_sends_the_plugins_of_other_satellites_receive(
    network: Network, at_b: Receiver, token: str
) -> None:
    network.call("ham.spam.send", [token, {}])
    assert at_b(lambda m: m["data"] == token)["data"] == token


def test_nobody_hears_itself(network: Network, at_b: Receiver, token: str) -> None:
    network.call("ham.spam.send", [token, {}])
    network.call("recorder.rec.send", {"data": f"{token} answer"}, network.b)
    wait_for(lambda: any(m["data"] == f"{token} answer" for m in network.spam()))
    assert not [m for m in network.spam() if m["data"] == token]


def test_co2_and_xmlrpc_are_kept_transparent_one_import_is_enough() -> None:
    code = (PLUGINS / "ham" / "spam.py").read_text()
    assert re.findall(r"^(?:from|import) .*co2.*$", code, re.M) == ["from co2 import plugin"]


def test_the_hands_on_description_is_plugin_example_example() -> None:
    import co2.plugins.example.example as example

    assert Path(example.__file__).parts[-3:] == ("plugins", "example", "example.py")
    assert "class X_" in Path(example.__file__).read_text()


# ---- plugin stages: start-up ---------------------------------------------------------------------------


def states(network: Network) -> dict[str, dict[str, Any]]:
    with network.a.proxy() as proxy:
        return {row["name"]: row for row in proxy.co2.get_properties()["plugins"]}


def test_packages_listed_in_plugin_list_of_config_py_are_loaded(network: Network) -> None:
    loaded = {name for name, row in states(network).items() if row["state"] == "running"}
    assert {"ham", "eggs", "farewell", "own_log"} <= loaded


def test_config_py_is_read_and_never_executed(network: Network) -> None:
    assert "raise SystemExit" in (network.a.folder / "plugins" / "config.py").read_text()
    assert network.a.process.poll() is None


def test_a_package_that_is_not_listed_is_not_loaded(network: Network) -> None:
    assert "unlisted" not in states(network)


def test_modules_listed_in_all_are_loaded_and_no_others(network: Network) -> None:
    with network.a.proxy() as proxy:
        names = proxy.system.listMethods()
    assert "ham.spam.call_me" in names
    assert not [name for name in names if "hidden" in name]


def test_without_all_every_module_is_loaded(network: Network) -> None:
    with network.a.proxy() as proxy:
        names = proxy.system.listMethods()
    assert {"eggs.base.base", "eggs.bacon.shout"} <= set(names)


def test_classes_whose_name_does_not_begin_with_x_are_ignored(network: Network) -> None:
    with network.a.proxy() as proxy:
        assert not [name for name in proxy.system.listMethods() if name.endswith("never")]


def test_classes_that_are_no_subclass_of_co2plugin_are_ignored(network: Network) -> None:
    with network.a.proxy() as proxy:
        assert not [name for name in proxy.system.listMethods() if name.endswith("neither")]


def test_an_imported_class_does_not_load_twice(network: Network, proxy: Proxy) -> None:
    plugins = next(r["plugins"] for r in proxy.relay.get_satellites() if r["host_id"] == network.a.host_id)
    assert [name for name in plugins if name.endswith("X_Base")] == ["eggs.base.X_Base"]


def test_x_methods_are_callable_through_xmlrpc(network: Network) -> None:
    assert network.call("ham.spam.call_me", "nih!") == {"called": "nih!"}


def test_two_classes_of_a_module_with_the_same_x_name_are_refused_naming_both(network: Network) -> None:
    row = states(network)["dup"]
    assert row["state"] == "failed"
    assert "X_First" in row["last_error"]
    assert "X_Second" in row["last_error"]


# ---- plugin stages: run-time and shutdown --------------------------------------------------------------


def test_data_received_through_notify_is_passed_to_receive(notified: HostProcess, token: str) -> None:
    with notified.proxy() as proxy:
        assert proxy.notify({"host_id": "someone@127.0.0.1:2003", "data": token}) is True
    wait_for(lambda: any(m["data"] == token for m in lines(notified.folder / "spam.jsonl")))


def test_data_of_send_is_relayed_to_the_network(network: Network, proxy: Proxy, token: str) -> None:
    me = proxy.relay.register({})
    network.call("ham.spam.send", [token, {}])
    fetched = proxy.relay.fetch({"host_id": me["host_id"], "after": me["position"], "wait": 10})
    assert [m["data"] for m in fetched["messages"]] == [token]
    proxy.relay.unregister({"host_id": me["host_id"]})


def test_on_shutdown_each_exit_is_called_and_the_goodbye_message_goes_out(
    network: Network, at_b: Receiver, tmp_path: Path
) -> None:
    shutil.copytree(PLUGINS / "farewell", tmp_path / "plugins" / "farewell")
    with running(tmp_path, "satellite", "--relay", network.relay.url) as satellite:
        host_id = satellite.host_id
        with network.relay.proxy() as proxy:
            wait_for(lambda: host_id in [row["host_id"] for row in proxy.relay.get_satellites()])
        assert satellite.stop() == 0
    assert (tmp_path / "exited").read_text() == "yes"
    assert at_b(lambda m: m["data"] == "goodbye" and m["host_id"] == host_id)
    with network.relay.proxy() as proxy:
        assert host_id not in [row["host_id"] for row in proxy.relay.get_satellites()]


def test_exit_works_in_its_three_argument_form_too(network: Network, tmp_path: Path) -> None:
    shutil.copytree(PLUGINS / "farewell", tmp_path / "plugins" / "farewell")
    with running(tmp_path, "satellite", "--relay", network.relay.url) as satellite:
        assert satellite.stop() == 0
    assert (tmp_path / "exited-three").read_text() == "(None, None, None)"


# ---- overriding ----------------------------------------------------------------------------------------


def test_init_can_be_overridden_and_gets_var_dict(network: Network) -> None:
    assert {"host_id", "relay", "role"} <= set(network.call("ham.spam.var_dict", None))


def test_init_must_call_the_superclass_and_is_told_so(network: Network) -> None:
    row = states(network)["no_super"]
    assert row["state"] == "failed"
    assert "X_Forgot" in row["last_error"]
    assert "__init__" in row["last_error"]
    assert "forgot.py" in row["last_error"] or "forgot.py" in network.a.log()


def test_receive_over_one_second_is_warned_of_with_the_plugins_name(network: Network) -> None:
    network.call("recorder.rec.send", {"data": "take your time"}, network.b)
    found = wait_for(
        lambda: [row for row in network.a.log().splitlines() if "eggs.bacon.X_Bacon" in row and "receive" in row],
        "a warning that names the slow plugin",
    )
    assert "WARNING" in found[0].upper()


def test_log_writes_to_the_servers_log(network: Network) -> None:
    wait_for(lambda: "spam says hello log" in network.a.log("co2.log"))


def test_debug_writes_to_a_file_of_its_own(network: Network) -> None:
    wait_for(lambda: "spam says hello debug" in network.a.log("debug.log"))
    assert "spam says hello debug" not in network.a.log("co2.log")


def test_requests_are_logged_apart(network: Network) -> None:
    with network.a.proxy() as proxy:
        proxy.ping()
    wait_for(lambda: "POST" in network.a.log("access.log"))
    assert "POST /RPC2" not in network.a.log("co2.log")


def test_log_can_be_overridden(network: Network, token: str) -> None:
    network.call("own_log.own.speak", token)
    assert f"mine: {token}" in (network.a.folder / "own.log").read_text()
    assert token not in network.a.log("co2.log")


def test_debug_can_be_overridden(network: Network, token: str) -> None:
    network.call("own_log.own.speak", token)
    assert f"mine too: {token}" in (network.a.folder / "own-debug.log").read_text()
    assert token not in network.a.log("debug.log")


def test_str_and_repr_default_to_package_module_class(network: Network) -> None:
    assert network.call("ham.spam.names", None) == ["ham.spam.X_Spam", "ham.spam.X_Spam"]


def test_str_can_be_overridden_and_appears_in_the_log(network: Network) -> None:
    assert network.call("eggs.bacon.shout", None) == "crispy bacon"
    wait_for(lambda: "bacon is here" in network.a.log())
    line = next(row for row in network.a.log().splitlines() if "bacon is here" in row)
    assert "crispy bacon" in line


# ---- argument format -----------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [(), (1,), ("data",), ({"data": 1}, {"data": 2}), ([1],)])
def test_each_call_has_exactly_one_argument_of_type_dictionary(network: Network, params: tuple[Any, ...]) -> None:
    with network.a.proxy() as proxy, pytest.raises(xmlrpc.client.Fault) as caught:
        proxy.ham.spam.call_me(*params)
    assert caught.value.faultCode == -32602
    assert "dictionary" in caught.value.faultString


def test_the_key_data_is_mandatory_in_a_call(network: Network) -> None:
    with network.a.proxy() as proxy, pytest.raises(xmlrpc.client.Fault) as caught:
        proxy.ham.spam.call_me({"date": 1})
    assert caught.value.faultCode == -32602
    assert "'data'" in caught.value.faultString


def test_the_key_data_is_mandatory_in_send(network: Network) -> None:
    assert network.call("ham.spam.send_raw", {"date": 2}) == "MessageError"


def test_what_is_sent_is_a_dictionary(network: Network) -> None:
    assert network.call("ham.spam.send_raw", [1, 2]) == "MessageError"


@pytest.mark.parametrize(
    "data",
    [
        2,
        [1, 2, 3, "shrubbery"],
        [{"john": "cleese", "terry": "gilliam"}, "nih!", 0.815],
    ],
)
def test_the_examples_of_valid_sends_arrive(network: Network, at_b: Receiver, token: str, data: Any) -> None:
    network.call("ham.spam.send", [data, {"token": token}])
    assert at_b(lambda m: m.get("token") == token)["data"] == data


def test_hierarchies_of_any_types_travel(network: Network, at_b: Receiver, token: str) -> None:
    data = {"list": [[1, [2.5, [None, True]]]], "text": "h\u00e4m & <eggs>", "deep": {"er": {"still": []}}}
    network.call("ham.spam.send", [data, {"token": token}])
    assert at_b(lambda m: m.get("token") == token)["data"] == data


def test_other_keys_travel_along(network: Network, at_b: Receiver, token: str) -> None:
    keys = {"token": token, "channel": "stage.left", "id": 7, "position": [1, 2], "keys": "b-flat"}
    network.call("ham.spam.send", [1, keys])
    message = at_b(lambda m: m.get("token") == token)
    assert {key: message[key] for key in keys} == keys


def test_receive_gets_host_id_and_client_address(network: Network, at_b: Receiver, token: str) -> None:
    network.call("ham.spam.send", [token, {}])
    message = at_b(lambda m: m["data"] == token)
    assert message["host_id"] == network.a.host_id
    ip, port = message["client_address"]
    assert ip == "127.0.0.1"
    assert 0 < port < 65536


def test_client_address_is_a_tuple(network: Network, token: str) -> None:
    network.call("recorder.rec.send", {"data": token}, network.b)
    message = wait_for(lambda: next((m for m in network.spam() if m["data"] == token), None))
    assert message["address_type"] == "tuple"


def test_receive_gets_nothing_but_the_senders_keys_and_those_two(
    network: Network, at_b: Receiver, token: str
) -> None:
    network.call("ham.spam.send", [token, {"mine": 1}])
    assert set(at_b(lambda m: m["data"] == token)) == {"data", "mine", "host_id", "client_address"}


def test_host_id_set_by_the_plugin_is_overwritten(network: Network, at_b: Receiver, token: str) -> None:
    network.call("ham.spam.send", [token, {"host_id": "evil@10.0.0.1:1", "client_address": ["10.0.0.1", 1]}])
    message = at_b(lambda m: m["data"] == token)
    assert message["host_id"] == network.a.host_id
    assert message["client_address"][0] == "127.0.0.1"


def test_host_id_is_mandatory_in_the_protocol(proxy: Proxy, at_b: Receiver, token: str) -> None:
    """Each message has one: the relay sets it for who gives none, and refuses what is none."""
    proxy.relay.relay({"data": token})
    assert re.fullmatch(r"[A-Za-z0-9_-]+@127\.0\.0\.1:0", at_b(lambda m: m["data"] == token)["host_id"])
    with pytest.raises(xmlrpc.client.Fault) as caught:
        proxy.relay.relay({"data": token, "host_id": "nobody"})
    assert caught.value.faultCode == -32602
    assert "host_id" in caught.value.faultString


@pytest.mark.parametrize("host_id", ["1@10.1.2.3:2004", "1@[::2]:2004"])
def test_the_relay_checks_host_id_against_the_requests_address(proxy: Proxy, host_id: str) -> None:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        proxy.relay.relay({"host_id": host_id, "data": 1})
    assert caught.value.faultCode == 1001
    with pytest.raises(xmlrpc.client.Fault) as caught:
        proxy.relay.register({"host_id": host_id})
    assert caught.value.faultCode == 1001


def test_host_ids_are_random_at_ip_and_port_that_the_server_listens_on(network: Network) -> None:
    for host in (network.relay, network.a, network.b):
        assert re.fullmatch(rf"[A-Za-z0-9_-]{{8,}}@127\.0\.0\.1:{host.port}", host.host_id)
    origins = {host.host_id.partition("@")[0] for host in (network.relay, network.a, network.b)}
    assert len(origins) == 3


# ---- naming conventions --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sys", "system", "co2", "relay", "web"])
def test_reserved_package_names_are_ignored_with_a_warning_that_says_why(network: Network, name: str) -> None:
    with network.a.proxy() as proxy:
        assert f"{name}.mod.reserved" not in proxy.system.listMethods()
    assert re.search(rf"['\"]?{name}['\"]?.*reserved", network.a.log())


def test_x_methods_are_named_package_module_method_with_x_stripped(network: Network) -> None:
    with network.a.proxy() as proxy:
        names = proxy.co2.get_method_names()
    assert "ham.spam.call_me" in names
    assert not [name for name in names if name.rpartition(".")[2].startswith("x_")]
    assert not [name for name in names if "not_exposed" in name]


@pytest.mark.parametrize("name", ["co2.get_method_names", "system.listMethods", "web.get_method_names"])
def test_x_methods_show_up_in_the_answer_to_get_method_names_and_its_equivalents(
    network: Network, name: str
) -> None:
    with network.a.proxy() as proxy:
        assert "ham.spam.call_me" in getattr(proxy, name)()


def test_x_methods_are_known_to_all_satellites(network: Network) -> None:
    def known() -> bool:
        with network.b.proxy() as proxy:
            rows = proxy.co2.get_properties()["network"]
        return any("ham.spam.call_me" in row["methods"] for row in rows)

    wait_for(known, "b knows a's methods")


def test_other_hosts_call_x_methods_bypassing_notify(network: Network) -> None:
    with network.b.proxy() as proxy:
        called = proxy.method_call({"method_name": "ham.spam.call_me", "data": 5, "host_id": network.a.host_id})
    assert called == {"called": 5}


# ---- what the original left for later ------------------------------------------------------------------


def test_plugins_of_one_satellite_hear_each_other_directly(tmp_path: Path, token: str) -> None:
    write_plugin(tmp_path, "one", rec=RECORDER)
    write_plugin(tmp_path, "two", rec=RECORDER.replace("received", "two"))
    with running(tmp_path, "satellite", "--relay", "http://127.0.0.1:9") as satellite, satellite.proxy() as proxy:
        proxy.one.rec.send({"data": {"data": token}})
        text = wait_for(lambda: (tmp_path / "two.jsonl").read_text() if (tmp_path / "two.jsonl").exists() else "")
        assert token in text
        assert satellite.host_id in text
        assert not (tmp_path / "received.jsonl").exists()


def test_a_failing_x_method_is_a_fault_that_names_it_and_not_a_ko(network: Network) -> None:
    with network.a.proxy() as proxy, pytest.raises(xmlrpc.client.Fault) as caught:
        proxy.ham.spam.fail({"data": 1})
    assert caught.value.faultCode == 1008
    assert "the parrot is dead" in caught.value.faultString
    assert "Traceback" not in caught.value.faultString
    wait_for(lambda: "the parrot is dead" in network.a.log())
