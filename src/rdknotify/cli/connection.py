"""Which broker a command talks to: ``--url``, ``RDKNOTIFY_URL``, or a service's configuration file.

``mock:`` is the embedded broker of this very process, with a few notifications in it: for trying a command.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from rdknotify.cli import output, service_conf
from rdknotify.option_table import Role
from rdknotify.options import for_role
from rdknotify.testing import MockCluster
from rdknotify.topics import notification_topic
from rdknotify.url import TransportURL

__all__ = ["EMBEDDED", "SAMPLES", "URL_VARIABLE", "Connection", "connected"]

URL_VARIABLE = "RDKNOTIFY_URL"
EMBEDDED = "mock:"
SAMPLES = 100
"""Notifications that the embedded broker holds, in the topics ``notifications.<priority>``."""
_TOPICS = ("notifications",)

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Connection:
    """A broker, and how to talk to it."""

    url: TransportURL
    source: str
    """Where the URL comes from, in words."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options by name; those of other roles are left out by :meth:`arguments`."""
    config: Mapping[str, str] = field(default_factory=dict)
    """librdkafka's properties."""
    topics: tuple[str, ...] = _TOPICS
    """The notification topics of the service whose file was read, without priority; else ``notifications``."""
    cluster: MockCluster | None = None
    """The embedded broker; None where the broker is another's."""

    def arguments(self, role: Role, **more: Any) -> dict[str, Any]:
        """Keyword arguments for a client of that role; ``more`` comes first."""
        options = {**for_role(self.options, role), **more}
        return {**options, "config": {**self.config, **options.get("config", {})}}


def connected(function: _Function, *, unless: str | None = None) -> _Function:
    """Give a command the options that name a broker, and as its first argument the :class:`Connection`.

    ``unless``: the command's parameter with which it needs no broker; the connection is None where none is named then.
    """

    @click.option(
        "--url", metavar="URL", help=f"kafka://[user@]host:port[/vhost], or {EMBEDDED} for an embedded broker."
    )
    @click.option(
        "--config-file",
        "files",
        multiple=True,
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A service's oslo configuration, as nova.conf, in place of the URL.",
    )
    @click.option(
        "-o",
        "--option",
        "pairs",
        multiple=True,
        metavar="NAME=VALUE",
        help="An option of rdknotify or property of librdkafka.",
    )
    @click.option("--verbose", is_flag=True, help="Show the library's log too.")
    @click.pass_context
    @functools.wraps(function)
    def command(
        context: click.Context,
        /,
        url: str | None,
        files: tuple[Path, ...],
        pairs: tuple[str, ...],
        verbose: bool,
        **more: Any,
    ) -> Any:
        output.show_log(logging.INFO if verbose else None)
        if unless is not None and more.get(unless) and not (url or files or os.environ.get(URL_VARIABLE)):
            return context.invoke(function, None, **more)
        return context.invoke(function, find(context, url, files, pairs), **more)

    return command  # type: ignore[return-value]  # the decorators keep the kind


def find(context: click.Context, url: str | None, files: tuple[Path, ...], pairs: tuple[str, ...]) -> Connection:
    """The broker that these name; an embedded one lives until the command ends. Raises UsageError and ConfigError."""
    given, source = url, "--url"
    if given is None and not files:
        given, source = os.environ.get(URL_VARIABLE), URL_VARIABLE
    options, config = _split(pairs)
    if given == EMBEDDED:
        cluster = context.with_resource(MockCluster())
        _fill(cluster)
        # It answers a fetch that found nothing only when its time is over.
        config = {"fetch.wait.max.ms": "20", **config}
        return Connection(TransportURL.parse(cluster.url), "the embedded broker", options, config, cluster=cluster)
    service = service_conf.read(files) if files else None
    if given:
        place = TransportURL.parse(given if "://" in given else f"kafka://{given}")
        if place.password is not None and source == "--url":
            output.tell(
                "warning: everyone on this machine can see the password in --url: "
                f"set {URL_VARIABLE} or RDKNOTIFY_PASSWORD, or give -o credentials_file=FILE",
                "yellow",
            )
    elif service is not None:
        place, source = service.url, ", ".join(map(str, files))
    else:
        raise click.UsageError(
            f"no broker is named: give --url kafka://host:9092, set {URL_VARIABLE}, or name a service's --config-file; "
            f"--url {EMBEDDED} tries it without a broker"
        )
    if service is not None:
        options, config = {**service.options, **options}, {**service.config, **config}
    return Connection(place, source, options, config, service.topics if service else _TOPICS)


def _split(pairs: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """``NAME=VALUE`` as options, and as properties of librdkafka, whose names have a dot."""
    both: tuple[dict[str, Any], dict[str, str]] = ({}, {})
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise click.UsageError("-o: write it as NAME=VALUE")
        both["." in name][name] = value
    return both


def _fill(cluster: MockCluster) -> None:
    """Put notifications into the embedded broker."""
    from rdknotify.notifier import Notifier
    from rdknotify.testing.data import nova_notifications

    samples: dict[str, list[tuple[str, Any]]] = {}
    for one in nova_notifications()[:SAMPLES]:
        samples.setdefault(one["priority"], []).append((one["event_type"], one["payload"]))
    with Notifier(cluster.url, "nova-compute:example", list(_TOPICS)) as notifier:
        for priority, events in samples.items():
            cluster.create_topic(notification_topic(_TOPICS[0], priority))
            notifier.notify_batch(priority, events).result(10).raise_for_failures()
