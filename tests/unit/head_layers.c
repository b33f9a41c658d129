/* Heads with layers of the model, against the model's own. */
#include <math.h>
#include <stdlib.h>

#include "common/head/head.h"
#include "tests/make_model.h"
#include "tests/model_source.h"
#include "tests/test.h"

enum { LAYERS = 4, H = 48, LENGTH = 12, M = 2 * LENGTH };

static const struct made_model made = {.layers = LAYERS,
                                       .hidden = H,
                                       .attention_heads = 4,
                                       .kv_heads = 2,
                                       .head_size = 12,
                                       .intermediate = 80,
                                       .vocab = 50,
                                       .context = 64,
                                       .seed = 5};

struct bench {
    struct model *model;
    struct backend *backend;
    struct queue *queue;
    struct buffer *x, *h;
    float states[M * H];
};

static void bench_open(struct bench *bench, const char *device)
{
    struct random random = {17};
    struct error error;
    const char *folder = test_folder();
    *bench = (struct bench){0};
    REQUIRE_OK(make_model(&made, folder, &error));
    REQUIRE_OK(model_open(folder, &bench->model, &error));
    REQUIRE_OK(backend_open(device, &(struct backend_options){.threads = 2}, &bench->backend, &error));
    REQUIRE_OK(queue_create(bench->backend, &bench->queue, &error));
    REQUIRE_OK(buffer_create(bench->backend, sizeof bench->states, &bench->x, &error));
    REQUIRE_OK(buffer_create(bench->backend, sizeof bench->states, &bench->h, &error));
    for (int i = 0; i < M * H; i++)
        bench->states[i] = (float)random_normal(&random);
}

static void bench_close(struct bench *bench)
{
    buffer_destroy(bench->x);
    buffer_destroy(bench->h);
    queue_destroy(bench->queue);
    backend_close(bench->backend);
    model_close(bench->model);
}

static void make_head(struct bench *bench, const char *kind, int tap, int to, struct head **head)
{
    const struct head_source source = {model_source, bench->model};
    struct error error;
    const struct head_spec spec = {.kind = head_kind_find(kind, &error), .tap = {.layer = tap}, .to = to};
    REQUIRE_OK(head_create(&spec, model_config(bench->model), bench->backend, head, &error));
    REQUIRE_OK(head_initialise(*head, INIT_COPY, 1, &source, &error));
}

/* What the model makes of the states at tap `from`: its layers from there on, then the final norm. */
static void run_model(struct bench *bench, int from, float *h)
{
    const struct span spans[2] = {{.rows = LENGTH}, {.rows = LENGTH}};
    const struct model_config *config = model_config(bench->model);
    const struct head_source source = {model_source, bench->model};
    struct layer_scratch *scratch;
    struct error error;
    float *norm = NULL;
    int64_t rows, cols;
    const struct matrix x = matrix_f32(bench->x, M, H);
    REQUIRE_OK(scratch_create(config, bench->backend, M, 2, LENGTH, &scratch, &error));
    op_write(bench->queue, x, bench->states);
    for (int l = from; l < LAYERS; l++) {
        struct layer *layer;
        REQUIRE_OK(layer_load(bench->model, l, bench->backend, WEIGHT_FORWARD, &layer, &error));
        layer_attention(layer, bench->queue, scratch, spans, 2, x);
        layer_mlp(layer, bench->queue, scratch, x);
        REQUIRE_OK(queue_wait(bench->queue, &error));
        layer_destroy(layer);
    }
    op_read(bench->queue, x, h);
    REQUIRE_OK(source.get(source.context, "final_norm", &norm, &rows, &cols, &error));
    REQUIRE_OK(queue_wait(bench->queue, &error));
    for (int r = 0; r < M; r++) {
        double squares = 0;
        for (int i = 0; i < H; i++)
            squares += (double)h[r * H + i] * h[r * H + i];
        for (int i = 0; i < H; i++)
            h[r * H + i] *= norm[i] / (float)sqrt(squares / H + (double)config->norm_epsilon);
    }
    free(norm);
    scratch_destroy(scratch);
}

static void check_head(const char *device, const char *kind, int tap, int to)
{
    const struct span spans[2] = {{.rows = LENGTH}, {.rows = LENGTH}};
    static float expected[M * H], found[M * H];
    struct head_scratch *scratch;
    struct error error;
    struct bench bench;
    bench_open(&bench, device);
    struct head *head = NULL;
    make_head(&bench, kind, tap, to, &head);
    run_model(&bench, tap, expected);
    REQUIRE_OK(head_scratch_create(head, M, LENGTH, false, &scratch, &error));
    const struct head_run run = {.head = head,
                                 .scratch = scratch,
                                 .x = matrix_f32(bench.x, M, H),
                                 .spans = spans,
                                 .span_count = 2,
                                 .h = matrix_f32(bench.h, M, H)};
    op_write(bench.queue, run.x, bench.states);
    heads_forward(bench.queue, &run, 1);
    op_read(bench.queue, run.h, found);
    REQUIRE_OK(queue_wait(bench.queue, &error));
    for (int i = 0; i < M * H; i++) {
        if (!(fabsf(found[i] - expected[i]) <= 1e-5f * (1 + fabsf(expected[i]))))
            test_fail(__FILE__, __LINE__, "%s on %s, value %d: %g instead of %g", kind, device, i,
                      (double)found[i], (double)expected[i]);
    }
    head_scratch_destroy(scratch);
    head_destroy(head);
    bench_close(&bench);
}

