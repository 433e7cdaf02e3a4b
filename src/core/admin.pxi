"""What an administrator asks: groups, their offsets, topics and their settings, the cluster. One request, one answer.

What an answer says of one group, topic or partition is in its place there; only what concerns all of it is raised.
"""

cimport librdkafka as rdk
from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free


cdef class Admin(Client):
    """Asks and changes what there is on a cluster."""

    def __init__(self, conf):
        self._start(rdk.RD_KAFKA_PRODUCER, conf)

    def list_groups(self, timeout=10.0):
        """``[(group, state, type)]``, and the errors of the brokers that did not tell theirs."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, timeout)
        cdef const rdk.rd_kafka_ListConsumerGroups_result_t *result
        cdef const rdk.rd_kafka_ConsumerGroupListing_t **found
        cdef const rdk.rd_kafka_error_t **errors
        cdef size_t i, n = 0, failed = 0
        rdk.rd_kafka_ListConsumerGroups(request.h.rk, request.options, request.queue)
        result = rdk.rd_kafka_event_ListConsumerGroups_result(request.answer())
        found = rdk.rd_kafka_ListConsumerGroups_result_valid(result, &n)
        errors = rdk.rd_kafka_ListConsumerGroups_result_errors(result, &failed)
        groups = [
            (_text(rdk.rd_kafka_ConsumerGroupListing_group_id(found[i])),
             _text(rdk.rd_kafka_consumer_group_state_name(rdk.rd_kafka_ConsumerGroupListing_state(found[i]))),
             _text(rdk.rd_kafka_consumer_group_type_name(rdk.rd_kafka_ConsumerGroupListing_type(found[i]))))
            for i in range(n)
        ]
        return groups, [_error_of(errors[i]) for i in range(failed)]

    def describe_groups(self, groups, timeout=10.0):
        """``{group: (state, type, assignor, coordinator, members) or its error}``."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, timeout)
        cdef const rdk.rd_kafka_ConsumerGroupDescription_t **found
        cdef size_t i, n = 0
        cdef list encoded = _encoded(groups)
        cdef const char **names = _pointers(encoded)
        try:
            rdk.rd_kafka_DescribeConsumerGroups(request.h.rk, names, len(encoded), request.options, request.queue)
        finally:
            free(names)
        found = rdk.rd_kafka_DescribeConsumerGroups_result_groups(
            rdk.rd_kafka_event_DescribeConsumerGroups_result(request.answer()), &n)
        return {
            _text(rdk.rd_kafka_ConsumerGroupDescription_group_id(found[i])):
                _error_of(rdk.rd_kafka_ConsumerGroupDescription_error(found[i])) or _group(found[i])
            for i in range(n)
        }

    def delete_groups(self, groups, timeout=10.0):
        """``{group: None or its error}``."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_DELETEGROUPS, timeout)
        cdef const rdk.rd_kafka_group_result_t **results
        cdef size_t i, n = 0
        cdef list encoded = _encoded(groups)
        cdef size_t count = len(encoded)
        cdef rdk.rd_kafka_DeleteGroup_t **asked = <rdk.rd_kafka_DeleteGroup_t **> calloc(count + 1, sizeof(void *))
        if asked == NULL:
            raise MemoryError
        for i in range(count):
            asked[i] = rdk.rd_kafka_DeleteGroup_new(encoded[i])
        rdk.rd_kafka_DeleteGroups(request.h.rk, asked, count, request.options, request.queue)
        for i in range(count):
            rdk.rd_kafka_DeleteGroup_destroy(asked[i])
        free(asked)
        results = rdk.rd_kafka_DeleteGroups_result_groups(
            rdk.rd_kafka_event_DeleteGroups_result(request.answer()), &n)
        return {
            _text(rdk.rd_kafka_group_result_name(results[i])): _error_of(rdk.rd_kafka_group_result_error(results[i]))
            for i in range(n)
        }

    def group_offsets(self, group, partitions=None, timeout=10.0):
        """``{(topic, partition): committed offset, None without one, or its error}``; by default all that are committed."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, timeout)
        cdef rdk.rd_kafka_topic_partition_list_t *parts = NULL
        cdef rdk.rd_kafka_ListConsumerGroupOffsets_t *asked
        cdef const rdk.rd_kafka_group_result_t **results
        cdef size_t n = 0
        cdef bytes name = (<str?> group).encode()
        if partitions is not None:
            parts = _partition_list(partitions, False)
        asked = rdk.rd_kafka_ListConsumerGroupOffsets_new(name, parts)
        if parts != NULL:
            rdk.rd_kafka_topic_partition_list_destroy(parts)
        rdk.rd_kafka_ListConsumerGroupOffsets(request.h.rk, &asked, 1, request.options, request.queue)
        rdk.rd_kafka_ListConsumerGroupOffsets_destroy(asked)
        results = rdk.rd_kafka_ListConsumerGroupOffsets_result_groups(
            rdk.rd_kafka_event_ListConsumerGroupOffsets_result(request.answer()), &n)
        return _of_group(results, n)

    def alter_group_offsets(self, group, offsets, timeout=10.0):
        """Commit ``(topic, partition, offset)`` for a group without members; answers as :meth:`group_offsets`."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, timeout)
        cdef rdk.rd_kafka_AlterConsumerGroupOffsets_t *asked
        cdef const rdk.rd_kafka_group_result_t **results
        cdef size_t n = 0
        cdef bytes name = (<str?> group).encode()
        cdef rdk.rd_kafka_topic_partition_list_t *parts = _partition_list(offsets, True)
        asked = rdk.rd_kafka_AlterConsumerGroupOffsets_new(name, parts)
        rdk.rd_kafka_topic_partition_list_destroy(parts)
        rdk.rd_kafka_AlterConsumerGroupOffsets(request.h.rk, &asked, 1, request.options, request.queue)
        rdk.rd_kafka_AlterConsumerGroupOffsets_destroy(asked)
        results = rdk.rd_kafka_AlterConsumerGroupOffsets_result_groups(
            rdk.rd_kafka_event_AlterConsumerGroupOffsets_result(request.answer()), &n)
        return _of_group(results, n)

    def list_offsets(self, times, timeout=10.0):
        """For ``(topic, partition, time)`` ``{(topic, partition): offset, None without one, or its error}``.

        The first offset at or after that time in milliseconds; -2 is the beginning, -1 the end.
        """
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout)
        cdef const rdk.rd_kafka_ListOffsetsResultInfo_t **found
        cdef size_t i, n = 0
        cdef rdk.rd_kafka_topic_partition_list_t *parts = _partition_list(times, True)
        rdk.rd_kafka_ListOffsets(request.h.rk, parts, request.options, request.queue)
        rdk.rd_kafka_topic_partition_list_destroy(parts)
        found = rdk.rd_kafka_ListOffsets_result_infos(rdk.rd_kafka_event_ListOffsets_result(request.answer()), &n)
        return dict([_offset_of(rdk.rd_kafka_ListOffsetsResultInfo_topic_partition(found[i])) for i in range(n)])

    def delete_records(self, offsets, timeout=10.0):
        """Delete what is before ``(topic, partition, offset)``; ``{(topic, partition): new beginning or its error}``."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_DELETERECORDS, timeout)
        cdef rdk.rd_kafka_topic_partition_list_t *parts = _partition_list(offsets, True)
        cdef rdk.rd_kafka_DeleteRecords_t *asked = rdk.rd_kafka_DeleteRecords_new(parts)
        rdk.rd_kafka_topic_partition_list_destroy(parts)
        rdk.rd_kafka_DeleteRecords(request.h.rk, &asked, 1, request.options, request.queue)
        rdk.rd_kafka_DeleteRecords_destroy(asked)
        return _offsets_of(rdk.rd_kafka_DeleteRecords_result_offsets(
            rdk.rd_kafka_event_DeleteRecords_result(request.answer())))

    def describe_topics(self, topics, timeout=10.0):
        """``{topic: (id, internal, [(partition, leader, replicas, in sync)]) or its error}``."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout)
        cdef const rdk.rd_kafka_TopicDescription_t **found
        cdef size_t i, n = 0
        _describe_topics(request, topics)
        found = rdk.rd_kafka_DescribeTopics_result_topics(
            rdk.rd_kafka_event_DescribeTopics_result(request.answer()), &n)
        return {
            _text(rdk.rd_kafka_TopicDescription_name(found[i])):
                _error_of(rdk.rd_kafka_TopicDescription_error(found[i])) or _topic(found[i])
            for i in range(n)
        }

    def describe_configs(self, topics, timeout=10.0):
        """``{topic: {name: (value, is its own)} or its error}``; of what is confidential the value is None."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout)
        cdef const rdk.rd_kafka_ConfigResource_t **found
        cdef size_t i, n = 0
        cdef list encoded = _encoded(topics)
        cdef size_t count = len(encoded)
        cdef rdk.rd_kafka_ConfigResource_t **asked = <rdk.rd_kafka_ConfigResource_t **> calloc(count + 1, sizeof(void *))
        if asked == NULL:
            raise MemoryError
        for i in range(count):
            asked[i] = rdk.rd_kafka_ConfigResource_new(rdk.RD_KAFKA_RESOURCE_TOPIC, encoded[i])
        rdk.rd_kafka_DescribeConfigs(request.h.rk, asked, count, request.options, request.queue)
        for i in range(count):
            rdk.rd_kafka_ConfigResource_destroy(asked[i])
        free(asked)
        found = rdk.rd_kafka_DescribeConfigs_result_resources(
            rdk.rd_kafka_event_DescribeConfigs_result(request.answer()), &n)
        return {_text(rdk.rd_kafka_ConfigResource_name(found[i])): _settings(found[i]) for i in range(n)}

    def describe_cluster(self, timeout=10.0):
        """``(cluster's id, controller or None, nodes)``; a node is ``(id, host, port)``."""
        cdef _Request request = _request(self, rdk.RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER, timeout)
        cdef const rdk.rd_kafka_DescribeCluster_result_t *result
        cdef const rdk.rd_kafka_Node_t **nodes
        cdef size_t i, n = 0
        rdk.rd_kafka_DescribeCluster(request.h.rk, request.options, request.queue)
        result = rdk.rd_kafka_event_DescribeCluster_result(request.answer())
        nodes = rdk.rd_kafka_DescribeCluster_result_nodes(result, &n)
        return (
            _text(rdk.rd_kafka_DescribeCluster_result_cluster_id(result)),
            _node(rdk.rd_kafka_DescribeCluster_result_controller(result)),
            [_node(nodes[i]) for i in range(n)],
        )


