"""What operators ask of a cluster, and change: groups, their offsets and lag, topics and their settings.

An answer about many things has what failed for one of them, a KafkaError, in its place; an answer about one raises it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, TypeVar

from rdknotify import _rdknotify as core
from rdknotify import green, topics
from rdknotify.client import CoreClient, admit, deadline_after, remaining
from rdknotify.errors import ConfigError, KafkaError, Timeout
from rdknotify.events import ClientEvents
from rdknotify.options import resolve
from rdknotify.shapes import Partition as Place
from rdknotify.topics import TopicPartition
from rdknotify.trouble import naming_options
from rdknotify.url import TransportURL

__all__ = ["Admin", "Answer", "Cluster", "Group", "Listing", "Member", "Node", "PartitionLag", "Setting", "Topic"]

Answer: TypeAlias = "int | KafkaError | None"
"""An offset; None where there is none; or why it is not known."""
When: TypeAlias = "Literal['beginning', 'end'] | datetime | float"
"""A place in every partition: the first record at or after that time, which may be in seconds since the epoch."""

_T = TypeVar("_T")
_TIMEOUT = 10.0
_BAD_MSG = -199
"""librdkafka's ``_BAD_MSG``."""
_EARLIEST = -2
_LATEST = -1
_EXIT_TIMEOUT = 1.0


class Node(NamedTuple):
    """A broker."""

    id: int
    host: str
    port: int


class Cluster(NamedTuple):
    """A cluster's id, its controller (None: not known) and its brokers."""

    id: str
    controller: Node | None
    nodes: tuple[Node, ...]


class Listing(NamedTuple):
    """A consumer group as it is listed: state (``Stable`` ``Empty`` ...) and type (``Classic`` ``Consumer``)."""

    name: str
    state: str
    type: str


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a consumer group; ``instance_id`` is empty unless it is a static one."""

    id: str
    client_id: str
    instance_id: str
    host: str
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group.

    Attributes:
        state: ``Stable``, ``PreparingRebalance``, ``CompletingRebalance``, ``Empty`` (no members), ``Dead`` (no such
            group) or ``Unknown``.
        type: ``Classic``, or ``Consumer`` (KIP-848).
        assignor: who decides which member reads what.
        coordinator: the broker that keeps the group; None where it is not told.
    """

    name: str
    state: str
    type: str
    assignor: str
    coordinator: Node | None
    members: tuple[Member, ...]


