/* meaning.c: what the ops mean, on numbers small enough to work out by hand, on every backend.
 *
 * The other tests of this folder compare backends with ref and gradients with forward ops; these
 * hold ref itself. Inputs are small whole numbers, so that most results are exact. */
#include <math.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "tests/test.h"

static const char *const devices[] = {"ref", "cpu"};

enum { BUFFERS = 12 };

struct desk {
    struct backend *backend;
    struct queue *queue;
    struct buffer *buffer[BUFFERS];
    int count;
};

static void give_up(const struct error *error)
{
    fprintf(stderr, "meaning: %s\n", error->text);
    exit(1);
}

static void desk_open(struct desk *desk, const char *device)
{
    struct error error;
    *desk = (struct desk){0};
    if (backend_open(device, &(struct backend_options){.threads = 1}, &desk->backend, &error) < 0 ||
        queue_create(desk->backend, &desk->queue, &error) < 0)
        give_up(&error);
}

static void desk_close(struct desk *desk)
{
    for (int i = 0; i < desk->count; i++)
        buffer_destroy(desk->buffer[i]);
    queue_destroy(desk->queue);
    backend_close(desk->backend);
}

/* [rows, cols] of 4-byte values; NULL: zeros. */
static struct matrix put(struct desk *desk, enum dtype type, int64_t rows, int64_t cols, const void *values)
{
    struct error error;
    struct buffer **buffer = &desk->buffer[desk->count++];
    if (desk->count > BUFFERS || buffer_create(desk->backend, (size_t)(rows * cols) * 4, buffer, &error) < 0)
        give_up(&error);
    struct matrix matrix = {*buffer, type, 0, rows, cols, cols};
    if (values)
        op_write(desk->queue, matrix, values);
    return matrix;
}

/* A view holds these values, to `tolerance`. */
static void check_values(struct desk *desk, const char *what, struct matrix matrix, const float *expected,
                         double tolerance)
{
    struct error error;
    float values[64];
    const int64_t count = matrix.rows * matrix.cols;
    op_read(desk->queue, matrix, values);
    if (queue_wait(desk->queue, &error) < 0)
        give_up(&error);
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)values[i] - (double)expected[i]) <= tolerance))
            test_fail(__FILE__, __LINE__, "%s on %s: value %lld is %g instead of %g", what,
                      backend_identity(desk->backend), (long long)i, (double)values[i], (double)expected[i]);
}

#define FLOATS(...) ((const float[]){__VA_ARGS__})
#define INTS(...)   ((const int32_t[]){__VA_ARGS__})
/* Roundings of results of about 1. */
#define ROUNDED 1e-6

/* Each test runs on every backend. */
#define MEANING(name)                                                                                          \
    static void mean_##name(struct desk *desk);                                                                \
    TEST(name)                                                                                                 \
    {                                                                                                          \
        for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {                                        \
            struct desk desk;                                                                                  \
            desk_open(&desk, devices[i]);                                                                      \
            mean_##name(&desk);                                                                                \
            desk_close(&desk);                                                                                 \
        }                                                                                                      \
    }                                                                                                          \
    static void mean_##name(struct desk *desk)