cdef object _error_of(const rdk.rd_kafka_error_t *error):
    """The KafkaError, or None; librdkafka keeps its own."""
    if error == NULL or not rdk.rd_kafka_error_code(error):
        return None
    return kafka_error(rdk.rd_kafka_error_code(error), _text(rdk.rd_kafka_error_string(error)))

cdef tuple _node(const rdk.rd_kafka_Node_t *node):
    if node == NULL or rdk.rd_kafka_Node_id(node) < 0:
        return None
    return rdk.rd_kafka_Node_id(node), _text(rdk.rd_kafka_Node_host(node)), rdk.rd_kafka_Node_port(node)

cdef list _node_ids(const rdk.rd_kafka_Node_t **nodes, size_t count):
    cdef size_t i
    return [rdk.rd_kafka_Node_id(nodes[i]) for i in range(count)]

cdef tuple _offset_of(const rdk.rd_kafka_topic_partition_t *part):
    """The place, and the offset, None without one, or the error."""
    cdef tuple place = (_text(part.topic), part.partition)  # of a const structure, Cython would infer for ever
    if part.err:
        return place, kafka_error(part.err, f"{place[0]} [{place[1]}]: {_reason(part.err)}")
    return place, None if part.offset < 0 else part.offset

cdef dict _offsets_of(const rdk.rd_kafka_topic_partition_list_t *parts):
    cdef int i
    return dict([_offset_of(&parts.elems[i]) for i in range(parts.cnt)])

