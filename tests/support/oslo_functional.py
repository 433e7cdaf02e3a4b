"""oslo.messaging's own functional tests of notifications, run from the installed package on any transport.

``oslo_functional.py NAME...`` runs the tests of those names on the transport that both variables of :func:`environment`
name, with ``unittest``, because they patch eventlet into the process. A line of JSON for each tells its name and what
became of it: "passed", or why not. The tests know Kafka by the scheme of its URL, and then take groups of their own and
longer timeouts: our scheme is made to look like it. One of them skips itself on Kafka: it is run.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import unittest
from collections.abc import Iterator
from typing import Any

PASSED = "passed"
_NOTIFY = "oslo_messaging.tests.functional.test_functional.NotifyTestCase"
_LOGGER = "oslo_messaging.tests.functional.notify.test_logger"
_SKIPPED_ON_KAFKA = "Kafka: needs to be fixed"


def environment(url: str) -> dict[str, str]:
    """The environment in which the tests use the transport of this URL."""
    return {**os.environ, "NOTIFY_TRANSPORT_URL": url, "RPC_TRANSPORT_URL": url}


class _LooksLikeKafka(str):
    """A transport URL whose scheme ``rdkafka`` passes for ``kafka``."""

    def startswith(self, prefix: Any, *within: Any) -> bool:
        return super().startswith(prefix, *within) or (prefix == "kafka://" and super().startswith("rdkafka://"))


class _Outcomes(unittest.TestResult):
    """Prints what became of each test."""

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._tell(test, PASSED)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._tell(test, f"skipped: {reason}")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._tell(test, self._exc_info_to_string(err, test))

    addError = addFailure

    def _tell(self, test: unittest.TestCase, outcome: str) -> None:
        print(json.dumps([_name(test), outcome]), file=sys.__stdout__, flush=True)


def _name(test: unittest.TestCase) -> str:
    """``test_simple``, ``test_logging(info,messaging)``: the class and the module are left out."""
    return test.id().rpartition(".")[2]


def _widen() -> None:
    from oslo_messaging.tests.functional import utils

    threading.Thread.isAlive = threading.Thread.is_alive  # tests of old releases call it
    set_up, skip = utils.SkipIfNoTransportURL.setUp, utils.SkipIfNoTransportURL.skipTest

    def kafka_set_up(self: Any, *args: Any, **named: Any) -> None:
        set_up(self, *args, **named)
        self.notify_url = _LooksLikeKafka(self.notify_url)

    def kafka_skip(self: Any, reason: str) -> None:
        if reason != _SKIPPED_ON_KAFKA:
            skip(self, reason)

    utils.SkipIfNoTransportURL.setUp = kafka_set_up
    utils.SkipIfNoTransportURL.skipTest = kafka_skip


def _tests(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _tests(test)
        else:
            yield test


def main(*names: str) -> None:
    _widen()
    found = _tests(unittest.defaultTestLoader.loadTestsFromNames([_NOTIFY, _LOGGER]))
    unittest.TestSuite(test for test in found if _name(test) in names).run(_Outcomes())


if __name__ == "__main__":
    main(*sys.argv[1:])