MEANING(matmul_multiplies_by_the_transpose_and_stacks_parts)
{
    struct error error;
    struct weight *weight;
    const float w[] = {1, 2, 3, 4, 5, 6}, bias[] = {10, 20, 30};
    const struct weight_part parts[] = {{DTYPE_F32, 1, 2, w + 4}, {DTYPE_F32, 2, 2, w}};
    REQUIRE_OK(weight_prepare(desk->backend, parts, 2, bias, WEIGHT_ROWS | WEIGHT_BACKWARD, &weight, &error));
    struct matrix x = put(desk, DTYPE_F32, 2, 2, FLOATS(1, 0, 2, -1)), y = put(desk, DTYPE_F32, 2, 3, NULL);
    op_matmul(desk->queue, x, weight, y, OP_STORE);
    check_values(desk, "y", y, FLOATS(15, 21, 33, 14, 20, 32), 0);
    op_matmul(desk->queue, x, weight, y, OP_ADD);
    check_values(desk, "y added", y, FLOATS(30, 42, 66, 28, 40, 64), 0);
    struct matrix dx = put(desk, DTYPE_F32, 1, 2, FLOATS(100, 200));
    op_matmul_grad(desk->queue, put(desk, DTYPE_F32, 1, 3, FLOATS(1, 0, 2)), weight, dx, OP_ADD);
    check_values(desk, "dx", dx, FLOATS(111, 214), 0);
    struct matrix rows = put(desk, DTYPE_F32, 2, 2, NULL);
    op_embed(desk->queue, weight, put(desk, DTYPE_I32, 2, 1, INTS(2, 0)), rows);
    check_values(desk, "rows", rows, FLOATS(3, 4, 5, 6), 0);
    weight_destroy(weight);
}

MEANING(gemm_transposes)
{
    struct matrix a = put(desk, DTYPE_F32, 2, 3, FLOATS(1, 2, 3, 4, 5, 6));
    struct matrix b = put(desk, DTYPE_F32, 3, 2, FLOATS(1, 0, 0, 1, 2, 2)),
                  c = put(desk, DTYPE_F32, 2, 2, NULL);
    struct matrix d = put(desk, DTYPE_F32, 3, 3, NULL);
    op_gemm(desk->queue, a, false, b, false, c, OP_STORE);
    check_values(desk, "a b", c, FLOATS(7, 8, 16, 17), 0);
    op_gemm(desk->queue, a, true, b, true, d, OP_STORE);
    check_values(desk, "a^T b^T", d, FLOATS(1, 4, 10, 2, 5, 14, 3, 6, 18), 0);
    op_gemm(desk->queue, a, false, a, true, c, OP_ADD);
    check_values(desk, "a b + a a^T", c, FLOATS(21, 40, 48, 94), 0);
    op_gemm(desk->queue, a, true, a, false, d, OP_STORE);
    check_values(desk, "a^T a", d, FLOATS(17, 22, 27, 22, 29, 36, 27, 36, 45), 0);
}

MEANING(gram_weights_its_rows)
{
    struct error error;
    double values[2] = {100, 200};
    struct buffer *buffer;
    REQUIRE_OK(buffer_create(desk->backend, sizeof values, &buffer, &error));
    struct matrix g = matrix_f64(buffer, 2, 1), x = put(desk, DTYPE_F32, 3, 2, FLOATS(1, 2, 3, 4, 5, 6));
    struct matrix y = put(desk, DTYPE_F32, 3, 1, FLOATS(1, -1, 2)),
                  w = put(desk, DTYPE_F32, 3, 1, FLOATS(1, 2, 0.5f));
    op_write(desk->queue, g, values);
    op_gram(desk->queue, x, y, w, g);
    op_read(desk->queue, g, values);
    REQUIRE_OK(queue_wait(desk->queue, &error));
    CHECK(values[0] == 100 && values[1] == 200); /* 1 - 6 + 5, 2 - 8 + 6 */
    op_write(desk->queue, w, FLOATS(2, 0, 0));
    op_gram(desk->queue, x, y, w, g);
    op_read(desk->queue, g, values);
    REQUIRE_OK(queue_wait(desk->queue, &error));
    CHECK(values[0] == 102 && values[1] == 204);
    buffer_destroy(buffer);
}

