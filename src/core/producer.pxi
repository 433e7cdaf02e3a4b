"""Enqueueing records and knowing what became of each."""

cimport cython
cimport librdkafka as rdk
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int16_t, int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from collections.abc import Mapping

from rdknotify.outcomes import BatchReport, Failure, Outcome


@cython.final
@cython.freelist(512)
cdef class Delivery:
    """What becomes of the records of one call. May be dropped at any time; may be waited for by any thread."""

    cdef Tracker *_t                 # owned reference
    cdef Producer _producer          # keeps the handle's lock alive
    cdef object __weakref__

    def __init__(self):
        raise TypeError("a Delivery comes from send or send_batch")

    @staticmethod
    cdef Delivery _new(Producer producer, Py_ssize_t total):
        cdef Delivery self = Delivery.__new__(Delivery)
        cdef Py_ssize_t i
        cdef Tracker *t = <Tracker *> malloc(sizeof(Tracker) + total * sizeof(Slot))
        if t == NULL:
            raise MemoryError
        t.refs = 2 if total else 1
        t.pending = t.total = total
        t.failed = 0
        for i in range(total):
            t.slots[i].index = <uint32_t> i
            t.slots[i].err = rdk.RD_KAFKA_RESP_ERR__DESTROY
            t.slots[i].outcome = POSSIBLY_PERSISTED
        rdn_add(&g_trackers, 1)
        self._t = t
        self._producer = producer
        return self

    def __dealloc__(self):
        if self._t != NULL:
            _release_tracker(self._t)

    @property
    def total(self):
        return self._t.total

    def __len__(self):
        return self._t.total

    @property
    def failed(self):
        """How many records are known by now not to have been delivered."""
        return rdn_get(&self._t.failed)

    def done(self):
        """Whether every outcome is known."""
        return rdn_get(&self._t.pending) == 0 or rdn_get(&self._producer._h.dead) != 0

    def wait(self, timeout=None):
        """Wait until every outcome is known; false at the timeout."""
        return self._wait(timeout, False)

    cdef bint _wait(self, timeout, bint check) except -1:
        cdef int64_t deadline = _deadline(timeout)
        cdef Handle *h = self._producer._h
        while not self.done():
            if self._producer._generation != g_generation:
                self._producer._open()
            if check and not rdn_get(&h.stopping):
                self._producer.check_accepted()
            if rdn_now() >= deadline:
                return False
            with nogil:
                _wait_while_above(h, &self._t.pending, 0, deadline)
            PyErr_CheckSignals()
        return True

    def result(self, timeout=None):
        """Wait until every outcome is known and report them. Raises Timeout naming how many are still unknown."""
        if not self._wait(timeout, True):
            raise kafka_error(
                rdk.RD_KAFKA_RESP_ERR__TIMED_OUT,
                f"the outcome of {rdn_get(&self._t.pending)} of {self._t.total} records is not known after {timeout} s; "
                f"call result again, or look at the broker{self._producer.last_trouble()}")
        return self._report()

    def poll(self):
        """The report if every outcome is known, else None; never blocks."""
        return self._report() if self.done() else None

    cdef object _report(self):
        cdef Tracker *t = self._t
        cdef Py_ssize_t i
        failures = []
        if t.failed or rdn_get(&t.pending):
            errors = {}
            for i in range(t.total):
                if t.slots[i].outcome != DELIVERED:
                    code = t.slots[i].err
                    error = errors.get(code)
                    if error is None:
                        error = errors[code] = self._error(code)
                    failures.append(Failure(i, error, Outcome(t.slots[i].outcome)))
        return BatchReport(t.total, t.total - len(failures), failures)

    cdef object _error(self, int code):
        if code != rdk.RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
            return kafka_error(code)
        return kafka_error(code, _reason(<rdk.rd_kafka_resp_err_t> code) + self._producer.last_trouble())


@cython.final
cdef class _Topic:
    cdef TopicState *state           # borrowed from the Handle

