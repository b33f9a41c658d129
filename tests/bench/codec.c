/* codec STORE: what every codec makes of a store's records: bits a value, ratio to bf16, and GB/s of bf16 data
 * coded and decoded by one thread (the best of five rounds over each record). */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/store/store.h"

#define ROUNDS 5

struct measure {
    double values, bytes, encoding, decoding; /* seconds */
};

struct bench {
    struct store *store;
    struct reader *reader;
    struct codec_worker *worker;
    float *states, *decoded; /* [rows, hidden] */
    unsigned char *payload;
    size_t capacity;
};

static int measure_record(struct bench *bench, const struct codec *codec, struct measure *measure,
                          struct error *error)
{
    const struct store_info *info = store_info(bench->store);
    size_t size = 0;
    double encoding = 1e9, decoding = 1e9;
    if (array_grow(&bench->payload, &bench->capacity, codec->bound(info->rows, info->hidden), error) < 0)
        return -1;
    for (int round = 0; round < ROUNDS; round++) {
        double start = clock_seconds();
        if (codec->encode(bench->worker, bench->states, info->rows, info->hidden, bench->payload,
                          bench->capacity, &size, error) < 0)
            return -1;
        double middle = clock_seconds();
        if (codec->decode(bench->worker, bench->payload, size, info->rows, info->hidden, bench->decoded,
                          error) < 0)
            return -1;
        double end = clock_seconds();
        encoding = middle - start < encoding ? middle - start : encoding;
        decoding = end - middle < decoding ? end - middle : decoding;
    }
    measure->values += (double)info->rows * info->hidden;
    measure->bytes += (double)size;
    measure->encoding += encoding;
    measure->decoding += decoding;
    return 0;
}

static void print_measure(const char *codec, const char *tap, const struct measure *measure)
{
    double bits = measure->bytes * 8 / measure->values, gigabytes = measure->values * 2e-9;
    printf("%-9s %-8s %7.2f bits/value %6.3fx of bf16   encode %6.2f GB/s   decode %6.2f GB/s\n", codec, tap,
           bits, 16 / bits, gigabytes / measure->encoding, gigabytes / measure->decoding);
}

static int measure_codec(struct bench *bench, const struct codec *codec, struct error *error)
{
    const struct store_info *info = store_info(bench->store);
    struct measure all = {0};
    for (int tap = 0; tap < info->taps; tap++) {
        struct measure measure = {0};
        char name[TAP_NAME_SIZE];
        for (uint64_t i = 0; i < store_progress(bench->store, tap, SPLIT_TRAIN); i++)
            if (reader_states(bench->reader, tap, (struct sequence){SPLIT_TRAIN, i}, bench->states, error) <
                    0 ||
                measure_record(bench, codec, &measure, error) < 0)
                return -1;
        tap_name(info->tap[tap], info->layers, name);
        print_measure(codec->name, name, &measure);
        all.values += measure.values;
        all.bytes += measure.bytes;
        all.encoding += measure.encoding;
        all.decoding += measure.decoding;
    }
    print_measure(codec->name, "all", &all);
    return 0;
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    struct error error;
    int result = -1;
    if (argc != 2) {
        fprintf(stderr, "usage: codec STORE\n");
        return 2;
    }
    if (store_open(argv[1], STORE_READ, &bench.store, &error) < 0)
        goto done;
    size_t values = (size_t)store_info(bench.store)->rows * (size_t)store_info(bench.store)->hidden;
    if (reader_open(bench.store, &bench.reader, &error) < 0 || codec_worker_create(&bench.worker, &error) < 0 ||
        array_alloc(&bench.states, values, &error) < 0 || array_alloc(&bench.decoded, values, &error) < 0)
        goto done;
    result = 0;
    for (int i = 0; codec_table()[i] && result == 0; i++)
        result = measure_codec(&bench, codec_table()[i], &error);
done:
    if (result < 0)
        fprintf(stderr, "codec: %s\n", error.text);
    free(bench.states);
    free(bench.decoded);
    free(bench.payload);
    codec_worker_destroy(bench.worker);
    reader_close(bench.reader);
    store_close(bench.store);
    return result < 0;
}
