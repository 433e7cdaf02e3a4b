"""The part of librdkafka's C API that the core uses, in the order of its headers. Nothing else lives here.

Deliberately absent: the callback-style delivery hooks (we take events), the legacy simple consumer, ``rd_kafka_poll`` and
``rd_kafka_consumer_poll`` (queues instead), ``rd_kafka_message_produce_errstr`` (use after free in 2.15.1),
``rd_kafka_consumer_close`` (never returns while the brokers are silent), transactions; of share consumers the implicit
mode, the acknowledgement callback (``commit_sync`` answers), and their own destructor (the client's does).
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint16_t
from libc.stdio cimport FILE


cdef extern from "rdkafka.h" nogil:
    # ---- version and errors
    const char *rd_kafka_version_str()

    ctypedef enum rd_kafka_resp_err_t:
        RD_KAFKA_RESP_ERR_NO_ERROR
        RD_KAFKA_RESP_ERR__BAD_MSG
        RD_KAFKA_RESP_ERR__DESTROY
        RD_KAFKA_RESP_ERR__FAIL
        RD_KAFKA_RESP_ERR__IN_PROGRESS
        RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS
        RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS
        RD_KAFKA_RESP_ERR__STATE
        RD_KAFKA_RESP_ERR__FATAL
        RD_KAFKA_RESP_ERR__MSG_TIMED_OUT
        RD_KAFKA_RESP_ERR__NO_OFFSET
        RD_KAFKA_RESP_ERR__PARTITION_EOF
        RD_KAFKA_RESP_ERR__QUEUE_FULL
        RD_KAFKA_RESP_ERR__TIMED_OUT
        RD_KAFKA_RESP_ERR__TRANSPORT
        RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION

    ctypedef struct rd_kafka_error_t
    const char *rd_kafka_err2str(rd_kafka_resp_err_t err)
    const char *rd_kafka_err2name(rd_kafka_resp_err_t err)
    rd_kafka_resp_err_t rd_kafka_error_code(const rd_kafka_error_t *error)
    const char *rd_kafka_error_string(const rd_kafka_error_t *error)
    int rd_kafka_error_is_fatal(const rd_kafka_error_t *error)
    int rd_kafka_error_is_retriable(const rd_kafka_error_t *error)
    void rd_kafka_error_destroy(rd_kafka_error_t *error)

    # ---- handles and topic partition lists
    ctypedef struct rd_kafka_t
    ctypedef struct rd_kafka_share_t
    ctypedef struct rd_kafka_topic_t
    ctypedef struct rd_kafka_conf_t
    ctypedef struct rd_kafka_topic_conf_t
    ctypedef struct rd_kafka_queue_t
    ctypedef struct rd_kafka_event_t
    ctypedef struct rd_kafka_headers_t

    ctypedef struct rd_kafka_topic_partition_t:
        char *topic
        int32_t partition
        int64_t offset
        rd_kafka_resp_err_t err

    ctypedef struct rd_kafka_topic_partition_list_t:
        int cnt
        rd_kafka_topic_partition_t *elems

    void rd_kafka_topic_partition_set_leader_epoch(rd_kafka_topic_partition_t *part, int32_t leader_epoch)
    rd_kafka_topic_partition_list_t *rd_kafka_topic_partition_list_new(int size)
    void rd_kafka_topic_partition_list_destroy(rd_kafka_topic_partition_list_t *parts)
    rd_kafka_topic_partition_t *rd_kafka_topic_partition_list_add(
        rd_kafka_topic_partition_list_t *parts, const char *topic, int32_t partition)
    rd_kafka_topic_partition_list_t *rd_kafka_topic_partition_list_copy(const rd_kafka_topic_partition_list_t *src)

    # ---- producing with headers
    ctypedef enum rd_kafka_vtype_t:
        RD_KAFKA_VTYPE_RKT
        RD_KAFKA_VTYPE_PARTITION
        RD_KAFKA_VTYPE_VALUE
        RD_KAFKA_VTYPE_KEY
        RD_KAFKA_VTYPE_OPAQUE
        RD_KAFKA_VTYPE_MSGFLAGS
        RD_KAFKA_VTYPE_HEADERS

    ctypedef struct rd_kafka_vu_mem:
        void *ptr
        size_t size

    ctypedef union rd_kafka_vu_u:
        rd_kafka_topic_t *rkt
        int i
        int32_t i32
        rd_kafka_vu_mem mem
        rd_kafka_headers_t *headers
        void *ptr

    ctypedef struct rd_kafka_vu_t:
        rd_kafka_vtype_t vtype
        rd_kafka_vu_u u

    rd_kafka_headers_t *rd_kafka_headers_new(size_t initial_count)
    void rd_kafka_headers_destroy(rd_kafka_headers_t *hdrs)
    rd_kafka_headers_t *rd_kafka_headers_copy(const rd_kafka_headers_t *src)
    rd_kafka_resp_err_t rd_kafka_header_add(
        rd_kafka_headers_t *hdrs, const char *name, ssize_t name_size, const void *value, ssize_t value_size)
    rd_kafka_resp_err_t rd_kafka_header_get_all(
        const rd_kafka_headers_t *hdrs, size_t idx, const char **namep, const void **valuep, size_t *sizep)

    # ---- messages
    ctypedef struct rd_kafka_message_t:
        rd_kafka_resp_err_t err
        rd_kafka_topic_t *rkt
        int32_t partition
        void *payload
        size_t len
        void *key
        size_t key_len
        int64_t offset
        void *_private

    ctypedef enum rd_kafka_timestamp_type_t:
        RD_KAFKA_TIMESTAMP_NOT_AVAILABLE

    ctypedef enum rd_kafka_msg_status_t:
        RD_KAFKA_MSG_STATUS_NOT_PERSISTED
        RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED
        RD_KAFKA_MSG_STATUS_PERSISTED

    ctypedef struct rd_kafka_messages_t
    size_t rd_kafka_messages_count(const rd_kafka_messages_t *messages)
    rd_kafka_message_t *rd_kafka_messages_get(const rd_kafka_messages_t *messages, size_t index)
    void rd_kafka_messages_destroy(rd_kafka_messages_t *messages)
    void rd_kafka_message_destroy(rd_kafka_message_t *rkmessage)
    const char *rd_kafka_message_errstr(const rd_kafka_message_t *rkmessage)
    int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *rkmessage, rd_kafka_timestamp_type_t *tstype)
    rd_kafka_resp_err_t rd_kafka_message_headers(const rd_kafka_message_t *rkmessage, rd_kafka_headers_t **hdrsp)
    rd_kafka_msg_status_t rd_kafka_message_status(const rd_kafka_message_t *rkmessage)
    int64_t rd_kafka_message_latency(const rd_kafka_message_t *rkmessage)
    int32_t rd_kafka_message_leader_epoch(const rd_kafka_message_t *rkmessage)
    int16_t rd_kafka_message_delivery_count(const rd_kafka_message_t *rkmessage)

    # ---- configuration
    ctypedef enum rd_kafka_conf_res_t:
        RD_KAFKA_CONF_OK

    rd_kafka_conf_t *rd_kafka_conf_new()
    void rd_kafka_conf_destroy(rd_kafka_conf_t *conf)
    rd_kafka_conf_res_t rd_kafka_conf_set(
        rd_kafka_conf_t *conf, const char *name, const char *value, char *errstr, size_t errstr_size)
    rd_kafka_conf_res_t rd_kafka_conf_get(const rd_kafka_conf_t *conf, const char *name, char *dest, size_t *dest_size)
    void rd_kafka_conf_set_events(rd_kafka_conf_t *conf, int events)
    void rd_kafka_conf_set_rebalance_cb(
        rd_kafka_conf_t *conf,
        void (*rebalance_cb)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *, void *) noexcept)
    void rd_kafka_conf_set_error_cb(
        rd_kafka_conf_t *conf, void (*error_cb)(rd_kafka_t *, int, const char *, void *) noexcept)
    void rd_kafka_conf_set_log_cb(
        rd_kafka_conf_t *conf, void (*log_cb)(const rd_kafka_t *, int, const char *, const char *) noexcept)
    void rd_kafka_conf_set_stats_cb(
        rd_kafka_conf_t *conf, int (*stats_cb)(rd_kafka_t *, char *, size_t, void *) noexcept)
    void rd_kafka_conf_set_oauthbearer_token_refresh_cb(
        rd_kafka_conf_t *conf, void (*refresh_cb)(rd_kafka_t *, const char *, void *) noexcept)
    rd_kafka_conf_res_t rd_kafka_conf_set_ssl_cert_verify_cb(
        rd_kafka_conf_t *conf,
        int (*ssl_cert_verify_cb)(rd_kafka_t *, const char *, int32_t, int *, int, const char *, size_t,
                                  char *, size_t, void *) noexcept)
    void rd_kafka_conf_set_opaque(rd_kafka_conf_t *conf, void *opaque)
    void *rd_kafka_opaque(const rd_kafka_t *rk)
    rd_kafka_topic_conf_t *rd_kafka_default_topic_conf_dup(rd_kafka_t *rk)
    void rd_kafka_topic_conf_set_opaque(rd_kafka_topic_conf_t *conf, void *rkt_opaque)
    void rd_kafka_topic_conf_set_partitioner_cb(
        rd_kafka_topic_conf_t *topic_conf,
        int32_t (*partitioner)(const rd_kafka_topic_t *, const void *, size_t, int32_t, void *, void *) noexcept)
    int rd_kafka_topic_partition_available(const rd_kafka_topic_t *rkt, int32_t partition)

    # ---- client and topic handles
    ctypedef enum rd_kafka_type_t:
        RD_KAFKA_PRODUCER
        RD_KAFKA_CONSUMER

    rd_kafka_t *rd_kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *errstr, size_t errstr_size)
    void rd_kafka_destroy(rd_kafka_t *rk)
    int RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE
    void rd_kafka_destroy_flags(rd_kafka_t *rk, int flags)
    const char *rd_kafka_name(const rd_kafka_t *rk)
    char *rd_kafka_clusterid(rd_kafka_t *rk, int timeout_ms)
    void rd_kafka_mem_free(rd_kafka_t *rk, void *ptr)
    rd_kafka_topic_t *rd_kafka_topic_new(rd_kafka_t *rk, const char *topic, rd_kafka_topic_conf_t *conf)
    void rd_kafka_topic_destroy(rd_kafka_topic_t *rkt)
    const char *rd_kafka_topic_name(const rd_kafka_topic_t *rkt)
    void *rd_kafka_topic_opaque(const rd_kafka_topic_t *rkt)
    int RD_KAFKA_PARTITION_UA
    rd_kafka_resp_err_t rd_kafka_pause_partitions(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions)
    rd_kafka_resp_err_t rd_kafka_resume_partitions(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions)
    rd_kafka_resp_err_t rd_kafka_get_watermark_offsets(
        rd_kafka_t *rk, const char *topic, int32_t partition, int64_t *low, int64_t *high)
    rd_kafka_resp_err_t rd_kafka_query_watermark_offsets(
        rd_kafka_t *rk, const char *topic, int32_t partition, int64_t *low, int64_t *high, int timeout_ms)
    rd_kafka_resp_err_t rd_kafka_offsets_for_times(
        rd_kafka_t *rk, rd_kafka_topic_partition_list_t *offsets, int timeout_ms)

    # ---- queues
    rd_kafka_queue_t *rd_kafka_queue_new(rd_kafka_t *rk)
    void rd_kafka_queue_destroy(rd_kafka_queue_t *rkqu)
    rd_kafka_queue_t *rd_kafka_queue_get_main(rd_kafka_t *rk)
    rd_kafka_queue_t *rd_kafka_queue_get_consumer(rd_kafka_t *rk)
    rd_kafka_resp_err_t rd_kafka_set_log_queue(rd_kafka_t *rk, rd_kafka_queue_t *rkqu)
    void rd_kafka_queue_yield(rd_kafka_queue_t *rkqu)
    ssize_t rd_kafka_consume_batch_queue(
        rd_kafka_queue_t *rkqu, int timeout_ms, rd_kafka_message_t **rkmessages, size_t rkmessages_size)

    # ---- consumer groups
    int64_t RD_KAFKA_OFFSET_INVALID
    rd_kafka_resp_err_t rd_kafka_subscribe(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *topics)
    rd_kafka_error_t *rd_kafka_consumer_close_queue(rd_kafka_t *rk, rd_kafka_queue_t *rkqu)
    int rd_kafka_consumer_closed(rd_kafka_t *rk)
    rd_kafka_error_t *rd_kafka_incremental_assign(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *partitions)
    rd_kafka_error_t *rd_kafka_incremental_unassign(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *partitions)
    const char *rd_kafka_rebalance_protocol(rd_kafka_t *rk)
    rd_kafka_resp_err_t rd_kafka_assign(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *partitions)
    rd_kafka_resp_err_t rd_kafka_assignment(rd_kafka_t *rk, rd_kafka_topic_partition_list_t **partitions)
    int rd_kafka_assignment_lost(rd_kafka_t *rk)
    rd_kafka_resp_err_t rd_kafka_commit_queue(
        rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *offsets, rd_kafka_queue_t *rkqu,
        void (*cb)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *, void *) noexcept, void *opaque)
    rd_kafka_resp_err_t rd_kafka_committed(
        rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions, int timeout_ms)
    rd_kafka_error_t *rd_kafka_seek_partitions(
        rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions, int timeout_ms)
    rd_kafka_resp_err_t rd_kafka_position(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions)

    # ---- share groups
    ctypedef enum rd_kafka_share_AcknowledgeType_t:
        RD_KAFKA_SHARE_ACKNOWLEDGE_TYPE_ACCEPT
        RD_KAFKA_SHARE_ACKNOWLEDGE_TYPE_RELEASE
        RD_KAFKA_SHARE_ACKNOWLEDGE_TYPE_REJECT

    rd_kafka_share_t *rd_kafka_share_consumer_new(rd_kafka_conf_t *conf, char *errstr, size_t errstr_size)
    rd_kafka_resp_err_t rd_kafka_share_subscribe(
        rd_kafka_share_t *rkshare, const rd_kafka_topic_partition_list_t *topics)
    rd_kafka_error_t *rd_kafka_share_poll(rd_kafka_share_t *rkshare, int timeout_ms, rd_kafka_messages_t **rkmessages)
    rd_kafka_resp_err_t rd_kafka_share_acknowledge_type(
        rd_kafka_share_t *rkshare, const rd_kafka_message_t *rkmessage, rd_kafka_share_AcknowledgeType_t type)
    rd_kafka_error_t *rd_kafka_share_commit_sync(
        rd_kafka_share_t *rkshare, int timeout_ms, rd_kafka_topic_partition_list_t **partitions)
    rd_kafka_error_t *rd_kafka_share_consumer_close_queue(rd_kafka_share_t *rkshare, rd_kafka_queue_t *rkqu)

    # ---- producing
    int RD_KAFKA_MSG_F_COPY
    int rd_kafka_produce_batch(
        rd_kafka_topic_t *rkt, int32_t partition, int msgflags, rd_kafka_message_t *rkmessages, int message_cnt)
    rd_kafka_error_t *rd_kafka_produceva(rd_kafka_t *rk, const rd_kafka_vu_t *vus, size_t cnt)
    rd_kafka_resp_err_t rd_kafka_flush(rd_kafka_t *rk, int timeout_ms)
    int RD_KAFKA_PURGE_F_QUEUE
    int RD_KAFKA_PURGE_F_INFLIGHT
    rd_kafka_resp_err_t rd_kafka_purge(rd_kafka_t *rk, int purge_flags)

    # ---- metadata
    ctypedef struct rd_kafka_metadata_broker_t:
        int32_t id
        char *host
        int port

    ctypedef struct rd_kafka_metadata_partition_t:
        int32_t id
        rd_kafka_resp_err_t err
        int32_t leader

    ctypedef struct rd_kafka_metadata_topic_t:
        char *topic
        int partition_cnt
        rd_kafka_metadata_partition_t *partitions
        rd_kafka_resp_err_t err

    ctypedef struct rd_kafka_metadata_t:
        int broker_cnt
        rd_kafka_metadata_broker_t *brokers
        int topic_cnt
        rd_kafka_metadata_topic_t *topics

    rd_kafka_resp_err_t rd_kafka_metadata(
        rd_kafka_t *rk, int all_topics, rd_kafka_topic_t *only_rkt, const rd_kafka_metadata_t **metadatap,
        int timeout_ms)
    void rd_kafka_metadata_destroy(const rd_kafka_metadata_t *metadata)

    # ---- events
    int RD_KAFKA_EVENT_DR
    int RD_KAFKA_EVENT_LOG
    int RD_KAFKA_EVENT_ERROR
    int RD_KAFKA_EVENT_OFFSET_COMMIT
    int RD_KAFKA_EVENT_STATS
    int RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH
    int rd_kafka_event_type(const rd_kafka_event_t *rkev)
    void rd_kafka_event_destroy(rd_kafka_event_t *rkev)
    const rd_kafka_message_t *rd_kafka_event_message_next(rd_kafka_event_t *rkev)
    rd_kafka_resp_err_t rd_kafka_event_error(rd_kafka_event_t *rkev)
    const char *rd_kafka_event_error_string(rd_kafka_event_t *rkev)
    int rd_kafka_event_log(rd_kafka_event_t *rkev, const char **fac, const char **str, int *level)
    const char *rd_kafka_event_stats(rd_kafka_event_t *rkev)
    rd_kafka_topic_partition_list_t *rd_kafka_event_topic_partition_list(rd_kafka_event_t *rkev)
    rd_kafka_event_t *rd_kafka_queue_poll(rd_kafka_queue_t *rkqu, int timeout_ms)

    # ---- the one interceptor: it tells which client a share consumer has
    rd_kafka_resp_err_t rd_kafka_conf_interceptor_add_on_new(
        rd_kafka_conf_t *conf, const char *ic_name,
        rd_kafka_resp_err_t (*on_new)(rd_kafka_t *, const rd_kafka_conf_t *, void *, char *, size_t) noexcept,
        void *ic_opaque)

    # ---- credentials that change
    rd_kafka_error_t *rd_kafka_sasl_set_credentials(rd_kafka_t *rk, const char *username, const char *password)
    rd_kafka_resp_err_t rd_kafka_oauthbearer_set_token(
        rd_kafka_t *rk, const char *token_value, int64_t md_lifetime_ms, const char *md_principal_name,
        const char **extensions, size_t extension_size, char *errstr, size_t errstr_size)
    rd_kafka_resp_err_t rd_kafka_oauthbearer_set_token_failure(rd_kafka_t *rk, const char *errstr)

    # ---- administration
    ctypedef struct rd_kafka_topic_result_t
    ctypedef struct rd_kafka_AdminOptions_t
    ctypedef struct rd_kafka_NewTopic_t
    ctypedef struct rd_kafka_DeleteTopic_t
    ctypedef struct rd_kafka_CreateTopics_result_t
    ctypedef struct rd_kafka_DeleteTopics_result_t

    ctypedef enum rd_kafka_admin_op_t:
        RD_KAFKA_ADMIN_OP_CREATETOPICS
        RD_KAFKA_ADMIN_OP_DELETETOPICS
        RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS
        RD_KAFKA_ADMIN_OP_DELETERECORDS
        RD_KAFKA_ADMIN_OP_DELETEGROUPS
        RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS
        RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS
        RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS
        RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS
        RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS
        RD_KAFKA_ADMIN_OP_DESCRIBETOPICS
        RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER
        RD_KAFKA_ADMIN_OP_LISTOFFSETS

    rd_kafka_resp_err_t rd_kafka_topic_result_error(const rd_kafka_topic_result_t *topicres)
    const char *rd_kafka_topic_result_name(const rd_kafka_topic_result_t *topicres)
    const char *rd_kafka_topic_result_error_string(const rd_kafka_topic_result_t *topicres)
    rd_kafka_AdminOptions_t *rd_kafka_AdminOptions_new(rd_kafka_t *rk, rd_kafka_admin_op_t for_api)
    void rd_kafka_AdminOptions_destroy(rd_kafka_AdminOptions_t *options)
    rd_kafka_resp_err_t rd_kafka_AdminOptions_set_request_timeout(
        rd_kafka_AdminOptions_t *options, int timeout_ms, char *errstr, size_t errstr_size)
    rd_kafka_resp_err_t rd_kafka_AdminOptions_set_operation_timeout(
        rd_kafka_AdminOptions_t *options, int timeout_ms, char *errstr, size_t errstr_size)
    rd_kafka_NewTopic_t *rd_kafka_NewTopic_new(
        const char *topic, int num_partitions, int replication_factor, char *errstr, size_t errstr_size)
    void rd_kafka_NewTopic_destroy(rd_kafka_NewTopic_t *new_topic)
    rd_kafka_resp_err_t rd_kafka_NewTopic_set_config(rd_kafka_NewTopic_t *new_topic, const char *name, const char *value)
    void rd_kafka_CreateTopics(
        rd_kafka_t *rk, rd_kafka_NewTopic_t **new_topics, size_t new_topic_cnt,
        const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_CreateTopics_result_t *rd_kafka_event_CreateTopics_result(rd_kafka_event_t *rkev)
    const rd_kafka_topic_result_t **rd_kafka_CreateTopics_result_topics(
        const rd_kafka_CreateTopics_result_t *result, size_t *cntp)
    rd_kafka_DeleteTopic_t *rd_kafka_DeleteTopic_new(const char *topic)
    void rd_kafka_DeleteTopic_destroy(rd_kafka_DeleteTopic_t *del_topic)
    void rd_kafka_DeleteTopics(
        rd_kafka_t *rk, rd_kafka_DeleteTopic_t **del_topics, size_t del_topic_cnt,
        const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_DeleteTopics_result_t *rd_kafka_event_DeleteTopics_result(rd_kafka_event_t *rkev)
    const rd_kafka_topic_result_t **rd_kafka_DeleteTopics_result_topics(
        const rd_kafka_DeleteTopics_result_t *result, size_t *cntp)

    ctypedef struct rd_kafka_Uuid_t
    ctypedef struct rd_kafka_TopicCollection_t
    ctypedef struct rd_kafka_TopicDescription_t
    ctypedef struct rd_kafka_DescribeTopics_result_t

    int64_t rd_kafka_Uuid_least_significant_bits(const rd_kafka_Uuid_t *uuid)
    int64_t rd_kafka_Uuid_most_significant_bits(const rd_kafka_Uuid_t *uuid)
    const char *rd_kafka_Uuid_base64str(const rd_kafka_Uuid_t *uuid)
    rd_kafka_TopicCollection_t *rd_kafka_TopicCollection_of_topic_names(const char **topics, size_t topics_cnt)
    void rd_kafka_TopicCollection_destroy(rd_kafka_TopicCollection_t *topics)
    void rd_kafka_DescribeTopics(
        rd_kafka_t *rk, const rd_kafka_TopicCollection_t *topics, const rd_kafka_AdminOptions_t *options,
        rd_kafka_queue_t *rkqu)
    const rd_kafka_DescribeTopics_result_t *rd_kafka_event_DescribeTopics_result(rd_kafka_event_t *rkev)
    const rd_kafka_TopicDescription_t **rd_kafka_DescribeTopics_result_topics(
        const rd_kafka_DescribeTopics_result_t *result, size_t *cntp)
    const char *rd_kafka_TopicDescription_name(const rd_kafka_TopicDescription_t *topicdesc)
    const rd_kafka_Uuid_t *rd_kafka_TopicDescription_topic_id(const rd_kafka_TopicDescription_t *topicdesc)

    ctypedef struct rd_kafka_ConfigResource_t
    ctypedef struct rd_kafka_IncrementalAlterConfigs_result_t

    ctypedef enum rd_kafka_ResourceType_t:
        RD_KAFKA_RESOURCE_TOPIC
        RD_KAFKA_RESOURCE_GROUP

    ctypedef enum rd_kafka_AlterConfigOpType_t:
        RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET

    rd_kafka_ConfigResource_t *rd_kafka_ConfigResource_new(rd_kafka_ResourceType_t restype, const char *resname)
    void rd_kafka_ConfigResource_destroy(rd_kafka_ConfigResource_t *config)
    rd_kafka_error_t *rd_kafka_ConfigResource_add_incremental_config(
        rd_kafka_ConfigResource_t *config, const char *name, rd_kafka_AlterConfigOpType_t op_type, const char *value)
    rd_kafka_resp_err_t rd_kafka_ConfigResource_error(const rd_kafka_ConfigResource_t *config)
    const char *rd_kafka_ConfigResource_error_string(const rd_kafka_ConfigResource_t *config)
    void rd_kafka_IncrementalAlterConfigs(
        rd_kafka_t *rk, rd_kafka_ConfigResource_t **configs, size_t config_cnt,
        const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_IncrementalAlterConfigs_result_t *rd_kafka_event_IncrementalAlterConfigs_result(
        rd_kafka_event_t *rkev)
    const rd_kafka_ConfigResource_t **rd_kafka_IncrementalAlterConfigs_result_resources(
        const rd_kafka_IncrementalAlterConfigs_result_t *result, size_t *cntp)

    ctypedef struct rd_kafka_Node_t
    ctypedef struct rd_kafka_TopicPartitionInfo_t
    ctypedef struct rd_kafka_DescribeCluster_result_t

    int rd_kafka_Node_id(const rd_kafka_Node_t *node)
    const char *rd_kafka_Node_host(const rd_kafka_Node_t *node)
    uint16_t rd_kafka_Node_port(const rd_kafka_Node_t *node)
    const rd_kafka_error_t *rd_kafka_TopicDescription_error(const rd_kafka_TopicDescription_t *topicdesc)
    int rd_kafka_TopicDescription_is_internal(const rd_kafka_TopicDescription_t *topicdesc)
    const rd_kafka_TopicPartitionInfo_t **rd_kafka_TopicDescription_partitions(
        const rd_kafka_TopicDescription_t *topicdesc, size_t *cntp)
    int rd_kafka_TopicPartitionInfo_partition(const rd_kafka_TopicPartitionInfo_t *partition)
    const rd_kafka_Node_t *rd_kafka_TopicPartitionInfo_leader(const rd_kafka_TopicPartitionInfo_t *partition)
    const rd_kafka_Node_t **rd_kafka_TopicPartitionInfo_isr(
        const rd_kafka_TopicPartitionInfo_t *partition, size_t *cntp)
    const rd_kafka_Node_t **rd_kafka_TopicPartitionInfo_replicas(
        const rd_kafka_TopicPartitionInfo_t *partition, size_t *cntp)
    void rd_kafka_DescribeCluster(
        rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_DescribeCluster_result_t *rd_kafka_event_DescribeCluster_result(rd_kafka_event_t *rkev)
    const rd_kafka_Node_t **rd_kafka_DescribeCluster_result_nodes(
        const rd_kafka_DescribeCluster_result_t *result, size_t *cntp)
    const rd_kafka_Node_t *rd_kafka_DescribeCluster_result_controller(const rd_kafka_DescribeCluster_result_t *result)
    const char *rd_kafka_DescribeCluster_result_cluster_id(const rd_kafka_DescribeCluster_result_t *result)

    ctypedef struct rd_kafka_ConfigEntry_t
    ctypedef struct rd_kafka_DescribeConfigs_result_t

    ctypedef enum rd_kafka_ConfigSource_t:
        RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG

    const char *rd_kafka_ConfigEntry_name(const rd_kafka_ConfigEntry_t *entry)
    const char *rd_kafka_ConfigEntry_value(const rd_kafka_ConfigEntry_t *entry)
    rd_kafka_ConfigSource_t rd_kafka_ConfigEntry_source(const rd_kafka_ConfigEntry_t *entry)
    int rd_kafka_ConfigEntry_is_sensitive(const rd_kafka_ConfigEntry_t *entry)
    const char *rd_kafka_ConfigResource_name(const rd_kafka_ConfigResource_t *config)
    const rd_kafka_ConfigEntry_t **rd_kafka_ConfigResource_configs(
        const rd_kafka_ConfigResource_t *config, size_t *cntp)
    void rd_kafka_DescribeConfigs(
        rd_kafka_t *rk, rd_kafka_ConfigResource_t **configs, size_t config_cnt,
        const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_DescribeConfigs_result_t *rd_kafka_event_DescribeConfigs_result(rd_kafka_event_t *rkev)
    const rd_kafka_ConfigResource_t **rd_kafka_DescribeConfigs_result_resources(
        const rd_kafka_DescribeConfigs_result_t *result, size_t *cntp)

    ctypedef struct rd_kafka_DeleteRecords_t
    ctypedef struct rd_kafka_DeleteRecords_result_t

    rd_kafka_DeleteRecords_t *rd_kafka_DeleteRecords_new(const rd_kafka_topic_partition_list_t *before_offsets)
    void rd_kafka_DeleteRecords_destroy(rd_kafka_DeleteRecords_t *del_records)
    void rd_kafka_DeleteRecords(
        rd_kafka_t *rk, rd_kafka_DeleteRecords_t **del_records, size_t del_record_cnt,
        const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_DeleteRecords_result_t *rd_kafka_event_DeleteRecords_result(rd_kafka_event_t *rkev)
    const rd_kafka_topic_partition_list_t *rd_kafka_DeleteRecords_result_offsets(
        const rd_kafka_DeleteRecords_result_t *result)

    ctypedef struct rd_kafka_ListOffsets_result_t
    ctypedef struct rd_kafka_ListOffsetsResultInfo_t

    void rd_kafka_ListOffsets(
        rd_kafka_t *rk, rd_kafka_topic_partition_list_t *topic_partitions,
        const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_ListOffsets_result_t *rd_kafka_event_ListOffsets_result(rd_kafka_event_t *rkev)
    const rd_kafka_ListOffsetsResultInfo_t **rd_kafka_ListOffsets_result_infos(
        const rd_kafka_ListOffsets_result_t *result, size_t *cntp)
    const rd_kafka_topic_partition_t *rd_kafka_ListOffsetsResultInfo_topic_partition(
        const rd_kafka_ListOffsetsResultInfo_t *result_info)

    ctypedef struct rd_kafka_group_result_t
    ctypedef struct rd_kafka_ConsumerGroupListing_t
    ctypedef struct rd_kafka_ListConsumerGroups_result_t
    ctypedef struct rd_kafka_ConsumerGroupDescription_t
    ctypedef struct rd_kafka_MemberDescription_t
    ctypedef struct rd_kafka_MemberAssignment_t
    ctypedef struct rd_kafka_DescribeConsumerGroups_result_t
    ctypedef struct rd_kafka_DeleteGroup_t
    ctypedef struct rd_kafka_DeleteGroups_result_t
    ctypedef struct rd_kafka_ListConsumerGroupOffsets_t
    ctypedef struct rd_kafka_ListConsumerGroupOffsets_result_t
    ctypedef struct rd_kafka_AlterConsumerGroupOffsets_t
    ctypedef struct rd_kafka_AlterConsumerGroupOffsets_result_t

    ctypedef enum rd_kafka_consumer_group_state_t:
        RD_KAFKA_CONSUMER_GROUP_STATE_UNKNOWN

    ctypedef enum rd_kafka_consumer_group_type_t:
        RD_KAFKA_CONSUMER_GROUP_TYPE_UNKNOWN

    const char *rd_kafka_consumer_group_state_name(rd_kafka_consumer_group_state_t state)
    const char *rd_kafka_consumer_group_type_name(rd_kafka_consumer_group_type_t type)
    const char *rd_kafka_group_result_name(const rd_kafka_group_result_t *groupres)
    const rd_kafka_error_t *rd_kafka_group_result_error(const rd_kafka_group_result_t *groupres)
    const rd_kafka_topic_partition_list_t *rd_kafka_group_result_partitions(const rd_kafka_group_result_t *groupres)
    void rd_kafka_ListConsumerGroups(
        rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_ListConsumerGroups_result_t *rd_kafka_event_ListConsumerGroups_result(rd_kafka_event_t *rkev)
    const rd_kafka_ConsumerGroupListing_t **rd_kafka_ListConsumerGroups_result_valid(
        const rd_kafka_ListConsumerGroups_result_t *result, size_t *cntp)
    const rd_kafka_error_t **rd_kafka_ListConsumerGroups_result_errors(
        const rd_kafka_ListConsumerGroups_result_t *result, size_t *cntp)
    const char *rd_kafka_ConsumerGroupListing_group_id(const rd_kafka_ConsumerGroupListing_t *grplist)
    rd_kafka_consumer_group_state_t rd_kafka_ConsumerGroupListing_state(
        const rd_kafka_ConsumerGroupListing_t *grplist)
    rd_kafka_consumer_group_type_t rd_kafka_ConsumerGroupListing_type(const rd_kafka_ConsumerGroupListing_t *grplist)
    void rd_kafka_DescribeConsumerGroups(
        rd_kafka_t *rk, const char **groups, size_t groups_cnt, const rd_kafka_AdminOptions_t *options,
        rd_kafka_queue_t *rkqu)
    const rd_kafka_DescribeConsumerGroups_result_t *rd_kafka_event_DescribeConsumerGroups_result(
        rd_kafka_event_t *rkev)
    const rd_kafka_ConsumerGroupDescription_t **rd_kafka_DescribeConsumerGroups_result_groups(
        const rd_kafka_DescribeConsumerGroups_result_t *result, size_t *cntp)
    const char *rd_kafka_ConsumerGroupDescription_group_id(const rd_kafka_ConsumerGroupDescription_t *grpdesc)
    const rd_kafka_error_t *rd_kafka_ConsumerGroupDescription_error(
        const rd_kafka_ConsumerGroupDescription_t *grpdesc)
    const char *rd_kafka_ConsumerGroupDescription_partition_assignor(
        const rd_kafka_ConsumerGroupDescription_t *grpdesc)
    rd_kafka_consumer_group_state_t rd_kafka_ConsumerGroupDescription_state(
        const rd_kafka_ConsumerGroupDescription_t *grpdesc)
    rd_kafka_consumer_group_type_t rd_kafka_ConsumerGroupDescription_type(
        const rd_kafka_ConsumerGroupDescription_t *grpdesc)
    const rd_kafka_Node_t *rd_kafka_ConsumerGroupDescription_coordinator(
        const rd_kafka_ConsumerGroupDescription_t *grpdesc)
    size_t rd_kafka_ConsumerGroupDescription_member_count(const rd_kafka_ConsumerGroupDescription_t *grpdesc)
    const rd_kafka_MemberDescription_t *rd_kafka_ConsumerGroupDescription_member(
        const rd_kafka_ConsumerGroupDescription_t *grpdesc, size_t idx)
    const char *rd_kafka_MemberDescription_client_id(const rd_kafka_MemberDescription_t *member)
    const char *rd_kafka_MemberDescription_group_instance_id(const rd_kafka_MemberDescription_t *member)
    const char *rd_kafka_MemberDescription_consumer_id(const rd_kafka_MemberDescription_t *member)
    const char *rd_kafka_MemberDescription_host(const rd_kafka_MemberDescription_t *member)
    const rd_kafka_MemberAssignment_t *rd_kafka_MemberDescription_assignment(
        const rd_kafka_MemberDescription_t *member)
    const rd_kafka_topic_partition_list_t *rd_kafka_MemberAssignment_partitions(
        const rd_kafka_MemberAssignment_t *assignment)
    rd_kafka_DeleteGroup_t *rd_kafka_DeleteGroup_new(const char *group)
    void rd_kafka_DeleteGroup_destroy(rd_kafka_DeleteGroup_t *del_group)
    void rd_kafka_DeleteGroups(
        rd_kafka_t *rk, rd_kafka_DeleteGroup_t **del_groups, size_t del_group_cnt,
        const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_DeleteGroups_result_t *rd_kafka_event_DeleteGroups_result(rd_kafka_event_t *rkev)
    const rd_kafka_group_result_t **rd_kafka_DeleteGroups_result_groups(
        const rd_kafka_DeleteGroups_result_t *result, size_t *cntp)
    rd_kafka_ListConsumerGroupOffsets_t *rd_kafka_ListConsumerGroupOffsets_new(
        const char *group_id, const rd_kafka_topic_partition_list_t *partitions)
    void rd_kafka_ListConsumerGroupOffsets_destroy(rd_kafka_ListConsumerGroupOffsets_t *list_grpoffsets)
    void rd_kafka_ListConsumerGroupOffsets(
        rd_kafka_t *rk, rd_kafka_ListConsumerGroupOffsets_t **list_grpoffsets, size_t list_grpoffsets_cnt,
        const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_ListConsumerGroupOffsets_result_t *rd_kafka_event_ListConsumerGroupOffsets_result(
        rd_kafka_event_t *rkev)
    const rd_kafka_group_result_t **rd_kafka_ListConsumerGroupOffsets_result_groups(
        const rd_kafka_ListConsumerGroupOffsets_result_t *result, size_t *cntp)
    rd_kafka_AlterConsumerGroupOffsets_t *rd_kafka_AlterConsumerGroupOffsets_new(
        const char *group_id, const rd_kafka_topic_partition_list_t *partitions)
    void rd_kafka_AlterConsumerGroupOffsets_destroy(rd_kafka_AlterConsumerGroupOffsets_t *alter_grpoffsets)
    void rd_kafka_AlterConsumerGroupOffsets(
        rd_kafka_t *rk, rd_kafka_AlterConsumerGroupOffsets_t **alter_grpoffsets, size_t alter_grpoffsets_cnt,
        const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
    const rd_kafka_AlterConsumerGroupOffsets_result_t *rd_kafka_event_AlterConsumerGroupOffsets_result(
        rd_kafka_event_t *rkev)
    const rd_kafka_group_result_t **rd_kafka_AlterConsumerGroupOffsets_result_groups(
        const rd_kafka_AlterConsumerGroupOffsets_result_t *result, size_t *cntp)

    # ---- errors that the last call of this thread left
    rd_kafka_resp_err_t rd_kafka_last_error()
    rd_kafka_resp_err_t rd_kafka_fatal_error(rd_kafka_t *rk, char *errstr, size_t errstr_size)


cdef extern from "rdkafka_mock.h" nogil:
    ctypedef struct rd_kafka_mock_cluster_t
    rd_kafka_mock_cluster_t *rd_kafka_mock_cluster_new(rd_kafka_t *rk, int broker_cnt)
    void rd_kafka_mock_cluster_destroy(rd_kafka_mock_cluster_t *mcluster)
    void rd_kafka_mock_set_controller_id(rd_kafka_mock_cluster_t *mcluster, int32_t controller_id)
    const char *rd_kafka_mock_cluster_bootstraps(const rd_kafka_mock_cluster_t *mcluster)
    void rd_kafka_mock_push_request_errors_array(
        rd_kafka_mock_cluster_t *mcluster, int16_t api_key, size_t cnt, const rd_kafka_resp_err_t *errors)
    void rd_kafka_mock_group_initial_rebalance_delay_ms(rd_kafka_mock_cluster_t *mcluster, int32_t delay_ms)
    rd_kafka_resp_err_t rd_kafka_mock_broker_push_request_error_rtts(
        rd_kafka_mock_cluster_t *mcluster, int32_t broker_id, int16_t api_key, size_t cnt, ...)
    rd_kafka_resp_err_t rd_kafka_mock_partition_push_request_errors(
        rd_kafka_mock_cluster_t *mcluster, const char *topic, int32_t partition, int16_t api_key, size_t cnt, ...)
    void rd_kafka_mock_topic_set_error(rd_kafka_mock_cluster_t *mcluster, const char *topic, rd_kafka_resp_err_t err)
    rd_kafka_resp_err_t rd_kafka_mock_topic_create(
        rd_kafka_mock_cluster_t *mcluster, const char *topic, int partition_cnt, int replication_factor)
    rd_kafka_resp_err_t rd_kafka_mock_partition_set_leader(
        rd_kafka_mock_cluster_t *mcluster, const char *topic, int32_t partition, int32_t broker_id)
    rd_kafka_resp_err_t rd_kafka_mock_broker_set_down(rd_kafka_mock_cluster_t *mcluster, int32_t broker_id)
    rd_kafka_resp_err_t rd_kafka_mock_broker_set_up(rd_kafka_mock_cluster_t *mcluster, int32_t broker_id)
    rd_kafka_resp_err_t rd_kafka_mock_broker_set_rtt(rd_kafka_mock_cluster_t *mcluster, int32_t broker_id, int rtt_ms)