/* Copied, a head with layers is what the model is from the tap on, where the tap is the one before those layers. */
TEST(copied_layers_are_the_models)
{
    static const char *const devices[] = {"ref", "cpu"};
    for (int d = 0; d < 2; d++) {
        check_head(devices[d], "block", LAYERS - 1, 0);
        check_head(devices[d], "bridge", LAYERS - 1, LAYERS - 1);
        check_head(devices[d], "bridge", LAYERS - 2, LAYERS - 2);
    }
}

/* h of the first sequence's rows by calls of `step` rows each, with what is kept of the rows before. */
static void run_steps(struct bench *bench, const struct head *head, int step, float *h)
{
    struct head_scratch *scratch;
    struct head_cache *cache;
    struct error error;
    REQUIRE_OK(head_scratch_create(head, M, LENGTH, false, &scratch, &error));
    REQUIRE_OK(head_cache_create(head, LENGTH, &cache, &error));
    op_write(bench->queue, matrix_f32(bench->x, M, H), bench->states);
    for (int first = 0; first < LENGTH; first += step) {
        const struct span span = {.rows = step < LENGTH - first ? step : LENGTH - first, .first = first};
        const struct head_run run = {.head = head,
                                     .scratch = scratch,
                                     .x = matrix_rows(matrix_f32(bench->x, M, H), first, span.rows),
                                     .spans = &span,
                                     .span_count = 1,
                                     .caches = &cache,
                                     .h = matrix_rows(matrix_f32(bench->h, M, H), first, span.rows)};
        heads_forward(bench->queue, &run, 1);
    }
    op_read(bench->queue, matrix_f32(bench->h, LENGTH, H), h);
    REQUIRE_OK(queue_wait(bench->queue, &error));
    head_cache_destroy(cache);
    head_scratch_destroy(scratch);
}

/* Rows of two sequences in one call, each with its own cache, and the spans of one behind each other. */
static void run_beside(struct bench *bench, const struct head *head, float *h)
{
    enum { HALF = LENGTH / 2, FEW = 3 };
    struct head_cache *caches[2], *of_spans[3];
    struct head_scratch *scratch;
    struct error error;
    const struct matrix x = matrix_f32(bench->x, M, H);
    REQUIRE_OK(head_scratch_create(head, M, LENGTH, false, &scratch, &error));
    for (int c = 0; c < 2; c++)
        REQUIRE_OK(head_cache_create(head, LENGTH, &caches[c], &error));
    of_spans[0] = caches[1];
    of_spans[1] = of_spans[2] = caches[0];
    for (int first = 0; first < LENGTH; first += 2 * FEW) { /* rows of the other sequence come first */
        const struct span spans[3] = {
            {.rows = FEW, .first = first / 2}, {FEW, NULL, first}, {FEW, NULL, first + FEW}};
        const struct head_run run = {.head = head,
                                     .scratch = scratch,
                                     .x = matrix_rows(x, 0, 3 * FEW),
                                     .spans = spans,
                                     .span_count = 3,
                                     .caches = of_spans,
                                     .h = matrix_f32(bench->h, 3 * FEW, H)};
        op_write(bench->queue, matrix_rows(x, 0, FEW), bench->states + (LENGTH + first / 2) * H);
        op_write(bench->queue, matrix_rows(x, FEW, 2 * FEW), bench->states + first * H);
        heads_forward(bench->queue, &run, 1);
        op_read(bench->queue, matrix_rows(run.h, FEW, 2 * FEW), h + first * H);
    }
    REQUIRE_OK(queue_wait(bench->queue, &error));
    for (int c = 0; c < 2; c++)
        head_cache_destroy(caches[c]);
    head_scratch_destroy(scratch);
}

/* On the cpu rows have the same bytes in all calls of few, alone and beside others, and close to these in one call of
 * all. */
TEST(rows_come_one_after_another)
{
    static const struct {
        const char *kind;
        int to;
    } heads[] = {{"block", 0}, {"bridge", LAYERS - 2}, {"affine", 0}};
    static float all[LENGTH * H], few[LENGTH * H], other[LENGTH * H];
    struct bench bench;
    bench_open(&bench, "cpu");
    for (size_t k = 0; k < sizeof heads / sizeof heads[0]; k++) {
        struct head *head = NULL;
        make_head(&bench, heads[k].kind, 1, heads[k].to, &head);
        run_steps(&bench, head, LENGTH, all);
        run_steps(&bench, head, 1, few);
        for (int i = 0; i < LENGTH * H; i++)
            CHECK(fabsf(few[i] - all[i]) <= 1e-5f * (1 + fabsf(all[i])));
        for (int step = 2; step <= MATMUL_FEW_ROWS; step += 3) {
            run_steps(&bench, head, step, other);
            CHECK(!memcmp(few, other, sizeof few));
        }
        run_beside(&bench, head, other);
        CHECK(!memcmp(few, other, sizeof few));
        head_destroy(head);
    }
    bench_close(&bench);
}

TEST_MAIN
