"""``rdknotify topics``: list, create, describe and delete topics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from rdknotify.admin import Admin, Setting, Topic
from rdknotify.cli import columns, output
from rdknotify.cli.connection import Connection, connected
from rdknotify.cli.durations import DURATION, in_words
from rdknotify.cli.output import Exit
from rdknotify.errors import ConfigError, KafkaError
from rdknotify.shapes import Partition as Place
from rdknotify.topics import PRIORITIES, check_name, notification_topic

__all__ = ["command"]

_TIMEOUT = 8.0
_EMBEDDED_PARTITIONS = 4
_SHOWN = ("retention.ms", "retention.bytes", "cleanup.policy", "max.message.bytes", "min.insync.replicas")
"""The settings that are shown even where they are the broker's defaults."""


@click.group("topics")
def command() -> None:
    """List, create, describe and delete topics."""


@command.command("list")
@connected
@click.option("--internal", is_flag=True, help="Also Kafka's own.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.pass_context
def list_topics(context: click.Context, /, connection: Connection, internal: bool, as_json: bool) -> None:
    """List the topics that you may see: partitions, replicas, records, and what is wrong with them."""
    with _admin(connection) as admin:
        found = [
            topic
            for topic in admin.topics(timeout=_TIMEOUT).values()
            if isinstance(topic, Topic) and (internal or not topic.internal)
        ]
        held = _Held(admin, found)
    rows = [
        (topic.name, len(topic.partitions), _replicas(topic), held.records(topic), _health(topic)) for topic in found
    ]
    if as_json:
        for row in rows:
            names = ("topic", "partitions", "replicas", "records", "trouble")
            click.echo(json.dumps(dict(zip(names, row, strict=True))))
    elif rows:
        columns.print_rows(("topic", "partitions", "replicas", "records", "trouble"), rows)
    else:
        output.tell("there are no topics, or this user may not see them (DESCRIBE on the topics)")
    context.exit(Exit.PARTLY if any(row[-1] for row in rows) else Exit.DONE)


@command.command("describe")
@click.argument("names", nargs=-1, required=True, metavar="TOPIC...")
@connected
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.pass_context
def describe(context: click.Context, /, connection: Connection, names: tuple[str, ...], as_json: bool) -> None:
    """Show topics: leader, replicas and offsets of each partition, retention and other settings."""
    with _admin(connection) as admin:
        answers = admin.topics(names, _TIMEOUT)
        found = [topic for topic in answers.values() if isinstance(topic, Topic)]
        held = _Held(admin, found)
        for topic in found:
            settings = _settings(admin, topic.name)
            if as_json:
                click.echo(json.dumps(_facts(topic, held, settings)))
            else:
                _show(topic, held, settings)
    context.exit(_tell_failures(answers, "describe"))


@command.command("create")
@click.argument("names", nargs=-1, metavar="[TOPIC]...")
@connected
@click.option("--notifications", metavar="TOPIC", help="The topics of notifications sent to TOPIC, one a priority: "
              "TOPIC.info ..., with the URL's virtual host behind.")  # fmt: skip
@click.option("--priority", "priorities", multiple=True, type=click.Choice(PRIORITIES),
              help="With --notifications only these; may be repeated. [default: all]")  # fmt: skip
@click.option("--partitions", type=click.IntRange(min=1), help="[default: the broker's]")
@click.option("--replication", type=click.IntRange(min=1), help="Copies of each record. [default: the broker's]")
@click.option("--retention", type=DURATION, help="How long records are kept, as '7 days'. [default: the broker's]")
@click.option("--config", "settings", multiple=True, metavar="NAME=VALUE",
              help="A setting of the topic, as max.message.bytes=2000000; may be repeated.")  # fmt: skip
@click.option("--if-missing", is_flag=True, help="One that is there already is no failure.")
@click.pass_context
def create(
    context: click.Context,
    /,
    connection: Connection,
    names: tuple[str, ...],
    notifications: str | None,
    priorities: tuple[str, ...],
    partitions: int | None,
    replication: int | None,
    retention: float | None,
    settings: tuple[str, ...],
    if_missing: bool,
) -> None:
    """Create topics.

    \b
    rdknotify topics create orders --partitions 12 --replication 3 --retention '7 days'
    rdknotify topics create --notifications notifications --priority info --priority error
    """
    if priorities and notifications is None:
        raise click.UsageError("--priority goes with --notifications")
    wanted = [*names]
    if notifications is not None:
        vhost = connection.url.virtual_host
        wanted += [notification_topic(notifications, each, vhost) for each in priorities or PRIORITIES]
    if not wanted:
        raise click.UsageError("name a topic, or give --notifications TOPIC")
    config = _config(settings, retention)
    wanted = [check_name(name) for name in dict.fromkeys(wanted)]
    with _admin(connection) as admin:
        if connection.cluster is not None:
            answers = _create_embedded(connection, wanted, partitions)
        else:
            new = [(name, partitions or -1, replication or -1, config) for name in wanted]
            answers = admin.create_topics(new, _TIMEOUT)
        if if_missing:
            answers = {name: None if _exists(answer) else answer for name, answer in answers.items()}
        made = admin.topics([name for name, answer in answers.items() if answer is None], _TIMEOUT)
    for name, topic in made.items():
        # A topic is known to all brokers only a moment later.
        shown = f": {_plural(len(topic.partitions), 'partition')}" if isinstance(topic, Topic) else ""
        output.out.print(f"{name}{shown}", highlight=False, markup=False)
    context.exit(_tell_failures(answers, "create"))


@command.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="TOPIC...")
@connected
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def delete(context: click.Context, /, connection: Connection, names: tuple[str, ...], yes: bool) -> None:
    """Delete topics with all records in them, for ever, after asking."""
    if connection.cluster is not None:
        raise ConfigError("the embedded broker cannot delete topics; it ends with this command anyway")
    with _admin(connection) as admin:
        answers: dict[str, Any] = dict(admin.topics(names, _TIMEOUT))
        found = [topic for topic in answers.values() if isinstance(topic, Topic)]
        if found and not yes:
            _confirm(found, _Held(admin, found))
        answers |= admin.delete_topics([topic.name for topic in found], _TIMEOUT)
    for name, answer in answers.items():
        if answer is None:
            output.out.print(f"{name}: deleted", highlight=False, markup=False)
    context.exit(_tell_failures(answers, "delete"))


