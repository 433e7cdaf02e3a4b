"""The service thread of a handle: all of it runs without Python. Also the rebalance callback, which only takes notes."""

cimport librdkafka as rdk
from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.stdio cimport snprintf


cdef void _unref(Handle *h) noexcept nogil:
    cdef Notice *notice
    if rdn_add(&h.refs, -1):
        return
    while h.first_notice != NULL:
        notice = h.first_notice
        h.first_notice = notice.next
        _free_notice(notice)
    _free_topics(h.topics)
    pthread_mutex_destroy(&h.lock)
    pthread_cond_destroy(&h.progress)
    free(h)

cdef void _free_notice(Notice *notice) noexcept nogil:
    free(notice.first)
    free(notice.second)
    free(notice)

cdef void _notice(Handle *h, int kind, int code, const char *first, const char *second) noexcept nogil:
    """Keep something for the application to take; the newest is dropped when it does not come."""
    global g_notices
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
    rdn_add(&h.notice_count, 1)  # read without the lock, too
    pthread_mutex_unlock(&h.lock)
    pthread_mutex_lock(&g_lock)
    g_notices += 1
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
    cdef Tally tally
    _begin_tally(&tally)
    while True:
        msg = rdk.rd_kafka_event_message_next(event)
        if msg == NULL:
            break
        total += 1
        if msg.rkt != tally.rkt or msg.err != tally.err:
            _next_tally(&tally, msg)
        tally.count += 1
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
    _end_tally(&tally, h)
    if run:
        _settled(t, run, failed)
    # Destroying the event gives its records' room in the queue back: waiters for room must be told after it.
    rdk.rd_kafka_event_destroy(event)
    rdn_add(&h.in_flight, -total)
    _announce(h)

cdef void _latch_fatal(Handle *h) noexcept nogil:
    """Keep the fatal error, if there is one: every later call raises it."""
    cdef char reason[512]
    cdef rdk.rd_kafka_resp_err_t fatal = rdk.rd_kafka_fatal_error(h.rk, reason, sizeof(reason))
    if fatal and not rdn_get(&h.fatal):
        snprintf(h.fatal_reason, sizeof(h.fatal_reason), "%s", <char *> reason)
        rdn_set(&h.fatal, fatal)

cdef void _take_error(Handle *h, rdk.rd_kafka_event_t *event) noexcept nogil:
    cdef rdk.rd_kafka_resp_err_t code = rdk.rd_kafka_event_error(event)
    _latch_fatal(h)
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
    elif kind == rdk.RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH:
        _notice(h, NOTICE_TOKEN, 0, NULL, NULL)
    elif kind == rdk.RD_KAFKA_EVENT_OFFSET_COMMIT:
        if rdk.rd_kafka_event_error(event):
            _take_error(h, event)
    rdk.rd_kafka_event_destroy(event)
    return True

cdef void *_serve(void *arg) noexcept nogil:
    cdef Handle *h = <Handle *> arg
    while not rdn_get(&h.stopping):
        _serve_event(h, 500)
    if h.records != NULL or h.share != NULL:
        _leave_in_time(h)
    else:
        _deliver_or_purge(h)
    # Threads that were inside a call see `stopping` within a slice; polled records may live for as long as they like.
    while rdn_get(&h.users) or rdn_get(&h.chunks):
        _serve_event(h, 20)
        _serve_leaving(h, 0)
    while _serve_event(h, 0):
        pass
    _destroy(h)
    return NULL

cdef void _deliver_or_purge(Handle *h) noexcept nogil:
    """Deliver what is queued within the grace period; then give up the rest, until every record has its outcome."""
    cdef int64_t deadline = rdn_now() + h.grace
    if h.grace:
        rdk.rd_kafka_flush(h.rk, 0)  # no more lingering
    while rdn_get(&h.in_flight) and rdn_now() < deadline:
        _serve_event(h, 50)
    deadline = rdn_now() + GRACE_US
    while (rdn_get(&h.in_flight) or rdn_get(&h.users)) and rdn_now() < deadline:
        # Again each time: a sender that waited for room may have used what the first purge made.
        if rdn_get(&h.in_flight):
            rdk.rd_kafka_purge(h.rk, rdk.RD_KAFKA_PURGE_F_QUEUE | rdk.RD_KAFKA_PURGE_F_INFLIGHT)
        _serve_event(h, 50)

