/* Ridge regression: against the normal equations solved here, on a map that is known, and with tokens
 * that would be all that is fitted if they were not weighed. */
#include "train/ridge.h"

#include <math.h>
#include <stdlib.h>

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
            for (int i = 0; i < HIDDEN; i++) {
                x[i] = (float)random_normal(&random);
                other[i] = x[(i + 5) % HIDDEN] * 2;
            }
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

static int fit(int calls, struct ridge **ridge, struct error *error)
{
    if (ridge_create(backend, HIDDEN, TAPS, ROWS, ridge, error) < 0)
        return -1;
    for (int call = 0; call < calls; call++) {
        struct states_view views[TAPS + 1], *const pointers[] = {&views[0], &views[1], &views[TAPS]};
        for (int t = 0; t <= TAPS; t++)
            views[t] = (struct states_view){DTYPE_F32, states[call][t]};
        if (ridge_add(*ridge, pointers, ROWS, error) < 0)
            return -1;
    }
    return 0;
}

TEST(ridge_solves_the_normal_equations)
{
    struct error error = {0};
    struct ridge *ridge;
    float a[HIDDEN * HIDDEN], b[HIDDEN];
    double expected[(HIDDEN + 1) * HIDDEN];
    REQUIRE_OK(backend_open("ref", &(struct backend_options){.threads = 1}, &backend, &error));
    make_states(0.3f);
    REQUIRE_OK(fit(CALLS, &ridge, &error));
    for (int t = 0; t < TAPS; t++) {
        REQUIRE_OK(ridge_solve(ridge, t, a, b, &error));
        solve_plainly(t, expected);
        /* Products of the sums are of f32: 200 terms of about 1 with relative error 6e-8 each, through a
         * matrix of condition about 100. */
        CHECK(largest_difference(a, b, expected) < 1e-4);
    }
    ridge_destroy(ridge);
    backend_close(backend);
}

TEST(ridge_finds_a_known_map_beside_huge_tokens)
{
    struct error error = {0};
    struct ridge *ridge;
    float a[HIDDEN * HIDDEN], b[HIDDEN];
    double expected[(HIDDEN + 1) * HIDDEN];
    REQUIRE_OK(backend_open("ref", &(struct backend_options){.threads = 1}, &backend, &error));
    make_states(0);
    REQUIRE_OK(fit(CALLS, &ridge, &error));
    REQUIRE_OK(ridge_solve(ridge, 0, a, b, &error));
    for (int j = 0; j < HIDDEN; j++) {
        expected[HIDDEN * HIDDEN + j] = shift[0][j];
        for (int i = 0; i < HIDDEN; i++)
            expected[i * HIDDEN + j] = map[0][i][j];
    }
    /* A twentieth of the tokens says -100 A and weighs 1e-4 of the others: 5e-4 of the way, with the ridge's
     * 1e-4 and chance. Without the weights the map found would be about -100 A. */
    CHECK(largest_difference(a, b, expected) < 0.05);
    ridge_destroy(ridge);
    backend_close(backend);
}

TEST(ridge_needs_something_to_fit)
{
    struct error error = {0};
    struct ridge *ridge;
    float a[HIDDEN * HIDDEN], b[HIDDEN];
    REQUIRE_OK(backend_open("ref", &(struct backend_options){.threads = 1}, &backend, &error));
    REQUIRE_OK(fit(0, &ridge, &error));
    CHECK(ridge_solve(ridge, 0, a, b, &error) < 0);
    CHECK_TEXT(error.text, "not positive definite");
    ridge_destroy(ridge);

    make_states(0.3f);
    states[1][0][17] = NAN;
    REQUIRE_OK(fit(CALLS, &ridge, &error));
    CHECK(ridge_solve(ridge, 0, a, b, &error) < 0);
    CHECK_TEXT(error.text, "not a number");
    CHECK(ridge_solve(ridge, 1, a, b, &error) == 0); /* the other tap does not notice */
    ridge_destroy(ridge);
    backend_close(backend);
}

TEST_MAIN
