#!/usr/bin/env bash
# Make in the folder $1 the version $2 (a commit) of co2 with an environment of its own, for the benchmark that compares with it.
# Where it is there already, nothing is done. Without the commit (a shallow clone, an archive) it says so; that part of the
# benchmark is not measured then.
set -euo pipefail
folder=$1 commit=$2
[ -e "$folder/$commit/.venv/.installed" ] && exit 0
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
  echo "make: no commit $commit here, so the benchmark cannot compare with it; fetch the whole history, or say which: make bench EARLIER=COMMIT" >&2
  exit 0
fi
echo "making co2 as it was at $commit, to compare with (a minute) …"
rm -rf "${folder:?}/$commit"
mkdir -p "$folder/$commit"
git archive "$commit" | tar -x -C "$folder/$commit"
env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make --no-print-directory -C "$folder/$commit" venv PYTHON="${PYTHON:-python3}"
