"""Which partition a record goes to: murmur2 of its key like the Java client, or sticky without one (KIP-480)."""

cimport librdkafka as rdk
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, strcmp


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

cdef int64_t _look_again(TopicState *t, bint complete) noexcept nogil:
    """When to take the next picture of the leaders."""
    cdef int64_t now = rdn_now()
    if complete:
        return now + TOPIC_REFRESH_US
    return now - 1 if now - t.known_since < TOPIC_FIRST_US else now + TOPIC_RETRY_US

cdef int32_t _partitioner(
    const rdk.rd_kafka_topic_t *rkt, const void *key, size_t size, int32_t partitions, void *opaque, void *record
) noexcept nogil:
    """Called by librdkafka for records without a partition, the only place where leaders may be asked for."""
    cdef TopicState *t = <TopicState *> opaque
    cdef int32_t i, chosen, leaders = 0
    cdef uint8_t *grown
    pthread_mutex_lock(&t.lock)
    if t.partitions != partitions or rdn_now() > t.look_again:
        if partitions > t.capacity:
            grown = <uint8_t *> realloc(t.available, partitions)
            if grown == NULL:
                pthread_mutex_unlock(&t.lock)
                return 0
            t.available = grown
            t.capacity = partitions
        for i in range(partitions):
            t.available[i] = rdk.rd_kafka_topic_partition_available(rkt, i) != 0
            leaders += t.available[i]
        if t.partitions == 0:
            t.known_since = rdn_now()
        t.partitions = partitions
        t.look_again = _look_again(t, leaders == partitions)
    # What waited for the topic goes to all partitions in turn: it leaves in one burst, and each has a member waiting.
    chosen = _keyed(key, size, partitions) if key != NULL else _keyless(t, STICKY_BYTES)
    pthread_mutex_unlock(&t.lock)
    return chosen

cdef TopicState *_topic_state(Handle *h, bytes name) except NULL:
    """The one of that topic, made if need be. Librdkafka keeps a topic as it was first told of it: so this comes first."""
    cdef rdk.rd_kafka_topic_conf_t *conf
    cdef TopicState *t = h.topics
    while t != NULL:
        if strcmp(t.name, name) == 0:
            return t
        t = t.next
    t = <TopicState *> calloc(1, sizeof(TopicState))
    if t == NULL:
        raise MemoryError
    pthread_mutex_init(&t.lock, NULL)
    t.name = strdup(name)
    t.sticky = <int32_t> (rdn_now() % 1009)  # so that many producers do not begin with the same partition
    conf = rdk.rd_kafka_default_topic_conf_dup(h.rk)
    rdk.rd_kafka_topic_conf_set_opaque(conf, t)
    rdk.rd_kafka_topic_conf_set_partitioner_cb(conf, _partitioner)
    t.rkt = rdk.rd_kafka_topic_new(h.rk, name, conf)
    if t.rkt == NULL:
        _free_topics(t)
        raise kafka_error(rdk.rd_kafka_last_error(), f"topic {_text(name)!r} cannot be used: "
                          f"{_reason(rdk.rd_kafka_last_error())}")
    t.next = h.topics
    h.topics = t
    return t

cdef bint _choose_partitions(TopicState *t, rdk.rd_kafka_message_t *msgs, int n) noexcept nogil:
    """Give each record its partition; true if there is more than one.

    While the topic is not known, all go to librdkafka without one; later one does now and then, to see the leaders again.
    """
    cdef int i, first = 0
    cdef int32_t sticky = -1
    cdef bint mixed = False
    pthread_mutex_lock(&t.lock)
    if t.partitions == 0 or rdn_now() > t.look_again:
        first = n if t.partitions == 0 else 1
        for i in range(first):
            msgs[i].partition = rdk.RD_KAFKA_PARTITION_UA
    for i in range(first, n):
        if msgs[i].key != NULL:
            msgs[i].partition = _keyed(msgs[i].key, msgs[i].key_len, t.partitions)
        else:
            if sticky < 0 or t.sticky_bytes <= 0:
                sticky = _keyless(t, 0)
            msgs[i].partition = sticky
            t.sticky_bytes -= msgs[i].len
        if msgs[i].partition != msgs[0].partition:
            mixed = True
    pthread_mutex_unlock(&t.lock)
    return mixed

cdef void _group_by_partition(rdk.rd_kafka_message_t *msgs, int n) noexcept nogil:
    """Sort records by partition, keeping the order within each; librdkafka takes a run of one partition fastest."""
    cdef rdk.rd_kafka_message_t *source = <rdk.rd_kafka_message_t *> malloc(n * sizeof(rdk.rd_kafka_message_t))
    cdef int32_t partitions = 0
    cdef int *places
    cdef int i, place
    for i in range(n):
        if msgs[i].partition >= partitions:
            partitions = msgs[i].partition + 1
    places = <int *> calloc(partitions + 2, sizeof(int))
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
