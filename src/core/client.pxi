"""The part of a handle that producers and consumers share: open, closed or forked; events; metadata; topics."""

cimport cython
cimport librdkafka as rdk
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strcmp
from posix.unistd cimport getpid

from rdknotify.errors import ClosedError, ConfigError, KafkaError


cdef class Client:
    """A librdkafka handle: what producers and consumers share."""

    cdef Handle *_h                  # owned reference
    cdef int _generation
    cdef int _pid
    cdef readonly str name
    cdef readonly Meter meter
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

    cdef int _start(self, rdk.rd_kafka_type_t kind, settings, bint share=False) except -1:
        if self._h != NULL:
            raise TypeError(f"this {type(self).__name__} is open already")
        cdef char errstr[512]
        cdef rdk.rd_kafka_conf_t *conf = NULL
        cdef Meter meter = Meter.__new__(Meter)
        cdef Handle *h = <Handle *> calloc(1, sizeof(Handle))
        if h == NULL:
            raise MemoryError
        pthread_mutex_init(&h.lock, NULL)
        rdn_cond_init(&h.progress)
        h.refs = 1
        try:
            conf = _configuration(settings, h, kind, share)
            if share:
                h.share = rdk.rd_kafka_share_consumer_new(conf, errstr, sizeof(errstr))
                h.rk = h.rk if h.share != NULL else NULL
            else:
                h.rk = rdk.rd_kafka_new(kind, conf, errstr, sizeof(errstr))
            if h.rk == NULL:
                raise ConfigError(_text(errstr))
            conf = NULL  # now librdkafka's
            h.events = rdk.rd_kafka_queue_get_main(h.rk)
            if kind == rdk.RD_KAFKA_CONSUMER and not share:
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
        meter._read_from(h)
        self.meter = meter
        self.name = _text(rdk.rd_kafka_name(h.rk))
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

    cdef Handle *_enter(self) except NULL:
        """Wait for a turn; :meth:`_exit` ends it."""
        cdef Handle *h = self._open()
        cdef bint mine = False
        rdn_add(&h.users, 1)
        try:
            while not mine:
                with nogil:
                    mine = _take_turn(h, INT64_MAX)
                if not mine:
                    PyErr_CheckSignals()
                    self._open()
        except BaseException:
            rdn_add(&h.users, -1)
            raise
        return h

    cdef void _exit(self, Handle *h) noexcept:
        _end_turn(h)
        rdn_add(&h.users, -1)

    @property
    def closed(self):
        return self._h == NULL or self._generation != g_generation or rdn_get(&self._h.stopping) != 0

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
        rdn_set(&h.notice_count, 0)
        dropped = h.notices_dropped
        h.notices_dropped = 0
        pthread_mutex_unlock(&h.lock)
        events = []
        while notice != NULL:
            kind = ("log", "error", "stats", "token")[notice.kind]
            events.append((kind, notice.code, _text(notice.first), _text(notice.second)))
            next_notice = notice.next
            _free_notice(notice)
            notice = next_notice
        if dropped:
            events.append(("dropped", dropped, "", ""))
        return events

    @property
    def accepted(self):
        """Whether the cluster has ever answered this client: then it was accepted as who it is."""
        cdef Handle *h = self._open()
        cdef char *cluster
        if not h.accepted:
            cluster = rdk.rd_kafka_clusterid(h.rk, 0)
            if cluster != NULL:
                rdk.rd_kafka_mem_free(h.rk, cluster)
                h.accepted = 1
        return h.accepted != 0

    def check_accepted(self):
        """Called now and then while a call waits; a subclass raises what the cluster has against us."""

    def last_trouble(self):
        """A subclass says what went wrong last, for the text of a timeout; empty: nothing."""
        return ""

    def set_credentials(self, username, password):
        """Authenticate with these from the next connection on."""
        cdef Handle *h = self._open()
        _check_error(rdk.rd_kafka_sasl_set_credentials(h.rk, username.encode(), password.encode()))

    def set_token(self, value, expires, principal, extensions):
        """Authenticate with this token until then (milliseconds since the epoch)."""
        cdef Handle *h = self._open()
        cdef char errstr[512]
        cdef size_t i = 0
        cdef list texts = [text.encode() for pair in extensions.items() for text in pair]
        cdef const char **pairs = <const char **> calloc(len(texts) + 1, sizeof(char *))
        if pairs == NULL:
            raise MemoryError
        try:
            for text in texts:
                pairs[i] = PyBytes_AS_STRING(text)
                i += 1
            err = rdk.rd_kafka_oauthbearer_set_token(
                h.rk, value.encode(), expires, principal.encode(), pairs, i, errstr, sizeof(errstr))
        finally:
            free(pairs)
        if err:
            raise kafka_error(err, _text(errstr))

    def set_token_failure(self, reason):
        """There is no new token; it is asked for again in ten seconds. The reason comes back as an error event."""
        cdef Handle *h = self._open()
        _check(rdk.rd_kafka_oauthbearer_set_token_failure(h.rk, reason.encode()))

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


