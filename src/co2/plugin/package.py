"""The life of one plugin package: start, load, carry, die, start again, stop."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from co2.errors import BadParams, BadRequest, CallTimeout, PluginFailed, TooBig, ValueRefused
from co2.plugin.asking import Asking, Network
from co2.plugin.calls import PendingCalls
from co2.plugin.child import Child, make_child
from co2.plugin.deaths import MAX_TRIES, PARK_DEATHS, PARK_WITHIN, Deaths, backoff, read_progress
from co2.plugin.flushing import Flushing
from co2.plugin.progress import CALLBACKS, ProgressWords
from co2.plugin.records import Records, preview
from co2.plugin.status import PackageSpec, PackageStatus, PluginSettings
from co2.plugin.waiting import Missing, Parcel, Waiting, Window
from co2.plugin.wanted import Wanted
from co2.plugin.watch import Slow, Watch
from co2.protocol.batch import batch_count
from co2.protocol.frames import (
    Applied,
    Ask,
    AskHosts,
    Call,
    ChildFrame,
    DeadLetter,
    Flow,
    Flush,
    Host,
    Load,
    Loaded,
    LoadFailed,
    MethodInfo,
    PluginInfo,
    Progress,
    Publish,
    Record,
    Repeat,
    Result,
    Start,
    Stop,
    Withdraw,
)
from co2.values import pack_value, unpack_value

__all__ = ["MAX_FROM_NETWORK", "NETWORK", "Hub", "Package"]

NETWORK = ""
"""The source of messages that come from outside; the others are called after packages."""

MAX_FROM_NETWORK = 4 * 1024 * 1024
"""Bytes from the network that wait for a package before it takes no more for now. At a quarter it does again."""

HANG_GRACE = 10.0
"""Seconds beyond its deadline after which a child that runs no Python at all ends itself."""

QUICK_LIFE = 60.0
"""A plugin host that lived longer than so many seconds starts again with the shortest delay."""

_KILL_AFTER = 0.3
"""Seconds that a plugin host gets beyond the exit timeout to end by itself."""


class Hub(Protocol):
    """What a package needs of its supervisor."""

    @property
    def paused(self) -> bool:
        """Whether plugins may not send now."""

    @property
    def network(self) -> Network:
        """What plugins may ask."""

    def published(
        self, package: "Package", plugin: str, channels: Sequence[str] | None, batch: bytes, live: bool
    ) -> None:
        """Take a batch that a plugin sent, in order."""

    def flushed(self, package: "Package") -> Awaitable[None]:
        """Wait until all that the package has published so far is acknowledged."""

    def methods_changed(self) -> None:
        """Called when the methods or plugins of a package are others than before."""

    def dead_letter(self, package: "Package", letter: DeadLetter) -> None:
        """Keep a message that a plugin did not take."""

    def has_room(self, package: "Package") -> None:
        """A package that took no more from the network has room again."""


class Package:
    """One package and the child that carries it.

    Args:
        spec: which one.
        settings: limits.
        var_dict: for its plugins.
        hub: the supervisor.
    """

    def __init__(self, spec: PackageSpec, settings: PluginSettings, var_dict: Mapping[str, Any], hub: Hub) -> None:
        self.name = spec.name
        self.state = "starting"
        self.plugins: list[PluginInfo] = []
        self.methods: dict[str, MethodInfo] = {}
        self.settled = asyncio.Event()
        self._spec = spec
        self._settings = settings
        self._var_dict = {**var_dict, "package": spec.name}
        self._hub = hub
        self._records = Records(spec.name)
        self._logger = self._records.logger
        self._child: Child | None = None
        self._watch: Watch | None = None
        self._load_result: asyncio.Future[Loaded | LoadFailed] | None = None
        self._stopping = asyncio.Event()
        self._waiting = Waiting()
        self._behind = False
        self._window = Window()
        self._wanted = Wanted(())
        self._flushing = Flushing()
        self._asking = Asking(hub.network)
        self._calls = PendingCalls()
        self._progress: dict[str, Progress] = {}
        self._deaths = Deaths()
        self._words: ProgressWords | None = None
        self._guilty: Slow | None = None
        self._reason = ""
        self._killing: asyncio.Task[None] | None = None
        self._restarts = self._received = self._sent = 0
        # Those that were passed on, and how many of them came from the child of now.
        self._dead_letters = self._letters_come = 0
        # Counters of the child of now, and the sums over those before.
        self._applied, self._earlier = Applied(0), Applied(0)
        self._slowest = 0.0

    # life

    async def run(self) -> None:
        """Carry the package until it has failed, is parked, or is told to stop."""
        delays = backoff()
        while True:
            began = time.monotonic()
            how = await self._live()
            if self._stopping.is_set() or self.state == "failed":
                break
            if time.monotonic() - began > QUICK_LIFE:
                delays = backoff()
            if not self._died(how):
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), next(delays))
            if self._stopping.is_set():
                break
            self._restarts += 1
        self._calls.fail(f"the plugin package {self.name} is not running")
        if self._stopping.is_set() and self.state != "failed":
            self.state = "stopped"
        self.settled.set()

    async def stop(self, timeout: float) -> None:
        """End it in good order, within ``timeout`` seconds and a little."""
        self._stopping.set()
        child = self._child
        if child is None or child.exited.done():
            return
        if self.state != "running":
            child.kill()
            return
        child.send(Stop(timeout))
        await asyncio.wait([child.exited], timeout=timeout + _KILL_AFTER)
        if not child.exited.done():
            self._logger.error("__exit__ took longer than %.1f s: the plugin host is killed", timeout)
            child.kill()

    async def _live(self) -> str:
        """Start a child and stay with it until its end; tell how that came."""
        child = make_child(self._settings.isolation, self._take, self._logger)
        self._load_result = asyncio.get_running_loop().create_future()
        self._guilty, self._reason, self._words, self._letters_come = None, "", None, 0
        try:
            await child.start()
        except OSError as error:
            return f"cannot be started: {error}"
        self._child = child
        try:
            if self._stopping.is_set():
                child.kill()
                return "stopped"
            how = await self._load(child)
            if how is None:
                how = await child.exited
            return how
        finally:
            await self._bury(child)

    async def _load(self, child: Child) -> str | None:
        """Have the package loaded; None when it runs, else how it came to an end."""
        assert self._load_result is not None
        folder = str(self._spec.folder or "")
        settings = self._settings
        try:
            child.send(
                Load(
                    self.name,
                    folder,
                    self._var_dict,
                    dict(self._spec.config),
                    settings.send_timeout,
                    settings.load_timeout,
                    settings.plugin_memory,
                    max(settings.receive_deadline, settings.load_timeout) + HANG_GRACE,
                    **self._spec.load_keys(),
                )
            )
        except (BadRequest, TypeError, ValueError) as error:
            child.kill()
            return self._failed(f"its configuration cannot be passed on: {error}")
        outcomes: list[asyncio.Future[Any]] = [self._load_result, child.exited]
        await asyncio.wait(outcomes, timeout=settings.load_timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._stopping.is_set():
            return "stopped"
        if self._load_result.done():
            return await self._load_decided(child, self._load_result.result())
        if child.exited.done():
            how = f"the plugin host {child.exited.result()} while it loaded"
            return how if self._restarts else self._failed(how)
        place = await child.where(folder)
        child.kill()
        where = f" (at {place})" if place else ""
        return self._failed(f"hangs: not loaded within {settings.load_timeout:g} s{where}")

    async def _load_decided(self, child: Child, result: Loaded | LoadFailed) -> str | None:
        if isinstance(result, Loaded):
            self._start(child, result)
            return None
        where = f"{result.where}: " if result.where else ""
        problem = f"{where}{result.problem}"
        await asyncio.wait([child.exited], timeout=2.0)
        child.kill()
        if result.details:
            self._logger.error("%s", result.details)
        # What has run before will run again: maybe a port is still taken by what the last child left behind.
        return f"not loaded: {problem}" if self._restarts else self._failed(problem)

    def _failed(self, problem: str) -> str:
        self.state = "failed"
        self._waiting.clear()
        self._records.error(f"plugin package {self.name} is not loaded: {problem}")
        return problem

    def _start(self, child: Child, loaded: Loaded) -> None:
        for warning in loaded.warnings:
            self._logger.warning("%s", warning)
        changed = self.plugins != loaded.plugins or [*self.methods.values()] != loaded.methods
        self.plugins = loaded.plugins
        self._wanted = Wanted(loaded.plugins)
        self.methods = {method.name: method for method in loaded.methods}
        self._watch = Watch(
            child.words, loaded.plugins, self._settings.receive_warning, self._settings.receive_deadline
        )
        if not any(plugin.receives for plugin in loaded.plugins):
            self._waiting.clear()
        elif self.durable:
            # What siblings have sent while that was not known comes from the relay.
            self._waiting.clear(but=NETWORK)
        if self._hub.paused:
            child.send(Flow(False))
        child.send(Start(self._progress))
        self._asking.started(child, loaded.plugins)
        self.state = "running"
        for frame in self._window.again():
            child.send(frame)
        self._pump()
        self.settled.set()
        self._logger.info(
            "%s: %s",
            "runs again" if self._restarts else "loaded",
            ", ".join(plugin.name for plugin in loaded.plugins),
        )
        if changed:
            self._hub.methods_changed()

    async def _bury(self, child: Child) -> None:
        """Take what an ended child left: its last messages, and where it stood."""
        if self.state == "running" and not self._stopping.is_set():
            self.state = "restarting"
        if self._killing is not None:
            self._killing.cancel()
            self._killing = None
        await child.end()
        self._child = None
        if self._watch is not None:
            self._slowest = max(self._slowest, self._watch.slowest)
            self._watch = None
            self._words = child.words
            self._progress = read_progress(child.words, self.plugins, self._progress)
            self._settle_done()  # it need not have come to say so
        self._flushing.cancel()
        self._asking.cancel()
        self._calls.fail(f"the plugin host of {self.name} died")
        before, now = self._earlier, self._applied
        unkept = child.words.letters - self._letters_come  # also those that went down with the child
        self._earlier = Applied(0, before.failed + now.failed, before.waited + now.waited, before.unkept + unkept)
        self._applied = Applied(0)

    def _died(self, how: str) -> bool:
        """Tell of a death, and decide what follows: whether there is another try, and where it goes on."""
        self.state = "restarting"
        self._records.error(self._reason or f"the plugin host of {self.name} {how}; it is started again")
        now = time.monotonic()
        for plugin, number in self._deaths.add(now, self._suspects()):
            self._give_up(plugin, number, self._reason or f"it {how}")
        self._settle_done()
        if not self._deaths.park(now):
            return True
        self.state = "parked"
        self._records.error(
            f"plugin package {self.name} is parked: its plugin host died {PARK_DEATHS} times within "
            f"{PARK_WITHIN:g} s; the last one {how}"
        )
        return False

    def _settle_done(self) -> None:
        done = [self._progress[plugin.name].done for plugin in self.plugins if plugin.receives]
        if done:
            self._received += self._window.done(min(done))

    def _suspects(self) -> list[tuple[str, int]]:
        """Note where each plugin stood; give (plugin, message number) of those that may have killed the child."""
        words = self._words
        if words is None:
            return []
        inside = [
            (plugin.name, words.message(index) // 2)
            for index, plugin in enumerate(self.plugins)
            if words.message(index) % 2
        ]
        self._progress = read_progress(words, self.plugins, self._progress)
        if self._guilty is None:
            return inside
        return [(self._guilty.plugin, self._guilty.inside)] if self._guilty.inside else []

    def _give_up(self, plugin: str, number: int, how: str) -> None:
        """Make a dead letter of the message that the child died in once too often."""
        self._progress[plugin] = Progress(number, 0)
        found = self._window.find(number)
        if found is None:
            self._records.error(f"{plugin}: the plugin host died {MAX_TRIES} times in gap(): it is not told again")
            return
        envelope, message = found
        reason = f"the plugin host died {MAX_TRIES} times in this message: {how}"
        self._keep(DeadLetter(plugin, envelope.host_id, envelope.client_address, reason, message))
        self._records.error(
            f"{plugin}: dead letter, given up: the plugin host died {MAX_TRIES} times in this message; "
            f"from {envelope.host_id}: {preview(message)}"
        )

    def _keep(self, letter: DeadLetter) -> None:
        self._dead_letters += 1
        self._hub.dead_letter(self, letter)

    # frames of the child

    def _take(self, frame: ChildFrame) -> None:
        match frame:
            case Publish():
                self._sent += batch_count(frame.batch)
                self._hub.published(self, frame.plugin, frame.channels, frame.batch, frame.live)
            case Flush():
                if self._child is not None:
                    self._flushing.start(self._child, frame.flush_id, self._hub.flushed(self))
            case Applied():
                self._applied = frame
                self._received += self._window.done(frame.last)
                self._deaths.forget_up_to(frame.last)
                self._pump()
            case DeadLetter():
                self._letters_come += 1
                self._keep(frame)
            case Result():
                self._calls.answer(frame.call_id, frame.value, frame.error, refused=frame.refused)
            case Ask() | AskHosts():
                self._asking.take(self._child, frame)
            case Record():
                self._records.take(frame)
            case Loaded() | LoadFailed():
                if self._load_result is not None and not self._load_result.done():
                    self._load_result.set_result(frame)

    # messages

    def wants(self, channels: Sequence[str] | None, sender: str = "") -> bool:
        """Whether any of its plugins but ``sender`` hears messages of such channels, as far as is known."""
        if self.state in ("failed", "stopped") or self._stopping.is_set():
            return False
        if not self.plugins:
            return not sender
        return self._wanted.wants(channels, sender)

    def deliver(self, source: str, parcel: Parcel) -> None:
        """Queue a batch for the package, and give the child what it may have."""
        child = self._child if self.state == "running" and not self._stopping.is_set() else None
        if child is not None and not self._waiting.bytes and self._window.room > 0:
            child.send(self._window.give(parcel))
            return
        self._waiting.put(source, parcel)
        self._pump()

    def deliver_from_network(self, parcel: Parcel) -> bool:
        """Queue a batch from the network; tell whether there is room for more.

        Where there is none the hub is told once there is: until then the relay's log keeps what comes.
        """
        self.deliver(NETWORK, parcel)
        if self._waiting.held(NETWORK) > MAX_FROM_NETWORK:
            self._behind = True
        return not self._behind

    def gap(self, source: str, gap: Missing) -> None:
        """Queue a gap: messages of this source that will not come."""
        self._waiting.put_gap(source, gap)
        self._pump()

    def _pump(self) -> None:
        child = self._child
        if self.state != "running" or child is None or self._stopping.is_set():
            return
        while self._window.room > 0 and (taken := self._waiting.take(self._window.room)) is not None:
            child.send(self._window.give(taken))

        if self._behind and self._waiting.held(NETWORK) <= MAX_FROM_NETWORK // 4:
            self._behind = False
            self._hub.has_room(self)

    @property
    def durable(self) -> bool:
        """Whether it goes on where it left off after a restart of its satellite."""
        return any(plugin.durable and plugin.receives for plugin in self.plugins)

    def position(self, log_id: str) -> int:
        """Give the position of the last message that it is done with in this log; 0 for none."""
        return self._window.position if self._window.log_id == log_id else 0

    def flow(self, is_open: bool) -> None:
        """Let its plugins send, or have them wait."""
        if self._child is not None:
            self._child.send(Flow(is_open))

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Tell its plugins who has joined and left the network."""
        self._asking.tell(self._child, joined, left)

    # calls

    async def call(self, method: str, argument: Mapping[str, Any], timeout: float) -> Any:
        """Call an ``x_`` method.

        Raises:
            BadParams: the argument cannot travel, or it does not take it.
            PluginFailed: it raised, died, is not running, or too many calls wait.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        try:
            packed = pack_value(argument)
        except (ValueRefused, TooBig) as error:
            raise BadParams(str(error)) from None
        return await self._call(method, len(packed), timeout, lambda call_id: Call(call_id, method, packed))

    async def repeat(self, letter: DeadLetter, timeout: float) -> None:
        """Give a dead letter to its plugin once more; return when it has taken it.

        Raises:
            PluginFailed: it raised again, died, is not there, or too many calls wait.
            CallTimeout: it is not done within ``timeout`` seconds.
        """
        what = f"{letter.plugin}.receive"
        if self.state == "running" and not any(one.name == letter.plugin and one.receives for one in self.plugins):
            raise PluginFailed(f"{what}: the plugin package {self.name} has no such receiver")
        rest = letter.plugin, letter.host_id, letter.client_address, letter.message
        await self._call(what, len(letter.message), timeout, lambda call_id: Repeat(call_id, *rest))

    async def _call(self, what: str, size: int, timeout: float, frame: Callable[[int], Call | Repeat]) -> Any:
        if self.state != "running" or self._child is None or self._stopping.is_set():
            raise PluginFailed(f"{what}: the plugin package {self.name} is {self.state}")
        call_id, answer = self._calls.new(what, size)
        child = self._child
        child.send(frame(call_id))
        try:
            return unpack_value(await self._calls.wait(call_id, answer, timeout))
        except (CallTimeout, asyncio.CancelledError):
            child.send(Withdraw(call_id))
            raise

    # watching

    def look(self, now: float) -> None:
        """Warn about who is slow, kill who is too slow; called several times a second."""
        self._records.tell(now, self._waiting.dropped, self._unkept)
        if self._child is not None:
            self._child.tick()
        if self._watch is None or self._child is None:
            return
        for slow in self._watch.look(now):
            what = f"{slow.plugin}: {self._what(slow)}"
            if not slow.late:
                self._logger.warning(
                    "%s has been running for %.1f s and holds up everything else of this plugin: "
                    "longer work belongs in a thread",
                    what,
                    slow.seconds,
                )
            elif not self._child.can_kill:
                self._records.error(
                    f"{what} takes longer than {self._settings.receive_deadline:g} s; "
                    "with isolation 'thread' nothing can end it"
                )
            elif self._killing is None and not self._stopping.is_set():
                self._guilty = slow
                self._killing = asyncio.create_task(self._kill(self._child, what))

    @property
    def _unkept(self) -> int:
        return self._earlier.unkept + self._applied.unkept

    def _what(self, slow: Slow) -> str:
        if slow.call_id >= CALLBACKS:
            return "a function called by every(), joined or left"
        return "receive" if slow.inside else (self._calls.method(slow.call_id) or "an x_ method")

    async def _kill(self, child: Child, what: str) -> None:
        place = await child.where(str(self._spec.folder or ""))
        where = f" (at {place})" if place else ""
        limit = self._settings.receive_deadline
        self._reason = f"{what} took longer than {limit:g} s{where}: its plugin host is killed and started again"
        child.kill()

    def status(self) -> PackageStatus:
        """Tell how it is."""
        watch = self._watch
        return PackageStatus(
            name=self.name,
            state=self.state,
            pid=self._child.pid if self._child is not None else None,
            plugins=tuple(self.plugins),
            restarts=self._restarts,
            last_error=self._records.last_error,
            last_error_age=self._records.last_error_age,
            received=self._received,
            sent=self._sent,
            failed=self._earlier.failed + self._applied.failed,
            dead_letters=self._dead_letters + self._unkept,
            letters_unkept=self._unkept,
            dropped=self._waiting.dropped,
            send_waits=self._earlier.waited + self._applied.waited,
            waiting=len(self._waiting) + len(self._window),
            slowest=round(max(self._slowest, watch.slowest if watch is not None else 0.0), 3),
        )
