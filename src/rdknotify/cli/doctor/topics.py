"""Topics: are they there, does each of their partitions work, do their settings fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rdknotify.admin import Admin, Setting, Topic
from rdknotify.cli.connection import Connection
from rdknotify.cli.doctor.finding import Deadline, Finding, State, side_by_side
from rdknotify.errors import AuthorizationError, KafkaError
from rdknotify.topics import PRIORITIES, notification_topic

__all__ = ["look", "usual"]

_UNKNOWN = "UNKNOWN_TOPIC_OR_PART"
_LARGEST = 1_000_000
"""librdkafka's default of ``message.max.bytes``."""
_LISTED = 8


def usual(connection: Connection) -> list[str]:
    """The topics that the service's notifications go to, of every priority."""
    vhost = connection.url.virtual_host
    return [notification_topic(topic, priority, vhost) for topic in connection.topics for priority in PRIORITIES]


def look(
    client: Admin, named: Sequence[str], expected: Sequence[str], largest: int | None, deadline: Deadline
) -> list[Finding]:
    """What is to be said of each that is named; else of each of the expected ones that is there.

    ``largest``: the largest record that the client sends, in bytes; None: its default.
    """
    try:
        answers = client.topics(named or expected, deadline.left)
    except KafkaError as error:
        return [Finding("topics", "there", State.TROUBLE, f"the cluster does not tell: {error}", "try again")]
    if not named:
        hidden = all(_may_be_hidden(answer) for answer in answers.values())
        answers = {name: answer for name, answer in answers.items() if not _may_be_hidden(answer)}
        if hidden:
            return [_none(expected)]

    def one(name: str, answer: Topic | KafkaError) -> list[Finding]:
        if isinstance(answer, KafkaError):
            return [_not_there(name, answer)]
        try:
            settings: Mapping[str, Setting] | KafkaError = client.settings(name, deadline.left)
        except KafkaError as error:
            settings = error
        return [*_partitions(answer, settings), *_settings(answer, settings, largest or _LARGEST)]

    found = side_by_side([lambda n=name, a=answer: one(n, a) for name, answer in answers.items()], deadline)  # type: ignore[misc]
    late = {
        name: [Finding(f"topic {name}", "settings", State.WARNING, "no answer in time", "try again")]
        for name in answers
    }
    return [finding for name, findings in zip(answers, found, strict=True) for finding in findings or late[name]]


def _may_be_hidden(answer: Topic | KafkaError) -> bool:
    return isinstance(answer, KafkaError) and (answer.name == _UNKNOWN or isinstance(answer, AuthorizationError))


def _none(expected: Sequence[str]) -> Finding:
    example = next((name for name in expected if ".info" in name), expected[0])
    return Finding(
        f"topics {example} ...", "there", State.WARNING,
        "no topic of notifications is there, or this user may see none",
        "brokers make one when it is first sent to, if they may; else: rdknotify topics create " + example,
    )  # fmt: skip


def _not_there(name: str, error: KafkaError) -> Finding:
    subject, facts = f"topic {name}", {"error": error.name}
    if isinstance(error, AuthorizationError):
        return Finding(
            subject, "rights", State.TROUBLE, "this user may not see it",
            "ask whoever runs the cluster for the right: kafka-acls.sh --bootstrap-server ... --add --allow-principal "
            f"User:NAME --operation Read --topic {name} (Write for senders)", facts,
        )  # fmt: skip
    if error.name == _UNKNOWN:
        return Finding(
            subject, "there", State.TROUBLE, "there is no such topic",
            f"check its spelling, the priority and virtual host in it; or make it: rdknotify topics create {name}",
            facts,
        )  # fmt: skip
    return Finding(subject, "there", State.TROUBLE, f"the cluster does not tell: {error}", "try again", facts)


