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

enum { SPANS_MAX = 40 };

/* A call of `count` spans alike, and what they see. */
struct shape {
    struct attention attention;
    int64_t count, queries, keys, width, kv_width, own; /* queries, keys, own: per span, per span, per query */
};

/* R, S, heads, kv_heads, head size, window, own keys */
static struct shape shape_of(const struct op_run *run, const int64_t *shape)
{
    return (struct shape){.attention = {.heads = (int)shape[2],
                                        .kv_heads = (int)shape[3],
                                        .head_size = (int)shape[4],
                                        .window = (int)shape[5],
                                        .scale = 0.2f},
                          .count = run->batch,
                          .queries = shape[0],
                          .keys = shape[1],
                          .width = shape[2] * shape[4],
                          .kv_width = shape[3] * shape[4],
                          .own = shape[6]};
}

static struct matrix rows_of(struct matrix all, int64_t span, int64_t rows)
{
    return matrix_is_none(all) ? all : matrix_rows(all, span * rows, rows);
}

/* Spans of all queries, whose keys lie one behind the other in `all`. */
static void cut_spans(const struct shape *shape, const struct attention_span *all, struct attention_span *spans)
{
    for (int64_t s = 0; s < shape->count; s++)
        spans[s] = (struct attention_span){.queries = shape->queries,
                                           .k = rows_of(all->k, s, shape->keys),
                                           .v = rows_of(all->v, s, shape->keys),
                                           .own_k = rows_of(all->own_k, s, shape->queries),
                                           .own_v = rows_of(all->own_v, s, shape->queries)};
}

/* The keys and values of all spans. */
static struct attention_span key_inputs(struct op_run *run, const struct shape *shape)
{
    const int64_t keys = shape->count * shape->keys, queries = shape->count * shape->queries;
    struct attention_span all = {.k = row_input(run, keys, shape->kv_width)};
    all.v = row_input(run, keys, shape->kv_width);
    if (shape->own > 0) {
        all.own_k = row_input(run, queries, shape->own * shape->kv_width);
        all.own_v = row_input(run, queries, shape->own * shape->kv_width);
    }
    return all;
}

/* The batch is the sequences. */
static void run_attention(struct op_run *run, const int64_t *numbers)
{
    const struct shape shape = shape_of(run, numbers);
    const int64_t queries = shape.count * shape.queries;
    struct attention_span spans[SPANS_MAX];
    const struct matrix q = row_input(run, queries, shape.width);
    const struct attention_span all = key_inputs(run, &shape);
    cut_spans(&shape, &all, spans);
    op_attention(run->queue, &shape.attention, q, spans, (int)shape.count,
                 row_output(run, DTYPE_F32, queries, shape.width));
}

/* Gradients that a call wants: bits of the last number. BACKWARDS: those of the last span come first. */
enum { DK = 1, DV = 2, OWN_DK = 4, OWN_DV = 8, ALL = 15, BACKWARDS = 16 };

static void run_attention_grad(struct op_run *run, const int64_t *numbers)
{
    const struct shape shape = shape_of(run, numbers);
    const int64_t queries = shape.count * shape.queries, keys = shape.count * shape.keys, wanted = numbers[7];
    struct attention_span spans[SPANS_MAX], dspans[SPANS_MAX], grads = {0};
    const struct matrix q = row_input(run, queries, shape.width);
    const struct attention_span all = key_inputs(run, &shape);
    const struct matrix out = row_input(run, queries, shape.width), dout = row_input(run, queries, shape.width);
    const struct matrix dq = row_output(run, DTYPE_F32, queries, shape.width);
    if (wanted & DK)
        grads.k = row_output(run, DTYPE_F32, keys, shape.kv_width);
    if (wanted & DV)
        grads.v = row_output(run, DTYPE_F32, keys, shape.kv_width);
    if (shape.own > 0 && wanted & OWN_DK)
        grads.own_k = row_output(run, DTYPE_F32, queries, shape.own * shape.kv_width);
    if (shape.own > 0 && wanted & OWN_DV)
        grads.own_v = row_output(run, DTYPE_F32, queries, shape.own * shape.kv_width);
    cut_spans(&shape, &all, spans);
    cut_spans(&shape, &grads, dspans);
    for (int64_t s = 0; wanted & BACKWARDS && s < shape.count / 2; s++) {
        const struct attention_span last = dspans[shape.count - 1 - s];
        dspans[shape.count - 1 - s] = dspans[s];
        dspans[s] = last;
    }
    op_attention_grad(run->queue, &shape.attention, q, spans, (int)shape.count, out, dout, dq, dspans);
}

