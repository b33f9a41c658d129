/* gradients.c: ref's gradients against finite differences of ref's forward ops. (The gradients of the
 * other backends are compared with ref's.)
 *
 * The fourth-order formula (8 (f(+h) - f(-h)) - (f(+2h) - f(-2h))) / 12 h is off by h^4 f^(5) / 30,
 * 3e-8 f^(5) at h = 1/32, and by the rounding of f32 forward results, about 1e-7 f / h = 3e-6 f.
 * With f up to a hundred times the gradient's rms, 1e-3 of that rms is safe. */
#include <math.h>
#include <stdlib.h>

#include "common/base/random.h"
#include "kernels/ops.h"
#include "tests/test.h"

static const float step = 1.0f / 32;
static const double tolerance = 1e-3;

enum { MATRICES = 12, SAMPLES = 60 };

struct lab {
    struct backend *backend;
    struct queue *queue;
    struct error error;
    struct random random;
    double (*loss)(struct lab *lab); /* what is differentiated, from what follows */
    struct matrix x, scale, y, dy, dx, dscale;
    struct matrix positions; /* of rope */
    enum rope_pairs pairs;
    struct attention attention;
    struct attention_span spans[2], dspans[2];
    struct vocab vocab;
    struct vocab_loss target;
    struct weight *weight;
    float *weight_values;
    struct buffer *buffer[MATRICES];
    int count;
};

static void lab_open(struct lab *lab, double (*loss)(struct lab *))
{
    *lab = (struct lab){.random = {5}, .loss = loss};
    if (backend_open("ref", &(struct backend_options){.threads = 1}, &lab->backend, &lab->error) < 0 ||
        queue_create(lab->backend, &lab->queue, &lab->error) < 0) {
        fprintf(stderr, "gradients: %s\n", lab->error.text);
        exit(1);
    }
}

static void lab_close(struct lab *lab)
{
    if (queue_wait(lab->queue, &lab->error) < 0)
        test_fail(__FILE__, __LINE__, "%s", lab->error.text);
    for (int i = 0; i < lab->count; i++)
        buffer_destroy(lab->buffer[i]);
    weight_destroy(lab->weight);
    free(lab->weight_values);
    queue_destroy(lab->queue);
    backend_close(lab->backend);
}

/* Random values, multiples of 2^-10, so that the steps of the differences are exact. free() them. */
static float *random_values(struct lab *lab, int64_t count, double deviation)
{
    float *values = calloc((size_t)count, sizeof *values);
    for (int64_t i = 0; values && i < count; i++)
        values[i] = (float)(round(deviation * random_normal(&lab->random) * 1024) / 1024);
    return values;
}

static struct matrix lab_matrix(struct lab *lab, int64_t rows, int64_t cols, double deviation)
{
    float *values = random_values(lab, rows * cols, deviation);
    struct buffer **buffer = &lab->buffer[lab->count++];
    if (lab->count > MATRICES ||
        buffer_create(lab->backend, (size_t)(rows * cols) * sizeof(float), buffer, &lab->error) < 0) {
        fprintf(stderr, "gradients: no room for another matrix\n");
        exit(1);
    }
    struct matrix matrix = matrix_f32(*buffer, rows, cols);
    op_write(lab->queue, matrix, values);
    free(values);
    return matrix;
}

static void lab_weight(struct lab *lab, int64_t rows, int64_t cols, bool bias)
{
    lab->weight_values = random_values(lab, rows * cols, 0.5);
    const struct weight_part part = {DTYPE_F32, rows, cols, lab->weight_values};
    const unsigned uses = WEIGHT_FORWARD | WEIGHT_BACKWARD | WEIGHT_ROWS;
    if (weight_prepare(lab->backend, &part, 1, bias ? lab->weight_values : NULL, uses, &lab->weight,
                       &lab->error) < 0)
        test_fail(__FILE__, __LINE__, "%s", lab->error.text);
}

static float value_of(struct lab *lab, struct matrix matrix, int64_t row, int64_t col)
{
    float value = 0;
    op_read(lab->queue, matrix_cols(matrix_rows(matrix, row, 1), col, 1), &value);
    return value;
}