cdef dict _of_group(const rdk.rd_kafka_group_result_t **results, size_t count):
    """The partitions of the one group that was asked about; raises its error."""
    cdef const rdk.rd_kafka_topic_partition_list_t *parts = NULL
    if count:
        error = _error_of(rdk.rd_kafka_group_result_error(results[0]))
        if error is not None:
            raise error
        parts = rdk.rd_kafka_group_result_partitions(results[0])
    return {} if parts == NULL else _offsets_of(parts)

cdef tuple _group(const rdk.rd_kafka_ConsumerGroupDescription_t *group):
    cdef size_t i
    return (
        _text(rdk.rd_kafka_consumer_group_state_name(rdk.rd_kafka_ConsumerGroupDescription_state(group))),
        _text(rdk.rd_kafka_consumer_group_type_name(rdk.rd_kafka_ConsumerGroupDescription_type(group))),
        _text(rdk.rd_kafka_ConsumerGroupDescription_partition_assignor(group)),
        _node(rdk.rd_kafka_ConsumerGroupDescription_coordinator(group)),
        [_member(rdk.rd_kafka_ConsumerGroupDescription_member(group, i))
         for i in range(rdk.rd_kafka_ConsumerGroupDescription_member_count(group))],
    )

cdef tuple _member(const rdk.rd_kafka_MemberDescription_t *member):
    """``(id, client id, instance id, host, [(topic, partition)])``."""
    cdef const rdk.rd_kafka_MemberAssignment_t *assignment = rdk.rd_kafka_MemberDescription_assignment(member)
    cdef const rdk.rd_kafka_topic_partition_list_t *parts = NULL
    if assignment != NULL:
        parts = rdk.rd_kafka_MemberAssignment_partitions(assignment)
    return (
        _text(rdk.rd_kafka_MemberDescription_consumer_id(member)),
        _text(rdk.rd_kafka_MemberDescription_client_id(member)),
        _text(rdk.rd_kafka_MemberDescription_group_instance_id(member)),
        _text(rdk.rd_kafka_MemberDescription_host(member)),
        [] if parts == NULL else list(_offsets_of(parts)),
    )

