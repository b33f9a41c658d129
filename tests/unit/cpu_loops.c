/* The cpu backend's loops, of every instruction set that this CPU has: tests/ops runs the widest only. */
#include "kernels/cpu/loops/loops.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/memory.h"
#include "common/base/random.h"
#include "kernels/ops.h"
#include "tests/mode.h"

enum { SETS_MAX = 3, LENGTH_MAX = 150, GUARD = 77 };

static int find_sets(const struct cpu_loops *sets[SETS_MAX])
{
    int count = 0;
    sets[count++] = &cpu_loops_base;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        sets[count++] = &cpu_loops_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        sets[count++] = &cpu_loops_avx512;
#endif
    return count;
}

static void fill(float *values, int64_t n, double deviation, uint64_t seed)
{
    struct random random = {seed};
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)(deviation * random_normal(&random));
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Runs `check` for every set, and names the set that fails. */
#define FOR_EVERY_SET(check)                                                                                   \
    do {                                                                                                       \
        const struct cpu_loops *sets[SETS_MAX];                                                                \
        int count = find_sets(sets);                                                                           \
        for (int s = 0; s < count; s++)                                                                        \
            if (!check(sets[s]))                                                                               \
                test_fail(__FILE__, __LINE__, "%s, loops %s", #check, sets[s]->name);                          \
    } while (0)

/* ---- formats and layouts ---- */

static bool rounds_to_bf16(const struct cpu_loops *loops)
{
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t high = 0; high < 0x10000; high++) {
        float values[6];
        uint16_t halves[7];
        for (int i = 0; i < 6; i++)
            values[i] = float_of(high << 16 | low[i]);
        halves[6] = GUARD;
        loops->round_bf16(values, 6, halves);
        for (int i = 0; i < 6; i++) {
            float back;
            loops->widen_bf16(halves + i, 1, &back);
            if (isnan(values[i]) ? !isnan(back) : halves[i] != f32_to_bf16(values[i]))
                return false;
        }
        if (halves[6] != GUARD)
            return false;
    }
    return true;
}

static bool rounds_long_rows(const struct cpu_loops *loops)
{
    float values[LENGTH_MAX], wide[LENGTH_MAX + 1];
    uint16_t halves[LENGTH_MAX + 1];
    fill(values, LENGTH_MAX, 1, 1);
    for (int64_t n = 1; n <= LENGTH_MAX; n++) {
        halves[n] = GUARD;
        wide[n] = GUARD;
        loops->round_bf16(values, n, halves);
        loops->widen_bf16(halves, n, wide);
        for (int64_t i = 0; i < n; i++)
            if (wide[i] != bf16_to_f32(f32_to_bf16(values[i])))
                return false;
        if (halves[n] != GUARD || wide[n] != GUARD)
            return false;
    }
    return true;
}

TEST(bf16_rounding_of_every_pattern)
{
    FOR_EVERY_SET(rounds_to_bf16);
    FOR_EVERY_SET(rounds_long_rows);
}

static bool transposes(const struct cpu_loops *loops)
{
    enum { MOST = 37, GAP = 3 };
    float x[MOST * (MOST + GAP)], y[MOST * (MOST + GAP)];
    fill(x, MOST * (MOST + GAP), 1, 2);
    for (int64_t rows = 1; rows <= MOST; rows++)
        for (int64_t cols = 1; cols <= MOST; cols++) {
            for (int64_t i = 0; i < MOST * (MOST + GAP); i++)
                y[i] = GUARD;
            loops->transpose(x, cols + GAP, rows, cols, y, rows + GAP);
            for (int64_t i = 0; i < MOST * (MOST + GAP); i++) {
                int64_t c = i / (rows + GAP), r = i % (rows + GAP);
                if (y[i] != (c < cols && r < rows ? x[r * (cols + GAP) + c] : GUARD))
                    return false;
            }
        }
    return true;
}

TEST(transposing_any_shape)
{
    FOR_EVERY_SET(transposes);
}

/* ---- the exponential, through the softmax of two values ---- */

/* e^x to 3e-7: two units in the last place, which hold the rounding of x - largest too. */
static bool exponentials_are_close(const struct cpu_loops *loops)
{
    for (double x = -87.0; x <= 0; x += 0.0037) {
        float pair[2] = {0, (float)x}, values[2];
        loops->softmax(pair, 2, values);
        double exact = exp(pair[1]);
        if (values[0] != 1 || fabs(values[1] - exact) > 3e-7 * exact)
            return false;
    }
    return true;
}