/* The loss with one value of `parameter` moved by `move`. */
static double loss_at(struct lab *lab, struct matrix parameter, int64_t row, int64_t col, float move)
{
    const struct matrix cell = matrix_cols(matrix_rows(parameter, row, 1), col, 1);
    const float value = value_of(lab, parameter, row, col), moved = value + move;
    op_write(lab->queue, cell, &moved);
    const double loss = lab->loss(lab);
    op_write(lab->queue, cell, &value);
    return loss;
}

/* Compares `gradient` with finite differences by `parameter`, for some of its values. */
static void check_gradient(struct lab *lab, const char *name, struct matrix parameter, struct matrix gradient)
{
    const int64_t count = parameter.rows * parameter.cols;
    double squares = 0;
    float *values = calloc((size_t)count, sizeof *values); /* losses overwrite the gradient */
    op_read(lab->queue, gradient, values);
    for (int64_t i = 0; i < count; i++)
        squares += (double)values[i] * (double)values[i];
    const double rms = sqrt(squares / (double)count);
    CHECK(rms > 0);
    for (int sample = 0; sample < SAMPLES; sample++) {
        const int64_t index =
            count <= SAMPLES ? sample % count : (int64_t)(random_next(&lab->random) % (uint64_t)count);
        const int64_t row = index / parameter.cols, col = index % parameter.cols;
        const double near = loss_at(lab, parameter, row, col, step) - loss_at(lab, parameter, row, col, -step);
        const double far =
            loss_at(lab, parameter, row, col, 2 * step) - loss_at(lab, parameter, row, col, -2 * step);
        const double difference = (8 * near - far) / (12 * (double)step);
        if (!(fabs(difference - (double)values[index]) <= tolerance * rms))
            test_fail(__FILE__, __LINE__, "%s at [%lld, %lld]: gradient %g, difference %g, rms %g", name,
                      (long long)row, (long long)col, (double)values[index], difference, rms);
    }
    free(values);
}

/* sum of dy y */
static double weighted_sum(struct lab *lab)
{
    const size_t count = (size_t)(lab->y.rows * lab->y.cols);
    float *y = calloc(2 * count, sizeof *y), *dy = y + count;
    double sum = 0;
    op_read(lab->queue, lab->y, y);
    op_read(lab->queue, lab->dy, dy);
    for (size_t i = 0; i < count; i++)
        sum += (double)y[i] * (double)dy[i];
    free(y);
    return sum;
}

static double norm_loss(struct lab *lab)
{
    op_norm(lab->queue, lab->x, lab->scale, 0.01f, lab->y);
    return weighted_sum(lab);
}

TEST(norm_grad_is_the_gradient_of_norm)
{
    static const int groups[] = {21, 7};
    for (int i = 0; i < 2; i++) {
        struct lab lab;
        lab_open(&lab, norm_loss);
        lab.x = lab_matrix(&lab, 5, 21, 1);
        lab.scale = lab_matrix(&lab, 1, groups[i], 1);
        lab.y = lab_matrix(&lab, 5, 21, 1);
        lab.dy = lab_matrix(&lab, 5, 21, 1);
        lab.dx = lab_matrix(&lab, 5, 21, 1);
        lab.dscale = lab_matrix(&lab, 1, groups[i], 0);
        op_norm_grad(lab.queue, lab.dy, lab.x, lab.scale, 0.01f, lab.dx, OP_STORE, lab.dscale);
        check_gradient(&lab, "dx", lab.x, lab.dx);
        check_gradient(&lab, "dscale", lab.scale, lab.dscale);
        lab_close(&lab);
    }
}

static double swiglu_loss(struct lab *lab)
{
    op_swiglu(lab->queue, lab->x, lab->y);
    return weighted_sum(lab);
}

TEST(swiglu_grad_is_the_gradient_of_swiglu)
{
    struct lab lab;
    lab_open(&lab, swiglu_loss);
    lab.x = lab_matrix(&lab, 4, 18, 2);
    lab.y = lab_matrix(&lab, 4, 9, 1);
    lab.dy = lab_matrix(&lab, 4, 9, 1);
    lab.dx = lab_matrix(&lab, 4, 18, 1);
    op_swiglu_grad(lab.queue, lab.dy, lab.x, lab.dx);
    check_gradient(&lab, "dx", lab.x, lab.dx);
    lab_close(&lab);
}

