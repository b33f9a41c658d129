#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/head/draft_chain.h"
#include "tests/test.h"

/* A golden example of EAGLE-3's published checkpoints: every tensor is made by golden_fill. Two implementations in Python
 * that know nothing of each other gave its figures. */
enum { H = 8, HEADS = 2, KV = 1, SIZE = 4, I = 16, V = 16, D = 8, TAPS = 3, STEPS = 3, ROWS = 6 };
enum { Q = HEADS * SIZE, K = KV * SIZE, LENGTH = ROWS + STEPS, SEQUENCES = 2, M = SEQUENCES * LENGTH };
enum { PARAMETERS = 14 };

static const struct model_config config = {.family = "llama",
                                           .layers = 3,
                                           .hidden = H,
                                           .attention_heads = HEADS,
                                           .kv_heads = KV,
                                           .head_size = SIZE,
                                           .intermediate = I,
                                           .vocab = V,
                                           .norm_epsilon = 1e-5f,
                                           .rope_theta = 1e4};

/* What golden_fill is told for each parameter: its place among the published names in alphabetical order. */
static const struct {
    const char *name;
    int place;
} places[] = {{"fc", 1}, {"hidden_norm", 2}, {"input_norm", 3}, {"down", 4}, {"gate", 5},
              {"up", 6}, {"mlp_norm", 7},    {"k", 8},          {"o", 9},    {"q", 10},
              {"v", 11}, {"output", 12},     {"scale", 13}};

static const int32_t token_ids[ROWS] = {5, 1, 14, 2, 9, 7};
static const int32_t draft_ids[D] = {0, 1, 3, 4, 7, 9, 12, 15};

static double golden_fill(int place, int64_t i)
{
    return (double)((7919 * i + 104729 * place) % 2003) / 2003 - 0.5;
}

/* ---- the draft once more, as plain loops in double ---- */

struct plain {
    double *parameter[PARAMETERS]; /* by index in the head */
    double states[M][TAPS * H], embedded[M][H];
    double y[STEPS][M][H];
};

static const char *parameter_name(int index)
{
    static const char *const names[PARAMETERS] = {"fc",   "input_norm", "hidden_norm", "mlp_norm", "q",
                                                  "k",    "v",          "o",           "gate",     "up",
                                                  "down", "scale",      "tokens",      "output"};
    return names[index];
}

static const double *named(const struct plain *plain, const char *name)
{
    int index = 0;
    while (strcmp(parameter_name(index), name) != 0)
        index++;
    return plain->parameter[index];
}

static void plain_norm(const double *x, const double *scale, double *y)
{
    double square = 0;
    for (int i = 0; i < H; i++)
        square += x[i] * x[i];
    for (int i = 0; i < H; i++)
        y[i] = x[i] / sqrt(square / H + (double)config.norm_epsilon) * scale[i];
}

static void plain_product(const double *weight, int rows, int cols, const double *x, double *y)
{
    for (int r = 0; r < rows; r++) {
        y[r] = 0;
        for (int c = 0; c < cols; c++)
            y[r] += weight[r * cols + c] * x[c];
    }
}

static void plain_rope(double *x, int heads, int position)
{
    for (int h = 0; h < heads; h++) {
        for (int i = 0; i < SIZE / 2; i++) {
            const double angle = position * pow(1e4, -2.0 * i / SIZE), c = cos(angle), s = sin(angle);
            double *a = x + h * SIZE + i, *b = a + SIZE / 2, old = *a;
            *a = old * c - *b * s;
            *b = old * s + *b * c;
        }
    }
}

/* One sequence, whose rows begin at `first`. */
struct plain_keys {
    double k[STEPS][LENGTH][K], v[STEPS][LENGTH][K];
};

