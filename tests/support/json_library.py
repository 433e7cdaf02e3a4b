"""A module's tests by orjson, and by msgspec, which does its work where there is no orjson."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rdknotify import envelope, fast_json


@pytest.fixture(scope="module", autouse=True, params=["orjson", "msgspec"])
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """For a module that imports it. Its value is the name."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "msgspec":
            patch.setattr(envelope, "_dumps", fast_json.plain_dumps)
            patch.setattr(envelope, "_loads", fast_json.plain_loads)
        elif fast_json.dumps is fast_json.plain_dumps:
            pytest.skip("there is no orjson for this Python")
        yield request.param