MEANING(elementwise)
{
    struct error error;
    struct buffer *buffer;
    double squares = 1;
    struct matrix x = put(desk, DTYPE_F32, 2, 3, FLOATS(1, 2, 3, 4, 5, 6)),
                  y = put(desk, DTYPE_F32, 2, 3, NULL);
    op_copy(desk->queue, matrix_cols(x, 1, 2), matrix_cols(y, 0, 2));
    check_values(desk, "copy", y, FLOATS(2, 3, 0, 5, 6, 0), 0);
    op_axpy(desk->queue, -2, x, y);
    check_values(desk, "axpy", y, FLOATS(0, -1, -6, -3, -4, -12), 0);
    op_add_bias(desk->queue, put(desk, DTYPE_F32, 1, 3, FLOATS(1, 0, -1)), y);
    check_values(desk, "add_bias", y, FLOATS(1, -1, -7, -2, -4, -13), 0);
    struct matrix sums = put(desk, DTYPE_F32, 1, 3, FLOATS(10, 20, 30)),
                  means = put(desk, DTYPE_F32, 2, 1, NULL);
    op_sum_rows(desk->queue, x, sums);
    check_values(desk, "sum_rows", sums, FLOATS(15, 27, 39), 0);
    op_mean_square(desk->queue, matrix_cols(x, 2, 1), means);
    check_values(desk, "mean_square", means, FLOATS(9, 36), 0);
    op_mean_square(desk->queue, matrix_f32(x.buffer, 1, 6), matrix_rows(means, 0, 1));
    check_values(desk, "mean_square", means, FLOATS(91.0f / 6, 36), 1e-6);
    REQUIRE_OK(buffer_create(desk->backend, sizeof squares, &buffer, &error));
    op_write(desk->queue, matrix_f64(buffer, 1, 1), &squares);
    const struct matrix s = matrix_f64(buffer, 1, 1);
    op_sum_squares(desk->queue, (struct square_sum[]){{x, s}, {matrix_cols(x, 2, 1), s}}, 2);
    op_read(desk->queue, s, &squares);
    REQUIRE_OK(queue_wait(desk->queue, &error));
    CHECK(squares == 92 + 45);
    buffer_destroy(buffer);
}

MEANING(norm_per_group)
{
    struct matrix x = put(desk, DTYPE_F32, 1, 4, FLOATS(3, 4, 0, 2)),
                  scale = put(desk, DTYPE_F32, 1, 2, FLOATS(1, 2));
    op_norm(desk->queue, x, scale, 0, x);
    /* rms of (3, 4) is sqrt(12.5), of (0, 2) sqrt(2) */
    check_values(desk, "norm", x, FLOATS(0.8485281f, 2.2627417f, 0, 2.8284271f), ROUNDED);
    op_write(desk->queue, x, FLOATS(0, 0, 1, 1));
    op_norm(desk->queue, x, scale, 3, x); /* 1 / sqrt(1 + 3) */
    check_values(desk, "epsilon", x, FLOATS(0, 0, 0.5f, 1), ROUNDED);
}

MEANING(swiglu_gates_with_the_first_half)
{
    struct matrix x = put(desk, DTYPE_F32, 1, 4, FLOATS(0, 1, 5, -3)), y = put(desk, DTYPE_F32, 1, 2, NULL);
    op_swiglu(desk->queue, x, y);
    check_values(desk, "swiglu", y, FLOATS(0, -2.1931758f), ROUNDED); /* -3 / (1 + e^-1) */
    op_write(desk->queue, x, FLOATS(-200, 200, 1, 2));
    op_swiglu(desk->queue, x, y);
    check_values(desk, "saturated", y, FLOATS(0, 400), ROUNDED);
}

MEANING(rope_turns_pairs)
{
    /* Row 1 of the table: a quarter turn of pair 0, none of pair 1. */
    struct matrix table = put(desk, DTYPE_F32, 2, 4, FLOATS(1, 1, 0, 0, 0, 1, 1, 0));
    struct matrix positions = put(desk, DTYPE_I32, 2, 1, INTS(1, 0));
    struct matrix x = put(desk, DTYPE_F32, 2, 4, FLOATS(1, 2, 3, 4, 5, 6, 7, 8));
    op_rope(desk->queue, x, positions, table, ROPE_ADJACENT);
    check_values(desk, "adjacent", x, FLOATS(-2, 1, 3, 4, 5, 6, 7, 8), 0);
    op_rope(desk->queue, x, positions, table, ROPE_HALVES);
    check_values(desk, "halves", x, FLOATS(-3, 1, -2, 4, 5, 6, 7, 8), 0);
}