cdef class Producer(Client):
    """Enqueues records, a batch in one call, and knows what became of each."""

    cdef dict _topics
    cdef double _queue_timeout

    def __init__(self, conf, queue_timeout=10.0):
        self._topics = {}
        self._queue_timeout = queue_timeout
        self._start(rdk.RD_KAFKA_PRODUCER, conf)

    def check_topic(self, topic):
        """Called once for each topic before its first record; a subclass raises ConfigError for a bad name."""

    cdef TopicState *_topic(self, topic) except NULL:
        cdef object known = self._topics.get(topic)
        if known is None:
            known = self._open_topic(topic)
        return (<_Topic> known).state

    cdef _Topic _open_topic(self, topic):
        cdef Handle *h = self._open()
        cdef _Topic result = _Topic.__new__(_Topic)
        if not isinstance(topic, str):
            raise TypeError(f"topic is {type(topic).__name__}; it must be a str")
        self.check_topic(topic)
        result.state = _topic_state(h, topic.encode())
        self._topics[topic] = result
        return result

    def metadata(self, topic=None, timeout=5.0):
        """Ask the cluster for its brokers, topics and leaders."""
        if topic is not None:
            _topic_state(self._open(), topic.encode())  # before librdkafka knows the topic
        return super().metadata(topic, timeout)

    def send(self, topic, value, key=None, headers=None, *, timeout=None):
        """Enqueue one record; waits only while the local queue is full. What librdkafka refuses at once is raised."""
        cdef rdk.rd_kafka_message_t msg
        cdef rdk.rd_kafka_headers_t *record_headers = NULL
        cdef TopicState *t
        cdef Delivery delivery
        cdef list keep = []
        self._open()
        t = self._topic(topic)
        memset(&msg, 0, sizeof(msg))
        _buffer(value, &msg.payload, &msg.len, keep, "value", -1)
        if key is not None:
            _buffer(key, &msg.key, &msg.key_len, keep, "key", -1)
        if headers is not None:
            record_headers = _headers(headers, -1)
        try:
            delivery = Delivery._new(self, 1)
            msg._private = &delivery._t.slots[0]
            _choose_partitions(t, &msg, 1)
            self._submit(t, &msg, 1, &record_headers if record_headers != NULL else NULL, delivery, timeout, False)
        finally:
            if record_headers != NULL:  # not taken
                rdk.rd_kafka_headers_destroy(record_headers)
        if rdn_get(&delivery._t.failed) and delivery._t.slots[0].outcome == NOT_PERSISTED:
            raise kafka_error(delivery._t.slots[0].err)
        return delivery

    def send_batch(self, topic, values, keys=None, headers=None, *, timeout=None):
        """Enqueue many records in one call, without the GIL, after all of them were looked at."""
        cdef rdk.rd_kafka_message_t *msgs = NULL
        cdef rdk.rd_kafka_headers_t **record_headers = NULL
        cdef TopicState *t
        cdef Delivery delivery
        cdef Py_ssize_t i, n
        cdef list keep = []
        cdef tuple records = _items(values, "values", -1)
        n = len(records)
        cdef tuple record_keys = None if keys is None else _items(keys, "keys", n)
        self._open()
        t = self._topic(topic)
        if n == 0:
            return Delivery._new(self, 0)
        msgs = <rdk.rd_kafka_message_t *> calloc(n, sizeof(rdk.rd_kafka_message_t))
        if msgs == NULL:
            raise MemoryError
        try:
            for i in range(n):
                _buffer(records[i], &msgs[i].payload, &msgs[i].len, keep, "values", i)
            if record_keys is not None:
                for i in range(n):
                    _buffer(record_keys[i], &msgs[i].key, &msgs[i].key_len, keep, "keys", i)
            if headers is not None:
                record_headers = _batch_headers(headers, n)
            delivery = Delivery._new(self, n)
            for i in range(n):
                msgs[i]._private = &delivery._t.slots[i]
            if _choose_partitions(t, msgs, <int> n) and record_headers == NULL:
                _group_by_partition(msgs, <int> n)
            self._submit(t, msgs, <int> n, record_headers, delivery, timeout, True)
        finally:
            _free_headers(record_headers, n)
            free(msgs)
        return delivery

    cdef int _submit(self, TopicState *t, rdk.rd_kafka_message_t *msgs, int n, rdk.rd_kafka_headers_t **headers,
                     Delivery delivery, timeout, bint release) except -1:
        """Enqueue records that have their partitions; wait for room in the queue until the deadline."""
        cdef Handle *h = self._h
        cdef int64_t deadline = -1 if timeout is None else _deadline(timeout)
        cdef int64_t seen
        cdef int done = 0
        rdn_add(&h.in_flight, n)
        t.sent += n
        if release:
            _observe(&h.sizes, g_size_bounds, n, 1)
            rdn_add(&h.users, 1)
            with nogil:
                done = _produce(h, t, msgs, headers, 0, n)
            rdn_add(&h.users, -1)
        else:
            done = _produce(h, t, msgs, headers, 0, n)
        if done == n:
            return 0
        rdn_add(&h.users, 1)
        try:
            if deadline < 0:
                deadline = _deadline(self._queue_timeout)
            while done < n:
                seen = rdn_get(&h.in_flight)
                if rdn_now() >= deadline:
                    break
                with nogil:
                    _wait_while_above(h, &h.in_flight, seen - 1, deadline)
                    if not rdn_get(&h.stopping):
                        done = _produce(h, t, msgs, headers, done, n)
                PyErr_CheckSignals()
                if rdn_get(&h.stopping):
                    self._open()
        finally:
            if done < n:
                enqueued = _refuse(h, t, msgs, done, n)
            rdn_add(&h.users, -1)
        if done < n:
            raise self._queue_full(delivery, n, enqueued, timeout)
        return 0

    cdef object _queue_full(self, Delivery delivery, int n, tuple enqueued, timeout):
        seconds = self._queue_timeout if timeout is None else timeout
        error = kafka_error(
            rdk.RD_KAFKA_RESP_ERR__QUEUE_FULL,
            f"the local queue stayed full for {seconds} s: {len(enqueued)} of {n} records were enqueued; "
            "is the broker reachable, is the queue (queue.buffering.max.messages, .kbytes) large enough?")
        error.enqueued = enqueued
        error.delivery = delivery
        return error

    @property
    def in_flight(self):
        return 0 if self._h == NULL else rdn_get(&self._h.in_flight)

    def flush(self, timeout=None):
        """Send without lingering and wait for every outcome; returns how many are still unknown at the timeout."""
        cdef int64_t deadline = _deadline(timeout)
        cdef Handle *h = self._open()
        rdn_add(&h.users, 1)
        try:
            while rdn_get(&h.in_flight):
                with nogil:
                    rdk.rd_kafka_flush(h.rk, _milliseconds(deadline, SLICE_US))
                PyErr_CheckSignals()
                if rdn_get(&h.stopping):
                    self._open()
                if rdn_get(&h.in_flight):
                    self.check_accepted()
                if rdn_now() >= deadline:
                    break
        finally:
            rdn_add(&h.users, -1)
        return rdn_get(&h.in_flight)

    def purge(self):
        """Give up everything in flight; the outcomes follow."""
        cdef Handle *h = self._open()
        _check(rdk.rd_kafka_purge(h.rk, rdk.RD_KAFKA_PURGE_F_QUEUE | rdk.RD_KAFKA_PURGE_F_INFLIGHT))


