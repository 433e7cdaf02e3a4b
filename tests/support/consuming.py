"""Filling a topic with numbers and taking them out again."""

from __future__ import annotations

from rdknotify import _rdknotify as core
from rdknotify.consumer import Consumer
from rdknotify.producer import Producer
from rdknotify.topics import TopicPartition
from rdknotify.url import TransportURL
from support.main_job import SOON, Kafka
from support.waiting import until


def fill(producer: Producer, count: int = 100, topic: str = "t", first: int = 0) -> None:
    """Send that many numbers, each its own key, and see them delivered."""
    numbers = [b"%d" % i for i in range(first, first + count)]
    producer.send_batch(topic, numbers, keys=numbers).result(10).raise_for_failures()


def take(consumer: Consumer, count: int, commit: bool = False) -> list[int]:
    """The numbers in at least ``count`` records."""
    numbers: list[int] = []

    def enough() -> bool:
        batch = consumer.poll(timeout=0.1)
        numbers.extend(map(int, batch.values()))
        if commit and batch:
            batch.commit()
        return len(numbers) >= count

    until(enough, f"{count} records came")
    return numbers


def assigned(consumer: Consumer, count: int = 4) -> list[TopicPartition]:
    """Poll what is still empty until that many partitions are assigned; returns them."""

    def poll() -> bool:
        assert not consumer.poll(timeout=0.05), "nothing was sent yet"
        return len(consumer.assignment()) == count

    until(poll, f"{count} partitions are assigned")
    return consumer.assignment()


def committed(url: str, group: str, topic: str, partition: int = 0) -> int:
    """The offset at which a member of the group would start; asked by an outsider that joins nothing."""
    brokers = TransportURL.parse(url).bootstrap_servers
    outsider = core.Consumer({"bootstrap.servers": brokers, "group.id": group})
    try:
        return outsider.committed([(topic, partition)])[topic, partition] or 0
    finally:
        outsider.shut()


def joined(kafka: Kafka, topic: str, group: str, count: int, protocol: str = "classic") -> Consumer:
    """A member that was given all partitions and has committed all records."""
    member = Consumer(kafka.url, [topic], group, group_protocol=protocol)
    seen = 0

    def enough() -> bool:
        nonlocal seen
        batch = member.poll()
        seen += len(batch)
        if batch:
            batch.commit()
        return seen >= count

    until(enough, f"{count} records came", SOON)
    return member
