/* attention.c: attention on every backend.
 *
 * Tolerance: a score is a sum of D products, off by about 1e-6; that is the relative error of a
 * weight. The output is a mean, where many keys are seen up to ten times as small as the values it is
 * made of. Under bf16 a score of 1.6 is off by 4e-3, weights and values round to 8 bits: about 6e-3 in
 * all, and some times that for the largest of 50,000. */
#include "common/base/random.h"
#include "tests/mode.h"
#include "tests/op_case.h"

#define ATTENTION .tolerance = 1e-5, .bf16_tolerance = 4e-2, .many = 12

/* shape: R, S, heads, kv_heads, head size, window. The batch is the sequences. */
static void run_attention(struct op_run *run, const int64_t *shape)
{
    const struct attention attention = {.sequences = (int)run->batch,
                                        .heads = (int)shape[2],
                                        .kv_heads = (int)shape[3],
                                        .head_size = (int)shape[4],
                                        .window = (int)shape[5],
                                        .scale = 0.2f};
    const int64_t queries = run->batch * shape[0], keys = run->batch * shape[1];
    struct matrix q = row_input(run, queries, shape[2] * shape[4]);
    struct matrix k = row_input(run, keys, shape[3] * shape[4]), v = row_input(run, keys, shape[3] * shape[4]);
    op_attention(run->queue, &attention, q, k, v, row_output(run, DTYPE_F32, queries, shape[2] * shape[4]));
}

/* q, k and v side by side in one matrix, as a model's product leaves them. shape as above, R = S. */
static void run_attention_joined(struct op_run *run, const int64_t *shape)
{
    const struct attention attention = {.sequences = (int)run->batch,
                                        .heads = (int)shape[2],
                                        .kv_heads = (int)shape[3],
                                        .head_size = (int)shape[4],
                                        .window = (int)shape[5],
                                        .scale = 0.2f};
    const int64_t rows = run->batch * shape[0], width = shape[2] * shape[4], kv_width = shape[3] * shape[4];
    struct matrix joined = row_input(run, rows, width + 2 * kv_width);
    op_attention(run->queue, &attention, matrix_cols(joined, 0, width), matrix_cols(joined, width, kv_width),
                 matrix_cols(joined, width + kv_width, kv_width), row_output(run, DTYPE_F32, rows, width));
}

static const struct op_case cases[] = {
    {"op_attention", run_attention, {1, 1, 1, 1, 2, 0}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {1, 70, 3, 1, 64, 0}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {5, 5, 4, 2, 16, 0}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {8, 33, 4, 4, 20, 0}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {7, 40, 6, 2, 16, 5}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {9, 9, 3, 1, 64, 0}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {9, 30, 4, 2, 20, 0}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {70, 70, 4, 2, 32, 0}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {70, 70, 4, 2, 32, 16}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {65, 150, 2, 1, 14, 1}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {131, 300, 3, 3, 64, 100}, .batches = {1, 2}, ATTENTION},
    {"op_attention", run_attention_joined, {100, 100, 6, 2, 16, 0}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention_joined, {4, 4, 6, 2, 16, 0}, .batches = {1, 3}, ATTENTION},
};
OP_TESTS(attention, cases)

/* ---- queries of one sequence: verifying a draft gives the bytes of decoding it, and a prompt in
 * parts those of the whole ---- */

enum { KEYS = 200, HEADS = 4, KV_HEADS = 2, SIZE = 20, WIDTH = HEADS * SIZE, KV_WIDTH = KV_HEADS * SIZE };

struct sequence {
    struct queue *queue;
    struct buffer *buffer;
    struct matrix q, k, v, out; /* all KEYS rows */
};

static int sequence_create(struct backend *backend, struct sequence *s, struct error *error)
{
    static float values[KEYS * (2 * WIDTH + 2 * KV_WIDTH)];
    struct random random = {11};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = (float)random_normal(&random);
    if (queue_create(backend, &s->queue, error) < 0 ||
        buffer_create(backend, sizeof values, &s->buffer, error) < 0)
        return -1;
    struct matrix all = matrix_f32(s->buffer, KEYS, 2 * WIDTH + 2 * KV_WIDTH);
    op_write(s->queue, all, values);
    s->q = matrix_cols(all, 0, WIDTH);
    s->k = matrix_cols(all, WIDTH, KV_WIDTH);
    s->v = matrix_cols(all, WIDTH + KV_WIDTH, KV_WIDTH);
    s->out = matrix_cols(all, WIDTH + 2 * KV_WIDTH, WIDTH);
    return 0;
}

/* Output of queries [first, first + count), which are the sequence's last. */
static void attend(struct sequence *s, int window, int first, int count, float *out)
{
    const struct attention attention = {1, HEADS, KV_HEADS, SIZE, window, 0.2f};
    struct matrix result = matrix_rows(s->out, first, count);
    op_attention(s->queue, &attention, matrix_rows(s->q, first, count), matrix_rows(s->k, 0, first + count),
                 matrix_rows(s->v, 0, first + count), result);
    op_read(s->queue, result, out);
}

/* The last queries of a sequence, all in one call and in calls of `parts` queries, give the same bytes. */
static void check_parts(const char *device, enum math math, int window, const int *parts, int count)
{
    static float together[KEYS * WIDTH], apart[KEYS * WIDTH];
    struct error error;
    struct backend *backend;
    struct sequence s;
    int queries = 0;
    for (int i = 0; i < count; i++)
        queries += parts[i];
    if (!test_wants_mode(device, math))
        return;
    REQUIRE_OK(backend_open(device, &(struct backend_options){.threads = 2, .math = math}, &backend, &error));
    REQUIRE_OK(sequence_create(backend, &s, &error));
    attend(&s, window, KEYS - queries, queries, together);
    for (int i = 0, done = 0; i < count; done += parts[i++])
        attend(&s, window, KEYS - queries + done, parts[i], apart + done * WIDTH);
    REQUIRE_OK(queue_wait(s.queue, &error));
    CHECK(memcmp(together, apart, (size_t)(queries * WIDTH) * sizeof(float)) == 0);
    queue_destroy(s.queue);
    buffer_destroy(s.buffer);
    backend_close(backend);
}

static const int few_parts[] = {1, 1, 1, 5}, many_parts[] = {60, 9, 64, 67};

TEST(attention_of_few_queries_is_that_of_one)
{
    check_parts("ref", MATH_F32, 33, few_parts, 4);
    check_parts("cpu", MATH_F32, 0, few_parts, 4);
    check_parts("cpu", MATH_F32, 33, few_parts, 4);
}

TEST(attention_of_few_queries_is_that_of_one_in_bf16)
{
    check_parts("cpu", MATH_BF16, 0, few_parts, 4);
}

TEST(attention_of_many_queries_is_that_of_their_parts)
{
    check_parts("ref", MATH_F32, 33, many_parts, 4);
    check_parts("cpu", MATH_F32, 0, many_parts, 4);
    check_parts("cpu", MATH_F32, 33, many_parts, 4);
}

TEST(attention_of_many_queries_is_that_of_their_parts_in_bf16)
{
    check_parts("cpu", MATH_BF16, 0, many_parts, 4);
}

TEST_MAIN
