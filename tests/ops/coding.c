/* coding.c: what codecs keep of states, on every backend.
 *
 * Two backends may round a value near a tie to two neighbouring integers: with integers of about 200 (SPACING)
 * that is 5e-3 of their size. What is lost would tell if it were more than such values: exact numbers are
 * below. */
#include <math.h>
#include <stdlib.h>

#include "tests/mode.h"
#include "tests/op_case.h"

#define SPACING 5e-3f

/* shape: K, N */
static void run_quantise(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[0]);
    struct matrix basis = shared_input(run, shape[0], shape[1], 1 / sqrt((double)shape[0]));
    struct matrix offset = shared_input(run, 1, shape[1], 30);
    struct matrix q = row_output(run, DTYPE_I16, run->batch, shape[1]);
    struct matrix scale = row_output(run, DTYPE_F32, run->batch, 1);
    op_quantise(run->queue, x, basis, offset, SPACING, q, scale, row_output(run, DTYPE_F32, run->batch, 1));
}

/* shape: N */
static void run_split_planes(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[0]);
    struct matrix high = row_output(run, DTYPE_U8, run->batch, shape[0]);
    op_split_planes(run->queue, x, high, row_output(run, DTYPE_U8, run->batch, shape[0]));
}

#define NEIGHBOURS .tolerance = 6e-3
#define EXACT      .tolerance = 0
static const struct op_case cases[] = {
    {"op_quantise", run_quantise, {1, 1}, NEIGHBOURS},
    {"op_quantise", run_quantise, {64, 64}, NEIGHBOURS},
    {"op_quantise", run_quantise, {37, 51}, NEIGHBOURS},
    {"op_quantise", run_quantise, {579, 130}, NEIGHBOURS},
    {"op_quantise", run_quantise, {20, 1102}, .batches = {1, 9, 70}, NEIGHBOURS},
    {"op_split_planes", run_split_planes, {1}, EXACT},
    {"op_split_planes", run_split_planes, {64}, EXACT},
    {"op_split_planes", run_split_planes, {131}, EXACT},
};
OP_TESTS(coding, cases)

/* ---- exact numbers ---- */

enum { ROWS = 11, COLS = 4 };

static struct matrix put(struct queue *queue, enum dtype type, int64_t rows, int64_t cols, const void *values)
{
    struct error error;
    struct buffer *buffer;
    if (buffer_create(queue_backend(queue), (size_t)(rows * cols) * 8, &buffer, &error) < 0) {
        fprintf(stderr, "coding: %s\n", error.text);
        exit(1);
    }
    const struct matrix matrix = {buffer, type, 0, rows, cols, cols};
    if (values)
        op_write(queue, matrix, values);
    return matrix;
}

/* Planes of x hold the bits of its bf16 rounding. */
static void check_planes(struct queue *queue, struct matrix x, const float values[ROWS][COLS])
{
    struct error error;
    uint8_t high[ROWS][COLS], low[ROWS][COLS];
    const struct matrix planes[] = {put(queue, DTYPE_U8, ROWS, COLS, NULL),
                                    put(queue, DTYPE_U8, ROWS, COLS, NULL)};
    op_split_planes(queue, x, planes[0], planes[1]);
    op_read(queue, planes[0], high);
    op_read(queue, planes[1], low);
    REQUIRE_OK(queue_wait(queue, &error));
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++) {
            const uint16_t bits = f32_to_bf16(values[r][c]);
            if (high[r][c] != (bits >> 7 & 0xff) || low[r][c] != ((bits & 0x7f) << 1 | bits >> 15))
                test_fail(__FILE__, __LINE__, "%s: %g is %d, %d", backend_identity(queue_backend(queue)),
                          (double)values[r][c], high[r][c], low[r][c]);
        }
    buffer_destroy(planes[0].buffer);
    buffer_destroy(planes[1].buffer);
}

