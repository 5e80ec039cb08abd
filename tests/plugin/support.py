"""A Supervisor with real plugin packages, in one event loop, and waiting with a deadline."""

import asyncio
import contextlib
import functools
import logging
import os
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from co2.plugin.parent.supervisor import PackageSpec, PackageStatus, Supervisor
from co2.protocol.wire.batch import MAX_BATCH_MESSAGES, make_batch, split_batch
from co2.protocol.wire.channel_patterns import channels_of_frame
from co2.protocol.wire.plugin_frames.frames import DeadLetter, Publish
from co2.values import channel_of, pack, unpack

PATIENCE = float(os.environ.get("CO2_TEST_PATIENCE", "20"))
"""Seconds after which something that should have happened has not."""

HOST_ID = "here@127.0.0.1:2004"
ADDRESS = ("127.0.0.1", 2004)
OTHER = "there@10.0.0.7:2004"
OTHER_ADDRESS = ("10.0.0.7", 4567)


@dataclass(frozen=True)
class Settings:
    """As in a satellite's configuration."""

    isolation: str = "process"
    receive_warning: float = 1.0
    receive_deadline: float = 30.0
    load_timeout: float = 15.0
    exit_timeout: float = 3.0
    send_timeout: float = 5.0
    plugin_memory: int = 2048
    plugin_open_files: int = 0
    plugin_cpu_seconds: int = 0
    plugin_deaths: int = 5


class Lines(logging.Handler):
    """Keeps what is logged under co2.plugins."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def text(self) -> str:
        return "\n".join(f"{r.levelname} {r.name} {r.getMessage()}" for r in self.records)


@dataclass
class Carrier:
    """A running Supervisor and what it gave us."""

    supervisor: Supervisor
    log: Lines
    network: Any = None
    published: list[dict[str, Any]] = field(default_factory=list)
    frames: list[tuple[str, str, Any, bytes, bool]] = field(default_factory=list)
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)
    letters: list[tuple[str, DeadLetter]] = field(default_factory=list)
    changes: int = 0
    stopped: bool = False

    def deliver(self, *data: Any, **keys: Any) -> None:
        """Give messages, in batches as they may come."""
        channels = channels_of_frame({channel_of(keys)})
        for at in range(0, len(data), MAX_BATCH_MESSAGES):
            batch = make_batch([pack({"data": one, **keys}) for one in data[at : at + MAX_BATCH_MESSAGES]])
            self.supervisor.deliver(OTHER, OTHER_ADDRESS, channels, batch)

    async def call(self, method: str, data: Any = None) -> Any:
        return await self.supervisor.call(method, {"data": data})

    def status(self, package: str) -> PackageStatus:
        return next(row for row in self.supervisor.status() if row.name == package)

    def state(self, package: str) -> str:
        return self.status(package).state

    def inside(self, package: str) -> bool:
        """Tell whether its first plugin is in a ``receive`` now."""
        one = self.supervisor._packages[package].lifecycle.current
        return one is not None and one.child.words.message(0) % 2 == 1

    def sent(self) -> list[Any]:
        return [message["data"] for message in self.published]

    async def until(self, condition: Callable[[], Any], what: str = "", timeout: float = PATIENCE) -> Any:
        """Give the first true result; fail when the deadline passes."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}\n{self.log.text[-4000:]}"
            await asyncio.sleep(0.005)
        return result

    async def stop(self, timeout: float = 3.0) -> None:
        if not self.stopped:
            self.stopped = True
            await self.supervisor.stop(timeout)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a coroutine function."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def scenario() -> None:
            await test(*args, **kwargs)

        asyncio.run(scenario())

    return run


@contextlib.contextmanager
def logged() -> Iterator[Lines]:
    logger = logging.getLogger("co2.plugins")
    lines, level = Lines(), logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)


@contextlib.asynccontextmanager
async def carrying(
    specs: Sequence[PackageSpec],
    settings: Settings | None = None,
    var_dict: dict[str, Any] | None = None,
    network: Any = None,
) -> AsyncIterator[Carrier]:
    """Start a Supervisor with these packages, stop it at the end."""
    with logged() as log:
        carrier: Carrier

        def publish(package: str, frame: Publish, count: int) -> None:
            channels = frame.channels
            carrier.frames.append((package, frame.plugin, channels, frame.batch, frame.live))
            messages = [*map(unpack, split_batch(frame.batch))]
            assert len(messages) == count
            carrier.published += messages
            assert channels is None or set(channels) == {channel_of(message) for message in messages}

        async def flushed(_package: str) -> None:
            await carrier.acknowledged.wait()

        def changed() -> None:
            carrier.changes += 1

        supervisor = Supervisor(
            specs,
            settings=settings or Settings(),
            var_dict=var_dict or {"role": "satellite", "host_id": HOST_ID},
            host_id=lambda: HOST_ID,
            address=lambda: ADDRESS,
            on_publish=publish,
            flushed=flushed,
            on_methods_changed=changed,
            on_dead_letter=lambda package, letter: carrier.letters.append((package, letter)),
            network=network,
        )
        carrier = Carrier(supervisor, log, network)
        carrier.acknowledged.set()
        await supervisor.start()
        try:
            yield carrier
        finally:
            await carrier.stop()


def write_package(
    folder: Path, package: str, /, config: dict[str, Any] | None = None, **modules: str
) -> PackageSpec:
    """Write a package; ``init`` is its __init__.py. The import line is written for every module."""
    place = folder / package
    place.mkdir(parents=True, exist_ok=True)
    (place / "__init__.py").write_text(textwrap.dedent(modules.pop("init", "")))
    for name, code in modules.items():
        (place / f"{name}.py").write_text("from co2 import plugin\n" + textwrap.dedent(code))
    return PackageSpec(package, folder, config or {})
