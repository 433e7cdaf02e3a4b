"""Polling batches that stay in C, and being a member of a consumer group."""

cimport cython
cimport librdkafka as rdk
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from rdknotify.errors import CommitFailed


@cython.final
cdef class _Chunk:
    """The records of one poll, in C. Batch, records and views share it; the last one frees them."""

    cdef rdk.rd_kafka_message_t **msgs  # owned; the messages too, unless they are a share's
    cdef rdk.rd_kafka_messages_t *share  # owned; what a share consumer acquired, else NULL
    cdef Py_ssize_t count
    cdef Handle *h                   # counted in its chunks
    cdef int generation
    cdef object consumer             # keeps h alive

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.h == NULL or self.generation != g_generation:
            return
        if self.share != NULL:
            rdk.rd_kafka_messages_destroy(self.share)
        else:
            for i in range(self.count):
                rdk.rd_kafka_message_destroy(self.msgs[i])
        free(self.msgs)
        rdn_add(&self.h.chunks, -1)
        rdn_add(&g_chunks, -1)


cdef _Chunk _new_chunk(Client client):
    """An empty chunk, which owns what is put into it."""
    cdef _Chunk chunk = _Chunk.__new__(_Chunk)
    chunk.h = client._h
    chunk.generation = client._generation
    chunk.consumer = client
    rdn_add(&client._h.chunks, 1)
    rdn_add(&g_chunks, 1)
    return chunk


cdef inline object _bytes(const void *data, size_t size):
    return None if data == NULL else PyBytes_FromStringAndSize(<const char *> data, size)

cdef inline object _timestamp(const rdk.rd_kafka_message_t *msg):
    cdef rdk.rd_kafka_timestamp_type_t kind
    cdef int64_t milliseconds = rdk.rd_kafka_message_timestamp(msg, &kind)
    return None if kind == rdk.RD_KAFKA_TIMESTAMP_NOT_AVAILABLE else milliseconds


@cython.final
@cython.freelist(256)
cdef class Record:
    """One record of a batch; the payload is copied when asked for. ``memoryview(record)`` is the value without a copy."""

    cdef _Chunk _chunk
    cdef const rdk.rd_kafka_message_t *_msg  # borrowed from _chunk

    def __init__(self):
        raise TypeError("a Record comes from a Batch")

    @property
    def value(self):
        return _bytes(self._msg.payload, self._msg.len)

    @property
    def key(self):
        return _bytes(self._msg.key, self._msg.key_len)

    @property
    def topic(self):
        return _text(rdk.rd_kafka_topic_name(self._msg.rkt))

    @property
    def partition(self):
        return self._msg.partition

    @property
    def offset(self):
        return self._msg.offset

    @property
    def timestamp(self):
        return _timestamp(self._msg)

    @property
    def delivery_count(self):
        return rdk.rd_kafka_message_delivery_count(self._msg)

    @property
    def headers(self):
        cdef rdk.rd_kafka_headers_t *headers = NULL
        cdef const char *name
        cdef const void *value
        cdef size_t size
        cdef size_t i = 0
        result = []
        if rdk.rd_kafka_message_headers(self._msg, &headers) == rdk.RD_KAFKA_RESP_ERR_NO_ERROR:
            while rdk.rd_kafka_header_get_all(headers, i, &name, &value, &size) == rdk.RD_KAFKA_RESP_ERR_NO_ERROR:
                result.append((_text(name), _bytes(value, size)))
                i += 1
        return result

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self._msg.payload, self._msg.len, 1, flags)

    def __repr__(self):
        return f"<Record {self.topic} [{self.partition}] @ {self.offset}, {self._msg.len} bytes>"


