/* Ridge regression: against the normal equations solved here, on a map that is known, and with tokens
 * that would be all that is fitted if they were not weighed. */
#include "common/head/ridge.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/blas.h"
#include "common/base/random.h"
#include "tests/test.h"

enum { HIDDEN = 12, ROWS = 40, CALLS = 5, TAPS = 2 };

static struct backend *backend;
static float map[TAPS][HIDDEN][HIDDEN], shift[TAPS][HIDDEN];
static float states[CALLS][TAPS + 1][ROWS * HIDDEN];

/* x of each tap, and y = x A + b of tap 0 with a little noise; the x of tap 1 is made so that
 * y = x A' + b' as well. Every 20th token is 100 times as large and follows another map. */
static void make_states(float noise)
{
    struct random random = {11};
    for (int t = 0; t < TAPS; t++) {
        for (int i = 0; i < HIDDEN; i++) {
            shift[t][i] = (float)random_normal(&random);
            for (int j = 0; j < HIDDEN; j++)
                map[t][i][j] = (float)(random_normal(&random) / sqrt(HIDDEN) + (i == j));
        }
    }
    for (int call = 0; call < CALLS; call++) {
        for (int r = 0; r < ROWS; r++) {
            float *x = states[call][0] + r * HIDDEN, *other = states[call][1] + r * HIDDEN;
            float *y = states[call][TAPS] + r * HIDDEN;
            const bool huge = r % 20 == 7;
            for (int i = 0; i < HIDDEN; i++)
                x[i] = (float)random_normal(&random);
            for (int i = 0; i < HIDDEN; i++)
                other[i] = x[(i + 5) % HIDDEN] * 2;
            for (int j = 0; j < HIDDEN; j++) {
                y[j] = shift[0][j] + noise * (float)random_normal(&random);
                for (int i = 0; i < HIDDEN; i++)
                    y[j] += x[i] * map[0][i][j] * (huge ? -100.f : 1.f);
            }
        }
    }
}

/* The largest difference of the regression's result from `a` and `b`. */
static double largest_difference(const float *found_a, const float *found_b, const double *expected)
{
    double largest = 0;
    for (int j = 0; j < HIDDEN; j++) {
        largest = fmax(largest, fabs(found_b[j] - expected[HIDDEN * HIDDEN + j]));
        for (int i = 0; i < HIDDEN; i++)
            largest = fmax(largest, fabs(found_a[i * HIDDEN + j] - expected[i * HIDDEN + j]));
    }
    return largest;
}

/* The same regression by Gaussian elimination in double: expected [HIDDEN + 1][HIDDEN], the last row b. */
static void solve_plainly(int tap, double *expected)
{
    enum { SIZE = HIDDEN + 1 };
    static double gram[SIZE][SIZE + HIDDEN];
    double trace = 0;
    memset(gram, 0, sizeof gram);
    for (int call = 0; call < CALLS; call++) {
        for (int r = 0; r < ROWS; r++) {
            const float *x = states[call][tap] + r * HIDDEN, *y = states[call][TAPS] + r * HIDDEN;
            double square = 0;
            for (int j = 0; j < HIDDEN; j++)
                square += (double)y[j] * y[j] / HIDDEN;
            for (int i = 0; i < SIZE; i++) {
                const double xi = i < HIDDEN ? x[i] : 1;
                for (int j = 0; j < SIZE; j++)
                    gram[i][j] += xi * (j < HIDDEN ? x[j] : 1) / square;
                for (int j = 0; j < HIDDEN; j++)
                    gram[i][SIZE + j] += xi * y[j] / square;
            }
        }
    }
    for (int i = 0; i < SIZE; i++)
        trace += gram[i][i];
    for (int i = 0; i < SIZE; i++)
        gram[i][i] += 1e-4 * trace / SIZE;
    for (int i = 0; i < SIZE; i++) {
        for (int other = 0; other < SIZE; other++) {
            const double factor = gram[other][i] / gram[i][i];
            for (int j = 0; other != i && j < SIZE + HIDDEN; j++)
                gram[other][j] -= factor * gram[i][j];
        }
    }
    for (int i = 0; i < SIZE; i++) {
        for (int j = 0; j < HIDDEN; j++)
            expected[i * HIDDEN + j] = gram[i][SIZE + j] / gram[i][i];
    }
}

