#!/usr/bin/env bash
# Install Debian packages for commands that are missing. Each argument is command:package.
# As root, or in CI (where the variable CI is set), it installs them. Anywhere else it says what it would do, and asks
# at a terminal; without one it says what to type, and fails.
set -euo pipefail
missing=()
for pair in "$@"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
command -v apt-get >/dev/null || { echo "missing: ${missing[*]}; install them with your package manager" >&2; exit 1; }

sudo=
if [ "$(id -u)" -ne 0 ]; then
  sudo="sudo"
  line="sudo apt-get install --no-install-recommends ${missing[*]}"
  if [ -n "${CI:-}" ]; then
    sudo="sudo -n"
  elif [ -t 0 ] && [ -t 2 ]; then
    echo "missing on this machine: ${missing[*]}. To install them: $line" >&2
    read -r -p "Do that now? [y/N] " answer >&2
    [[ "$answer" =~ ^[yY] ]] || { echo "nothing is installed" >&2; exit 1; }
  else
    echo "missing on this machine: ${missing[*]}. Install them with: $line" >&2
    exit 1
  fi
fi
echo "installing ${missing[*]} …"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq >/dev/null
$sudo apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
