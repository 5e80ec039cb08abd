"""One load of a package: the child that carries it, its code and plugins, and what it is asked to do."""

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
"""Seconds beyond its deadline after which a child that runs no Python at all ends itself."""

_KILL_AFTER = 0.3
"""Seconds that a plugin host gets beyond the exit timeout to end by itself."""

_END_AFTER_REFUSAL = 2.0
"""Seconds that a child which could not load gets to end by itself."""

_PICTURED = ("SyntaxError", "IndentationError", "TabError")

Took = Callable[["Generation", ChildFrame], None]


class NotLoaded(Exception):
    """This load of the package came to nothing.

    Args:
        problem: what was found and what was expected, with file and line where known.
        taken: something that only one can have is taken, a port or a device.
        died: the child ended by itself, for no reason that it told.
    """

    def __init__(self, problem: str, *, taken: bool = False, died: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.taken = taken
        self.died = died


class Generation:
    """One load.

    Args:
        number: counts the loads of this package since the satellite started.
        spec: which package.
        settings: limits.
        var_dict: for its plugins.
        logger: of the package.
        took: takes what the child has to say to anybody else.
        news: called when it has ended or stumbled.

    Attributes:
        code: hash of its code, '' before it is known.
        exclusive: it says that it holds what only one can have.
        plugins: what is made of it.
        warnings: what of it is ignored, or does nothing.
        methods: theirs, by name.
        receives: whether any of them does.
        durable: whether it goes on where it left off after a restart of its satellite.
        wanted: what they want to hear.
        ended: done when the child has ended and all that it said is read; tells how it ended.
        stumbled: what its plugin raised in its first message or call, '' for nothing.
        stumbled_in_callback: the plugin, where that was a timer, ``joined`` or ``left``; else ''.
        failing: plugins in which one of these raised when it was called last, as of the handover.
        kept: its plugins have exited, its code is still there.
        asking: answers what its plugins ask the network.
        applied: counters, as the child told them last.
        letters_come: dead letters that came.
        watch: looks after its plugins while they run.
        too_slow: who was too slow, when it was killed for that.
        reason: why it was killed, '' when it was not.
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
        self.receives = self.durable = False
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
        self._doomed = False
        self._killing: asyncio.Task[None] | None = None
        self._lifecycle: asyncio.Task[None] | None = None
        self.child: Child = make_child(settings.isolation, self._take, logger, spec.env)

    @property
    def letters(self) -> int:
        """Dead letters of its plugins, also those that did not come."""
        return self.child.words.letters if self._lifecycle is not None else 0

    def activity(self, plugin: str) -> int:
        """Give the activity word of one of its plugins."""
        index = next((at for at, one in enumerate(self.plugins) if one.name == plugin), None)
        return 0 if index is None else self.child.words.activity(index)

    def stumble(self, why: str) -> None:
        """Note that its new code fails; whether the old one comes back is for others to decide."""
        self.stumbled, self.stumbled_in_callback = why, ""
        self._news()

    def send(self, frame: HostFrame) -> None:
        """Send its child a frame."""
        self.child.send(frame)

    # beginning

    async def check(self) -> None:
        """Start the child, have it import the package and check it.

        Raises:
            NotLoaded: that came to nothing; the child has ended, or will.
        """
        try:
            await self.child.start()
        except OSError as error:
            self.ended.set_result(f"cannot be started: {error}")
            raise NotLoaded(f"the plugin host cannot be started: {error}", died=True) from None
        self._lifecycle = asyncio.create_task(self._live(), name=f"plugin host {self._spec.name} {self.number}")
        if self._doomed:
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
        """Have every plugin made, afresh where its plugins had exited.

        Args:
            timeout: seconds; None for what :meth:`check` has left of the load timeout.

        Raises:
            NotLoaded: that came to nothing; the child has ended, or will.
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
        self.wanted = PackageInterests(loaded.plugins)

    def start(self, progress: dict[str, Progress], *, paused: str, on_trial: bool) -> None:
        """Let its sends out, but for where they are ``paused`` for a reason, and look after it from now on."""
        settings = self._settings
        self.watchdog = Watchdog(
            self.child.words, self.plugins, settings.receive_warning, settings.receive_deadline
        )
        self.stumbled = ""
        if paused:
            self.child.send(Flow(False, paused))
        self.child.send(Start(progress, on_trial))

    def flush(self, flush: Flush, acknowledged: Awaitable[None]) -> None:
        """Answer a flush as soon as ``acknowledged`` is done."""
        self._flushes.start(self.child, flush, acknowledged)

    # change of code

    async def handover(self, timeout: float, *, fresh: bool = False) -> dict[str, bytes] | None:
        """Have its plugins stop between two messages; give what each hands over; None when they do not in time.

        Args:
            timeout: seconds.
            fresh: what they give, or raise, does not matter.

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
            raise NotLoaded(f"{'; '.join(problems)}; co2 plugin reload {self._spec.name} --fresh does without")
        if fresh:
            values = {}
        return None if deadline.passed or count < len(self.plugins) else values

    async def takeover(self, values: Mapping[str, bytes], timeout: float) -> None:
        """Give its plugins what those before them have handed over.

        Raises:
            NotLoaded: a ``takeover`` raised, or it took too long, or its child died.
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
        """Have every ``__exit__`` run and all that was sent come in; tell whether the code is kept."""
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
        """End it in good order, within ``timeout`` seconds and a little."""
        self.child.send(Stop(timeout))
        await asyncio.wait([self.ended], timeout=timeout + _KILL_AFTER)
        if not self.ended.done():
            self._logger.error("__exit__ took longer than %.1f s: the plugin host is killed", timeout)
            self.child.kill()

    async def end(self) -> None:
        """End it at once, and return when all that it said is read."""
        self.kept = False
        self._doomed = True
        if self._lifecycle is not None:
            self.child.kill()
            await self.ended

    def kill_slow(self, slow: Slow, what: str) -> None:
        """Kill it because one of its plugins takes too long; ``what`` does."""
        if self._killing is None:
            self.too_slow = slow
            self._killing = asyncio.create_task(self._kill(what))

    # frames

    def _take(self, frame: ChildFrame) -> None:
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
        """Give the next answer; None when the child has ended, also to whoever asks after that."""
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
            raise NotLoaded(f"hangs: not loaded within {limit:g} s{where}")
        if answer is None:
            raise NotLoaded(f"the plugin host {self._how()} while it loaded", died=True)
        return answer

    async def _refused(self, answer: LoadFailed) -> NotLoaded:
        await asyncio.wait([self.ended], timeout=_END_AFTER_REFUSAL)
        self.child.kill()
        if answer.details:
            # It is told in one line, too, with its place. Only a picture of a wrong line says more than that.
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
        self.reason = f"{what} took longer than {limit:g} s{where}: its plugin host is killed and started again"
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
    """A time limit that is no error: what it holds ends, and ``passed`` tells so."""

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
