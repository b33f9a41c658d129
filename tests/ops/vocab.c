/* vocab.c: the fused ops of the vocabulary on every backend.
 *
 * Tolerances: a logit is a sum of H products (sqrt(H) 2^-24, about 5e-7 of its rms), exp turns its
 * error into a relative one, and u, dh and down are sums of V or M such terms; the difference of two
 * softmaxes loses another digit. bf16 rounds states, weights and softmaxes to 8 bits. */
#include <math.h>
#include <stdlib.h>

#include "tests/op_case.h"

#define VOCAB   .tolerance = 1e-5, .bf16_tolerance = 3e-2, .few = true
#define TALL    VOCAB, .many = 60, .batches = {1, 9, 33}
#define TEACHER .tolerance = 1e-5, .bf16_tolerance = 8e-2, .few = true

enum { OWN = DTYPE_COUNT, SUBSET };

/* An output weight [V, H] for `run`: tied of that type, own, or, of SUBSET + type, rows gathered from a tied one. */
static struct vocab make_vocab(struct op_run *run, int64_t rows, int64_t cols, int64_t type)
{
    const unsigned uses = WEIGHT_FORWARD | WEIGHT_BACKWARD | WEIGHT_ROWS;
    struct vocab vocab = {NULL, matrix_none()};
    if (type == OWN)
        vocab.own = shared_input(run, rows, cols, 0.5);
    else if (type >= SUBSET)
        vocab.tied = shared_subset(run, (enum dtype)(type - SUBSET), rows, cols);
    else
        vocab.tied = shared_weight(run, (enum dtype)type, rows, cols, false, uses);
    return vocab;
}

enum { LSE = 1, LABEL = 2, TOP = 4, TOP_LOGIT = 8, ENTROPY = 16, U = 32, ALL = 63 };
#define BEST(count) ((count) << 6)

/* An output of op_vocab_stats if it is wanted. */
static struct matrix wanted(struct op_run *run, int64_t outputs, int64_t which, enum dtype type, int64_t cols)
{
    return outputs & which ? row_output(run, type, run->batch, cols) : matrix_none();
}

/* shape: V, H, type, outputs, and how many of the best by BEST */
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
        .best = wanted(run, outputs, ~ALL, DTYPE_I32, outputs >> 6),
        .best_logit = wanted(run, outputs, ~ALL, DTYPE_F32, outputs >> 6),
    };
    op_vocab_stats(run->queue, h, &vocab, outputs & LABEL ? labels : matrix_none(), &stats);
}

/* Every row of the weight is there twice, so that equal logits are. shape: V / 2, H, how many of the best */
static void run_twins(struct op_run *run, const int64_t *shape)
{
    const int64_t half = shape[0];
    struct matrix h = row_input(run, run->batch, shape[1]), once = shared_input(run, half, shape[1], 0.5);
    struct vocab vocab = {NULL, shared_output(run, DTYPE_F32, 2 * half, shape[1])};
    struct vocab_stats stats = {.top = row_output(run, DTYPE_I32, run->batch, 1),
                                .best = row_output(run, DTYPE_I32, run->batch, shape[2]),
                                .best_logit = row_output(run, DTYPE_F32, run->batch, shape[2])};
    op_copy(run->queue, once, matrix_rows(vocab.own, 0, half));
    op_copy(run->queue, once, matrix_rows(vocab.own, half, half));
    op_vocab_stats(run->queue, h, &vocab, matrix_none(), &stats);
}

/* shape: V, H, type, the teacher's type */
static void run_cross(struct op_run *run, const int64_t *shape)
{
    struct matrix h = row_input(run, run->batch, shape[1]), t = row_input(run, run->batch, shape[1]);
    struct vocab vocab = make_vocab(run, shape[0], shape[1], shape[2]);
    struct vocab teacher = make_vocab(run, shape[0], shape[1], shape[3]);
    op_vocab_cross(run->queue, h, &vocab, t, &teacher, row_output(run, DTYPE_F32, run->batch, 1));
}

enum { SHIFTED = 1, WEIGHTED = 2, MIXED = 4, WARM = 8, COLD = 16 };