static double matmul_loss(struct lab *lab)
{
    op_matmul(lab->queue, lab->x, lab->weight, lab->y, OP_STORE);
    return weighted_sum(lab);
}

TEST(matmul_grad_is_the_gradient_of_matmul)
{
    struct lab lab;
    lab_open(&lab, matmul_loss);
    lab_weight(&lab, 11, 6, true);
    lab.x = lab_matrix(&lab, 3, 6, 1);
    lab.y = lab_matrix(&lab, 3, 11, 1);
    lab.dy = lab_matrix(&lab, 3, 11, 1);
    lab.dx = lab_matrix(&lab, 3, 6, 1);
    op_matmul_grad(lab.queue, lab.dy, lab.weight, lab.dx, OP_STORE);
    check_gradient(&lab, "dx", lab.x, lab.dx);
    lab_close(&lab);
}

static double attention_loss(struct lab *lab)
{
    op_attention(lab->queue, &lab->attention, lab->x, lab->spans, 2, lab->y);
    return weighted_sum(lab);
}

enum { QUERIES = 4, KEYS = 6, HEADS = 4, KV_HEADS = 2, SIZE = 3, OWN = 2 };

/* x: queries of two spans, the second one of a window's length and with own keys where `own`. */
static void attention_lab(struct lab *lab, int window, int own)
{
    lab_open(lab, attention_loss);
    lab->attention = (struct attention){HEADS, KV_HEADS, SIZE, window, 0.4f};
    lab->x = lab_matrix(lab, 2 * QUERIES, HEADS * SIZE, 1);
    lab->y = lab_matrix(lab, 2 * QUERIES, HEADS * SIZE, 0);
    lab->dy = lab_matrix(lab, 2 * QUERIES, HEADS * SIZE, 1);
    lab->dx = lab_matrix(lab, 2 * QUERIES, HEADS * SIZE, 1);
    const struct matrix k = lab_matrix(lab, 2 * KEYS, 2 * KV_HEADS * SIZE, 1);
    const struct matrix dk = lab_matrix(lab, 2 * KEYS, 2 * KV_HEADS * SIZE, 0);
    const int width = KV_HEADS * SIZE, own_width = OWN * width;
    struct matrix own_k = {0}, own_dk = {0};
    if (own) {
        own_k = lab_matrix(lab, 2 * QUERIES, 2 * own_width, 1);
        own_dk = lab_matrix(lab, 2 * QUERIES, 2 * own_width, 0);
    }
    for (int s = 0; s < 2; s++) {
        const struct matrix keys[] = {k, dk}, owns[] = {own_k, own_dk};
        for (int d = 0; d < 2; d++) {
            struct attention_span *span = d ? &lab->dspans[s] : &lab->spans[s];
            const struct matrix rows = matrix_rows(keys[d], s * KEYS, KEYS - s);
            span->queries = QUERIES;
            span->k = matrix_cols(rows, 0, width);
            span->v = matrix_cols(rows, width, width);
            if (own) {
                span->own_k = matrix_cols(matrix_rows(owns[d], s * QUERIES, QUERIES), 0, own_width);
                span->own_v = matrix_cols(matrix_rows(owns[d], s * QUERIES, QUERIES), own_width, own_width);
            }
        }
    }
    op_attention(lab->queue, &lab->attention, lab->x, lab->spans, 2, lab->y);
    op_attention_grad(lab->queue, &lab->attention, lab->x, lab->spans, 2, lab->y, lab->dy, lab->dx,
                      lab->dspans);
}

TEST(attention_grad_is_the_gradient_of_attention)
{
    static const int windows[] = {0, 3, 0, 3};
    for (int i = 0; i < 4; i++) {
        struct lab lab;
        attention_lab(&lab, windows[i], i >= 2);
        check_gradient(&lab, "dq", lab.x, lab.dx);
        for (int s = 0; s < 2; s++) {
            check_gradient(&lab, "dk", lab.spans[s].k, lab.dspans[s].k);
            check_gradient(&lab, "dv", lab.spans[s].v, lab.dspans[s].v);
            if (i < 2)
                continue;
            check_gradient(&lab, "own_dk", lab.spans[s].own_k, lab.dspans[s].own_k);
            check_gradient(&lab, "own_dv", lab.spans[s].own_v, lab.dspans[s].own_v);
        }
        lab_close(&lab);
    }
}