cdef int _produce(Handle *h, TopicState *t, rdk.rd_kafka_message_t *msgs, rdk.rd_kafka_headers_t **headers,
                  int start, int n) noexcept nogil:
    """Hand records to librdkafka, run by run of one partition; returns how far it came until the queue was full."""
    cdef int i = start, end, run
    while i < n:
        if headers != NULL:
            end = i + 1
            msgs[i].err = _produce_with_headers(h, t, &msgs[i], &headers[i])
        else:
            end = i + 1
            while end < n and msgs[end].partition == msgs[i].partition:
                end += 1
            rdk.rd_kafka_produce_batch(t.rkt, msgs[i].partition, rdk.RD_KAFKA_MSG_F_COPY, &msgs[i], end - i)
        run = i
        while i < end:
            if msgs[i].err == rdk.RD_KAFKA_RESP_ERR__QUEUE_FULL:
                return i
            if msgs[i].err:
                if msgs[i].err == rdk.RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION and msgs[i].partition >= 0:
                    break
                _fail(h, t, <Slot *> msgs[i]._private, msgs[i].err)
            i += 1
        if i < end:  # the topic was made again with fewer partitions: let librdkafka choose, which looks again
            pthread_mutex_lock(&t.lock)
            t.partitions = 0
            pthread_mutex_unlock(&t.lock)
            for run in range(i, n):
                msgs[run].partition = rdk.RD_KAFKA_PARTITION_UA
    return n

