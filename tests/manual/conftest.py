"""Every fenced block of docs/ is run, or at least checked: how, and what a page can say about it.

The blocks of one page run in order, in one empty folder (which is HOME too) and one environment: what ``export``,
``cd`` and files leave is there for the next. A block ``sh`` is run by ``bash -e``, a block ``python`` is a program of
its own; both must end with status 0 within 60 seconds. Other blocks are not run, but must be what their fence calls
them: ``ini`` (systemd's units too), ``json``, ``yaml``, ``dockerfile``, ``properties``; ``text``, ``sql`` and
``promql`` may be anything.

These stand for what the tests have, in blocks and in the comments below:

- ``localhost:9092``: real Kafka, one node; topics that a page leaves are deleted
- ``localhost:9093``, ``localhost:9094``: the same with TLS; with client certificates (the common name is the user)
- ``localhost:9095``: SASL_SSL, any mechanism; alice (password alice-pw) may do all, bob (bob-pw) and carol nothing
- ``postgresql://localhost/notifications``: an empty database of a real PostgreSQL
- ``kafka-topics.sh``, ``kafka-acls.sh`` and some more: Kafka's own tools

A page that names one of the secure ports finds ``ca.pem``, ``client.crt`` and ``client.key`` (of alice, password
``secret``) in its folder; what it makes under these names is overwritten before the block that names the port.

A comment in the line above the fence, which GitHub and the site do not show, says what else is wanted; several words
may stand in one comment, values have the shell's quotes:

- ``<!-- run: prints="5 delivered" -->``: the output must have this (standard output and error)
- ``<!-- run: exit=3 -->``: the status it ends with
- ``<!-- run: save="persister.py" -->``: not run but written to this file, for a later block; any language. The fence
  ```` ```python title="persister.py" ```` does the same, and the site shows the title
- ``<!-- run: continues -->``: a Python block that goes on where the Python block above it ended: both are run as one
- ``<!-- run: until="assigned" -->``: runs for ever: gets SIGTERM when this was printed, and must end with 0 or 143
- ``<!-- run: when="test -s file" -->``: the same when this command succeeds, which is tried until it does
- ``<!-- run: meanwhile ready="joined" until="web-1" -->``: the next block runs beside it, once ``ready`` was printed
  (without ``ready`` at once); when that has ended, this one must still come to ``until`` or ``when``, and is stopped
- ``<!-- run: no: changes the machine -->``: only looked at for its syntax; the reason is for who reads. One that begins
  with ``by tests/...`` names the module that runs it

``pytest tests/manual -k tracing.md`` runs one page.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.kafka_tools import NAMED, bring_tools
from support.manual import TOOLS, PageRun

from rdknotify import Producer
from rdknotify.testing import LocalKafka

SECURE = {"localhost:9093": "TLS", "localhost:9094": "MTLS", "localhost:9095": "SASL_SSL"}
DATABASE = "postgresql://localhost/notifications"


class Stage:
    """Puts what the tests have in the place of what a page names; starts it when it is named first."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request, self._folder = request, folder
        self._database = ""
        self._topics: dict[LocalKafka, set[str]] = {}

    def replace(self, text: str) -> str:
        if "localhost:9092" in text:
            text = text.replace("localhost:9092", self._cluster("kafka").bootstrap_servers)
        for address in (address for address in SECURE if address in text):
            kafka = self._cluster("kafka_secure")
            _bring_certificates(kafka, self._folder)
            text = text.replace(address, kafka.bootstrap_of(SECURE[address]))
        if NAMED.search(text):
            bring_tools(self._folder / TOOLS)
        if DATABASE in text:
            self._database = self._database or self._request.getfixturevalue("dsn")
            text = text.replace(DATABASE, self._database)
        return text

    def clear(self) -> None:
        """Delete the topics that came into being since."""
        for kafka, before in self._topics.items():
            _delete(kafka, lambda name, before=before: name not in before)

    def _cluster(self, fixture: str) -> LocalKafka:
        kafka: LocalKafka = self._request.getfixturevalue(fixture)
        if kafka not in self._topics:
            if kafka.managed:  # what other tests have left would be read here
                _delete(kafka, lambda name: name.startswith("notifications."))
            with Producer(kafka.url) as producer:
                self._topics[kafka] = _topics(producer)
        return kafka


@pytest.fixture
def page_run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PageRun]:
    """Runs blocks of one page."""
    stage = Stage(request, tmp_path)
    run = PageRun(tmp_path, stage.replace)
    yield run
    run.kill()
    stage.clear()


def _topics(producer: Producer) -> set[str]:
    return {name for name in producer.metadata()["topics"] if not name.startswith("__")}


def _delete(kafka: LocalKafka, chosen: Callable[[str], bool]) -> None:
    with Producer(kafka.url) as producer:
        names = sorted(filter(chosen, _topics(producer)))
        assert not any(producer.delete_topics(names) if names else ())


def _bring_certificates(kafka: LocalKafka, folder: Path) -> None:
    alice = kafka.security.ca.client("alice", password="secret")
    for source, name in (
        (kafka.security.ca.file, "ca.pem"),
        (alice.certificate, "client.crt"),
        (alice.key, "client.key"),
    ):
        shutil.copy(source, folder / name)