MEANING(attention_sees_the_past_in_its_window)
{
    /* Two query heads share a key head. With q = 0 weights are equal: the output is the mean of the values
     * seen. */
    struct matrix q = put(desk, DTYPE_F32, 2, 2, FLOATS(0, 0, 0, 0)), out = put(desk, DTYPE_F32, 2, 2, NULL);
    struct matrix k = put(desk, DTYPE_F32, 4, 1, FLOATS(1, 2, 3, 4)),
                  v = put(desk, DTYPE_F32, 4, 1, FLOATS(8, 2, 5, 1));
    const struct attention_span whole = {.queries = 2, .k = k, .v = v};
    const struct attention_span halves[] = {
        {.queries = 1, .k = matrix_rows(k, 0, 2), .v = matrix_rows(v, 0, 2)},
        {.queries = 1, .k = matrix_rows(k, 2, 2), .v = matrix_rows(v, 2, 2)}};
    struct attention attention = {2, 1, 1, 0, 1};
    op_attention(desk->queue, &attention, q, &whole, 1, out);
    check_values(desk, "R < S", out, FLOATS(5, 5, 4, 4), ROUNDED);
    attention.window = 2;
    op_attention(desk->queue, &attention, q, &whole, 1, out);
    check_values(desk, "window", out, FLOATS(3.5f, 3.5f, 3, 3), ROUNDED);
    attention.window = 0;
    op_attention(desk->queue, &attention, q, halves, 2, out);
    check_values(desk, "sequences", out, FLOATS(5, 5, 3, 3), ROUNDED);
    /* q k scale = ln 3 and 0: weights 3/4 and 1/4. */
    op_write(desk->queue, q, FLOATS(0, 0, 2, 0));
    op_write(desk->queue, k, FLOATS(0, 0, 1, 0));
    attention.scale = 0.5493061f;
    op_attention(desk->queue, &attention, q, halves, 2, out);
    check_values(desk, "scores", out, FLOATS(5, 5, 4, 3), ROUNDED);
}

MEANING(vocab_of_two_words)
{
    /* Logits of h = (ln 3, 0): ln 3 and 0, softmax 3/4 and 1/4. */
    const double ln3 = log(3), ln4 = log(4);
    struct matrix h = put(desk, DTYPE_F32, 1, 2, FLOATS((float)ln3, 0));
    struct vocab vocab = {NULL, put(desk, DTYPE_F32, 2, 2, FLOATS(1, 0, 0, 1))};
    struct matrix label = put(desk, DTYPE_I32, 1, 1, INTS(1)), out = put(desk, DTYPE_F32, 1, 8, NULL);
    struct vocab_stats stats = {.lse = matrix_cols(out, 0, 1),
                                .label = matrix_cols(out, 1, 1),
                                .top_logit = matrix_cols(out, 2, 1),
                                .entropy = matrix_cols(out, 3, 1),
                                .u = matrix_cols(out, 4, 2)};
    op_vocab_stats(desk->queue, h, &vocab, label, &stats);
    const struct vocab swapped = {NULL, put(desk, DTYPE_F32, 2, 2, FLOATS(0, 0, 1, 0))}; /* q = 1/4, 3/4 */
    op_vocab_cross(desk->queue, h, &vocab, h, &swapped, matrix_cols(out, 6, 1));
    check_values(
        desk, "stats", out,
        FLOATS((float)ln4, 0, (float)ln3, (float)(ln4 - 0.75 * ln3), 0.75f, 0.25f, (float)(0.25 * ln3), 0),
        ROUNDED);
    struct matrix dh = put(desk, DTYPE_F32, 1, 2, NULL), down = put(desk, DTYPE_F32, 2, 2, FLOATS(0, 7, 0, 7));
    struct vocab_loss target = {.target = VOCAB_LABELS, .labels = label, .scale = 2};
    op_vocab_loss(desk->queue, h, &vocab, &target, matrix_cols(out, 0, 1), dh, down);
    check_values(desk, "loss", matrix_cols(out, 0, 1), FLOATS((float)ln4), ROUNDED);
    check_values(desk, "dh", dh, FLOATS(1.5f, -1.5f), ROUNDED);
    check_values(desk, "down", down, FLOATS((float)(1.5 * ln3), 7, (float)(-1.5 * ln3), 7), ROUNDED);
}

