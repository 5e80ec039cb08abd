#!/usr/bin/env bash
# Install the XML-RPC libraries of other languages that tests/interop runs: from Debian's packages, and one from npm into
# tests/interop/.node, which git ignores. Only as root or in CI; anywhere else, and where there is no apt-get, it says what
# is missing, and those tests skip.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(librpc-xml-perl libfrontier-rpc-perl libxmlrpc-lite-perl ruby ruby-xmlrpc php-cli php-xmlrpc
  libxmlrpc-core-c3-dev libcurl4-openssl-dev gcc tcl tcl-xmlrpc)
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing+=("$package")
  done
  command -v node >/dev/null || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
  if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ] || [ -n "${CI:-}" ]; then
      sudo=
      [ "$(id -u)" -eq 0 ] || sudo="sudo -n"
      echo "installing ${missing[*]} …"
      export DEBIAN_FRONTEND=noninteractive
      $sudo apt-get update -qq >/dev/null
      $sudo apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    else
      echo "clients in other languages are not tested; that needs: sudo apt-get install ${missing[*]}" >&2
    fi
  fi
fi
if command -v npm >/dev/null && [ ! -d tests/interop/.node/node_modules/xmlrpc ]; then
  mkdir -p tests/interop/.node
  npm --prefix tests/interop/.node install --silent --no-fund --no-audit --no-package-lock xmlrpc@1.3.2 >/dev/null ||
    echo "the client for Node is not tested: npm cannot install xmlrpc" >&2
fi
