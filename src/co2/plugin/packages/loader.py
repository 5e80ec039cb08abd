"""Import a plugin package, check all of it, and only then return its plugins.

All or nothing: the first problem refuses the package, with file, line, class, what was found and what was
expected.
"""

import errno
import importlib
import importlib.machinery
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from co2.plugin.api import Co2Plugin
from co2.plugin.channels import patterns_problem, snapshot_patterns
from co2.plugin.method_marks import RESULT, marks_of
from co2.plugin.packages.class_checks import CHANNELS_EXAMPLE, attribute_problem, line_of
from co2.plugin.packages.locate import Place, place_of
from co2.plugin.packages.near_misses import near_misses_of, unnamed_classes, without_x
from co2.plugin.packages.requirements import RequirementsProblem, check_requirements
from co2.plugin.packages.signatures import help_of, signatures_of, takes
from co2.plugin.packages.source import Uncached, serve_code
from co2.plugin.packages.tracebacks import error_line, place_in, traceback_text
from co2.plugin.packages.typed_parameters import Parameters, ParametersRefused, parameters_of
from co2.plugin.relay_plugin import Co2RelayPlugin
from co2.protocol.wire.host_names import MAX_METHOD_NAME, MAX_NAME, is_method_name
from co2.protocol.wire.plugin_frames.lifecycle import MAX_PLUGINS, MethodInfo, PluginInfo
from co2.values import Message

__all__ = [
    "FoundPlugin",
    "LoadFailure",
    "code_of",
    "find_plugin",
    "find_plugins",
    "import_package",
    "plugin_info",
]

_TAKEN = (errno.EADDRINUSE, errno.EBUSY, errno.EACCES)
"""Errors of an ``__init__`` when another program has the port or the device."""

_CHAIN = 8
"""Length of the chain of causes that is searched."""

_METHOD_NAME = re.compile(r"x_[A-Za-z0-9_]+")
_loaded: dict[str, str] = {}


