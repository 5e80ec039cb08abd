"""The plugin host: runs one plugin package, in a child process or in threads of the satellite.

``python -m co2.plugin.child.host <socket fd> <progress fd>``. It exchanges the frames of
``protocol/wire/plugin_frames/frames.py`` over the socket. It imports no asyncio and no aiohttp, so that it starts
in tens of milliseconds.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from co2.errors import ConfigError, NotRunning
from co2.plugin.child.actor import Actor
from co2.plugin.child.flushes import Flushes
from co2.plugin.child.progress import ProgressWords
from co2.plugin.child.reader import SocketReader
from co2.plugin.child.services import SharedServices
from co2.plugin.child.writer import Writer
from co2.plugin.packages.loader import FoundPlugin, LoadFailure, code_of, find_plugins, import_package, plugin_info
from co2.plugin.packages.typed_config import Configs
from co2.protocol.wire.plugin_frames.frames import (
    Admit,
    Answered,
    Applied,
    AskHosts,
    Call,
    Checked,
    Deliver,
    Describe,
    Exited,
    Flow,
    Flushed,
    Gap,
    Goodbye,
    Handover,
    Hosts,
    Load,
    Loaded,
    LoadFailed,
    Make,
    MethodInfo,
    PluginInfo,
    Repeat,
    Resume,
    Start,
    Stop,
    Takeover,
    Transit,
    Withdraw,
    encode_frame,
    text_for_frame,
)
from co2.values import Message

__all__ = ["ORPHAN_EXIT", "PluginHost", "main"]

ORPHAN_EXIT = 3.0
"""Seconds for every ``__exit__`` when the satellite is gone."""

INFO = 20
WARNING = 30
EXIT_BROKEN = 70
"""Exit status of a plugin host that cannot continue: out of memory, or its socket is broken."""


class PluginHost:
    """All parts of a plugin host that do not depend on its own process.

    Args:
        sock: to the satellite; closed at the end.
        words: progress words of this package.
        before_load: called with the Load frame before the package is imported; returns lines for the log.
        loaded: called when all plugins are made.
        gone: called when the satellite has closed the socket.
        broken: called when it cannot continue.
    """

    def __init__(
        self,
        sock: socket.socket,
        words: ProgressWords,
        *,
        before_load: Callable[[Load], Sequence[str]] = lambda load: (),
        loaded: Callable[[], None] = lambda: None,
        gone: Callable[[], None] = lambda: None,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        self._sock = sock
        self._words = words.words
        self._before_load = before_load
        self._after_load = loaded
        self._gone = gone
        self._writer = Writer(sock, self._applied, broken)
        self._flushes = Flushes()
        self._shared = SharedServices(self._writer)
        self._actors: list[Actor] = []
        self._receivers: list[Actor] = []
        self._relayers: dict[str, Actor] = {}
        self._greeting: list[Actor] = []
        self._functions: dict[str, tuple[Actor, Callable[[Message], Any]]] = {}
        self._last_applied = (0, 0, 0, 0)
        self._failed_before = 0
        self._orders: SimpleQueue[Load | Make | Stop | Describe | None] = SimpleQueue()
        self._load = Load("", "", {}, {}, 0.0)
        self._found: list[FoundPlugin] = []
        self._configs: Configs
        self._warnings: list[str] = []
        self._reader = SocketReader(
            sock,
            self._handle_frame,
            garbage=lambda why: self._writer.record("", WARNING, f"the satellite sent a malformed frame: {why}"),
            broken=broken,
            ended=self._nothing_comes,
        )

    def run(self) -> None:
        """Load, run, stop. Returns when the satellite has ordered that, or is gone."""
        self._reader.start()
        while self._obey(self._orders.get()):
            pass
        self._writer.close(1.0)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._reader.join(1.0)
        self._sock.close()

    def _obey(self, order: Load | Make | Stop | Describe | None) -> bool:
        """Execute an order of the satellite; return whether the host continues."""
        match order:
            case Load():
                return self._attempt(lambda: self._check(order))
            case Make():
                return self._attempt(self._make_all)
            case Describe():
                # Here and not in a plugin's thread: a schema needs no plugin, and a busy one must not delay it.
                from co2.plugin.child.describing import describe  # asked for rarely

                self._writer.frame(describe(order, self._found, self._configs))
                return True
            case Stop():
                self._reader.set_plugin(None)
                keep = self._exit_all(order.timeout) and order.keep
                if keep:
                    self._retire(order.timeout)
                else:
                    self._writer.frame(Goodbye())
                return keep
        self._exit_all(ORPHAN_EXIT)
        return False

    # reading

    def _nothing_comes(self) -> None:
        self._gone()
        self._flushes.close()
        self._shared.outgoing_calls.close()
        self._orders.put(None)

    def _handle_frame(self, frame: object) -> None:
        match frame:
            case Deliver() | Gap():
                for actor in self._receivers:
                    actor.deliver(frame)
            case Transit():
                self._relayers[frame.plugin].deliver(frame)
            case Call():
                actor, function = self._functions[frame.method]
                actor.call(frame, function)
            case Admit():
                next(actor for actor in self._actors if actor.name == frame.plugin).admit(frame)
            case Repeat():
                next(actor for actor in self._receivers if actor.name == frame.plugin).repeat(frame)
            case Withdraw():
                for actor in self._actors:
                    actor.withdraw(frame.call_id)
            case _:
                self._handle_control(frame)

    def _handle_control(self, frame: object) -> None:
        match frame:
            case Flow():
                self._writer.flow(frame.open, frame.why)
            case Flushed():
                self._flushes.answer(frame.flush_id, frame.error)
            case Answered() | Hosts():
                self._shared.take(frame, self._greeting)
            case _:
                self._handle_order(frame)

    def _handle_order(self, frame: object) -> None:
        """Process a frame about the life of the plugins."""
        match frame:
            case Handover():
                self._shared.timers.hold()
                for actor in self._actors:
                    actor.halt(frame.number, fresh=frame.fresh)
            case Takeover():
                next(actor for actor in self._actors if actor.name == frame.plugin).take_over(frame.value)
            case Resume():
                for actor in self._actors:
                    actor.resume()
                self._shared.timers.start()
            case Start():
                for actor in self._actors:
                    actor.start(frame.progress.get(actor.name), on_trial=frame.on_trial)
                takers = [*self._receivers, *self._relayers.values()]
                if len(takers) == 1:
                    takers[0].read_from(self._reader)
                self._writer.start()
                self._shared.timers.start()
                if self._greeting:
                    self._writer.frame(AskHosts(0))
            case Load() | Make() | Stop() | Describe():
                self._orders.put(frame)

    def _applied(self) -> Applied | None:
        now = (
            min((actor.done for actor in self._receivers), default=0),
            self._failed_before + sum(actor.failed for actor in self._actors),
            self._writer.waited,
            self._writer.unkept,
        )
        if now == self._last_applied:
            return None
        self._last_applied = now
        return Applied(*now)

    # loading

    def _attempt(self, step: Callable[[], Checked | Loaded]) -> bool:
        """Do a step of loading and report the result to the satellite."""
        try:
            frame = step()
            encode_frame(frame)
        except LoadFailure as failure:
            self._refuse(failure)
            return False
        except ConfigError as error:
            self._refuse(LoadFailure(error.problem, error.where))
            return False
        except BaseException as error:
            self._refuse(LoadFailure.of("it cannot be loaded", error, Path(self._load.folder)))
            return False
        if isinstance(frame, Loaded):
            self._after_load()
        self._writer.frame(frame)
        return True

    def _refuse(self, failure: LoadFailure) -> None:
        texts = (failure.problem[:4096], failure.where[:4096], failure.details)
        problem, where, details = map(text_for_frame, texts)
        self._writer.frame(LoadFailed(problem, where, details, failure.taken))
        self._exit_all(1.0)

    def _check(self, load: Load) -> Checked:
        """Import the package and check its plugins; make none of them."""
        self._load = load
        for line in self._before_load(load):
            self._writer.record("", INFO, line)
        self._shared.prepare(load)
        module = import_package(load.package, load.folder, load.module)
        self._found, self._warnings = find_plugins(load.package, module, role=load.var_dict.get("role", ""))
        kinds = [one.kind for one in self._found]
        self._configs = Configs(load.package, load.config, load.config_file, module, kinds)
        self._configs.check()
        exclusive = any(kind.exclusive for kind in kinds)
        return Checked(code_of(load.package, load.folder, load.module), exclusive)

    def _make_all(self) -> Loaded:
        """Make every plugin, from the imported code."""
        load = self._load
        plugins: list[PluginInfo] = []
        methods: list[MethodInfo] = []
        for index, one in enumerate(self._found):
            config = self._configs.of(one.kind)
            channels = one.channels(config)
            actor = Actor(
                one.name,
                one.kind,
                channels,
                writer=self._writer,
                flushes=self._flushes,
                shared=self._shared,
                methods=one.methods.keys(),
                send_timeout=load.send_timeout,
                words=self._words,
                index=index,
            )
            self._actors.append(actor)
            self._make(actor, one, load, config)
            assert actor.plugin is not None
            info, offered = plugin_info(one, actor.plugin, channels)
            plugins.append(info)
            methods += offered
            for method, attribute in one.methods.items():
                self._functions[method] = (actor, one.function(actor.plugin, attribute))
            if one.receives:
                self._receivers.append(actor)
            if one.relays:
                self._relayers[one.name] = actor
            if one.greets:
                self._greeting.append(actor)
        return Loaded(plugins, methods, self._warnings)

    @staticmethod
    def _make(actor: Actor, one: FoundPlugin, load: Load, config: Any) -> None:
        error = actor.make(dict(load.var_dict), config)
        name = one.kind.__name__
        place = Path(getattr(sys.modules[one.kind.__module__], "__file__", "") or load.folder).parent
        if error is not None:
            failure = LoadFailure.of(f"{name}.__init__ failed", error, place)
            failure.where = f"{failure.where or one.where}, class {name}"
            raise failure
        if not actor.initialised:
            raise LoadFailure(
                f"{name}.__init__ does not call super().__init__(var_dict)", f"{one.where}, class {name}"
            )

    # stopping

    def _exit_all(self, timeout: float) -> bool:
        """Call every ``__exit__`` at once; one that takes longer than ``timeout`` seconds is left behind.

        Returns:
            Whether no other call of a plugin is left behind: when it returns, it would record its progress as that
            of the plugin that comes next.
        """
        is_free = True
        deadline = time.monotonic() + timeout
        self._shared.timers.close()
        waiting = []
        for actor in self._actors:
            done = threading.Event()
            actor.exit(done)
            waiting.append((actor, done))
        for actor, done in waiting:
            if not done.wait(max(0.0, deadline - time.monotonic())):
                self._writer.record(actor.name, WARNING, f"did not end within {timeout:.1f} s: abandoned")
                is_free = is_free and actor.is_exiting
        self._shared.close()
        return is_free

    def _retire(self, timeout: float) -> None:
        """Drop the plugins, but keep their code."""
        self._writer.retire(timeout)
        self._flushes.close()
        self._flushes = Flushes()
        self._failed_before += sum(actor.failed for actor in self._actors)
        self._shared.renew()
        self._actors, self._receivers, self._greeting, self._functions = [], [], [], {}
        self._relayers = {}
        self._writer.frame(Exited())


def main() -> None:
    """Run in a process of its own; never return."""
    import faulthandler
    import signal

    # Not SIG_IGN: programs that a plugin starts would ignore it too, and some can only be ended in order with it.
    signal.signal(signal.SIGINT, _ignore_interrupt)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2)  # the satellite asks for a traceback before it kills a hanging host
    threading.excepthook = _thread_failed
    sock_fd, progress_fd = int(sys.argv[1]), int(sys.argv[2])
    for fd in (sock_fd, progress_fd):
        os.set_inheritable(fd, False)  # programs started by a plugin must not hold them open
    sock = socket.socket(fileno=sock_fd)
    words = ProgressWords(progress_fd)
    os.close(progress_fd)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        # Prints appear at once, and are read as UTF-8 whatever the host's terminal uses; no text raises, such as
        # the name of a file that is not in UTF-8.
        sys.stdout.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
        sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    PluginHost(
        sock,
        words,
        before_load=_prepare_process,
        loaded=_settle_memory,
        gone=_end_soon,
        broken=lambda: os._exit(EXIT_BROKEN),
    ).run()
    _leave()


def _ignore_interrupt(_number: int, _frame: object) -> None:
    """Do nothing at Ctrl-C: the satellite ends its plugin hosts itself."""


def _prepare_process(load: Load) -> Sequence[str]:
    """Limit the package's effect on the machine, before any of its code runs; return limits that cannot be set."""
    import resource

    threading.Thread(target=_stay_awake, args=(load.hang_timeout,), name="co2-watchdog", daemon=True).start()
    sys.dont_write_bytecode = True  # the plugin folder belongs to its author
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")  # out of memory, a plugin is killed first
    refused = []
    for key, kind, wanted in (
        ("plugin_memory", resource.RLIMIT_AS, load.memory * 1024 * 1024),
        ("plugin_open_files", resource.RLIMIT_NOFILE, load.open_files),
        ("plugin_cpu_seconds", resource.RLIMIT_CPU, load.cpu_seconds),
    ):
        _, hard = resource.getrlimit(kind)
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            if wanted:
                resource.setrlimit(kind, (limit, hard))
        except (OSError, ValueError) as error:  # macOS has no limit of address space
            refused.append(f"{key} has no effect here: this system does not set that limit ({error})")
    return refused


def _stay_awake(timeout: float) -> None:
    """End the process if no Python code runs for a long time, because a call into C does not return.

    Usually the satellite kills such a child first; this is for the case that the satellite itself was killed.

    Args:
        timeout: seconds without Python code.
    """
    import faulthandler

    while True:
        faulthandler.dump_traceback_later(timeout, exit=True)
        time.sleep(timeout / 3)


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    # A thread that a plugin has left running gets NotRunning at its next send: the log needs no traceback of that.
    if not issubclass(args.exc_type, NotRunning):
        threading.__excepthook__(args)


def _settle_memory() -> None:
    """Freeze the loaded objects for the garbage collector: decoding messages gets faster."""
    import gc

    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _end_soon() -> None:
    """End after a grace period: the satellite is gone, and a plugin may hang in its import or its ``__exit__``."""
    timer = threading.Timer(ORPHAN_EXIT + 0.5, os._exit, (EXIT_BROKEN,))
    timer.daemon = True
    timer.start()


def _leave() -> None:
    """End without waiting for threads that plugins have left behind."""
    import atexit

    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
