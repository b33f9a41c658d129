/* reading: train's feed over a store, in shuffled order, against pread of the same bytes of the same file by as
 * many threads into a buffer of their own: `reading [SEQUENCES [ROUNDS]]`. Warm: passes of one feed over a file
 * that is in the system's cache; cold: one pass, before which it was dropped. "written": the feed's rows are
 * put into f32 buffers of the cpu backend, too, by one more thread. All take turns; medians. */
#include <fcntl.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/pool.h"
#include "tests/bench/median.h"
#include "tests/train_fixture.h"
#include "train/feed.h"
#include "train/read_order.h"

enum { ROUNDS_MAX = 50, BATCH = 4, PAGE = 4096, WARM_PASSES = 4 };

enum way { FEED, WRITTEN, PLAIN, WAYS };

struct extent {
    off_t offset;
    size_t size;
};

struct bench {
    const char *folder;
    char data[4200];
    int count; /* sequences */
    struct extent *extents; /* [count] of their records, in the order of reading */
    size_t bytes, largest;
    int threads;
    struct pool *pool;
    char **buffer; /* [threads][largest] */
    struct backend *backend;
    struct queue *queue;
    struct buffer *states; /* [BATCH rows, hidden] */
    int file;
};

static const struct tap final = {2, false};

static struct feed_plan make_plan(const struct bench *bench, int passes)
{
    return (struct feed_plan){.split = SPLIT_TRAIN,
                              .shuffled = true,
                              .seed = 1,
                              .tap = &final,
                              .taps = 1,
                              .sequences = BATCH,
                              .end = (uint64_t)(passes * bench->count)};
}

/* A large value of LMDB's lies in pages of its own, the first of which begins with its number in the file. */
static struct extent extent_of(const void *record, size_t size)
{
    const char *page = (const char *)record - (uintptr_t)record % PAGE;
    uint64_t number;
    memcpy(&number, page, sizeof number);
    return (struct extent){(off_t)(number * PAGE + (uintptr_t)record % PAGE), size};
}

static int find_extents(struct bench *bench, struct error *error)
{
    const struct feed_plan plan = make_plan(bench, 1);
    const struct read_order order = {plan.split, (uint64_t)bench->count, plan.shuffled, plan.seed};
    struct store *store;
    struct reader *reader = NULL;
    if (store_open(bench->folder, STORE_READ, &store, error) < 0)
        return -1;
    int result = reader_open(store, &reader, error);
    for (int i = 0; i < bench->count && result == 0; i++) {
        const struct sequence sequence = read_order_at(&order, (uint64_t)i);
        const void *record;
        size_t size;
        result = reader_record(reader, 0, sequence, &record, &size, error);
        if (result < 0)
            break;
        bench->extents[i] = extent_of(record, size);
        bench->bytes += size;
        bench->largest = size > bench->largest ? size : bench->largest;
    }
    reader_close(reader);
    store_close(store);
    return result;
}

static void forget(const struct bench *bench)
{
    fdatasync(bench->file);
    posix_fadvise(bench->file, 0, 0, POSIX_FADV_DONTNEED);
}

/* With a queue the rows are written to `buffer`. */
static int read_feed(struct bench *bench, int passes, struct queue *queue, struct buffer *buffer,
                     double *seconds, struct error *error)
{
    const struct feed_plan plan = make_plan(bench, passes);
    const struct feed_batch *batch;
    struct stores stores;
    struct feed *feed;
    if (stores_open(&bench->folder, 1, &stores, error) < 0)
        return -1;
    const double started = clock_seconds();
    int result = feed_open(&stores, &plan, bench->threads, &feed, error);
    while (result == 0 && (result = feed_next(feed, &batch, error)) == 0 && batch) {
        if (queue)
            feed_write(queue, batch->states[0], batch->sequences,
                       matrix_f32(buffer, batch->rows, stores.config.hidden));
    }
    *seconds = clock_seconds() - started;
    feed_close(feed);
    stores_close(&stores);
    return result;
}

static void read_task(void *context, int task, int worker)
{
    const struct bench *bench = context;
    const struct extent *extent = &bench->extents[task];
    if (pread(bench->file, bench->buffer[worker], extent->size, extent->offset) != (ssize_t)extent->size)
        perror("pread");
}

static double read_plain(struct bench *bench, int passes)
{
    const double started = clock_seconds();
    for (int pass = 0; pass < passes; pass++)
        pool_run(bench->pool, bench->count, read_task, bench);
    return clock_seconds() - started;
}

/* The seconds of one pass. */
static int read_way(struct bench *bench, enum way way, bool cold, double *seconds, struct error *error)
{
    const int passes = cold ? 1 : WARM_PASSES;
    int result = 0;
    if (cold)
        forget(bench);
    else
        read_plain(bench, 1);
    if (way == PLAIN)
        *seconds = read_plain(bench, passes);
    else
        result = read_feed(bench, passes, way == WRITTEN ? bench->queue : NULL, bench->states, seconds, error);
    *seconds /= passes;
    return result;
}

