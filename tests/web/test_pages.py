"""Pages as a browser gets them: over HTTP, with everything an attacker could put on them."""

import asyncio
import dataclasses
import json
import re
import shlex
import sys
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from co2.protocol.wire.package_health import Health
from co2.server.http.limits import Limits
from co2.server.http.server import HttpServer, bind_socket
from co2.thread_priority import INTERVAL, USUAL_INTERVAL
from co2.web.metrics import LAGS_TOLD
from co2.web.page import PageRequest
from co2.web.pages import make_pages
from co2.web.rates import Rates
from co2.web.trouble import network_trouble
from co2.web.view import AwayRow, DeadLetterRow
from co2.xmlrpc.registry import Registry
from tests.web import fakes

HTML_PATHS = ("/", "/methods", "/plugins", "/satellites")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.text = body.decode()


def get(view, *paths, method="GET"):
    """Ask a real server for these paths, one after the other."""

    async def ask():
        server = HttpServer(
            registry=Registry(), pages=make_pages(view), limits=Limits(), allowed_hosts=(), access_log=None
        )
        sock = bind_socket("127.0.0.1", 0, next_free=False)
        await server.start(sock)
        answers = []
        async with aiohttp.ClientSession(f"http://127.0.0.1:{sock.getsockname()[1]}") as session:
            for path in paths:
                async with session.request(method, path) as response:
                    answers.append(Answer(response.status, response.headers, await response.read()))
        await server.stop()
        return answers

    return asyncio.run(ask())


class Tags(HTMLParser):
    """Collects tags and attributes, and insists that all are closed."""

    VOID = frozenset(("meta", "link", "img", "br"))

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.said = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said += data


@pytest.mark.parametrize(("view", "paths"), [(fakes.relay, HTML_PATHS), (fakes.satellite, HTML_PATHS[:3])])
def test_every_page_is_whole_html_with_headers_that_trust_nothing(view, paths):
    for answer in get(view(), *paths):
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'"
        )
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        tags = Tags(answer.text)
        names = {tag for tag, _ in tags.found}
        assert not names & {"script", "style", "iframe", "object", "input"}
        forms = [attrs for tag, attrs in tags.found if tag == "form"]
        assert all(form["action"].startswith("/plugins/reload?package=") for form in forms)
        assert not [attrs for _, attrs in tags.found for key in attrs if key == "style" or key.startswith("on")]
        assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags.found


def test_pages_are_written_one_at_a_time_and_let_the_event_loop_go_on_soon():
    seen, writing = [], []

    class Watched(str):
        """Notes what is the case while it is written."""

        def __html__(self):
            writing.append(1)
            time.sleep(0.01)  # others have their turn
            seen.append((len(writing), sys.getswitchinterval()))
            writing.pop()
            return "watched"

    view = fakes.satellite()
    view.version = Watched("x")
    page = make_pages(view)["/"]

    async def ask():
        request = PageRequest("/", {}, "127.0.0.1", True)
        return await asyncio.gather(*[page(request) for _ in range(20)])

    answers = asyncio.run(ask())
    assert all(b"watched" in answer.body for answer in answers)
    assert len(seen) >= 20
    assert {together for together, _ in seen} == {1}
    assert max(interval for _, interval in seen) == pytest.approx(INTERVAL)
    assert sys.getswitchinterval() == pytest.approx(USUAL_INTERVAL)


def test_the_rows_of_one_page_at_a_time_are_in_memory():
    view = fakes.relay()
    held, most, rows = 0, 0, view.satellites

    async def satellites(*, here=False):
        nonlocal held, most
        held += 1
        most = max(most, held)
        found = await rows(here=here)
        await asyncio.sleep(0)
        return found

    view.satellites = satellites
    pages = make_pages(view)

    async def page(path):
        nonlocal held
        found = await pages[path](PageRequest(path, {}, "127.0.0.1", True))
        held -= 1
        return found

    async def ask():
        return await asyncio.gather(*(page(path) for path in ("/", "/satellites") * 20))

    assert {answer.status for answer in asyncio.run(ask())} == {200}
    assert most == 1


