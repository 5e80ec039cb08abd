"""A relay with a folder of pages says where they are, and serves them over HTTP; without one there are none."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.harness import running


def got(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        found: bytes = answer.read()
    return found


def test_the_folder_may_be_made_later(tmp_path: Path) -> None:
    with running(tmp_path, "relay", "--pages", "site") as relay:
        assert f"there is no folder {tmp_path / 'site'}" in relay.stderr
        with pytest.raises(urllib.error.HTTPError, match="404"):
            got(f"{relay.url}/pages/")
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "index.html").write_text("<p>here", encoding="utf-8")
        assert got(f"{relay.url}/pages/") == b"<p>here"
        assert got(f"{relay.url}/pages") == b"<p>here"
        for path in ("/pages/../co2.toml", "/pages/%2e%2e/co2.toml", "/pages/.git", "/pagesx"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                got(relay.url + path)


def test_without_a_folder_there_is_no_such_page(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.html").touch()
    with running(tmp_path, "relay") as relay:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            got(f"{relay.url}/pages/")
        assert "/pages/" not in relay.log()


def test_a_relay_says_where_its_pages_are(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with running(tmp_path, "relay", "--pages", "site") as relay:
        assert f"the pages in {tmp_path / 'site'} are served at /pages/" in relay.log()
