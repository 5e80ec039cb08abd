"""Web pages of the owner's own: the files of one folder, under ``/pages/``.

They come from the same address as the JSON door and ``co2-live.js``, so that a page needs no other web server.
Their scripts can press the buttons of this host's pages: the folder is the owner's, as plugins are.
"""

import asyncio
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from co2.web.page import OWN_PAGES, PageAnswer, PageHandler, PageRequest

__all__ = ["MAX_FILE", "make_own_pages"]

MAX_FILE = 8 * 1024 * 1024
"""Bytes of a file; a larger one is not served."""

INDEX = "index.html"
"""The file that is meant by a folder."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
"""Content types by the end of a name; any other file is only downloaded."""

HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # so that a page that was changed is shown as it is now
}


def make_own_pages(folder: Path | None) -> dict[str, PageHandler]:
    """Return the handler of the pages in a folder, by its path; none without a folder.

    Args:
        folder: read anew for each request, so that pages may be changed and added.
    """
    if folder is None:
        return {}
    # One thread: a slow disk holds up other pages of the folder, and nothing else.
    pool = ThreadPoolExecutor(1, "co2-own-pages")

    async def page(request: PageRequest) -> PageAnswer:
        if request.path == OWN_PAGES.rstrip("/"):
            return PageAnswer(b"", 301, {**HEADERS, "Location": OWN_PAGES})
        name = request.path.removeprefix(OWN_PAGES) or INDEX
        body = await asyncio.get_running_loop().run_in_executor(pool, _read, folder, name)
        if body is None:
            text = f"there is no file {name} in the folder of pages, or it is larger than {MAX_FILE >> 20} MiB\n"
            return PageAnswer(text.encode(), 404, {**HEADERS, "Content-Type": TYPES[".txt"]})
        kind = TYPES.get(Path(name).suffix.lower(), "application/octet-stream")
        return PageAnswer(body, 200, {**HEADERS, "Content-Type": kind})

    return {f"{OWN_PAGES}*": page}


def _read(folder: Path, name: str) -> bytes | None:
    """Return the content of a file, None for one that is not there or is none.

    Args:
        folder: that the file is in.
        name: made of safe names with slashes between, see :func:`~co2.web.page.path_pattern`.
    """
    path = folder / name
    try:
        # A link may lead elsewhere in the folder, but not out of it.
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            return None
        # Opened without waiting: a pipe in the folder would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE:
                return None
            return file.read(MAX_FILE)
    except (OSError, ValueError):
        return None