/* shape: V, H, type, the teacher's type, target, and of the above. u is that of a teacher with the same weight. */
static void run_loss(struct op_run *run, const int64_t *shape)
{
    const int64_t rows = run->batch, cols = shape[1];
    struct matrix h = row_input(run, rows, cols);
    struct vocab vocab = make_vocab(run, shape[0], cols, shape[2]);
    struct vocab_loss target = {.target = (enum vocab_target)shape[4],
                                .share = shape[5] & MIXED ? 0.3f : 0,
                                .weighted = shape[5] & WEIGHTED,
                                .temperature = shape[5] & WARM   ? 2
                                               : shape[5] & COLD ? 0.7f
                                                                 : 1,
                                .scale = 50};
    if (target.target == VOCAB_LABELS || shape[5] & MIXED)
        target.labels =
            row_integers(run, rows, shape[5] & MIXED ? -(int32_t)shape[0] / 3 : -1, (int32_t)shape[0]);
    if (target.target == VOCAB_U) {
        target.u = row_output(run, DTYPE_F32, rows, cols);
        op_vocab_stats(run->queue, row_input(run, rows, cols), &vocab, matrix_none(),
                       &(struct vocab_stats){.u = target.u});
    } else if (target.target == VOCAB_TEACHER) {
        target.teacher_state = row_input(run, rows, cols);
        target.teacher = make_vocab(run, shape[0], shape[1], shape[3]);
    }
    struct matrix loss = row_output(run, DTYPE_F32, rows, 1), dh = row_output(run, DTYPE_F32, rows, cols);
    const bool trained = !vocab.tied && target.target != VOCAB_U;
    struct matrix down = trained ? shared_output(run, DTYPE_F32, shape[0], cols) : matrix_none();
    target.shift = shape[5] & SHIFTED ? shared_input(run, 1, shape[0], 1) : matrix_none();
    op_vocab_loss(run->queue, h, &vocab, &target, loss, dh, down);
}