/* q, k and v side by side in one matrix, as a model's product leaves them; R = S. */
static void run_attention_joined(struct op_run *run, const int64_t *numbers)
{
    const struct shape shape = shape_of(run, numbers);
    const int64_t rows = shape.count * shape.queries;
    struct attention_span spans[SPANS_MAX];
    const struct matrix joined = row_input(run, rows, shape.width + 2 * shape.kv_width);
    const struct attention_span all = {.k = matrix_cols(joined, shape.width, shape.kv_width),
                                       .v = matrix_cols(joined, shape.width + shape.kv_width, shape.kv_width)};
    cut_spans(&shape, &all, spans);
    op_attention(run->queue, &shape.attention, matrix_cols(joined, 0, shape.width), spans, (int)shape.count,
                 row_output(run, DTYPE_F32, rows, shape.width));
}

/* Calls of spans that differ: as rows of several sequences come from a prompt, from decoding and from a draft
 * that is verified. A span's queries and keys; ended by 0. */
static const int64_t ragged[][SPANS_MAX + 1][2] = {
    {{1, 70}, {8, 8}, {3, 200}, {1, 1}, {5, 129}, {1, 128}, {2, 9}, {1, 300}}, /* few rows */
    {{9, 30}, {1, 5}, {70, 70}, {70, 70}, {9, 9}, {8, 140}, {12, 200}, {12, 200}, {65, 270}}, /* few and many */
    {{1, 40}, {1, 39}, {1, 38}, {1, 37}, {1, 36}, {1, 35}, {1, 34}, {1, 33}, {1, 32}, {1, 31},
     {1, 30}, {1, 29}, {1, 28}, {1, 27}, {1, 26}, {1, 25}, {1, 24}, {1, 23}, {1, 22}, {1, 21},
     {1, 20}, {1, 19}, {1, 18}, {1, 17}, {1, 16}, {1, 15}, {1, 14}, {1, 13}, {1, 12}, {1, 11},
     {1, 10}, {1, 9},  {1, 8},  {1, 7},  {1, 6},  {1, 5},  {1, 4},  {1, 3},  {1, 2},  {1, 1}}, /* many spans */
};
enum { RAGGED = sizeof ragged / sizeof *ragged };

/* Spans of call number `number`; returns how many. Keys and values of neighbouring spans lie in one pair of
 * matrices or in different ones, with or without a row between them; queries and keys say how many rows there
 * are. */
static int ragged_spans(int64_t number, struct matrix joined[2], struct matrix apart[2],
                        struct attention_span spans[SPANS_MAX], int64_t *queries, int64_t keys[2])
{
    int count = 0;
    *queries = keys[0] = keys[1] = 0;
    for (const int64_t(*size)[2] = ragged[number]; count < SPANS_MAX && (*size)[0] > 0; size++, count++) {
        const int pair = count / 2 % 2;
        const struct matrix *from = pair ? apart : joined;
        const int64_t first = keys[pair];
        spans[count] = (struct attention_span){.queries = (*size)[0],
                                               .k = matrix_rows(from[0], first, (*size)[1]),
                                               .v = matrix_rows(from[1], first, (*size)[1])};
        *queries += (*size)[0];
        keys[pair] += (*size)[1] + (count % 3 == 0);
    }
    return count;
}

