"""``make demo``: a whole network on this machine, with real readings and real OSC packets.

It has a relay and three satellites, each in its own process, as on several machines. One satellite runs
``sysinfo``, the second gets OSC packets with ``osc``, and the third sends OSC packets with ``osc`` to an OSC
program, which here is a socket of the demo. It runs until Ctrl-C, or for DEMO_SECONDS.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from co2.xmlrpc.simple_client import SimpleClient

__all__ = ["main"]

READY_TIMEOUT = 30.0
"""Seconds in which each host must print its ready line."""

END_TIMEOUT = 8.0
"""Seconds in which each host must end."""

RELAY_PORT = 2003
"""Port of the demo's relay if it is free; otherwise it has any other port."""

OSC_TRIES = 5
"""UDP ports that are tried for OSC: another program may take a port before the plugin does."""


class _Host:
    """One co2 process with a state folder of its own."""

    def __init__(self, base: Path, name: str, *args: str, config: str = "", again: int = 0) -> None:
        folder = base / (f"{name}-{again}" if again else name)
        (folder / "plugins").mkdir(parents=True, mode=0o700)
        (folder / "co2.toml").write_text(config, "utf-8")
        command = [sys.executable, "-m", "co2", *args, "--state", str(folder / "state"), "--name", name]
        self.name = name
        self.url = ""
        # In a session of their own they get no Ctrl-C: the demo ends them, in the right order.
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_ready(self) -> str:
        """Return the ready line of the host.

        Raises:
            SystemExit: the host ended before, or was killed after :data:`READY_TIMEOUT`.
        """
        killer = threading.Timer(READY_TIMEOUT, self.process.kill)
        killer.start()
        try:
            line = self.process.stdout.readline().strip() if self.process.stdout else ""
        finally:
            killer.cancel()
        if not line.startswith("ready "):
            raise SystemExit(f"demo: {self.name} did not start; its output is above")
        self.url = line.split()[-1]
        return line

    def end(self) -> None:
        """Stop the process; kill it if it has not ended after :data:`END_TIMEOUT`."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def main() -> int:
    """Run the demo and return the exit code."""
    seconds = _seconds(os.environ.get("DEMO_SECONDS", ""))
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    base = Path(tempfile.mkdtemp(prefix="co2-demo-"))
    hosts: list[_Host] = []
    listener = _listening()
    try:
        in_port = _start(base, hosts, listener.getsockname()[1])
        _explain(hosts, listener.getsockname()[1], in_port)
        hosts.append(_Watch(hosts[0].url))
        threading.Thread(target=_show_osc, args=(listener, stopping), daemon=True).start()
        _send_hello(in_port)
        return _until(stopping, hosts, seconds)
    finally:
        for host in reversed(hosts):
            host.end()
        listener.close()
        shutil.rmtree(base, ignore_errors=True)
        print("\ndemo: all processes have ended", flush=True)


def _seconds(text: str) -> float:
    try:
        return float(text) if text else float("inf")
    except ValueError:
        raise SystemExit(f"demo: DEMO_SECONDS is {text!r}, expected a number of seconds") from None


def _start(base: Path, hosts: list[_Host], out_port: int) -> int:
    """Start the relay and the satellites; return the UDP port that gets OSC."""
    print("demo: starting a relay and three satellites …", flush=True)
    relay = _start_relay(base, hosts)
    # With the default port, each satellite after the first would log that the port is taken.
    satellite = ("satellite", "--port", "0", "--relay", relay.url, "--plugin")
    hosts.append(_Host(base, "readings", *satellite, "sysinfo"))
    outgoing = f'[plugin.osc]\nlisten = "127.0.0.1:0"\nsend_to = ["127.0.0.1:{out_port}"]\nsend = ["stage.>"]\n'
    hosts.append(_Host(base, "osc-out", *satellite, "osc", config=outgoing))
    for host in hosts[1:]:
        host.wait_ready()
    host, in_port = _start_osc_in(base, satellite)
    hosts.insert(2, host)
    return in_port


def _start_relay(base: Path, hosts: list[_Host]) -> _Host:
    # If a relay of the user has the default port, the demo is a separate network on another port.
    ports = (RELAY_PORT, 0) if _is_free(RELAY_PORT) else (0,)
    for attempt, port in enumerate(ports):
        relay = _Host(base, "relay", "relay", "--port", str(port), again=attempt)
        hosts.append(relay)
        try:
            relay.wait_ready()
        except SystemExit:
            if port == 0 or _is_free(RELAY_PORT):
                raise  # not because another program has taken the port meanwhile
            hosts.remove(relay)
            relay.end()
        else:
            break
    return relay


def _start_osc_in(base: Path, satellite: tuple[str, ...]) -> tuple[_Host, int]:
    for attempt in range(OSC_TRIES):
        in_port = _free_udp_port(9000 if attempt == 0 else 0)
        config = f'[plugin.osc]\nlisten = "127.0.0.1:{in_port}"\n'
        host = _Host(base, "osc-in", *satellite, "osc", config=config, again=attempt)
        try:
            host.wait_ready()
            with SimpleClient(host.url, READY_TIMEOUT) as client:
                (package,) = client.call("co2.get_properties")["plugins"]
        except BaseException:
            host.end()
            raise
        if package["state"] == "running":
            return host, in_port
        host.end()
    raise SystemExit(f"demo: no UDP port for OSC in {OSC_TRIES} tries; the errors are above")


def _explain(hosts: list[_Host], out_port: int, in_port: int) -> None:
    what = {
        "relay": "passes every message on",
        "readings": "plugin sysinfo: this machine's load, memory, network, every second",
        "osc-in": f"plugin osc: takes OSC on UDP port {in_port}",
        "osc-out": f"plugin osc: sends channels stage.> to UDP port {out_port}, where the demo listens",
    }
    print()
    for host in hosts:
        print(f"  {host.name:<9} {host.url:<23} {what[host.name]}")
    print(f"\nLook at it:      {hosts[0].url}/   (satellites: {hosts[0].url}/satellites)")
    print(f"Send it OSC:     {_line_to_paste(in_port)}")
    print("Ctrl-C ends it. Live traffic:\n", flush=True)


def _line_to_paste(port: int) -> str:
    if shutil.which("oscsend"):
        return f"oscsend 127.0.0.1 {port} /stage/fader1 f 0.815"
    from co2.plugins.osc.packets import OscMessage, build

    datagram = build(OscMessage("/stage/fader1", "f", [0.815]))
    code = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto({datagram!r}, ('127.0.0.1', {port}))"
    return f'{shlex.quote(sys.executable)} -c "{code}"'


class _Watch(_Host):
    """``co2 watch``, which prints to the terminal of the demo."""

    def __init__(self, url: str) -> None:
        self.name, self.url = "watch", url
        self.process = subprocess.Popen(
            [sys.executable, "-m", "co2", "watch", "--relay", url],
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )


def _listening() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(0.2)
    return sock


def _is_free(port: int) -> bool:
    """Return whether nobody listens on a TCP port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _free_udp_port(wanted: int) -> int:
    """Return the wanted UDP port, or any free one if it is taken or 0."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise SystemExit("demo: no free UDP port")


def _send_hello(port: int) -> None:
    from co2.plugins.osc.packets import OscMessage, build

    datagram = build(OscMessage("/stage/hello", "isf", [1, "shrubbery", 0.815]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(datagram, ("127.0.0.1", port))


def _show_osc(listener: socket.socket, stopping: threading.Event) -> None:
    from co2.plugins.osc.packets import MalformedPacket, OscMessage, parse

    while not stopping.is_set():
        try:
            packet = parse(listener.recv(65536))
        except TimeoutError:
            continue
        except MalformedPacket as error:
            print(f"received a packet that is not OSC: {error}", flush=True)
            continue
        except OSError:
            return
        if isinstance(packet, OscMessage):
            print(f"OSC came out of osc-out: {packet.address} {packet.args}", flush=True)


def _until(stopping: threading.Event, hosts: list[_Host], seconds: float) -> int:
    end = time.monotonic() + seconds
    while not stopping.wait(min(0.2, max(0.0, end - time.monotonic()))):
        if time.monotonic() >= end:
            return 0
        for host in hosts:
            if host.process.poll() is not None:
                print(f"demo: {host.name} ended with exit status {host.process.returncode}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
