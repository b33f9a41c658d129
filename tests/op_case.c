#include "tests/op_case.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/random.h"
#include "kernels/backend.h"
#include "tests/mode.h"

/* ---- operands ---- */

static void *must_alloc(size_t bytes)
{
    void *block = calloc(1, bytes ? bytes : 1);
    if (!block) {
        perror("op_case");
        exit(1);
    }
    return block;
}

/* The generator of one row of one operand. */
static struct random row_random(int operand, int64_t row)
{
    struct random random = {(uint64_t)operand << 32 ^ (uint64_t)row * 0x9e3779b97f4a7c15u};
    random_next(&random);
    return random;
}

struct operand_kind {
    enum dtype type;
    bool is_output, is_per_row;
    double deviation; /* of normal values; their absolute values when negative */
    int32_t low, high; /* of integers */
};

/* Fills a buffer: bytes outside the view are 0x7b (1.3e36 as f32), row r of the view is random. */
static void fill_operand(const struct op_operand *operand, int number, const struct operand_kind *kind)
{
    const struct matrix view = operand->view;
    memset(operand->before, 0x7b, operand->bytes);
    for (int64_t row = 0; row < view.rows; row++) {
        struct random random = row_random(number, row);
        const int64_t first = view.offset + row * view.stride;
        for (int64_t i = first; i < first + view.cols; i++)
            if (view.type == DTYPE_I32)
                ((int32_t *)operand->before)[i] =
                    kind->low + (int32_t)(random_next(&random) % (uint64_t)(kind->high - kind->low + 1));
            else if (view.type == DTYPE_I16)
                ((int16_t *)operand->before)[i] = (int16_t)random_next(&random);
            else if (view.type == DTYPE_U8)
                ((uint8_t *)operand->before)[i] = (uint8_t)random_next(&random);
            else if (view.type == DTYPE_F64)
                ((double *)operand->before)[i] = random_normal(&random);
            else if (kind->deviation < 0)
                ((float *)operand->before)[i] = (float)fabs(kind->deviation * random_normal(&random));
            else
                ((float *)operand->before)[i] = (float)(kind->deviation * random_normal(&random));
    }
}

/* The operand whose turn it is, and of one per row the rows that belong to the batch. */
static struct matrix operand_again(struct op_run *run, int64_t rows)
{
    const struct op_operand *operand = &run->operand[run->count_again++];
    return operand->is_per_row ? matrix_rows(operand->view, run->first * (rows / run->batch), rows)
                               : operand->view;
}

static struct matrix add_operand(struct op_run *run, struct operand_kind kind, int64_t rows, int64_t cols)
{
    if (run->again)
        return operand_again(run, rows);
    struct error error;
    struct buffer *buffer;
    const int64_t stride = cols + run->gap, values = run->gap + rows * stride;
    const int number = run->count;
    if (number == OP_OPERANDS) {
        fprintf(stderr, "op_case: raise OP_OPERANDS\n");
        exit(1);
    }
    struct op_operand *operand = &run->operand[run->count++];
    operand->bytes = (size_t)values * value_size(kind.type);
    operand->is_output = kind.is_output;
    operand->is_per_row = kind.is_per_row;
    operand->before = must_alloc(operand->bytes);
    operand->after = must_alloc(operand->bytes);
    if (buffer_create(run->backend, operand->bytes, &buffer, &error) < 0) {
        fprintf(stderr, "op_case: %s\n", error.text);
        exit(1);
    }
    operand->view = (struct matrix){buffer, kind.type, run->gap, rows, cols, stride};
    fill_operand(operand, number, &kind);
    op_write(run->queue, (struct matrix){buffer, kind.type, 0, 1, values, values}, operand->before);
    return operand->view;
}

struct matrix row_input(struct op_run *run, int64_t rows, int64_t cols)
{
    return add_operand(run, (struct operand_kind){DTYPE_F32, false, true, 1, 0, 0}, rows, cols);
}

struct matrix row_integers(struct op_run *run, int64_t rows, int32_t low, int32_t high)
{
    return add_operand(run, (struct operand_kind){DTYPE_I32, false, true, 0, low, high}, rows, 1);
}

