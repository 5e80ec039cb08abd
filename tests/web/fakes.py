"""A host's view with plausible values, and one full of what an attacker would put there."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.package_health import Health
from co2.protocol.wire.plugin_frames.lifecycle import PluginInfo
from co2.web.view import AwayRow, DeadLetterRow, MethodRow, Numbers, Readiness, SatelliteRow

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}{% raw %}"


@dataclass
class FakeView:
    role: str = "satellite"
    name: str = "stage-left"
    host_id: str = "8f3a61c29b04d7e5@192.168.1.20:2004"
    version: str = "0.9.0"
    given: dict[str, Any] = field(default_factory=dict)
    method_rows: list[MethodRow] = field(default_factory=list)
    packages: list[PackageStatus] = field(default_factory=list)
    away_rows: list[AwayRow] = field(default_factory=list)
    satellite_rows: list[SatelliteRow] = field(default_factory=list)
    letters: list[DeadLetterRow] = field(default_factory=list)
    problems: tuple[str, ...] = ()
    counted: Numbers = field(default_factory=Numbers)

    def properties(self) -> dict[str, Any]:
        return self.given

    def methods(self) -> list[MethodRow]:
        return self.method_rows

    def plugins(self) -> list[PackageStatus]:
        return self.packages

    async def dead_letters(self, package: str, max_letters: int) -> list[DeadLetterRow]:
        return [row for row in self.letters if row.plugin.partition(".")[0] in (package, EVIL)][:max_letters]

    def away(self, at_most: int) -> list[AwayRow]:
        return self.away_rows[:at_most]

    def away_states(self) -> Counter[str]:
        return Counter(row.state for row in self.away_rows)

    async def satellites(self, *, here: bool = False) -> list[SatelliteRow]:
        return self.satellite_rows

    def readiness(self) -> Readiness:
        return Readiness(self.problems)

    def numbers(self) -> Numbers:
        return self.counted


def satellite() -> FakeView:
    return FakeView(
        given={
            "role": "satellite",
            "host_id": "8f3a61c29b04d7e5@192.168.1.20:2004",
            "version": "0.9.0",
            "uptime": 11537.2,
            "relay": "http://192.168.1.10:2003",
            "registered": True,
            "relay_error": "",
            "software": {
                "co2": "0.9.0",
                "python": "CPython 3.13.2",
                "system": "Linux 6.12.9",
                "aiohttp": "3.14.5",
                "msgspec": "0.22.0",
                "uvloop": "0.22.1",
            },
            "hardware": {
                "name": "stage-left",
                "machine": "aarch64",
                "processors": 4,
                "byte_order": "little",
                "memory": 3884,
            },
            "plugins": [],
            "network": [],
            "counters": {
                "received": 1843020,
                "sent": 90233,
                "repeats": 0,
                "gaps": 0,
                "refused": 0,
                "waiting": 0,
                "waiting_bytes": 0,
            },
            "limits": {
                "outbox_max": 33554432,
                "receive_deadline": 30.0,
                "send_timeout": 5.0,
                "plugin_memory": 2048,
            },
        },
        method_rows=[
            MethodRow("ping", "Tell that this host is there.", [["boolean"]]),
            MethodRow("test", "Give back the argument, unchanged.", [["any", "any"]]),
            MethodRow("co2.get_properties", "Tell role, host_id and version.", [["struct"]]),
            MethodRow(
                "system.listMethods", "Name every method.\n\nThe order is that of the alphabet.", [["array"]]
            ),
            MethodRow(
                "example.example.count", "Return the number of messages from each host.", [["struct", "struct"]]
            ),
            MethodRow("osc.osc.status", "Return the addresses of the bridge.", [["struct", "struct"]]),
        ],
        packages=[
            PackageStatus(
                name="example",
                state="running",
                pid=4711,
                plugins=[
                    PluginInfo(
                        "example.example.X_Example",
                        "example.example.X_Example",
                        True,
                        "Greets who says hello, and counts what it hears.",
                    )
                ],
                received=921510,
                sent=3,
                slowest=0.0042,
            ),
            PackageStatus(
                name="osc",
                state="running",
                pid=4712,
                limits={"memory": 2048, "open_files": 0, "cpu_seconds": 600, "deaths": 5},
                uses={"memory": 21, "address_space": 118, "open_files": 12, "cpu_seconds": 90.5},
                plugins=[
                    PluginInfo("osc.osc.X_Osc", "desk bridge", True, "Two-way bridge between OSC and the network.")
                ],
                received=921510,
                sent=90230,
                waiting=3,
                restarts=1,
                slowest=1.3,
                last_error="receive took 1.30 s, more than 1 s",
                last_error_age=400.0,
            ),
            PackageStatus(
                name="meter",
                state="failed",
                last_error=(
                    "plugin package 'meter' (plugins/meter/meter.py:14): X_Meter.__init__ does not call "
                    "super().__init__(var_dict)\n\nTraceback (most recent call last):\n"
                    '  File "plugins/meter/meter.py", line 14, in __init__\n    self.gain = 1'
                ),
                last_error_age=11530.0,
            ),
        ],
        counted=Numbers(
            messages={"in": 1843020, "out": 90233},
            dropped={"refused": 2},
            calls={"ok": 51, "fault": 3},
            faults={-32601: 3},
            requests={200: 54, 413: 1},
            events={"repeats": 4, "send_waits": 9},
            queues={"outbox": 7},
            bytes={"outbox_memory": 700, "outbox_disk": 300},
            lagging={"packages_behind": 1, "packages_replaying": 0},
            peers={"relay": True},
            connections=2,
            written={"log": 12_288},
        ),
    )


def relay() -> FakeView:
    view = satellite()
    view.role = "relay"
    view.host_id = "1c77e5aa01b2c3d4@192.168.1.10:2003"
    view.packages = []
    view.given |= {
        "counters": {
            "relayed": 1933253,
            "repeats": 12,
            "dropped_satellites": 1,
            "log_age": 86400.0,
            "log_bytes": 2411331,
            "position": 1933253,
        },
        "limits": {
            "max_sats": 512,
            "log_age": 86400.0,
            "log_bytes": 67108864,
            "message_size": 737280,
            "fetch_max": 500,
            "fetch_wait": 25,
            "check_interval": 10.0,
            "drop_after": 25.0,
        },
    }
    for key in ("relay", "registered", "relay_error"):
        del view.given[key]
    view.satellite_rows = [
        SatelliteRow(
            name="foyer-pi",
            host_id="8f3a61c29b04d7e5@192.168.1.20:2004",
            ip="192.168.1.20",
            port=2004,
            kind="co2",
            state="ok",
            age=11530,
            silence=0.41,
            lag=0,
            sent=1843020,
            plugins=["example.example.X_Example", "osc.osc.X_Osc"],
            page="http://192.168.1.20:2004",
            packages=[
                Health("example", "running", 1),
                Health(
                    "osc", "parked", 4, 0.0, 9, False, "plugin package osc is parked: its plugin host died", 61.0
                ),
                Health("meter", "restarting", 1, 0.0, 0, False, "killed by signal 11", 2.0),
            ],
        ),
        SatelliteRow(
            name="stage-right",
            host_id="77aa61c29b04d7e5@[fd00::21]:2004",
            ip="fd00::21",
            port=2004,
            kind="co2",
            state="unreachable",
            age=3600,
            silence=19.2,
            lag=4210,
            sent=120034,
            plugins=["sysinfo.sysinfo.X_Sysinfo"],
            no_page="it listens on 127.0.0.1",
            last_error="cannot connect to [fd00::21]:2004: connection refused",
        ),
        SatelliteRow(
            host_id="desk_patch@192.168.1.31:0",
            ip="192.168.1.31",
            port=0,
            name="desk",
            kind="watcher",
            state="ok",
            age=92000,
            silence=12,
            lag=3,
            sent=5120,
        ),
    ]
    return view


def evil(role: str) -> FakeView:
    plugin = PluginInfo(EVIL, EVIL, False, EVIL)
    package = PackageStatus(
        name=EVIL, state=EVIL, plugins=[plugin], last_error=EVIL + "\n\u202e\x00\x1b[31m", last_error_age=1.0
    )
    row = SatelliteRow(
        name=EVIL,
        host_id=EVIL,
        ip='1.2.3.4" onclick="x',
        port=2004,
        kind=EVIL,
        state=EVIL,
        age=1,
        silence=1,
        plugins=[EVIL],
        methods=[EVIL],
        last_error=EVIL,
        page="http://1.2.3.4",
        no_page=EVIL,
        packages=[
            Health(EVIL, EVIL, 1, 1.0, 1, True, EVIL, 1.0),
            Health(EVIL, "failed", 0, 0, 0, False, EVIL, 1.0),
        ],
    )
    return FakeView(
        role=role,
        name=EVIL,
        host_id=EVIL,
        version=EVIL,
        given={
            "relay": EVIL,
            EVIL: EVIL,
            "counters": {EVIL: EVIL},
            "software": {EVIL: [EVIL]},
            "hardware": {EVIL: {EVIL: EVIL}},
        },
        method_rows=[MethodRow(EVIL, EVIL, [[EVIL, EVIL]]), MethodRow(f"a.{EVIL}", "", [[]])],
        packages=[package],
        satellite_rows=[row],
        away_rows=[AwayRow(EVIL, EVIL, 1.0, 1e9, plugins=[EVIL], name=EVIL)],
        letters=[DeadLetterRow(1, 1e9, EVIL, EVIL, EVIL, EVIL)],
        problems=(EVIL,),
        counted=Numbers(messages={EVIL: 1}, queues={EVIL: 1}, peers={EVIL: True}),
    )