MEANING(vocab_with_shifted_logits)
{
    /* Logits ln 3 and 0, shifted to 2 ln 3 and ln 3 + ln 2 of which the sum of exponentials is 9 + 6. */
    const double ln3 = log(3), ln6 = log(6), ln15 = log(15);
    struct matrix h = put(desk, DTYPE_F32, 1, 2, FLOATS((float)ln3, 0)), out = put(desk, DTYPE_F32, 1, 1, NULL);
    struct matrix dh = put(desk, DTYPE_F32, 1, 2, NULL), down = put(desk, DTYPE_F32, 2, 2, FLOATS(0, 7, 0, 7));
    struct vocab vocab = {NULL, put(desk, DTYPE_F32, 2, 2, FLOATS(1, 0, 0, 1))};
    struct vocab_loss target = {.target = VOCAB_LABELS,
                                .labels = put(desk, DTYPE_I32, 1, 1, INTS(1)),
                                .shift = put(desk, DTYPE_F32, 1, 2, FLOATS((float)ln3, (float)ln6)),
                                .scale = 5};
    op_vocab_loss(desk->queue, h, &vocab, &target, out, dh, down);
    check_values(desk, "loss", out, FLOATS((float)ln15), ROUNDED);
    check_values(desk, "dh", dh, FLOATS(3, -3), ROUNDED);
    check_values(desk, "down", down, FLOATS((float)(3 * ln3), 7, (float)(-3 * ln3), 7), ROUNDED);
    target.target = VOCAB_U;
    target.u = put(desk, DTYPE_F32, 1, 2, FLOATS(0.25f, 0.5f));
    op_vocab_loss(desk->queue, h, &vocab, &target, out, dh, matrix_none());
    check_values(desk, "loss through u", out, FLOATS((float)(ln15 - 0.25 * ln3)), ROUNDED);
    check_values(desk, "dh through u", dh, FLOATS(1.75f, -0.5f), ROUNDED);
    target.target = VOCAB_TEACHER; /* the teacher's logits 0 and ln 3, shifted alike: q = 3/21 and 18/21 */
    target.teacher_state = put(desk, DTYPE_F32, 1, 2, FLOATS(0, (float)ln3));
    target.teacher = vocab;
    op_vocab_loss(desk->queue, h, &vocab, &target, out, dh, down);
    check_values(desk, "loss with a teacher", out, FLOATS((float)(ln15 - ln3 / 7)), ROUNDED);
    check_values(desk, "dh with a teacher", dh, FLOATS((float)(16.0 / 7), (float)(-16.0 / 7)), ROUNDED);
}