static const struct op_case cases[] = {
    {"op_vocab_stats", run_stats, {77, 37, DTYPE_F32, ALL}, .batches = {1, 7, 9, 70, 600}, VOCAB},
    {"op_vocab_stats", run_stats, {5197, 64, DTYPE_Q8_0, ALL}, TALL},
    {"op_vocab_stats", run_stats, {5197, 32, OWN, ALL}, TALL},
    {"op_vocab_stats", run_stats, {4609, 33, OWN, ALL}, TALL}, /* the last tile is one token */
    {"op_vocab_stats", run_stats, {2, 16, DTYPE_F32, ALL}, VOCAB},
    {"op_vocab_stats", run_stats, {64, 48, DTYPE_F32, ALL}, .batches = {9, 33}, VOCAB},
    {"op_vocab_stats", run_stats, {500, 33, OWN, LSE | LABEL}, VOCAB},
    {"op_vocab_stats", run_stats, {500, 64, DTYPE_Q4_1, TOP}, VOCAB},
    {"op_vocab_stats", run_stats, {500, 64, DTYPE_BF16, TOP_LOGIT | ENTROPY}, VOCAB},
    {"op_vocab_stats", run_stats, {500, 64, DTYPE_F16, U}, VOCAB},
    {"op_vocab_stats", run_stats, {530, 800, DTYPE_Q8_0, ALL}, .batches = {9, 70}, VOCAB}, /* long sums */
    {"op_vocab_stats", run_stats, {77, 37, DTYPE_F32, ALL | BEST(8)}, .batches = {1, 7, 9, 70, 600}, VOCAB},
    {"op_vocab_stats", run_stats, {5197, 64, DTYPE_Q8_0, ALL | BEST(8)}, TALL},
    {"op_vocab_stats", run_stats, {4609, 33, OWN, BEST(VOCAB_BEST_MOST)}, TALL},
    {"op_vocab_stats", run_stats, {2, 16, DTYPE_F32, BEST(2)}, VOCAB}, /* all there are */
    {"op_vocab_stats", run_stats, {500, 64, DTYPE_Q4_1, BEST(1) | LSE}, VOCAB},
    {"op_vocab_stats of equal logits", run_twins, {40, 16, 7}, VOCAB},
    {"op_vocab_stats of equal logits", run_twins, {3072, 8, 8}, TALL}, /* twins are one device thread's */
    {"op_vocab_cross", run_cross, {77, 37, DTYPE_F32, DTYPE_F32}, .batches = {1, 7, 9, 70, 600}, VOCAB},
    {"op_vocab_cross", run_cross, {5197, 32, OWN, DTYPE_Q8_0}, TALL},
    {"op_vocab_cross", run_cross, {500, 64, DTYPE_Q8_0, OWN}, VOCAB},
    {"op_vocab_loss labels", run_loss, {77, 37, OWN, 0, VOCAB_LABELS}, .batches = {1, 7, 9, 70, 600}, VOCAB},
    {"op_vocab_loss labels", run_loss, {5197, 64, DTYPE_Q8_0, 0, VOCAB_LABELS}, TALL},
    {"op_vocab_loss labels",
     run_loss,
     {5197, 32, OWN, 0, VOCAB_LABELS},
     VOCAB,
     .many = 60,
     .batches = {1, 9, 300}},
    {"op_vocab_loss labels", run_loss, {3, 32, OWN, 0, VOCAB_LABELS}, VOCAB},
    {"op_vocab_loss u", run_loss, {77, 37, DTYPE_F32, 0, VOCAB_U}, .batches = {1, 7, 9, 70, 600}, VOCAB},
    {"op_vocab_loss u", run_loss, {5197, 64, DTYPE_Q8_0, 0, VOCAB_U}, TALL},
    {"op_vocab_loss q", run_loss, {77, 37, OWN, DTYPE_F32, VOCAB_TEACHER}, .batches = {1, 7, 9, 600}, TEACHER},
    {"op_vocab_loss q",
     run_loss,
     {5197, 32, OWN, DTYPE_Q8_0, VOCAB_TEACHER},
     TEACHER,
     .many = 60,
     .batches = {1, 9, 33}},
    {"op_vocab_loss q", run_loss, {500, 64, DTYPE_Q8_0, OWN, VOCAB_TEACHER}, TEACHER},
    {"op_vocab_loss u", run_loss, {530, 33, OWN, 0, VOCAB_U}, .batches = {1, 9, 70, 300}, VOCAB},
    {"op_vocab_loss shifted labels", run_loss, {77, 37, OWN, 0, VOCAB_LABELS, SHIFTED}, VOCAB},
    {"op_vocab_loss shifted labels", run_loss, {5197, 64, DTYPE_Q8_0, 0, VOCAB_LABELS, SHIFTED}, TALL},
    {"op_vocab_loss shifted u", run_loss, {5197, 64, DTYPE_Q8_0, 0, VOCAB_U, SHIFTED}, TALL},
    {"op_vocab_loss shifted u", run_loss, {1030, 32, OWN, 0, VOCAB_U, SHIFTED}, TALL},
    {"op_vocab_loss shifted q", run_loss, {530, 33, OWN, DTYPE_F32, VOCAB_TEACHER, SHIFTED}, TEACHER},
    {"op_vocab_stats", run_stats, {1030, 64, SUBSET + DTYPE_Q8_0, ALL}, TALL},
    {"op_vocab_cross", run_cross, {530, 32, OWN, SUBSET + DTYPE_Q4_1}, VOCAB},
    {"op_vocab_cross", run_cross, {530, 33, SUBSET + DTYPE_F32, OWN}, VOCAB},
    {"op_vocab_cross", run_cross, {530, 64, SUBSET + DTYPE_F32, SUBSET + DTYPE_Q8_0}, VOCAB},
    {"op_vocab_loss subset labels",
     run_loss,
     {1030, 64, SUBSET + DTYPE_Q8_0, 0, VOCAB_LABELS, SHIFTED},
     VOCAB,
     .many = 600,
     .batches = {1, 9, 33, 300}},
    {"op_vocab_loss subset u",
     run_loss,
     {513, 37, SUBSET + DTYPE_F32, 0, VOCAB_U, SHIFTED},
     VOCAB,
     .many = 600,
     .batches = {1, 9, 33, 600}},
    {"op_vocab_loss subset u", run_loss, {4500, 32, SUBSET + DTYPE_BF16, 0, VOCAB_U, SHIFTED}, TALL},
    {"op_vocab_loss subset u", run_loss, {3, 800, SUBSET + DTYPE_F16, 0, VOCAB_U, SHIFTED}, VOCAB},
    {"op_vocab_loss subset q", run_loss, {530, 33, OWN, SUBSET + DTYPE_F32, VOCAB_TEACHER, SHIFTED}, TEACHER},
    {"op_vocab_loss weighted labels",
     run_loss,
     {77, 37, OWN, 0, VOCAB_LABELS, WEIGHTED},
     .batches = {1, 7, 9, 600},
     VOCAB},
    {"op_vocab_loss weighted labels",
     run_loss,
     {5197, 64, DTYPE_Q8_0, 0, VOCAB_LABELS, WEIGHTED | SHIFTED},
     TALL},
    {"op_vocab_loss weighted u", run_loss, {1030, 37, DTYPE_F32, 0, VOCAB_U, WEIGHTED | SHIFTED}, VOCAB},
    {"op_vocab_loss weighted q", run_loss, {530, 33, OWN, DTYPE_F32, VOCAB_TEACHER, WEIGHTED}, TEACHER},
    {"op_vocab_loss mixed u",
     run_loss,
     {77, 37, DTYPE_F32, 0, VOCAB_U, MIXED},
     .batches = {1, 7, 9, 70, 600},
     VOCAB},
    {"op_vocab_loss mixed u", run_loss, {5197, 64, DTYPE_Q8_0, 0, VOCAB_U, MIXED | WEIGHTED | SHIFTED}, TALL},
    {"op_vocab_loss mixed q",
     run_loss,
     {77, 37, OWN, DTYPE_F32, VOCAB_TEACHER, MIXED},
     .batches = {1, 7, 9, 600},
     TEACHER},
    {"op_vocab_loss mixed q",
     run_loss,
     {530, 33, OWN, DTYPE_F32, VOCAB_TEACHER, MIXED | WEIGHTED | SHIFTED},
     TEACHER},
    {"op_vocab_loss warm q",
     run_loss,
     {77, 37, OWN, DTYPE_F32, VOCAB_TEACHER, WARM},
     .batches = {1, 7, 9, 600},
     TEACHER},
    {"op_vocab_loss cold q",
     run_loss,
     {500, 64, DTYPE_Q8_0, DTYPE_Q8_0, VOCAB_TEACHER, COLD | SHIFTED},
     TEACHER},
    {"op_vocab_loss warm weighted q",
     run_loss,
     {530, 33, OWN, OWN, VOCAB_TEACHER, WARM | WEIGHTED | SHIFTED},
     TEACHER},
    {"op_vocab_loss warm mixed q",
     run_loss,
     {77, 37, OWN, DTYPE_F32, VOCAB_TEACHER, WARM | MIXED | WEIGHTED},
     TEACHER},
    {"op_vocab_loss warm mixed q",
     run_loss,
     {5197, 32, OWN, DTYPE_Q8_0, VOCAB_TEACHER, WARM | MIXED | SHIFTED},
     TEACHER,
     .many = 60,
     .batches = {1, 9, 33}},
    {"op_vocab_loss subset mixed u",
     run_loss,
     {513, 37, SUBSET + DTYPE_F32, 0, VOCAB_U, MIXED | WEIGHTED | SHIFTED},
     VOCAB,
     .many = 600,
     .batches = {1, 9, 33, 600}},
    {"op_vocab_loss subset warm mixed q",
     run_loss,
     {513, 37, SUBSET + DTYPE_F32, SUBSET + DTYPE_F32, VOCAB_TEACHER, WARM | MIXED | WEIGHTED | SHIFTED},
     TEACHER,
     .many = 600,
     .batches = {1, 9, 33, 600}},
};
OP_TESTS(vocab, cases)