class Partition(NamedTuple):
    """A partition of a topic: its leader (None: it has none), replicas and those in sync, by the brokers' ids."""

    number: int
    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic; ``id`` is another one once it was deleted and made anew (KIP-516), empty where there is none."""

    name: str
    id: str
    internal: bool
    partitions: tuple[Partition, ...]


class Setting(NamedTuple):
    """A setting of a topic: its value, None where that is confidential, and whether it was set for this topic."""

    value: str | None
    own: bool


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """How far a group has got in one partition.

    Attributes:
        committed: the offset that the group reads next; None where it has committed none.
        begin, end: the first offset there is, and the one that the next record gets.
        member: who reads it; None: nobody.
        error: why offsets are missing here; None where nothing failed.
    """

    topic: str
    partition: int
    committed: int | None
    begin: int | None
    end: int | None
    member: Member | None = None
    error: KafkaError | None = None

    @property
    def lag(self) -> int | None:
        """Records that the group has not committed yet, of those that are still there; None: not known."""
        if self.committed is None or self.end is None:
            return None
        return max(0, self.end - max(self.committed, self.begin or 0))

    @property
    def missed(self) -> int:
        """Records that were removed (retention, deletion) before the group had committed them."""
        return 0 if self.committed is None else max(0, (self.begin or 0) - self.committed)


class Admin(CoreClient):
    """Asks what there is on a cluster, and changes it. Thread-safe.

    ``config`` passes librdkafka properties through; ``options`` are rdknotify's (``docs/options.md``, Connection).
    Every call takes a ``timeout`` in seconds and raises :class:`~rdknotify.Timeout` when it is over,
    :class:`~rdknotify.AuthorizationError` where an ACL is missing, or another KafkaError.
    Share groups are not listed or described: librdkafka leaves them out.

    Raises:
        ConfigError: the URL, an option or a property is wrong.
        AuthenticationError, Timeout: the cluster refused us, or did not answer within ``connect_timeout`` seconds.
    """

    exit_rank: ClassVar[int] = 1
    exit_timeout: float = _EXIT_TIMEOUT
    _core: core.Admin

    def __init__(self, url: str | TransportURL, *, config: Mapping[str, Any] | None = None, **options: Any) -> None:
        settings = resolve(url, "admin", options, config)
        with naming_options():
            self._core = core.Admin(settings.conf)
        self.events = ClientEvents(self._core.name)
        try:
            admit(self, self._core, settings)
        except BaseException:
            self._core.shut()
            raise

    def _ask(self, request: Callable[..., _T], *arguments: Any) -> _T:
        """One request; a timeout tells the last trouble."""
        try:
            return green.call(request, *arguments)
        except Timeout as error:
            raise core.kafka_error(error.code, f"{error.reason}{self.events.recent()}") from None

    # -- groups -----------------------------------------------------------------------------------------------------

    def groups(self, timeout: float = _TIMEOUT) -> list[Listing]:
        """All consumer groups, by name (KIP-518, KIP-848). Raises what a broker said that did not tell its groups."""
        found, errors = self._ask(self._core.list_groups, timeout)
        if errors:
            raise errors[0]
        return sorted(Listing(*group) for group in found)

    def describe_groups(self, names: Iterable[str], timeout: float = _TIMEOUT) -> dict[str, Group | KafkaError]:
        """State, coordinator, and members with what they read, of each of these groups."""
        asked = _names(names, "group")
        answers = self._ask(self._core.describe_groups, asked, timeout) if asked else {}
        return {name: _group(name, _about(name, answers)) for name in asked}

    def group(self, name: str, timeout: float = _TIMEOUT) -> Group:
        """One group. One that never was is in the state ``Dead``, without members."""
        return _good(self.describe_groups([name], timeout)[name])

    def delete_groups(self, names: Iterable[str], timeout: float = _TIMEOUT) -> dict[str, KafkaError | None]:
        """Forget groups and their offsets; refused (``NON_EMPTY_GROUP``) while they have members."""
        asked = _names(names, "group")
        return self._ask(self._core.delete_groups, asked, timeout) if asked else {}

    # -- offsets ----------------------------------------------------------------------------------------------------

    def offsets(
        self, group: str, partitions: Iterable[Place] | None = None, timeout: float = _TIMEOUT
    ) -> dict[TopicPartition, Answer]:
        """A group's committed offsets (KIP-396): of these partitions, or of all that it has one for."""
        (name,) = _names([group], "group")
        asked = None if partitions is None else list(dict.fromkeys(partitions))
        if asked is not None and not asked:
            return {}
        return _by_partition(self._ask(self._core.group_offsets, name, asked, timeout))

    def find_offsets(
        self, partitions: Iterable[Place], when: When = "end", timeout: float = _TIMEOUT
    ) -> dict[TopicPartition, Answer]:
        """The offset of each partition at its ``"end"``, ``"beginning"``, or of the first record at or after a time.

        None: no record is that young. A ``datetime`` without time zone is local time. One request a broker.
        """
        time = _time(when)
        times = [(topic, partition, time) for topic, partition in dict.fromkeys(partitions)]
        return _by_partition(self._ask(self._core.list_offsets, times, timeout)) if times else {}

    def lag(
        self, group: str, only: Iterable[str] | None = None, timeout: float = _TIMEOUT, described: Group | None = None
    ) -> list[PartitionLag]:
        """How far a group has got: every partition of the topics that it reads or has committed offsets for.

        Args:
            only: these topics, whether or not the group has anything to do with them.
            described: what :meth:`group` told just now, to ask for less.

        Source: OffsetFetch, ListOffsets; ``kafka-consumer-groups --describe``.
        """
        deadline = deadline_after(timeout)
        known = self.group(group, timeout) if described is None else described
        readers = {partition: member for member in known.members for partition in member.partitions}
        wanted = None if only is None else self._partitions(only, remaining(deadline))
        committed = self.offsets(group, wanted, remaining(deadline))
        if wanted is None:
            wanted = self._partitions({place.topic for place in (*committed, *readers)}, remaining(deadline))
        asked = sorted({*wanted, *committed})
        begins = self.find_offsets(asked, "beginning", remaining(deadline))
        ends = self.find_offsets(asked, "end", remaining(deadline))
        return [
            _lag(place, committed.get(place), begins.get(place), ends.get(place), readers.get(place)) for place in asked
        ]

    def reset_offsets(
        self,
        group: str,
        to: When | Mapping[Place, int],
        only: Iterable[str] | None = None,
        timeout: float = _TIMEOUT,
    ) -> dict[TopicPartition, Answer]:
        """Let a group read again, or skip: commit other offsets for it; returns what was committed.

        Args:
            to: ``"beginning"``, ``"end"``, a time (the end, where no record is that young), or offsets.
            only: every partition of these topics; by default those that the group has committed offsets for.

        Raises KafkaError while the group has members: stop them first. Source: KIP-396, AlterConsumerGroupOffsets.
        """
        deadline = deadline_after(timeout)
        if isinstance(to, Mapping):
            found: dict[TopicPartition, Answer] = _by_partition(to)
        else:
            committed = self.offsets(group, None, timeout) if only is None else {}
            places = list(committed) if only is None else self._partitions(only, remaining(deadline))
            found = self.find_offsets(places, to, remaining(deadline))
            if young := [place for place, offset in found.items() if offset is None]:
                found |= self.find_offsets(young, "end", remaining(deadline))
        offsets = [(*place, offset) for place, offset in found.items() if isinstance(offset, int)]
        if not offsets:
            raise ConfigError(
                f"group {group!r}: there is no partition to reset; name its topics, or check the group's name"
            )
        answers = self._ask(self._core.alter_group_offsets, group, offsets, remaining(deadline))
        return found | {place: _refused(group, answer) for place, answer in _by_partition(answers).items()}

    def delete_records(self, before: Mapping[Place, int], timeout: float = _TIMEOUT) -> dict[TopicPartition, Answer]:
        """Delete what is before these offsets (-1: all there is), for ever; returns the new beginnings (KIP-107)."""
        offsets = [(*place, offset) for place, offset in before.items()]
        return _by_partition(self._ask(self._core.delete_records, offsets, timeout)) if offsets else {}

    # -- topics -----------------------------------------------------------------------------------------------------

    def topics(self, names: Iterable[str] | None = None, timeout: float = _TIMEOUT) -> dict[str, Topic | KafkaError]:
        """These topics, or all that this user may see, by name: partitions, leaders, replicas."""
        deadline = deadline_after(timeout)
        if names is None:
            asked = sorted(self._ask(self._core.metadata, None, timeout)["topics"])
        else:
            asked = _topic_names(names)
        answers = self._ask(self._core.describe_topics, asked, remaining(deadline)) if asked else {}
        return {name: _topic(name, _about(name, answers)) for name in asked}

    def describe(self, topic: str, timeout: float = _TIMEOUT) -> Topic:
        """One topic. Raises KafkaError ``UNKNOWN_TOPIC_OR_PART`` where there is none of that name."""
        return _good(self.topics([topic], timeout)[topic])

    def settings(self, topic: str, timeout: float = _TIMEOUT) -> dict[str, Setting]:
        """The topic's settings by name, as ``retention.ms`` (KIP-133)."""
        answer = _good(_about(topic, self._ask(self._core.describe_configs, _topic_names([topic]), timeout)))
        return {name: Setting(*setting) for name, setting in sorted(answer.items())}

    def create_topic(
        self,
        name: str,
        partitions: int = -1,
        replication: int = -1,
        config: Mapping[str, str] | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        """Create a topic; -1 is the broker's default. Raises KafkaError ``TOPIC_ALREADY_EXISTS`` ..."""
        answers = self.create_topics([(name, partitions, replication, config or {})], timeout)
        if (refusal := answers[name]) is not None:
            raise refusal

    def create_topics(
        self, new: Sequence[tuple[str, int, int, Mapping[str, str]]], timeout: float = _TIMEOUT
    ) -> dict[str, KafkaError | None]:
        """Create ``(name, partitions, replication, config)``; None for each that was created."""
        names = _topic_names(name for name, *_ in new)
        answers = self._ask(self._core.create_topics, new, timeout) if names else []
        return dict(zip(names, answers, strict=True))

    def delete_topics(self, names: Iterable[str], timeout: float = _TIMEOUT) -> dict[str, KafkaError | None]:
        """Delete topics with all that is in them, for ever; None for each that was deleted."""
        asked = _topic_names(names)
        answers = self._ask(self._core.delete_topics, asked, timeout) if asked else []
        return dict(zip(asked, answers, strict=True))

    def _partitions(self, names: Iterable[str], timeout: float) -> list[TopicPartition]:
        """Every partition of these topics; none of those that are not there any more."""
        found = self.topics(names, timeout).values()
        return [
            TopicPartition(topic.name, partition.number)
            for topic in found
            if isinstance(topic, Topic)
            for partition in topic.partitions
        ]

    # -- the cluster ------------------------------------------------------------------------------------------------

    def cluster(self, timeout: float = _TIMEOUT) -> Cluster:
        """The cluster's id, controller and brokers (KIP-700)."""
        identity, controller, nodes = self._ask(self._core.describe_cluster, timeout)
        return Cluster(identity, controller and Node(*controller), tuple(sorted(Node(*node) for node in nodes)))

    def close(self, timeout: float | None = None) -> None:
        """Release, within ``timeout`` seconds (default: 1). Idempotent; a request in progress raises ClosedError."""
        green.call(self._core.shut, _EXIT_TIMEOUT if timeout is None else timeout)

    def __del__(self) -> None:
        events: ClientEvents | None = getattr(self, "events", None)  # None: construction failed early
        if events is not None and not self.closed:
            warnings.warn(f"{events.name} was not closed", ResourceWarning, stacklevel=2, source=self)


def _names(names: Iterable[str], what: str) -> list[str]:
    """Each once, and fit for C. Raises ConfigError."""
    if isinstance(names, str):
        raise ConfigError(f"{what}s={names!r}: a list of names is needed")
    asked = list(dict.fromkeys(names))
    for name in asked:
        if not isinstance(name, str) or not name or "\0" in name:
            raise ConfigError(f"{name!r} is not the name of a {what}")
    return asked


def _topic_names(names: Iterable[str]) -> list[str]:
    return [topics.check_name(name) for name in _names(names, "topic")]


def _about(name: str, answers: Mapping[str, Any]) -> Any:
    """What the brokers answered about this one; an error where they left it out."""
    return answers[name] if name in answers else core.kafka_error(_BAD_MSG, f"the answer does not speak of {name}")


def _good(answer: _T | KafkaError) -> _T:
    if isinstance(answer, KafkaError):
        raise answer
    return answer


def _by_partition(answers: Mapping[Place, _T]) -> dict[TopicPartition, _T]:
    return {TopicPartition(*place): answer for place, answer in sorted(answers.items())}


def _group(name: str, answer: Any) -> Group | KafkaError:
    if isinstance(answer, KafkaError):
        return answer
    state, kind, assignor, coordinator, members = answer
    return Group(
        name,
        state,
        kind,
        assignor,
        coordinator and Node(*coordinator),
        tuple(
            # Java's way to write an address begins with the name, which is not there.
            Member(
                identity,
                client_id,
                instance_id,
                host.lstrip("/"),
                tuple(sorted(TopicPartition(*each) for each in reads)),
            )
            for identity, client_id, instance_id, host, reads in sorted(members)
        ),
    )


def _topic(name: str, answer: Any) -> Topic | KafkaError:
    if isinstance(answer, KafkaError):
        return answer
    identity, internal, partitions = answer
    found = sorted(
        Partition(number, leader, tuple(replicas), tuple(in_sync)) for number, leader, replicas, in_sync in partitions
    )
    return Topic(name, identity, internal, tuple(found))


def _lag(place: TopicPartition, committed: Answer, begin: Answer, end: Answer, member: Member | None) -> PartitionLag:
    errors = [answer for answer in (committed, begin, end) if isinstance(answer, KafkaError)]
    known = [answer if isinstance(answer, int) else None for answer in (committed, begin, end)]
    return PartitionLag(place.topic, place.partition, known[0], known[1], known[2], member, next(iter(errors), None))


def _time(when: When) -> int:
    """As ListOffsets takes it: milliseconds, or a number below 0."""
    if when == "beginning":
        return _EARLIEST
    if when == "end":
        return _LATEST
    if isinstance(when, datetime):
        when = when.timestamp()
    if isinstance(when, bool) or not isinstance(when, (int, float)) or not 0 <= when < 2**53:
        raise ConfigError(f"{when!r}: it is 'beginning', 'end', a datetime, or seconds since the epoch")
    return round(when * 1000)


def _refused(group: str, answer: Answer) -> Answer:
    if isinstance(answer, KafkaError) and answer.name in ("UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS"):
        return core.kafka_error(answer.code, f"group {group!r} has members: stop them, then reset its offsets")
    return answer