struct matrix row_output(struct op_run *run, enum dtype type, int64_t rows, int64_t cols)
{
    return add_operand(run, (struct operand_kind){type, true, true, 1, 0, 99}, rows, cols);
}

struct matrix row_moment(struct op_run *run, int64_t rows, int64_t cols)
{
    return add_operand(run, (struct operand_kind){DTYPE_F32, true, true, -1, 0, 0}, rows, cols);
}

struct matrix shared_input(struct op_run *run, int64_t rows, int64_t cols, double deviation)
{
    return add_operand(run, (struct operand_kind){DTYPE_F32, false, false, deviation, 0, 0}, rows, cols);
}

struct matrix shared_integers(struct op_run *run, int64_t rows, int32_t low, int32_t high)
{
    return add_operand(run, (struct operand_kind){DTYPE_I32, false, false, 0, low, high}, rows, 1);
}

struct matrix shared_output(struct op_run *run, enum dtype type, int64_t rows, int64_t cols)
{
    return add_operand(run, (struct operand_kind){type, true, false, 1, 0, 99}, rows, cols);
}

/* A random row of a weight, values of about 1 / sqrt(cols). */
static void fill_weight_row(enum dtype type, int64_t cols, struct random *random, uint8_t *row)
{
    const double deviation = 1 / sqrt((double)cols);
    if (dtype_block(type) == 1) {
        for (int64_t i = 0; i < cols; i++) {
            const float value = (float)(deviation * random_normal(random));
            const uint16_t half = type == DTYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
            if (type == DTYPE_F32)
                memcpy(row + 4 * i, &value, sizeof value);
            else
                memcpy(row + 2 * i, &half, sizeof half);
        }
        return;
    }
    const bool bytes = type == DTYPE_Q8_0;
    const size_t header = type == DTYPE_Q4_1 ? 4 : 2, size = header + (bytes ? 32 : 16);
    for (int64_t block = 0; block < cols / 32; block++, row += size) {
        const double spacing = deviation * (0.5 + random_uniform(random)) / (bytes ? 64 : 4);
        const uint16_t scale = f32_to_f16((float)spacing), minimum = f32_to_f16((float)(-8 * spacing));
        memcpy(row, &scale, sizeof scale);
        memcpy(row + header - sizeof minimum, header == 4 ? &minimum : &scale, sizeof minimum);
        for (size_t i = header; i < size; i++)
            row[i] = (uint8_t)random_next(random);
    }
}

const struct weight *shared_weight(struct op_run *run, enum dtype type, int64_t rows, int64_t cols, bool bias,
                                   unsigned uses)
{
    if (run->again)
        return run->weight[run->weights_again++];
    struct error error;
    struct random random = row_random(OP_OPERANDS + run->weights, rows);
    size_t row_bytes = 0;
    if (!dtype_row_bytes(type, cols, &row_bytes)) {
        fprintf(stderr, "op_case: a weight of %lld columns cannot be %s\n", (long long)cols, dtype_name(type));
        exit(1);
    }
    uint8_t *data = must_alloc((size_t)rows * row_bytes);
    float *values = must_alloc((size_t)rows * sizeof *values);
    for (int64_t row = 0; row < rows; row++) {
        fill_weight_row(type, cols, &random, data + (size_t)row * row_bytes);
        values[row] = (float)random_normal(&random);
    }
    const int64_t half = rows / 3;
    const struct weight_part parts[2] = {{type, rows - half, cols, data},
                                         {type, half, cols, data + (size_t)(rows - half) * row_bytes}};
    struct weight **weight = &run->weight[run->weights];
    if (weight_prepare(run->backend, parts, half ? 2 : 1, bias ? values : NULL, uses, weight, &error) < 0) {
        fprintf(stderr, "op_case: %s\n", error.text);
        exit(1);
    }
    run->weight_data[run->weights++] = data;
    free(values);
    return *weight;
}