class LoadFailure(Exception):
    """A package that cannot be loaded.

    Not a Co2Error: a plugin host reports it to its parent as the frame LoadFailed, and ``co2 plugin check`` as a
    finding. Only ``co2.testing`` passes it on, to the test of an author.

    Args:
        problem: what was found and what was expected.
        where: ``file:line`` and class, where known.
        details: the traceback, '' for none.
        taken: something that only one can have was taken, a port or a device.
    """

    def __init__(self, problem: str, where: str = "", details: str = "", *, taken: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.details = details
        self.taken = taken

    @classmethod
    def of(cls, what: str, error: BaseException, folder: Path) -> "LoadFailure":
        """Convert an exception to a LoadFailure: the line is the last one in the package's own files."""
        details = traceback_text(_without_our_frames(error, folder))
        return cls(f"{what}: {error_line(error)}", place_in(folder, error), details, taken=_is_taken(error))


@dataclass(slots=True)
class FoundPlugin:
    """A plugin class of a package.

    Attributes:
        name: ``<package>.<module>.<class>``.
        kind: the class.
        methods: its ``x_`` methods: name in the registry, name of the attribute.
        where: ``file:line`` of its first method, '' if it has none.
        parameters: of those methods that have any, by name of the attribute.
    """

    name: str
    kind: type[Co2Plugin]
    methods: dict[str, str] = field(default_factory=dict)
    where: str = ""
    parameters: dict[str, Parameters] = field(default_factory=dict)

    def function(self, plugin: Co2Plugin, attribute: str) -> Callable[[Message], Any]:
        """Return the function that takes the dictionary of a call of an ``x_`` method."""
        function: Callable[..., Any] = getattr(plugin, attribute)
        parameters = self.parameters.get(attribute)
        return function if parameters is None else parameters.bound(function)

    def channels(self, config: Any) -> list[str]:
        """Return the patterns of the channels that a plugin with this configuration receives.

        Raises:
            LoadFailure: its class returns something else.
        """
        if not isinstance(self.kind.wanted_channels, types.MethodType):
            problem = f"{self.kind.__name__}.wanted_channels: expected a classmethod"
            raise LoadFailure(f"{problem}: it is called before the plugin is made", self.where)
        channels = self.kind.wanted_channels(config)
        if problem := patterns_problem(channels, CHANNELS_EXAMPLE):
            raise LoadFailure(f"{self.kind.__name__}.wanted_channels: {problem}", self.where)
        return list(channels)

    @property
    def receives(self) -> bool:
        """Whether it overrides ``receive``."""
        return self.kind.receive is not Co2Plugin.receive

    @property
    def relays(self) -> bool:
        """Whether messages on their way through a relay pass it."""
        return issubclass(self.kind, Co2RelayPlugin) and self.kind.relay is not Co2RelayPlugin.relay

    @property
    def admits(self) -> bool:
        """Whether it decides which satellites may join a relay."""
        return issubclass(self.kind, Co2RelayPlugin) and self.kind.register is not Co2RelayPlugin.register

    @property
    def greets(self) -> bool:
        """Whether it overrides ``joined`` or ``left``."""
        return self.kind.joined is not Co2Plugin.joined or self.kind.left is not Co2Plugin.left


def import_package(package: str, folder: str, module: str = "", *, unmet: bool = False) -> types.ModuleType:
    """Import the package itself, if its requirements are met; all of its code is read now.

    Args:
        package: its name.
        folder: that holds it, '' for an installed package.
        module: import name of an installed package; '' for a bundled one.
        unmet: import it even if requirements are missing.

    Raises:
        LoadFailure: it cannot be imported.
    """
    try:
        place = place_of(package, folder, module)
    except ImportError as error:
        raise LoadFailure(str(error)) from None
    if not unmet:
        _check_requirements(place.file)
    if folder:
        _prepare_folder(package, folder, place)
    return _imported(place)


def code_of(package: str, folder: str, module: str = "") -> str:
    """Return the hash of the code that was imported last; arguments as for :func:`import_package`."""
    return _loaded[place_of(package, folder, module).module]


def _check_requirements(file: Path) -> None:
    try:
        check_requirements(file.read_bytes())
    except RequirementsProblem as error:
        raise LoadFailure(error.problem, f"{file}:{error.line}") from None
    except OSError:
        return  # importing it reports what is wrong


def _prepare_folder(package: str, folder: str, place: Place) -> None:
    if package in sys.stdlib_module_names or (package in sys.modules and package not in _loaded):
        raise LoadFailure(
            f"{package!r} is the name of a module that Python or co2 itself needs: rename the package",
            str(place.path),
        )
    if not place.file.is_file():
        raise LoadFailure("not a package: it has no file __init__.py (an empty one is enough)", str(place.file))
    if folder not in sys.path:
        sys.path.append(folder)  # at the end: a plugin package never hides an installed one
    # Modules in the plugin folder itself are compiled each time, too.
    sys.path_importer_cache[folder] = importlib.machinery.FileFinder(
        folder,
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (Uncached, importlib.machinery.SOURCE_SUFFIXES),
    )


def _imported(place: Place) -> types.ModuleType:
    _loaded[place.module] = serve_code(place.module, place.path).digest
    try:
        return importlib.import_module(place.module)
    except BaseException as error:
        raise LoadFailure.of("the package cannot be imported", error, place.path) from None


def _raise(failure: LoadFailure) -> None:
    raise failure


Refuse = Callable[[LoadFailure], None]


def find_plugins(
    package: str, module: types.ModuleType, refuse: Refuse = _raise, role: str = ""
) -> tuple[list[FoundPlugin], list[str]]:
    """Import the modules of a package and find its plugins; return them with warnings.

    Args:
        package: its name.
        module: as imported.
        refuse: called with each problem; raises it, unless the caller wants all of them.
        role: ``relay`` or ``satellite``: only plugins for such a host; '' for all.

    Raises:
        LoadFailure: something is wrong with one of them.
    """
    found: list[FoundPlugin] = []
    warnings: list[str] = []
    file = Path(module.__file__ or "")
    if not hasattr(module, "__path__"):
        found = _plugins_of(module, f"{package}.{package}", warnings, refuse)
        told = _warn_of_near_misses([module], found, warnings, refuse)
        return (found if told else _of_role(found, role, file, refuse, warnings)), warnings
    for kind in _own_x_classes(module):
        text = f"{_where(kind)}: {kind.__name__} is in __init__.py and is ignored; move it to a module"
        warnings.append(text)
    unseen = False
    parts = [module]
    for name in _module_names(module, file.parent):
        try:
            part = _import(f"{module.__name__}.{name}", name, file.parent)
        except LoadFailure as failure:
            refuse(failure)
            unseen = True
        else:
            parts.append(part)
            found += _plugins_of(part, f"{package}.{name}", warnings, refuse)
    told = _warn_of_near_misses(parts, found, warnings, refuse)
    return (found if unseen or told else _of_role(found, role, file.parent, refuse, warnings)), warnings


def _warn_of_near_misses(
    modules: list[types.ModuleType], found: list[FoundPlugin], warnings: list[str], refuse: Refuse
) -> bool:
    """Warn of code that looks meant for co2, once all modules are loaded; return whether there is no other.

    Raises:
        LoadFailure: there is no other.
    """
    unnamed = [(_where(kind), without_x(kind.__name__)) for module in modules for kind in unnamed_classes(module)]
    if unnamed and not found:
        where, text = unnamed[0]
        refuse(LoadFailure(f"it has no class X_…: {text}", where))
        return True
    warnings += [f"{where}: {text}" for where, text in unnamed]
    for one in found:
        warnings += [f"{place or one.where}: {problem}" for problem, place in near_misses_of(one.kind)]
    return False


def _of_role(
    found: list[FoundPlugin], role: str, place: Path, refuse: Refuse, warnings: list[str]
) -> list[FoundPlugin]:
    """Return the plugins for a role; there must be some, and not too many."""
    other = "satellite" if role == "relay" else "relay"
    carried = [one for one in found if not role or issubclass(one.kind, Co2RelayPlugin) == (role == "relay")]
    base = "Co2RelayPlugin" if role == "relay" else "Co2Plugin"
    if found and not carried:
        refuse(LoadFailure(f"its plugins are for a {other}: it has no class X_…(plugin.{base})", str(place)))
    _check_number(carried if found else found, base, place, refuse, warnings)
    return carried


def _check_number(found: list[FoundPlugin], base: str, place: Path, refuse: Refuse, warnings: list[str]) -> None:
    if not found:
        where = "" if place.suffix == ".py" else " in any of its modules"
        # Warnings are shown of what is loaded: where nothing is, the first one is the likely reason.
        ignored = f"; {warnings.pop(0)}" if warnings else ""
        refuse(LoadFailure(f"it has no class X_…(plugin.{base}){where}{ignored}", str(place)))
    if len(found) > MAX_PLUGINS:
        problem = f"{len(found)} plugins in one package; the limit is {MAX_PLUGINS}"
        refuse(LoadFailure(problem, str(place)))


def plugin_info(found: FoundPlugin, plugin: Co2Plugin, channels: list[str]) -> tuple[PluginInfo, list[MethodInfo]]:
    """Describe a plugin that has been made.

    Args:
        found: its class and methods.
        plugin: the instance.
        channels: patterns of those that it receives.
    """
    try:
        text = str(plugin)[:200]
    except Exception:
        text = found.name
    methods = []
    for name, attribute in found.methods.items():
        methods.append(_method_info(name, getattr(plugin, attribute), found.parameters.get(attribute)))
    kind = found.kind
    help_text = help_of(vars(kind).get("__doc__"))
    info = PluginInfo(
        found.name,
        text,
        found.receives,
        help_text,
        channels,
        kind.durable,
        found.relays,
        found.admits,
        kind.times,
        snapshot_patterns(kind.snapshot, channels) if found.receives else [],
    )
    return info, methods


def _method_info(name: str, function: Callable[..., Any], parameters: Parameters | None) -> MethodInfo:
    help_text = help_of(function.__doc__)
    if parameters is None:
        return MethodInfo(name, help_text, signatures_of(function))
    text = f"{help_text}\n\nTakes {{'data': {parameters.text}}}.".lstrip()
    return MethodInfo(name, text, signatures_of(function, parameters.text))


def _module_names(module: types.ModuleType, place: Path) -> list[str]:
    names = getattr(module, "__all__", None)
    if names is None:
        return sorted(_modules_in(place))
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise LoadFailure("__all__ must be a list of module names", module.__file__ or "")
    there = _modules_in(place)
    for name in names:
        if name not in there:
            raise LoadFailure(
                f"__all__ lists {name!r}, but there is no {name}.py in the package; "
                f"its modules: {', '.join(sorted(there)) or 'none'}",
                module.__file__ or "",
            )
    return list(dict.fromkeys(names))


def _modules_in(place: Path) -> set[str]:
    names = set()
    for entry in place.iterdir():
        name = entry.name.removesuffix(".py")
        is_module = entry.suffix == ".py" or (entry / "__init__.py").is_file()
        if is_module and name.isidentifier() and not name.startswith("_"):
            names.add(name)
    return names


def _import(full_name: str, name: str, place: Path) -> types.ModuleType:
    try:
        return importlib.import_module(full_name)
    except BaseException as error:
        raise LoadFailure.of(f"{name!r} cannot be imported", error, place) from None


def _own_x_classes(module: types.ModuleType) -> Iterator[type]:
    seen: set[int] = set()
    for value in list(vars(module).values()):
        if (
            isinstance(value, type)
            and value.__module__ == module.__name__
            and value.__name__.startswith("X_")
            and id(value) not in seen
        ):
            seen.add(id(value))
            yield value


def _plugins_of(module: types.ModuleType, prefix: str, warnings: list[str], refuse: Refuse) -> list[FoundPlugin]:
    plugins = []
    for kind in _own_x_classes(module):
        if not issubclass(kind, Co2Plugin):
            warnings.append(
                f"{_where(kind)}: {kind.__name__} does not inherit from plugin.Co2Plugin: ignored"
                " (names that begin with X_ are for plugins)"
            )
            continue
        plugin = find_plugin(kind, prefix, refuse)
        plugins.append(plugin)
    _attempt(refuse, _check_duplicates, plugins)
    return plugins


def find_plugin(kind: type[Co2Plugin], prefix: str, refuse: Refuse = _raise) -> FoundPlugin:
    """Check one plugin class.

    Args:
        kind: the class.
        prefix: ``<package>.<module>``.
        refuse: as for :func:`find_plugins`.

    Raises:
        LoadFailure: something is wrong with it.
    """
    plugin = FoundPlugin(f"{prefix}.{kind.__name__}", kind, where=_where(kind))
    _attempt(refuse, _check_name, plugin)
    _attempt(refuse, _check_base, plugin)
    for attribute in dir(kind):
        if _METHOD_NAME.fullmatch(attribute) and callable(getattr(kind, attribute)):
            name = f"{prefix}.{attribute[2:]}"
            _attempt(refuse, _check_method_name, plugin, name, attribute)
            _attempt(refuse, _check_method, plugin, attribute)
            plugin.methods[name] = attribute
    return plugin


def _attempt(refuse: Refuse, check: Callable[..., None], *args: Any) -> None:
    try:
        check(*args)
    except LoadFailure as failure:
        refuse(failure)


def _check_name(plugin: FoundPlugin) -> None:
    """Check that its name fits the messages that it sends."""
    if len(plugin.name) > MAX_NAME:
        problem = (
            f"its full name, with package and module, has {len(plugin.name)} characters; the limit is {MAX_NAME}"
        )
        raise LoadFailure(problem, plugin.where)


def _check_method_name(plugin: FoundPlugin, name: str, attribute: str) -> None:
    """Check that the method can be called: one wrong name would make other hosts refuse all methods."""
    if not is_method_name(name):
        kind = plugin.name.rpartition(".")[2]
        problem = (
            f"{kind}.{attribute} could not be called: its full name, with package and module, is {name[:80]!r}"
            f"{'…' if len(name) > 80 else ''}; a method name has up to {MAX_METHOD_NAME} characters, A-Z, a-z, "
            f"0-9, _ and dots, and this one has {len(name)}"
        )
        value = getattr(plugin.kind, attribute)
        raise LoadFailure(problem, f"{line_of(value) or plugin.where}, class {kind}")


def _check_base(plugin: FoundPlugin) -> None:
    if issubclass(plugin.kind, Co2RelayPlugin):
        _check_takes(plugin, "relay", "relay(self, data_dict)")
        _check_takes(plugin, "register", "register(self, host)")
        if plugin.receives:
            problem = "a relay plugin cannot have receive: messages come to relay(self, data_dict)"
            place = line_of(plugin.kind.receive) or plugin.where
            raise LoadFailure(problem, f"{place}, class {plugin.kind.__name__}")
    _check_takes(plugin, "receive", "receive(self, data_dict)")
    if "__init__" in vars(plugin.kind):
        _check_takes(plugin, "__init__", "__init__(self, var_dict)")
    unmade = _Unmade(plugin.kind)
    if not any(takes(unmade.bound("__exit__"), count) for count in (0, 3)):
        raise _wrong_arguments(plugin, "__exit__", "__exit__(self) or __exit__(self, kind, value, traceback)")
    _check_takes(plugin, "gap", "gap(self, gap)")
    _check_takes(plugin, "joined", "joined(self, host)")
    _check_takes(plugin, "left", "left(self, host)")
    _check_takes(plugin, "handover", "handover(self)", 0)
    _check_takes(plugin, "takeover", "takeover(self, value)")
    problem, place = attribute_problem(plugin.kind)
    if problem:
        raise LoadFailure(problem, f"{place or plugin.where}, class {plugin.kind.__name__}")
    for method in ("send", "flush", "log", "debug"):
        if not callable(getattr(plugin.kind, method)):
            raise _wrong_arguments(plugin, method, f"a method {method}")


def _check_method(plugin: FoundPlugin, attribute: str) -> None:
    try:
        parameters = parameters_of(_Unmade(plugin.kind).bound(attribute))
    except ParametersRefused as error:
        value = getattr(plugin.kind, attribute)
        name = plugin.name.rpartition(".")[2]
        raise LoadFailure(
            f"{name}.{attribute}: {error}", f"{line_of(value) or plugin.where}, class {name}"
        ) from None
    if parameters is None:
        _check_takes(plugin, attribute, f"{attribute}(self, data_dict), or parameters that all have annotations")
    else:
        plugin.parameters[attribute] = parameters
    _check_units(plugin, attribute)


def _check_units(plugin: FoundPlugin, attribute: str) -> None:
    value = getattr(plugin.kind, attribute)
    names = [*(one.name for one in plugin.parameters.get(attribute, ())), RESULT]
    for name in marks_of(value).units:
        if name not in names:
            kind = plugin.name.rpartition(".")[2]
            problem = f"{kind}.{attribute}: unit of {name!r}: expected one of {', '.join(names)}"
            raise LoadFailure(problem, f"{line_of(value) or plugin.where}, class {kind}")


def _check_takes(plugin: FoundPlugin, attribute: str, expected: str, count: int = 1) -> None:
    if not takes(_Unmade(plugin.kind).bound(attribute), count):
        raise _wrong_arguments(plugin, attribute, expected)


def _wrong_arguments(plugin: FoundPlugin, attribute: str, expected: str) -> LoadFailure:
    import inspect

    value = getattr(plugin.kind, attribute)
    try:
        found = f"{attribute}{inspect.signature(value)}"
    except (TypeError, ValueError):
        found = f"{value!r:.80}"
    name = plugin.name.rpartition(".")[2]
    return LoadFailure(
        f"{name}.{attribute} has the wrong parameters: found {found}, expected {expected}",
        f"{line_of(value) or plugin.where}, class {name}",
    )


class _Unmade:
    """Stands for an instance of a class that is not made, and binds its functions as that would."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def bound(self, attribute: str) -> Any:
        for base in self._kind.__mro__:
            if attribute in vars(base):
                value = vars(base)[attribute]
                if isinstance(value, types.FunctionType):
                    return value.__get__(self)
                if isinstance(value, staticmethod | classmethod):
                    return value.__get__(self, self._kind)
                break
        return getattr(self._kind, attribute)


def _check_duplicates(plugins: list[FoundPlugin]) -> None:
    owners: dict[str, FoundPlugin] = {}
    for plugin in plugins:
        for method, attribute in plugin.methods.items():
            if method in owners:
                first, second = owners[method].kind.__name__, plugin.kind.__name__
                raise LoadFailure(
                    (
                        f"{first} and {second} both have {attribute}, and both would provide the method {method}: "
                        "rename one"
                    ),
                    line_of(getattr(plugin.kind, attribute)) or plugin.where,
                )
            owners[method] = plugin


def _where(kind: type) -> str:
    """Return ``file:line`` of the first method of a class, or its file."""
    lines = [place for value in vars(kind).values() if (place := line_of(value))]
    file = getattr(sys.modules.get(kind.__module__), "__file__", "") or ""
    return lines[0] if lines else file


def _without_our_frames(error: BaseException, folder: Path) -> BaseException:
    """Remove the frames of co2 and of the import machinery from the top of a traceback."""
    if isinstance(error, SyntaxError):
        return error.with_traceback(None)
    trace = error.__traceback__
    while trace is not None and not Path(trace.tb_frame.f_code.co_filename).is_relative_to(folder):
        trace = trace.tb_next
    return error.with_traceback(trace) if trace is not None else error


def _is_taken(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, means that another program has a needed resource."""
    for _ in range(_CHAIN):
        if error is None:
            return False
        if isinstance(error, OSError) and error.errno in _TAKEN:
            return True
        error = error.__cause__ or error.__context__
    return False
