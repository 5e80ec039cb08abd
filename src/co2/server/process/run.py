"""The life of a host process: socket, state folder, logs, event loop, ready line, signals, end.

Both roles run in :func:`run_host`; the :class:`Role` that it gets makes the difference.
"""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from co2 import __version__, values
from co2.config import HostConfig
from co2.errors import ConfigError
from co2.logs import setup_logs
from co2.server.express import loop as express
from co2.server.http.server import bind_socket
from co2.server.process.allocator import give_back_large_pieces
from co2.server.process.port_owner import refuse_second_relay
from co2.server.process.sighup import HangupSignal
from co2.store.state_folder import StateFolder, default_state_path
from co2.thread_priority import go_first

__all__ = ["START_TIMEOUT", "STOP_TIMEOUT", "Ending", "Foundation", "Role", "run_host"]

STOP_TIMEOUT = 5.0
"""Seconds within which a host ends after SIGTERM or Ctrl-C."""

START_TIMEOUT = 12.0
"""Seconds within which a role's start returns: every plugin host is up or has failed."""

_logger = logging.getLogger("co2")


@dataclass(frozen=True, slots=True)
class Foundation:
    """The base of a role.

    Attributes:
        state: the locked state folder, with our origin.
        sock: the bound listening socket.
        port: its port.
        ending: used when the host cannot continue.
    """

    state: StateFolder
    sock: socket.socket
    port: int
    ending: "Ending"


@dataclass(slots=True)
class Ending:
    """How a host ends.

    Attributes:
        event: set when it must stop.
        failure: why it cannot continue, '' for an end in good order. Otherwise the process's exit code is 1.
    """

    event: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str = ""

    def give_up(self, why: str) -> None:
        """End the host: it cannot work any more. To be called in the event loop."""
        self.failure = self.failure or why
        self.event.set()


class Role(Protocol):
    """A relay or a satellite."""

    @property
    def ready_line(self) -> str:
        """Line printed on stdout once it serves."""
        ...

    async def start(self) -> None:
        """Serve; return when every plugin host is up or has failed."""
        ...

    async def hangup(self) -> None:
        """Apply changes after SIGHUP."""
        ...

    async def stop(self) -> None:
        """Send a Goodbye and end, within :data:`STOP_TIMEOUT`."""
        ...


def run_host(config: HostConfig, make: Callable[[Foundation], Role]) -> int:
    """Run a host until SIGTERM or Ctrl-C, in its own process, which ends in time even if something blocks.

    Args:
        config: checked configuration of its role.
        make: makes the role; called inside the event loop.

    Returns:
        The process's exit code.

    Raises:
        ConfigError: the address or port is not available, or a relay has it already; the given plugin folder does
            not exist.
        StateError: the state folder cannot be used.
    """
    if config.plugin_dir_from and not config.plugin_dir.is_dir():
        raise ConfigError(config.plugin_dir_from, f"there is no folder {config.plugin_dir}")
    sys.setrecursionlimit(values.RECURSION_LIMIT)
    sock = _listening(config)
    with contextlib.closing(sock):
        port = int(sock.getsockname()[1])
        path = config.state or default_state_path(config.role, port)
        if not config.port_given and port != config.port:
            sys.stderr.write(_other_port(config, port, path))
        with contextlib.closing(StateFolder.open(path)) as state:
            logs = setup_logs(state.logs)
            try:
                _warn_if_open(config.bind)
                go_first()
                with asyncio.Runner(loop_factory=_loop_factory(config.express)) as runner:
                    return runner.run(_live(state, sock, port, make))
            finally:
                logs.close()


def _listening(config: HostConfig) -> socket.socket:
    """Listen as configured, or at the next free port; a relay not beside another one."""
    try:
        sock = bind_socket(config.bind, config.port, next_free=not config.port_given)
    except ConfigError as error:
        if config.role == "relay" and error.where == "port":
            refuse_second_relay(config.bind, config.port)
        raise
    if config.role == "relay" and config.port and sock.getsockname()[1] != config.port:
        try:
            refuse_second_relay(config.bind, config.port)
        except ConfigError:
            sock.close()
            raise
    return sock