/* ---- one vocabulary of one's own on one device ---- */

enum { ROWS = 12, FEW = 6, SIZE = 5000, COLS = 24 };

struct scene {
    struct backend *backend;
    struct queue *queue;
    struct buffer *buffer[5];
    struct matrix h, dh, integers, floats; /* [rows, COLS] twice, [rows, 1] twice */
    struct vocab vocab;
};

static void scene_open(struct scene *scene, const char *device, int64_t rows, const float *weight,
                       const float *h)
{
    struct error error;
    const int64_t sizes[5] = {rows * COLS, rows * COLS, rows, rows, SIZE * COLS};
    bool failed = backend_open(device, &(struct backend_options){.threads = 2}, &scene->backend, &error) < 0 ||
                  queue_create(scene->backend, &scene->queue, &error) < 0;
    for (int i = 0; i < 5 && !failed; i++)
        failed = buffer_create(scene->backend, (size_t)sizes[i] * 4, &scene->buffer[i], &error) < 0;
    if (failed) {
        fprintf(stderr, "vocab: %s\n", error.text);
        exit(1);
    }
    scene->h = matrix_f32(scene->buffer[0], rows, COLS);
    scene->dh = matrix_f32(scene->buffer[1], rows, COLS);
    scene->integers = matrix_i32(scene->buffer[2], rows, 1);
    scene->floats = matrix_f32(scene->buffer[3], rows, 1);
    scene->vocab = (struct vocab){NULL, matrix_f32(scene->buffer[4], SIZE, COLS)};
    op_write(scene->queue, scene->vocab.own, weight);
    op_write(scene->queue, scene->h, h);
}