static double rope_loss(struct lab *lab)
{
    op_copy(lab->queue, lab->x, lab->y);
    op_rope(lab->queue, lab->y, lab->positions, lab->scale, lab->pairs);
    return weighted_sum(lab);
}

TEST(rope_grad_is_the_gradient_of_rope)
{
    for (enum rope_pairs pairs = ROPE_ADJACENT; pairs <= ROPE_HALVES; pairs++) {
        static const int32_t positions[] = {2, 0, 3};
        struct lab lab;
        lab_open(&lab, rope_loss);
        lab.pairs = pairs;
        lab.x = lab_matrix(&lab, 3, 12, 1);
        lab.y = lab_matrix(&lab, 3, 12, 1);
        lab.dy = lab_matrix(&lab, 3, 12, 1);
        lab.dx = lab_matrix(&lab, 3, 12, 1);
        lab.scale = lab_matrix(&lab, 4, 6, 1); /* any numbers do for cosines and sines */
        lab.positions = lab_matrix(&lab, 3, 1, 0);
        lab.positions.type = DTYPE_I32;
        op_write(lab.queue, lab.positions, positions);
        op_copy(lab.queue, lab.dy, lab.dx);
        op_rope_grad(lab.queue, lab.dx, lab.positions, lab.scale, pairs);
        check_gradient(&lab, "dx", lab.x, lab.dx);
        lab_close(&lab);
    }
}

enum { ROWS = 5, WORDS = 13, WIDTH = 8 };

/* target.scale times the sum of the rows' losses; leaves the gradients in dx and (added) dscale. */
static double vocab_loss(struct lab *lab)
{
    float losses[ROWS];
    double sum = 0;
    op_vocab_loss(lab->queue, lab->x, &lab->vocab, &lab->target, lab->y, lab->dx, lab->dscale);
    op_read(lab->queue, lab->y, losses);
    for (int m = 0; m < ROWS; m++)
        sum += (double)losses[m];
    return sum * (double)lab->target.scale;
}

/* x: states, dx: their gradient, y: losses; for an own weight dscale: its gradient. */
static void vocab_lab(struct lab *lab, bool own, enum vocab_target target)
{
    lab_open(lab, vocab_loss);
    lab_weight(lab, WORDS, WIDTH, false);
    lab->x = lab_matrix(lab, ROWS, WIDTH, 1);
    lab->dx = lab_matrix(lab, ROWS, WIDTH, 1);
    lab->y = lab_matrix(lab, ROWS, 1, 1);
    lab->vocab.tied = own ? NULL : lab->weight;
    lab->target.target = target;
    lab->target.scale = 0.3f;
    if (own) {
        lab->vocab.own = lab_matrix(lab, WORDS, WIDTH, 0.7);
        lab->dscale = lab_matrix(lab, WORDS, WIDTH, 0);
    }
}

static void check_vocab_gradients(struct lab *lab)
{
    vocab_loss(lab);
    if (!lab->vocab.tied)
        check_gradient(lab, "down", lab->vocab.own, lab->dscale);
    vocab_loss(lab);
    check_gradient(lab, "dh", lab->x, lab->dx);
    lab_close(lab);
}

TEST(vocab_loss_gradients_on_labels)
{
    for (int own = 0; own < 2; own++) {
        static const int32_t labels[ROWS] = {0, 12, -1, 13, 5}; /* two do not count */
        struct lab lab;
        float losses[ROWS], gradient[ROWS * WIDTH];
        vocab_lab(&lab, own, VOCAB_LABELS);
        lab.target.labels = lab_matrix(&lab, ROWS, 1, 0);
        lab.target.labels.type = DTYPE_I32;
        op_write(lab.queue, lab.target.labels, labels);
        vocab_loss(&lab);
        op_read(lab.queue, lab.y, losses);
        op_read(lab.queue, lab.dx, gradient);
        CHECK(losses[2] == 0 && losses[3] == 0 && losses[4] > 0);
        for (int i = 2 * WIDTH; i < 4 * WIDTH; i++)
            CHECK(gradient[i] == 0);
        if (own) { /* down starts from zero again */
            float zeros[WORDS * WIDTH] = {0};
            op_write(lab.queue, lab.dscale, zeros);
        }
        check_vocab_gradients(&lab);
    }
}