/* What the tests fit with: the sums of every tap, and what calls bring to them. */
struct fit {
    struct queue *queue;
    struct buffer *buffer;
    struct ridge_rows *rows;
    struct ridge_sums sums[TAPS];
};

static int fit_open(int outputs, struct fit *fit, struct error *error)
{
    *fit = (struct fit){0};
    if (backend_open("ref", &(struct backend_options){.threads = 1}, &backend, error) < 0 ||
        queue_create(backend, &fit->queue, error) < 0 ||
        buffer_create(backend, ROWS * HIDDEN * sizeof(float), &fit->buffer, error) < 0 ||
        ridge_rows_create(backend, HIDDEN, outputs, ROWS, &fit->rows, error) < 0)
        return -1;
    for (int t = 0; t < TAPS; t++) {
        if (ridge_sums_create(backend, HIDDEN, outputs, &fit->sums[t], error) < 0)
            return -1;
    }
    return 0;
}

static void fit_close(struct fit *fit)
{
    for (int t = 0; t < TAPS; t++)
        ridge_sums_free(&fit->sums[t]);
    ridge_rows_destroy(fit->rows);
    buffer_destroy(fit->buffer);
    queue_destroy(fit->queue);
    backend_close(backend);
}

/* The sums get calls [first, end). The outputs are the first columns of y. */
static int fit_calls(struct fit *fit, int first, int end, struct error *error)
{
    const struct matrix matrix = matrix_f32(fit->buffer, ROWS, HIDDEN);
    for (int call = first; call < end; call++) {
        op_write(fit->queue, matrix, states[call][TAPS]);
        if (ridge_rows_set(fit->rows, fit->queue, matrix_cols(matrix, 0, fit->sums[0].outputs), error) < 0)
            return -1;
        for (int t = 0; t < TAPS; t++) {
            op_write(fit->queue, matrix, states[call][t]);
            ridge_sums_add(&fit->sums[t], fit->queue, fit->rows, matrix);
        }
    }
    return queue_wait(fit->queue, error);
}

static int fit_solve(struct fit *fit, int tap, float *a, float *b, struct error *error)
{
    double *values;
    if (ridge_sums_read(&fit->sums[tap], fit->queue, &values, error) < 0)
        return -1;
    int result = ridge_solve(values, HIDDEN, fit->sums[tap].outputs, a, b, error);
    free(values);
    return result;
}

TEST(ridge_solves_the_normal_equations)
{
    struct error error = {0};
    struct fit fit;
    float a[HIDDEN * HIDDEN], b[HIDDEN];
    double expected[(HIDDEN + 1) * HIDDEN];
    make_states(0.3f);
    REQUIRE_OK(fit_open(HIDDEN, &fit, &error));
    REQUIRE_OK(fit_calls(&fit, 0, CALLS, &error));
    for (int t = 0; t < TAPS; t++) {
        REQUIRE_OK(fit_solve(&fit, t, a, b, &error));
        solve_plainly(t, expected);
        /* Products of the sums are of f32: 200 terms of about 1 with relative error 6e-8 each, through a
         * matrix of condition about 100. */
        CHECK(largest_difference(a, b, expected) < 1e-4);
    }
    fit_close(&fit);
}

TEST(ridge_finds_a_known_map_beside_huge_tokens)
{
    struct error error = {0};
    struct fit fit;
    float a[HIDDEN * HIDDEN], b[HIDDEN];
    double expected[(HIDDEN + 1) * HIDDEN];
    make_states(0);
    REQUIRE_OK(fit_open(HIDDEN, &fit, &error));
    REQUIRE_OK(fit_calls(&fit, 0, CALLS, &error));
    REQUIRE_OK(fit_solve(&fit, 0, a, b, &error));
    for (int j = 0; j < HIDDEN; j++) {
        expected[HIDDEN * HIDDEN + j] = shift[0][j];
        for (int i = 0; i < HIDDEN; i++)
            expected[i * HIDDEN + j] = map[0][i][j];
    }
    /* A twentieth of the tokens says -100 A and weighs 1e-4 of the others: 5e-4 of the way, with the ridge's
     * 1e-4 and chance. Without the weights the map found would be about -100 A. */
    CHECK(largest_difference(a, b, expected) < 0.05);
    fit_close(&fit);
}

