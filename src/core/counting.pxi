"""Counts for ``rdknotify.metrics``: once a call, once a poll, once a delivery report; never once a record."""

cimport librdkafka as rdk
from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport calloc, free

from rdknotify.shapes import LATENCY_BOUNDS, SIZE_BOUNDS


cdef struct Tally:                   # records of a delivery report that follow each other, with the same topic and error
    const rdk.rd_kafka_topic_t *rkt
    int err
    int64_t count
    int64_t delivered                # of all the report
    int64_t latency                  # of its first record

cdef int64_t g_latency_bounds[BUCKETS]
cdef int64_t g_size_bounds[BUCKETS]

cdef int _set_bounds(int64_t *bounds, values) except -1:
    cdef int i
    if len(values) >= BUCKETS:
        raise ValueError(f"{len(values)} bounds: at most {BUCKETS - 1} are possible")
    for i in range(BUCKETS):
        bounds[i] = values[i] if i < len(values) else INT64_MAX
    return 0

_set_bounds(g_latency_bounds, LATENCY_BOUNDS)
_set_bounds(g_size_bounds, SIZE_BOUNDS)


cdef void _observe(Histogram *histogram, const int64_t *bounds, int64_t value, int64_t times) noexcept nogil:
    cdef int i = 0
    while value > bounds[i]:
        i += 1
    rdn_add(&histogram.counts[i], times)
    rdn_add(&histogram.sum, value * times)

cdef void _count_outcomes(TopicState *t, int err, int64_t count) noexcept nogil:
    cdef Failed *failed
    if not err:
        rdn_add(&t.delivered, count)
        return
    pthread_mutex_lock(&t.lock)
    failed = t.failed
    while failed != NULL and failed.err != err:
        failed = failed.next
    if failed == NULL:
        failed = <Failed *> calloc(1, sizeof(Failed))
        if failed != NULL:
            failed.err = err
            failed.next = t.failed
            t.failed = failed
    if failed != NULL:
        rdn_add(&failed.count, count)
    pthread_mutex_unlock(&t.lock)

cdef void _begin_tally(Tally *tally) noexcept nogil:
    tally.rkt = NULL
    tally.err = 0
    tally.count = tally.delivered = 0
    tally.latency = -1

cdef void _next_tally(Tally *tally, const rdk.rd_kafka_message_t *msg) noexcept nogil:
    """This record has another topic or error than those before it."""
    if tally.count:
        _count_outcomes(<TopicState *> rdk.rd_kafka_topic_opaque(tally.rkt), tally.err, tally.count)
    else:
        tally.latency = rdk.rd_kafka_message_latency(msg)
    tally.delivered += 0 if tally.err else tally.count
    tally.rkt = msg.rkt
    tally.err = msg.err
    tally.count = 0

cdef void _end_tally(Tally *tally, Handle *h) noexcept nogil:
    if not tally.count:
        return
    _count_outcomes(<TopicState *> rdk.rd_kafka_topic_opaque(tally.rkt), tally.err, tally.count)
    tally.delivered += 0 if tally.err else tally.count
    if tally.delivered and tally.latency >= 0:
        _observe(&h.latency, g_latency_bounds, tally.latency, tally.delivered)

cdef void _free_topics(TopicState *topic) noexcept nogil:
    """Free these and the ones after it; their ``rkt`` are gone."""
    cdef TopicState *next_topic
    cdef Failed *failed
    while topic != NULL:
        next_topic = topic.next
        while topic.failed != NULL:
            failed = topic.failed
            topic.failed = failed.next
            free(failed)
        pthread_mutex_destroy(&topic.lock)
        free(topic.name)
        free(topic.available)
        free(topic)
        topic = next_topic