TEST(vocab_loss_gradient_through_u)
{
    struct lab lab;
    vocab_lab(&lab, false, VOCAB_U);
    lab.target.u = lab_matrix(&lab, ROWS, WIDTH, 0.5);
    check_vocab_gradients(&lab);
}

TEST(vocab_loss_gradients_of_shifted_logits)
{
    for (enum vocab_target target = VOCAB_LABELS; target <= VOCAB_TEACHER; target++) {
        static const int32_t labels[ROWS] = {3, 12, -1, 0, 5};
        struct lab lab;
        vocab_lab(&lab, target == VOCAB_TEACHER, target);
        lab.target.labels = lab_matrix(&lab, ROWS, 1, 0);
        lab.target.labels.type = DTYPE_I32;
        op_write(lab.queue, lab.target.labels, labels);
        lab.target.u = lab.target.teacher_state = lab_matrix(&lab, ROWS, WIDTH, 0.5);
        lab.target.teacher.tied = lab.weight;
        lab.target.shift = lab_matrix(&lab, 1, WORDS, 2);
        check_vocab_gradients(&lab);
    }
}

TEST(vocab_loss_gradients_with_a_teacher)
{
    for (int own = 0; own < 2; own++) {
        struct lab lab;
        vocab_lab(&lab, own, VOCAB_TEACHER);
        lab.target.teacher_state = lab_matrix(&lab, ROWS, WIDTH, 1);
        lab.target.teacher.tied = lab.weight;
        check_vocab_gradients(&lab);
    }
}

static void give_labels(struct lab *lab)
{
    static const int32_t labels[ROWS] = {3, 12, -1, 0, 5}; /* one is none */
    lab->target.labels = lab_matrix(lab, ROWS, 1, 0);
    lab->target.labels.type = DTYPE_I32;
    op_write(lab->queue, lab->target.labels, labels);
}

