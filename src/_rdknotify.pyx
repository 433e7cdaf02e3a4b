"""The core: librdkafka for Python, whole batches at a time. It holds no policy; names and topics mean nothing to it.

Rules that hold everywhere below:

* GIL. No librdkafka thread and no thread of ours runs Python, so holding the GIL cannot deadlock. It is released only around
  calls that can wait or that do per-record work for a whole batch. Waits are sliced (100 ms) with a signal check between.
* Service thread. Each handle has one native thread (``_serve``). It drains delivery reports, logs, errors and statistics, so
  nothing stalls when the application forgets to call us, and it alone destroys the handle, so that ``shut`` and garbage
  collection never wait for librdkafka.
* Ownership. A ``Handle`` is counted: by its Python object, by the service thread, by running jobs. ``users`` and ``chunks``
  count who may still touch ``rk``; the service thread destroys it when both are zero.
* Fork. A child must not touch its parent's handle: ``pthread_atfork`` moves ``g_generation`` on, every entry compares.
* Errors. ``kafka_error`` makes every KafkaError; exceptions are defined in ``rdknotify.errors``.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo, PyBuffer_IsContiguous
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.unicode cimport PyUnicode_Check
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset, strncpy
from posix.unistd cimport getpid

cimport librdkafka as rdk

from collections.abc import Mapping as _Mapping

from rdknotify.errors import AuthenticationError, ClosedError, CommitFailed, ConfigError, KafkaError, QueueFull, Timeout
from rdknotify.outcomes import BatchReport, Failure, Outcome

__all__ = [
    "Batch", "Client", "Consumer", "Delivery", "MockCluster", "Producer", "Record",
    "features", "kafka_error", "live_handles", "murmur2", "version", "wait_events",
]


# ---- what C needs and Cython has no words for: atomics, monotonic condition variables, a thread that takes no signals

cdef extern from *:
    """
    #include <pthread.h>
    #include <signal.h>
    #include <stdint.h>
    #include <string.h>
    #include <time.h>
    #include "rdkafka.h"

    #define rdn_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
    #define rdn_get(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define rdn_set(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

    static int64_t rdn_now(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
    }

    static void rdn_cond_init(pthread_cond_t *cond) {
    #ifdef __APPLE__
        pthread_cond_init(cond, NULL);
    #else
        pthread_condattr_t attr;
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(cond, &attr);
        pthread_condattr_destroy(&attr);
    #endif
    }

    static void rdn_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until) {
        struct timespec ts;
    #ifdef __APPLE__
        int64_t left = until - rdn_now();
        if (left <= 0) return;
        ts.tv_sec = left / 1000000;
        ts.tv_nsec = (left % 1000000) * 1000;
        pthread_cond_timedwait_relative_np(cond, lock, &ts);
    #else
        ts.tv_sec = until / 1000000;
        ts.tv_nsec = (until % 1000000) * 1000;
        pthread_cond_timedwait(cond, lock, &ts);
    #endif
    }

    static int rdn_thread_start(void *(*main)(void *), void *arg) {
        pthread_t thread;
        sigset_t all, old;
        int failed;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        failed = pthread_create(&thread, NULL, main, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (!failed) pthread_detach(thread);
        return failed;
    }
    """
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *lock, void *attr) nogil
    int pthread_mutex_destroy(pthread_mutex_t *lock) nogil
    int pthread_mutex_lock(pthread_mutex_t *lock) nogil
    int pthread_mutex_unlock(pthread_mutex_t *lock) nogil
    int pthread_cond_destroy(pthread_cond_t *cond) nogil
    int pthread_cond_broadcast(pthread_cond_t *cond) nogil
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil, void (*child)() noexcept nogil)
    char *strdup(const char *text) nogil
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    int64_t rdn_now() nogil
    void rdn_cond_init(pthread_cond_t *cond) nogil
    void rdn_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until) nogil
    int rdn_thread_start(void *(*main)(void *) noexcept nogil, void *arg) nogil
    int64_t rdn_add "rdn_add"(int64_t *counter, int64_t value) nogil
    int64_t rdn_get "rdn_get"(const int64_t *counter) nogil
    void rdn_set "rdn_set"(int64_t *counter, int64_t value) nogil


cdef enum:
    SLICE_US = 100_000               # how long a wait goes without looking at signals
    TOPIC_REFRESH_US = 1_000_000     # how old the picture of a topic's partitions may be
    STICKY_US = 50_000               # a keyless run stays on a partition this long ...
    STICKY_BYTES = 256 * 1024        # ... or for this many bytes (KIP-480, KIP-794)
    MAX_NOTICES = 1000               # logs, errors and statistics kept for the application to take
    GRACE_US = 5_000_000             # what a garbage-collected handle gets to deliver, or to leave its group
    NOTICE_LOG = 0
    NOTICE_ERROR = 1
    NOTICE_STATS = 2
    DELIVERED = 2
    POSSIBLY_PERSISTED = 1
    NOT_PERSISTED = 0


cdef struct Notice:                  # one log line, error or statistics document, copied out of its event
    int kind
    int code
    char *first                      # owned
    char *second                     # owned
    Notice *next

cdef struct Rebalance:               # one that waits for the application's answer
    int kind                         # 0 assign, 1 revoke, 2 lost
    rdk.rd_kafka_topic_partition_list_t *partitions  # owned
    Rebalance *next

cdef struct TopicState:              # how one topic's records choose a partition
    rdk.rd_kafka_topic_t *rkt        # owned
    pthread_mutex_t lock
    int32_t partitions               # 0: not known yet
    int32_t capacity
    uint8_t *available               # owned; one a partition: has a leader
    int64_t refreshed
    int32_t sticky
    int64_t sticky_bytes             # what may still go to it
    int64_t sticky_since
    TopicState *next

cdef struct Handle:
    rdk.rd_kafka_t *rk               # owned; destroyed by the service thread
    rdk.rd_kafka_queue_t *events     # owned; reports, logs, errors, statistics
    rdk.rd_kafka_queue_t *records    # owned; a consumer's, else NULL
    rdk.rd_kafka_queue_t *leaving    # owned; where rebalances arrive while leaving the group, else NULL
    pthread_mutex_t lock
    pthread_cond_t progress          # something that somebody may wait for has changed
    int64_t waiters                  # under lock
    int64_t refs
    int64_t users                    # threads inside librdkafka with the GIL released
    int64_t chunks                   # polled records not freed yet
    int64_t stopping
    int64_t dead                     # rk is gone
    int64_t grace                    # what the service thread may take to end well
    int64_t in_flight                # records without an outcome
    int64_t notice_count
    int64_t notices_dropped
    Notice *first_notice
    Notice *last_notice
    int64_t fatal
    char fatal_reason[512]
    TopicState *topics
    int64_t rebalances
    Rebalance *first_rebalance

cdef struct Slot:                    # what became of one record; librdkafka carries a pointer to it
    uint32_t index
    int16_t err
    uint8_t outcome

cdef struct Tracker:                 # what becomes of the records of one call
    int64_t refs                     # the Delivery, and the records in flight together
    int64_t pending
    int64_t failed
    int64_t total
    Slot slots[1]


cdef int g_generation = 0
cdef pthread_mutex_t g_lock
cdef pthread_cond_t g_noticed
cdef int64_t g_notices = 0
cdef int64_t g_handles = 0
cdef int64_t g_trackers = 0
cdef int64_t g_chunks = 0
cdef int64_t g_mocks = 0

cdef void _init_globals() noexcept nogil:
    global g_notices, g_handles, g_trackers, g_chunks, g_mocks
    pthread_mutex_init(&g_lock, NULL)
    rdn_cond_init(&g_noticed)
    g_notices = g_handles = g_trackers = g_chunks = g_mocks = 0

cdef void _after_fork_in_child() noexcept nogil:
    global g_generation
    g_generation += 1
    _init_globals()

_init_globals()
pthread_atfork(NULL, NULL, _after_fork_in_child)


# ---- errors, deadlines, waiting

cdef frozenset RETRIABLE = frozenset("""
    _TRANSPORT _ALL_BROKERS_DOWN _MSG_TIMED_OUT _TIMED_OUT _TIMED_OUT_QUEUE _QUEUE_FULL _WAIT_COORD _RETRY _IN_PROGRESS
    UNKNOWN_TOPIC_OR_PART LEADER_NOT_AVAILABLE NOT_LEADER_FOR_PARTITION REQUEST_TIMED_OUT BROKER_NOT_AVAILABLE
    REPLICA_NOT_AVAILABLE NETWORK_EXCEPTION COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR
    NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND REBALANCE_IN_PROGRESS KAFKA_STORAGE_ERROR
    FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH THROTTLING_QUOTA_EXCEEDED
""".split())
cdef dict KINDS = {
    "_QUEUE_FULL": QueueFull,
    "_MSG_TIMED_OUT": Timeout,
    "_TIMED_OUT": Timeout,
    "_TIMED_OUT_QUEUE": Timeout,
    "REQUEST_TIMED_OUT": Timeout,
    "_AUTHENTICATION": AuthenticationError,
    "_SSL": AuthenticationError,
    "SASL_AUTHENTICATION_FAILED": AuthenticationError,
    "UNSUPPORTED_SASL_MECHANISM": AuthenticationError,
    "ILLEGAL_SASL_STATE": AuthenticationError,
}

def kafka_error(int code, reason=None, *, bint fatal=False, kind=None):
    """The KafkaError, or the subclass a caller would branch on, for a ``rd_kafka_resp_err_t``."""
    cdef rdk.rd_kafka_resp_err_t err = <rdk.rd_kafka_resp_err_t> code
    name = _text(rdk.rd_kafka_err2name(err))
    return (kind or KINDS.get(name, KafkaError))(
        code, name, reason or _reason(err), fatal=fatal, retriable=name in RETRIABLE and not fatal)

cdef int _check(rdk.rd_kafka_resp_err_t err) except -1:
    if err:
        raise kafka_error(err)
    return 0

cdef int _check_error(rdk.rd_kafka_error_t *error) except -1:
    """Raise what librdkafka returned; it is destroyed here."""
    if error == NULL:
        return 0
    try:
        raise kafka_error(rdk.rd_kafka_error_code(error), _text(rdk.rd_kafka_error_string(error)),
                          fatal=rdk.rd_kafka_error_is_fatal(error))
    finally:
        rdk.rd_kafka_error_destroy(error)

cdef str _text(const char *text):
    return "" if text == NULL else (<bytes> text).decode("utf-8", "replace")

cdef int64_t _deadline(timeout) except -1:
    """The moment, in monotonic microseconds, at which a timeout in seconds ends; None: never."""
    if timeout is None:
        return INT64_MAX
    cdef double seconds = timeout
    if not seconds >= 0:
        raise ValueError(f"timeout must be 0 or more seconds, or None to wait for ever, not {timeout!r}")
    return INT64_MAX if seconds > 1e9 else rdn_now() + <int64_t> (seconds * 1e6)

cdef int _milliseconds(int64_t deadline, int64_t longest) noexcept nogil:
    cdef int64_t left = deadline - rdn_now()
    if left > longest:
        left = longest
    return 0 if left <= 0 else <int> ((left + 999) // 1000)

cdef void _wait_while_above(Handle *h, int64_t *watched, int64_t floor, int64_t deadline) noexcept nogil:
    """Wait for one slice at most until ``*watched <= floor``, the handle is dead, or the deadline."""
    cdef int64_t until = rdn_now() + SLICE_US
    if deadline < until:
        until = deadline
    pthread_mutex_lock(&h.lock)
    h.waiters += 1
    while rdn_get(watched) > floor and not rdn_get(&h.dead) and rdn_now() < until:
        rdn_cond_wait(&h.progress, &h.lock, until)
    h.waiters -= 1
    pthread_mutex_unlock(&h.lock)

cdef void _announce(Handle *h) noexcept nogil:
    """Wake whoever waits for progress of this handle."""
    pthread_mutex_lock(&h.lock)
    if h.waiters:
        pthread_cond_broadcast(&h.progress)
    pthread_mutex_unlock(&h.lock)


# ---- the service thread: everything here runs without Python

cdef void _unref(Handle *h) noexcept nogil:
    cdef Notice *notice
    if rdn_add(&h.refs, -1):
        return
    while h.first_notice != NULL:
        notice = h.first_notice
        h.first_notice = notice.next
        _free_notice(notice)
    pthread_mutex_destroy(&h.lock)
    pthread_cond_destroy(&h.progress)
    free(h)

cdef void _free_notice(Notice *notice) noexcept nogil:
    free(notice.first)
    free(notice.second)
    free(notice)

cdef void _notice(Handle *h, int kind, int code, const char *first, const char *second) noexcept nogil:
    """Keep something for the application to take; the newest is dropped when it does not come."""
    cdef Notice *notice = <Notice *> calloc(1, sizeof(Notice))
    if notice == NULL:
        return
    notice.kind = kind
    notice.code = code
    notice.first = NULL if first == NULL else strdup(first)
    notice.second = NULL if second == NULL else strdup(second)
    pthread_mutex_lock(&h.lock)
    if h.notice_count >= MAX_NOTICES:
        h.notices_dropped += 1
        pthread_mutex_unlock(&h.lock)
        _free_notice(notice)
        return
    if h.last_notice == NULL:
        h.first_notice = notice
    else:
        h.last_notice.next = notice
    h.last_notice = notice
    h.notice_count += 1
    pthread_mutex_unlock(&h.lock)
    pthread_mutex_lock(&g_lock)
    rdn_add(&g_notices, 1)
    pthread_cond_broadcast(&g_noticed)
    pthread_mutex_unlock(&g_lock)

cdef inline Tracker *_tracker_of(Slot *slot) noexcept nogil:
    return <Tracker *> (<char *> (slot - slot.index) - <size_t> &(<Tracker *> NULL).slots)

cdef void _release_tracker(Tracker *t) noexcept nogil:
    if rdn_add(&t.refs, -1) == 0:
        free(t)
        rdn_add(&g_trackers, -1)

cdef void _settled(Tracker *t, int64_t count, int64_t failed) noexcept nogil:
    """Record that this many more outcomes of a call are in its slots."""
    if failed:
        rdn_add(&t.failed, failed)
    if rdn_add(&t.pending, -count) == 0:
        _release_tracker(t)

cdef void _take_reports(Handle *h, rdk.rd_kafka_event_t *event) noexcept nogil:
    cdef const rdk.rd_kafka_message_t *msg
    cdef Slot *slot
    cdef Tracker *t = NULL
    cdef Tracker *tracker
    cdef int64_t run = 0, failed = 0, total = 0
    while True:
        msg = rdk.rd_kafka_event_message_next(event)
        if msg == NULL:
            break
        total += 1
        slot = <Slot *> msg._private
        tracker = _tracker_of(slot)
        if tracker != t:
            if run:
                _settled(t, run, failed)
            t = tracker
            run = failed = 0
        if msg.err:
            slot.err = <int16_t> msg.err
            slot.outcome = <uint8_t> rdk.rd_kafka_message_status(msg)
            failed += 1
        else:
            slot.outcome = DELIVERED
        run += 1
    if run:
        _settled(t, run, failed)
    # Destroying the event gives its records' room in the queue back: waiters for room must be told after it.
    rdk.rd_kafka_event_destroy(event)
    rdn_add(&h.in_flight, -total)
    _announce(h)

cdef void _take_error(Handle *h, rdk.rd_kafka_event_t *event) noexcept nogil:
    cdef char reason[512]
    cdef rdk.rd_kafka_resp_err_t fatal = rdk.rd_kafka_fatal_error(h.rk, reason, sizeof(reason))
    cdef rdk.rd_kafka_resp_err_t code = rdk.rd_kafka_event_error(event)
    if fatal and not rdn_get(&h.fatal):
        strncpy(h.fatal_reason, reason, sizeof(h.fatal_reason) - 1)
        rdn_set(&h.fatal, fatal)
    _notice(h, NOTICE_ERROR, code, rdk.rd_kafka_err2name(code), rdk.rd_kafka_event_error_string(event))

cdef bint _serve_event(Handle *h, int milliseconds) noexcept nogil:
    """Serve one event; false when there was none in time."""
    cdef rdk.rd_kafka_event_t *event = rdk.rd_kafka_queue_poll(h.events, milliseconds)
    cdef int kind, level = 0
    cdef const char *facility = NULL
    cdef const char *text = NULL
    if event == NULL:
        return False
    kind = rdk.rd_kafka_event_type(event)
    if kind == rdk.RD_KAFKA_EVENT_DR:
        _take_reports(h, event)
        return True
    if kind == rdk.RD_KAFKA_EVENT_LOG:
        if rdk.rd_kafka_event_log(event, &facility, &text, &level) == 0:
            _notice(h, NOTICE_LOG, level, facility, text)
    elif kind == rdk.RD_KAFKA_EVENT_ERROR:
        _take_error(h, event)
    elif kind == rdk.RD_KAFKA_EVENT_STATS:
        _notice(h, NOTICE_STATS, 0, NULL, rdk.rd_kafka_event_stats(event))
    elif kind == rdk.RD_KAFKA_EVENT_OFFSET_COMMIT:
        if rdk.rd_kafka_event_error(event):
            _take_error(h, event)
    rdk.rd_kafka_event_destroy(event)
    return True

cdef void *_serve(void *arg) noexcept nogil:
    cdef Handle *h = <Handle *> arg
    while not rdn_get(&h.stopping):
        _serve_event(h, 500)
    _end_well(h)
    # Threads that were inside a call see `stopping` within a slice; polled records may live for as long as they like.
    while rdn_get(&h.users) or rdn_get(&h.chunks):
        _serve_event(h, 20 if rdn_get(&h.users) else 200)
    while _serve_event(h, 0):
        pass
    _destroy(h)
    return NULL

cdef void _end_well(Handle *h) noexcept nogil:
    """Within the grace period, deliver what is queued or leave the group; then give up what is left."""
    cdef int64_t deadline = rdn_now() + h.grace
    cdef rdk.rd_kafka_message_t *msg
    if h.records != NULL:
        if h.leaving == NULL and (h.grace or rdn_get(&h.chunks)):
            _begin_leaving(h)
        while h.leaving != NULL and not rdk.rd_kafka_consumer_closed(h.rk) and rdn_now() < deadline:
            if rdk.rd_kafka_consume_batch_queue(h.leaving, 50, &msg, 1) == 1:
                rdk.rd_kafka_message_destroy(msg)
        return
    if rdn_get(&h.in_flight) and h.grace:
        rdk.rd_kafka_flush(h.rk, 0)
    while rdn_get(&h.in_flight) and rdn_now() < deadline:
        _serve_event(h, 50)
    if rdn_get(&h.in_flight):
        rdk.rd_kafka_purge(h.rk, rdk.RD_KAFKA_PURGE_F_QUEUE | rdk.RD_KAFKA_PURGE_F_INFLIGHT)
        deadline = rdn_now() + GRACE_US
        while rdn_get(&h.in_flight) and rdn_now() < deadline:
            _serve_event(h, 50)

cdef void _destroy(Handle *h) noexcept nogil:
    cdef TopicState *topic
    cdef Rebalance *rebalance
    while h.first_rebalance != NULL:
        rebalance = h.first_rebalance
        h.first_rebalance = rebalance.next
        rdk.rd_kafka_topic_partition_list_destroy(rebalance.partitions)
        free(rebalance)
    while h.topics != NULL:
        topic = h.topics
        h.topics = topic.next
        rdk.rd_kafka_topic_destroy(topic.rkt)
        pthread_mutex_destroy(&topic.lock)
        free(topic.available)
        free(topic)
    if h.leaving != NULL:
        rdk.rd_kafka_queue_destroy(h.leaving)
    if h.records != NULL:
        rdk.rd_kafka_queue_destroy(h.records)
    rdk.rd_kafka_queue_destroy(h.events)
    rdk.rd_kafka_destroy_flags(h.rk, rdk.RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
    rdn_set(&h.dead, 1)
    _announce(h)
    rdn_add(&g_handles, -1)
    _unref(h)

cdef bint _begin_leaving(Handle *h) noexcept nogil:
    """Ask to leave the group; false when there is none to leave, or after a fatal error."""
    cdef rdk.rd_kafka_error_t *error
    h.leaving = rdk.rd_kafka_queue_new(h.rk)
    error = rdk.rd_kafka_consumer_close_queue(h.rk, h.leaving)
    if error != NULL:
        rdk.rd_kafka_error_destroy(error)
        rdk.rd_kafka_queue_destroy(h.leaving)
        h.leaving = NULL
        return False
    return True

cdef bint _incremental(rdk.rd_kafka_t *rk) noexcept nogil:
    return rdk.rd_kafka_rebalance_protocol(rk)[0] == c"C"

cdef void _on_rebalance(
    rdk.rd_kafka_t *rk, rdk.rd_kafka_resp_err_t err, rdk.rd_kafka_topic_partition_list_t *partitions, void *opaque
) noexcept nogil:
    """Runs in the polling thread, inside librdkafka. The answer is given later, by assign or unassign."""
    cdef Handle *h = <Handle *> opaque
    cdef Rebalance *rebalance
    cdef Rebalance **tail
    cdef bint assign = err == rdk.RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS
    rebalance = NULL if rdn_get(&h.stopping) else <Rebalance *> calloc(1, sizeof(Rebalance))
    if rebalance == NULL:  # nobody will answer: give everything up
        if not _incremental(rk):
            rdk.rd_kafka_assign(rk, NULL)
        elif not assign:
            rdk.rd_kafka_error_destroy(rdk.rd_kafka_incremental_unassign(rk, partitions))
        return
    rebalance.kind = 0 if assign else 2 if rdk.rd_kafka_assignment_lost(rk) else 1
    rebalance.partitions = rdk.rd_kafka_topic_partition_list_copy(partitions)
    pthread_mutex_lock(&h.lock)
    tail = &h.first_rebalance
    while tail[0] != NULL:
        tail = &tail[0].next
    tail[0] = rebalance
    pthread_mutex_unlock(&h.lock)
    rdn_add(&h.rebalances, 1)
    rdk.rd_kafka_queue_yield(h.leaving if h.leaving != NULL else h.records)


# ---- blocking calls of librdkafka that cannot be sliced run as jobs in a thread of their own, so that Ctrl-C is answered

cdef enum JobKind:
    JOB_METADATA
    JOB_COMMITTED
    JOB_WATERMARKS
    JOB_OFFSETS_FOR_TIMES
    JOB_SEEK

cdef struct Job:
    Handle *h                        # borrowed; counted as a user and a reference
    JobKind kind
    int64_t refs
    int64_t running
    int milliseconds
    bint all_topics
    char *topic                      # owned
    int32_t partition
    int64_t low
    int64_t high
    rdk.rd_kafka_topic_partition_list_t *partitions  # owned
    const rdk.rd_kafka_metadata_t *metadata          # owned
    rdk.rd_kafka_resp_err_t err

cdef void _release_job(Job *job) noexcept nogil:
    if rdn_add(&job.refs, -1):
        return
    if job.metadata != NULL:
        rdk.rd_kafka_metadata_destroy(job.metadata)
    if job.partitions != NULL:
        rdk.rd_kafka_topic_partition_list_destroy(job.partitions)
    free(job.topic)
    free(job)

cdef void *_run_job(void *arg) noexcept nogil:
    cdef Job *job = <Job *> arg
    cdef Handle *h = job.h
    cdef rdk.rd_kafka_error_t *error
    cdef rdk.rd_kafka_topic_t *rkt = NULL
    if job.kind == JOB_METADATA:
        if job.topic != NULL:
            rkt = rdk.rd_kafka_topic_new(h.rk, job.topic, NULL)
        if job.topic != NULL and rkt == NULL:
            job.err = rdk.rd_kafka_last_error()
        else:
            job.err = rdk.rd_kafka_metadata(h.rk, job.all_topics, rkt, &job.metadata, job.milliseconds)
        if rkt != NULL:
            rdk.rd_kafka_topic_destroy(rkt)
    elif job.kind == JOB_COMMITTED:
        job.err = rdk.rd_kafka_committed(h.rk, job.partitions, job.milliseconds)
    elif job.kind == JOB_WATERMARKS:
        job.err = rdk.rd_kafka_query_watermark_offsets(
            h.rk, job.topic, job.partition, &job.low, &job.high, job.milliseconds)
    elif job.kind == JOB_OFFSETS_FOR_TIMES:
        job.err = rdk.rd_kafka_offsets_for_times(h.rk, job.partitions, job.milliseconds)
    else:
        error = rdk.rd_kafka_seek_partitions(h.rk, job.partitions, job.milliseconds)
        if error != NULL:
            job.err = rdk.rd_kafka_error_code(error)
            rdk.rd_kafka_error_destroy(error)
    rdn_set(&job.running, 0)
    _announce(h)
    _release_job(job)
    rdn_add(&h.users, -1)
    _unref(h)
    return NULL


# ---- conversions

cdef int _buffer(value, void **data, size_t *size, list keep, str what, Py_ssize_t index) except -1:
    """Point at a value's bytes; what must outlive the pointer goes to ``keep``. None is a null."""
    cdef Py_ssize_t length = 0
    if PyBytes_Check(value):
        data[0] = PyBytes_AS_STRING(value)
        size[0] = PyBytes_GET_SIZE(value)
    elif value is None:
        data[0] = NULL
        size[0] = 0
    elif PyUnicode_Check(value):
        data[0] = <void *> PyUnicode_AsUTF8AndSize(value, &length)
        size[0] = length
    elif isinstance(value, (bytearray, memoryview)):
        view = PyMemoryView_FromObject(value)
        if not PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(view), c"C"):
            raise ValueError(f"{_place(what, index)} is a memoryview with gaps; pass a contiguous one, or bytes(view)")
        keep.append(view)
        size[0] = PyMemoryView_GET_BUFFER(view).len
        data[0] = PyMemoryView_GET_BUFFER(view).buf if size[0] else <void *> b""
    else:
        raise TypeError(
            f"{_place(what, index)} is {type(value).__name__}; it must be bytes, bytearray, memoryview, str or None")
    return 0