def test_writing_pages_keeps_nobody_else_from_a_thread():
    go_on = threading.Event()

    class Slow(str):
        def __html__(self):
            go_on.wait(10)
            return ""

    view = fakes.satellite()
    view.version = Slow("x")
    page = make_pages(view)["/"]

    async def ask():
        request = PageRequest("/", {}, "127.0.0.1", True)
        pages = [asyncio.ensure_future(page(request)) for _ in range(100)]
        await asyncio.sleep(0)  # all of them have begun
        try:
            async with asyncio.timeout(5):
                assert await asyncio.to_thread(lambda: "done") == "done"
        finally:
            go_on.set()
        await asyncio.gather(*pages)

    asyncio.run(ask())


def test_what_the_pages_link_to_exists():
    view = fakes.relay()
    pages = make_pages(view)
    for answer in get(view, *HTML_PATHS):
        for tag, attrs in Tags(answer.text).found:
            for key in ("href", "src"):
                target = attrs.get(key, "#")
                assert target.startswith(("#", "http://")) or target in pages, (tag, target)


def test_a_satellite_has_no_page_of_satellites():
    view = fakes.satellite()
    assert "/satellites" not in make_pages(view)
    assert "/satellites" not in get(view, "/")[0].text


def test_overview_tells_software_hardware_and_what_is_wrong():
    view = fakes.satellite()
    view.problems = ("not registered at http://192.168.1.10:2003: connection refused",)
    said = Tags(get(view, "/")[0].text).said
    for expected in (
        "CPython 3.13.2",
        "aarch64",
        "3.793 GiB",
        "3 h 12 min",
        "1,843,020",
        "not ready",
        "connection refused",
        "meter",
    ):
        assert expected in said


def test_methods_show_help_and_signatures():
    said = Tags(get(fakes.satellite(), "/methods")[0].text).said
    assert "(struct) → struct" in said
    assert "() → boolean" in said
    assert "Return the number of messages from each host." in said
    assert said.index("example.example.count") < said.index("system.listMethods")


def test_plugins_show_state_error_and_restarts():
    said = Tags(get(fakes.satellite(), "/plugins")[0].text).said
    for expected in ("running", "failed", "super().__init__(var_dict)", "3 h 12 min ago", "desk bridge", "4712"):
        assert expected in said


def test_plugins_show_what_they_use_and_may_use():
    said = " ".join(Tags(get(fakes.satellite(), "/plugins")[0].text).said.split())
    memory = "memory21 MiB address space118 MiB of 2 GiB"
    for expected in (memory, "12", "1 min 30 s of 10 min", "5 deaths a minute, those in one message count once"):
        assert expected in said


def test_plugins_without_any():
    view = fakes.satellite()
    view.packages = []
    assert "--plugin example" in get(view, "/plugins")[0].text
    assert "satellites" in get(fakes.relay(), "/plugins")[0].text


def test_satellites_link_to_their_own_page_where_they_have_one():
    tags = Tags(get(fakes.relay(), "/satellites")[0].text)
    links = [attrs["href"] for tag, attrs in tags.found if tag == "a" and attrs["href"].startswith("http")]
    assert links == ["http://192.168.1.20:2004/"]
    assert "No link to its page: it listens on 127.0.0.1." in tags.said
    assert "desk_patch@192.168.1.31:0" in tags.said


def test_trouble_of_all_satellites_is_on_top_of_a_relay_s_first_page():
    first, satellites = get(fakes.relay(), "/", "/satellites")
    said = " ".join(Tags(first.text).said.split())
    assert "2 plugin packages in trouble" in said
    assert said.index("Trouble") < said.index("Satellites 3")
    for one in (
        "osc parked on foyer-pi",
        "its plugin host died",
        "on that machine: co2 plugin reload osc --url http://127.0.0.1:2004",
    ):
        assert one in said.partition("Trouble")[2].partition("Satellites 3")[0]
    assert "is parked: its" not in said, "it is said once"
    assert said.index("osc parked on") < said.index("meter restarting on"), "what mends itself comes later"
    assert '<span class="state bad">trouble</span>' in first.text
    for answer in (first, satellites):
        assert "osc parked" in " ".join(Tags(answer.text).said.split())
        assert "example" in answer.text
    assert '<span class="state good"><code>example</code>' in satellites.text
    assert '<span class="state bad"><code>osc</code> parked' in satellites.text


