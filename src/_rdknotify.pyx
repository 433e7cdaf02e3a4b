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

cimport librdkafka as rdk
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t

cdef extern from *:
    const char *RDKNOTIFY_PARTS  # by vendor/extension.py

__all__ = [
    "Admin", "Batch", "Client", "Consumer", "Delivery", "Meter", "MockCluster", "Producer", "Record",
    "ShareConsumer",
    "compose", "features", "kafka_error", "live_handles", "murmur2", "parts", "version", "wait_events",
]

# One module, because a static librdkafka allows only one; one part a subject. Each part uses only parts above it.
include "core/native.pxi"
include "core/errors.pxi"
include "core/counting.pxi"
include "core/service.pxi"
include "core/jobs.pxi"
include "core/convert.pxi"
include "core/envelope.pxi"
include "core/meter.pxi"
include "core/client.pxi"
include "core/partition.pxi"
include "core/producer.pxi"
include "core/consumer.pxi"
include "core/share.pxi"
include "core/admin.pxi"
include "core/mock.pxi"


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

def parts():
    """The C libraries built in and their versions; ``system`` for those that are linked dynamically."""
    return dict(part.split("=") for part in _text(RDKNOTIFY_PARTS).split())

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
    """Wait without the GIL until events arrived since the last call that returned true; false at the timeout."""
    global g_notices_seen
    cdef int64_t deadline = _deadline(timeout)
    cdef bint some
    with nogil:
        pthread_mutex_lock(&g_lock)
        while g_notices == g_notices_seen and rdn_now() < deadline:
            rdn_cond_wait(&g_noticed, &g_lock, deadline)
        some = g_notices != g_notices_seen
        g_notices_seen = g_notices
        pthread_mutex_unlock(&g_lock)
    return some
