"""Print one hash of all packages that npm has installed in a folder: of their names, versions and archives.

npm checks each archive against its hash as it unpacks it, and notes the hash in the folder. Where in the tree a
package lies is left to npm.

Usage: npm_tree.py FOLDER
"""

import base64
import hashlib
import json
import sys
from pathlib import Path


def tree_hash(folder: Path) -> str:
    """Return the hash of what is installed in a folder.

    Args:
        folder: in which ``npm install --prefix`` has installed.

    Raises:
        OSError: nothing is installed there.
    """
    packages = json.loads((folder / "node_modules" / ".package-lock.json").read_text())["packages"]
    lines = set()
    for place, package in packages.items():
        if package.get("inBundle"):  # a part of another package's archive
            continue
        name = package.get("name", place.rpartition("node_modules/")[2])
        lines.add(f"{name}@{package['version']} {package['integrity']}\n")
    digest = hashlib.sha512("".join(sorted(lines)).encode()).digest()
    return f"sha512-{base64.b64encode(digest).decode()}"


if __name__ == "__main__":
    print(tree_hash(Path(sys.argv[1])))