def test_where_all_satellites_are_away_nobody_reads_that_there_are_none_yet():
    view = fakes.relay()
    view.satellite_rows = []
    for answer in get(view, "/", "/satellites"):
        assert "None yet. Start one" in answer.text
    view.away_rows = [AwayRow("8f3a61c29b04d7e5@192.168.1.20:2004", "away", 60.0, 1e9)]
    for answer in get(view, "/", "/satellites"):
        assert "None is linked" in answer.text
        assert "None yet" not in answer.text


@pytest.mark.parametrize("state", ["failed", "running"])
@pytest.mark.parametrize("letters", [0, 1])
def test_a_command_to_type_is_one_command_whatever_a_package_is_called(state, letters):
    name = "p; touch x\u202e #"
    row = dataclasses.replace(fakes.relay().satellite_rows[0])
    packages = [Health(name, state, 1, 0.0, letters, False, "E", 1.0)]
    (told,) = network_trouble([dataclasses.replace(row, packages=packages)])
    assert "p; touch x\\u202e #" in shlex.split(told.command)


def test_a_command_is_for_the_viewers_machine_where_the_relay_passes_it_on():
    row = dataclasses.replace(fakes.relay().satellite_rows[0], reach="--host foyer-pi")
    packages = [
        Health("ham", "failed", 1, 0.0, 0, False, "E", 1.0),
        Health("eggs", "failed", 0, 0.0, 0, False, "E", 1.0),
    ]
    ham, eggs = network_trouble([dataclasses.replace(row, packages=packages)])
    assert (ham.command, ham.is_here) == ("co2 plugin reload ham --host foyer-pi", True)
    # The relay makes nobody load what is not loaded.
    assert (eggs.command, eggs.is_here) == ("co2 plugin load eggs --url http://127.0.0.1:2004", False)


def test_all_is_well_where_nothing_is_in_trouble():
    view = fakes.relay()
    view.satellite_rows = [dataclasses.replace(row, packages=None) for row in view.satellite_rows]
    said = Tags(get(view, "/")[0].text).said
    assert "rouble" not in said


def test_packages_that_do_not_run_are_on_top_and_say_what_came_of_a_button():
    view = fakes.satellite()
    (answer,) = get(view, "/plugins?pressed=meter")
    assert answer.text.index('id="meter"') < answer.text.index('id="example"')
    assert answer.text.count("Loading failed") == 1
    view.packages[0] = msgspec.structs.replace(view.packages[0], refused=True, last_error="no parrot")
    assert "the previous code keeps running: no parrot" in get(view, "/plugins?pressed=example")[0].text
    view.packages[0] = msgspec.structs.replace(
        view.packages[0], refused=False, load=3, code="abc", reloads={"ok": 1, "failed": 0, "reverted": 0}
    )
    (answer,) = get(view, "/plugins?pressed=example")
    assert "It runs the code that is in its folder: load 3, code <code>abc</code>." in answer.text
    assert "Loading failed" not in answer.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"refused": True}, "new code refused"),
        ({"dead_letters": 2}, "2 dead letters"),
        ({"hangs": 3.0}, "hangs"),
        ({"last_error": "no parrot", "last_error_age": 5.0}, "error 5 s ago"),
    ],
)
def test_a_running_package_in_trouble_says_so_on_its_own_host_above_those_that_are_well(changes, words):
    view = fakes.satellite()
    view.counted = dataclasses.replace(view.counted, queues={"dead_letters": 5})
    view.packages[1] = msgspec.structs.replace(view.packages[1], **changes)
    for answer in get(view, "/", "/plugins"):
        said = " ".join(Tags(answer.text).said.split())
        assert f"osc running, {words}" in said or f"running, {words} osc" in said
        assert f'<span class="state bad">running, {words}</span>' in answer.text
        plugins = said.partition("Plugins")[2]
        assert plugins.index("meter") < plugins.index("osc") < plugins.index("example")