MEANING(vocab_with_a_mixed_loss)
{
    /* Logits ln 4 and 0, p = 4/5 and 1/5; at the temperature 2 2/3 and 1/3. The teacher's are 0 and 2 ln 3: q = 1/4
     * and 3/4 there. */
    const double ln2 = log(2), ln3 = log(3), ln5 = log(5);
    struct matrix h = put(desk, DTYPE_F32, 1, 2, FLOATS((float)(2 * ln2), 0)),
                  out = put(desk, DTYPE_F32, 1, 1, NULL);
    struct matrix dh = put(desk, DTYPE_F32, 1, 2, NULL), down = put(desk, DTYPE_F32, 2, 2, FLOATS(0, 7, 0, 7));
    struct vocab vocab = {NULL, put(desk, DTYPE_F32, 2, 2, FLOATS(1, 0, 0, 1))};
    struct vocab_loss target = {.target = VOCAB_TEACHER,
                                .labels = put(desk, DTYPE_I32, 1, 1, INTS(1)),
                                .teacher_state = put(desk, DTYPE_F32, 1, 2, FLOATS(0, (float)(2 * ln3))),
                                .teacher = vocab,
                                .temperature = 2,
                                .share = 0.25f,
                                .weighted = true,
                                .scale = 15};
    op_vocab_loss(desk->queue, h, &vocab, &target, out, dh, down);
    /* 4/5 (1/4 ln 5 + 3/4 4 (ln 3 - 1/4 ln 2)) */
    check_values(desk, "loss", out, FLOATS((float)(0.2 * ln5 + 2.4 * (ln3 - 0.25 * ln2))), ROUNDED);
    /* 15 4/5 (1/4 4/5 + 3/4 2 (2/3 - 1/4)) = 12 (1/5 + 5/8) */
    check_values(desk, "dh", dh, FLOATS(9.9f, -9.9f), ROUNDED);
    check_values(desk, "down", down, FLOATS((float)(9.9 * 2 * ln2), 7, (float)(-9.9 * 2 * ln2), 7), ROUNDED);
    target.target = VOCAB_U;
    target.u = put(desk, DTYPE_F32, 1, 2, FLOATS(0.1f, 0.9f));
    target.temperature = 1;
    op_vocab_loss(desk->queue, h, &vocab, &target, out, dh, matrix_none());
    /* 4/5 (ln 5 - 3/4 0.1 2 ln 2) and 12 (4/5 - 3/4 0.1, 1/5 - 1/4 - 3/4 0.9) */
    check_values(desk, "loss through u", out, FLOATS((float)(0.8 * (ln5 - 0.15 * ln2))), ROUNDED);
    check_values(desk, "dh through u", dh, FLOATS(8.7f, -8.7f), ROUNDED);
}

MEANING(adam_step)
{
    struct matrix gradient = put(desk, DTYPE_F32, 1, 2, FLOATS(4, -0.25f)),
                  value = put(desk, DTYPE_F32, 1, 2, FLOATS(1, 1));
    struct matrix first = put(desk, DTYPE_F32, 1, 2, NULL), second = put(desk, DTYPE_F32, 1, 2, NULL);
    struct adam_update update = {
        {.rate = 0.125f, .beta1 = 0.5f, .beta2 = 0.75f, .epsilon = 0, .decay = 0.5f, .clip = 0.5f, .step = 1},
        gradient,
        value,
        first,
        second};
    op_adam(desk->queue, &update, 1);
    /* The first step is the gradient's sign, whatever its size; decay takes rate * decay of the value. */
    check_values(desk, "value", value, FLOATS(0.8125f, 1.0625f), ROUNDED);
    check_values(desk, "first", first, FLOATS(1, -0.0625f), ROUNDED);
    check_values(desk, "second", second, FLOATS(1, 0.00390625f), ROUNDED);
    check_values(desk, "gradient", gradient, FLOATS(0, 0), 0);
    update.adam.step = 2;
    update.adam.decay = 0;
    op_adam(desk->queue, &update, 1);
    /* mean 1/2 / (1 - 1/4), square 3/4 / (1 - 9/16): 2/3 / sqrt(12/7) */
    check_values(desk, "second step", value, FLOATS(0.7488531f, 1.1261469f), ROUNDED);
}

TEST_MAIN