const struct weight *shared_subset(struct op_run *run, enum dtype type, int64_t rows, int64_t cols)
{
    const struct matrix ids = shared_integers(run, rows, 0, (int32_t)rows);
    const struct weight *from = shared_weight(run, type, rows + 1, cols, false, WEIGHT_ROWS);
    struct error error;
    if (run->again) {
        run->weights_again++;
    } else if (weight_subset_create(from, rows, &run->weight[run->weights++], &error) < 0) {
        fprintf(stderr, "op_case: %s\n", error.text);
        exit(1);
    }
    struct weight *subset = run->weight[(run->again ? run->weights_again : run->weights) - 1];
    op_gather(run->queue, from, ids, subset);
    return subset;
}

/* ---- runs ---- */

/* A case on one backend, with one batch. */
struct setting {
    const struct op_case *test;
    struct backend *backend;
    int64_t batch, gap;
};

/* "matmul {96, 32, 0, 0, 0, 0} of 7 rows with gaps of 3 on cpu": borrowed until the next call. */
static const char *setting_name(const struct setting *setting)
{
    static char text[320];
    int used = snprintf(text, sizeof text, "%s {", setting->test->op);
    for (int i = 0; i < OP_DIMENSIONS; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%lld", i ? ", " : "",
                         (long long)setting->test->shape[i]);
    snprintf(text + used, sizeof text - (size_t)used, "} of %lld rows with gaps of %lld on %s",
             (long long)setting->batch, (long long)setting->gap, backend_identity(setting->backend));
    return text;
}

static void run_destroy(struct op_run *run)
{
    for (int i = 0; i < run->count; i++) {
        buffer_destroy(run->operand[i].view.buffer);
        free(run->operand[i].before);
        free(run->operand[i].after);
    }
    for (int i = 0; i < run->weights; i++) {
        weight_destroy(run->weight[i]);
        free(run->weight_data[i]);
    }
    queue_destroy(run->queue);
}

/* True when bytes outside outputs have changed. */
static bool memory_spoiled(const struct op_operand *operand)
{
    const struct matrix view = operand->view;
    const size_t size = value_size(view.type);
    const char *before = operand->before, *after = operand->after;
    size_t kept = 0; /* of the next byte that must not have changed */
    for (int64_t row = 0; row < view.rows && operand->is_output; row++) {
        const size_t first = (size_t)(view.offset + row * view.stride) * size;
        if (memcmp(before + kept, after + kept, first - kept) != 0)
            return true;
        kept = first + (size_t)view.cols * size;
    }
    return memcmp(before + kept, after + kept, operand->bytes - kept) != 0;
}

/* Every operand as it is behind the ops so far. False with the test failed. */
static bool read_operands(const struct setting *setting, struct op_run *run)
{
    struct error error = {0};
    for (int i = 0; i < run->count; i++) {
        const struct op_operand *operand = &run->operand[i];
        const int64_t values = (int64_t)(operand->bytes / value_size(operand->view.type));
        op_read(run->queue, (struct matrix){operand->view.buffer, operand->view.type, 0, 1, values, values},
                operand->after);
    }
    if (queue_wait(run->queue, &error) < 0) {
        test_fail(__FILE__, __LINE__, "%s: %s", setting_name(setting), error.text);
        return false;
    }
    for (int i = 0; i < run->count; i++)
        if (memory_spoiled(&run->operand[i]))
            test_fail(__FILE__, __LINE__, "%s: operand %d is changed where it must not", setting_name(setting),
                      i);
    return true;
}

/* False with the test failed. run_destroy either way. */
static bool setting_run(const struct setting *setting, struct op_run *run)
{
    struct error error;
    *run = (struct op_run){.backend = setting->backend, .gap = setting->gap, .batch = setting->batch};
    if (queue_create(setting->backend, &run->queue, &error) < 0) {
        fprintf(stderr, "op_case: %s\n", error.text);
        exit(1);
    }
    setting->test->run(run, setting->test->shape);
    return read_operands(setting, run);
}

/* Runs two settings; false when one failed. Both runs are to be destroyed either way. */
static bool pair_run(const struct setting *a, struct op_run *a_run, const struct setting *b,
                     struct op_run *b_run)
{
    const bool a_ran = setting_run(a, a_run), b_ran = setting_run(b, b_run);
    return a_ran && b_ran;
}

/* Every backend other than ref. */
static const char *const devices[] = {"cpu", "cuda"};
enum { DEVICES = sizeof devices / sizeof *devices };