cdef class Batch:
    """Records of one poll, in C until asked for: a sequence of Record, per partition in order."""

    cdef _Chunk _chunk               # None: empty
    cdef object __weakref__

    cdef Py_ssize_t _count(self) noexcept:
        return 0 if self._chunk is None else self._chunk.count

    def __len__(self):
        return self._count()

    def __bool__(self):
        return self._count() > 0

    def __getitem__(self, Py_ssize_t index):
        cdef Record record
        if index < 0:
            index += self._count()
        if not 0 <= index < self._count():
            raise IndexError(f"record {index} of a batch of {self._count()}")
        record = Record.__new__(Record)
        record._chunk = self._chunk
        record._msg = self._chunk.msgs[index]
        return record

    def __iter__(self):
        cdef Py_ssize_t i
        for i in range(self._count()):
            yield self[i]

    def values(self):
        """Every value, copied."""
        cdef Py_ssize_t i
        return [_bytes(self._chunk.msgs[i].payload, self._chunk.msgs[i].len) for i in range(self._count())]

    def keys(self):
        """Every key, copied."""
        cdef Py_ssize_t i
        return [_bytes(self._chunk.msgs[i].key, self._chunk.msgs[i].key_len) for i in range(self._count())]

    def timestamps(self):
        """Every timestamp, in milliseconds since the epoch."""
        cdef Py_ssize_t i
        return [_timestamp(self._chunk.msgs[i]) for i in range(self._count())]

    def origins(self):
        """Topic, partition and offset of each record."""
        cdef Py_ssize_t i
        cdef rdk.rd_kafka_topic_t *rkt = NULL
        cdef rdk.rd_kafka_message_t *msg
        topic = None
        result = []
        for i in range(self._count()):
            msg = self._chunk.msgs[i]
            if msg.rkt != rkt:
                rkt = msg.rkt
                topic = _text(rdk.rd_kafka_topic_name(rkt))
            result.append((topic, msg.partition, msg.offset))
        return result

    def positions(self):
        """For each partition in the batch the offset after its last record and its leader epoch: what to commit."""
        cdef Py_ssize_t i
        cdef rdk.rd_kafka_message_t *msg
        last = {}
        for i in range(self._count() - 1, -1, -1):
            msg = self._chunk.msgs[i]
            # One topic may have several rkt pointers in a batch, never two names: the name decides below.
            place = (<size_t> msg.rkt, msg.partition)
            if place not in last:
                last[place] = i
        highest = {}
        for i in last.values():
            msg = self._chunk.msgs[i]
            name = _text(rdk.rd_kafka_topic_name(msg.rkt)), msg.partition
            if name not in highest or highest[name][0] <= msg.offset:
                highest[name] = (msg.offset + 1, rdk.rd_kafka_message_leader_epoch(msg))
        return [(topic, partition, *position) for (topic, partition), position in highest.items()]

    def release(self):
        """Free the payloads now; the batch is empty afterwards. Records and views taken from it stay valid."""
        self._chunk = None


