/* The limit: the fastest loops that C allows over the same librdkafka, which the benchmarks measure rdknotify against.
 *
 *   limit produce BROKERS TOPIC RECORDS SIZE BATCH PARTITIONS [NAME=VALUE ...]
 *   limit consume BROKERS TOPIC RECORDS BATCH [NAME=VALUE ...]
 *   limit latency_send BROKERS TOPIC RATE:RECORDS,... SIZE [NAME=VALUE ...]
 *   limit latency_receive BROKERS TOPIC RATE:RECORDS,... BATCH [NAME=VALUE ...]
 *
 * produce: rd_kafka_produce_batch with the partition given, delivery reports counted through events.
 * consume: rd_kafka_consume_batch_queue, each payload copied once, as a Python bytes object would be.
 * latency_...: the loops of benchmarks/clients/latency, and what they print (pace.py).
 * Prints one JSON object, as every client does (benchmarks/clients/base.py). Exit status 1 if a record was lost.
 */
#include <stdint.h>
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

/* Bytes of memory at most until now; ru_maxrss would begin with those of the process that started this one. */
static long peak(void) {
    char line[256];
    long kilobytes = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof(line), status) && !sscanf(line, "VmHWM: %ld", &kilobytes)) continue;
    if (status) fclose(status);
    return kilobytes * 1024;
}

static void report(long records, double wall_start, double cpu_start) {
    double seconds = wall() - wall_start, used = cpu() - cpu_start;
    printf("{\"records\": %ld, \"warming\": 1, \"seconds\": %.6f, \"cpu\": %.6f, \"peak\": %ld}\n", records, seconds, used,
           peak());
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

static rd_kafka_t *producer(char *brokers, char **settings, int count) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    return client(RD_KAFKA_PRODUCER, conf, settings, count);
}

static int produce(int argc, char **argv) {
    if (argc < 8) die("produce", "too few arguments");
    long records = atol(argv[4]), sent = 0, reported = 0, delivered = 0;
    int size = atoi(argv[5]), batch = atoi(argv[6]), partitions = atoi(argv[7]), turn = 0;
    rd_kafka_t *rk = producer(argv[2], argv + 8, argc - 8);
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

/* A member of a group. */
static rd_kafka_t *consumer(char *brokers, char *topic, char **settings, int count) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, conf, settings, count);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_poll_set_consumer(rk);
    if (rd_kafka_subscribe(rk, topics)) die("subscribe", topic);
    rd_kafka_topic_partition_list_destroy(topics);
    return rk;
}

/* Waits for one record, then takes what is ready: nobody is made to wait for a full batch. */
static ssize_t take(rd_kafka_queue_t *queue, rd_kafka_message_t **messages, int batch) {
    ssize_t count = rd_kafka_consume_batch_queue(queue, 100, messages, 1);
    if (count == 1) count += rd_kafka_consume_batch_queue(queue, 0, messages + 1, batch - 1);
    return count;
}

static void copy(rd_kafka_message_t **messages, void **copies, ssize_t count) {
    for (ssize_t i = 0; i < count; i++) {
        if (messages[i]->err) die("consume", rd_kafka_message_errstr(messages[i]));
        copies[i] = malloc(messages[i]->len + 33);
        memcpy(copies[i], messages[i]->payload, messages[i]->len);
    }
}

static void discard(rd_kafka_message_t **messages, void **copies, ssize_t count) {
    for (ssize_t i = 0; i < count; i++) {
        free(copies[i]);
        rd_kafka_message_destroy(messages[i]);
    }
}

static void leave(rd_kafka_t *rk, rd_kafka_queue_t *queue) {
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

static int consume(int argc, char **argv) {
    if (argc < 6) die("consume", "too few arguments");
    long records = atol(argv[4]), taken = 0;
    int batch = atoi(argv[5]);
    rd_kafka_t *rk = consumer(argv[2], argv[3], argv + 6, argc - 6);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    rd_kafka_message_t **messages = calloc(batch, sizeof(*messages));
    void **copies = calloc(batch, sizeof(*copies));
    double wall_start = 0, cpu_start = 0;
    while (taken < records) {
        ssize_t count = take(queue, messages, batch);
        if (count > 0 && !wall_start) wall_start = wall(), cpu_start = cpu();
        copy(messages, copies, count);
        discard(messages, copies, count);
        taken += count > 0 ? count : 0;
    }
    report(taken, wall_start, cpu_start);
    leave(rk, queue);
    return 0;
}

#define SECOND 1000000000L

/* What every value begins with. */
typedef struct {
    int64_t scheduled, number;
} stamp_t;

static int64_t now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * SECOND + ts.tv_nsec;
}

