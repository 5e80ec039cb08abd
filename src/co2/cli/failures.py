"""Which error ends a command with which exit code."""

from co2.errors import (
    CallTimeout,
    ConfigError,
    Denied,
    IdentityRefused,
    MessageError,
    NotOurRelay,
    RemoteFault,
    StateError,
    TooBig,
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
    """Give the exit code of an error, and the one line that tells it."""
    if isinstance(error, RemoteFault):
        for codes, code in (
            (_DENIED_CODES, EXIT_DENIED),
            (_TIMEOUT_CODES, EXIT_TIMEOUT),
            (_UNREACHABLE_CODES, EXIT_UNREACHABLE),
        ):
            if error.code in codes:
                return code, error.text
        return EXIT_FAILED, f"fault {error.code}: {error.text}"
    if isinstance(error, Unreachable):
        denied = any(f"HTTP {status}" in str(error) for status in (403, 421))
        return (EXIT_DENIED if denied else EXIT_UNREACHABLE), str(error)
    if isinstance(error, CallTimeout):
        return EXIT_TIMEOUT, str(error)
    if isinstance(error, ConfigError | StateError | MessageError | ValueRefused | TooBig):
        return EXIT_USAGE, str(error)
    if isinstance(error, UsageError):
        return EXIT_FAILED, str(error)
    return EXIT_FAILED, f"{type(error).__name__}: {error} (co2 --debug … shows where)"
