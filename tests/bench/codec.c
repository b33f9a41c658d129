/* codec STORE: what every codec makes of a store's records: bits a value, ratio to bf16, and GB/s of bf16 data
 * coded and decoded by one thread (the best of five rounds over each record). */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/codec/fit.h"
#include "common/store/store.h"

#define ROUNDS 5
#define STEP   0.2 /* of codecs that are fitted: about 4 bits */

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

static int measure_record(struct bench *bench, const struct coder *coder, struct measure *measure,
                          struct error *error)
{
    const struct store_info *info = store_info(bench->store);
    size_t size = 0;
    double encoding = 1e9, decoding = 1e9;
    if (array_grow(&bench->payload, &bench->capacity, coder_bound(coder, info->rows), error) < 0)
        return -1;
    for (int round = 0; round < ROUNDS; round++) {
        double start = clock_seconds();
        if (coder_encode(coder, bench->worker, bench->states, info->rows, bench->payload, bench->capacity,
                         &size, NULL, error) < 0)
            return -1;
        double middle = clock_seconds();
        if (coder_decode(coder, bench->worker, bench->payload, size, info->rows, bench->decoded, error) < 0)
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

/* A coder of the tap, fitted, where it must be, to its records. */
static int make_coder(struct bench *bench, const struct codec *codec, int tap, struct coder **coder,
                      struct error *error)
{
    const struct store_info *info = store_info(bench->store);
    struct string parameters = {0};
    struct moments *moments = NULL;
    int result = codec->fit ? moments_create(info->hidden, &moments, error) : 0;
    for (uint64_t i = 0; codec->fit && i < store_progress(bench->store, tap, SPLIT_TRAIN) && result == 0; i++) {
        result = reader_states(bench->reader, tap, (struct sequence){SPLIT_TRAIN, i}, bench->states, error);
        if (result == 0)
            result = moments_add(moments, bench->states, info->rows, error);
    }
    if (result == 0 && codec->fit &&
        (codec->fit(moments, &parameters, error) < 0 ||
         codec->set(parameters.data, parameters.length, &(struct codec_setting){.step = STEP}, error) < 0))
        result = -1;
    if (result == 0)
        result = coder_create(codec, parameters.data, parameters.length, info->hidden, coder, error);
    string_free(&parameters);
    moments_destroy(moments);
    return result;
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
        struct coder *coder;
        char name[TAP_NAME_SIZE];
        if (make_coder(bench, codec, tap, &coder, error) < 0)
            return -1;
        for (uint64_t i = 0; i < store_progress(bench->store, tap, SPLIT_TRAIN); i++)
            if (reader_states(bench->reader, tap, (struct sequence){SPLIT_TRAIN, i}, bench->states, error) <
                    0 ||
                measure_record(bench, coder, &measure, error) < 0) {
                coder_destroy(coder);
                return -1;
            }
        coder_destroy(coder);
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