/* shape: number in `ragged`, heads, kv_heads, head size, window. */
static void run_ragged(struct op_run *run, const int64_t *shape)
{
    const struct attention attention = {.heads = (int)shape[1],
                                        .kv_heads = (int)shape[2],
                                        .head_size = (int)shape[3],
                                        .window = (int)shape[4],
                                        .scale = 0.2f};
    const int64_t width = shape[1] * shape[3], kv_width = shape[2] * shape[3];
    struct attention_span spans[SPANS_MAX];
    struct matrix joined[2] = {{0}}, apart[2] = {{0}};
    int64_t queries, keys[2];
    ragged_spans(shape[0], joined, apart, spans, &queries, keys);
    struct matrix q = row_input(run, queries, width), both = row_input(run, keys[0], 2 * kv_width);
    joined[0] = matrix_cols(both, 0, kv_width);
    joined[1] = matrix_cols(both, kv_width, kv_width);
    apart[0] = row_input(run, keys[1], kv_width);
    apart[1] = row_input(run, keys[1], kv_width);
    const int count = ragged_spans(shape[0], joined, apart, spans, &queries, keys);
    op_attention(run->queue, &attention, q, spans, count, row_output(run, DTYPE_F32, queries, width));
}

/* A gradient is a sum of products of weights, their differences and values: of up to 200 terms that cancel in
 * part. */
