"""Calls of librdkafka that wait and cannot be sliced run in a thread of their own, so that Ctrl-C is answered."""

cimport librdkafka as rdk
from libc.stdint cimport INT64_MAX, int32_t, int64_t
from libc.stdlib cimport free


cdef enum JobKind:
    JOB_METADATA
    JOB_COMMITTED
    JOB_WATERMARKS
    JOB_OFFSETS_FOR_TIMES
    JOB_SEEK
    JOB_ACKNOWLEDGE

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
    cdef rdk.rd_kafka_error_t *error = NULL
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
    elif job.kind == JOB_SEEK:
        error = rdk.rd_kafka_seek_partitions(h.rk, job.partitions, job.milliseconds)
    else:
        while not _take_turn(h, INT64_MAX):
            pass
        error = rdk.rd_kafka_share_commit_sync(h.share, job.milliseconds, &job.partitions)
        _end_turn(h)
    if error != NULL:
        job.err = rdk.rd_kafka_error_code(error)
        rdk.rd_kafka_error_destroy(error)
    rdn_set(&job.running, 0)
    _announce(h)
    _release_job(job)
    rdn_add(&h.users, -1)
    _unref(h)
    return NULL