cdef str _place(str what, Py_ssize_t index):
    return what if index < 0 else f"{what}[{index}]"

cdef tuple _items(sequence, str what, Py_ssize_t expected):
    """The items as a tuple, which nobody can change while the GIL is released."""
    if isinstance(sequence, (str, bytes, bytearray, memoryview)) or isinstance(sequence, _Mapping):
        raise TypeError(f"{what} is one {type(sequence).__name__}; it must be a sequence with one entry a record")
    items = tuple(sequence)
    if expected >= 0 and len(items) != expected:
        raise ValueError(f"{what} has {len(items)} entries for {expected} values; it must have one a record")
    return items

cdef rdk.rd_kafka_headers_t *_headers(headers, Py_ssize_t index) except? NULL:
    """New headers, owned by the caller; NULL for none."""
    if not headers:
        return NULL
    cdef rdk.rd_kafka_headers_t *result
    cdef void *data = NULL
    cdef size_t size = 0
    cdef Py_ssize_t length = 0
    cdef const char *text
    cdef list keep = []
    pairs = list(headers.items() if isinstance(headers, _Mapping) else headers)
    result = rdk.rd_kafka_headers_new(len(pairs))
    try:
        for pair in pairs:
            name, value = pair
            if not isinstance(name, str):
                raise TypeError(f"{_place('headers', index)}: the name {name!r} must be a str")
            text = PyUnicode_AsUTF8AndSize(name, &length)
            _buffer(value, &data, &size, keep, f"headers {name!r}", index)
            _check(rdk.rd_kafka_header_add(result, text, length, data, size))
    except BaseException:
        rdk.rd_kafka_headers_destroy(result)
        raise
    return result

