"""OSC with liblo's own tools: oscsend → satellite → relay → satellite → oscdump."""

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pythonosc.osc_message_builder import OscMessageBuilder

from tests.harness import running, wait_for


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OscDump:
    """oscdump, and the lines that it printed."""

    def __init__(self) -> None:
        assert shutil.which("oscdump"), "liblo-tools is missing; `make test` installs it"
        self.port = free_udp_port()
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            ["oscdump", "-L", str(self.port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout
        self._process.stdout.close()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, OscDump]]:
    base: Path = tmp_path_factory.mktemp("osc")
    dump = OscDump()
    in_port = free_udp_port()
    incoming = base / "in.toml"
    incoming.write_text(f'[plugin.osc]\nlisten = "127.0.0.1:{in_port}"\n')
    outgoing = base / "out.toml"
    outgoing.write_text(
        f'[plugin.osc]\nlisten = "127.0.0.1:0"\nsend_to = ["127.0.0.1:{dump.port}"]\nsend = ["stage.>"]\n'
    )
    for path in (incoming, outgoing):
        path.chmod(0o600)
    try:
        with running(base / "relay", "relay") as relay:
            satellite = ("satellite", "--relay", relay.url, "--plugin", "osc", "--config")
            with (
                running(base / "a", *satellite, str(incoming)),
                running(base / "b", *satellite, str(outgoing)),
                relay.proxy() as proxy,
            ):
                wait_for(lambda: len(proxy.relay.get_satellites()) == 2)
                yield in_port, dump
    finally:
        dump.close()


def send(port: int, address: str, *arguments: str) -> None:
    subprocess.run(["oscsend", "127.0.0.1", str(port), address, *arguments], check=True, timeout=10)


@pytest.mark.parametrize(
    ("types", "arguments", "printed"),
    [
        ("i", ["42"], r"i 42"),
        ("i", ["-2147483648"], r"i -2147483648"),
        ("f", ["0.5"], r"f 0\.500000"),
        ("d", ["0.1"], r"d 0\.100000"),
        ("h", ["9007199254740993"], r"h 9007199254740993"),
        ("s", ["ham and eggs"], r's "ham and eggs"'),
        ("ifs", ["1", "2.25", "three"], r'ifs 1 2\.250000 "three"'),
        ("TFN", [], r"TFN #T #F Nil"),
    ],
)
def test_arguments_arrive_with_their_type_tags(
    chain: tuple[int, OscDump], types: str, arguments: list[str], printed: str
) -> None:
    port, dump = chain
    address = f"/stage/{abs(hash((types, tuple(arguments))))}"
    send(port, address, types, *arguments)
    line = wait_for(lambda: next((row for row in dump.lines if address in row), ""), f"{address} at oscdump")
    assert re.search(rf"{re.escape(address)} {printed}", line), line


def test_a_blob_arrives_intact(chain: tuple[int, OscDump]) -> None:
    port, dump = chain
    builder = OscMessageBuilder("/stage/blob")
    builder.add_arg(bytes(range(16)), "b")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(builder.build().dgram, ("127.0.0.1", port))
    line = wait_for(lambda: next((row for row in dump.lines if "/stage/blob" in row), ""))
    assert "16 byte blob" in line or "00 01 02" in line or "0x00 0x01" in line or "[16 byte" in line, line


def test_what_the_pattern_does_not_select_stays_in(chain: tuple[int, OscDump]) -> None:
    port, dump = chain
    send(port, "/house/light", "i", "1")
    send(port, "/stage/after", "i", "2")
    wait_for(lambda: any("/stage/after" in row for row in dump.lines))
    assert not any("/house/light" in row for row in dump.lines)


def test_order_is_kept_over_many_messages(chain: tuple[int, OscDump]) -> None:
    port, dump = chain
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(200):
            builder = OscMessageBuilder("/stage/count")
            builder.add_arg(number)
            sock.sendto(builder.build().dgram, ("127.0.0.1", port))
    wait_for(lambda: sum("/stage/count" in row for row in dump.lines) >= 200)
    numbers = [int(row.rpartition(" ")[2]) for row in dump.lines if "/stage/count" in row]
    assert numbers == list(range(200))
