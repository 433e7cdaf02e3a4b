"""What everything stands on: atomics, monotonic condition variables and the C structures, with who owns what."""

cimport librdkafka as rdk
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t


cdef extern from *:
    """
    #include <pthread.h>
    #include <signal.h>
    #include <stdint.h>
    #include <string.h>
    #include <time.h>
    #include "rdkafka.h"

    /* The stable ABI has these as functions only. */
    #ifdef Py_LIMITED_API
    #define PyBytes_AS_STRING PyBytes_AsString
    #define PyBytes_GET_SIZE PyBytes_Size
    #endif

    /* OpenSSL's. Without a header, and weak: a build without TLS has none, and verifies nothing. */
    extern const char *X509_verify_cert_error_string(long error) __attribute__((weak));

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
    const char *X509_verify_cert_error_string(long error) nogil
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
    TOPIC_REFRESH_US = 1_000_000     # how old the picture of a topic's partitions may be ...
    TOPIC_RETRY_US = 2_000           # ... and while one has no leader
    TOPIC_FIRST_US = 100_000         # for so long it is always too old: at first, leaders become known one by one
    STICKY_US = 50_000               # a keyless run stays on a partition this long ...
    STICKY_BYTES = 256 * 1024        # ... or for this many bytes (KIP-480, KIP-794)
    MAX_NOTICES = 1000               # logs, errors and statistics kept for the application to take
    BUCKETS = 20                     # of a histogram, at the most
    COURTESY_US = 10_000             # how long who polls again and again stands back for others
    GRACE_US = 5_000_000             # what a garbage-collected handle gets to deliver, or to leave its group
    NOTICE_LOG = 0
    NOTICE_ERROR = 1
    NOTICE_STATS = 2
    NOTICE_TOKEN = 3                 # a new OAuth token is wanted
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
    bint incremental                 # as the protocol was then: with the group gone it cannot be asked any more
    rdk.rd_kafka_topic_partition_list_t *partitions  # owned
    Rebalance *next

cdef struct Histogram:
    int64_t counts[BUCKETS]
    int64_t sum

cdef struct Failed:                  # how many of a topic's records failed for one reason
    int err
    int64_t count
    Failed *next

cdef struct TopicState:              # how one topic's records choose a partition, and what became of them
    char *name                       # owned
    int64_t sent                     # under the GIL
    int64_t delivered
    Failed *failed                   # owned; under lock
    rdk.rd_kafka_topic_t *rkt        # owned; gone when rk is
    pthread_mutex_t lock
    int32_t partitions               # 0: not known yet
    int32_t capacity
    uint8_t *available               # owned; one a partition: has a leader
    int64_t look_again               # when the picture is too old
    int64_t known_since              # the first picture
    int32_t sticky
    int64_t sticky_bytes             # what may still go to it
    int64_t sticky_since
    TopicState *next

cdef struct Handle:
    rdk.rd_kafka_t *rk               # owned; destroyed by the service thread
    rdk.rd_kafka_share_t *share      # a share consumer's other name, which ends with rk; else NULL
    int64_t turn                     # 1: a thread is inside librdkafka's share API, or polls or pauses, where one is allowed
    int64_t queue                    # how many wait for their turn
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
    int64_t accepted                 # the cluster has answered a question, so it takes us as who we are
    TopicState *topics               # owned; as their counts, until nobody reads them any more
    Histogram sizes                  # of what is sent or polled in one call
    Histogram latency                # of records that were delivered
    int64_t rebalances
    Rebalance *first_rebalance       # owned, as the ones after it: not taken yet
    Rebalance *owed                  # owned; taken, the answer is still to come

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
cdef int64_t g_notices = 0           # how many there ever were
cdef int64_t g_notices_seen = 0
cdef int64_t g_handles = 0
cdef int64_t g_trackers = 0
cdef int64_t g_chunks = 0
cdef int64_t g_mocks = 0

cdef void _init_globals() noexcept nogil:
    global g_notices, g_notices_seen, g_handles, g_trackers, g_chunks, g_mocks
    pthread_mutex_init(&g_lock, NULL)
    rdn_cond_init(&g_noticed)
    g_notices = g_notices_seen = g_handles = g_trackers = g_chunks = g_mocks = 0

cdef void _after_fork_in_child() noexcept nogil:
    global g_generation
    g_generation += 1
    _init_globals()

_init_globals()
pthread_atfork(NULL, NULL, _after_fork_in_child)