TEST(vocab_loss_gradients_of_mixed_losses)
{
    static const struct {
        enum vocab_target target;
        bool own, shifted;
        float share, temperature;
    } cases[] = {{VOCAB_U, false, true, 0.3f, 1},    {VOCAB_TEACHER, true, true, 0.3f, 1},
                 {VOCAB_TEACHER, true, false, 0, 2}, {VOCAB_TEACHER, true, true, 0.3f, 0.5f},
                 {VOCAB_TEACHER, false, true, 0, 2}, {VOCAB_TEACHER, false, false, 0.6f, 2},
                 {VOCAB_TEACHER, true, false, 1, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lab lab;
        vocab_lab(&lab, cases[i].own, cases[i].target);
        give_labels(&lab);
        lab.target.share = cases[i].share;
        lab.target.temperature = cases[i].temperature;
        lab.target.u = lab.target.teacher_state = lab_matrix(&lab, ROWS, WIDTH, 0.5);
        lab.target.teacher.tied = lab.weight;
        if (cases[i].shifted)
            lab.target.shift = lab_matrix(&lab, 1, WORDS, 2);
        check_vocab_gradients(&lab);
    }
}

/* A row's weight is its largest probability, and a constant: loss and gradients are those of rows by themselves,
 * times it. */
TEST(vocab_loss_of_weighted_rows)
{
    for (int warm = 0; warm < 2; warm++) {
        struct lab lab;
        float top[ROWS], lse[ROWS], loss[ROWS], dh[ROWS * WIDTH], down[WORDS * WIDTH],
            zeros[WORDS * WIDTH] = {0};
        double sum[WORDS * WIDTH] = {0};
        vocab_lab(&lab, true, VOCAB_TEACHER);
        give_labels(&lab);
        lab.target.share = 0.3f;
        lab.target.temperature = warm ? 2 : 1;
        lab.target.teacher_state = lab_matrix(&lab, ROWS, WIDTH, 1);
        lab.target.teacher.tied = lab.weight;
        lab.target.weighted = true;
        vocab_loss(&lab);
        op_read(lab.queue, lab.y, loss);
        op_read(lab.queue, lab.dx, dh);
        op_read(lab.queue, lab.dscale, down);
        const struct matrix column = lab_matrix(&lab, ROWS, 1, 0), state = lab.x,
                            teacher = lab.target.teacher_state, labels = lab.target.labels;
        op_vocab_stats(lab.queue, state, &lab.vocab, matrix_none(), &(struct vocab_stats){.top_logit = column});
        op_read(lab.queue, column, top);
        op_vocab_stats(lab.queue, state, &lab.vocab, matrix_none(), &(struct vocab_stats){.lse = column});
        op_read(lab.queue, column, lse);
        lab.target.weighted = false;
        for (int m = 0; m < ROWS; m++) {
            const double weight = exp((double)top[m] - (double)lse[m]);
            float alone, gradient[WIDTH], added[WORDS * WIDTH];
            lab.target.teacher_state = matrix_rows(teacher, m, 1);
            lab.target.labels = matrix_rows(labels, m, 1);
            op_write(lab.queue, lab.dscale, zeros);
            op_vocab_loss(lab.queue, matrix_rows(state, m, 1), &lab.vocab, &lab.target,
                          matrix_rows(lab.y, m, 1), matrix_rows(lab.dx, m, 1), lab.dscale);
            op_read(lab.queue, matrix_rows(lab.y, m, 1), &alone);
            op_read(lab.queue, matrix_rows(lab.dx, m, 1), gradient);
            op_read(lab.queue, lab.dscale, added);
            CHECK(weight < 1 && fabs((double)loss[m] - weight * (double)alone) < 1e-5);
            for (int k = 0; k < WIDTH; k++)
                CHECK(fabs((double)dh[m * WIDTH + k] - weight * (double)gradient[k]) < 1e-5);
            for (int i = 0; i < WORDS * WIDTH; i++)
                sum[i] += weight * (double)added[i];
        }
        for (int i = 0; i < WORDS * WIDTH; i++)
            CHECK(fabs(sum[i] - (double)down[i]) < 1e-5);
        lab_close(&lab);
    }
}

/* The losses are what the other ops of the vocabulary say: lse minus the label's logit, minus h . u,
 * minus the cross term; and u of the teacher's softmax makes VOCAB_U equal VOCAB_TEACHER. */
TEST(vocab_losses_agree_with_stats_and_cross)
{
    struct lab lab;
    float lse[ROWS], cross[ROWS], through_u[ROWS], with_teacher[ROWS];
    vocab_lab(&lab, false, VOCAB_TEACHER);
    struct matrix state = lab_matrix(&lab, ROWS, WIDTH, 1), column = lab_matrix(&lab, ROWS, 1, 0);
    lab.target.teacher_state = state;
    lab.target.teacher.tied = lab.weight;
    vocab_loss(&lab);
    op_read(lab.queue, lab.y, with_teacher);
    op_vocab_cross(lab.queue, lab.x, &lab.vocab, state, &lab.vocab, column);
    op_read(lab.queue, column, cross);
    op_vocab_stats(lab.queue, lab.x, &lab.vocab, matrix_none(), &(struct vocab_stats){.lse = column});
    op_read(lab.queue, column, lse);
    lab.target.u = lab_matrix(&lab, ROWS, WIDTH, 0);
    op_vocab_stats(lab.queue, state, &lab.vocab, matrix_none(), &(struct vocab_stats){.u = lab.target.u});
    lab.target.target = VOCAB_U;
    vocab_loss(&lab);
    op_read(lab.queue, lab.y, through_u);
    for (int m = 0; m < ROWS; m++) { /* each rounded to f32, at about 3 */
        CHECK(fabs((double)lse[m] - (double)cross[m] - (double)with_teacher[m]) < 1e-6);
        CHECK(fabs((double)through_u[m] - (double)with_teacher[m]) < 1e-6);
    }
    lab_close(&lab);
}

TEST_MAIN
