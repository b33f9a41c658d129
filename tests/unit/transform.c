/* What a device makes of states is encoded like what the host makes of them: exact codecs to the same bytes,
 * others within what their spacing allows. */
#include <string.h>

#include "common/transform/transform.h"
#include "tests/codec_fixture.h"
#include "tests/test.h"

enum { KLT = 5, TAPS = 3 };

/* A codec at the last of three taps, of which one has no transform and one is not put. */
struct bench {
    struct backend *backend;
    struct queue *queue;
    struct coder *coder[TAPS];
    struct transforms *transforms;
    struct codec_worker *worker;
    int64_t rows, cols;
    struct buffer *buffer; /* [rows, cols + 3] */
    struct matrix states;
    float *made; /* what was read of them */
    struct codec_payload payload;
};

static void bench_close(struct bench *bench)
{
    queue_destroy(bench->queue);
    transforms_close(bench->transforms);
    for (int tap = 0; tap < TAPS; tap++)
        coder_destroy(bench->coder[tap]);
    codec_worker_destroy(bench->worker);
    buffer_destroy(bench->buffer);
    backend_close(bench->backend);
    free(bench->made);
    free(bench->payload.bytes);
}

static int bench_open(struct bench *bench, const char *device, const struct codec *codec, int64_t rows,
                      int64_t cols, struct error *error)
{
    const struct backend_options options = {.threads = 1, .math = MATH_F32};
    *bench = (struct bench){.rows = rows, .cols = cols};
    if (backend_open(device, &options, &bench->backend, error) < 0 ||
        queue_create(bench->backend, &bench->queue, error) < 0 ||
        codec_fixture_coder(codec_find_id(1), cols, &bench->coder[0], error) < 0 ||
        codec_fixture_coder(codec, cols, &bench->coder[2], error) < 0 ||
        transforms_open(bench->backend, (const struct coder *const *)bench->coder, TAPS, rows, cols,
                        &bench->transforms, error) < 0 ||
        codec_worker_create(&bench->worker, error) < 0 ||
        buffer_create(bench->backend, (size_t)(rows * (cols + 3)) * sizeof(float), &bench->buffer, error) < 0)
        return -1;
    bench->states = (struct matrix){bench->buffer, DTYPE_F32, 0, rows, cols, cols + 3};
    bench->payload.capacity = coder_bound(bench->coder[2], rows);
    bench->made = malloc((size_t)(rows * cols) * sizeof *bench->made);
    bench->payload.bytes = malloc(bench->payload.capacity);
    return 0;
}

/* Encodes by way of the device; the last tap, whose row is as wide as any. */
static int bench_encode(struct bench *bench, const float *states, struct error *error)
{
    op_write(bench->queue, bench->states, states);
    const struct matrix made = transforms_put(bench->transforms, bench->queue, 2, bench->states);
    if (matrix_is_none(made))
        return error_set(error, "there is no transform");
    CHECK(made.cols * 4 == (int64_t)coder_transform(bench->coder[2]).row && made.cols <= bench->cols);
    op_read(bench->queue, made, bench->made);
    if (queue_wait(bench->queue, error) < 0)
        return -1;
    return coder_encode_transformed(bench->coder[2], bench->worker, bench->made, bench->rows, &bench->payload,
                                    error);
}

/* The payload is the one that the host makes of the states. */
static void check_same(struct bench *bench, const float *states)
{
    struct error error;
    const struct codec_payload *payload = &bench->payload;
    struct codec_payload expected = {.bytes = malloc(payload->capacity), .capacity = payload->capacity};
    REQUIRE_OK(coder_encode(bench->coder[2], bench->worker, states, bench->rows, &expected, &error));
    CHECK(payload->size == expected.size && memcmp(payload->bytes, expected.bytes, expected.size) == 0);
    free(expected.bytes);
}

/* No coefficient is off by more than half a spacing of 0.05, and the loss is what was said. */
static void check_close(struct bench *bench, const float *states)
{
    struct error error;
    double mean = 0;
    float *decoded = malloc((size_t)(bench->rows * bench->cols) * sizeof *decoded);
    REQUIRE_OK(coder_decode(bench->coder[2], bench->worker, bench->payload.bytes, bench->payload.size,
                            bench->rows, decoded, &error));
    for (int64_t r = 0; r < bench->rows; r++) {
        double lost = 0, whole = 0;
        for (int64_t i = r * bench->cols; i < (r + 1) * bench->cols; i++) {
            lost += pow((double)states[i] - decoded[i], 2);
            whole += pow(states[i], 2);
        }
        CHECK(lost < 0.025 * 0.025 * 1.02 * whole);
        mean += lost / whole / (double)bench->rows;
    }
    CHECK(mean > 0 && fabs(bench->payload.loss - mean) < 0.01 * mean + 1e-9);
    free(decoded);
}

static const char *const kinds[] = {"ref", "cpu", "cuda"};

TEST(transformed_states_are_encoded_like_states)
{
    static const int64_t shapes[][2] = {{1, 64}, {3, 5}, {64, 97}, {33, 52}, {150, 48}};
    int tried = 0;
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; test_wants_device(kinds[k]) && i < sizeof shapes / sizeof *shapes; i++)
            for (int c = 0; codec_table()[c]; c++) {
                const struct codec *codec = codec_table()[c];
                struct error error;
                struct bench bench;
                if (!codec->transform)
                    continue;
                float *states = codec_fixture_states(shapes[i][0], shapes[i][1], 7);
                REQUIRE_OK(bench_open(&bench, kinds[k], codec, shapes[i][0], shapes[i][1], &error));
                CHECK(matrix_is_none(transforms_put(bench.transforms, bench.queue, 0, bench.states)));
                REQUIRE_OK(bench_encode(&bench, states, &error));
                if (codec->exact)
                    check_same(&bench, states);
                else
                    check_close(&bench, states);
                bench_close(&bench);
                free(states);
                tried++;
            }
    CHECK(tried > 0);
}

TEST(transformed_states_that_are_not_finite)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    for (int k = 0; k < 3; k++)
        for (int i = 0; test_wants_device(kinds[k]) && i < 3; i++)
            for (int c = 0; codec_table()[c]; c++) {
                struct error error;
                struct bench bench;
                if (!codec_table()[c]->transform)
                    continue;
                float *states = codec_fixture_states(4, 16, 9);
                states[37] = bad[i];
                REQUIRE_OK(bench_open(&bench, kinds[k], codec_table()[c], 4, 16, &error));
                CHECK(bench_encode(&bench, states, &error) < 0);
                CHECK_TEXT(error.text, "not a finite number");
                bench_close(&bench);
                free(states);
            }
}

/* A transformed row would be larger than the row. */
TEST(narrow_states_are_not_transformed)
{
    struct error error;
    struct bench bench;
    REQUIRE_OK(bench_open(&bench, "ref", codec_find_id(KLT), 2, 3, &error));
    CHECK(coder_transform(bench.coder[2]).kind == CODEC_NO_TRANSFORM);
    CHECK(bench_encode(&bench, (const float[]){1, 2, 3, 4, 5, 6}, &error) < 0);
    CHECK_TEXT(error.text, "no transform");
    bench_close(&bench);
}

TEST_MAIN