#define GRADIENT .tolerance = 2e-5, .bf16_tolerance = 8e-2, .many = 12

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
    {"op_attention", run_attention, {1, 1, 1, 1, 2, 0, 1}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {3, 40, 4, 2, 20, 7, 2}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {70, 70, 4, 2, 32, 0, 3}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_attention, {65, 150, 6, 1, 14, 9, 17}, .batches = {1, 3}, ATTENTION},
    {"op_attention", run_ragged, {0, 4, 2, 20, 0}, .batches = {1}, .mixes_rows = true, ATTENTION},
    {"op_attention", run_ragged, {0, 3, 1, 64, 33}, .batches = {1}, .mixes_rows = true, ATTENTION},
    {"op_attention", run_ragged, {1, 4, 2, 20, 0}, .batches = {1}, .mixes_rows = true, ATTENTION},
    {"op_attention", run_ragged, {1, 6, 3, 16, 40}, .batches = {1}, .mixes_rows = true, ATTENTION},
    {"op_attention", run_ragged, {2, 4, 4, 16, 0}, .batches = {1}, .mixes_rows = true, ATTENTION},
    {"op_attention_grad", run_attention_grad, {1, 1, 1, 1, 2, 0, 0, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {1, 70, 3, 1, 64, 0, 0, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {7, 40, 6, 2, 16, 5, 0, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {3, 40, 4, 2, 20, 7, 2, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {9, 30, 4, 2, 20, 0, 0, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {70, 70, 4, 2, 32, 0, 0, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {70, 70, 4, 2, 32, 16, 0, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {65, 150, 2, 1, 14, 1, 0, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {131, 200, 9, 3, 64, 100, 0, ALL}, .batches = {1, 2}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {70, 70, 4, 2, 32, 0, 3, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {65, 150, 6, 1, 14, 9, 17, ALL}, .batches = {1, 3}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {70, 70, 5, 1, 33, 0, 1, DV | OWN_DK}, .batches = {1}, GRADIENT},
    {"op_attention_grad", run_attention_grad, {70, 70, 2, 2, 8, 0, 1, DK | OWN_DV}, .batches = {1}, GRADIENT},
    {"op_attention_grad",
     run_attention_grad,
     {20, 30, 4, 2, 16, 0, 2, ALL | BACKWARDS},
     .batches = {2, 3},
     .mixes_rows = true,
     GRADIENT},
    {"op_attention_grad", run_attention_grad, {5, 9, 2, 1, 8, 0, 1, 0}, .batches = {1}, GRADIENT},
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
    const struct attention attention = {HEADS, KV_HEADS, SIZE, window, 0.2f};
    const struct attention_span span = {
        .queries = count, .k = matrix_rows(s->k, 0, first + count), .v = matrix_rows(s->v, 0, first + count)};
    struct matrix result = matrix_rows(s->out, first, count);
    op_attention(s->queue, &attention, matrix_rows(s->q, first, count), &span, 1, result);
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

/* ---- spans of several sequences: each gives the bytes it gives alone ---- */

/* A call of spans [from, from + count), in that order or from the last to the first. Row r of a span lies in q
 * where it lies in the call of all; `out` gets the rows of each where it has them there. */
static void attend_spans(struct sequence *s, int window, const struct attention_span *all, const int64_t *rows,
                         int from, int count, bool backwards, float *out)
{
    const struct attention attention = {HEADS, KV_HEADS, SIZE, window, 0.2f};
    const int64_t first = rows[from], total = rows[from + count] - first;
    struct attention_span spans[SPANS_MAX];
    struct buffer *buffer;
    struct error error;
    int64_t at = 0;
    REQUIRE_OK(
        buffer_create(queue_backend(s->queue), (size_t)(2 * total * WIDTH) * sizeof(float), &buffer, &error));
    const struct matrix q = matrix_f32(buffer, total, WIDTH);
    const struct matrix results = matrix_rows(matrix_f32(buffer, 2 * total, WIDTH), total, total);
    for (int i = 0; i < count; i++) {
        const int n = backwards ? from + count - 1 - i : from + i;
        spans[i] = all[n];
        op_copy(s->queue, matrix_rows(s->q, rows[n], all[n].queries), matrix_rows(q, at, all[n].queries));
        at += all[n].queries;
    }
    op_attention(s->queue, &attention, q, spans, count, results);
    at = 0;
    for (int i = 0; i < count; i++) {
        const int n = backwards ? from + count - 1 - i : from + i;
        op_read(s->queue, matrix_rows(results, at, all[n].queries), out + rows[n] * WIDTH);
        at += all[n].queries;
    }
    REQUIRE_OK(queue_wait(s->queue, &error));
    buffer_destroy(buffer);
}

static void check_ragged(const char *device, enum math math, int number, int window)
{
    static float together[KEYS * WIDTH], apart[KEYS * WIDTH];
    struct error error;
    struct backend *backend;
    struct sequence s;
    struct attention_span spans[SPANS_MAX] = {{0}};
    int64_t rows[SPANS_MAX + 1] = {0}, queries = 0;
    int count = 0;
    if (!test_wants_mode(device, math))
        return;
    REQUIRE_OK(backend_open(device, &(struct backend_options){.threads = 2, .math = math}, &backend, &error));
    REQUIRE_OK(sequence_create(backend, &s, &error));
    for (; count < SPANS_MAX && queries + ragged[number][count][0] <= KEYS && ragged[number][count][0];
         count++) {
        const int64_t keys = ragged[number][count][1] < KEYS ? ragged[number][count][1] : KEYS;
        spans[count] = (struct attention_span){.queries = ragged[number][count][0],
                                               .k = matrix_rows(s.k, KEYS - keys, keys),
                                               .v = matrix_rows(s.v, KEYS - keys, keys)};
        queries += spans[count].queries;
        rows[count + 1] = queries;
    }
    attend_spans(&s, window, spans, rows, 0, count, false, together);
    for (int size = 1; size <= count; size++) /* in calls of `size` spans, and all backwards */
        for (int i = 0; i < count; i += size) {
            const int part = size < count - i ? size : count - i;
            attend_spans(&s, window, spans, rows, i, part, size == count, apart);
            const size_t at = (size_t)(rows[i] * WIDTH), values = (size_t)((rows[i + part] - rows[i]) * WIDTH);
            if (memcmp(together + at, apart + at, values * sizeof(float)) != 0)
                test_fail(__FILE__, __LINE__,
                          "%s: spans %d .. %d of call %d have other bytes in a call of theirs",
                          backend_identity(backend), i, i + part - 1, number);
        }
    queue_destroy(s.queue);
    buffer_destroy(s.buffer);
    backend_close(backend);
}

TEST(attention_of_spans_is_that_of_each)
{
    for (int number = 0; number < RAGGED; number++) {
        check_ragged("ref", MATH_F32, number, 33);
        check_ragged("cpu", MATH_F32, number, 0);
        check_ragged("cpu", MATH_F32, number, 33);
    }
    check_ragged("cuda", MATH_F32, 0, 33); /* there it holds of few rows */
    check_ragged("cuda", MATH_F32, 2, 0);
}

TEST(attention_of_spans_is_that_of_each_in_bf16)
{
    for (int number = 0; number < RAGGED; number++)
        check_ragged("cpu", MATH_BF16, number, 0);
}

TEST_MAIN