def _partitions(topic: Topic, settings: Mapping[str, Setting] | KafkaError) -> list[Finding]:
    subject, all_of_them = f"topic {topic.name}", topic.partitions
    needed = _number(settings, "min.insync.replicas", 1)
    lost = [each.number for each in all_of_them if each.leader is None]
    # A broker asks for no more copies than there can be.
    short = [
        each.number
        for each in all_of_them
        if each.leader is not None and len(each.in_sync) < min(needed, len(each.replicas))
    ]
    behind = [each.number for each in all_of_them if len(each.in_sync) < len(each.replicas)]
    missing = sorted({node for each in all_of_them for node in each.replicas if node not in each.in_sync})
    facts = {
        "partitions": len(all_of_them),
        "replicas": max((len(each.replicas) for each in all_of_them), default=0),
        "without_leader": lost,
        "below_min_insync_replicas": short,
        "under_replicated": behind,
    }
    count = f"{len(all_of_them)} partition{'s' if len(all_of_them) != 1 else ''}"
    if lost:
        return [Finding(
            subject, "partitions", State.TROUBLE,
            f"{count}; nobody leads {_listed(lost)}: nothing can be sent there or read",
            f"start the brokers that hold them ({_listed(missing)}); their logs say what keeps them from starting",
            facts,
        )]  # fmt: skip
    if short:
        return [Finding(
            subject, "partitions", State.TROUBLE,
            f"{count}; {_listed(short)} has fewer copies in step than min.insync.replicas={needed}: the broker refuses "
            "what is sent there", f"start the brokers with the other copies: {_listed(missing)}", facts,
        )]  # fmt: skip
    if behind:
        return [Finding(
            subject, "partitions", State.WARNING,
            f"{count}; it works, but some copies of {_listed(behind)} lag: broker {_listed(missing)} is down or behind",
            "start that broker; if it runs, its log and its disk's load say why it cannot keep up", facts,
        )]  # fmt: skip
    copies = facts["replicas"]
    return [
        Finding(subject, "partitions", State.OK, f"{count}, each with a leader; copies: {copies}, in step", "", facts)
    ]


def _settings(topic: Topic, settings: Mapping[str, Setting] | KafkaError, largest: int) -> list[Finding]:
    subject = f"topic {topic.name}"
    if isinstance(settings, KafkaError):
        why = "the right DESCRIBE_CONFIGS is missing" if isinstance(settings, AuthorizationError) else str(settings)
        return [Finding(subject, "settings", State.SKIPPED, f"not seen: {why}")]
    needed, limit = _number(settings, "min.insync.replicas", 1), _number(settings, "max.message.bytes", 1_048_588)
    copies = min((len(each.replicas) for each in topic.partitions), default=0)
    facts = {name: settings[name].value for name in _SHOWN if name in settings}
    findings = []
    if 1 < copies <= needed:
        findings.append(Finding(
            subject, "settings", State.WARNING,
            f"min.insync.replicas={needed} of {copies} copies: while one broker is down, nothing can be sent",
            f"set min.insync.replicas to {copies - 1}, or have more copies", facts,
        ))  # fmt: skip
    if limit < largest:
        findings.append(Finding(
            subject, "settings", State.WARNING,
            f"max.message.bytes={limit}: the broker refuses larger records, and this client sends up to {largest}",
            f"raise the topic's max.message.bytes, or give -o message.max.bytes={limit}", facts,
        ))  # fmt: skip
    text = f"min.insync.replicas {needed}, max.message.bytes {limit}"
    return findings or [Finding(subject, "settings", State.OK, text, "", facts)]


_SHOWN = ("min.insync.replicas", "max.message.bytes", "retention.ms", "cleanup.policy", "message.timestamp.type")


def _number(settings: Mapping[str, Setting] | KafkaError, name: str, otherwise: int) -> int:
    found = None if isinstance(settings, KafkaError) else settings.get(name)
    return int(found.value) if found is not None and found.value else otherwise


def _listed(numbers: Iterable[int]) -> str:
    shown = [str(number) for number in numbers]
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return (", ".join(shown[:_LISTED]) or "none") + more
