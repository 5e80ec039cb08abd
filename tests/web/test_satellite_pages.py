"""Pages of a satellite on its relay: who gets them, what a hostile satellite puts on them, the buttons."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from co2.errors import Denied, NotCallable, NotLoadable, RemoteFault, UnknownHost
from co2.protocol.wire.relay_requests import (
    LetterPart,
    LogLine,
    LogPart,
    PackageList,
    PackageReport,
    PluginReport,
    ReportedLetter,
)
from co2.server.http.gate import Gate
from co2.server.http.limits import Limits
from co2.server.http.refused import Refused
from co2.server.http.server import HttpServer, bind_socket
from co2.web.page import PageRequest, path_pattern
from co2.web.pages import Renderer, make_pages
from co2.web.satellite_pages import make_satellite_buttons, make_satellite_pages
from co2.xmlrpc.registry import Registry
from tests.web import fakes
from tests.web.fakes import EVIL
from tests.web.test_pages import Answer, Tags

NAME = "8f3a61c29b04d7e5"
ORIGIN = "77aa61c29b04d7e5"
BASE = f"/satellites/{NAME}"
EVIL_NAME = EVIL[:64]
PAGES = [f"{BASE}/", f"{BASE}/log?package=ham", f"{BASE}/letters?package=ham"]
BUTTONS = [f"{BASE}/reload?package=ham", f"{BASE}/repeat?package=ham&id=7", f"{BASE}/drop?package=ham&up_to=7"]


@dataclass
class FakeFar:
    """A satellite that says what it is told to, and writes down what it is asked."""

    reports: list[PackageReport] = field(
        default_factory=lambda: [PackageReport(name="ham", state="running", load=2)]
    )
    lines: list[LogLine] = field(default_factory=list)
    letters: list[ReportedLetter] = field(default_factory=list)
    error: Exception | None = None
    endless: bool = False
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    go_on: asyncio.Event | None = None
    view: fakes.FakeView = field(default_factory=fakes.relay)

    async def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        if self.go_on is not None:
            await self.go_on.wait()
        if self.error is not None:
            raise self.error

    def host_id(self, host: str) -> str:
        return f"{ORIGIN if host == NAME else host}@10.0.0.7:2004"

    def name(self, host: str) -> str:
        return NAME if host == ORIGIN else host

    async def packages(self, host: str, after: str, asker: str) -> PackageList:
        await self._ask("packages", host, after, asker)
        return PackageList(self.reports, more=self.endless)

    async def log(self, host: str, package: str, after: int, maximum: int, asker: str) -> LogPart:
        await self._ask("log", host, package, maximum, asker)
        return LogPart(self.lines[-maximum:], more=self.endless)

    async def dead_letters(
        self, host: str, package: str | None, after: int, maximum: int, asker: str, *, newest: bool = False
    ) -> LetterPart:
        await self._ask("dead_letters", host, package, maximum, newest, asker)
        return LetterPart(self.letters)

    async def reload(self, host: str, package: str, asker: str, *, fresh: bool = False) -> PackageReport:
        await self._ask("reload", host, package, asker)
        return self.reports[0]

    async def repeat_dead_letter(self, host: str, letter_id: int, asker: str) -> None:
        await self._ask("repeat", host, letter_id, asker)

    async def drop_dead_letters(self, host: str, up_to: int, package: str | None, asker: str) -> int:
        await self._ask("drop", host, up_to, package, asker)
        return 3


def ask(far: FakeFar, *paths: str, method: str = "GET", **headers: str) -> list[Answer]:
    """Ask a real server for these paths, one after the other; {port} in a header is its port."""

    async def run() -> list[Answer]:
        view = far.view
        renderer = Renderer(view)
        server = HttpServer(
            registry=Registry(),
            pages={**make_pages(view, renderer), **make_satellite_pages(far, renderer.render)},
            buttons=make_satellite_buttons(far, renderer.render),
            limits=Limits(),
            allowed_hosts=(),
            access_log=None,
        )
        sock = bind_socket("127.0.0.1", 0, next_free=False)
        port = sock.getsockname()[1]
        await server.start(sock)
        given = {name.replace("_", "-"): value.format(port=port) for name, value in headers.items()}
        answers = []
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            for path in paths:
                async with session.request(method, path, headers=given, allow_redirects=False) as response:
                    answers.append(Answer(response.status, response.headers, await response.read()))
        await server.stop()
        return answers

    return asyncio.run(run())


def press(far: FakeFar, *paths: str, **headers: str) -> list[Answer]:
    return ask(far, *paths, method="POST", **{"Origin": "http://127.0.0.1:{port}", **headers})


def letter(**more: Any) -> ReportedLetter:
    facts = {
        "id": 7,
        "at": 1e9,
        "package": "ham",
        "plugin": "ham.spam.X_Spam",
        "host_id": "a@b:1",
        "reason": "E: no",
    }
    return ReportedLetter(**{**facts, "message": {"data": b"\x00"}, **more})


def test_pages_show_what_the_satellite_says() -> None:
    far = FakeFar(
        lines=[LogLine(1, 1e9, "INFO", "ham", "first"), LogLine(2, 1e9, "ERROR", "ham.spam", "second\nmore")],
        letters=[letter()],
    )
    packages, log, letters = ask(far, *PAGES)
    assert [answer.status for answer in (packages, log, letters)] == [200, 200, 200]
    assert f"{ORIGIN}@10.0.0.7:2004" in packages.text
    assert f'action="{BASE}/reload?package=ham"' in packages.text
    assert f'href="{BASE}/log?package=ham"' in packages.text
    assert "ham.spam: second\nmore" in log.text
    assert '{"data": "AA=="}' in Tags(letters.text).said
    actions = [attrs["action"] for tag, attrs in Tags(letters.text).found if tag == "form"]
    assert actions == [f"{BASE}/repeat?package=ham&id=7", f"{BASE}/drop?package=ham&up_to=7"]
    assert {one[-1] for one in far.asked} == {"a page at 127.0.0.1"}
    for answer in (packages, log, letters):
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Cache-Control"] == "no-store"


def test_links_and_commands_have_the_name_whatever_the_address_was() -> None:
    error = (
        "plugin package ham is parked: it died. Fix it, then: co2 plugin reload ham --url http://127.0.0.1:2004"
    )
    report = PackageReport(name="ham", state="parked", load=2, last_error=error, last_error_age=1.0)
    far = FakeFar(reports=[report], letters=[letter()])
    reach = f"--host {NAME} --relay http://127.0.0.1:2013"
    far.view.host_id = "9c01d7e5aa613f20@192.168.1.10:2013"
    pages = [Tags(one.text) for one in ask(far, *(page.replace(BASE, f"/satellites/{ORIGIN}") for page in PAGES))]
    for page in pages:
        links = [attrs.get("href", attrs.get("action", "")) for _, attrs in page.found]
        assert [link for link in links if link.startswith("/satellites/")]
        assert all(link.startswith(f"{BASE}/") for link in links if link.startswith("/satellites/")), links
        assert NAME in page.said
        assert f"{ORIGIN}@10.0.0.7:2004" in page.said
    packages, log, letters = (" ".join(page.said.split()) for page in pages)
    assert "is parked: it died Fix it, then press the button" in packages
    assert f"co2 plugin reload ham {reach} on this machine" in packages
    assert "--url" not in packages
    assert f"co2 plugin logs ham {reach} --follow" in log
    assert f"co2 dead-letters --package ham {reach} on this machine" in letters


def test_nothing_that_a_satellite_says_is_markup() -> None:
    plugin = PluginReport(EVIL, EVIL, EVIL)
    report = PackageReport(
        name=EVIL_NAME, state=EVIL_NAME, code=EVIL_NAME, last_error=EVIL, plugins=[plugin], load=1, restarts=1,
        reloads={EVIL_NAME: 1}, limits={EVIL_NAME: 1}, uses={EVIL_NAME: 1.0}, dead_letters=1, last_error_age=1.0,
    )  # fmt: skip
    far = FakeFar(
        reports=[report],
        lines=[LogLine(1, 1e9, EVIL_NAME, EVIL, EVIL)],
        letters=[letter(package=EVIL_NAME, plugin=EVIL, host_id=EVIL, reason=EVIL, message={EVIL: [EVIL]})],
    )
    for answer in ask(far, *PAGES):
        assert answer.status == 200, answer.text
        tags = Tags(answer.text)
        assert not {"script", "img"} & {tag for tag, attrs in tags.found if attrs.get("src") != "/static/co2.svg"}
        assert not [attrs for _, attrs in tags.found for key in attrs if key.startswith("on")]
        assert "49" not in tags.said.replace("1949", ""), "no template of theirs is rendered"
    far.error = RemoteFault(1012, EVIL)
    (answer,) = ask(far, PAGES[0])
    assert answer.status == 403
    assert "<script>" not in answer.text
    assert EVIL in Tags(answer.text).said


def test_a_command_to_paste_is_one_whatever_the_name() -> None:
    far = FakeFar(lines=[LogLine(1, 1e9, "INFO", "x", "y")], letters=[letter()])
    for path in ("log", "letters"):
        (answer,) = ask(far, f"{BASE}/{path}?package=%24(touch%20x)%3B%20%E2%80%AE")
        assert "'$(touch x); \\u202e'" in Tags(answer.text).said


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UnknownHost("no satellite of this relay is called 'x'"), 404, "no satellite"),
        (Denied("managed = false"), 403, "managed = false"),
        (NotCallable("too old"), 502, "too old"),
        (RemoteFault(1013, "plugin package 'ham': it is not loaded"), 400, "not loaded"),
    ],
)
def test_an_error_is_a_page(error: Exception, status: int, text: str) -> None:
    far = FakeFar(error=error)
    for answer in ask(far, *PAGES):
        assert (answer.status, text in answer.text) == (status, True)
    for answer in press(far, *BUTTONS[1:]):
        assert (answer.status, text in answer.text) == (status, True)


def test_buttons_do_it_and_lead_back() -> None:
    far = FakeFar()
    answers = press(far, *BUTTONS)
    assert [answer.status for answer in answers] == [303, 303, 303]
    assert [answer.headers["Location"] for answer in answers] == [
        f"{BASE}/?pressed=ham#ham",
        f"{BASE}/letters?package=ham&repeated=7",
        f"{BASE}/letters?package=ham&dropped=3",
    ]
    assert [one[:3] for one in far.asked] == [("reload", NAME, "ham"), ("repeat", NAME, 7), ("drop", NAME, 7)]
    far.error = NotLoadable("SyntaxError")
    assert press(far, BUTTONS[0])[0].status == 303, "the page shows the outcome"


@pytest.mark.parametrize("path", BUTTONS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1:{port}", "Sec_Fetch_Site": "cross-site"},
        {"Origin": "http://127.0.0.1:{port}", "X_Forwarded_For": "127.0.0.1"},
        {"Origin": "http://127.0.0.1:{port}", "X_Co2_Relayed": "1"},
    ],
    ids=str,
)
def test_a_forged_button_does_nothing(path: str, headers: dict[str, str]) -> None:
    far = FakeFar()
    (answer,) = ask(far, path, method="POST", **headers)
    assert answer.status == 403
    (answer,) = ask(far, path, method="POST")
    assert answer.status == 403, "without an Origin"
    (answer,) = ask(far, path)
    assert answer.status == 405, "a link is no button"
    assert far.asked == []


def test_others_than_the_relay_s_machine_get_no_page_and_no_button() -> None:
    far = FakeFar()
    renderer = Renderer(fakes.relay())
    handlers = {
        **make_satellite_pages(far, renderer.render),
        **make_satellite_buttons(far, renderer.render),
    }
    assert len(handlers) == 7

    async def run() -> None:
        for pattern, handler in handlers.items():
            path = pattern.replace("*", NAME)
            answer = await handler(PageRequest(path, {"package": "ham", "id": "1", "up_to": "1"}, "10.0.0.7"))
            assert (answer.status, b"only from the relay's own machine" in answer.body) == (403, True)

    asyncio.run(run())
    assert far.asked == []


@pytest.mark.parametrize("query", ["", "?package=", f"?package={'x' * 65}", "?package=ham&id=x&up_to=-1"])
def test_a_wrong_query_asks_nothing(query: str) -> None:
    far = FakeFar()
    for name in ("repeat", "drop"):
        (answer,) = press(far, f"{BASE}/{name}{query}")
        assert answer.status == 400
    if "ham" not in query:
        assert [answer.status for answer in ask(far, f"{BASE}/log{query}", f"{BASE}/letters{query}")] == [400, 400]
    assert far.asked == []


def test_one_that_says_more_without_end_is_asked_a_few_times() -> None:
    far = FakeFar(endless=True)
    packages, log, _ = ask(far, *PAGES)
    assert "left out" in packages.text
    assert "too long for this page" in log.text
    assert len(far.asked) == 4 + 3 + 1


def test_one_that_does_not_answer_delays_no_other_page() -> None:
    async def run() -> None:
        far = FakeFar(go_on=asyncio.Event())
        view = fakes.relay()
        renderer = Renderer(view)
        pages = {**make_pages(view, renderer), **make_satellite_pages(far, renderer.render)}
        slow = asyncio.ensure_future(pages["/satellites/*/"](PageRequest(f"{BASE}/", {}, "127.0.0.1", True)))
        async with asyncio.timeout(10):
            while not far.asked:
                await asyncio.sleep(0)
            answer = await pages["/satellites"](PageRequest("/satellites", {}, "127.0.0.1", True))
        assert answer.status == 200
        assert not slow.done()
        assert far.go_on is not None
        far.go_on.set()
        assert (await slow).status == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/", "/"),
        ("/satellites", "/satellites"),
        (f"/satellites/{NAME}", "/satellites/*"),
        (f"/satellites/{NAME}/", "/satellites/*/"),
        (f"/satellites/{NAME}/log", "/satellites/*/log"),
        ("/satellites/*/", ""),
        ("/satellites//", ""),
        ("/satellites/", ""),
        ("/satellites/a/b/c", ""),
        ("/satellites/a%2fb/", ""),
        ("/satellites/a/LOG", ""),
        ("/satellites/a/\n", ""),
        (f"/satellites/{'x' * 65}/", ""),
    ],
)
def test_patterns_of_paths(path: str, pattern: str) -> None:
    assert path_pattern(path) == pattern


def test_the_gate_knows_no_other_paths() -> None:
    gate = Gate(["/satellites/*/"], [], Limits(), buttons=["/satellites/*/reload"])
    assert gate.admit(f"GET {BASE}/ HTTP/1.1\r\nHost: 127.0.0.1".encode(), True).is_page
    for line, status in (
        (f"GET {BASE}/secret", 404),
        (f"GET {BASE}/reload", 405),
        (f"POST {BASE}/", 405),
        ("GET /satellites/*/", 404),
        ("GET /satellites/a/b/", 404),
    ):
        with pytest.raises(Refused) as refused:
            gate.admit(f"{line} HTTP/1.1\r\nHost: 127.0.0.1".encode(), True)
        assert refused.value.status == status
