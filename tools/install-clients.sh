#!/usr/bin/env bash
# Install what tests/interop needs: XML-RPC libraries of other languages, Node, a browser.
# Debian's packages are installed only as root or in CI. Otherwise the script prints what is missing, and those tests skip.
# If npm is there, the packages that requirements/node.txt pins are unpacked into tests/interop/.node, which git ignores. Each
# must have the pinned hash, and no script of it is run.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(librpc-xml-perl libfrontier-rpc-perl libxmlrpc-lite-perl ruby ruby-xmlrpc php-cli php-xmlrpc
  libxmlrpc-core-c3-dev libcurl4-openssl-dev gcc tcl tcl-xmlrpc curl openssl chromium)
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
pins=requirements/node.txt
place=tests/interop/.node
if command -v npm >/dev/null && ! cmp -s "$pins" "$place/pins"; then
  new=$(mktemp -d)
  trap 'rm -rf "$new"' EXIT
  while read -r pin hash; do
    npm pack --silent --ignore-scripts --pack-destination "$new" "$pin" </dev/null >/dev/null ||
      { echo "clients for Node are not tested: npm cannot get $pin" >&2; exit 0; }
    file="$new/${pin/@/-}.tgz"
    found="sha512-$("${PYTHON:-python3}" -c '
import base64, hashlib, sys
print(base64.b64encode(hashlib.sha512(open(sys.argv[1], "rb").read()).digest()).decode())' "$file")"
    [ "$found" = "$hash" ] || { echo "$pin does not have the hash that $pins pins: found $found. Nothing is installed" >&2; exit 1; }
    mkdir -p "$new/node_modules/${pin%@*}"
    tar -xzf "$file" -C "$new/node_modules/${pin%@*}" --strip-components=1
    rm "$file"
  done < <(grep -v '^#' "$pins")
  cp "$pins" "$new/pins"
  rm -rf "$place"
  mv "$new" "$place"
fi
pins=requirements/node-red.txt
place=tests/interop/.node-red
if command -v npm >/dev/null && ! cmp -s "$pins" "$place/pins"; then
  red=$(mktemp -d)
  trap 'rm -rf "${new:-}" "$red"' EXIT
  read -r pin day hash < <(grep -v '^#' "$pins")
  echo "installing Node-RED for the tests: 120 MB …"
  npm install --silent --ignore-scripts --omit=optional --no-audit --no-fund --no-package-lock --no-update-notifier \
    --before="$day" --prefix "$red" "$pin" </dev/null >/dev/null ||
    { echo "Node-RED is not tested: npm cannot get $pin" >&2; exit 0; }
  found=$("${PYTHON:-python3}" tools/npm_tree.py "$red")
  [ "$found" = "$hash" ] ||
    { echo "Node-RED is not tested: the packages of $pin do not have the hash that $pins pins: found $found. Nothing is installed" >&2; exit 0; }
  cp "$pins" "$red/pins"
  rm -rf "$place"
  mv "$red" "$place"
fi