cdef rdk.rd_kafka_topic_partition_list_t *_partition_list(entries, bint offsets) except NULL:
    """A new list from ``(topic, partition[, offset[, leader epoch]])``, owned by the caller."""
    cdef rdk.rd_kafka_topic_partition_list_t *parts = rdk.rd_kafka_topic_partition_list_new(len(entries))
    cdef rdk.rd_kafka_topic_partition_t *part
    try:
        for entry in entries:
            topic = (<str?> entry[0]).encode()
            part = rdk.rd_kafka_topic_partition_list_add(parts, topic, entry[1])
            if offsets:
                part.offset = entry[2]
                if len(entry) > 3 and entry[3] >= 0:
                    rdk.rd_kafka_topic_partition_set_leader_epoch(part, entry[3])
    except BaseException:
        rdk.rd_kafka_topic_partition_list_destroy(parts)
        raise
    return parts

cdef dict _offsets(const rdk.rd_kafka_topic_partition_list_t *parts, bint none_if_negative):
    """``{(topic, partition): offset}``; raises the first partition's error."""
    cdef int i
    result = {}
    for i in range(parts.cnt):
        place = _text(parts.elems[i].topic), parts.elems[i].partition
        if parts.elems[i].err:
            raise kafka_error(parts.elems[i].err, f"{place[0]} [{place[1]}]: {_reason(parts.elems[i].err)}")
        offset = parts.elems[i].offset
        result[place] = None if none_if_negative and offset < 0 else offset
    return result