cdef tuple _topic(const rdk.rd_kafka_TopicDescription_t *topic):
    cdef size_t i, n = 0, replicas = 0, in_sync = 0
    cdef const rdk.rd_kafka_TopicPartitionInfo_t **found = rdk.rd_kafka_TopicDescription_partitions(topic, &n)
    cdef const rdk.rd_kafka_Node_t **nodes
    partitions = []
    for i in range(n):
        leader = _node(rdk.rd_kafka_TopicPartitionInfo_leader(found[i]))
        nodes = rdk.rd_kafka_TopicPartitionInfo_replicas(found[i], &replicas)
        everywhere = _node_ids(nodes, replicas)
        nodes = rdk.rd_kafka_TopicPartitionInfo_isr(found[i], &in_sync)
        partitions.append((
            rdk.rd_kafka_TopicPartitionInfo_partition(found[i]), None if leader is None else leader[0],
            everywhere, _node_ids(nodes, in_sync),
        ))
    return _topic_id(topic), bool(rdk.rd_kafka_TopicDescription_is_internal(topic)), partitions

cdef object _settings(const rdk.rd_kafka_ConfigResource_t *resource):
    """``{name: (value, is the topic's own)}``, or the error."""
    cdef size_t i, n = 0
    cdef const rdk.rd_kafka_ConfigEntry_t **entries
    cdef const char *value
    if rdk.rd_kafka_ConfigResource_error(resource):
        return kafka_error(rdk.rd_kafka_ConfigResource_error(resource),
                           _text(rdk.rd_kafka_ConfigResource_error_string(resource)))
    entries = rdk.rd_kafka_ConfigResource_configs(resource, &n)
    settings = {}
    for i in range(n):
        value = rdk.rd_kafka_ConfigEntry_value(entries[i])
        settings[_text(rdk.rd_kafka_ConfigEntry_name(entries[i]))] = (
            None if value == NULL or rdk.rd_kafka_ConfigEntry_is_sensitive(entries[i]) > 0 else _text(value),
            rdk.rd_kafka_ConfigEntry_source(entries[i]) == rdk.RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG,
        )
    return settings
