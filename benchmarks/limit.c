/* The limit: the fastest loops that C allows over the same librdkafka, which the benchmarks measure rdknotify against.
 *
 *   limit produce BROKERS TOPIC RECORDS SIZE BATCH PARTITIONS [NAME=VALUE ...]
 *   limit consume BROKERS TOPIC RECORDS BATCH [NAME=VALUE ...]
 *
 * produce: rd_kafka_produce_batch with the partition given, delivery reports counted through events.
 * consume: rd_kafka_consume_batch_queue, each payload copied once, as a Python bytes object would be.
 * Prints one JSON object, as every client does (benchmarks/clients/base.py). Exit status 1 if a record was lost.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "rdkafka.h"

static double wall(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    return ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "limit: %s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char errstr[512];
    if (rd_kafka_conf_set(conf, name, value, errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK) die(name, errstr);
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf, char **settings, int count) {
    char errstr[512];
    rd_kafka_t *rk;
    for (int i = 0; i < count; i++) {
        char *equals = strchr(settings[i], '=');
        if (!equals) die(settings[i], "not NAME=VALUE");
        *equals = '\0';
        set(conf, settings[i], equals + 1);
    }
    if (!(rk = rd_kafka_new(type, conf, errstr, sizeof(errstr)))) die("rd_kafka_new", errstr);
    return rk;
}

static void report(long records, double wall_start, double cpu_start) {
    double seconds = wall() - wall_start, used = cpu() - cpu_start;
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    printf("{\"records\": %ld, \"warming\": 1, \"seconds\": %.6f, \"cpu\": %.6f, \"peak\": %ld}\n", records, seconds, used,
           ru.ru_maxrss * 1024);
}

/* Counts the reports of one event; *delivered grows by those without an error. */
static long drain(rd_kafka_queue_t *queue, int milliseconds, long *delivered) {
    const rd_kafka_message_t *message;
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, milliseconds);
    long reports = 0;
    if (!event) return 0;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
        while ((message = rd_kafka_event_message_next(event))) {
            reports++;
            *delivered += !message->err;
        }
    rd_kafka_event_destroy(event);
    return reports;
}

static int produce(int argc, char **argv) {
    if (argc < 8) die("produce", "too few arguments");
    long records = atol(argv[4]), sent = 0, reported = 0, delivered = 0;
    int size = atoi(argv[5]), batch = atoi(argv[6]), partitions = atoi(argv[7]), turn = 0;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", argv[2]);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, conf, argv + 8, argc - 8);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(rk);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[3], NULL);
    rd_kafka_message_t *messages = calloc(batch, sizeof(*messages));
    char *payload = malloc(size);
    memset(payload, 'x', size);
    /* Everybody's clock starts when the connection stands and the topic is known. */
    if (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, payload, size, NULL, 0, NULL)) die("produce", "first record");
    while (!reported) reported += drain(queue, 100, &delivered);
    reported = delivered = 0;
    double wall_start = wall(), cpu_start = cpu();
    while (sent < records) {
        int wanted = records - sent < batch ? (int)(records - sent) : batch, done = 0;
        int partition = turn++ % partitions;
        for (int i = 0; i < wanted; i++) {
            messages[i].payload = payload;
            messages[i].len = size;
        }
        while (done < wanted) {
            done += rd_kafka_produce_batch(topic, partition, RD_KAFKA_MSG_F_COPY, messages + done, wanted - done);
            long counted = drain(queue, done < wanted ? 100 : 0, &delivered);
            reported += counted;
        }
        sent += wanted;
    }
    while (reported < records) reported += drain(queue, 100, &delivered);
    report(delivered, wall_start, cpu_start);
    rd_kafka_topic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    return delivered != records;
}

static int consume(int argc, char **argv) {
    if (argc < 6) die("consume", "too few arguments");
    long records = atol(argv[4]), taken = 0;
    int batch = atoi(argv[5]);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", argv[2]);
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, conf, argv + 6, argc - 6);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, argv[3], RD_KAFKA_PARTITION_UA);
    rd_kafka_poll_set_consumer(rk);
    if (rd_kafka_subscribe(rk, topics)) die("subscribe", argv[3]);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    rd_kafka_message_t **messages = calloc(batch, sizeof(*messages));
    void **copies = calloc(batch, sizeof(*copies));
    double wall_start = 0, cpu_start = 0;
    while (taken < records) {
        /* Wait for one record, then take what is ready: nobody is made to wait for a full batch. */
        ssize_t count = rd_kafka_consume_batch_queue(queue, 100, messages, 1);
        if (count == 1) count += rd_kafka_consume_batch_queue(queue, 0, messages + 1, batch - 1);
        if (count > 0 && !wall_start) wall_start = wall(), cpu_start = cpu();
        for (ssize_t i = 0; i < count; i++) {
            if (messages[i]->err) die("consume", rd_kafka_message_errstr(messages[i]));
            copies[i] = malloc(messages[i]->len + 33);
            memcpy(copies[i], messages[i]->payload, messages[i]->len);
        }
        for (ssize_t i = 0; i < count; i++) {
            free(copies[i]);
            rd_kafka_message_destroy(messages[i]);
        }
        taken += count > 0 ? count : 0;
    }
    report(taken, wall_start, cpu_start);
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_partition_list_destroy(topics);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    return 0;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && !strcmp(argv[1], "produce")) return produce(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "consume")) return consume(argc, argv);
    die("usage", "limit produce|consume BROKERS TOPIC RECORDS ...");
    return 2;
}
