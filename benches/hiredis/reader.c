/* Times hiredis on a file of replies, for the codec benchmarks.
 *
 *   reader version
 *   reader frame|tree|split FILE CHUNK PASSES
 *   reader count FILE CHUNK
 *   reader encode PASSES ARG...
 *   reader show ARG...
 *
 * "frame" parses without building anything (a reader without functions),
 * "tree" builds hiredis' replies and frees them. Both are fed CHUNK bytes at a
 * time, 16 KiB being what hiredis itself reads from a socket; the feeding, which
 * copies, is not timed. "split" is "frame" with the feeding timed. Each prints
 * the number of replies of one pass and the nanoseconds of CPU time of all
 * passes. "count" prints the numbers of replies and of values in them. "show"
 * writes the encoded command.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <hiredis.h>

static long long cpu_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int ascending(const void *left, const void *right) {
    long long a = *(const long long *)left, b = *(const long long *)right;
    return (a > b) - (a < b);
}

/* What it costs to ask for the time, which is a system call. */
static long long clock_cost(void) {
    enum { TRIALS = 1001 };
    static long long costs[TRIALS];
    for (int i = 0; i < TRIALS; i++) {
        long long start = cpu_now();
        costs[i] = cpu_now() - start;
    }
    qsort(costs, TRIALS, sizeof costs[0], ascending);
    return costs[TRIALS / 2];
}

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail("cannot open the input");
    long size = ftell(file);
    char *bytes = size < 0 ? NULL : malloc((size_t)size + 1);
    if (bytes == NULL) fail("cannot hold the input");
    rewind(file);
    *length = fread(bytes, 1, (size_t)size, file);
    if (*length != (size_t)size) fail("cannot read the input");
    fclose(file);
    return bytes;
}

static long long count_values(const redisReply *reply) {
    long long values = 1;
    for (size_t i = 0; i < reply->elements; i++) values += count_values(reply->element[i]);
    return values;
}

struct run {
    redisReader *reader;
    int builds; /* replies are trees, to be freed; else mere numbers, not NULL */
    long long replies;
    long long values; /* counted when it starts at 0, not when at -1 */
};

static void take_replies(struct run *run) {
    void *reply = NULL;
    for (;;) {
        if (redisReaderGetReply(run->reader, &reply) != REDIS_OK) fail(run->reader->errstr);
        if (reply == NULL) return;
        run->replies++;
        if (!run->builds) continue;
        if (run->values >= 0) run->values += count_values(reply);
        freeReplyObject(reply);
    }
}

/* One pass over the input; returns its CPU time. */
static long long pass(struct run *run, const char *bytes, size_t length, size_t chunk,
                      int time_feeding, long long cost) {
    long long total = 0;
    long long whole = cpu_now();
    for (size_t at = 0; at < length; at += chunk) {
        size_t part = length - at < chunk ? length - at : chunk;
        if (redisReaderFeed(run->reader, bytes + at, part) != REDIS_OK) fail(run->reader->errstr);
        if (time_feeding) {
            take_replies(run);
        } else {
            long long start = cpu_now();
            take_replies(run);
            total += cpu_now() - start - cost;
        }
    }
    return time_feeding ? cpu_now() - whole - cost : total;
}

static int read_replies(int argc, char **argv) {
    if (argc < 4) fail("usage: reader MODE FILE CHUNK [PASSES]");
    int counts = strcmp(argv[1], "count") == 0;
    int builds = counts || strcmp(argv[1], "tree") == 0;
    int time_feeding = strcmp(argv[1], "split") == 0;
    size_t length, chunk = strtoul(argv[3], NULL, 10);
    long passes = argc > 4 ? strtol(argv[4], NULL, 10) : 1;
    char *bytes = read_file(argv[2], &length);
    if (chunk == 0) fail("a chunk has bytes");

    struct run run = {NULL, builds, 0, counts ? 0 : -1};
    run.reader = builds ? redisReaderCreate() : redisReaderCreateWithFunctions(NULL);
    if (run.reader == NULL) fail("no reader");
    long long total = 0, cost = clock_cost();
    for (long i = 0; i < passes; i++) {
        run.replies = 0;
        total += pass(&run, bytes, length, chunk, time_feeding, cost);
    }
    printf("%lld %lld\n", run.replies, counts ? run.values : total);
    redisReaderFree(run.reader);
    free(bytes);
    return 0;
}

enum { ARGS_MAX = 64 };

/* Fills in the lengths of the arguments and returns their number. */
static int measure_args(int argc, char **argv, size_t *lengths) {
    if (argc < 1 || argc > ARGS_MAX) fail("a command has 1 to 64 arguments");
    for (int i = 0; i < argc; i++) lengths[i] = strlen(argv[i]);
    return argc;
}

static int encode(long passes, int argc, char **argv, int show) {
    enum { COMMANDS = 1000 };
    size_t lengths[ARGS_MAX];
    int args = measure_args(argc, argv, lengths), length = 0;
    char *command = NULL;
    if (show) {
        length = redisFormatCommandArgv(&command, args, (const char **)argv, lengths);
        if (length < 0) fail("cannot encode");
        fwrite(command, 1, (size_t)length, stdout);
        redisFreeCommand(command);
        return 0;
    }
    long long start = cpu_now();
    for (long i = 0; i < passes * COMMANDS; i++) {
        length = redisFormatCommandArgv(&command, args, (const char **)argv, lengths);
        if (length < 0) fail("cannot encode");
        redisFreeCommand(command);
    }
    printf("%d %lld\n", COMMANDS, cpu_now() - start);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "version") == 0) {
        printf("%d.%d.%d\n", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
        return 0;
    }
    if (argc > 2 && strcmp(argv[1], "show") == 0) return encode(1, argc - 2, argv + 2, 1);
    if (argc > 3 && strcmp(argv[1], "encode") == 0)
        return encode(strtol(argv[2], NULL, 10), argc - 3, argv + 3, 0);
    return read_replies(argc, argv);
}
