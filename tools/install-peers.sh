#!/usr/bin/env bash
# Install Debian packages for commands that are missing. Each argument is command:package, or command:package:formula.
# As root or in CI (if the variable CI is set) it installs them without asking. Otherwise it asks at a terminal; without a
# terminal it prints what to type, and fails. Without apt-get, as on macOS, it prints what to type, and succeeds if Homebrew has
# a formula for each missing command: the tests that need them skip.
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
