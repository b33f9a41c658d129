/* vocab.c: the fused ops of the vocabulary on every backend.
 *
 * Tolerances: a logit is a sum of H products (sqrt(H) 2^-24, about 5e-7 of its rms), exp turns its
 * error into a relative one, and u, dh and down are sums of V or M such terms; the difference of two
 * softmaxes loses another digit. bf16 rounds states, weights and softmaxes to 8 bits. */
#include <math.h>

#include "tests/op_case.h"

#define VOCAB   .tolerance = 1e-5, .bf16_tolerance = 3e-2
#define TEACHER .tolerance = 1e-5, .bf16_tolerance = 8e-2

/* An output weight [V, H] for `run`: tied of that type, or own when the type is DTYPE_COUNT. */
static struct vocab make_vocab(struct op_run *run, int64_t rows, int64_t cols, int64_t type)
{
    const unsigned uses = WEIGHT_FORWARD | WEIGHT_BACKWARD | WEIGHT_ROWS;
    struct vocab vocab = {NULL, matrix_none()};
    if (type == DTYPE_COUNT)
        vocab.own = shared_input(run, rows, cols, 0.5);
    else
        vocab.tied = shared_weight(run, (enum dtype)type, rows, cols, false, uses);
    return vocab;
}

enum { LSE = 1, LABEL = 2, TOP = 4, TOP_LOGIT = 8, ENTROPY = 16, U = 32, ALL = 63 };

/* An output of op_vocab_stats if it is wanted. */
static struct matrix wanted(struct op_run *run, int64_t outputs, int64_t which, enum dtype type, int64_t cols)
{
    return outputs & which ? row_output(run, type, run->batch, cols) : matrix_none();
}

/* shape: V, H, type, outputs */
static void run_stats(struct op_run *run, const int64_t *shape)
{
    const int64_t outputs = shape[3];
    struct matrix h = row_input(run, run->batch, shape[1]);
    struct matrix labels = row_integers(run, run->batch, -1, (int32_t)shape[0]);
    struct vocab vocab = make_vocab(run, shape[0], shape[1], shape[2]);
    struct vocab_stats stats = {
        .lse = wanted(run, outputs, LSE, DTYPE_F32, 1),
        .label = wanted(run, outputs, LABEL, DTYPE_F32, 1),
        .top = wanted(run, outputs, TOP, DTYPE_I32, 1),
        .top_logit = wanted(run, outputs, TOP_LOGIT, DTYPE_F32, 1),
        .entropy = wanted(run, outputs, ENTROPY, DTYPE_F32, 1),
        .u = wanted(run, outputs, U, DTYPE_F32, shape[1]),
    };
    op_vocab_stats(run->queue, h, &vocab, outputs & LABEL ? labels : matrix_none(), &stats);
}

/* shape: V, H, type, the teacher's type */
static void run_cross(struct op_run *run, const int64_t *shape)
{
    struct matrix h = row_input(run, run->batch, shape[1]), t = row_input(run, run->batch, shape[1]);
    struct vocab vocab = make_vocab(run, shape[0], shape[1], shape[2]);
    struct vocab teacher = make_vocab(run, shape[0], shape[1], shape[3]);
    op_vocab_cross(run->queue, h, &vocab, t, &teacher, row_output(run, DTYPE_F32, run->batch, 1));
}

/* shape: V, H, type, the teacher's type, target. u is that of a teacher with the same weight. */
static void run_loss(struct op_run *run, const int64_t *shape)
{
    const int64_t rows = run->batch, cols = shape[1];
    struct matrix h = row_input(run, rows, cols);
    struct vocab vocab = make_vocab(run, shape[0], cols, shape[2]);
    struct vocab_loss target = {.target = (enum vocab_target)shape[4], .scale = 50};
    if (target.target == VOCAB_LABELS) {
        target.labels = row_integers(run, rows, -1, (int32_t)shape[0]);
    } else if (target.target == VOCAB_U) {
        target.u = row_output(run, DTYPE_F32, rows, cols);
        op_vocab_stats(run->queue, row_input(run, rows, cols), &vocab, matrix_none(),
                       &(struct vocab_stats){.u = target.u});
    } else {
        target.teacher_state = row_input(run, rows, cols);
        target.teacher = make_vocab(run, shape[0], shape[1], shape[3]);
    }
    struct matrix loss = row_output(run, DTYPE_F32, rows, 1), dh = row_output(run, DTYPE_F32, rows, cols);
    struct matrix down = vocab.tied ? matrix_none() : shared_output(run, DTYPE_F32, shape[0], cols);
    op_vocab_loss(run->queue, h, &vocab, &target, loss, dh, down);
}

