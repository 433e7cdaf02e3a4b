"""Who fails when those that failed together are tried in smaller parts, and how many tries that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdknotify.errors import KafkaError, Timeout
from rdknotify.isolation import isolate
from rdknotify.outcomes import BatchReport, Failure, Outcome

TOO_LARGE = KafkaError(10, "MSG_SIZE_TOO_LARGE", "too large")
INVALID = KafkaError(87, "INVALID_RECORD", "no key")
DIFFERENT = KafkaError(-138, "_INVALID_DIFFERENT_RECORD", "another's fault")
NOT, POSSIBLY = Outcome.NOT_PERSISTED, Outcome.POSSIBLY_PERSISTED


class Broker:
    """Takes requests whole or not at all; counts how often each record was sent and stored."""

    def __init__(self, total: int, refuses: Callable[[Sequence[int]], bool], requests: int = 1_000_000) -> None:
        self.total = total
        self._refuses = refuses
        self._left = requests
        self.sent: Counter[int] = Counter()
        self.stored: Counter[int] = Counter()
        self.requests = 0

    def send(self, indexes: Sequence[int]) -> BatchReport | None:
        if not self._left:
            return None
        self._left -= 1
        self.requests += 1
        self.sent.update(indexes)
        if self._refuses(indexes):
            return BatchReport(len(indexes), 0, [Failure(place, TOO_LARGE, NOT) for place in range(len(indexes))])
        self.stored.update(indexes)
        return BatchReport(len(indexes), len(indexes))

    def run(self) -> BatchReport:
        first = self.send(range(self.total))
        assert first is not None
        return isolate(first, self.send)


@given(st.integers(1, 200), st.data())
def test_only_culprits_fail_and_all_others_are_stored_once(total: int, data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.integers(0, total - 1)))
    broker = Broker(total, lambda part: not culprits.isdisjoint(part))
    report = broker.run()
    assert {failure.index for failure in report.failures} == culprits
    assert report.safe_to_resend == sorted(culprits)
    assert report.total == total == report.delivered + len(culprits)
    assert broker.stored == Counter(set(range(total)) - culprits)
    assert max(broker.sent.values()) <= total.bit_length() + 2
    assert broker.requests <= 2 + 2 * len(culprits) * total.bit_length()


@given(st.integers(1, 200), st.integers(1, 50))
def test_where_only_the_number_was_too_large_nobody_fails(total: int, limit: int) -> None:
    broker = Broker(total, lambda part: len(part) > limit)
    assert broker.run() == BatchReport(total, total)
    assert broker.stored == Counter(range(total))


@given(st.integers(2, 100), st.integers(1, 30))
def test_what_was_not_tried_alone_is_not_called_a_culprit(total: int, requests: int) -> None:
    broker = Broker(total, lambda part: total - 1 in part, requests)
    report = broker.run()
    blamed = [failure.index for failure in report.failures if not isinstance(failure.error, Timeout)]
    assert blamed in ([], [total - 1])
    assert {failure.index for failure in report.failures} == set(range(total)) - set(broker.stored)
    assert {failure.outcome for failure in report.failures} == {NOT}
    assert report.delivered == sum(broker.stored.values())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(KafkaError(29, "TOPIC_AUTHORIZATION_FAILED", "no"), NOT), (TOO_LARGE, POSSIBLY)],
)
def test_what_is_no_neighbours_fault_or_perhaps_stored_is_left_alone(error: KafkaError, outcome: Outcome) -> None:
    sent: list[int] = []

    def send(part: Sequence[int]) -> BatchReport:
        sent.extend(part)
        return BatchReport(len(part), len(part))

    others = [Failure(1, error, outcome), Failure(3, INVALID, NOT), Failure(4, DIFFERENT, NOT)]
    report = isolate(BatchReport(6, 3, others), send)
    assert sent == [3, 4]
    assert report == BatchReport(6, 5, [others[0]])


def test_what_becomes_possibly_stored_on_the_way_is_told_and_not_sent_again() -> None:
    lost = KafkaError(-185, "_MSG_TIMED_OUT", "no answer")

    def send(part: Sequence[int]) -> BatchReport:
        assert part in ([0], [1])
        return BatchReport(1, 0, [Failure(0, lost, POSSIBLY)]) if part == [0] else BatchReport(1, 1)

    report = isolate(BatchReport(2, 0, [Failure(0, TOO_LARGE, NOT), Failure(1, TOO_LARGE, NOT)]), send)
    assert report == BatchReport(2, 1, [Failure(0, lost, POSSIBLY)])
