"""The variables of a host's environment that its plugins get.

The environment of a service holds secrets that are meant for one program. So a plugin, and any program that it
starts, gets the variables that programs need to run, and those named in the configuration.
"""

from collections.abc import Iterable, Mapping

__all__ = ["PASSED_ON", "environment_of"]

PASSED_ON = (
    # user, places, and language
    *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "PWD", "HOSTNAME", "TMPDIR", "TEMP", "TMP"),
    *(
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TZDIR",
        "TERM",
        "COLORTERM",
        "COLUMNS",
        "LINES",
        "NO_COLOR",
        "FORCE_COLOR",
    ),
    # Python and its libraries
    *("PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_*", "DYLD_*", "MALLOC_*", "COVERAGE_*", "*_NUM_THREADS"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    # screens, sound and devices
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_*", "DBUS_SESSION_BUS_ADDRESS", "QT_*", "SDL_*", "GDK_*"),
    *("PULSE_*", "PIPEWIRE_*", "JACK_*", "ALSA_*", "CUDA_*"),
    "CO2_*",
)
"""Names of the variables passed on; ``*`` stands for any letters at the beginning or the end."""

_SECRET = ("TOKEN", "SECRET", "PASSWORD", "KEY", "INVITE")
"""Variables that begin with CO2_ and have such a word in their name are not passed on."""


def environment_of(environ: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """Return the part of an environment that plugins get.

    Args:
        environ: of the host.
        named: further names from the configuration; ``*`` as in :data:`PASSED_ON`, alone it means all.
    """
    named = tuple(named)
    return {
        name: value
        for name, value in environ.items()
        if _is_named(name, named) or (_is_named(name, PASSED_ON) and not _is_secret(name))
    }


def _is_named(name: str, names: Iterable[str]) -> bool:
    for one in names:
        if one.endswith("*"):
            found = name.startswith(one[:-1])
        elif one.startswith("*"):
            found = name.endswith(one[1:])
        else:
            found = name == one
        if found:
            return True
    return False


def _is_secret(name: str) -> bool:
    return name.startswith("CO2_") and any(word in name for word in _SECRET)