cdef bint _take_turn(Handle *h, int64_t deadline) noexcept nogil:
    """Wait, for one slice at most, to be the one thread inside the share API; false if that did not come."""
    if rdn_add(&h.turn, 1) == 1:
        return True
    rdn_add(&h.turn, -1)
    rdn_add(&h.queue, 1)
    _wait_while_above(h, &h.turn, 0, deadline)
    rdn_add(&h.queue, -1)
    return False

cdef void _end_turn(Handle *h) noexcept nogil:
    rdn_add(&h.turn, -1)
    _announce(h)

cdef void _leave_in_time(Handle *h) noexcept nogil:
    """Leave the group, in the background, while the brokers answer."""
    cdef int64_t deadline
    cdef Rebalance *rebalance
    while rdn_get(&h.users):
        _serve_event(h, 20)
    if h.leaving == NULL and not _begin_leaving(h):
        return
    if h.owed != NULL:
        _give_up(h.rk, h.owed)
        h.owed = NULL
    while h.first_rebalance != NULL:
        rebalance = h.first_rebalance
        h.first_rebalance = rebalance.next
        _give_up(h.rk, rebalance)
    deadline = rdn_now() + GRACE_US
    while not rdk.rd_kafka_consumer_closed(h.rk) and rdn_now() < deadline:
        _serve_leaving(h, 50)

cdef void _give_up(rdk.rd_kafka_t *rk, Rebalance *rebalance) noexcept nogil:
    """Answer a rebalance while leaving, for an application that does not; frees it.

    librdkafka never ends while one waits for its answer. But an assignment gets none now: it is followed by a revocation of
    the same partitions, and an answer that arrives when the group is gone already waits for ever.
    """
    if rebalance.kind != 0 and rebalance.incremental:
        rdk.rd_kafka_error_destroy(rdk.rd_kafka_incremental_unassign(rk, rebalance.partitions))
    elif rebalance.kind != 0:
        rdk.rd_kafka_assign(rk, NULL)
    _free_rebalance(rebalance)

cdef void _free_rebalance(Rebalance *rebalance) noexcept nogil:
    rdk.rd_kafka_topic_partition_list_destroy(rebalance.partitions)
    free(rebalance)