TEST(ridge_needs_something_to_fit)
{
    struct error error = {0};
    struct fit fit;
    float a[HIDDEN * HIDDEN], b[HIDDEN];
    REQUIRE_OK(fit_open(HIDDEN, &fit, &error));
    CHECK(fit_solve(&fit, 0, a, b, &error) < 0);
    CHECK_TEXT(error.text, "not positive definite");
    fit_close(&fit);

    make_states(0.3f);
    states[1][0][17] = NAN;
    REQUIRE_OK(fit_open(HIDDEN, &fit, &error));
    REQUIRE_OK(fit_calls(&fit, 0, CALLS, &error));
    CHECK(fit_solve(&fit, 0, a, b, &error) < 0);
    CHECK_TEXT(error.text, "not a number");
    CHECK(fit_solve(&fit, 1, a, b, &error) == 0); /* the other tap does not notice */
    fit_close(&fit);
}

/* Rows of two shards, summed apart, give the map of all rows. */
TEST(ridge_sums_add_up)
{
    enum { VALUES = (HIDDEN + 1) * (HIDDEN + 1 + HIDDEN) };
    struct error error = {0};
    struct fit fit;
    float whole_a[HIDDEN * HIDDEN], whole_b[HIDDEN], a[HIDDEN * HIDDEN], b[HIDDEN];
    double *sums[2], expected[(HIDDEN + 1) * HIDDEN];
    make_states(0.3f);
    REQUIRE_OK(fit_open(HIDDEN, &fit, &error));
    REQUIRE_OK(fit_calls(&fit, 0, CALLS, &error));
    REQUIRE_OK(fit_solve(&fit, 1, whole_a, whole_b, &error));
    fit_close(&fit);
    for (int shard = 0; shard < 2; shard++) {
        REQUIRE_OK(fit_open(HIDDEN, &fit, &error));
        REQUIRE_OK(fit_calls(&fit, shard ? 2 : 0, shard ? CALLS : 2, &error));
        REQUIRE_OK(ridge_sums_read(&fit.sums[1], fit.queue, &sums[shard], &error));
        fit_close(&fit);
    }
    for (int i = 0; i < VALUES; i++)
        sums[0][i] += sums[1][i];
    REQUIRE_OK(ridge_solve(sums[0], HIDDEN, HIDDEN, a, b, &error));
    for (int i = 0; i < HIDDEN * HIDDEN; i++)
        expected[i] = whole_a[i];
    for (int i = 0; i < HIDDEN; i++)
        expected[HIDDEN * HIDDEN + i] = whole_b[i];
    CHECK(largest_difference(a, b, expected) < 1e-6); /* another order of sums in f64, rounded to f32 */
    free(sums[0]);
    free(sums[1]);
}

/* More inputs than a band has rows, and fewer rows than inputs. */
enum { WIDE = 2 * RIDGE_BAND + 40, FEW = 3, MANY = 30, JOINED = FEW + 1 + WIDE };
static float joined[MANY][JOINED]; /* y, 1, x */

static int sum_wide(double **values, struct error *error)
{
    struct random random = {5};
    struct ridge_rows *rows;
    struct ridge_sums sums;
    struct queue *queue;
    struct buffer *buffer;
    if (backend_open("cpu", &(struct backend_options){.threads = 2}, &backend, error) < 0 ||
        queue_create(backend, &queue, error) < 0 || buffer_create(backend, sizeof joined, &buffer, error) < 0 ||
        ridge_rows_create(backend, WIDE, FEW, MANY, &rows, error) < 0 ||
        ridge_sums_create(backend, WIDE, FEW, &sums, error) < 0)
        return -1;
    for (int r = 0; r < MANY; r++)
        for (int c = 0; c < JOINED; c++)
            joined[r][c] = c == FEW ? 1 : (float)random_normal(&random);
    const struct matrix all = matrix_f32(buffer, MANY, JOINED);
    op_write(queue, all, joined);
    int result = ridge_rows_set(rows, queue, matrix_cols(all, 0, FEW), error);
    ridge_sums_add(&sums, queue, rows, matrix_cols(all, FEW + 1, WIDE));
    if (result == 0)
        result = ridge_sums_read(&sums, queue, values, error);
    ridge_sums_free(&sums);
    ridge_rows_destroy(rows);
    buffer_destroy(buffer);
    queue_destroy(queue);
    backend_close(backend);
    return result;
}

