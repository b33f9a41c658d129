/* interrupted.c: where long work looks at signals: it fails with ERROR_INTERRUPTED, and nothing else
 * changes. */
#include <stdlib.h>

#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/model/layer.h"
#include "common/model/model.h"
#include "extract/files.h"
#include "kernels/ops.h"
#include "tests/interrupted.h"
#include "tests/test.h"

static struct error error;

enum { VOCAB = 500, WIDTH = 32, MOST = 1024 };

/* The softmax of so many rows, on the cpu. */
static int run_softmax(int64_t rows, float *lse)
{
    struct backend *backend = NULL;
    struct queue *queue = NULL;
    struct buffer *own = NULL, *h = NULL, *out = NULL;
    struct random random = {3};
    static float values[MOST * WIDTH];
    int result = -1;
    for (int i = 0; i < MOST * WIDTH; i++)
        values[i] = (float)random_normal(&random);
    if (backend_open("cpu", &(struct backend_options){.threads = 2}, &backend, &error) < 0 ||
        queue_create(backend, &queue, &error) < 0 ||
        buffer_create(backend, sizeof(float) * VOCAB * WIDTH, &own, &error) < 0 ||
        buffer_create(backend, sizeof values, &h, &error) < 0 ||
        buffer_create(backend, sizeof(float) * MOST, &out, &error) < 0)
        goto done;
    const struct vocab vocab = {.own = matrix_f32(own, VOCAB, WIDTH)};
    struct vocab_stats stats = {.lse = matrix_f32(out, rows, 1)};
    stats.label = stats.top = stats.top_logit = stats.entropy = stats.u = matrix_none();
    op_write(queue, vocab.own, values);
    op_write(queue, matrix_f32(h, rows, WIDTH), values);
    op_vocab_stats(queue, matrix_f32(h, rows, WIDTH), &vocab, matrix_none(), &stats);
    op_read(queue, stats.lse, lse);
    result = queue_wait(queue, &error);
done:
    buffer_destroy(own);
    buffer_destroy(h);
    buffer_destroy(out);
    queue_destroy(queue);
    backend_close(backend);
    return result;
}

/* A few rows take a moment: what is generated, or asked about a call, is not lost. */
TEST(interrupted_softmax_of_many_rows)
{
    static float before[MOST], after[MOST];
    REQUIRE_OK(run_softmax(MOST, before));
    REQUIRE(be_interrupted());
    CHECK(run_softmax(MOST, after) < 0 && error.kind == ERROR_INTERRUPTED);
    for (int64_t rows = 1; rows <= 256; rows *= 16) {
        REQUIRE_OK(run_softmax(rows, after));
        CHECK(rows == 1 || !memcmp(before, after, (size_t)rows * sizeof *after));
    }
}

TEST(interrupted_reading_of_weights)
{
    struct model *model;
    struct backend *backend;
    struct layer *layer;
    char fingerprint[17];
    REQUIRE(be_interrupted());
    REQUIRE_OK(model_open("tests/golden/gguf-llama.gguf", &model, &error));
    REQUIRE_OK(backend_open("cpu", &(struct backend_options){.threads = 1}, &backend, &error));
    CHECK(model_fingerprint(model, fingerprint, &error) < 0 && error.kind == ERROR_INTERRUPTED);
    CHECK(layer_load(model, 0, backend, WEIGHT_FORWARD, &layer, &error) < 0 &&
          error.kind == ERROR_INTERRUPTED && !layer);
    backend_close(backend);
    model_close(model);
}

TEST(interrupted_corpus)
{
    struct corpus_list list = {0};
    REQUIRE(be_interrupted());
    REQUIRE_OK(corpus_list_add(&list, "pipelines", false, 0, &error));
    CHECK(corpus_list_identify(&list, &error) < 0 && error.kind == ERROR_INTERRUPTED);
    corpus_list_free(&list);
}

TEST_MAIN
