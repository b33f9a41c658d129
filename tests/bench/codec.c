/* codec: what klt's transform takes beside the one product in it, by oneDNN, on one thread. The transform
 * divides by RMS, rotates, and rounds (or scales and adds the mean); its rate counts the rotation's operations
 * alone. */
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/codec/fit.h"

#define ROUNDS  20
#define ROWS    512
#define SPACING 0.2

struct bench {
    struct codec_worker *worker;
    struct coder *coder;
    float *states, *decoded, *matrix; /* [ROWS, cols] twice, [cols, cols] */
    struct codec_payload payload;
};

/* A klt coder for the states. */
static int make_coder(struct bench *bench, int64_t cols, struct error *error)
{
    struct string parameters = {0};
    struct moments *moments = NULL;
    struct codec_choice choice;
    int result = -1;
    if (codec_parse("klt:4", &choice, error) == 0 && moments_create(cols, &moments, error) == 0 &&
        moments_add(moments, bench->states, ROWS, error) == 0 &&
        choice.codec->fit(moments, &parameters, error) == 0 &&
        choice.codec->set(parameters.data, parameters.length, &(struct codec_setting){.spacing = SPACING},
                          error) == 0)
        result = coder_create(choice.codec, parameters.data, parameters.length, cols, &bench->coder, error);
    moments_destroy(moments);
    string_free(&parameters);
    return result;
}

static int make_states(struct bench *bench, int64_t cols, struct error *error)
{
    struct random random = {7};
    if (array_alloc(&bench->states, ROWS * cols, error) < 0 ||
        array_alloc(&bench->decoded, ROWS * cols, error) < 0 ||
        array_alloc(&bench->matrix, cols * cols, error) < 0)
        return -1;
    for (int64_t i = 0; i < ROWS * cols; i++)
        bench->states[i] = (float)random_normal(&random);
    for (int64_t i = 0; i < cols * cols; i++)
        bench->matrix[i] = (float)random_normal(&random);
    return 0;
}

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* Rounds of product, encode, decode in turn; the fastest of each. */
static int measure(struct bench *bench, int64_t cols, struct error *error)
{
    const size_t capacity = coder_bound(bench->coder, ROWS);
    double product = 1e9, encode = 1e9, decode = 1e9;
    bench->payload.capacity = capacity;
    if (array_alloc(&bench->payload.bytes, capacity, error) < 0)
        return -1;
    for (int round = 0; round < ROUNDS; round++) {
        double entropy[3], at[4];
        entropy[0] = codec_worker_entropy_seconds(bench->worker), at[0] = clock_seconds();
        if (coder_encode(bench->coder, bench->worker, bench->states, ROWS, &bench->payload, error) < 0)
            return -1;
        entropy[1] = codec_worker_entropy_seconds(bench->worker), at[1] = clock_seconds();
        if (coder_decode(bench->coder, bench->worker, bench->payload.bytes, bench->payload.size, ROWS,
                         bench->decoded, error) < 0)
            return -1;
        entropy[2] = codec_worker_entropy_seconds(bench->worker), at[2] = clock_seconds();
        dnnl_sgemm('N', 'N', ROWS, cols, cols, 1, bench->states, cols, bench->matrix, cols, 0, bench->decoded,
                   cols);
        at[3] = clock_seconds();
        encode = least(encode, at[1] - at[0] - (entropy[1] - entropy[0]));
        decode = least(decode, at[2] - at[1] - (entropy[2] - entropy[1]));
        product = least(product, at[3] - at[2]);
    }
    const double operations = 2e-9 * ROWS * (double)cols * (double)cols;
    printf("klt %d x %-5d product %6.1f GFLOP/s   encode's transform %3.0f %% of it   decode's %3.0f %%\n",
           ROWS, (int)cols, operations / product, 100 * product / encode, 100 * product / decode);
    return 0;
}

int main(void)
{
    static const int64_t widths[] = {576, 1024};
    struct error error;
    int result = 0;
    for (size_t i = 0; i < sizeof widths / sizeof *widths && result == 0; i++) {
        struct bench bench = {0};
        if (codec_worker_create(&bench.worker, &error) < 0 || make_states(&bench, widths[i], &error) < 0 ||
            make_coder(&bench, widths[i], &error) < 0 || measure(&bench, widths[i], &error) < 0)
            result = -1;
        coder_destroy(bench.coder);
        codec_worker_destroy(bench.worker);
        free(bench.states);
        free(bench.decoded);
        free(bench.matrix);
        free(bench.payload.bytes);
    }
    if (result < 0)
        fprintf(stderr, "codec: %s\n", error.text);
    return result < 0;
}