static void sleep_until(int64_t due) {
    int64_t left = due - now();
    struct timespec wanted = {left / SECOND, left % SECOND}, shortest = {0, SECOND / 1000};
    nanosleep(left < shortest.tv_nsec ? &shortest : &wanted, NULL);
}

/* The next phase of those in the text, on the first call; false after the last. */
static int next_phase(char *text, long *rate, long *records) {
    char *phase = strtok(text, ",");
    if (phase && sscanf(phase, "%ld:%ld", rate, records) != 2) die(phase, "not RATE:RECORDS");
    return phase != NULL;
}

static int latency_send(int argc, char **argv) {
    if (argc < 6) die("latency_send", "too few arguments");
    rd_kafka_t *rk = producer(argv[2], argv + 6, argc - 6);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(rk);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[3], NULL);
    int size = atoi(argv[5]);
    char *payload = memset(malloc(size), 'x', size);
    stamp_t stamp = {0, 0};
    long rate, records, reported = 0, delivered = 0;
    for (char *text = argv[4]; next_phase(text, &rate, &records); text = NULL) {
        while (!text && getchar() != '\n') continue;
        double cpu_start = cpu(), behind = 0;
        int64_t begun = now();
        for (long sent = 0; sent < records;) {
            sleep_until(begun + sent * SECOND / rate);
            for (long due = (now() - begun) * rate / SECOND + 1; sent < due && sent < records; sent++, stamp.number++) {
                stamp.scheduled = begun + sent * SECOND / rate;
                memcpy(payload, &stamp, sizeof(stamp));
                while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, payload, size, NULL, 0, NULL))
                    reported += drain(queue, 100, &delivered);
            }
            behind = (now() - stamp.scheduled) / (double)SECOND;
            reported += drain(queue, 0, &delivered);
        }
        while (reported < stamp.number) reported += drain(queue, 100, &delivered);
        printf("{\"sender_cpu\": %.6f, \"behind\": %.6f}\n", cpu() - cpu_start, behind);
    }
    rd_kafka_topic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    return delivered != stamp.number;
}

static int latency_receive(int argc, char **argv) {
    if (argc < 6) die("latency_receive", "too few arguments");
    int batch = atoi(argv[5]);
    rd_kafka_t *rk = consumer(argv[2], argv[3], argv + 6, argc - 6);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    rd_kafka_message_t **messages = calloc(batch, sizeof(*messages));
    void **copies = calloc(batch, sizeof(*copies));
    long rate, records, first = 0, twice = 0;
    for (char *text = argv[4]; next_phase(text, &rate, &records); text = NULL, first += records) {
        int64_t *delays = calloc(records, sizeof(*delays)), begun = 0, held = 0;
        double cpu_start = cpu();
        for (long missing = records; missing;) {
            ssize_t count = take(queue, messages, batch);
            copy(messages, copies, count);
            held = count > 0 ? now() : held;
            for (ssize_t i = 0; i < count; i++) {
                stamp_t *stamp = copies[i];
                long place = stamp->number - first;
                int again = place < 0 || place >= records || delays[place];
                twice += again;
                missing -= !again;
                if (!again) delays[place] = held - stamp->scheduled;
                if (!place) begun = stamp->scheduled;
            }
            discard(messages, copies, count);
        }
        printf("{\"delays\": [");
        for (long i = 0; i < records; i++) printf("%s%ld", i ? ", " : "", (delays[i] + 999) / 1000);
        printf("], \"records\": %ld, \"twice\": %ld, \"seconds\": %.6f, \"cpu\": %.6f, \"peak\": %ld}\n", records,
               twice, (held - begun) / (double)SECOND, cpu() - cpu_start, peak());
        free(delays);
    }
    leave(rk, queue);
    return 0;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && !strcmp(argv[1], "produce")) return produce(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "consume")) return consume(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "latency_send")) return latency_send(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "latency_receive")) return latency_receive(argc, argv);
    die("usage", "limit produce|consume|latency_send|latency_receive BROKERS TOPIC ...");
    return 2;
}