static void scene_close(struct scene *scene)
{
    struct error error;
    if (queue_wait(scene->queue, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    for (int i = 0; i < 5; i++)
        buffer_destroy(scene->buffer[i]);
    queue_destroy(scene->queue);
    backend_close(scene->backend);
}

static const struct {
    const char *device;
    int64_t rows;
} scenes[] = {{"ref", ROWS}, {"cpu", ROWS}, {"cpu", FEW}};
enum { SCENES = sizeof scenes / sizeof *scenes };

/* All logits are equal: the smallest id is the top one, and the entropy that of the uniform. */
TEST(vocab_stats_of_ties)
{
    static float weight[SIZE * COLS];
    const float zeros[ROWS * COLS] = {0};
    for (int k = 0; k < SIZE * COLS; k++)
        weight[k] = (float)(k % 7) - 3;
    for (int i = 0; i < SCENES; i++) {
        struct scene scene;
        int32_t tops[ROWS];
        float entropies[ROWS];
        scene_open(&scene, scenes[i].device, scenes[i].rows, weight, zeros);
        op_vocab_stats(scene.queue, scene.h, &scene.vocab, matrix_none(),
                       &(struct vocab_stats){.top = scene.integers, .entropy = scene.floats});
        op_read(scene.queue, scene.integers, tops);
        op_read(scene.queue, scene.floats, entropies);
        scene_close(&scene);
        for (int m = 0; m < scenes[i].rows; m++) {
            CHECK(tops[m] == 0);
            CHECK(fabs((double)entropies[m] - log(SIZE)) < 1e-5); /* some roundings of a sum of 5,000 */
        }
    }
}

/* Of a row that is not finite the best tokens are tokens; the other rows do not notice. */
TEST(vocab_best_of_a_row_that_is_not_a_number)
{
    enum { BEST_COUNT = 5, BAD = 4 };
    static float weight[SIZE * COLS];
    float states[ROWS * COLS];
    for (int k = 0; k < SIZE * COLS; k++)
        weight[k] = k % COLS == 0 ? (float)(k / COLS % 1000) : 0; /* logits: id % 1000, five of each */
    for (int k = 0; k < ROWS * COLS; k++)
        states[k] = k / COLS == BAD ? NAN : k % COLS == 0;
    for (int i = 0; i < SCENES; i++) {
        struct scene scene;
        int32_t best[ROWS * BEST_COUNT];
        float logits[ROWS * BEST_COUNT];
        scene_open(&scene, scenes[i].device, scenes[i].rows, weight, states);
        const struct matrix tokens = matrix_i32(scene.dh.buffer, scenes[i].rows, BEST_COUNT),
                            found = matrix_rows(matrix_f32(scene.dh.buffer, 2 * scenes[i].rows, BEST_COUNT),
                                                scenes[i].rows, scenes[i].rows);
        op_vocab_stats(scene.queue, scene.h, &scene.vocab, matrix_none(),
                       &(struct vocab_stats){.best = tokens, .best_logit = found});
        op_read(scene.queue, tokens, best);
        op_read(scene.queue, found, logits);
        scene_close(&scene);
        for (int m = 0; m < scenes[i].rows; m++)
            for (int k = 0; k < BEST_COUNT; k++) {
                const int32_t token = best[m * BEST_COUNT + k];
                CHECK(m == BAD ? token >= 0 && token < SIZE
                               : token == 999 + 1000 * k && logits[m * BEST_COUNT + k] == 999);
            }
    }
}

/* A row that is not finite has a loss that is not: that is how a trial learns that it has diverged. The
 * other rows do not notice. */
TEST(vocab_loss_of_a_row_that_is_not_a_number)
{
    static const float weight[SIZE * COLS]; /* zeros; 0 times NaN is NaN */
    enum { BAD = 4 };
    float states[ROWS * COLS] = {0};
    states[BAD * COLS + 3] = NAN;
    for (int i = 0; i < SCENES; i++) {
        struct scene scene;
        float losses[ROWS];
        scene_open(&scene, scenes[i].device, scenes[i].rows, weight, states);
        const struct vocab_loss target = {.target = VOCAB_LABELS, .labels = scene.integers, .scale = 1};
        op_vocab_loss(scene.queue, scene.h, &scene.vocab, &target, scene.floats, scene.dh, matrix_none());
        op_read(scene.queue, scene.floats, losses);
        scene_close(&scene);
        for (int m = 0; m < scenes[i].rows; m++)
            CHECK(m == BAD ? isnan(losses[m]) : fabs((double)losses[m] - log(SIZE)) < 1e-5);
    }
}

TEST_MAIN
