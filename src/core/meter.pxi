"""What a client has counted, for as long as somebody asks: also when the client is gone and its handle still at work."""

cimport cython
cimport librdkafka as rdk
from libc.stdint cimport int64_t

from rdknotify.shapes import LATENCY_BOUNDS, SIZE_BOUNDS, Counted


@cython.final
cdef class Meter:
    """The counts of one client; it does not keep the client alive."""

    cdef Handle *_h                  # owned reference
    cdef int _generation
    cdef dict _consumed

    def __init__(self):
        raise TypeError("a Meter comes from a client")

    cdef void _read_from(self, Handle *h) noexcept:
        rdn_add(&h.refs, 1)
        self._h = h
        self._generation = g_generation
        self._consumed = {}

    def __dealloc__(self):
        if self._h != NULL and self._generation == g_generation:
            _unref(self._h)

    cdef int _consume(self, rdk.rd_kafka_topic_t *rkt, int64_t count) except -1:
        """So many records of one topic were polled."""
        if count:
            topic = _text(rdk.rd_kafka_topic_name(rkt))
            self._consumed[topic] = self._consumed.get(topic, 0) + count
        return 0

    @property
    def final(self):
        """Whether nothing changes any more."""
        return rdn_get(&self._h.dead) != 0

    def read(self):
        """All counted so far."""
        cdef Handle *h = self._h
        cdef TopicState *t = h.topics
        cdef Failed *failed
        sending = {}
        while t != NULL:
            reasons = {}
            pthread_mutex_lock(&t.lock)
            failed = t.failed  # none is ever taken out, so that the lock is not held while Python works
            pthread_mutex_unlock(&t.lock)
            while failed != NULL:
                reasons[_text(rdk.rd_kafka_err2name(<rdk.rd_kafka_resp_err_t> failed.err))] = rdn_get(&failed.count)
                failed = failed.next
            sending[_text(t.name)] = t.sent, rdn_get(&t.delivered), reasons
            t = t.next
        return Counted(
            sending, dict(self._consumed), rdn_get(&h.in_flight),
            _counted(&h.sizes, len(SIZE_BOUNDS)), _counted(&h.latency, len(LATENCY_BOUNDS)))


cdef tuple _counted(Histogram *histogram, int bounds):
    cdef int i
    return tuple([rdn_get(&histogram.counts[i]) for i in range(bounds + 1)]), rdn_get(&histogram.sum)