/* The weighted sum of the products of two columns. */
static double sum_plainly(int i, int j)
{
    double sum = 0;
    for (int r = 0; r < MANY; r++) {
        double square = 0;
        for (int o = 0; o < FEW; o++)
            square += (double)joined[r][o] * joined[r][o] / FEW;
        sum += (double)joined[r][i] * joined[r][j] / square;
    }
    return sum;
}

/* What is kept, and its order, against sums made here; and the map of all of it. */
TEST(ridge_sums_are_a_triangle)
{
    static float map_a[WIDE * FEW], map_b[FEW];
    struct error error = {0};
    double *values, largest = 0, off = 0;
    int64_t at = 0;
    REQUIRE_OK(sum_wide(&values, &error));
    for (int i = 0; i < 1 + WIDE; i++) {
        const int band = (i / RIDGE_BAND + 1) * RIDGE_BAND;
        for (int j = 0; j < FEW + (band < 1 + WIDE ? band : 1 + WIDE); j++, at++) {
            const double sum = sum_plainly(FEW + i, j);
            largest = fmax(largest, fabs(sum));
            off = fmax(off, fabs(sum - values[at]));
        }
    }
    CHECK(at == ridge_sums_values(WIDE, FEW));
    CHECK(at < (int64_t)(1 + WIDE) * JOINED * 3 / 4);
    CHECK(off < 1e-6 * largest); /* 30 products in f32 */
    REQUIRE_OK(ridge_solve(values, WIDE, FEW, map_a, map_b, &error));
    for (int r = 0; r < MANY; r++)
        for (int o = 0; o < FEW; o++) {
            double y = map_b[o];
            for (int i = 0; i < WIDE; i++)
                y += (double)joined[r][FEW + 1 + i] * map_a[i * FEW + o];
            CHECK(fabs(y - joined[r][o]) < 0.05); /* it meets all rows, but for the ridge */
        }
    free(values);
}

/* A map to fewer values than it reads is, but for its weights, a part of the whole one: without noise both are
 * the known map. */
TEST(ridge_to_another_width)
{
    enum { OUTPUTS = 5 };
    struct error error = {0};
    struct fit fit;
    float a[HIDDEN * OUTPUTS], b[OUTPUTS];
    make_states(0);
    for (int call = 0; call < CALLS; call++) { /* without the tokens that follow another map */
        for (int r = 7; r < ROWS; r += 20) {
            memset(states[call][0] + r * HIDDEN, 0, HIDDEN * sizeof(float));
            memcpy(states[call][TAPS] + r * HIDDEN, shift[0], HIDDEN * sizeof(float));
        }
    }
    REQUIRE_OK(fit_open(OUTPUTS, &fit, &error));
    REQUIRE_OK(fit_calls(&fit, 0, CALLS, &error));
    REQUIRE_OK(fit_solve(&fit, 0, a, b, &error));
    for (int j = 0; j < OUTPUTS; j++) {
        CHECK(fabs(b[j] - shift[0][j]) <
              0.01); /* the ridge's 1e-4 of values of about 1, through condition 100 */
        for (int i = 0; i < HIDDEN; i++)
            CHECK(fabs(a[i * OUTPUTS + j] - map[0][i][j]) < 0.01);
    }
    fit_close(&fit);
}

/* More rows than were announced would write behind the buffers. */
TEST(ridge_refuses_too_many_rows)
{
    struct error error = {0};
    struct ridge_rows *rows;
    struct fit fit;
    REQUIRE_OK(fit_open(HIDDEN, &fit, &error));
    REQUIRE_OK(ridge_rows_create(backend, HIDDEN, HIDDEN, ROWS - 1, &rows, &error));
    CHECK(ridge_rows_set(rows, fit.queue, matrix_f32(fit.buffer, ROWS, HIDDEN), &error) < 0);
    CHECK_TEXT(error.text, "40 rows where 39");
    CHECK(error.kind == ERROR_INTERNAL);
    ridge_rows_destroy(rows);
    fit_close(&fit);
}

/* ---- maps of a lower rank ---- */

