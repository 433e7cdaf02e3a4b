"""Polling: at once when there is a record, whole batches in C, and payloads that live as long as anyone looks."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from rdknotify import _rdknotify as core


@pytest.fixture
def filled(producer, topic):
    """Three records on partition-by-key, with headers, and their sending time."""
    producer.send_batch(topic, ["a", None, "c"], keys=["k", "k", None], headers=[{"h": b"1"}, None, None]).result(10)
    return {(b"k", b"a"), (b"k", None), (None, b"c")}


def test_poll_returns_with_the_first_record(producer, join, topic):
    member = join()
    member.assigned(4)
    threading.Timer(0.3, producer.send, (topic, b"v")).start()
    batch = core.Batch()
    begun = time.monotonic()
    assert member.client.poll(batch, 500, 5.0)
    assert time.monotonic() - begun < 1.5
    assert batch.values() == [b"v"]


def test_poll_returns_false_at_the_timeout(join):
    member = join()
    member.assigned(4)
    begun = time.monotonic()
    assert not member.client.poll(core.Batch(), 500, 0.3)
    assert 0.3 <= time.monotonic() - begun < 0.6
    assert not member.client.poll(core.Batch(), 500, 0)


def test_poll_takes_what_is_ready_up_to_the_limit(producer, join, topic):
    producer.send_batch(topic, [b"%d" % i for i in range(1000)]).result(10)
    batches = join().batches(1000, max_records=70)
    assert max(map(len, batches)) == 70
    assert sorted(int(value) for batch in batches for value in batch.values()) == list(range(1000))


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), ("5", TypeError)])
def test_a_bad_limit_is_refused(join, limit, error):
    with pytest.raises(error):
        join().client.poll(core.Batch(), limit, 0)


def test_poll_fills_only_an_empty_batch(join, filled):
    member = join()
    (batch, *_) = member.batches(1)
    with pytest.raises(ValueError, match="empty batch"):
        member.client.poll(batch, 10, 0)


def test_a_batch_is_a_sequence_of_records(join, filled):
    batches = join().batches(3)
    records = [record for batch in batches for record in batch]
    assert {(record.key, record.value) for record in records} == filled
    for batch in batches:
        assert batch
        assert len(batch) == len(list(batch))
        assert batch[-1].offset == batch[len(batch) - 1].offset
        with pytest.raises(IndexError, match="record 99"):
            batch[99]
        with pytest.raises(IndexError):
            batch[-99]


def test_columns_agree_with_the_records(join, filled, topic):
    for batch in join().batches(3):
        assert batch.values() == [record.value for record in batch]
        assert batch.keys() == [record.key for record in batch]
        assert batch.timestamps() == [record.timestamp for record in batch]
        assert batch.origins() == [(topic, record.partition, record.offset) for record in batch]


def test_a_record_knows_where_and_when_it_was_written(join, filled, topic):
    for record in join().records(3):
        assert record.topic == topic
        assert record.partition in range(4)
        assert record.offset >= 0
        assert abs(record.timestamp / 1000 - time.time()) < 60
        assert record.headers == ([("h", b"1")] if record.value == b"a" else [])
        assert topic in repr(record)


def test_positions_are_what_to_commit(producer, join, topic):
    keys = [b"%d" % i for i in range(100)]
    producer.send_batch(topic, keys, keys=keys).result(10)
    ends = {}
    for batch in join().batches(100):
        after = {}
        for record in batch:
            after[record.topic, record.partition] = record.offset + 1
        assert {position[:2]: position[2] for position in batch.positions()} == after
        assert all(len(position) == 4 for position in batch.positions())
        ends |= after
    assert sum(ends.values()) == 100


def test_an_empty_batch():
    batch = core.Batch()
    assert not batch
    assert (len(batch), list(batch), batch.values(), batch.positions(), batch.origins()) == (0, [], [], [], [])
    batch.release()


def test_a_view_of_a_record_needs_no_copy_and_outlives_everything(producer, join, topic):
    producer.send(topic, b"payload").result(10)
    member = join()
    (batch,) = member.batches(1)
    view = memoryview(batch[0])
    record = batch[0]
    batch.release()
    assert not batch
    member.client.shut()
    del batch, member
    gc.collect()
    assert view.readonly
    assert bytes(view) == b"payload"
    assert (record.value, record.topic) == (b"payload", topic)
    del record, view


def test_a_view_of_a_null_is_empty(producer, join, topic):
    producer.send(topic, None).result(10)
    (record,) = join().records(1)
    assert record.value is None
    assert memoryview(record).nbytes == 0


def test_released_batches_free_their_payloads(producer, join, topic):
    producer.send_batch(topic, [b"v"] * 100).result(10)
    member = join()
    for batch in member.batches(100):
        batch.release()
    del batch
    gc.collect()
    assert core.live_handles()["batches"] == 0


def test_records_and_deliveries_are_not_made_by_hand():
    for kind in (core.Record, core.Delivery, core.Client):
        with pytest.raises(TypeError):
            kind()