static bool far_values_vanish(const struct cpu_loops *loops)
{
    static const float far[] = {-88, -100, -1e10f, -INFINITY};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        float pair[2] = {0, far[i]}, values[2];
        if (loops->softmax(pair, 2, values) != 1 || values[1] != 0)
            return false;
    }
    return true;
}

TEST(exponentials)
{
    FOR_EVERY_SET(exponentials_are_close);
    FOR_EVERY_SET(far_values_vanish);
}

/* ---- softmax over parts of a vocabulary ---- */

static bool part_sums_are_right(const struct cpu_loops *loops)
{
    float z[LENGTH_MAX], other[LENGTH_MAX], values[LENGTH_MAX + 1];
    fill(z, LENGTH_MAX, 20, 3);
    fill(other, LENGTH_MAX, 1, 4);
    for (int64_t n = 1; n <= LENGTH_MAX; n++) {
        struct part_sums sums;
        double sum = 0, moment = 0, cross = 0, size = 0;
        values[n] = GUARD;
        loops->part_softmax(z, other, n, &sums, values, NULL);
        double reference = sums.exponent * log(2);
        for (int64_t i = 0; i < n; i++) {
            double x = z[i] - reference, e = exp(x);
            sum += e;
            moment += e * x;
            cross += e * other[i];
            size += e * fabs(other[i]);
            if (fabs(values[i] - e) > (3e-7 + 1.2e-7 * fabs(x)) * e + 1e-37) /* x is rounded twice */
                return false;
        }
        if (sum > n || sum < 0.499 || values[n] != GUARD || fabs(sums.sum - sum) > 1e-6 * sum ||
            fabs(sums.moment - moment) > 1e-6 * (sum + fabs(moment)) || fabs(sums.cross - cross) > 1e-6 * size)
            return false;
    }
    return true;
}

static bool broken_logits_show(const struct cpu_loops *loops)
{
    static const float broken[] = {NAN, INFINITY};
    for (int64_t n = 1; n <= 40; n++)
        for (int64_t at = 0; at < n; at++)
            for (int b = 0; b < 2; b++) {
                float z[40] = {0};
                struct part_sums sums;
                z[at] = broken[b];
                loops->part_softmax(z, NULL, n, &sums, NULL, NULL);
                if (!isnan(sums.sum))
                    return false;
            }
    return true;
}

static bool top_is_the_first(const struct cpu_loops *loops)
{
    for (int64_t n = 1; n <= 70; n++)
        for (int64_t a = 0; a < n; a++)
            for (int64_t b = a; b < n; b++) {
                float z[70];
                for (int64_t i = 0; i < n; i++)
                    z[i] = -5.0f - (float)i;
                z[a] = z[b] = -1;
                if (loops->part_top(z, n) != a)
                    return false;
            }
    return true;
}

/* Of values many of which are equal, those that are at least the fifth one: by falling value, then rising
 * token. */
static bool best_are_in_order(const struct cpu_loops *loops)
{
    enum { MOST = 7, FIRST = 1000 };
    for (int64_t n = 1; n <= LENGTH_MAX; n++) {
        float z[LENGTH_MAX];
        struct part_best best[MOST], all[LENGTH_MAX];
        int64_t count = 0, expected = 0;
        fill(z, n, 9, (uint64_t)n);
        for (int64_t i = 0; i < n; i++)
            z[i] = i % 11 == 10 ? NAN : roundf(z[i]);
        for (int64_t i = 0; i < n; i++)
            if (!isnan(z[i]))
                count = part_best_add((struct part_best){z[i], (int32_t)(FIRST + i)}, LENGTH_MAX, count, all);
        const float least = count > 4 ? all[4].logit : -INFINITY;
        while (expected < count && expected < MOST && all[expected].logit >= least)
            expected++;
        for (int64_t i = 1; i < count; i++)
            if (!(all[i - 1].logit > all[i].logit ||
                  (all[i - 1].logit == all[i].logit && all[i - 1].token < all[i].token)))
                return false;
        if (loops->part_best(z, n, FIRST, least, MOST, best) != expected ||
            memcmp(best, all, (size_t)expected * sizeof *best) != 0)
            return false;
    }
    return true;
}

TEST(parts_of_a_softmax)
{
    FOR_EVERY_SET(part_sums_are_right);
    FOR_EVERY_SET(broken_logits_show);
    FOR_EVERY_SET(top_is_the_first);
    FOR_EVERY_SET(best_are_in_order);
}

/* ---- few rows ---- */