cdef class Consumer(Client):
    """A group member. Polled by one thread at a time; the other methods from any."""

    cdef list _errors

    def __init__(self, conf):
        self._errors = []
        self._start(rdk.RD_KAFKA_CONSUMER, conf)

    def subscribe(self, topics):
        """Topic names; one that starts with ``^`` is a regular expression."""
        cdef Handle *h = self._open()
        cdef rdk.rd_kafka_topic_partition_list_t *parts = _partition_list([(topic, -1) for topic in topics], False)
        try:
            _check(rdk.rd_kafka_subscribe(h.rk, parts))
        finally:
            rdk.rd_kafka_topic_partition_list_destroy(parts)

    def poll(self, Batch batch not None, Py_ssize_t max_records, timeout):
        """Fill an empty batch with what is ready, as soon as one record is; true if there is any."""
        cdef int64_t deadline = _deadline(timeout)
        cdef Handle *h = self._open()
        cdef Py_ssize_t count = 0
        cdef rdk.rd_kafka_message_t **msgs
        if max_records < 1:
            raise ValueError(f"max_records must be 1 or more, not {max_records}")
        if batch._chunk is not None:
            raise ValueError("poll fills an empty batch; make a new one")
        msgs = <rdk.rd_kafka_message_t **> malloc(max_records * sizeof(rdk.rd_kafka_message_t *))
        if msgs == NULL:
            raise MemoryError
        rdn_add(&h.users, 1)
        try:
            while not (rdn_get(&h.rebalances) or self._errors):
                with nogil:
                    count = _consume(h, msgs, max_records, deadline)
                count = self._sift(msgs, count)
                if count > 0:
                    _observe(&h.sizes, g_size_bounds, count, 1)
                    batch._chunk = _new_chunk(self)
                    batch._chunk.msgs = msgs
                    batch._chunk.count = count
                    msgs = NULL
                    return True
                PyErr_CheckSignals()
                if rdn_get(&h.stopping):
                    self._open()
                if rdn_now() >= deadline:
                    break
        finally:
            free(msgs)
            rdn_add(&h.users, -1)
        return False

    cdef Py_ssize_t _sift(self, rdk.rd_kafka_message_t **msgs, Py_ssize_t count):
        """Move what librdkafka hands over as an error out of the records; returns how many records are left."""
        cdef Py_ssize_t i, kept = 0, run = 0
        cdef rdk.rd_kafka_topic_t *rkt = NULL
        for i in range(count):
            if not msgs[i].err:
                if msgs[i].rkt != rkt:
                    self.meter._consume(rkt, run)
                    rkt = msgs[i].rkt
                    run = 0
                run += 1
                msgs[kept] = msgs[i]
                kept += 1
                continue
            if msgs[i].err == rdk.RD_KAFKA_RESP_ERR__FATAL:
                _latch_fatal(self._h)  # raised by the next call
            elif msgs[i].err != rdk.RD_KAFKA_RESP_ERR__PARTITION_EOF:
                place = ""
                if msgs[i].rkt != NULL:
                    place = f"{_text(rdk.rd_kafka_topic_name(msgs[i].rkt))} [{msgs[i].partition}]: "
                self._errors.append(kafka_error(msgs[i].err, place + _text(rdk.rd_kafka_message_errstr(msgs[i]))))
            rdk.rd_kafka_message_destroy(msgs[i])
        self.meter._consume(rkt, run)
        return kept

    def take_errors(self):
        """What went wrong since the last call, oldest first."""
        errors, self._errors = self._errors, []
        return errors

    def take_rebalance(self):
        """The oldest rebalance that waits for an answer: ``(kind, partitions, incremental)``, or None."""
        cdef Handle *h = self._open()
        cdef Rebalance *rebalance
        cdef int i
        pthread_mutex_lock(&h.lock)
        rebalance = h.first_rebalance
        if rebalance != NULL:
            h.first_rebalance = rebalance.next
            rdn_add(&h.rebalances, -1)
        pthread_mutex_unlock(&h.lock)
        if rebalance == NULL:
            return None
        if h.owed != NULL:
            _free_rebalance(h.owed)
        h.owed = rebalance
        partitions = [
            (_text(rebalance.partitions.elems[i].topic), rebalance.partitions.elems[i].partition)
            for i in range(rebalance.partitions.cnt)
        ]
        return ("assign", "revoke", "lost")[rebalance.kind], partitions, rebalance.incremental

    def assign(self, offsets, bint incremental):
        """Begin reading at ``(topic, partition, offset)``; -1001 is the committed one, -2 the earliest, -1 the latest."""
        self._answer(_partition_list(offsets, True), incremental, True)

    def unassign(self, partitions, bint incremental):
        """Give partitions up."""
        self._answer(_partition_list(partitions, False), incremental, False)

    cdef int _answer(self, rdk.rd_kafka_topic_partition_list_t *parts, bint incremental, bint assign) except -1:
        """Answer a rebalance; frees the list."""
        cdef Handle *h
        cdef rdk.rd_kafka_error_t *error = NULL
        cdef rdk.rd_kafka_resp_err_t err = rdk.RD_KAFKA_RESP_ERR_NO_ERROR
        try:
            h = self._open()
            rdn_add(&h.users, 1)
            with nogil:
                if h.leaving != NULL and rdk.rd_kafka_consumer_closed(h.rk):
                    pass  # the group is gone: nobody would take the answer, and this would wait for ever
                elif not incremental:
                    err = rdk.rd_kafka_assign(h.rk, parts if assign else NULL)
                elif assign:
                    error = rdk.rd_kafka_incremental_assign(h.rk, parts)
                else:
                    error = rdk.rd_kafka_incremental_unassign(h.rk, parts)
            if h.owed != NULL:
                _free_rebalance(h.owed)
                h.owed = NULL
            rdn_add(&h.users, -1)
            _check_error(error)
            return _check(err)
        finally:
            rdk.rd_kafka_topic_partition_list_destroy(parts)

    def assignment(self):
        """The partitions that are this member's."""
        cdef Handle *h = self._open()
        cdef rdk.rd_kafka_topic_partition_list_t *parts = NULL
        _check(rdk.rd_kafka_assignment(h.rk, &parts))
        try:
            return list(_offsets(parts, False))
        finally:
            rdk.rd_kafka_topic_partition_list_destroy(parts)

    def commit(self, positions, timeout=None, bint wait=True, meanwhile=None):
        """Commit exactly these positions. Without ``wait`` it only sends; a refusal then arrives as an event.

        ``meanwhile()`` is called while the answer is on its way.
        """
        cdef int64_t deadline = _deadline(timeout)
        cdef Handle *h = self._open()
        cdef rdk.rd_kafka_queue_t *queue = NULL
        cdef rdk.rd_kafka_event_t *event = NULL
        if not positions:
            return
        cdef rdk.rd_kafka_topic_partition_list_t *parts = _partition_list(positions, True)
        rdn_add(&h.users, 1)
        try:
            if wait:
                queue = rdk.rd_kafka_queue_new(h.rk)
            _check(rdk.rd_kafka_commit_queue(h.rk, parts, queue if wait else h.events, NULL, NULL))
            if meanwhile is not None:
                meanwhile()
            if wait:
                event = _await_event(self, queue, deadline)
                if event == NULL:
                    raise kafka_error(rdk.RD_KAFKA_RESP_ERR__TIMED_OUT,
                                      f"the commit of {len(positions)} partitions had no answer after {timeout} s")
                self._check_commit(event)
        finally:
            rdk.rd_kafka_topic_partition_list_destroy(parts)
            if event != NULL:
                rdk.rd_kafka_event_destroy(event)
            if queue != NULL:
                rdk.rd_kafka_queue_destroy(queue)
            rdn_add(&h.users, -1)

    cdef int _check_commit(self, rdk.rd_kafka_event_t *event) except -1:
        cdef rdk.rd_kafka_resp_err_t err = rdk.rd_kafka_event_error(event)
        cdef rdk.rd_kafka_topic_partition_list_t *parts = rdk.rd_kafka_event_topic_partition_list(event)
        cdef int i
        place = ""
        if parts != NULL:
            for i in range(parts.cnt):
                if parts.elems[i].err:
                    err = parts.elems[i].err
                    place = f"{_text(parts.elems[i].topic)} [{parts.elems[i].partition}]: "
                    break
        if err:
            raise kafka_error(err, f"offsets were not committed: {place}{_reason(err)}",
                              kind=KINDS.get(_text(rdk.rd_kafka_err2name(err)), CommitFailed))
        return 0

    def committed(self, partitions, timeout=5.0):
        """The group's committed offsets; None where there is none."""
        return self._ask(JOB_COMMITTED, partitions, False, timeout, True)

    def offsets_for_times(self, times, timeout=5.0):
        """First offsets at or after ``(topic, partition, milliseconds)``; -1 where there is none yet."""
        return self._ask(JOB_OFFSETS_FOR_TIMES, times, True, timeout, False)

    def seek(self, offsets, timeout=5.0):
        """Go on reading at ``(topic, partition, offset)``; what was fetched before is dropped."""
        self._ask(JOB_SEEK, offsets, True, timeout, False)

    cdef dict _ask(self, JobKind kind, entries, bint offsets, timeout, bint none_if_negative):
        cdef Job *job = self._job(kind, timeout)
        try:
            job.partitions = _partition_list(entries, offsets)
            self._run(job)
            return _offsets(job.partitions, none_if_negative)
        finally:
            _release_job(job)

    def topic_ids(self, topics, timeout=5.0):
        """The cluster's id of each of these topics; those that are not there, or have none, are left out."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout)
        cdef const rdk.rd_kafka_TopicDescription_t **found
        cdef size_t i, n = 0
        _describe_topics(request, topics)
        found = rdk.rd_kafka_DescribeTopics_result_topics(
            rdk.rd_kafka_event_DescribeTopics_result(request.answer()), &n)
        ids = {_text(rdk.rd_kafka_TopicDescription_name(found[i])): _topic_id(found[i]) for i in range(n)}
        return {name: identity for name, identity in ids.items() if identity}

    def watermarks(self, topic, int32_t partition, timeout=5.0):
        """The first offset on the log and the one that the next record will get."""
        cdef Job *job = self._job(JOB_WATERMARKS, timeout)
        try:
            job.topic = strdup(topic.encode())
            job.partition = partition
            self._run(job)
            return job.low, job.high
        finally:
            _release_job(job)

    def ends(self, partitions):
        """The offset that the next record gets, as of the last fetch; partitions that were not fetched are left out."""
        cdef Handle *h = self._open()
        cdef int64_t low, high
        found = {}
        for topic, partition in partitions:
            if rdk.rd_kafka_get_watermark_offsets(h.rk, topic.encode(), partition, &low, &high):
                continue
            if high >= 0:
                found[topic, partition] = high
        return found

    def positions(self, partitions):
        """The offset after the last record that poll returned; None where there was none."""
        return self._act(_partition_list(partitions, False), rdk.rd_kafka_position)

    def pause(self, partitions):
        """Fetch no more of these partitions until :meth:`resume`; what was fetched already is dropped and fetched again."""
        cdef Handle *h = self._open()
        rdk.rd_kafka_queue_yield(h.records)  # whoever polls gives its turn up
        h = self._enter()
        try:
            self._act(_partition_list(partitions, False), rdk.rd_kafka_pause_partitions)
        finally:
            self._exit(h)

    def resume(self, partitions):
        """Go on fetching."""
        self._act(_partition_list(partitions, False), rdk.rd_kafka_resume_partitions)

    cdef dict _act(
        self, rdk.rd_kafka_topic_partition_list_t *parts,
        rdk.rd_kafka_resp_err_t (*call)(rdk.rd_kafka_t *, rdk.rd_kafka_topic_partition_list_t *) noexcept nogil
    ):
        """A call on a list of partitions that does not wait; frees the list."""
        try:
            _check(call(self._open().rk, parts))
            return _offsets(parts, True)
        finally:
            rdk.rd_kafka_topic_partition_list_destroy(parts)

    def leave(self, timeout):
        """Leave the group: call until true, answering rebalances in between."""
        return _leave(self, _deadline(timeout))


cdef Py_ssize_t _consume(
    Handle *h, rdk.rd_kafka_message_t **msgs, Py_ssize_t max_records, int64_t deadline
) noexcept nogil:
    """What is ready, as soon as one record is; none after one slice, or when it is another's turn.

    A pause in the midst of it would go back to before these records, and they came twice.
    """
    cdef Py_ssize_t count
    if rdn_get(&h.queue):
        _wait_while_above(h, &h.queue, 0, rdn_now() + COURTESY_US)
    if not _take_turn(h, deadline):
        return 0
    count = rdk.rd_kafka_consume_batch_queue(h.records, _milliseconds(deadline, SLICE_US), msgs, 1)
    if count == 1 and max_records > 1:
        count += rdk.rd_kafka_consume_batch_queue(h.records, 0, msgs + 1, max_records - 1)
    _end_turn(h)
    return count


cdef bint _leave(Client client, int64_t deadline) except -1:
    """Go on leaving the group; false when a rebalance waits for its answer, or at the deadline."""
    cdef Handle *h = client._h
    if rdn_get(&h.fatal):
        return True
    h = client._open()
    rdn_add(&h.users, 1)
    try:
        if h.leaving == NULL and not _begin_leaving(h):
            return True
        while not rdk.rd_kafka_consumer_closed(h.rk):
            if rdn_get(&h.rebalances) or rdn_now() >= deadline:
                return False
            with nogil:
                _serve_leaving(h, _milliseconds(deadline, SLICE_US))
            PyErr_CheckSignals()
        return True
    finally:
        rdn_add(&h.users, -1)