/* Entry k is NULL where this run does not want device k in that mode. */
static void open_backends(enum math math, int threads, struct backend *backend[DEVICES])
{
    for (int k = 0; k < DEVICES; k++) {
        struct error error;
        const struct backend_options options = {.threads = threads, .math = math};
        backend[k] = NULL;
        if (!test_wants_mode(devices[k], math) || backend_open(devices[k], &options, &backend[k], &error) == 0)
            continue;
        backend[k] = NULL;
        printf("  without %s: %s\n", devices[k], error.text);
        test_fail(__FILE__, __LINE__, "%s does not open", devices[k]);
    }
}

static void close_backends(struct backend *backend[DEVICES])
{
    for (int k = 0; k < DEVICES; k++)
        backend_close(backend[k]);
}

/* Batch i of a case, 0 behind the last. OFFRAMP_TEST_BATCH is the largest where a device is slow: what
 * is above it is cut to it, once. */
static int64_t case_batch(const struct op_case *test, int i)
{
    static const int64_t usual[OP_BATCHES] = {1, 7, 9, 70};
    const int64_t *batches = test->batches[0] ? test->batches : usual;
    const char *text = getenv("OFFRAMP_TEST_BATCH");
    const int64_t most = text && *text ? strtoll(text, NULL, 10) : INT64_MAX;
    if (i == OP_BATCHES || (i > 0 && batches[i - 1] >= most))
        return 0;
    return batches[i] < most ? batches[i] : most;
}

/* ---- against ref ---- */

static double value_at(const struct op_operand *operand, int64_t row, int64_t col)
{
    const int64_t index = operand->view.offset + row * operand->view.stride + col;
    switch (operand->view.type) {
    case DTYPE_I32: return ((int32_t *)operand->after)[index];
    case DTYPE_F64: return ((double *)operand->after)[index];
    case DTYPE_I16: return ((int16_t *)operand->after)[index];
    case DTYPE_U8: return ((uint8_t *)operand->after)[index];
    default: return (double)((float *)operand->after)[index];
    }
}

static double root_mean_square(const struct op_operand *operand)
{
    double squares = 0;
    for (int64_t row = 0; row < operand->view.rows; row++)
        for (int64_t col = 0; col < operand->view.cols; col++)
            squares += value_at(operand, row, col) * value_at(operand, row, col);
    return sqrt(squares / (double)(operand->view.rows * operand->view.cols));
}

/* Largest difference of an output from ref's, relative to the value and the output's rms together.
 * Infinite when one is not finite, or when integers differ. */
static double relative_error(const struct op_operand *operand, const struct op_operand *ref)
{
    const double rms = root_mean_square(ref);
    double largest = 0;
    for (int64_t row = 0; row < ref->view.rows; row++)
        for (int64_t col = 0; col < ref->view.cols; col++) {
            const double expected = value_at(ref, row, col),
                         difference = value_at(operand, row, col) - expected;
            if (!isfinite(difference) || (ref->view.type == DTYPE_I32 && difference != 0))
                return INFINITY;
            if (difference != 0)
                largest = fmax(largest, fabs(difference) / (rms + fabs(expected)));
        }
    return largest;
}

static void compare_with_ref(const struct setting *setting, const struct op_run *expected)
{
    struct op_run run;
    const bool rough = setting->backend->options.math == MATH_BF16 && setting->test->bf16_tolerance > 0;
    const double tolerance = rough ? setting->test->bf16_tolerance : setting->test->tolerance;
    const bool ran = setting_run(setting, &run);
    for (int i = 0; ran && i < run.count; i++) {
        const double error = relative_error(&run.operand[i], &expected->operand[i]);
        if (rough && run.operand[i].view.type == DTYPE_I32)
            continue; /* the top token of nearly equal logits */
        if (!(error <= tolerance))
            test_fail(__FILE__, __LINE__, "%s: operand %d is off by %.2g, more than %.2g",
                      setting_name(setting), i, error, tolerance);
    }
    run_destroy(&run);
}