class _Held:
    """The first and the next offset of each partition of some topics."""

    def __init__(self, admin: Admin, found: Sequence[Topic]) -> None:
        places: list[Place] = [(topic.name, each.number) for topic in found for each in topic.partitions]
        self._begins, self._ends = (admin.find_offsets(places, where, _TIMEOUT) for where in ("beginning", "end"))

    def __getitem__(self, place: Place) -> tuple[int, int] | None:
        begin, end = self._begins.get(place), self._ends.get(place)  # type: ignore[call-overload]  # equal to its key
        return (begin, end) if isinstance(begin, int) and isinstance(end, int) else None

    def records(self, topic: Topic) -> int | None:
        """How many offsets there are; None where a partition does not tell."""
        spans = [self[topic.name, each.number] for each in topic.partitions]
        return None if None in spans else sum(span[1] - span[0] for span in spans if span)


def _admin(connection: Connection) -> Admin:
    return Admin(connection.url, **connection.arguments("admin"))


def _replicas(topic: Topic) -> int:
    return max((len(each.replicas) for each in topic.partitions), default=0)


def _health(topic: Topic) -> str:
    """What is wrong, in words; empty where nothing is."""
    leaderless = sum(each.leader is None for each in topic.partitions)
    behind = sum(len(each.in_sync) < len(each.replicas) for each in topic.partitions)
    words = [f"{_plural(leaderless, 'partition')} without a leader"] if leaderless else []
    return ", ".join([*words, *([f"{_plural(behind, 'partition')} with replicas behind"] if behind else [])])


def _settings(admin: Admin, name: str) -> dict[str, Setting]:
    """None from a broker that tells none, as the embedded one."""
    try:
        return admin.settings(name, _TIMEOUT)
    except KafkaError as error:
        if error.name != "_UNSUPPORTED_FEATURE":
            raise
        return {}


def _facts(topic: Topic, held: _Held, settings: dict[str, Setting]) -> dict[str, Any]:
    partitions = []
    for each in topic.partitions:
        begin, end = held[topic.name, each.number] or (None, None)
        partitions.append({"partition": each.number, **each._asdict(), "begin": begin, "end": end})
        del partitions[-1]["number"]
    return {
        "topic": topic.name,
        "id": topic.id,
        "internal": topic.internal,
        "replicas": _replicas(topic),
        "records": held.records(topic),
        "trouble": _health(topic),
        "partitions": partitions,
        "settings": {name: setting.value for name, setting in settings.items()},
        "own": sorted(name for name, setting in settings.items() if setting.own),
    }


