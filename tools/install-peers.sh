#!/usr/bin/env bash
# Install Debian packages for commands that are missing. Each argument is command:package.
# As root, or through sudo where that asks nothing; otherwise says what to type and fails.
set -euo pipefail
missing=()
for pair in "$@"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2>/dev/null && sudo="sudo -n" || {
    echo "missing: ${missing[*]}. Install with: sudo apt-get install ${missing[*]}" >&2
    exit 1
  }
fi
command -v apt-get >/dev/null || { echo "missing: ${missing[*]}; install them with your package manager" >&2; exit 1; }
echo "installing ${missing[*]} …"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq >/dev/null
$sudo apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
