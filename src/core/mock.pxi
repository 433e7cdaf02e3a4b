"""librdkafka's in-process cluster."""

cimport librdkafka as rdk

from rdknotify.errors import ClosedError, ConfigError


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
        rdk.rd_kafka_mock_set_controller_id(self._cluster, 1)  # or it has none, for whom requests of an admin would wait
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
        """``broker`` -1: no leader. A producer that still believes in one crashes the mock: refresh its metadata first."""
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
