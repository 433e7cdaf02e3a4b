"""The one way from librdkafka's errors to exceptions, and the one way to wait."""

cimport librdkafka as rdk
from libc.stdint cimport INT64_MAX, int64_t

from rdknotify.errors import AuthenticationError, AuthorizationError, KafkaError, QueueFull, Timeout


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
    "TOPIC_AUTHORIZATION_FAILED": AuthorizationError,
    "GROUP_AUTHORIZATION_FAILED": AuthorizationError,
    "CLUSTER_AUTHORIZATION_FAILED": AuthorizationError,
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": AuthorizationError,
}
cdef dict REMEDIES = {
    "TOPIC_AUTHORIZATION_FAILED":
        "allow this user WRITE on the topic to send to it, READ to receive from it, DESCRIBE_CONFIGS for settings (ACLs)",
    "GROUP_AUTHORIZATION_FAILED": "allow this user READ on the consumer group (ACLs)",
    "CLUSTER_AUTHORIZATION_FAILED":
        "allow this user WRITE on its topics, or IDEMPOTENT_WRITE on the cluster, to send; CREATE to create topics (ACLs)",
}

def kafka_error(int code, reason=None, *, bint fatal=False, kind=None):
    """The KafkaError, or the subclass a caller would branch on, for a ``rd_kafka_resp_err_t``."""
    cdef rdk.rd_kafka_resp_err_t err = <rdk.rd_kafka_resp_err_t> code
    name = _text(rdk.rd_kafka_err2name(err))
    text = reason or _reason(err)
    if name in REMEDIES:
        text = f"{text}: {REMEDIES[name]}"
    return (kind or KINDS.get(name, KafkaError))(
        code, name, text, fatal=fatal, retriable=name in RETRIABLE and not fatal)

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