cdef rdk.rd_kafka_conf_t *_configuration(settings, Handle *h, rdk.rd_kafka_type_t kind, bint share) except NULL:
    cdef char errstr[512]
    cdef rdk.rd_kafka_conf_t *conf = rdk.rd_kafka_conf_new()
    cdef int events = (rdk.RD_KAFKA_EVENT_LOG | rdk.RD_KAFKA_EVENT_ERROR | rdk.RD_KAFKA_EVENT_STATS
                       | rdk.RD_KAFKA_EVENT_OFFSET_COMMIT | rdk.RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH)
    owned = {"log.queue": "true"}
    if kind == rdk.RD_KAFKA_PRODUCER:
        events |= rdk.RD_KAFKA_EVENT_DR
        # 0, or librdkafka's own stickiness takes keyless records away from our partitioner
        owned["sticky.partitioning.linger.ms"] = "0"
    try:
        for name, value in {**settings, **owned}.items():
            if rdk.rd_kafka_conf_set(conf, name.encode(), value.encode(), errstr, sizeof(errstr)) != rdk.RD_KAFKA_CONF_OK:
                raise ConfigError(_text(errstr))
        # Where nothing is verified, nothing is to be told. A build without TLS refuses the callback, and needs none.
        if _has(conf, "enable.ssl.certificate.verification", "true"):
            rdk.rd_kafka_conf_set_ssl_cert_verify_cb(conf, _judge_certificate)
    except BaseException:
        rdk.rd_kafka_conf_destroy(conf)
        raise
    rdk.rd_kafka_conf_set_events(conf, events)
    rdk.rd_kafka_conf_set_opaque(conf, h)
    if share:
        rdk.rd_kafka_conf_set_log_cb(conf, _on_log)
        rdk.rd_kafka_conf_set_error_cb(conf, _on_error)
        rdk.rd_kafka_conf_set_stats_cb(conf, _on_stats)
        # Where librdkafka makes or gets its tokens by itself, the callback would be asked in its place, or is refused.
        if not _has(conf, "sasl.oauthbearer.method", "oidc") and not _has(
            conf, "enable.sasl.oauthbearer.unsecure.jwt", "true"
        ):
            rdk.rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf, _on_token)
        rdk.rd_kafka_conf_interceptor_add_on_new(conf, "rdknotify", _on_new, h)
    elif kind == rdk.RD_KAFKA_CONSUMER:
        rdk.rd_kafka_conf_set_rebalance_cb(conf, _on_rebalance)
    return conf


cdef bint _has(rdk.rd_kafka_conf_t *conf, const char *name, const char *value):
    """Whether a property that this build knows has that value."""
    cdef char got[16]
    cdef size_t size = sizeof(got)
    return rdk.rd_kafka_conf_get(conf, name, got, &size) == rdk.RD_KAFKA_CONF_OK and strcmp(got, value) == 0


@cython.final
cdef class _Request:
    """One administrator's request: :func:`_request` makes it, and dropping it frees what belongs to it."""

    cdef Client client               # keeps h alive
    cdef Handle *h                   # in which it counts as a user
    cdef int generation
    cdef rdk.rd_kafka_queue_t *queue  # owned
    cdef rdk.rd_kafka_AdminOptions_t *options  # owned
    cdef rdk.rd_kafka_event_t *event  # owned; the answer

    cdef rdk.rd_kafka_event_t *answer(self) except NULL:
        """Wait for the answer, which lives as long as the request. Raises what concerns all of it."""
        self.event = _await_event(self.client, self.queue, INT64_MAX)
        _check_answer(self.event)
        return self.event

    def __dealloc__(self):
        if self.h == NULL or self.generation != g_generation:
            return
        if self.event != NULL:
            rdk.rd_kafka_event_destroy(self.event)
        if self.options != NULL:
            rdk.rd_kafka_AdminOptions_destroy(self.options)
        rdk.rd_kafka_queue_destroy(self.queue)
        rdn_add(&self.h.users, -1)