def test_dead_letters_that_are_dropped_or_repeated_are_no_trouble():
    view = fakes.satellite()
    view.counted = dataclasses.replace(view.counted, queues={"dead_letters": 0})
    view.packages[0] = msgspec.structs.replace(view.packages[0], dead_letters=2)
    assert '<span class="state good">running</span> <code>example' in " ".join(get(view, "/")[0].text.split())


def test_a_satellite_links_to_its_relay():
    links = [attrs.get("href") for tag, attrs in Tags(get(fakes.satellite(), "/")[0].text).found if tag == "a"]
    assert "http://192.168.1.10:2003/" in links


def test_counters_show_how_fast_they_grow():
    now = [0.0]
    rates = Rates(lambda: now[0])
    assert rates.look({"relayed": 10, "takeovers": 0}) == {}
    now[0] = 1.0
    assert rates.look({"relayed": 110, "takeovers": 0}) == {}, "too soon to tell"
    now[0] = 4.0
    assert rates.look({"relayed": 210, "takeovers": 0}) == {"relayed": 50.0}
    now[0] = 5.0
    assert rates.look({"relayed": 210}) == {"relayed": 50.0}, "what was told stays for a moment"
    now[0] = 7.0
    assert rates.look({"relayed": 210}) == {}
    said = " ".join(Tags(get(fakes.relay(), "/")[0].text).said.split())
    assert "1,933,253" in said and "All 6 counters" in said


def test_satellites_without_any():
    view = fakes.relay()
    view.satellite_rows = []
    for answer in get(view, "/", "/satellites"):
        assert "co2 satellite" in answer.text


@pytest.mark.parametrize("role", ["relay", "satellite"])
def test_nothing_that_others_say_becomes_markup(role):
    view = fakes.evil(role)
    paths = HTML_PATHS if role == "relay" else HTML_PATHS[:3]
    for path, answer in zip(paths, get(view, *paths), strict=True):
        tags = Tags(answer.text)
        names = {tag for tag, _ in tags.found}
        assert "script" not in names
        images = [attrs["src"] for tag, attrs in tags.found if tag == "img"]
        assert images == ["/static/co2.svg"]
        assert not [attrs for _, attrs in tags.found for key in attrs if key.startswith("on")]
        for _, attrs in tags.found:
            assert attrs.get("href", "/").startswith(("/", "#", "http://1.2.3.4"))
        assert "{{7*7}}" in tags.said, path
        assert "<script>alert(1)</script>" in tags.said


def test_a_very_long_error_is_cut():
    view = fakes.evil("satellite")
    view.packages = [type(view.packages[0])(name="p", state="failed", last_error="x" * 10**6)]
    assert len(get(view, "/plugins")[0].body) < 20_000


def test_static_files():
    css, logo, icon = get(fakes.relay(), "/static/style.css", "/static/co2.svg", "/favicon.ico")
    assert css.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "prefers-color-scheme: dark" in css.text
    assert "max-age" in css.headers["Cache-Control"]
    assert logo.headers["Content-Type"] == icon.headers["Content-Type"] == "image/svg+xml"
    assert logo.headers["X-Content-Type-Options"] == "nosniff"


def test_head_answers_like_get_without_a_body():
    paths = ("/", "/plugins", "/static/style.css", "/healthz", "/metrics")
    for answer in get(fakes.relay(), *paths, method="HEAD"):
        assert answer.status == 200
        assert answer.body == b""
        assert int(answer.headers["Content-Length"]) > 0


def test_health():
    view = fakes.satellite()
    health, ready = get(view, "/healthz", "/readyz")
    assert (health.status, ready.status) == (200, 200)
    assert json.loads(health.body)["status"] == "ok"
    assert json.loads(ready.body)["ready"] is True
    view.problems = ("not registered",)
    health, ready = get(view, "/healthz", "/readyz")
    assert (health.status, ready.status) == (200, 503)
    assert json.loads(ready.body)["problems"] == ["not registered"]


