"""Frames of a plugin package's life cycle: load, start, change of code, end. Their order is in ``frames.py``."""

from typing import Any

import msgspec

from co2.protocol.wire.plugin_frames.base import Frame

__all__ = [
    "MAX_PLUGINS",
    "Checked",
    "Exited",
    "HandedOver",
    "Handover",
    "Load",
    "LoadFailed",
    "Loaded",
    "Make",
    "MethodInfo",
    "PluginInfo",
    "Progress",
    "Resume",
    "Start",
    "Stop",
    "Stumbled",
    "TakenOver",
    "Takeover",
]


MAX_PLUGINS = 256
"""Plugins in one package."""


class MethodInfo(msgspec.Struct, frozen=True):
    """One ``x_`` method.

    Attributes:
        name: under which it is called, ``<package>.<module>.<method>``.
        help: docstring, '' for none.
        signatures: each a list of XML-RPC type names, the result's first.
    """

    name: str
    help: str
    signatures: list[list[str]]


class PluginInfo(msgspec.Struct, frozen=True):
    """One plugin of a package.

    Attributes:
        name: ``<package>.<module>.<class>``.
        text: its ``str()``.
        receives: whether it overrides ``receive``.
        help: the class's docstring, '' for none.
        channels: patterns of wanted channels, see ``protocol/wire/channel_patterns.py``; empty for everything.
        durable: whether it resumes at its position after a restart of its satellite.
        relays: whether messages pass it on their way through a relay.
        admits: whether it decides which satellites may join a relay.
        times: whether its messages carry the time at which the relay got them.
        snapshot: patterns of the channels whose last values it gets first; empty for none.
    """

    name: str
    text: str
    receives: bool
    help: str
    channels: list[str] = []
    durable: bool = False
    relays: bool = False
    admits: bool = False
    times: bool = False
    snapshot: list[str] = []


class Progress(msgspec.Struct, frozen=True):
    """Position of a plugin when its last plugin host died.

    Attributes:
        done: number of the last message that it finished; 0 for none.
        inside: number of the message during which it died; 0 for none.
    """

    done: int
    inside: int


class Load(Frame):
    """First frame to a child: import this package and check it.

    Attributes:
        package: name of the package.
        folder: that holds it; '' for an installed package.
        var_dict: for the plugins.
        config: the table ``[plugin.<package>]``, becomes ``self.config``.
        send_timeout: seconds that ``send`` waits for room.
        load_timeout: seconds until the host gives up; shortly before, the child reports where it hangs.
        memory: MiB of address space that the child may use, 0 for no limit.
        hang_timeout: seconds within which the child must be able to run some Python; else it ends itself, as its
            host may be gone.
        open_files: that the child may have, 0 for the system's limit.
        cpu_seconds: that the child may use in its life, 0 for no limit.
        module: import name of an installed package; '' for one in ``folder``.
        config_file: file with ``config``, '' for none.
        store: path of the file behind ``self.store``, '' for none.
    """

    package: str
    folder: str
    var_dict: dict[str, Any]
    config: dict[str, Any]
    send_timeout: float
    load_timeout: float = 10.0
    memory: int = 0
    hang_timeout: float = 60.0
    open_files: int = 0
    cpu_seconds: int = 0
    module: str = ""
    config_file: str = ""
    store: str = ""


class Make(Frame):
    """Make every plugin, from the code that the child holds. Also after Exited, for new instances."""


class Start(Frame):
    """All is registered: send the held messages; deliveries begin.

    Attributes:
        progress: per plugin name; a plugin skips messages up to ``done`` and gets message ``inside`` marked
            ``repeat: True``. Empty at a first start. A dead letter counts as done.
        on_trial: a plugin whose very first ``receive`` raises sends Stumbled and waits, in place of making a dead
            letter.
    """

    progress: dict[str, Progress] = {}
    on_trial: bool = False


class Handover(Frame):
    """Make every plugin stop between two messages and return the value for its successor.

    With ``fresh`` the value is not used, and an exception of ``handover`` is no error.
    """

    number: int
    fresh: bool = False


class Takeover(Frame):
    """Pass a plugin the value of its predecessor before it starts. ``value`` is encoded."""

    plugin: str
    value: bytes


class Resume(Frame):
    """The change is cancelled: every plugin continues where it stopped."""


class Stop(Frame):
    """Run every ``__exit__``, flush, say Goodbye and end.

    Attributes:
        timeout: seconds for every ``__exit__``.
        keep: do not end, but keep the code, and say Exited.
    """

    timeout: float
    keep: bool = False


class Checked(Frame):
    """The package is imported and checked; no plugin is made yet.

    Attributes:
        code: hash of its files as loaded.
        exclusive: a class declares that it holds something that only one can have.
    """

    code: str
    exclusive: bool = False


class Loaded(Frame):
    """The package is initialised. ``warnings`` go to the log."""

    plugins: list[PluginInfo]
    methods: list[MethodInfo]
    warnings: list[str]


class LoadFailed(Frame):
    """The package cannot be loaded.

    Attributes:
        problem: one or two lines: the finding, and what was expected.
        where: ``file:line`` or class, where known.
        details: the traceback, '' for none.
        taken: an ``__init__`` found something in use that only one can have: a port, a device.
    """

    problem: str
    where: str
    details: str
    taken: bool = False


class HandedOver(Frame):
    """A plugin has stopped between two messages.

    Attributes:
        number: of the Handover.
        plugin: its name.
        value: result of its ``handover``, encoded; None if it has none.
        problem: exception of its ``handover``, '' for none.
        failing: a timer, ``joined`` or ``left`` raised at its last call.
    """

    number: int
    plugin: str
    value: bytes | None
    problem: str = ""
    failing: bool = False


class TakenOver(Frame):
    """A plugin's ``takeover`` has returned; ``problem`` is its exception, '' for none."""

    plugin: str
    problem: str = ""


class Exited(Frame):
    """Every ``__exit__`` has run, and all that was sent is out. The code is kept."""


class Stumbled(Frame):
    """On trial, the first ``receive`` of a plugin raised, or the first call of a timer, ``joined`` or ``left``.

    It waits there for Resume, or its end.

    Attributes:
        plugin: its name.
        problem: the exception.
        what: ``receive``, ``relay``, or a description of the function.
        callback: the function is one that is called without a message.
    """

    plugin: str
    problem: str
    what: str = "receive"
    callback: bool = False
