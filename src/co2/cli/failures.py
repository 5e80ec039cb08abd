"""The exit code and the text of each error that ends a command."""

from co2.errors import (
    CallTimeout,
    ConfigError,
    Denied,
    IdentityRefused,
    MessageError,
    NothingListens,
    NotOurRelay,
    RemoteFault,
    StateError,
    TooBig,
    UnknownHost,
    Unreachable,
    UsageError,
    ValueRefused,
)

__all__ = [
    "EXIT_DENIED",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_TERMINATED",
    "EXIT_TIMEOUT",
    "EXIT_UNREACHABLE",
    "EXIT_USAGE",
    "exit_code",
]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_DENIED = 4
EXIT_TIMEOUT = 5
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_DENIED_CODES = frozenset((IdentityRefused.code, NotOurRelay.code, Denied.code))
_TIMEOUT_CODES = frozenset((CallTimeout.code,))
_UNREACHABLE_CODES = frozenset((Unreachable.code,))


def exit_code(error: Exception) -> tuple[int, str]:
    """Return the exit code of an error, and a line that describes it."""
    if isinstance(error, RemoteFault):
        for codes, code in (
            (_DENIED_CODES, EXIT_DENIED),
            (_TIMEOUT_CODES, EXIT_TIMEOUT),
            (_UNREACHABLE_CODES, EXIT_UNREACHABLE),
        ):
            if error.code in codes:
                return code, error.text
        who = "; co2 ps lists the hosts of the network" if error.code == UnknownHost.code else ""
        return EXIT_FAILED, f"fault {error.code}: {error.text}{who}"
    if isinstance(error, NothingListens):
        return EXIT_UNREACHABLE, f"{error}; {_start(error.url)}"
    if isinstance(error, Unreachable):
        denied = any(f"HTTP {status}" in str(error) for status in (403, 421))
        return (EXIT_DENIED if denied else EXIT_UNREACHABLE), str(error)
    if isinstance(error, CallTimeout):
        may_be = "it may be stopped (Ctrl-Z; fg resumes it), busy or overloaded"
        return EXIT_TIMEOUT, f"{error}: {may_be}; --timeout S waits longer"
    if isinstance(error, ConfigError | StateError | MessageError | ValueRefused | TooBig):
        return EXIT_USAGE, str(error)
    if isinstance(error, UsageError):
        return EXIT_FAILED, str(error)
    return EXIT_FAILED, f"{type(error).__name__}: {error} (co2 --debug … shows the traceback)"


def _start(url: str) -> str:
    """Return a hint how to start a host that listens at a URL."""
    # Imported only for an error, so that the short commands start quickly.
    import ipaddress
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False  # a host name
    if here:
        return "co2 relay starts a relay, co2 satellite a satellite"
    return (
        "a host accepts connections from other machines only if it was started that way: "
        "co2 relay --bind 0.0.0.0, or co2 satellite --bind 0.0.0.0"
    )
