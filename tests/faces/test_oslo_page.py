"""What operators copy, from docs/oslo.md and from the example's configuration, is something that the driver takes."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from support.oslo import GROUP, cfg, transport

# What the page says to set beside credentials is set in one of the settings only.
pytestmark = pytest.mark.filterwarnings("ignore:the URL's credentials are not used")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "oslo.md").read_text()
SETTINGS = sorted(set(re.findall(r"`(\w+) = ([^`]+)`", PAGE)))
URLS = re.findall(r"rdkafka://[^\s`]*\w[^\s`]*", PAGE)


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_an_option_of_the_page_is_one_of_the_group(name: str, value: str) -> None:
    made = transport(f"rdkafka://user:password@kafka1/?{urlencode({name: value})}")  # raises for a bad value
    assert name in made.conf[GROUP]


def test_the_urls_of_the_page_make_transports() -> None:
    assert len(URLS) >= 4
    for url in URLS:
        transport(url.strip("()"))


def test_the_example_sets_only_options_that_there_are() -> None:
    file = ROOT / "examples" / "hybrid" / "service.conf"
    conf = cfg.ConfigOpts()
    conf(["--config-file", str(file)], project="tests")
    of_transport = transport("rdkafka://kafka1/", conf)
    named = re.findall(r"^(\w+) =", file.read_text().partition(f"[{GROUP}]")[2], re.MULTILINE)
    assert "settle" in named
    assert set(named) <= set(of_transport.conf[GROUP])
