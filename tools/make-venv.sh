#!/usr/bin/env bash
# Make the virtual environment $1 and put everything in it that requirements/dev.txt pins, and co2 itself.
# Debian keeps venv's pip in a package of its own; where it is missing we install it or say how.
set -euo pipefail
venv=$1
python=${PYTHON:-python3}

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
echo "making $venv (a minute at the first time) …"
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements/dev.txt
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
"$venv/bin/python" -c "
from co2.plugin.quick import COMPILED
from co2.server.express import AVAILABLE
compiled = COMPILED and AVAILABLE
print('co2 is in', '$venv;', 'its quick ways are', 'compiled' if compiled else 'in Python: no C compiler, or no headers of Python')"