cdef str _reason(rdk.rd_kafka_resp_err_t err):
    return _text(rdk.rd_kafka_err2str(err))


# ---- client

cdef class Client:
    """A librdkafka handle: what producers and consumers share."""

    cdef Handle *_h                  # owned reference
    cdef int _generation
    cdef int _pid
    cdef object __weakref__

    def __init__(self):
        raise TypeError("Client is not made directly; make a Producer or a Consumer")

    cdef Handle *_open(self) except NULL:
        """The live handle. Raises ClosedError after close or fork, and what was fatal after a fatal error."""
        if self._h == NULL:
            raise ClosedError(f"this {type(self).__name__} was never opened")
        if self._generation != g_generation:
            raise ClosedError(
                f"this {type(self).__name__} belongs to process {self._pid}, which forked this one; make a new one here")
        if rdn_get(&self._h.stopping):
            raise ClosedError(f"this {type(self).__name__} is closed")
        if rdn_get(&self._h.fatal):
            raise kafka_error(<int> self._h.fatal, _text(self._h.fatal_reason), fatal=True)
        return self._h

    cdef int _start(self, rdk.rd_kafka_type_t kind, settings) except -1:
        if self._h != NULL:
            raise TypeError(f"this {type(self).__name__} is open already")
        cdef char errstr[512]
        cdef rdk.rd_kafka_conf_t *conf = NULL
        cdef Handle *h = <Handle *> calloc(1, sizeof(Handle))
        if h == NULL:
            raise MemoryError
        pthread_mutex_init(&h.lock, NULL)
        rdn_cond_init(&h.progress)
        h.refs = 1
        try:
            conf = _configuration(settings, h, kind)
            h.rk = rdk.rd_kafka_new(kind, conf, errstr, sizeof(errstr))
            if h.rk == NULL:
                raise ConfigError(_text(errstr))
            conf = NULL  # now librdkafka's
            h.events = rdk.rd_kafka_queue_get_main(h.rk)
            if kind == rdk.RD_KAFKA_CONSUMER:
                h.records = rdk.rd_kafka_queue_get_consumer(h.rk)
            _check(rdk.rd_kafka_set_log_queue(h.rk, h.events))
            h.refs = 2
            if rdn_thread_start(_serve, h):
                h.refs = 1
                raise RuntimeError("no thread could be started for a Kafka client; check the limit on processes (ulimit -u)")
        except BaseException:
            if conf != NULL:
                rdk.rd_kafka_conf_destroy(conf)
            if h.events != NULL:
                rdk.rd_kafka_queue_destroy(h.events)
            if h.records != NULL:
                rdk.rd_kafka_queue_destroy(h.records)
            if h.rk != NULL:
                rdk.rd_kafka_destroy_flags(h.rk, rdk.RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
            _unref(h)
            raise
        rdn_add(&g_handles, 1)
        self._h = h
        self._generation = g_generation
        self._pid = getpid()
        return 0

    def __dealloc__(self):
        if self._h == NULL or self._generation != g_generation:
            return  # a forked child owns no thread that could free it
        self._stop(GRACE_US)
        _unref(self._h)

    cdef void _stop(self, int64_t grace) noexcept:
        """Tell the service thread to end; it does so in its own time."""
        cdef Handle *h = self._h
        if rdn_get(&h.stopping):
            return
        rdn_add(&h.users, 1)  # the queue must outlive the wake-up
        h.grace = grace
        rdn_set(&h.stopping, 1)
        rdk.rd_kafka_queue_yield(h.events)
        rdn_add(&h.users, -1)

    def shut(self, timeout=1.0):
        """Release the handle at once; idempotent. Waits up to ``timeout`` seconds for librdkafka's threads to end."""
        cdef int64_t deadline = _deadline(timeout)
        cdef Handle *h = self._h
        cdef int64_t alive
        if h == NULL or self._generation != g_generation:
            return
        self._stop(0)
        while not rdn_get(&h.dead) and not rdn_get(&h.chunks) and rdn_now() < deadline:
            with nogil:
                alive = 1
                _wait_while_above(h, &alive, 0, deadline)
            PyErr_CheckSignals()

    @property
    def closed(self):
        return self._h == NULL or self._generation != g_generation or rdn_get(&self._h.stopping) != 0

    @property
    def name(self):
        return _text(rdk.rd_kafka_name(self._open().rk))

    def take_events(self):
        """Take the logs, errors and statistics since the last call; never blocks, works after close."""
        cdef Handle *h = self._h
        cdef Notice *notice
        cdef Notice *next_notice
        cdef int64_t dropped
        if h == NULL or self._generation != g_generation or not rdn_get(&h.notice_count):
            return []
        pthread_mutex_lock(&h.lock)
        notice = h.first_notice
        h.first_notice = h.last_notice = NULL
        rdn_add(&g_notices, -h.notice_count)
        h.notice_count = 0
        dropped = h.notices_dropped
        h.notices_dropped = 0
        pthread_mutex_unlock(&h.lock)
        events = []
        while notice != NULL:
            kind = ("log", "error", "stats")[notice.kind]
            events.append((kind, notice.code, _text(notice.first), _text(notice.second)))
            next_notice = notice.next
            _free_notice(notice)
            notice = next_notice
        if dropped:
            events.append(("dropped", dropped, "", ""))
        return events

    cdef Job *_job(self, JobKind kind, double timeout) except NULL:
        """A job to fill in and run."""
        self._open()
        cdef Job *job = <Job *> calloc(1, sizeof(Job))
        if job == NULL:
            raise MemoryError
        job.h = self._h
        job.kind = kind
        job.refs = 1
        job.milliseconds = max(1, <int> min(timeout * 1000, 2e9))
        return job

    cdef int _run(self, Job *job) except -1:
        """Run a job and wait for it; the caller still releases it. Raises what librdkafka answered."""
        cdef Handle *h = self._open()
        job.refs += 1
        job.running = 1
        rdn_add(&h.refs, 1)
        rdn_add(&h.users, 1)
        if rdn_thread_start(_run_job, job):
            job.refs -= 1
            rdn_add(&h.users, -1)
            _unref(h)
            raise RuntimeError("no thread could be started for a Kafka request; check the limit on processes (ulimit -u)")
        while rdn_get(&job.running):
            with nogil:
                _wait_while_above(h, &job.running, 0, INT64_MAX)
            PyErr_CheckSignals()
            if rdn_get(&h.stopping):
                self._open()
        return _check(job.err)

    def metadata(self, topic=None, timeout=5.0):
        """Ask the cluster for its brokers, topics and leaders."""
        cdef Job *job = self._job(JOB_METADATA, timeout)
        cdef const rdk.rd_kafka_metadata_t *md
        cdef int i, j
        try:
            job.all_topics = topic is None
            if topic is not None:
                job.topic = strdup(topic.encode())
            self._run(job)
            md = job.metadata
            brokers = [(md.brokers[i].id, _text(md.brokers[i].host), md.brokers[i].port) for i in range(md.broker_cnt)]
            topics, errors = {}, {}
            for i in range(md.topic_cnt):
                name = _text(md.topics[i].topic)
                if md.topics[i].err:
                    errors[name] = <int> md.topics[i].err
                else:
                    topics[name] = {
                        md.topics[i].partitions[j].id: md.topics[i].partitions[j].leader
                        for j in range(md.topics[i].partition_cnt)
                    }
            return {"brokers": brokers, "topics": topics, "errors": errors}
        finally:
            _release_job(job)

    def cluster_reachable(self, timeout):
        """One metadata request without topics; false when there was no answer in time."""
        cdef Job *job = self._job(JOB_METADATA, timeout)
        try:
            self._run(job)
        except KafkaError as error:
            if error.code not in (rdk.RD_KAFKA_RESP_ERR__TRANSPORT, rdk.RD_KAFKA_RESP_ERR__TIMED_OUT):
                raise
            return False
        finally:
            _release_job(job)
        return True

    def create_topics(self, topics, timeout=10.0):
        """Create ``(name, partitions, replication, config)``; one answer each."""
        return _administer(self, [tuple(topic) for topic in topics], True, timeout)

    def delete_topics(self, topics, timeout=10.0):
        """Delete topics by name; one answer each."""
        return _administer(self, [(topic,) for topic in topics], False, timeout)


cdef rdk.rd_kafka_conf_t *_configuration(settings, Handle *h, rdk.rd_kafka_type_t kind) except NULL:
    cdef char errstr[512]
    cdef rdk.rd_kafka_conf_t *conf = rdk.rd_kafka_conf_new()
    cdef int events = (rdk.RD_KAFKA_EVENT_LOG | rdk.RD_KAFKA_EVENT_ERROR | rdk.RD_KAFKA_EVENT_STATS
                       | rdk.RD_KAFKA_EVENT_OFFSET_COMMIT)
    owned = {"log.queue": "true"}
    if kind == rdk.RD_KAFKA_PRODUCER:
        events |= rdk.RD_KAFKA_EVENT_DR
        # 0, or librdkafka's own stickiness takes keyless records away from our partitioner
        owned["sticky.partitioning.linger.ms"] = "0"
    try:
        for name, value in {**settings, **owned}.items():
            if rdk.rd_kafka_conf_set(conf, name.encode(), value.encode(), errstr, sizeof(errstr)) != rdk.RD_KAFKA_CONF_OK:
                raise ConfigError(_text(errstr))
    except BaseException:
        rdk.rd_kafka_conf_destroy(conf)
        raise
    rdk.rd_kafka_conf_set_events(conf, events)
    rdk.rd_kafka_conf_set_opaque(conf, h)
    if kind == rdk.RD_KAFKA_CONSUMER:
        rdk.rd_kafka_conf_set_rebalance_cb(conf, _on_rebalance)
    return conf


cdef list _administer(Client client, list topics, bint create, timeout):
    """One CreateTopics or DeleteTopics request; None or a KafkaError for each topic."""
    cdef Handle *h = client._open()
    cdef int64_t deadline = _deadline(timeout)
    cdef char errstr[512]
    cdef size_t i = 0, n = len(topics), count = 0
    cdef rdk.rd_kafka_queue_t *queue = NULL
    cdef rdk.rd_kafka_AdminOptions_t *options = NULL
    cdef rdk.rd_kafka_event_t *event = NULL
    cdef const rdk.rd_kafka_topic_result_t **results
    cdef void **requests = <void **> calloc(n + 1, sizeof(void *))
    rdn_add(&h.users, 1)
    try:
        for entry in topics:
            name = entry[0].encode()
            if create:
                requests[i] = rdk.rd_kafka_NewTopic_new(name, entry[1], entry[2], errstr, sizeof(errstr))
                if requests[i] == NULL:
                    raise ConfigError(f"topic {entry[0]!r}: {_text(errstr)}")
                i += 1
                for key, value in entry[3].items():
                    _check(rdk.rd_kafka_NewTopic_set_config(
                        <rdk.rd_kafka_NewTopic_t *> requests[i - 1], key.encode(), str(value).encode()))
            else:
                requests[i] = rdk.rd_kafka_DeleteTopic_new(name)
                i += 1
        queue = rdk.rd_kafka_queue_new(h.rk)
        options = rdk.rd_kafka_AdminOptions_new(
            h.rk, rdk.RD_KAFKA_ADMIN_OP_CREATETOPICS if create else rdk.RD_KAFKA_ADMIN_OP_DELETETOPICS)
        _check(rdk.rd_kafka_AdminOptions_set_request_timeout(
            options, _milliseconds(deadline, 3_600_000_000), errstr, sizeof(errstr)))
        _check(rdk.rd_kafka_AdminOptions_set_operation_timeout(
            options, _milliseconds(deadline, 3_600_000_000), errstr, sizeof(errstr)))
        if create:
            rdk.rd_kafka_CreateTopics(h.rk, <rdk.rd_kafka_NewTopic_t **> requests, n, options, queue)
        else:
            rdk.rd_kafka_DeleteTopics(h.rk, <rdk.rd_kafka_DeleteTopic_t **> requests, n, options, queue)
        event = _await_event(client, queue, INT64_MAX)
        _check_answer(event)
        if create:
            results = rdk.rd_kafka_CreateTopics_result_topics(rdk.rd_kafka_event_CreateTopics_result(event), &count)
        else:
            results = rdk.rd_kafka_DeleteTopics_result_topics(rdk.rd_kafka_event_DeleteTopics_result(event), &count)
        return [
            kafka_error(rdk.rd_kafka_topic_result_error(results[i]), _text(rdk.rd_kafka_topic_result_error_string(results[i])))
            if rdk.rd_kafka_topic_result_error(results[i]) else None
            for i in range(count)
        ]
    finally:
        for i in range(n):
            if requests[i] != NULL and create:
                rdk.rd_kafka_NewTopic_destroy(<rdk.rd_kafka_NewTopic_t *> requests[i])
            elif requests[i] != NULL:
                rdk.rd_kafka_DeleteTopic_destroy(<rdk.rd_kafka_DeleteTopic_t *> requests[i])
        free(requests)
        if event != NULL:
            rdk.rd_kafka_event_destroy(event)
        if options != NULL:
            rdk.rd_kafka_AdminOptions_destroy(options)
        if queue != NULL:
            rdk.rd_kafka_queue_destroy(queue)
        rdn_add(&h.users, -1)

cdef rdk.rd_kafka_event_t *_await_event(Client client, rdk.rd_kafka_queue_t *queue, int64_t deadline) except? NULL:
    """The next event of a queue, owned by the caller; NULL at the deadline."""
    cdef rdk.rd_kafka_event_t *event = NULL
    cdef Handle *h = client._h
    while event == NULL:
        with nogil:
            event = rdk.rd_kafka_queue_poll(queue, _milliseconds(deadline, SLICE_US))
        if event == NULL:
            PyErr_CheckSignals()
            if rdn_get(&h.stopping):
                client._open()
            if rdn_now() >= deadline:
                break
    return event

cdef int _check_answer(rdk.rd_kafka_event_t *event) except -1:
    if rdk.rd_kafka_event_error(event):
        raise kafka_error(rdk.rd_kafka_event_error(event), _text(rdk.rd_kafka_event_error_string(event)))
    return 0


# ---- partition choice

cdef uint32_t _murmur2(const uint8_t *data, size_t size) noexcept nogil:
    """MurmurHash2 with Kafka's seed, as ``org.apache.kafka.common.utils.Utils.murmur2``."""
    cdef uint32_t m = <uint32_t> 0x5bd1e995, h = <uint32_t> 0x9747b28c, k
    cdef size_t i = 0
    h ^= <uint32_t> size
    while size - i >= 4:
        k = data[i] | (<uint32_t> data[i + 1] << 8) | (<uint32_t> data[i + 2] << 16) | (<uint32_t> data[i + 3] << 24)
        k *= m
        k ^= k >> 24
        k *= m
        h *= m
        h ^= k
        i += 4
    if size - i == 3:
        h ^= <uint32_t> data[i + 2] << 16
    if size - i >= 2:
        h ^= <uint32_t> data[i + 1] << 8
    if size - i >= 1:
        h ^= data[i]
        h *= m
    h ^= h >> 13
    h *= m
    h ^= h >> 15
    return h

cdef inline int32_t _keyed(const void *key, size_t size, int32_t partitions) noexcept nogil:
    return <int32_t> (_murmur2(<const uint8_t *> key, size) & 0x7fffffff) % partitions

cdef int32_t _keyless(TopicState *t, int64_t size) noexcept nogil:
    """The sticky partition for this many bytes, under the topic's lock; moves on to the next that has a leader."""
    cdef int64_t now = rdn_now()
    cdef int32_t i, candidate
    if t.sticky_bytes <= 0 or now - t.sticky_since > STICKY_US or t.sticky >= t.partitions or not t.available[t.sticky]:
        for i in range(1, t.partitions + 1):
            candidate = (t.sticky + i) % t.partitions
            if t.available[candidate]:
                break
        else:
            candidate = (t.sticky + 1) % t.partitions
        t.sticky = candidate
        t.sticky_bytes = STICKY_BYTES
        t.sticky_since = now
    t.sticky_bytes -= size
    return t.sticky

cdef int32_t _partitioner(
    const rdk.rd_kafka_topic_t *rkt, const void *key, size_t size, int32_t partitions, void *opaque, void *record
) noexcept nogil:
    """Called by librdkafka for records without a partition, the only place where leaders may be asked for."""
    cdef TopicState *t = <TopicState *> opaque
    cdef int32_t i, chosen
    cdef uint8_t *grown
    pthread_mutex_lock(&t.lock)
    if t.partitions != partitions or rdn_now() - t.refreshed > TOPIC_REFRESH_US:
        if partitions > t.capacity:
            grown = <uint8_t *> realloc(t.available, partitions)
            if grown == NULL:
                pthread_mutex_unlock(&t.lock)
                return 0
            t.available = grown
            t.capacity = partitions
        for i in range(partitions):
            t.available[i] = rdk.rd_kafka_topic_partition_available(rkt, i) != 0
        t.partitions = partitions
        t.refreshed = rdn_now()
    chosen = _keyed(key, size, partitions) if key != NULL else _keyless(t, 1024)
    pthread_mutex_unlock(&t.lock)
    return chosen

cdef bint _choose_partitions(TopicState *t, rdk.rd_kafka_message_t *msgs, int n) noexcept nogil:
    """Give each record its partition; true if there is more than one.

    While the topic is not known, all go to librdkafka without one; once a second the first does, which looks at the leaders again.
    """
    cdef int i, first = 0
    cdef int32_t sticky = -1
    cdef int64_t size = 0
    cdef bint mixed = False
    pthread_mutex_lock(&t.lock)
    if t.partitions == 0 or rdn_now() - t.refreshed > TOPIC_REFRESH_US:
        first = n if t.partitions == 0 else 1
        for i in range(first):
            msgs[i].partition = rdk.RD_KAFKA_PARTITION_UA
    for i in range(first, n):
        if msgs[i].key != NULL:
            msgs[i].partition = _keyed(msgs[i].key, msgs[i].key_len, t.partitions)
        else:
            if sticky < 0:
                sticky = _keyless(t, 0)
            msgs[i].partition = sticky
            size += msgs[i].len
        if msgs[i].partition != msgs[0].partition:
            mixed = True
    t.sticky_bytes -= size
    pthread_mutex_unlock(&t.lock)
    return mixed

cdef int _group_by_partition(rdk.rd_kafka_message_t *msgs, int n, int32_t partitions) noexcept nogil:
    """Sort records by partition, keeping the order within each; librdkafka takes a run of one partition fastest."""
    cdef rdk.rd_kafka_message_t *source = <rdk.rd_kafka_message_t *> malloc(n * sizeof(rdk.rd_kafka_message_t))
    cdef int *places = <int *> calloc(partitions + 2, sizeof(int))
    cdef int i, place
    if source != NULL and places != NULL:
        memcpy(source, msgs, n * sizeof(rdk.rd_kafka_message_t))
        for i in range(n):
            places[source[i].partition + 2] += 1  # -1, no partition, comes first
        for i in range(1, partitions + 2):
            places[i] += places[i - 1]
        for i in range(n):
            place = source[i].partition + 1
            msgs[places[place]] = source[i]
            places[place] += 1
    free(source)
    free(places)
    return 0


# ---- producing

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

    def done(self):
        """Whether every outcome is known."""
        return rdn_get(&self._t.pending) == 0 or rdn_get(&self._producer._h.dead) != 0

    def wait(self, timeout=None):
        """Wait until every outcome is known; false at the timeout."""
        cdef int64_t deadline = _deadline(timeout)
        cdef Handle *h = self._producer._h
        while not self.done():
            if self._producer._generation != g_generation:
                self._producer._open()
            if rdn_now() >= deadline:
                return False
            with nogil:
                _wait_while_above(h, &self._t.pending, 0, deadline)
            PyErr_CheckSignals()
        return True

    def result(self, timeout=None):
        """Wait until every outcome is known and report them. Raises Timeout naming how many are still unknown."""
        if not self.wait(timeout):
            raise kafka_error(
                rdk.RD_KAFKA_RESP_ERR__TIMED_OUT,
                f"the outcome of {rdn_get(&self._t.pending)} of {self._t.total} records is not known after {timeout} s; "
                "call result again, or look at the broker")
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
                        error = errors[code] = kafka_error(code)
                    failures.append(Failure(i, error, Outcome(t.slots[i].outcome)))
        return BatchReport(t.total, t.total - len(failures), failures)


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
        cdef rdk.rd_kafka_topic_conf_t *conf
        cdef TopicState *t
        if not isinstance(topic, str):
            raise TypeError(f"topic is {type(topic).__name__}; it must be a str")
        self.check_topic(topic)
        name = topic.encode()
        t = <TopicState *> calloc(1, sizeof(TopicState))
        if t == NULL:
            raise MemoryError
        pthread_mutex_init(&t.lock, NULL)
        t.sticky = <int32_t> (rdn_now() % 1009)  # so that many producers do not begin with the same partition
        conf = rdk.rd_kafka_default_topic_conf_dup(h.rk)
        rdk.rd_kafka_topic_conf_set_opaque(conf, t)
        rdk.rd_kafka_topic_conf_set_partitioner_cb(conf, _partitioner)
        t.rkt = rdk.rd_kafka_topic_new(h.rk, name, conf)
        if t.rkt == NULL:
            pthread_mutex_destroy(&t.lock)
            free(t)
            raise kafka_error(rdk.rd_kafka_last_error(), f"topic {topic!r} cannot be used: "
                              f"{_reason(rdk.rd_kafka_last_error())}")
        t.next = h.topics
        h.topics = t
        result.state = t
        self._topics[topic] = result
        return result

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
        delivery = Delivery._new(self, 1)
        msg._private = &delivery._t.slots[0]
        if headers is not None:
            record_headers = _headers(headers, -1)
        _choose_partitions(t, &msg, 1)
        self._submit(t, &msg, 1, &record_headers if record_headers != NULL else NULL, delivery, timeout, False)
        if delivery._t.failed and delivery._t.slots[0].outcome == NOT_PERSISTED:
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
        delivery = Delivery._new(self, n)
        if n == 0:
            return delivery
        msgs = <rdk.rd_kafka_message_t *> calloc(n, sizeof(rdk.rd_kafka_message_t))
        if msgs == NULL:
            raise MemoryError
        try:
            for i in range(n):
                _buffer(records[i], &msgs[i].payload, &msgs[i].len, keep, "values", i)
                msgs[i]._private = &delivery._t.slots[i]
            if record_keys is not None:
                for i in range(n):
                    _buffer(record_keys[i], &msgs[i].key, &msgs[i].key_len, keep, "keys", i)
            if headers is not None:
                record_headers = _batch_headers(headers, n)
            if _choose_partitions(t, msgs, <int> n) and record_headers == NULL:
                _group_by_partition(msgs, <int> n, t.partitions)
            self._submit(t, msgs, <int> n, record_headers, delivery, timeout, True)
        except BaseException:
            if delivery._t.pending == n:  # nothing was enqueued: no report will come
                delivery._t.refs -= 1
                delivery._t.pending = 0
            raise
        finally:
            _free_headers(record_headers, n)
            free(msgs)
        return delivery

    cdef int _submit(self, TopicState *t, rdk.rd_kafka_message_t *msgs, int n, rdk.rd_kafka_headers_t **headers,
                     Delivery delivery, timeout, bint release) except -1:
        """Enqueue records that have their partitions; wait for room in the queue until the deadline."""
        cdef Handle *h = self._h
        cdef int64_t deadline = -1, seen
        cdef int done = 0
        rdn_add(&h.in_flight, n)
        if release:
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
                deadline = _deadline(self._queue_timeout if timeout is None else timeout)
            while done < n:
                seen = rdn_get(&h.in_flight)
                if rdn_now() >= deadline:
                    break
                with nogil:
                    _wait_while_above(h, &h.in_flight, seen - 1, deadline)
                    done = _produce(h, t, msgs, headers, done, n)
                PyErr_CheckSignals()
                if rdn_get(&h.stopping):
                    self._open()
        finally:
            if done < n:
                enqueued = _refuse(h, delivery._t, msgs, done, n)
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
                if rdn_now() >= deadline:
                    break
                if rdn_get(&h.stopping):
                    self._open()
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
                _fail(h, <Slot *> msgs[i]._private, msgs[i].err)
            i += 1
        if i < end:  # the topic was made again with fewer partitions: let librdkafka choose, which looks again
            t.partitions = 0
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

cdef void _fail(Handle *h, Slot *slot, int err) noexcept nogil:
    """A record that librdkafka did not take: certainly not on the log."""
    slot.err = <int16_t> err
    slot.outcome = NOT_PERSISTED
    _settled(_tracker_of(slot), 1, 1)
    rdn_add(&h.in_flight, -1)

cdef tuple _refuse(Handle *h, Tracker *t, rdk.rd_kafka_message_t *msgs, int start, int n):
    """Settle what found no room; returns the indexes of what did."""
    cdef set refused = set()
    cdef int i
    for i in range(start, n):
        refused.add((<Slot *> msgs[i]._private).index)
        _fail(h, <Slot *> msgs[i]._private, rdk.RD_KAFKA_RESP_ERR__QUEUE_FULL)
    return tuple([i for i in range(n) if i not in refused])

cdef rdk.rd_kafka_headers_t **_batch_headers(headers, Py_ssize_t n) except NULL:
    """One pointer a record, owned by the caller; a mapping goes to every record."""
    cdef rdk.rd_kafka_headers_t **result = <rdk.rd_kafka_headers_t **> calloc(n, sizeof(rdk.rd_kafka_headers_t *))
    cdef Py_ssize_t i
    if result == NULL:
        raise MemoryError
    try:
        if isinstance(headers, _Mapping):
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


# ---- consuming

@cython.final
cdef class _Chunk:
    """The records of one poll, in C. Batch, records and views share it; the last one frees them."""

    cdef rdk.rd_kafka_message_t **msgs  # owned
    cdef Py_ssize_t count
    cdef Handle *h                   # counted in its chunks
    cdef int generation
    cdef object consumer             # keeps h alive

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.msgs == NULL or self.generation != g_generation:
            return
        for i in range(self.count):
            rdk.rd_kafka_message_destroy(self.msgs[i])
        free(self.msgs)
        rdn_add(&self.h.chunks, -1)
        rdn_add(&g_chunks, -1)


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
                    count = rdk.rd_kafka_consume_batch_queue(h.records, _milliseconds(deadline, SLICE_US), msgs, 1)
                    if count == 1 and max_records > 1:
                        count += rdk.rd_kafka_consume_batch_queue(h.records, 0, msgs + 1, max_records - 1)
                count = self._sift(msgs, count)
                if count > 0:
                    batch._chunk = self._chunk(msgs, count)
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
        cdef Py_ssize_t i, kept = 0
        for i in range(count):
            if not msgs[i].err:
                msgs[kept] = msgs[i]
                kept += 1
                continue
            if msgs[i].err != rdk.RD_KAFKA_RESP_ERR__PARTITION_EOF:
                place = "" if msgs[i].rkt == NULL else f"{_text(rdk.rd_kafka_topic_name(msgs[i].rkt))} [{msgs[i].partition}]: "
                self._errors.append(kafka_error(msgs[i].err, place + _text(rdk.rd_kafka_message_errstr(msgs[i]))))
            rdk.rd_kafka_message_destroy(msgs[i])
        return kept

    cdef _Chunk _chunk(self, rdk.rd_kafka_message_t **msgs, Py_ssize_t count):
        cdef _Chunk chunk = _Chunk.__new__(_Chunk)
        chunk.msgs = msgs
        chunk.count = count
        chunk.h = self._h
        chunk.generation = self._generation
        chunk.consumer = self
        rdn_add(&self._h.chunks, 1)
        rdn_add(&g_chunks, 1)
        return chunk

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
        try:
            partitions = [
                (_text(rebalance.partitions.elems[i].topic), rebalance.partitions.elems[i].partition)
                for i in range(rebalance.partitions.cnt)
            ]
            return ("assign", "revoke", "lost")[rebalance.kind], partitions, bool(_incremental(h.rk))
        finally:
            rdk.rd_kafka_topic_partition_list_destroy(rebalance.partitions)
            free(rebalance)

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
                if not incremental:
                    err = rdk.rd_kafka_assign(h.rk, parts if assign else NULL)
                elif assign:
                    error = rdk.rd_kafka_incremental_assign(h.rk, parts)
                else:
                    error = rdk.rd_kafka_incremental_unassign(h.rk, parts)
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

    def commit(self, positions, timeout=None, bint wait=True):
        """Commit exactly these positions. Without ``wait`` it only sends; a refusal then arrives as an event."""
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

    def positions(self, partitions):
        """The offset after the last record that poll returned; None where there was none."""
        return self._act(_partition_list(partitions, False), rdk.rd_kafka_position)

    def pause(self, partitions):
        """Fetch no more of these partitions until :meth:`resume`; what was fetched already is dropped and fetched again."""
        self._act(_partition_list(partitions, False), rdk.rd_kafka_pause_partitions)

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
        cdef int64_t deadline = _deadline(timeout)
        cdef rdk.rd_kafka_message_t *msg
        cdef Handle *h = self._h
        if rdn_get(&h.fatal):
            return True
        h = self._open()
        rdn_add(&h.users, 1)
        try:
            if h.leaving == NULL and not _begin_leaving(h):
                return True
            while not rdk.rd_kafka_consumer_closed(h.rk):
                if rdn_get(&h.rebalances) or rdn_now() >= deadline:
                    return False
                with nogil:
                    if rdk.rd_kafka_consume_batch_queue(h.leaving, _milliseconds(deadline, SLICE_US), &msg, 1) == 1:
                        rdk.rd_kafka_message_destroy(msg)
                PyErr_CheckSignals()
            return True
        finally:
            rdn_add(&h.users, -1)


# ---- the in-process cluster

cdef class MockCluster:
    """librdkafka's in-process Kafka: keeps at most 5 MiB or 100,000 records a partition."""

    cdef rdk.rd_kafka_t *_rk         # owned; hosts the cluster
    cdef rdk.rd_kafka_mock_cluster_t *_cluster  # owned
    cdef int _generation

    def __init__(self, int brokers=1):
        cdef char errstr[512]
        cdef rdk.rd_kafka_conf_t *conf
        if self._rk != NULL:
            raise TypeError("this MockCluster is open already")
        conf = rdk.rd_kafka_conf_new()
        rdk.rd_kafka_conf_set(conf, "log_level", "2", errstr, sizeof(errstr))  # its brokers' debug talk is nobody's business
        self._rk = rdk.rd_kafka_new(rdk.RD_KAFKA_PRODUCER, conf, errstr, sizeof(errstr))
        if self._rk == NULL:
            rdk.rd_kafka_conf_destroy(conf)
            raise ConfigError(_text(errstr))
        self._generation = g_generation
        self._cluster = rdk.rd_kafka_mock_cluster_new(self._rk, brokers)
        if self._cluster == NULL:
            rdk.rd_kafka_destroy(self._rk)
            self._rk = NULL
            raise ConfigError(f"a mock cluster of {brokers} brokers could not be started")
        rdn_add(&g_mocks, 1)

    cdef rdk.rd_kafka_mock_cluster_t *_open(self) except NULL:
        if self._cluster == NULL or self._generation != g_generation:
            raise ClosedError("this MockCluster is closed, or belongs to the process that forked this one")
        return self._cluster

    @property
    def bootstrap_servers(self):
        return _text(rdk.rd_kafka_mock_cluster_bootstraps(self._open()))

    def create_topic(self, topic, int partitions=4, int replication=1):
        _check(rdk.rd_kafka_mock_topic_create(self._open(), topic.encode(), partitions, replication))

    def set_broker_up(self, int broker, bint up):
        if up:
            _check(rdk.rd_kafka_mock_broker_set_up(self._open(), broker))
        else:
            _check(rdk.rd_kafka_mock_broker_set_down(self._open(), broker))

    def set_broker_rtt(self, int broker, int milliseconds):
        _check(rdk.rd_kafka_mock_broker_set_rtt(self._open(), broker, milliseconds))

    def set_leader(self, topic, int partition, int broker):
        _check(rdk.rd_kafka_mock_partition_set_leader(self._open(), topic.encode(), partition, broker))

    def push_request_errors(self, int api_key, codes):
        cdef rdk.rd_kafka_resp_err_t err
        for code in codes:
            err = <rdk.rd_kafka_resp_err_t> <int> code
            rdk.rd_kafka_mock_push_request_errors_array(self._open(), api_key, 1, &err)

    def push_broker_request_errors(self, int broker, int api_key, codes):
        for code, milliseconds in codes:
            _check(rdk.rd_kafka_mock_broker_push_request_error_rtts(
                self._open(), broker, api_key, 1, <int> code, <int> milliseconds))

    def push_partition_errors(self, topic, int partition, int api_key, codes):
        for code in codes:
            _check(rdk.rd_kafka_mock_partition_push_request_errors(
                self._open(), topic.encode(), partition, api_key, 1, <int> code))

    def set_topic_error(self, topic, int code):
        rdk.rd_kafka_mock_topic_set_error(self._open(), topic.encode(), <rdk.rd_kafka_resp_err_t> code)

    def set_group_rebalance_delay(self, int milliseconds):
        rdk.rd_kafka_mock_group_initial_rebalance_delay_ms(self._open(), milliseconds)

    def close(self):
        """End the cluster; idempotent. In a forked child it only forgets it."""
        cdef rdk.rd_kafka_t *rk = self._rk
        cdef rdk.rd_kafka_mock_cluster_t *cluster = self._cluster
        self._rk = NULL
        self._cluster = NULL
        if cluster == NULL or self._generation != g_generation:
            return
        with nogil:
            rdk.rd_kafka_mock_cluster_destroy(cluster)
            rdk.rd_kafka_destroy(rk)
        rdn_add(&g_mocks, -1)

    def __dealloc__(self):
        if self._cluster != NULL and self._generation == g_generation:
            rdk.rd_kafka_mock_cluster_destroy(self._cluster)
            rdk.rd_kafka_destroy(self._rk)
            rdn_add(&g_mocks, -1)


# ---- module

def version():
    """The version of the librdkafka that is linked in."""
    return _text(rdk.rd_kafka_version_str())

def features():
    """What librdkafka was built with, as its property ``builtin.features`` says."""
    cdef char text[512]
    cdef size_t size = sizeof(text)
    cdef rdk.rd_kafka_conf_t *conf = rdk.rd_kafka_conf_new()
    try:
        if rdk.rd_kafka_conf_get(conf, "builtin.features", text, &size) != rdk.RD_KAFKA_CONF_OK:
            return ()
        return tuple(_text(text).split(","))
    finally:
        rdk.rd_kafka_conf_destroy(conf)

def murmur2(bytes key not None):
    """Kafka's hash of a key; the partition is ``(murmur2(key) & 0x7fffffff) % partitions``."""
    return _murmur2(<const uint8_t *> PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))

def live_handles():
    """How many native objects of each kind are alive: all zero when everything was closed and dropped."""
    return {
        "clients": rdn_get(&g_handles),
        "deliveries": rdn_get(&g_trackers),
        "batches": rdn_get(&g_chunks),
        "mock_clusters": rdn_get(&g_mocks),
    }

def wait_events(timeout):
    """Wait without the GIL until some client has events to take; false at the timeout."""
    cdef int64_t deadline = _deadline(timeout)
    cdef bint some
    with nogil:
        pthread_mutex_lock(&g_lock)
        while rdn_get(&g_notices) <= 0 and rdn_now() < deadline:
            rdn_cond_wait(&g_noticed, &g_lock, deadline)
        some = rdn_get(&g_notices) > 0
        pthread_mutex_unlock(&g_lock)
    return some