/* Rows in their own basis, with a spacing of 1/2. */
static void check_exact(struct backend *backend)
{
    static const float identity[COLS][COLS] = {{1}, {0, 1}, {0, 0, 1}, {0, 0, 0, 1}},
                       offset[COLS] = {0, 0.5f, -0.25f, 1};
    static const float x[ROWS][COLS] = {
        {2, -2, 2, -2},
        {0, 0, 0, 0},
        {1e-39f, 1e-39f, 1e-39f, 1e-39f},
        {1.01171875f, 1.01171875f, 1.01171875f,
         1.01171875f}, /* between two bf16 numbers: the even one is above */
        {1.00390625f, 1.00390625f, 1.00390625f, 1.00390625f}, /* below */
        {3.4e38f, 3.4e38f, -3.4e38f, 3.4e38f},
        {1, NAN, 1, 1},
        {1, 1, INFINITY, 1},
        {-INFINITY, 1, 1, 1},
        {0, 0, 6, 0},
        {1, 0.999755859375f, 1, 1}, /* 1 in bf16 and in tf32 */
    };
    static const float scale[ROWS] = {2, 0, 0, 1.015625f, 1, 3.38953139e38f, NAN, NAN, NAN, 3, 1};
    static const int16_t q[ROWS][COLS] = {
        {2, -2, 2, -3}, {0, 0, 0, -1}, {0, 0, 0, -1}, {2, 1, 2, 1}, {2, 2, 2, 1}, {2, 2, -2, 1}, {0}, {0}, {0},
        {0, 0, 4, -1},  {2, 1, 2, 1}};
    struct error error;
    struct queue *queue;
    int16_t got[ROWS][COLS];
    float got_scale[ROWS], got_lost[ROWS];
    REQUIRE_OK(queue_create(backend, &queue, &error));
    const struct matrix operand[] = {
        put(queue, DTYPE_F32, ROWS, COLS, x),   put(queue, DTYPE_F32, COLS, COLS, identity),
        put(queue, DTYPE_F32, 1, COLS, offset), put(queue, DTYPE_I16, ROWS, COLS, NULL),
        put(queue, DTYPE_F32, ROWS, 1, NULL),   put(queue, DTYPE_F32, ROWS, 1, NULL)};
    op_quantise(queue, operand[0], operand[1], operand[2], 0.5f, operand[3], operand[4], operand[5]);
    op_read(queue, operand[3], got);
    op_read(queue, operand[4], got_scale);
    op_read(queue, operand[5], got_lost);
    REQUIRE_OK(queue_wait(queue, &error));
    for (int r = 0; r < ROWS; r++) {
        const bool finite = isfinite(scale[r]);
        if (finite ? got_scale[r] != scale[r] || memcmp(got[r], q[r], sizeof q[r]) != 0 : !isnan(got_scale[r]))
            test_fail(__FILE__, __LINE__, "%s, row %d: %d %d %d %d of size %.9g", backend_identity(backend), r,
                      got[r][0], got[r][1], got[r][2], got[r][3], (double)got_scale[r]);
    }
    CHECK(got_lost[0] == 0.25f + 0.0625f + 0); /* half a spacing, a quarter */
    CHECK(got_lost[1] == 0.25f + 0.0625f && got_lost[2] == got_lost[1]);

    op_quantise(queue, operand[0], operand[1], operand[2], 1e-5f, operand[3], operand[4], operand[5]);
    op_read(queue, operand[3], got);
    REQUIRE_OK(queue_wait(queue, &error));
    CHECK(got[0][0] == INT16_MAX && got[0][1] == INT16_MIN && got[0][2] == INT16_MAX && got[1][3] == -1);
    check_planes(queue, operand[0], x);
    queue_destroy(queue);
    for (size_t i = 0; i < sizeof operand / sizeof *operand; i++)
        buffer_destroy(operand[i].buffer);
}

static void check_exact_on(const char *device, enum math math)
{
    struct error error;
    struct backend *backend;
    if (!test_wants_mode(device, math))
        return;
    REQUIRE_OK(backend_open(device, &(struct backend_options){.threads = 1, .math = math}, &backend, &error));
    check_exact(backend);
    backend_close(backend);
}

TEST(exact_numbers_match_ref)
{
    check_exact_on("ref", MATH_F32);
    check_exact_on("cpu", MATH_F32);
    check_exact_on("cuda", MATH_F32);
    check_exact_on("cuda", MATH_TF32);
}

TEST(exact_numbers_match_ref_in_bf16)
{
    check_exact_on("cpu", MATH_BF16);
    check_exact_on("cuda", MATH_BF16);
}

TEST_MAIN
