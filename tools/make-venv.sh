#!/usr/bin/env bash
# Make the virtual environment $1 with everything that requirements/dev.txt pins, and with co2 itself.
# Further arguments are the files that have changed since the last time: if these are only pins, and all pinned versions are
# installed, nothing is done. Debian has venv's pip in a package of its own; if it is missing, the script installs it or says how.
set -euo pipefail
venv=$1
python=${PYTHON:-python3}

is_installed() {
  "$venv/bin/python" - requirements/dev.txt <<'PY'
import importlib.metadata
import re
import sys

from packaging.requirements import Requirement

for pin in re.findall(r"^[^#\s][^\\\n]*", open(sys.argv[1]).read(), re.MULTILINE):
    wanted = Requirement(pin)
    if wanted.marker is None or wanted.marker.evaluate():
        try:
            found = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            sys.exit(1)
        if not wanted.specifier.contains(found, prereleases=True):
            sys.exit(1)
PY
}

changed=("${@:2}")
if [ -x "$venv/bin/co2" ] && [ ${#changed[@]} -gt 0 ] && ! printf '%s\n' "${changed[@]}" | grep -qv '^requirements/' && is_installed; then
  exit 0
fi

command -v "$python" >/dev/null || { echo "make: no '$python' here; co2 needs Python 3.11 or newer" >&2; exit 1; }
"$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"make: this is Python {sys.version.split()[0]}, co2 needs 3.11 or newer; say which: make PYTHON=python3.12")
PY

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  version=$("$python" -c 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor}")')
  bash "$(dirname "$0")/install-peers.sh" "python$version-venv-module:python$version-venv"
fi
if [ -n "${CI:-}" ]; then  # there the quick ways are tested too
  wanted=(cc:gcc)
  if ! "$python" -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null; then
    version=$("$python" -c 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor}")')
    wanted+=("python$version-headers:python$version-dev")
  fi
  bash "$(dirname "$0")/install-peers.sh" "${wanted[@]}"
fi
echo "making $venv (a minute at the first time) …"
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
"$venv/bin/python" -c "
from co2.plugin.child.speedups import COMPILED
from co2.server.express.loop import AVAILABLE
compiled = COMPILED and AVAILABLE
print('co2 is in', '$venv;', 'its quick ways are', 'compiled' if compiled else 'in Python: no C compiler, or no headers of Python')"