void check_against_ref(enum math math, const struct op_case *cases, size_t count)
{
    struct error error;
    struct backend *ref, *backend[DEVICES];
    REQUIRE_OK(backend_open("ref", &(struct backend_options){.threads = 1}, &ref, &error));
    open_backends(math, 2, backend);
    for (size_t i = 0; i < count; i++)
        for (int b = 0; case_batch(&cases[i], b); b++)
            for (int64_t gap = 0; gap <= 3; gap += 3) {
                struct setting setting = {&cases[i], ref, case_batch(&cases[i], b), gap};
                struct op_run expected;
                const bool ran = setting_run(&setting, &expected);
                for (int k = 0; ran && k < DEVICES; k++) {
                    setting.backend = backend[k];
                    if (backend[k])
                        compare_with_ref(&setting, &expected);
                }
                run_destroy(&expected);
            }
    close_backends(backend);
    backend_close(ref);
}

/* ---- same bytes ---- */

static void compare_bytes(const struct setting *a, const struct setting *b)
{
    struct op_run a_run, b_run;
    const bool ran = pair_run(a, &a_run, b, &b_run);
    for (int k = 0; ran && k < a_run.count; k++)
        if (memcmp(a_run.operand[k].after, b_run.operand[k].after, a_run.operand[k].bytes) != 0)
            test_fail(__FILE__, __LINE__, "%s: operand %d depends on the threads", setting_name(a), k);
    run_destroy(&a_run);
    run_destroy(&b_run);
}

void check_threads(enum math math, const struct op_case *cases, size_t count)
{
    struct backend *one[DEVICES], *two[DEVICES];
    open_backends(math, 1, one);
    open_backends(math, 2, two);
    for (size_t i = 0; i < count; i++)
        for (int b = 0; case_batch(&cases[i], b); b++)
            for (int k = 0; k < DEVICES; k++) {
                const struct setting with_one = {&cases[i], one[k], case_batch(&cases[i], b), 0};
                const struct setting with_two = {&cases[i], two[k], case_batch(&cases[i], b), 0};
                if (one[k] && two[k])
                    compare_bytes(&with_one, &with_two);
            }
    close_backends(one);
    close_backends(two);
}

/* ---- the same bytes whatever rows a call has ---- */

/* Sizes of groups of neighbouring rows that are computed by a call each, again and again until all rows are. */
struct split {
    int64_t sizes[3]; /* ended by 0 */
    bool on_devices; /* also where ops.h does not promise it of every group, but it holds of this one */
};

static const struct split few_splits[] = {
    {{8}, true}, {{1}, true}, {{5}, true}, {{7, 2}, false}, {{3, 6, 4}, false}};
static const struct split many_splits[] = {
    {{300}, true},  {{9}, true},           {{16, 17}, false},  {{15, 33, 31}, false},
    {{32}, false},  {{47, 64, 49}, false}, {{65, 100}, false}, {{129, 80, 91}, false},
    {{257}, false}, {{10, 290}, false}};
enum {
    FEW_SPLITS = sizeof few_splits / sizeof *few_splits,
    MANY_SPLITS = sizeof many_splits / sizeof *many_splits
};

/* The next group: no less than `least` rows are left behind it, or none. */
static int64_t next_group(const struct split *split, int *turn, int64_t rows, int64_t least)
{
    if (*turn == 3 || split->sizes[*turn] == 0)
        *turn = 0;
    const int64_t size = split->sizes[(*turn)++];
    return rows - size < least ? rows : size;
}

/* Computes the first `rows` rows once more, by a call per group. False with the test failed. */
static bool run_split(const struct setting *setting, struct op_run *run, const struct split *split,
                      int64_t rows, int64_t least)
{
    int turn = 0;
    for (int i = 0; i < run->count; i++) {
        const struct op_operand *operand = &run->operand[i];
        const int64_t values = (int64_t)(operand->bytes / value_size(operand->view.type));
        op_write(run->queue, (struct matrix){operand->view.buffer, operand->view.type, 0, 1, values, values},
                 operand->before);
    }
    run->again = true;
    for (run->first = 0; run->first < rows; run->first += run->batch) {
        run->batch = next_group(split, &turn, rows - run->first, least);
        run->count_again = run->weights_again = 0;
        setting->test->run(run, setting->test->shape);
    }
    return read_operands(setting, run);
}

