"""What a host shows people is the time of where it stands."""

import re
import urllib.request
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from tests.harness import PATIENCE, running

IN_JAPAN = "JST-9"
"""As POSIX has it, so that no list of the world's zones is needed; the machines of tests are in UTC."""


def test_a_page_has_the_time_of_where_its_host_stands(tmp_path: Path) -> None:
    with (
        running(tmp_path, "relay", env={"TZ": IN_JAPAN}) as relay,
        urllib.request.urlopen(relay.url, timeout=PATIENCE) as answer,
    ):
        page = answer.read().decode()
    found = re.search(r"as of (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) JST\b", page)
    assert found, page
    shown = datetime.fromisoformat(found[1]).replace(tzinfo=timezone(timedelta(hours=9)))
    assert abs(datetime.now(UTC) - shown) < timedelta(minutes=1)
