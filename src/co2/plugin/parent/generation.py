"""One load of a package: the child that carries it, its code, its plugins and their tasks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from co2.errors import BadRequest
from co2.plugin.packages.spec import PackageSpec, PluginSettings
from co2.plugin.parent.calls_out import CallsOut
from co2.plugin.parent.flushes import PackageFlushes
from co2.plugin.parent.interests import PackageInterests
from co2.plugin.parent.process import Child, make_child
from co2.plugin.parent.watchdog import Slow, Watchdog
from co2.protocol.wire.plugin_frames.frames import (
    Answer,
    Applied,
    Checked,
    ChildFrame,
    DeadLetter,
    Exited,
    Flow,
    Flush,
    HandedOver,
    Handover,
    HostFrame,
    Load,
    Loaded,
    LoadFailed,
    Make,
    MethodInfo,
    PluginInfo,
    Progress,
    Publish,
    Start,
    Stop,
    Stumbled,
    TakenOver,
    Takeover,
)

__all__ = ["HANG_GRACE", "Generation", "NotLoaded"]

HANG_GRACE = 10.0
"""Seconds beyond its deadline after which a child that runs no Python ends itself."""

_KILL_AFTER = 0.3
"""Seconds that a plugin host gets beyond the exit timeout to end by itself."""

_END_AFTER_REFUSAL = 2.0
"""Seconds that a child gets to end by itself after its load failed."""

_PICTURED = ("SyntaxError", "IndentationError", "TabError")

Took = Callable[["Generation", ChildFrame], None]


class NotLoaded(Exception):
    """Loading the package failed.

    Not a Co2Error: it never leaves this subpackage. The life cycle catches it, logs the problem, and answers
    those who requested the load with a LoadError.

    Args:
        problem: the actual and the expected state, with file and line if known.
        taken: an exclusive resource, such as a port or a device, is in use.
        died: the child ended by itself, without reporting a reason.
    """

    def __init__(self, problem: str, *, taken: bool = False, died: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.taken = taken
        self.died = died


class Generation:
    """One load of a package.

    Args:
        number: counts the loads of this package since the satellite started.
        spec: which package.
        settings: limits of plugin packages.
        var_dict: variables for its plugins.
        logger: of the package.
        took: handles the frames of the child that are not for the load itself.
        news: called when it has ended or stumbled.

    Attributes:
        code: hash of its code, '' before it is known.
        exclusive: the package declares that it holds an exclusive resource.
        plugins: the plugins made from it.
        warnings: parts of it that are ignored, or have no effect.
        methods: of its plugins, by name.
        receives: whether any plugin receives messages.
        durable: whether it resumes at its last position after a restart of its satellite.
        times: whether its messages carry the time at which the relay got them.
        wanted: interests of its plugins.
        ended: done when the child has ended and all its frames are read; its result is the cause.
        stumbled: the exception of a plugin in its first message or call, '' for none.
        stumbled_in_callback: the plugin, if that was in a timer, ``joined`` or ``left``; else ''.
        failing: plugins in which the last call of one of these raised, as of the handover.
        kept: its plugins have exited, but its code is still loaded.
        calls_out: answers its plugins' queries to the network.
        applied: the child's counters, as last reported.
        letters_come: number of dead letters that arrived.
        watchdog: of its plugins while they run; None otherwise.
        too_slow: the slow call for which it was killed.
        reason: why it was killed, '' if it was not.
    """

    def __init__(
        self,
        number: int,
        spec: PackageSpec,
        *,
        settings: PluginSettings,
        var_dict: Mapping[str, Any],
        logger: logging.Logger,
        took: Took,
        news: Callable[[], None],
    ) -> None:
        self.number = number
        self.code = ""
        self.exclusive = False
        self.plugins: list[PluginInfo] = []
        self.warnings: list[str] = []
        self.methods: dict[str, MethodInfo] = {}
        self.receives = self.durable = self.times = False
        self.wanted = PackageInterests(())
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.stumbled = self.stumbled_in_callback = ""
        self.failing: set[str] = set()
        self.kept = False
        self.applied = Applied(0)
        self.letters_come = 0
        self.watchdog: Watchdog | None = None
        self.too_slow: Slow | None = None
        self.reason = ""
        self._spec = spec
        self._settings = settings
        self._var_dict = var_dict
        self._logger = logger
        self._took = took
        self._news = news
        self._answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._flushes = PackageFlushes()
        self.calls_out = CallsOut()
        self._handovers = 0
        self._until = 0.0
        self._to_be_killed = False
        self._killing: asyncio.Task[None] | None = None
        self._lifecycle: asyncio.Task[None] | None = None
        self.child: Child = make_child(settings.isolation, self._handle_frame, logger, spec.env)

    @property
    def letters(self) -> int:
        """Dead letters of its plugins, also those that did not arrive."""
        return self.child.words.letters if self._lifecycle is not None else 0

    def activity(self, plugin: str) -> int:
        """Return the activity word of one of its plugins."""
        index = next((at for at, one in enumerate(self.plugins) if one.name == plugin), None)
        return 0 if index is None else self.child.words.activity(index)

    def stumble(self, why: str) -> None:
        """Record that its new code fails; the life cycle decides whether the old code comes back."""
        self.stumbled, self.stumbled_in_callback = why, ""
        self._news()

    def send(self, frame: HostFrame) -> None:
        """Send a frame to its child."""
        self.child.send(frame)

    # start

    async def check(self) -> None:
        """Start the child, which imports the package and checks it.

        Raises:
            NotLoaded: it failed; the child has ended, or will.
        """
        try:
            await self.child.start()
        except OSError as error:
            self.ended.set_result(f"cannot be started: {error}")
            raise NotLoaded(f"the plugin host cannot be started: {error}", died=True) from None
        self._lifecycle = asyncio.create_task(self._live(), name=f"plugin host {self._spec.name} {self.number}")
        if self._to_be_killed:
            self.child.kill()
        try:
            frame = self._load_frame()
            self.child.send(frame)
        except (BadRequest, TypeError, ValueError) as error:
            self.child.kill()
            raise NotLoaded(f"its configuration cannot be passed on: {error}") from None
        self._until = asyncio.get_running_loop().time() + self._settings.load_timeout
        limit = self._settings.load_timeout
        checked = await self._load_step(Checked, limit, limit)
        assert isinstance(checked, Checked)
        self.code, self.exclusive = checked.code, checked.exclusive

    async def make(self, timeout: float | None = None) -> None:
        """Make every plugin, anew if its plugins had exited.

        Args:
            timeout: seconds; None for the rest of the load timeout after :meth:`check`.

        Raises:
            NotLoaded: it failed; the child has ended, or will.
        """
        left = self._until - asyncio.get_running_loop().time()
        self.child.send(Make())
        if timeout is None:
            loaded = await self._load_step(Loaded, left, self._settings.load_timeout)
        else:
            loaded = await self._load_step(Loaded, timeout, timeout)
        assert isinstance(loaded, Loaded)
        self.kept = False
        self.warnings = loaded.warnings
        self.plugins = loaded.plugins
        self.methods = {method.name: method for method in loaded.methods}
        self.receives = any(plugin.receives for plugin in loaded.plugins)
        self.durable = any(plugin.durable and plugin.receives for plugin in loaded.plugins)
        self.times = any(plugin.times and plugin.receives for plugin in loaded.plugins)
        self.wanted = PackageInterests(loaded.plugins)

    def start(self, progress: dict[str, Progress], *, paused: str, on_trial: bool) -> None:
        """Start its plugins and their watchdog; their sends wait while they are ``paused`` for a reason."""
        settings = self._settings
        self.watchdog = Watchdog(
            self.child.words, self.plugins, settings.receive_warning, settings.receive_deadline
        )
        self.stumbled = ""
        if paused:
            self.child.send(Flow(False, paused))
        self.child.send(Start(progress, on_trial))

    def flush(self, flush: Flush, acknowledged: Awaitable[None]) -> None:
        """Answer a flush when ``acknowledged`` is done."""
        self._flushes.start(self.child, flush, acknowledged)

    # change of code

    async def handover(self, timeout: float, *, fresh: bool = False) -> dict[str, bytes] | None:
        """Stop its plugins between two messages; return the values handed over, None if they do not stop in time.

        Args:
            timeout: seconds.
            fresh: ignore the values, and the exceptions.

        Raises:
            NotLoaded: a ``handover`` raised.
        """
        self._handovers += 1
        self.child.send(Handover(self._handovers, fresh))
        values: dict[str, bytes] = {}
        problems: list[str] = []
        count = 0
        async with _Deadline(timeout) as deadline:
            while count < len(self.plugins) and (answer := await self._answer()) is not None:
                if not isinstance(answer, HandedOver) or answer.number != self._handovers:
                    continue
                count += 1
                if answer.failing:
                    self.failing.add(answer.plugin)
                if answer.problem:
                    problems.append(f"{answer.plugin}.handover failed: {answer.problem}")
                elif answer.value is not None:
                    values[answer.plugin] = answer.value
        if problems and not fresh:
            raise NotLoaded(f"{'; '.join(problems)}; co2 plugin reload {self._spec.name} --fresh skips handover")
        if fresh:
            values = {}
        return None if deadline.passed or count < len(self.plugins) else values

    async def takeover(self, values: Mapping[str, bytes], timeout: float) -> None:
        """Pass the values of the previous plugins to its plugins.

        Raises:
            NotLoaded: a ``takeover`` raised or took too long, or the child died.
        """
        names = {plugin.name for plugin in self.plugins}
        given = [Takeover(name, value) for name, value in values.items() if name in names]
        for frame in given:
            self.child.send(frame)
        count = 0
        async with _Deadline(timeout) as deadline:
            while count < len(given):
                answer = await self._answer()
                if answer is None:
                    raise NotLoaded(f"the plugin host {self._how()} in takeover", died=True)
                if isinstance(answer, TakenOver):
                    count += 1
                    if answer.problem:
                        raise NotLoaded(f"{answer.plugin}.takeover failed: {answer.problem}")
        if deadline.passed:
            place = await self.child.where(str(self._spec.folder or ""))
            raise NotLoaded(f"takeover took longer than {timeout:g} s{f' (at {place})' if place else ''}")

    async def retire(self, timeout: float) -> bool:
        """Run every ``__exit__`` and receive all that was sent; return whether the code is kept."""
        self.child.send(Stop(timeout, keep=True))
        async with _Deadline(timeout + _KILL_AFTER) as deadline:
            while (answer := await self._answer()) is not None and not isinstance(answer, Exited):
                pass
            self.kept = answer is not None
        if deadline.passed:
            self._logger.error("__exit__ took longer than %.1f s: the plugin host is killed", timeout)
            self.child.kill()
            await self.ended
        self._cancel_tasks()
        return self.kept

    # end

    async def stop(self, timeout: float) -> None:
        """Stop it in an orderly way, within ``timeout`` seconds and a little."""
        self.child.send(Stop(timeout))
        await asyncio.wait([self.ended], timeout=timeout + _KILL_AFTER)
        if not self.ended.done():
            self._logger.error("__exit__ took longer than %.1f s: the plugin host is killed", timeout)
            self.child.kill()

    async def end(self) -> None:
        """Kill the child; return when all its frames are read."""
        self.kept = False
        self._to_be_killed = True
        if self._lifecycle is not None:
            self.child.kill()
            await self.ended

    def kill_slow(self, slow: Slow, what: str) -> None:
        """Kill it because the call ``what`` of one of its plugins is too slow."""
        if self._killing is None:
            self.too_slow = slow
            self._killing = asyncio.create_task(self._kill(what))

    # frames

    def _handle_frame(self, frame: ChildFrame) -> None:
        match frame:
            case Publish():  # first, for there are many
                self._took(self, frame)
            case Checked() | Loaded() | LoadFailed() | HandedOver() | TakenOver() | Exited():
                self._answers.put_nowait(frame)
            case Stumbled():
                which = f"{frame.plugin}: {frame.what} failed at its first call"
                if not frame.callback:
                    which = f"{frame.plugin}.{frame.what} failed in its first message"
                self.stumbled = f"{which}: {frame.problem}"
                self.stumbled_in_callback = frame.plugin if frame.callback else ""
                self._news()
            case Applied():
                self.applied = frame
                self._took(self, frame)
            case DeadLetter():
                self.letters_come += 1
                self._took(self, frame)
            case _:
                self._took(self, frame)

    async def _live(self) -> None:
        how = await self.child.exited
        await self.child.end()
        self._cancel_tasks()
        if not self.ended.done():
            self.ended.set_result(how)
        self._answers.put_nowait(None)
        self._news()

    async def _answer(self) -> Answer | None:
        """Return the next answer; None once the child has ended."""
        if self.ended.done() and self._answers.empty():
            return None
        return await self._answers.get()

    async def _load_step(self, wanted: type[Checked | Loaded], timeout: float, limit: float) -> Answer:
        answer: Answer | None = None
        async with _Deadline(timeout) as deadline:
            while (answer := await self._answer()) is not None and not isinstance(answer, wanted | LoadFailed):
                pass
        if isinstance(answer, LoadFailed):
            raise await self._refused(answer)
        if deadline.passed:
            place = await self.child.where(str(self._spec.folder or ""))
            self.child.kill()
            where = f" (at {place})" if place else ""
            raise NotLoaded(f"hangs: loading took longer than {limit:g} s{where}")
        if answer is None:
            raise NotLoaded(f"the plugin host {self._how()} while it loaded", died=True)
        return answer

    async def _refused(self, answer: LoadFailed) -> NotLoaded:
        await asyncio.wait([self.ended], timeout=_END_AFTER_REFUSAL)
        self.child.kill()
        if answer.details:
            # The error is also logged in one line with its place; only a picture of a wrong line adds to that.
            is_picture = answer.details.rpartition("\n")[2].startswith(_PICTURED)
            self._logger.log(logging.ERROR if is_picture else logging.INFO, "%s", answer.details)
        where = f"{answer.where}: " if answer.where else ""
        return NotLoaded(f"{where}{answer.problem}", taken=answer.taken)

    def _load_frame(self) -> Load:
        settings, spec = self._settings, self._spec
        limits = spec.all_limits(settings)
        return Load(
            spec.name,
            str(spec.folder or ""),
            dict(self._var_dict),
            dict(spec.config),
            settings.send_timeout,
            settings.load_timeout,
            limits["memory"],
            max(settings.receive_deadline, settings.load_timeout) + HANG_GRACE,
            limits["open_files"],
            limits["cpu_seconds"],
            **spec.load_keys(),
        )

    async def _kill(self, what: str) -> None:
        place = await self.child.where(str(self._spec.folder or ""))
        where = f" (at {place})" if place else ""
        limit = self._settings.receive_deadline
        self.reason = f"{what} took longer than {limit:g} s{where}: its plugin host is killed and restarted"
        self.child.kill()

    def _cancel_tasks(self) -> None:
        self._flushes.cancel()
        self.calls_out.cancel()
        if self._killing is not None:
            self._killing.cancel()
            self._killing = None

    def _how(self) -> str:
        return self.ended.result() if self.ended.done() else "ended"


class _Deadline:
    """A time limit that raises nothing: the block ends, and ``passed`` is set."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> "_Deadline":
        await self._timeout.__aenter__()
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> bool:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            self.passed = True
            return True
        return False