static void plain_attend(const struct plain_keys *keys, int step, int row, const double *q, double *out)
{
    for (int h = 0; h < HEADS; h++) {
        const int from = h / (HEADS / KV) * SIZE;
        double weights[LENGTH + STEPS], largest = -INFINITY, total = 0;
        const int count = row + 1 + step;
        for (int j = 0; j < count; j++) {
            const double *k = j <= row ? keys->k[0][j] : keys->k[j - row][row];
            weights[j] = 0;
            for (int i = 0; i < SIZE; i++)
                weights[j] += q[h * SIZE + i] * k[from + i] / sqrt(SIZE);
            largest = fmax(largest, weights[j]);
        }
        for (int j = 0; j < count; j++)
            total += weights[j] = exp(weights[j] - largest);
        for (int i = 0; i < SIZE; i++) {
            out[h * SIZE + i] = 0;
            for (int j = 0; j < count; j++)
                out[h * SIZE + i] +=
                    weights[j] / total * (j <= row ? keys->v[0][j] : keys->v[j - row][row])[from + i];
        }
    }
}

/* g of a row becomes its result. */
static void plain_row(struct plain *plain, struct plain_keys *keys, int step, int first, int row, double *g)
{
    double both[2 * H], q[Q], mixed[Q], o[H], middle[H], normed[H], gate[I], up[I], down[H];
    plain_norm(plain->embedded[first + row + step], named(plain, "input_norm"), both);
    plain_norm(g, named(plain, "hidden_norm"), both + H);
    plain_product(named(plain, "q"), Q, 2 * H, both, q);
    plain_product(named(plain, "k"), K, 2 * H, both, keys->k[step][row]);
    plain_product(named(plain, "v"), K, 2 * H, both, keys->v[step][row]);
    plain_rope(q, HEADS, row + 1 + step);
    plain_rope(keys->k[step][row], KV, row + 1 + step);
    plain_attend(keys, step, row, q, mixed);
    plain_product(named(plain, "o"), H, Q, mixed, o);
    for (int i = 0; i < H; i++)
        middle[i] = g[i] + o[i];
    plain_norm(middle, named(plain, "mlp_norm"), normed);
    plain_product(named(plain, "gate"), I, H, normed, gate);
    plain_product(named(plain, "up"), I, H, normed, up);
    for (int i = 0; i < I; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    plain_product(named(plain, "down"), H, I, gate, down);
    for (int i = 0; i < H; i++)
        g[i] = middle[i] + down[i];
    plain_norm(g, named(plain, "scale"), plain->y[step][first + row]);
}

static void plain_forward(struct plain *plain)
{
    for (int first = 0; first < M; first += LENGTH) {
        struct plain_keys keys;
        double g[LENGTH][H];
        for (int row = 0; row < LENGTH; row++)
            plain_product(named(plain, "fc"), H, TAPS * H, plain->states[first + row], g[row]);
        for (int step = 0; step < STEPS; step++) {
            for (int row = 0; row + step + 1 < LENGTH; row++)
                plain_row(plain, &keys, step, first, row, g[row]);
        }
    }
}

/* ---- a bench ---- */

struct bench {
    struct backend *backend;
    struct queue *queue;
    struct head *head;
    struct draft_scratch *scratch;
    struct buffer *states[TAPS], *embedded;
    struct draft_run run;
    struct plain plain;
};

static void bench_close(struct bench *bench)
{
    for (int i = 0; i < PARAMETERS; i++)
        free(bench->plain.parameter[i]);
    for (int t = 0; t < TAPS; t++)
        buffer_destroy(bench->states[t]);
    buffer_destroy(bench->embedded);
    draft_scratch_destroy(bench->scratch);
    head_destroy(bench->head);
    queue_destroy(bench->queue);
    backend_close(bench->backend);
    free(bench);
}

static int64_t parameter_size(const struct head *head, int index)
{
    const struct matrix value = head_parameter(head, index)->value;
    return value.rows * value.cols;
}

static int fill_parameter(struct bench *bench, int index, struct error *error)
{
    const struct head_parameter *parameter = head_parameter(bench->head, index);
    const int64_t count = parameter_size(bench->head, index);
    float *values;
    int place = -1;
    for (size_t p = 0; p < sizeof places / sizeof places[0]; p++)
        place = strcmp(places[p].name, parameter->name) ? place : places[p].place;
    if (array_alloc(&values, count, error) < 0 || array_alloc(&bench->plain.parameter[index], count, error) < 0)
        return -1;
    for (int64_t i = 0; i < count; i++) {
        const double value = golden_fill(place, i);
        values[i] = (float)(place < 0 ? draft_ids[i] : parameter->value.rows == 1 ? 0.5 * value + 1 : value);
        bench->plain.parameter[index][i] = values[i];
    }
    op_write(bench->queue, parameter->value, values);
    int result = queue_wait(bench->queue, error);
    free(values);
    return result;
}

/* The first sequence is the golden example with three rows behind it, the second one other numbers. */
static int fill_rows(struct bench *bench, struct error *error)
{
    float states[TAPS][M][H], embedded[M][H];
    for (int m = 0; m < M; m++) {
        const int32_t id = m < ROWS ? token_ids[m] : m < LENGTH ? 0 : (m * 7) % V;
        for (int i = 0; i < H; i++) {
            embedded[m][i] = (float)golden_fill(0, id * H + i);
            bench->plain.embedded[m][i] = (double)embedded[m][i];
            for (int t = 0; t < TAPS; t++) {
                states[t][m][i] = (float)(2 * golden_fill(30, (m * TAPS + t) * H + i));
                bench->plain.states[m][t * H + i] = (double)states[t][m][i];
            }
        }
    }
    for (int t = 0; t < TAPS; t++) {
        if (buffer_create(bench->backend, sizeof states[t], &bench->states[t], error) < 0)
            return -1;
        bench->run.states[t] = matrix_f32(bench->states[t], M, H);
        op_write(bench->queue, bench->run.states[t], states[t]);
    }
    if (buffer_create(bench->backend, sizeof embedded, &bench->embedded, error) < 0)
        return -1;
    bench->run.embedded = matrix_f32(bench->embedded, M, H);
    op_write(bench->queue, bench->run.embedded, embedded);
    return queue_wait(bench->queue, error);
}

static int bench_open(struct bench **result, const char *device, enum head_output output, struct error *error)
{
    struct head_spec spec = {.kind = head_kind_find("draft", error), .output = output, .draft_vocab = D};
    const struct draft_size size = {.rows = M, .length = LENGTH, .steps = STEPS, .backward = true};
    struct bench *bench;
    if (array_alloc(result, 1, error) < 0)
        return -1;
    bench = *result;
    if (head_spec_parse_taps("1+2+final", config.layers, &spec, error) < 0 ||
        backend_open(device, &(struct backend_options){.threads = 1}, &bench->backend, error) < 0 ||
        queue_create(bench->backend, &bench->queue, error) < 0 ||
        head_create(&spec, &config, bench->backend, &bench->head, error) < 0 ||
        draft_scratch_create(bench->head, &size, &bench->scratch, error) < 0 || fill_rows(bench, error) < 0)
        return -1;
    for (int i = 0; i < head_parameter_count(bench->head); i++) {
        if (fill_parameter(bench, i, error) < 0)
            return -1;
    }
    bench->run.head = bench->head;
    bench->run.scratch = bench->scratch;
    bench->run.sequences = SEQUENCES;
    return 0;
}

static void forward(struct bench *bench)
{
    draft_begin(bench->queue, &bench->run);
    for (int step = 0; step < STEPS; step++)
        draft_step(bench->queue, &bench->run, step);
}

static const char *const devices[] = {"ref", "cpu"};

/* ---- forward ---- */

static void check_golden(struct bench *bench, const float *y, int step)
{
    static const double first[D] = {-0.646883, 1.397180,  -0.619861, 0.092412,
                                    -0.592839, -0.631877, 2.715910,  -0.604855};
    static const double sums[STEPS] = {38.18589, 34.78146, 31.54597};
    const double *output = named(&bench->plain, "output");
    double sum = 0;
    for (int m = 0; m < ROWS; m++) {
        for (int d = 0; d < D; d++) {
            double logit = 0;
            for (int i = 0; i < H; i++)
                logit += (double)y[m * H + i] * output[d * H + i];
            sum += fabs(logit);
            if (m == 0 && step == 0)
                CHECK(fabs(logit - first[d]) < 2e-6);
        }
    }
    CHECK(fabs(sum - sums[step]) < 2e-5);
}

TEST(draft_golden)
{
    for (int d = 0; d < 2; d++) {
        struct error error;
        struct bench *bench;
        float y[M * H];
        REQUIRE_OK(bench_open(&bench, devices[d], OUTPUT_TIED, &error));
        forward(bench);
        plain_forward(&bench->plain);
        for (int step = 0; step < STEPS; step++) {
            op_read(bench->queue, draft_output(&bench->run, step), y);
            REQUIRE_OK(queue_wait(bench->queue, &error));
            check_golden(bench, y, step);
            CHECK(draft_rows(&bench->run, step) == LENGTH - 1 - step);
            for (int m = 0; m < M; m++) {
                for (int i = 0; i < H && m % LENGTH < LENGTH - 1 - step; i++)
                    CHECK(fabs((double)y[m * H + i] - bench->plain.y[step][m][i]) < 2e-5);
            }
        }
        bench_close(bench);
    }
}

/* ---- gradients ---- */

/* Of y of a row of a step. */
static double wanted(int step, int m, int i)
{
    return golden_fill(40 + step, m * H + i);
}

/* The sum of wanted * y over all rows that count. */
static double plain_loss(struct plain *plain)
{
    double loss = 0;
    plain_forward(plain);
    for (int step = 0; step < STEPS; step++) {
        for (int m = 0; m < M; m++) {
            for (int i = 0; i < H && m % LENGTH < LENGTH - 1 - step; i++)
                loss += wanted(step, m, i) * plain->y[step][m][i];
        }
    }
    return loss;
}

static double difference(struct plain *plain, int index, int64_t at)
{
    const double step = 1e-5, value = plain->parameter[index][at];
    plain->parameter[index][at] = value + step;
    const double above = plain_loss(plain);
    plain->parameter[index][at] = value - step;
    const double below = plain_loss(plain);
    plain->parameter[index][at] = value;
    return (above - below) / (2 * step);
}

static void backward(struct bench *bench)
{
    for (int step = 0; step < STEPS; step++) {
        float dy[M * H]; /* rows that do not count are not read */
        for (int m = 0; m < M; m++) {
            for (int i = 0; i < H; i++)
                dy[m * H + i] = m % LENGTH < LENGTH - 1 - step ? (float)wanted(step, m, i) : 1e6f;
        }
        op_write(bench->queue, draft_output_gradient(&bench->run, step), dy);
    }
    draft_backward(bench->queue, &bench->run, STEPS);
}

static void check_backward(const char *device)
{
    struct error error;
    struct bench *bench;
    struct buffer *buffers[PARAMETERS] = {0};
    struct matrix gradients[PARAMETERS];
    float values[D * H + 4 * H * H + I * H];
    REQUIRE_OK(bench_open(&bench, device, OUTPUT_UNTIED, &error));
    const int count = head_parameter_count(bench->head);
    for (int i = 0; i < count; i++) {
        const struct head_parameter *parameter = head_parameter(bench->head, i);
        REQUIRE_OK(buffer_create(bench->backend, (size_t)parameter_size(bench->head, i) * sizeof(float),
                                 &buffers[i], &error));
        gradients[i] = matrix_f32(buffers[i], parameter->value.rows, parameter->value.cols);
        for (int64_t v = 0; v < parameter_size(bench->head, i); v++) /* gradients are added */
            values[v] = 0.5f;
        op_write(bench->queue, gradients[i], values);
    }
    bench->run.gradients = gradients;
    forward(bench);
    backward(bench);
    for (int i = 0; i < count; i++) {
        const struct head_parameter *parameter = head_parameter(bench->head, i);
        const bool touched = parameter->trained && strcmp(parameter->name, "output") != 0;
        op_read(bench->queue, gradients[i], values);
        REQUIRE_OK(queue_wait(bench->queue, &error));
        for (int64_t v = 0; v < parameter_size(bench->head, i); v++) {
            const double expected = 0.5 + (touched ? difference(&bench->plain, i, v) : 0);
            if (!(fabs((double)values[v] - expected) < 3e-5 * (1 + fabs(expected))))
                test_fail(__FILE__, __LINE__, "%s, %s [%d]: %.9g, expected %.9g", device, parameter->name,
                          (int)v, (double)values[v], expected);
        }
        buffer_destroy(buffers[i]);
    }
    bench_close(bench);
}

TEST(draft_backward)
{
    check_backward("ref");
    check_backward("cpu");
}
/* ---- first values and files ---- */

static int get_named(void *context, const char *name, float **values, int64_t *rows, int64_t *cols,
                     struct error *error)
{
    const char *slash = strchr(name, '/');
    (void)context;
    for (int role = 1; role < ROLE_COUNT; role++) {
        int64_t shape[2] = {1, 1};
        if (strcmp(role_name((enum tensor_role)role), slash ? slash + 1 : name) != 0 ||
            (slash && atoi(name) != config.layers))
            continue;
        const int dims = role_shape(&config, role_holder(&config, (enum tensor_role)role), shape);
        *rows = dims == 2 ? shape[0] : 1;
        *cols = dims == 2 ? shape[1] : shape[0];
        if (array_alloc(values, *rows * *cols, error) < 0)
            return -1;
        for (int64_t i = 0; i < *rows * *cols; i++)
            (*values)[i] = (float)(role * 1000 + i);
        return 0;
    }
    return error_set(error, "no tensor %s", name);
}

static const struct head_source source = {get_named, NULL};

static int read_values(const struct head *head, struct queue *queue, int index, float *values,
                       struct error *error)
{
    op_read(queue, head_parameter(head, index)->value, values);
    return queue_wait(queue, error);
}

static void check_first_values(const struct head *head, struct queue *queue)
{
    static const int halves[SIZE] = {0, 2, 1, 3}; /* rows of adjacent pairs, in halves */
    struct error error;
    float fc[H * TAPS * H], q[Q * 2 * H], v[K * 2 * H], tokens[D], output[D * H];
    REQUIRE_OK(read_values(head, queue, 0, fc, &error));
    REQUIRE_OK(read_values(head, queue, 4, q, &error));
    REQUIRE_OK(read_values(head, queue, 6, v, &error));
    REQUIRE_OK(read_values(head, queue, 12, tokens, &error));
    REQUIRE_OK(read_values(head, queue, 13, output, &error));
    for (int r = 0; r < H; r++) {
        for (int c = 0; c < TAPS * H; c++)
            CHECK(fc[r * TAPS * H + c] == (c == (TAPS - 1) * H + r));
    }
    for (int r = 0; r < Q; r++) {
        for (int c = 0; c < H; c++) {
            CHECK(q[r * 2 * H + c] == 0);
            CHECK(q[r * 2 * H + H + c] ==
                  (float)(ROLE_Q * 1000 + (r / SIZE * SIZE + halves[r % SIZE]) * H + c));
        }
    }
    CHECK(v[2 * H - 1] == (float)(ROLE_V * 1000 + H - 1) && v[3 * H] == (float)(ROLE_V * 1000 + H));
    for (int d = 0; d < D; d++) {
        CHECK(tokens[d] == (float)draft_ids[d]);
        CHECK(output[d * H + 3] == (float)(ROLE_OUTPUT * 1000 + draft_ids[d] * H + 3));
    }
}

static void check_file(const struct head *head, struct backend *backend, struct queue *queue)
{
    struct error error;
    struct head *loaded = NULL;
    char path[512];
    int32_t tokens[D];
    float before[4 * H * I], after[4 * H * I];
    snprintf(path, sizeof path, "%s/head.safetensors", test_folder());
    REQUIRE_OK(head_save(head, queue, path, "0123456789abcdef", &error));
    REQUIRE_OK(head_load(path, &config, "0123456789abcdef", backend, &loaded, &error));
    CHECK(head_spec_equal(head_get_spec(head), head_get_spec(loaded)));
    REQUIRE(head_parameter_count(loaded) == PARAMETERS);
    for (int i = 0; i < PARAMETERS; i++) {
        const struct matrix value = head_parameter(loaded, i)->value;
        REQUIRE_OK(read_values(head, queue, i, before, &error));
        REQUIRE_OK(read_values(loaded, queue, i, after, &error));
        CHECK(!memcmp(before, after, (size_t)(value.rows * value.cols) * sizeof *after));
    }
    REQUIRE_OK(draft_get_tokens(loaded, queue, tokens, &error));
    CHECK(!memcmp(tokens, draft_ids, sizeof tokens));
    for (int wrong = 0; wrong < 3; wrong++) { /* a file's tokens are numbers of any kind */
        const float number = wrong == 0 ? (float)draft_ids[0] + 0.5f : wrong == 1 ? -1.0f : (float)V;
        op_write(queue, matrix_cols(head_parameter(loaded, PARAMETERS - 2)->value, 0, 1), &number);
        CHECK(draft_get_tokens(loaded, queue, tokens, &error) < 0);
        CHECK_TEXT(error.text, "do not ascend within the vocabulary");
    }
    head_destroy(loaded);
}

TEST(draft_first_values)
{
    struct error error;
    struct head_spec spec = {.kind = head_kind_find("draft", &error), .draft_vocab = D};
    struct backend *backend = NULL;
    struct queue *queue = NULL;
    struct head *head = NULL;
    static const int32_t twice[D] = {0, 1, 1, 4, 7, 9, 12, 15};
    REQUIRE_OK(head_spec_parse_taps("1+2.mid+final", config.layers, &spec, &error));
    REQUIRE_OK(backend_open("ref", &(struct backend_options){.threads = 1}, &backend, &error));
    REQUIRE_OK(queue_create(backend, &queue, &error));
    REQUIRE_OK(head_create(&spec, &config, backend, &head, &error));
    REQUIRE_OK(head_initialise(head, INIT_COPY, 1, &source, &error));
    CHECK(draft_set_tokens(head, twice, &source, &error) < 0);
    REQUIRE_OK(draft_set_tokens(head, draft_ids, &source, &error));
    check_first_values(head, queue);
    check_file(head, backend, queue);
    head_destroy(head);
    queue_destroy(queue);
    backend_close(backend);
}

TEST(draft_taps)
{
    struct error error;
    struct head_spec spec = {.kind = head_kind_find("draft", &error), .draft_vocab = D};
    char name[TAPS_NAME_SIZE];
    REQUIRE_OK(head_spec_parse_taps("1+2.mid+3", config.layers, &spec, &error));
    head_spec_name_taps(&spec, config.layers, name);
    CHECK(!strcmp(name, "1+2.mid+final") && spec.befores == 2);
    REQUIRE_OK(head_spec_check(&spec, &config, &error));
    CHECK(head_spec_parse_taps("2+1", config.layers, &spec, &error) < 0);
    CHECK_TEXT(error.text, "do not ascend");
    CHECK(head_spec_parse_taps("1+1", config.layers, &spec, &error) < 0);
    CHECK(head_spec_parse_taps("0+1+2+3", config.layers, &spec, &error) < 0);
    CHECK(head_spec_parse_taps("1++2", config.layers, &spec, &error) < 0);
    CHECK(head_spec_parse_taps("1+", config.layers, &spec, &error) < 0);
    REQUIRE_OK(head_spec_parse_taps("2", config.layers, &spec, &error));
    CHECK(spec.befores == 0 && spec.tap.layer == 2);
    spec.draft_vocab = V + 1;
    CHECK(head_spec_check(&spec, &config, &error) < 0);
    spec.draft_vocab = 0;
    CHECK(head_spec_check(&spec, &config, &error) < 0);
    spec.kind = head_kind_find("norm", &error);
    REQUIRE_OK(head_spec_check(&spec, &config, &error));
    spec.befores = 1;
    CHECK(head_spec_check(&spec, &config, &error) < 0);
}

/* ---- a regression ---- */

/* y of a row by the regression a alone: norm(x a) scale. */
static void plain_regression(const struct bench *bench, const float *a, const double *scale, int m, double *y)
{
    double both[(TAPS + 1) * H], r[H] = {0}, ones[H];
    for (int i = 0; i < TAPS * H; i++)
        both[i] = bench->plain.states[m][i];
    for (int i = 0; i < H; i++)
        ones[i] = 1;
    plain_norm(bench->plain.embedded[0], ones, both + TAPS * H);
    for (int i = 0; i < (TAPS + 1) * H; i++) {
        for (int c = 0; c < H; c++)
            r[c] += both[i] * (double)a[i * H + c];
    }
    plain_norm(r, scale, y);
}

/* e's rows of rank K, which v and o hold exactly. */
static void make_regression(float a[(TAPS + 1) * H * H], double moment[H * H])
{
    for (int i = 0; i < TAPS * H * H; i++)
        a[i] = (float)golden_fill(50, i);
    for (int i = 0; i < H; i++) {
        for (int c = 0; c < H; c++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += golden_fill(51, i * K + k) * golden_fill(52, k * H + c);
            a[(TAPS * H + i) * H + c] = (float)(4 * sum);
            moment[i * H + c] = (i == c) + golden_fill(53, i + c);
        }
    }
}

/* All rows have the same token, so that it does not matter which of them a row attends to. */
static void check_regression(struct bench *bench)
{
    struct error error;
    float a[(TAPS + 1) * H * H], y[M * H], scale[H];
    double moment[H * H], expected[H], wide[H];
    make_regression(a, moment);
    REQUIRE_OK(head_initialise(bench->head, INIT_RIDGE, 1, &source, &error));
    REQUIRE_OK(draft_use_regression(bench->head, a, moment, 1, &error));
    for (int m = 0; m < M; m++) {
        for (int i = 0; i < H; i++)
            y[m * H + i] = (float)bench->plain.embedded[0][i];
    }
    op_write(bench->queue, bench->run.embedded, y);
    forward(bench);
    op_read(bench->queue, draft_scale(bench->head), scale);
    op_read(bench->queue, draft_output(&bench->run, 0), y);
    REQUIRE_OK(queue_wait(bench->queue, &error));
    for (int i = 0; i < H; i++)
        wide[i] = (double)scale[i];
    for (int m = 0; m < M; m++) {
        plain_regression(bench, a, wide, m, expected);
        for (int i = 0; i < H; i++)
            CHECK(fabs((double)y[m * H + i] - expected[i]) < 1e-4 * fabs(wide[i]));
    }
}

TEST(draft_begins_as_a_regression)
{
    struct error error;
    struct bench *bench;
    REQUIRE_OK(bench_open(&bench, "cpu", OUTPUT_TIED, &error));
    check_regression(bench);
    bench_close(bench);
}

/* ---- chains ---- */

TEST(draft_rounds)
{
    /* Rounds at rows 1 (2 are accepted), 4 (none), 5 (3) and 9; a hit behind a miss is worth nothing. */
    static const bool hit[10][3] = {{1, 1, 1}, {1, 1, 0}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1},
                                    {1, 1, 1}, {1, 0, 0}, {1, 0, 0}, {1, 0, 0}, {1, 0, 1}};
    struct draft_chain chain = {.steps = 3};
    draft_chain_count(&chain, hit[0], 10, 1);
    CHECK(chain.rounds == 4);
    CHECK(chain.accepted[0] == 3 && chain.accepted[1] == 2 && chain.accepted[2] == 1);
    draft_chain_count(&chain, hit[0], 10, 9); /* added */
    CHECK(chain.rounds == 5 && chain.accepted[0] == 4);
}

TEST_MAIN
