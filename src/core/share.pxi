"""Share groups (KIP-932, a preview of librdkafka's): records are acquired, then accepted, released or rejected.

librdkafka allows one thread at a time inside its share API and refuses a second one. So who calls it waits for a turn,
which a poll takes for one slice, and a commit for as long as its answer takes.
"""

cimport librdkafka as rdk
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport malloc


cdef class ShareConsumer(Client):
    """A member of a share group, where every record is settled explicitly."""

    cdef list _errors
    cdef int64_t _empty_since        # the end of the last poll when it found nothing, else 0

    def __init__(self, conf):
        self._errors = []
        self._start(rdk.RD_KAFKA_CONSUMER, {**conf, "share.acknowledgement.mode": "explicit"}, share=True)

    def configure_group(self, group, settings, timeout=5.0):
        """Set properties of a group, which need not exist yet (IncrementalAlterConfigs)."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, timeout)
        cdef size_t count = 0
        cdef const rdk.rd_kafka_ConfigResource_t **results
        cdef rdk.rd_kafka_ConfigResource_t *resource = rdk.rd_kafka_ConfigResource_new(
            rdk.RD_KAFKA_RESOURCE_GROUP, (<str?> group).encode())
        try:
            for name, value in settings.items():
                _check_error(rdk.rd_kafka_ConfigResource_add_incremental_config(
                    resource, name.encode(), rdk.RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, value.encode()))
            rdk.rd_kafka_IncrementalAlterConfigs(request.h.rk, &resource, 1, request.options, request.queue)
        finally:
            rdk.rd_kafka_ConfigResource_destroy(resource)
        results = rdk.rd_kafka_IncrementalAlterConfigs_result_resources(
            rdk.rd_kafka_event_IncrementalAlterConfigs_result(request.answer()), &count)
        if count and rdk.rd_kafka_ConfigResource_error(results[0]):
            raise kafka_error(rdk.rd_kafka_ConfigResource_error(results[0]),
                              _text(rdk.rd_kafka_ConfigResource_error_string(results[0])))

    def subscribe(self, topics):
        """Topic names; there are no regular expressions."""
        cdef rdk.rd_kafka_topic_partition_list_t *parts = _partition_list([(topic, -1) for topic in topics], False)
        cdef Handle *h
        try:
            h = self._enter()
            try:
                _check(rdk.rd_kafka_share_subscribe(h.share, parts))
            finally:
                self._exit(h)
        finally:
            rdk.rd_kafka_topic_partition_list_destroy(parts)

    def poll(self, Batch batch not None, timeout):
        """Fill an empty batch with what one fetch acquired; None at the timeout, and when there are errors to take.

        Else for how many seconds, at most, these records have been this member's already.
        """
        cdef int64_t deadline = _deadline(timeout)
        cdef int64_t begun
        cdef Handle *h
        cdef _Chunk chunk
        cdef rdk.rd_kafka_error_t *error
        if batch._chunk is not None:
            raise ValueError("poll fills an empty batch; make a new one")
        while not self._errors:
            h = self._enter()
            chunk = _new_chunk(self)
            begun = rdn_now()
            with nogil:
                error = rdk.rd_kafka_share_poll(h.share, _milliseconds(deadline, SLICE_US), &chunk.share)
            self._exit(h)
            if error != NULL:
                self._empty_since = 0
                _check_error(error)
            self._sift(chunk)
            if chunk.count:
                # What came between two polls was acquired at any time since the end of the first.
                age = (rdn_now() - (self._empty_since or begun)) / 1e6
                self._empty_since = 0
                batch._chunk = chunk
                return age
            self._empty_since = rdn_now()
            if rdn_get(&h.queue):
                with nogil:
                    _wait_while_above(h, &h.queue, 0, rdn_now() + COURTESY_US)
            PyErr_CheckSignals()
            if rdn_now() >= deadline:
                break
        return None

    cdef int _sift(self, _Chunk chunk) except -1:
        """List the records that can be read; librdkafka settles the others itself, and they become errors."""
        cdef size_t i, n = rdk.rd_kafka_messages_count(chunk.share)
        cdef rdk.rd_kafka_message_t *msg
        cdef rdk.rd_kafka_topic_t *rkt = NULL
        cdef Py_ssize_t run = 0
        chunk.msgs = <rdk.rd_kafka_message_t **> malloc((n + 1) * sizeof(rdk.rd_kafka_message_t *))
        if chunk.msgs == NULL:
            raise MemoryError
        for i in range(n):
            msg = rdk.rd_kafka_messages_get(chunk.share, i)
            if not msg.err:
                if msg.rkt != rkt:
                    self.meter._consume(rkt, run)
                    rkt = msg.rkt
                    run = 0
                run += 1
                chunk.msgs[chunk.count] = msg
                chunk.count += 1
                continue
            place = "" if msg.rkt == NULL else f"{_text(rdk.rd_kafka_topic_name(msg.rkt))} [{msg.partition}]: "
            self._errors.append(kafka_error(msg.err, f"{place}{_text(rdk.rd_kafka_message_errstr(msg))}"))
        self.meter._consume(rkt, run)
        if chunk.count:
            _observe(&self._h.sizes, g_size_bounds, chunk.count, 1)
        return 0

    def take_errors(self):
        """Records that could not be read, since the last call: rejected, or released if that may pass."""
        errors, self._errors = self._errors, []
        return errors

    def acknowledge(self, records, int kind):
        """Say what becomes of records of this consumer: 1 accept, 2 release, 3 reject. Sent by the next commit."""
        cdef Handle *h
        cdef Record record
        cdef rdk.rd_kafka_resp_err_t err
        for record in records:
            if record._chunk.consumer is not self:
                raise ValueError(f"{record!r} was not acquired by this consumer")
        h = self._enter()
        try:
            for record in records:
                err = rdk.rd_kafka_share_acknowledge_type(
                    h.share, record._msg, <rdk.rd_kafka_share_AcknowledgeType_t> kind)
                if err == rdk.RD_KAFKA_RESP_ERR__STATE:
                    raise kafka_error(err, f"{record!r} is not held: it was settled and committed before")
                _check(err)
        finally:
            self._exit(h)

    def commit(self, timeout):
        """Send what was acknowledged, wait for the answers; an error for each partition where it failed."""
        cdef Job *job = self._job(JOB_ACKNOWLEDGE, timeout)
        cdef int i
        try:
            self._run(job)
            failures = {}
            for i in range(0 if job.partitions == NULL else job.partitions.cnt):
                if job.partitions.elems[i].err:
                    place = _text(job.partitions.elems[i].topic), job.partitions.elems[i].partition
                    failures[place] = kafka_error(job.partitions.elems[i].err)
            return failures
        finally:
            _release_job(job)

    def leave(self, timeout):
        """Leave the group; what is not settled becomes available to others. Call until true."""
        cdef int64_t deadline = _deadline(timeout)
        cdef Handle *h = self._h
        cdef bint mine = False
        if rdn_get(&h.fatal):
            return True
        self._open()
        rdn_add(&h.users, 1)
        try:
            while not mine:
                with nogil:
                    mine = _take_turn(h, deadline)
                PyErr_CheckSignals()
                if not mine and rdn_now() >= deadline:
                    return False
            return _leave(self, deadline)
        finally:
            if mine:
                _end_turn(h)
            rdn_add(&h.users, -1)