def _other_port(config: HostConfig, port: int, path: Path) -> str:
    """Return the notice of another port, and of its consequence: a state folder that may be another host's."""
    text = f"co2: port {config.port} is taken, using {port}"
    if config.state is None:
        text += (
            f" and the state folder of that port, {path}, with its own host id, stores and durable plugins; "
            "give each host on a machine its own --port or --state, so that it always uses the same folder"
        )
    return text + "\n"


async def _live(state: StateFolder, sock: socket.socket, port: int, make: Callable[[Foundation], Role]) -> int:
    _watch_children()
    give_back_large_pieces()
    ending = Ending()
    stopping = ending.event
    role = make(Foundation(state, sock, port, ending))
    hangup_signal = HangupSignal(role.hangup, stopping)
    _catch_signals(stopping, hangup_signal)
    _logger.info("co2 %s starts", __version__)
    try:
        start = asyncio.ensure_future(role.start())
        await asyncio.wait((start, asyncio.ensure_future(stopping.wait())), return_when="FIRST_COMPLETED")
        if start.done():
            await start
            _settle_memory()
            if not stopping.is_set():
                # One line, flushed: programs wait for it before they connect.
                sys.stdout.write(role.ready_line + "\n")
                sys.stdout.flush()
        else:
            start.cancel()
            await asyncio.wait((start,))
        await stopping.wait()
    finally:
        _end_in_time(ending)
        await hangup_signal.stop()
        await _stop(role)
    if ending.failure:
        _logger.critical("ended: %s", ending.failure)
    return 1 if ending.failure else 0


def _settle_memory() -> None:
    """Freeze the loaded objects for the garbage collector, which then runs less often and over fewer objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 30)


async def _stop(role: Role) -> None:
    _logger.info("stopping")
    try:
        async with asyncio.timeout(STOP_TIMEOUT - 0.3):
            await role.stop()
    except TimeoutError:
        _logger.error("not everything ended within %g s", STOP_TIMEOUT)
    except Exception:
        _logger.exception("stopping failed")
    _logger.info("stopped")


def _end_in_time(ending: Ending) -> None:
    """Make the process end within :data:`STOP_TIMEOUT` from now, even if a thread is in a blocking system call.

    The call may never return, such as a look-up of the relay's name without a network; Python would wait for it.
    """

    def leave() -> None:
        _logger.error("a blocking system call delays the end of the process: not waiting for it")
        for handler in logging.getLogger("co2.access").handlers:
            handler.flush()
        os._exit(1 if ending.failure else 0)

    timer = threading.Timer(STOP_TIMEOUT, leave)
    timer.daemon = True
    timer.start()


def _catch_signals(stopping: asyncio.Event, hangup_signal: HangupSignal) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, hangup_signal.take)


def _loop_factory(with_express: bool = True) -> Callable[[], Any] | None:
    """Return the loop with an express if available; else uvloop's if installed."""
    if with_express and express.AVAILABLE:
        return express.ExpressLoop
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], Any] = uvloop.new_event_loop
    return factory


def _watch_children() -> None:
    """Deliver the ends of child processes to the event loop, as Python does from 3.12 on: no thread per child."""
    if sys.version_info >= (3, 12) or not hasattr(os, "pidfd_open"):
        return
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or one that forbids it
        return
    watcher = asyncio.PidfdChildWatcher()
    watcher.attach_loop(asyncio.get_running_loop())
    asyncio.get_event_loop_policy().set_child_watcher(watcher)


def _warn_if_open(bind: str) -> None:
    if not ipaddress.ip_address(bind).is_loopback:
        _logger.warning(
            (
                "listening on %s: anyone who can reach this port can read, send and call; there is no "
                "authentication yet"
            ),
            bind,
        )