/* A row of random bits in the format, with scales that are small numbers. */
static void random_row(enum dtype type, int64_t cols, uint8_t *row, struct random *random)
{
    size_t bytes, block;
    dtype_row_bytes(type, cols, &bytes);
    dtype_row_bytes(type, dtype_block(type), &block);
    for (size_t i = 0; i < bytes; i++)
        row[i] = (uint8_t)random_next(random);
    for (size_t b = 0; b + block <= bytes; b += block) {
        float value = (float)(0.05 * random_normal(random));
        uint16_t half = type == DTYPE_BF16 ? f32_to_bf16(value) : f32_to_f16(value);
        if (type == DTYPE_F32)
            memcpy(row + b, &value, sizeof value);
        else
            memcpy(row + b, &half, sizeof half);
        if (type == DTYPE_Q4_1) {
            half = f32_to_f16((float)(0.05 * random_normal(random)));
            memcpy(row + b + 2, &half, sizeof half);
        }
    }
}

/* Sums of n products in f32, in lanes: 1e-6 of the sum of their sizes is far above the rounding of 150. */
static bool few_rows_are_right(const struct cpu_loops *loops, enum dtype type, int64_t cols)
{
    enum { WEIGHT_ROWS_TESTED = 3, STRIDE = LENGTH_MAX + 2 };
    struct random random = {(uint64_t)cols};
    uint8_t weight[WEIGHT_ROWS_TESTED * LENGTH_MAX * 4 + 8], *rows = weight + 1; /* on an odd address */
    float x[MATMUL_FEW_ROWS * STRIDE], wide[LENGTH_MAX], y[MATMUL_FEW_ROWS][WEIGHT_ROWS_TESTED];
    size_t row_bytes;
    dtype_row_bytes(type, cols, &row_bytes);
    fill(x, MATMUL_FEW_ROWS * STRIDE, 1, 5);
    for (int w = 0; w < WEIGHT_ROWS_TESTED; w++)
        random_row(type, cols, rows + (size_t)w * row_bytes, &random);
    for (int count = 1; count <= MATMUL_FEW_ROWS; count++) {
        loops->few_rows[type](rows, row_bytes, WEIGHT_ROWS_TESTED, cols, x, STRIDE, count, y[0],
                              WEIGHT_ROWS_TESTED);
        for (int r = 0; r < count; r++)
            for (int w = 0; w < WEIGHT_ROWS_TESTED; w++) {
                double sum = 0, size = 0;
                float alone;
                dtype_to_f32(type, rows + (size_t)w * row_bytes, cols, wide);
                for (int64_t i = 0; i < cols; i++) {
                    sum += (double)wide[i] * x[r * STRIDE + i];
                    size += fabs((double)wide[i] * x[r * STRIDE + i]);
                }
                loops->few_rows[type](rows + (size_t)w * row_bytes, row_bytes, 1, cols, x + r * STRIDE, STRIDE,
                                      1, &alone, 1);
                if (fabs(y[r][w] - sum) > 1e-6 * size || alone != y[r][w])
                    return false;
            }
    }
    return true;
}

static bool few_rows_of_every_format(const struct cpu_loops *loops)
{
    for (int type = DTYPE_F32; type <= DTYPE_Q4_1; type++)
        for (int64_t cols = dtype_block((enum dtype)type); cols <= LENGTH_MAX;
             cols += dtype_block((enum dtype)type))
            if (!few_rows_are_right(loops, (enum dtype)type, cols)) {
                printf("  format %s, %lld columns\n", dtype_name((enum dtype)type), (long long)cols);
                return false;
            }
    return true;
}

TEST(few_rows)
{
    FOR_EVERY_SET(few_rows_of_every_format);
}

/* Halves at their edges: zeros, subnormals, the largest, infinity, NaN. */
static bool halves_are_exact(const struct cpu_loops *loops)
{
    const float one = 1;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        uint16_t half = (uint16_t)bits;
        float value, exact = f16_to_f32(half);
        loops->few_rows[DTYPE_F16](&half, sizeof half, 1, 1, &one, 1, 1, &value, 1);
        if (isnan(exact) ? !isnan(value) : value != exact)
            return false;
    }
    return true;
}

TEST(half_precision_of_every_pattern)
{
    FOR_EVERY_SET(halves_are_exact);
}

/* ---- sums ---- */

static bool sums_are_right(const struct cpu_loops *loops)
{
    float x[LENGTH_MAX], y[LENGTH_MAX];
    fill(x, LENGTH_MAX, 1, 6);
    fill(y, LENGTH_MAX, 1, 7);
    for (int64_t n = 1; n <= LENGTH_MAX; n++) {
        double squares = 0, dot = 0, size = 0;
        for (int64_t i = 0; i < n; i++) {
            squares += (double)x[i] * x[i];
            dot += (double)x[i] * y[i];
            size += fabs((double)x[i] * y[i]);
        }
        if (fabs(loops->mean_square(x, n) * (double)n - squares) > 3e-7 * squares ||
            fabs(loops->sum_squares(x, n) - squares) > 1e-14 * squares ||
            fabs(loops->dot(x, y, n) - dot) > 1e-6 * size)
            return false;
    }
    return true;
}

