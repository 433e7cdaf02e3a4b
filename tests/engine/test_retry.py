"""Which records of a retry topic are held back, for how long, and in which order they come out."""

from __future__ import annotations

from dataclasses import dataclass, field

from rdknotify.provenance import Origin, origin_headers
from rdknotify.retry import DelayLine, Retries

NOW = 1_700_000_000_000
SOURCE = "notifications.info"


@dataclass
class Read:
    """A consumed record."""

    topic: str = SOURCE
    partition: int = 0
    offset: int = 0
    value: bytes | None = b"{}"
    key: bytes | None = None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    timestamp: int | None = NOW


retries = Retries([SOURCE], "billing", delay=5.0, max_deliveries=3)
(RETRY,) = retries.topics


def retried(offset: int = 0, *, due: int = 0, attempts: int = 1, partition: int = 0) -> Read:
    headers = origin_headers(Read(), "billing", attempts=attempts, not_before=NOW + due)
    return Read(RETRY, partition, offset, headers=headers)


def line() -> DelayLine[Read]:
    return DelayLine(retries.topics, longest=retries.delay)


def test_what_is_due_or_elsewhere_is_not_held() -> None:
    delays = line()
    assert not delays.hold(retried(due=-1), NOW)
    assert not delays.hold(retried(due=0), NOW)
    assert not delays.hold(Read(headers=retried(due=4000).headers), NOW), "only retry topics delay"
    assert delays.partitions == set() and delays.next_due() is None


def test_a_record_comes_out_when_it_is_due_and_not_before() -> None:
    delays = line()
    record = retried(due=2000)
    assert delays.hold(record, NOW)
    assert delays.next_due() == NOW + 2000
    assert delays.release(NOW + 1999) == []
    assert delays.release(NOW + 2000) == [record]
    assert delays.partitions == set()


def test_order_within_a_partition_is_kept_even_if_a_later_record_is_due() -> None:
    delays = line()
    first, second = retried(1, due=3000), retried(2, due=-1)
    assert delays.hold(first, NOW) and delays.hold(second, NOW)
    assert delays.release(NOW + 1000) == []
    assert delays.release(NOW + 3000) == [first, second]


def test_partitions_do_not_wait_for_each_other() -> None:
    delays = line()
    slow, quick = retried(due=4000, partition=0), retried(due=1000, partition=1)
    assert delays.hold(slow, NOW) and delays.hold(quick, NOW)
    assert delays.release(NOW + 1000) == [quick]
    assert delays.partitions == {(RETRY, 0)}


def test_a_sender_whose_clock_is_ahead_delays_by_no_more_than_the_delay() -> None:
    delays = line()
    record = retried(due=3_600_000)
    assert delays.hold(record, NOW)
    assert delays.release(NOW + 5000) == [record]


def test_what_was_taken_away_is_forgotten() -> None:
    delays = line()
    kept = retried(due=1000, partition=1)
    delays.hold(retried(due=1000, partition=0), NOW)
    delays.hold(kept, NOW)
    delays.forget([(RETRY, 0), ("never.seen", 7)])
    assert delays.release(NOW + 1000) == [kept]


def test_deliveries_are_counted_over_all_attempts() -> None:
    records = [Read(), retried(attempts=1), retried(attempts=2)]
    assert [retries.deliveries(record) for record in records] == [1, 2, 3]
    assert [retries.exhausted(record) for record in records] == [False, False, True]


def test_a_dead_letter_that_was_put_back_starts_anew() -> None:
    put_back = Read(headers=retried(attempts=3).headers)
    assert Origin.of(put_back).attempts == 3
    assert retries.deliveries(put_back) == 1


def test_groups_and_sources_have_retry_topics_of_their_own() -> None:
    pairs = [(source, group) for source in (SOURCE, "audit.info") for group in ("a", "b")]
    names = [Retries([source], group, 1.0, 2).topics for source, group in pairs]
    assert len(frozenset().union(*names)) == 4