/* A map x + x u v + c of rank `rank`: u [HIDDEN][rank], v [rank][HIDDEN], c [HIDDEN], one behind the other. */
static int lower_values(int rank)
{
    return 2 * HIDDEN * rank + HIDDEN;
}

/* What the regression makes least: sum w (y - x - x u v - c)^2 + r (c^2 + (I + u v)^2), r of the header. */
static double regression_error(const float *lower, int rank)
{
    const float *u = lower, *v = u + HIDDEN * rank, *c = v + HIDDEN * rank;
    double a[HIDDEN][HIDDEN], sum = 0, trace = 0, squares = 0;
    for (int i = 0; i < HIDDEN; i++) {
        squares += (double)c[i] * c[i];
        for (int j = 0; j < HIDDEN; j++) {
            a[i][j] = i == j;
            for (int k = 0; k < rank; k++)
                a[i][j] += (double)u[i * rank + k] * v[k * HIDDEN + j];
            squares += a[i][j] * a[i][j];
        }
    }
    for (int row = 0; row < CALLS * ROWS; row++) {
        const float *x = states[row / ROWS][0] + row % ROWS * HIDDEN,
                    *y = states[row / ROWS][TAPS] + row % ROWS * HIDDEN;
        double weight = 0, wrong = 0, all = 1;
        for (int j = 0; j < HIDDEN; j++) {
            double miss = y[j] - (double)c[j];
            for (int i = 0; i < HIDDEN; i++)
                miss -= x[i] * a[i][j];
            weight += (double)y[j] * y[j] / HIDDEN;
            wrong += miss * miss;
            all += (double)x[j] * x[j];
        }
        sum += wrong / weight;
        trace += all / weight;
    }
    return sum + 1e-4 * trace / (HIDDEN + 1) * squares;
}

/* No map of the rank beside it is better; of a higher rank one is. Of full rank it is the solution. */
TEST(ridge_of_a_lower_rank_is_the_best_of_it)
{
    enum { MOST = 2 * HIDDEN * HIDDEN + HIDDEN };
    struct error error = {0};
    struct random random = {5};
    struct fit fit;
    float a[HIDDEN * HIDDEN], b[HIDDEN], lower[MOST], moved[MOST];
    double *values, before = INFINITY;
    make_states(0.3f);
    REQUIRE_OK(fit_open(HIDDEN, &fit, &error));
    REQUIRE_OK(fit_calls(&fit, 0, CALLS, &error));
    REQUIRE_OK(fit_solve(&fit, 0, a, b, &error));
    REQUIRE_OK(ridge_sums_read(&fit.sums[0], fit.queue, &values, &error));
    for (int rank = 1; rank <= HIDDEN; rank += rank < 3 ? 1 : 3) {
        float *v = lower + HIDDEN * rank, *c = v + HIDDEN * rank;
        REQUIRE_OK(ridge_lower(values, HIDDEN, a, b, rank, lower, v, c, &error));
        const double best = regression_error(lower, rank);
        CHECK(best < before);
        before = best;
        for (int again = 0; again < 200; again++) {
            const double size = again % 2 ? 1e-2 : 1e-1;
            for (int i = 0; i < lower_values(rank); i++)
                moved[i] = lower[i] + (float)(size * random_normal(&random));
            CHECK(regression_error(moved, rank) > best);
        }
        for (int i = 0; i < HIDDEN && rank == HIDDEN; i++) {
            CHECK(fabsf(c[i] - b[i]) < 1e-5f);
            for (int j = 0; j < HIDDEN; j++) {
                double sum = i == j;
                for (int k = 0; k < rank; k++)
                    sum += (double)lower[i * rank + k] * v[k * HIDDEN + j];
                CHECK(fabs(sum - a[i * HIDDEN + j]) < 1e-5);
            }
        }
    }
    free(values);
    fit_close(&fit);
}

TEST_MAIN

TEST(memory_that_lapack_lacks_is_the_machines_fault)
{
    struct error error = {0};
    CHECK(blas_fail(-1010, "no roots", &error) < 0 && error.kind == ERROR_NO_MEMORY);
    CHECK(blas_fail(-1011, "no roots", &error) < 0 && error.kind == ERROR_NO_MEMORY);
    CHECK(blas_fail(3, "no roots", &error) < 0 && error.kind == ERROR_INPUT);
    CHECK_TEXT(error.text, "no roots (LAPACK: 3)");
}
