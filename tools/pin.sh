#!/usr/bin/env bash
# Write requirements/*.txt from the pins in requirements/*.in, with their dependencies on all systems, and with the hashes of
# all files of each release, so that pip accepts no other files under these names. Needs the network.
set -euo pipefail
cd "$(dirname "$0")/../requirements"
python=${PYTHON:-python3}
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$python" -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r uv.txt
for name in uv runtime dev bench; do
  {
    echo "# Written by \`make pins\` from $name.in: edit that."
    "$tools/bin/uv" --no-config pip compile "$name.in" --quiet --generate-hashes --universal --python-version 3.11 \
      --no-header --no-annotate --no-emit-index-url --native-tls
  } > "$name.txt.new"
  mv "$name.txt.new" "$name.txt"
done
