"""The owner's own web pages: what is in the folder is served, and nothing else."""

import asyncio
import os
from pathlib import Path

import pytest

from co2.web.own_pages import MAX_FILE, make_own_pages
from co2.web.page import PageAnswer, PageRequest, path_pattern


def asked(folder: Path, path: str) -> PageAnswer | None:
    """Ask as a server does; None for a path that no handler has."""
    pages = make_own_pages(folder)
    handler = pages.get(path_pattern(path))

    async def ask() -> PageAnswer | None:
        return None if handler is None else await handler(PageRequest(path, {}, "192.0.2.7"))

    return asyncio.run(ask())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pages = tmp_path / "pages"
    (pages / "a" / "b").mkdir(parents=True)
    (pages / "index.html").write_text("<p>index", encoding="utf-8")
    (pages / "Faders-2.html").write_text("<p>faders", encoding="utf-8")
    (pages / "a" / "b" / "look.CSS").write_text("p {}", encoding="utf-8")
    (pages / ".secret").write_text("hidden", encoding="utf-8")
    (pages / "data.bin").write_bytes(b"\0\1")
    (tmp_path / "co2.toml").write_text("password", encoding="utf-8")
    return pages


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/pages/", b"<p>index", "text/html; charset=utf-8"),
        ("/pages/Faders-2.html", b"<p>faders", "text/html; charset=utf-8"),
        ("/pages/a/b/look.CSS", b"p {}", "text/css; charset=utf-8"),
        ("/pages/data.bin", b"\0\1", "application/octet-stream"),
    ],
)
def test_files_are_served_with_their_types(folder: Path, path: str, body: bytes, kind: str) -> None:
    found = asked(folder, path)
    assert found is not None
    assert (found.status, found.body, found.headers["Content-Type"]) == (200, body, kind)
    assert found.headers["Cache-Control"] == "no-cache"
    assert found.headers["X-Content-Type-Options"] == "nosniff"


def test_who_leaves_out_the_last_slash_is_led_there(folder: Path) -> None:
    found = asked(folder, "/pages")
    assert found is not None
    assert (found.status, found.headers["Location"]) == (301, "/pages/")
    assert asked(folder, "/pagesx") is None


def test_a_page_that_was_changed_is_served_as_it_is_now(folder: Path) -> None:
    (folder / "index.html").write_text("<p>new", encoding="utf-8")
    found = asked(folder, "/pages/")
    assert found is not None and found.body == b"<p>new"


@pytest.mark.parametrize(
    "path",
    [
        "/pages/../co2.toml",
        "/pages/a/../../co2.toml",
        "/pages/.secret",
        "/pages/%2e%2e/co2.toml",
        "/pages//etc/passwd",
        "/pages/a//b/look.CSS",
        "/pages/a/b/c/d/e",
        "/pages/a\\b",
        "/pages/" + "x" * 65,
        "/pages/x\0y",
    ],
)
def test_no_other_form_of_a_path_has_a_handler(folder: Path, path: str) -> None:
    assert asked(folder, path) is None


@pytest.mark.parametrize("path", ["/pages/missing.html", "/pages/a", "/pages/a/b/look.css.map"])
def test_what_is_no_file_is_404_and_says_so(folder: Path, path: str) -> None:
    found = asked(folder, path)
    assert found is not None
    assert found.status == 404
    assert f"no file {path.removeprefix('/pages/')} in the folder of pages" in found.body.decode()
    assert str(folder) not in found.body.decode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe with a name")
def test_links_out_of_the_folder_pipes_and_large_files_are_not_served(folder: Path) -> None:
    (folder / "out").symlink_to(folder.parent / "co2.toml")
    (folder / "within").symlink_to(folder / "index.html")
    os.mkfifo(folder / "pipe")
    with (folder / "large").open("wb") as large:
        large.truncate(MAX_FILE + 1)
    for name in ("out", "pipe", "large"):
        found = asked(folder, f"/pages/{name}")
        assert found is not None and found.status == 404, name
    within = asked(folder, "/pages/within")
    assert within is not None and within.body == b"<p>index"


def test_without_a_folder_there_are_no_pages() -> None:
    assert make_own_pages(None) == {}