cdef rdk.rd_kafka_resp_err_t _produce_with_headers(
    Handle *h, TopicState *t, rdk.rd_kafka_message_t *msg, rdk.rd_kafka_headers_t **headers
) noexcept nogil:
    """Headers that were taken are librdkafka's: the pointer is cleared."""
    cdef rdk.rd_kafka_vu_t vus[7]
    cdef rdk.rd_kafka_error_t *error
    cdef rdk.rd_kafka_resp_err_t err
    cdef size_t count = 6
    vus[0].vtype = rdk.RD_KAFKA_VTYPE_RKT
    vus[0].u.rkt = t.rkt
    vus[1].vtype = rdk.RD_KAFKA_VTYPE_PARTITION
    vus[1].u.i32 = msg.partition
    vus[2].vtype = rdk.RD_KAFKA_VTYPE_MSGFLAGS
    vus[2].u.i = rdk.RD_KAFKA_MSG_F_COPY
    vus[3].vtype = rdk.RD_KAFKA_VTYPE_VALUE
    vus[3].u.mem.ptr = msg.payload
    vus[3].u.mem.size = msg.len
    vus[4].vtype = rdk.RD_KAFKA_VTYPE_KEY
    vus[4].u.mem.ptr = msg.key
    vus[4].u.mem.size = msg.key_len
    vus[5].vtype = rdk.RD_KAFKA_VTYPE_OPAQUE
    vus[5].u.ptr = msg._private
    if headers[0] != NULL:
        vus[6].vtype = rdk.RD_KAFKA_VTYPE_HEADERS
        vus[6].u.headers = headers[0]
        count = 7
    error = rdk.rd_kafka_produceva(h.rk, vus, count)
    if error == NULL:
        headers[0] = NULL
        return rdk.RD_KAFKA_RESP_ERR_NO_ERROR
    err = rdk.rd_kafka_error_code(error)
    rdk.rd_kafka_error_destroy(error)
    return err

cdef void _fail(Handle *h, TopicState *t, Slot *slot, int err) noexcept nogil:
    """A record that librdkafka did not take: certainly not on the log."""
    _count_outcomes(t, err, 1)
    slot.err = <int16_t> err
    slot.outcome = NOT_PERSISTED
    _settled(_tracker_of(slot), 1, 1)
    rdn_add(&h.in_flight, -1)

cdef tuple _refuse(Handle *h, TopicState *t, rdk.rd_kafka_message_t *msgs, int start, int n):
    """Settle what found no room; returns the indexes of what did."""
    cdef set refused = set()
    cdef int i
    for i in range(start, n):
        refused.add((<Slot *> msgs[i]._private).index)
        _fail(h, t, <Slot *> msgs[i]._private, rdk.RD_KAFKA_RESP_ERR__QUEUE_FULL)
    return tuple([i for i in range(n) if i not in refused])

cdef rdk.rd_kafka_headers_t **_batch_headers(headers, Py_ssize_t n) except NULL:
    """One pointer a record, owned by the caller; a mapping goes to every record."""
    cdef rdk.rd_kafka_headers_t **result = <rdk.rd_kafka_headers_t **> calloc(n, sizeof(rdk.rd_kafka_headers_t *))
    cdef Py_ssize_t i
    if result == NULL:
        raise MemoryError
    try:
        if isinstance(headers, Mapping):
            result[0] = _headers(headers, -1)
            if result[0] != NULL:
                for i in range(1, n):
                    result[i] = rdk.rd_kafka_headers_copy(result[0])
        else:
            for i, entry in enumerate(_items(headers, "headers", n)):
                result[i] = _headers(entry, i)
    except BaseException:
        _free_headers(result, n)
        raise
    return result

cdef void _free_headers(rdk.rd_kafka_headers_t **headers, Py_ssize_t n) noexcept:
    """Free what librdkafka did not take."""
    cdef Py_ssize_t i
    if headers == NULL:
        return
    for i in range(n):
        if headers[i] != NULL:
            rdk.rd_kafka_headers_destroy(headers[i])
    free(headers)