cdef _Request _request(Client client, rdk.rd_kafka_admin_op_t kind, timeout):
    """A request to fill in and send; librdkafka answers it within the timeout, if only with that."""
    cdef int64_t deadline = _deadline(timeout)
    cdef Handle *h = client._open()
    cdef char errstr[512]
    cdef _Request request = _Request.__new__(_Request)
    cdef int milliseconds = _milliseconds(deadline, 3_600_000_000)
    request.client = client
    request.generation = g_generation
    request.queue = rdk.rd_kafka_queue_new(h.rk)
    request.options = rdk.rd_kafka_AdminOptions_new(h.rk, kind)
    rdn_add(&h.users, 1)
    request.h = h
    _check(rdk.rd_kafka_AdminOptions_set_request_timeout(request.options, milliseconds, errstr, sizeof(errstr)))
    if kind in (
        rdk.RD_KAFKA_ADMIN_OP_CREATETOPICS, rdk.RD_KAFKA_ADMIN_OP_DELETETOPICS, rdk.RD_KAFKA_ADMIN_OP_DELETERECORDS
    ):
        _check(rdk.rd_kafka_AdminOptions_set_operation_timeout(request.options, milliseconds, errstr, sizeof(errstr)))
    return request


cdef list _administer(Client client, list topics, bint create, timeout):
    """One CreateTopics or DeleteTopics request; None or a KafkaError for each topic."""
    cdef _Request request = _request(
        client, rdk.RD_KAFKA_ADMIN_OP_CREATETOPICS if create else rdk.RD_KAFKA_ADMIN_OP_DELETETOPICS, timeout)
    cdef char errstr[512]
    cdef size_t i = 0, n = len(topics), count = 0
    cdef const rdk.rd_kafka_topic_result_t **results
    cdef void **asked = <void **> calloc(n + 1, sizeof(void *))
    if asked == NULL:
        raise MemoryError
    try:
        for entry in topics:
            name = entry[0].encode()
            if create:
                asked[i] = rdk.rd_kafka_NewTopic_new(name, entry[1], entry[2], errstr, sizeof(errstr))
                if asked[i] == NULL:
                    raise ConfigError(f"topic {entry[0]!r}: {_text(errstr)}")
                i += 1
                for key, value in entry[3].items():
                    _check(rdk.rd_kafka_NewTopic_set_config(
                        <rdk.rd_kafka_NewTopic_t *> asked[i - 1], key.encode(), str(value).encode()))
            else:
                asked[i] = rdk.rd_kafka_DeleteTopic_new(name)
                i += 1
        if create:
            rdk.rd_kafka_CreateTopics(request.h.rk, <rdk.rd_kafka_NewTopic_t **> asked, n, request.options, request.queue)
            results = rdk.rd_kafka_CreateTopics_result_topics(
                rdk.rd_kafka_event_CreateTopics_result(request.answer()), &count)
        else:
            rdk.rd_kafka_DeleteTopics(
                request.h.rk, <rdk.rd_kafka_DeleteTopic_t **> asked, n, request.options, request.queue)
            results = rdk.rd_kafka_DeleteTopics_result_topics(
                rdk.rd_kafka_event_DeleteTopics_result(request.answer()), &count)
        answers = {
            _text(rdk.rd_kafka_topic_result_name(results[i])):
            kafka_error(rdk.rd_kafka_topic_result_error(results[i]),
                        _text(rdk.rd_kafka_topic_result_error_string(results[i])))
            if rdk.rd_kafka_topic_result_error(results[i]) else None
            for i in range(count)
        }
        unanswered = kafka_error(rdk.RD_KAFKA_RESP_ERR__BAD_MSG, "the broker's answer does not speak of this topic")
        return [answers.get(entry[0], unanswered) for entry in topics]
    finally:
        for i in range(n):
            if asked[i] != NULL and create:
                rdk.rd_kafka_NewTopic_destroy(<rdk.rd_kafka_NewTopic_t *> asked[i])
            elif asked[i] != NULL:
                rdk.rd_kafka_DeleteTopic_destroy(<rdk.rd_kafka_DeleteTopic_t *> asked[i])
        free(asked)

cdef int _describe_topics(_Request request, topics) except -1:
    cdef list encoded = _encoded(topics)
    cdef const char **names = _pointers(encoded)
    cdef rdk.rd_kafka_TopicCollection_t *asked = rdk.rd_kafka_TopicCollection_of_topic_names(names, len(encoded))
    free(names)
    rdk.rd_kafka_DescribeTopics(request.h.rk, asked, request.options, request.queue)
    rdk.rd_kafka_TopicCollection_destroy(asked)
    return 0

cdef str _topic_id(const rdk.rd_kafka_TopicDescription_t *topic):
    """The cluster's id of a topic; empty where there is none."""
    cdef const rdk.rd_kafka_Uuid_t *uuid = rdk.rd_kafka_TopicDescription_topic_id(topic)
    # 0 0 is what brokers before 2.8 tell, and librdkafka of a topic that is not there
    if not rdk.rd_kafka_Uuid_most_significant_bits(uuid) and not rdk.rd_kafka_Uuid_least_significant_bits(uuid):
        return ""
    return _text(rdk.rd_kafka_Uuid_base64str(uuid))

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