def samples(view):
    [answer] = get(view, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics():
    found = samples(fakes.satellite())
    assert found["co2_messages_total", "in"] == 1843020
    assert found["co2_messages_dropped_total", "refused"] == 2
    assert found["co2_calls_total", "fault"] == 3
    assert found["co2_faults_total", "-32601"] == 3
    assert found["co2_http_requests_total", "413"] == 1
    assert found["co2_plugin_restarts_total", "osc"] == 1
    assert found["co2_plugin_up", "meter"] == 0
    assert found["co2_plugin_state", "meter", "failed"] == 1
    assert found["co2_plugin_uses", "osc", "memory_bytes"] == 21 * 2**20
    assert found["co2_plugin_uses", "osc", "address_space_bytes"] == 118 * 2**20
    assert found["co2_plugin_limit", "osc", "address_space_bytes"] == 2**31
    assert ("co2_plugin_limit", "osc", "memory_bytes") not in found
    assert found["co2_plugin_limit", "osc", "deaths"] == 5
    assert ("co2_plugin_limit", "osc", "open_files") not in found
    assert found["co2_queue_depth", "outbox"] == 7
    assert found["co2_peer_up", "relay"] == 1
    assert found["co2_ready",] == 1
    assert any(name[0] == "co2_build_info" and "0.9.0" in name for name in found)
    assert "co2_satellites" not in {name[0] for name in found}
    relay = samples(fakes.relay())
    assert relay["co2_satellites", "ok"] == 2
    assert relay["co2_satellites", "unreachable"] == 1
    assert found["co2_events_total", "send_waits"] == 9
    assert found["co2_bytes", "outbox_disk"] == 300
    assert found["co2_lagging", "packages_behind"] == 1
    lags = {name[1]: value for name, value in relay.items() if name[0] == "co2_satellite_lag"}
    assert lags == {"77aa61c29b04d7e5@[fd00::21]:2004": 4210, "desk_patch@192.168.1.31:0": 3}


def test_only_the_satellites_that_are_furthest_behind_are_told_one_by_one():
    view = fakes.relay()
    view.satellite_rows = [
        dataclasses.replace(view.satellite_rows[0], host_id=f"s{number}@10.0.0.1:1", lag=number)
        for number in range(200)
    ]
    lags = [value for name, value in samples(view).items() if name[0] == "co2_satellite_lag"]
    assert sorted(lags) == list(range(200 - LAGS_TOLD, 200))


@pytest.mark.parametrize("view", [fakes.relay, fakes.satellite])
def test_every_metric_is_in_the_docs_and_the_other_way_round(view):
    page = Path(__file__).parent.parent.parent / "docs/reference/protocol.md"
    table = page.read_text().partition("### Metrics")[2]
    documented = set(re.findall(r"`(co2_\w+)`", table))
    told = {name[0] for name in samples(view()) if name[0].startswith("co2_")}
    loose = {name for name in told if name.startswith("co2_plugin_")}
    for name in loose:
        assert f"`{name.removeprefix('co2_plugin_').removesuffix('_total')}`" in table
    assert told - loose <= documented
    both = {name[0] for made in (fakes.relay, fakes.satellite) for name in samples(made())}
    assert documented <= both


def test_metrics_survive_any_name():
    assert samples(fakes.evil("relay"))["co2_messages_total", fakes.EVIL] == 1


def test_two_hosts_in_one_process_have_their_own_metrics():
    assert samples(fakes.satellite()) != samples(fakes.relay())


@pytest.fixture
def in_japan():
    """Set the time zone of this process to one that machines of tests are not in: nine hours ahead of UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_japan")
def test_the_number_of_dead_letters_leads_to_the_last_ones():
    view = fakes.satellite()
    view.packages[0] = msgspec.structs.replace(view.packages[0], dead_letters=1234, failed=1234)
    view.letters = [
        DeadLetterRow(number, 1e9 + number, "example.example.X_Example", "a@10.0.0.7:2004", "E: no", "{'data': 5}")
        for number in range(40, 0, -1)
    ]
    (answer,) = get(view, "/plugins")
    tags = Tags(answer.text)
    assert answer.text.count('href="#letters-example"') == answer.text.count('id="letters-example"') == 1
    assert "1,234" in tags.said
    for shown in (
        "2001-09-09 10:47:20 JST",
        "a@10.0.0.7:2004",
        "E: no",
        "{'data': 5}",
        "co2 dead-letters --package example --url http://127.0.0.1:2004",
    ):
        assert shown in tags.said
    assert tags.said.count("E: no") == 20
    assert "#letters-osc" not in answer.text