/* Row outputs of a run, rows one behind the other. */
struct expected {
    char *bytes[OP_OPERANDS]; /* NULL of other operands */
};

static const char *row_bytes(const struct op_operand *operand, int64_t row)
{
    return (const char *)operand->after +
           (size_t)(operand->view.offset + row * operand->view.stride) * value_size(operand->view.type);
}

static size_t row_size(const struct op_operand *operand)
{
    return (size_t)operand->view.cols * value_size(operand->view.type);
}

static void take_expected(const struct op_run *run, struct expected *expected)
{
    for (int i = 0; i < run->count; i++) {
        const struct op_operand *operand = &run->operand[i];
        if (!operand->is_output || !operand->is_per_row)
            continue;
        const size_t size = row_size(operand);
        expected->bytes[i] = must_alloc((size_t)operand->view.rows * size);
        for (int64_t row = 0; row < operand->view.rows; row++)
            memcpy(expected->bytes[i] + (size_t)row * size, row_bytes(operand, row), size);
    }
}

static void free_expected(struct expected *expected)
{
    for (int i = 0; i < OP_OPERANDS; i++)
        free(expected->bytes[i]);
}

/* The first `rows` rows of the batch. */
static void compare_rows(const struct setting *setting, const struct op_run *run, const struct split *split,
                         const struct expected *expected, int64_t rows)
{
    for (int i = 0; i < run->count; i++) {
        const struct op_operand *operand = &run->operand[i];
        const int64_t group = operand->view.rows / setting->batch;
        const size_t size = row_size(operand);
        for (int64_t row = 0; expected->bytes[i] && row < rows * group; row++)
            if (memcmp(row_bytes(operand, row), expected->bytes[i] + (size_t)row * size, size) != 0) {
                test_fail(__FILE__, __LINE__,
                          "%s: operand %d of row %lld has other bytes in groups of %lld, %lld, %lld ..",
                          setting_name(setting), i, (long long)(row / group), (long long)split->sizes[0],
                          (long long)split->sizes[1], (long long)split->sizes[2]);
                break;
            }
    }
}

/* The first `rows` rows in groups of every split. Nothing is expected yet: the first split says what is. */
static void check_splits(const struct setting *setting, struct op_run *run, const struct split *splits,
                         int count, int64_t rows, int64_t least, struct expected *expected)
{
    const bool is_cpu = strcmp(backend_name(setting->backend), "cpu") == 0;
    bool known = false;
    for (int i = 0; i < OP_OPERANDS; i++)
        known = known || expected->bytes[i];
    for (int s = 0; s < count; s++) {
        if ((!is_cpu && !splits[s].on_devices) || !run_split(setting, run, &splits[s], rows, least))
            continue;
        if (!known)
            take_expected(run, expected);
        known = true;
        compare_rows(setting, run, &splits[s], expected, rows);
    }
}

/* A case on one backend, with and without gaps between rows. */
static void check_rows(const struct op_case *test, struct backend *backend)
{
    enum { FEW = 17, MOST = 300 };
    const int64_t rows = test->many ? test->many : MOST, few = rows < FEW ? rows : FEW;
    const bool apart = test->few || strcmp(backend_name(backend), "cpu") != 0;
    struct expected many_expected = {{NULL}}, few_expected = {{NULL}};
    for (int64_t gap = 0; gap <= 3; gap += 3) {
        const struct setting setting = {test, backend, rows, gap};
        struct op_run run;
        if (setting_run(&setting, &run)) {
            check_splits(&setting, &run, many_splits, MANY_SPLITS, rows, apart ? MATMUL_FEW_ROWS + 1 : 1,
                         &many_expected);
            check_splits(&setting, &run, few_splits, FEW_SPLITS, few, 1,
                         apart ? &few_expected : &many_expected);
        }
        run_destroy(&run);
    }
    free_expected(&many_expected);
    free_expected(&few_expected);
}

void check_row_independence(enum math math, const struct op_case *cases, size_t count)
{
    struct backend *backend[DEVICES];
    open_backends(math, 2, backend);
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < DEVICES; k++)
            if (backend[k] && !cases[i].mixes_rows)
                check_rows(&cases[i], backend[k]);
    close_backends(backend);
}
