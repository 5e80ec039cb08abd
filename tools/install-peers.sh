#!/usr/bin/env bash
# Install Debian packages for commands that are missing. Each argument is command:package, or command:package:formula.
# As root, or through sudo where that asks nothing; otherwise says what to type and fails. Where there is no apt-get,
# as on macOS, it says what to type and goes on if Homebrew has a formula: the tests that need the command skip.
set -euo pipefail
missing=()
formulas=()
for pair in "$@"; do
  IFS=: read -r name package formula <<<"$pair"
  command -v "$name" >/dev/null && continue
  missing+=("$package")
  formulas+=(${formula:+"$formula"})
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  if [ ${#formulas[@]} -eq ${#missing[@]} ]; then
    echo "missing: ${missing[*]}; what needs them is skipped. Install with: brew install ${formulas[*]}" >&2
    exit 0
  fi
  echo "missing: ${missing[*]}; install them with your package manager" >&2
  exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2>/dev/null && sudo="sudo -n" || {
    echo "missing: ${missing[*]}. Install with: sudo apt-get install ${missing[*]}" >&2
    exit 1
  }
fi
echo "installing ${missing[*]} …"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq >/dev/null
$sudo apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