static int measure(struct bench *bench, const char *codec, int rounds, struct error *error)
{
    double seconds[2][WAYS][ROUNDS_MAX]; /* [cold] */
    for (int round = 0; round < rounds; round++)
        for (int cold = 0; cold < 2; cold++)
            for (enum way way = 0; way < WAYS; way++)
                if (read_way(bench, way, cold, &seconds[cold][way][round], error) < 0)
                    return -1;
    for (int cold = 0; cold < 2; cold++) {
        double rate[WAYS];
        for (enum way way = 0; way < WAYS; way++) {
            rate[way] = (double)bench->bytes / sort_to_median(seconds[cold][way], rounds) / 1e9;
        }
        printf("  %-10s %-5s %10.2f %10.2f %10.2f %8.2f %8.2f\n", codec, cold ? "cold" : "warm", rate[FEED],
               rate[WRITTEN], rate[PLAIN], rate[FEED] / rate[PLAIN], rate[WRITTEN] / rate[PLAIN]);
    }
    return 0;
}

static int open_bench(struct bench *bench, const char *codec, struct error *error)
{
    const struct train_fixture fixture = {.layers = 2,
                                          .hidden = 576,
                                          .intermediate = 64,
                                          .vocab = 64,
                                          .rows = 512,
                                          .train = bench->count,
                                          .held_out = 1,
                                          .taps = "final",
                                          .codec = codec,
                                          .seed = 1};
    snprintf(bench->data, sizeof bench->data, "%s/data.mdb", bench->folder);
    if (train_fixture_create(&fixture, bench->folder, error) < 0 ||
        array_alloc(&bench->extents, bench->count, error) < 0 || find_extents(bench, error) < 0 ||
        pool_create(bench->threads, &bench->pool, error) < 0 ||
        array_alloc(&bench->buffer, bench->threads, error) < 0 ||
        backend_open("cpu", &(struct backend_options){.threads = 1}, &bench->backend, error) < 0 ||
        queue_create(bench->backend, &bench->queue, error) < 0 ||
        buffer_create(bench->backend, BATCH * (size_t)(fixture.rows * fixture.hidden) * sizeof(float),
                      &bench->states, error) < 0)
        return -1;
    for (int i = 0; i < bench->threads; i++)
        if (array_alloc(&bench->buffer[i], bench->largest, error) < 0)
            return -1;
    bench->file = open(bench->data, O_RDONLY);
    return bench->file < 0 ? error_system(error, "%s", bench->data) : 0;
}

static void close_bench(struct bench *bench)
{
    char command[4200];
    if (bench->file >= 0)
        close(bench->file);
    for (int i = 0; bench->buffer && i < bench->threads; i++)
        free(bench->buffer[i]);
    free(bench->buffer);
    free(bench->extents);
    queue_destroy(bench->queue);
    buffer_destroy(bench->states);
    backend_close(bench->backend);
    pool_destroy(bench->pool);
    snprintf(command, sizeof command, "rm -rf '%s'", bench->folder);
    if (system(command) != 0)
        fprintf(stderr, "reading: %s is left\n", bench->folder);
}

int main(int argc, char **argv)
{
    static const char *const codecs[] = {"raw", "lossless"};
    const int count = argc > 1 ? atoi(argv[1]) : 400, rounds = argc > 2 ? atoi(argv[2]) : 5;
    char folder[] = "/var/tmp/offramp-reading-XXXXXX"; /* on a disk, where /tmp may be memory */
    struct error error;
    int result = count < BATCH || rounds < 1 || rounds > ROUNDS_MAX
                     ? error_set(&error, "usage: reading [SEQUENCES [ROUNDS]]")
                     : 0;
    printf("reading: %d records of 512 x 576 in shuffled order, GB/s of stored bytes, median of %d\n", count,
           rounds);
    printf("  %-10s %-5s %10s %10s %10s %8s %8s\n", "codec", "cache", "feed", "written", "pread", "feed",
           "written");
    for (int c = 0; c < 2 && result == 0; c++) {
        struct bench bench = {.count = count, .threads = processor_count(), .file = -1};
        bench.folder = mkdtemp(folder);
        result = bench.folder ? open_bench(&bench, codecs[c], &error) : error_system(&error, "%s", folder);
        if (result == 0)
            result = measure(&bench, codecs[c], rounds, &error);
        close_bench(&bench);
        memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    }
    if (result < 0)
        fprintf(stderr, "reading: %s\n", error.text);
    return result < 0 ? EXIT_FAILED : EXIT_DONE;
}