TEST(sums)
{
    FOR_EVERY_SET(sums_are_right);
}

/* ---- a broken row among good ones ---- */

enum { ROWS = 20, HIDDEN = 32, VOCAB = 300 };

static struct matrix make_matrix(struct queue *queue, int64_t rows, int64_t cols, const void *values)
{
    struct error error;
    struct buffer *buffer = NULL;
    if (buffer_create(queue_backend(queue), (size_t)(rows * cols) * 4, &buffer, &error) < 0)
        abort();
    if (values)
        op_write(queue, matrix_f32(buffer, rows, cols), values);
    return matrix_f32(buffer, rows, cols);
}

struct broken {
    struct backend *backend;
    struct queue *queue;
    float states[ROWS * HIDDEN], loss[ROWS], gradient[ROWS * HIDDEN], down[VOCAB * HIDDEN];
};

/* The loss of the states under labels of which row 5's counts nothing. */
static void run_loss(struct broken *broken)
{
    struct queue *queue = broken->queue;
    float weight[VOCAB * HIDDEN], garbage[ROWS * HIDDEN];
    int32_t ids[ROWS];
    fill(weight, VOCAB * HIDDEN, 1, 9);
    fill(garbage, ROWS * HIDDEN, 1, 10);
    for (int r = 0; r < ROWS; r++)
        ids[r] = r == 5 ? -1 : r * 11;
    struct matrix h = make_matrix(queue, ROWS, HIDDEN, broken->states),
                  loss = make_matrix(queue, ROWS, 1, garbage);
    struct matrix dh = make_matrix(queue, ROWS, HIDDEN, garbage),
                  down = make_matrix(queue, VOCAB, HIDDEN, NULL);
    struct matrix own = make_matrix(queue, VOCAB, HIDDEN, weight), labels = make_matrix(queue, ROWS, 1, NULL);
    struct vocab vocab = {.own = own};
    labels.type = DTYPE_I32;
    op_write(queue, labels, ids);
    struct vocab_loss target = {.target = VOCAB_LABELS,
                                .labels = labels,
                                .u = matrix_none(),
                                .teacher_state = matrix_none(),
                                .scale = 1};
    op_vocab_loss(queue, h, &vocab, &target, loss, dh, down);
    op_read(queue, loss, broken->loss);
    op_read(queue, dh, broken->gradient);
    op_read(queue, down, broken->down);
    struct matrix made[] = {h, loss, dh, down, own, labels};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        buffer_destroy(made[i].buffer);
}

/* A row that is NaN shows it in its own results; one that does not count shows nothing, and leaves
 * the weight's gradient, which sums over rows, alone. */
static void check_broken_rows(enum math math)
{
    struct error error;
    struct broken broken = {.backend = NULL};
    fill(broken.states, ROWS * HIDDEN, 1, 8);
    broken.states[5 * HIDDEN] = NAN;
    REQUIRE_OK(
        backend_open("cpu", &(struct backend_options){.threads = 2, .math = math}, &broken.backend, &error));
    REQUIRE_OK(queue_create(broken.backend, &broken.queue, &error));
    run_loss(&broken);
    for (int i = 0; i < VOCAB * HIDDEN; i++)
        CHECK(isfinite(broken.down[i]));
    broken.states[3 * HIDDEN + 7] = NAN;
    run_loss(&broken);
    REQUIRE_OK(queue_wait(broken.queue, &error));
    for (int r = 0; r < ROWS; r++) {
        CHECK(r == 3 ? isnan(broken.loss[r]) : isfinite(broken.loss[r]));
        CHECK(r == 3 ? isnan(broken.gradient[r * HIDDEN]) : isfinite(broken.gradient[r * HIDDEN]));
    }
    CHECK(broken.loss[5] == 0 && broken.gradient[5 * HIDDEN] == 0);
    queue_destroy(broken.queue);
    backend_close(broken.backend);
}

TEST(broken_rows_stay_alone)
{
    check_broken_rows(MATH_F32);
}

TEST(broken_rows_stay_alone_in_bf16)
{
    if (test_wants_mode("cpu", MATH_BF16))
        check_broken_rows(MATH_BF16);
}

TEST_MAIN