enum { OWN = DTYPE_COUNT };
static const struct op_case cases[] = {
    {"op_vocab_stats", run_stats, {77, 37, DTYPE_F32, ALL}, .batches = {1, 7, 9, 70, 600}, VOCAB},
    {"op_vocab_stats", run_stats, {5197, 64, DTYPE_Q8_0, ALL}, VOCAB},
    {"op_vocab_stats", run_stats, {5197, 32, OWN, ALL}, VOCAB},
    {"op_vocab_stats", run_stats, {500, 33, OWN, LSE | LABEL}, VOCAB},
    {"op_vocab_stats", run_stats, {500, 64, DTYPE_Q4_1, TOP}, VOCAB},
    {"op_vocab_stats", run_stats, {500, 64, DTYPE_BF16, TOP_LOGIT | ENTROPY}, VOCAB},
    {"op_vocab_stats", run_stats, {500, 64, DTYPE_F16, U}, VOCAB},
    {"op_vocab_cross", run_cross, {77, 37, DTYPE_F32, DTYPE_F32}, .batches = {1, 7, 9, 70, 600}, VOCAB},
    {"op_vocab_cross", run_cross, {5197, 32, OWN, DTYPE_Q8_0}, VOCAB},
    {"op_vocab_cross", run_cross, {500, 64, DTYPE_Q8_0, OWN}, VOCAB},
    {"op_vocab_loss labels", run_loss, {77, 37, OWN, 0, VOCAB_LABELS}, .batches = {1, 7, 9, 70, 600}, VOCAB},
    {"op_vocab_loss labels", run_loss, {5197, 64, DTYPE_Q8_0, 0, VOCAB_LABELS}, VOCAB},
    {"op_vocab_loss labels", run_loss, {5197, 32, OWN, 0, VOCAB_LABELS}, .batches = {1, 9, 300}, VOCAB},
    {"op_vocab_loss labels", run_loss, {3, 32, OWN, 0, VOCAB_LABELS}, VOCAB},
    {"op_vocab_loss u", run_loss, {77, 37, DTYPE_F32, 0, VOCAB_U}, .batches = {1, 7, 9, 70, 600}, VOCAB},
    {"op_vocab_loss u", run_loss, {5197, 64, DTYPE_Q8_0, 0, VOCAB_U}, VOCAB},
    {"op_vocab_loss q", run_loss, {77, 37, OWN, DTYPE_F32, VOCAB_TEACHER}, .batches = {1, 7, 9, 600}, TEACHER},
    {"op_vocab_loss q", run_loss, {5197, 32, OWN, DTYPE_Q8_0, VOCAB_TEACHER}, TEACHER},
    {"op_vocab_loss q", run_loss, {500, 64, DTYPE_Q8_0, OWN, VOCAB_TEACHER}, TEACHER},
};
OP_TESTS(vocab, cases)

/* All logits are equal: the smallest id is the top one, and the entropy that of the uniform. */
TEST(vocab_stats_of_ties)
{
    static const char *const devices[] = {"cpu", "ref"};
    enum { ROWS = 12, SIZE = 5000, COLS = 24 };
    static float weight[SIZE * COLS];
    for (int i = 0; i < 4; i++) {
        struct error error;
        struct backend *backend;
        struct queue *queue;
        struct buffer *h, *own, *top, *entropy;
        int32_t tops[ROWS];
        float entropies[ROWS];
        const int rows = i / 2 ? ROWS : 3;
        REQUIRE_OK(backend_open(devices[i % 2], &(struct backend_options){.threads = 2}, &backend, &error));
        REQUIRE_OK(queue_create(backend, &queue, &error));
        REQUIRE_OK(buffer_create(backend, ROWS * COLS * sizeof(float), &h, &error));
        REQUIRE_OK(buffer_create(backend, sizeof weight, &own, &error));
        REQUIRE_OK(buffer_create(backend, sizeof tops, &top, &error));
        REQUIRE_OK(buffer_create(backend, sizeof entropies, &entropy, &error));
        for (int k = 0; k < SIZE * COLS; k++)
            weight[k] = (float)(k % 7) - 3;
        op_write(queue, matrix_f32(own, SIZE, COLS), weight);
        const struct vocab vocab = {NULL, matrix_f32(own, SIZE, COLS)};
        op_vocab_stats(
            queue, matrix_f32(h, rows, COLS), &vocab, matrix_none(),
            &(struct vocab_stats){.top = matrix_i32(top, rows, 1), .entropy = matrix_f32(entropy, rows, 1)});
        op_read(queue, matrix_i32(top, rows, 1), tops);
        op_read(queue, matrix_f32(entropy, rows, 1), entropies);
        REQUIRE_OK(queue_wait(queue, &error));
        for (int m = 0; m < rows; m++) {
            CHECK(tops[m] == 0);
            CHECK(fabs((double)entropies[m] - log(SIZE)) < 1e-5); /* some roundings of a sum of 5,000 */
        }
        buffer_destroy(h);
        buffer_destroy(own);
        buffer_destroy(top);
        buffer_destroy(entropy);
        queue_destroy(queue);
        backend_close(backend);
    }
}

TEST_MAIN