def _show(topic: Topic, held: _Held, settings: dict[str, Setting]) -> None:
    records = held.records(topic)
    counts = [_plural(len(topic.partitions), "partition"), _plural(_replicas(topic), "replica")]
    counts.append("records not known" if records is None else _plural(records, "record"))
    output.out.print(f"{topic.name}: {', '.join(counts)}", highlight=False, markup=False, style="bold")
    if trouble := _health(topic):
        output.out.print(trouble, highlight=False, markup=False, style="red")
    if settings:
        own = [name for name, setting in settings.items() if setting.own and name not in _SHOWN]
        told = [f"{name}={_value(name, settings[name])}" for name in (*_SHOWN, *own) if name in settings]
        output.out.print("\n".join(told), highlight=False, markup=False)
    else:
        output.tell("this broker tells no settings, as the embedded one")
    rows = []
    for each in topic.partitions:
        begin, end = held[topic.name, each.number] or (None, None)
        count = None if begin is None or end is None else end - begin
        replicas, in_sync = (" ".join(map(str, nodes)) for nodes in (each.replicas, each.in_sync))
        rows.append((each.number, each.leader, replicas, in_sync, begin, end, count))
    columns.print_rows(("partition", "leader", "replicas", "in sync", "begin", "end", "records"), rows)


def _value(name: str, setting: Setting) -> str:
    value = "(confidential)" if setting.value is None else setting.value
    if name.endswith(".ms") and value.isdigit() and int(value) < 2**53:
        value += f" ({in_words(int(value) / 1000)})"
    elif value == "-1" and name.startswith("retention."):
        value += " (no limit)"
    return f"{value}, set for this topic" if setting.own else value


def _config(settings: Sequence[str], retention: float | None) -> dict[str, str]:
    """The settings of a new topic. Raises UsageError."""
    config = {} if retention is None else {"retention.ms": str(round(retention * 1000))}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise click.UsageError(f"--config {setting!r}: write it as NAME=VALUE, as cleanup.policy=compact")
        if name in config:
            raise click.UsageError(f"--config: {name} is given twice" + (", by --retention" if retention else ""))
        config[name] = value
    return config


def _create_embedded(
    connection: Connection, names: Sequence[str], partitions: int | None
) -> dict[str, KafkaError | None]:
    assert connection.cluster is not None
    answers: dict[str, KafkaError | None] = {}
    for name in names:
        try:
            connection.cluster.create_topic(name, partitions or _EMBEDDED_PARTITIONS)
            answers[name] = None
        except KafkaError as error:
            answers[name] = error
    output.tell("in the embedded broker, which ends with this command; it keeps no settings")
    return answers


def _exists(answer: KafkaError | None) -> bool:
    return answer is not None and answer.name == "TOPIC_ALREADY_EXISTS"


def _confirm(found: Sequence[Topic], held: _Held) -> None:
    """Ask on the terminal. Raises ConfigError where nobody says yes."""
    for topic in found:
        records = held.records(topic)
        output.tell(f"{topic.name}: {'' if records is None else _plural(records, 'record')}")
    question = f"Delete {_plural(len(found), 'topic')} with all records, for ever?"
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise ConfigError("nothing is deleted: nobody was there to be asked; give --yes") from None
    if not agreed:
        raise ConfigError("nothing is deleted")


def _tell_failures(answers: dict[str, Any], verb: str) -> Exit:
    """Say what failed and why; the exit status follows."""
    failed = {name: answer for name, answer in answers.items() if isinstance(answer, KafkaError)}
    for name, error in failed.items():
        hint = {
            "UNKNOWN_TOPIC_OR_PART": f"cannot {verb} {name!r}: there is none; `rdknotify topics list` has them all",
            "TOPIC_ALREADY_EXISTS": f"cannot {verb} {name!r}: it is there already; --if-missing lets it be",
        }
        output.tell(hint.get(error.name, f"cannot {verb} {name!r}: {error}"))
    if not failed:
        return Exit.DONE
    return Exit.FAILED if len(failed) == len(answers) else Exit.PARTLY


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