cdef void _destroy(Handle *h) noexcept nogil:
    cdef TopicState *topic = h.topics
    cdef Rebalance *rebalance
    while h.first_rebalance != NULL:
        rebalance = h.first_rebalance
        h.first_rebalance = rebalance.next
        _free_rebalance(rebalance)
    if h.owed != NULL:
        _free_rebalance(h.owed)
    while topic != NULL:
        rdk.rd_kafka_topic_destroy(topic.rkt)
        topic = topic.next
    if h.leaving != NULL:
        rdk.rd_kafka_queue_destroy(h.leaving)
    if h.records != NULL:
        rdk.rd_kafka_queue_destroy(h.records)
    rdk.rd_kafka_queue_destroy(h.events)
    rdk.rd_kafka_destroy_flags(h.rk, rdk.RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
    rdn_add(&g_handles, -1)  # first: who waited for the end may count at once
    rdn_set(&h.dead, 1)
    _announce(h)
    _unref(h)

cdef bint _begin_leaving(Handle *h) noexcept nogil:
    """Ask to leave the group; false when there is none to leave, or after a fatal error."""
    cdef rdk.rd_kafka_error_t *error
    h.leaving = rdk.rd_kafka_queue_new(h.rk)
    if h.share != NULL:
        error = rdk.rd_kafka_share_consumer_close_queue(h.share, h.leaving)
    else:
        error = rdk.rd_kafka_consumer_close_queue(h.rk, h.leaving)
    if error != NULL:
        rdk.rd_kafka_error_destroy(error)
        rdk.rd_kafka_queue_destroy(h.leaving)
        h.leaving = NULL
        return False
    return True

cdef void _serve_leaving(Handle *h, int milliseconds) noexcept nogil:
    """Let librdkafka go on leaving: rebalances are called back here, records that still arrive are dropped."""
    cdef rdk.rd_kafka_message_t *msg
    cdef rdk.rd_kafka_event_t *event
    if h.share != NULL:
        # What was fetched for a share consumer comes whole, which only a queue of events can drop.
        event = NULL if h.leaving == NULL else rdk.rd_kafka_queue_poll(h.leaving, milliseconds)
        if event != NULL:
            rdk.rd_kafka_event_destroy(event)
    elif h.leaving != NULL and rdk.rd_kafka_consume_batch_queue(h.leaving, milliseconds, &msg, 1) == 1:
        rdk.rd_kafka_message_destroy(msg)

cdef rdk.rd_kafka_resp_err_t _on_new(
    rdk.rd_kafka_t *rk, const rdk.rd_kafka_conf_t *conf, void *opaque, char *errstr, size_t size
) noexcept nogil:
    """The only way to learn which client a share consumer has: its requests and its queue of events are as any other's."""
    (<Handle *> opaque).rk = rk
    return rdk.RD_KAFKA_RESP_ERR_NO_ERROR

# A share consumer's calls serve the queue of events as well, and call these for what they find there.

cdef void _on_log(const rdk.rd_kafka_t *rk, int level, const char *facility, const char *text) noexcept nogil:
    if rk != NULL:
        _notice(<Handle *> rdk.rd_kafka_opaque(rk), NOTICE_LOG, level, facility, text)

cdef void _on_error(rdk.rd_kafka_t *rk, int code, const char *reason, void *opaque) noexcept nogil:
    _latch_fatal(<Handle *> opaque)
    _notice(<Handle *> opaque, NOTICE_ERROR, code, rdk.rd_kafka_err2name(<rdk.rd_kafka_resp_err_t> code), reason)

cdef void _on_token(rdk.rd_kafka_t *rk, const char *config, void *opaque) noexcept nogil:
    _notice(<Handle *> opaque, NOTICE_TOKEN, 0, NULL, NULL)

cdef int _on_stats(rdk.rd_kafka_t *rk, char *json, size_t size, void *opaque) noexcept nogil:
    _notice(<Handle *> opaque, NOTICE_STATS, 0, NULL, json)
    return 0

cdef void _on_rebalance(
    rdk.rd_kafka_t *rk, rdk.rd_kafka_resp_err_t err, rdk.rd_kafka_topic_partition_list_t *partitions, void *opaque
) noexcept nogil:
    """Runs in the polling thread, inside librdkafka. The answer is given later, by assign or unassign."""
    cdef Handle *h = <Handle *> opaque
    cdef const char *protocol = rdk.rd_kafka_rebalance_protocol(rk)
    cdef Rebalance *rebalance = <Rebalance *> calloc(1, sizeof(Rebalance))
    cdef Rebalance **tail
    if rebalance == NULL:  # the group finds out when the session ends
        return
    rebalance.incremental = protocol != NULL and protocol[0] == c"C"
    if err != rdk.RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS:
        rebalance.kind = 2 if rdk.rd_kafka_assignment_lost(rk) else 1
    if partitions != NULL:
        rebalance.partitions = rdk.rd_kafka_topic_partition_list_copy(partitions)
    else:
        rebalance.partitions = rdk.rd_kafka_topic_partition_list_new(0)
    if rdn_get(&h.stopping):
        _give_up(rk, rebalance)
        return
    pthread_mutex_lock(&h.lock)
    tail = &h.first_rebalance
    while tail[0] != NULL:
        tail = &tail[0].next
    tail[0] = rebalance
    pthread_mutex_unlock(&h.lock)
    rdn_add(&h.rebalances, 1)
    rdk.rd_kafka_queue_yield(h.leaving if h.leaving != NULL else h.records)

cdef int _judge_certificate(
    rdk.rd_kafka_t *rk, const char *broker, int32_t broker_id, int *error, int depth, const char *certificate, size_t size,
    char *reason, size_t reason_size, void *opaque
) noexcept nogil:
    """Runs in a broker's thread, once a certificate. OpenSSL has decided already; here is only said why, for the log."""
    if error[0] == 0:
        return 1
    snprintf(reason, reason_size, "%s", X509_verify_cert_error_string(error[0]))
    return 0
