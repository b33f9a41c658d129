/* Tiny random models of every family against the states that Hugging Face transformers gives them
 * (make_golden.py), on every backend of the host, as whole sequences and through the key-value cache. */
#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/string.h"
#include "common/model/ends.h"
#include "common/model/layer.h"
#include "common/model/safetensors.h"
#include "tests/test.h"

#define FOLDER "tests/golden/"

/* Both sides compute in f32, in different orders; an error in a formula is some percent of the RMS. */
#define F32_TOLERANCE 1e-4
/* The same backend twice, with kernels for many rows and for few: only rounding is left. */
#define CACHE_TOLERANCE 3e-5

/* bf16 rounds the factors of every product to 8 bits: with exact sums (tests/cuda's emulation) the root mean
 * square of the errors comes to 1.5e-2 in these small models' logits. */
#define BF16_TOLERANCE 2e-2

enum { LAYERS = 2, TAPS = 2 * LAYERS + 1, LOGITS = TAPS, SEQUENCES_MAX = 8 };
static const char *const tap_names[TAPS + 1] = {"0", "1.mid", "1", "2.mid", "2", "logits"};

/* A backend, and how far from the RMS of its tap a value may be: from what transformers gives, and from what
 * the same backend gives without the cache. */
struct kind {
    const char *device;
    enum math math;
    double tolerance, cache_tolerance;
};

/* A model on a backend, and what it gives for the golden tokens: [B T, H], the last [B T, V]. */
struct run {
    struct model *model;
    struct safetensors *golden;
    const struct model_config *config;
    int sequences, length; /* B, T */
    struct backend *backend;
    struct queue *queue;
    struct ends *ends;
    struct layer *layer[LAYERS];
    struct layer_scratch *scratch;
    struct kv kv[LAYERS];
    struct buffer *ids, *x, *logits;
    float *taps[TAPS + 1];
};

static int run_open(struct run *run, const char *model, const char *golden, const struct kind *kind,
                    struct error *error)
{
    *run = (struct run){0};
    if (model_open(model, &run->model, error) < 0 || safetensors_open(golden, &run->golden, error) < 0 ||
        backend_open(kind->device, &(struct backend_options){.threads = 2, .math = kind->math}, &run->backend,
                     error) < 0 ||
        queue_create(run->backend, &run->queue, error) < 0)
        return -1;
    const struct model_config *config = run->config = model_config(run->model);
    const struct tensor *tokens = safetensors_find(run->golden, "tokens");
    if (!tokens || tokens->type != DTYPE_I32 || tokens->dims != 2 || config->layers != LAYERS ||
        tokens->shape[0] > SEQUENCES_MAX)
        return error_set(error, "%s: not what make_golden.py writes", golden);
    run->sequences = (int)tokens->shape[0];
    run->length = (int)tokens->shape[1];
    int rows = run->sequences * run->length;
    unsigned uses = WEIGHT_FORWARD | WEIGHT_ROWS;
    if (ends_load(run->model, run->backend, true, uses, &run->ends, error) < 0 ||
        scratch_create(config, run->backend, rows, run->sequences, run->length + 2, &run->scratch, error) < 0 ||
        buffer_create(run->backend, (size_t)rows * sizeof(int32_t), &run->ids, error) < 0 ||
        buffer_create(run->backend, (size_t)rows * (size_t)config->hidden * sizeof(float), &run->x, error) <
            0 ||
        buffer_create(run->backend, (size_t)rows * (size_t)config->vocab * sizeof(float), &run->logits, error) <
            0)
        return -1;
    for (int i = 0; i < LAYERS; i++)
        if (layer_load(run->model, i, run->backend, uses, &run->layer[i], error) < 0 ||
            kv_create(config, run->backend, run->length, &run->kv[i], error) < 0)
            return -1;
    for (int i = 0; i <= TAPS; i++)
        if (array_alloc(&run->taps[i], rows * (i == LOGITS ? config->vocab : config->hidden), error) < 0)
            return -1;
    op_write(run->queue, matrix_i32(run->ids, rows, 1), tokens->data);
    return 0;
}

static void run_close(struct run *run)
{
    for (int i = 0; i <= TAPS; i++)
        free(run->taps[i]);
    for (int i = 0; i < LAYERS; i++) {
        layer_destroy(run->layer[i]);
        kv_destroy(&run->kv[i]);
    }
    buffer_destroy(run->ids);
    buffer_destroy(run->x);
    buffer_destroy(run->logits);
    scratch_destroy(run->scratch);
    ends_destroy(run->ends);
    queue_destroy(run->queue);
    backend_close(run->backend);
    safetensors_close(run->golden);
    model_close(run->model);
}

/* Runs rows [from, from + rows) of the tokens; with `cached`, they are rows of one sequence that begins at
 * row `start`. */
static void run_rows(struct run *run, int from, int rows, bool cached, int start)
{
    int hidden = run->config->hidden, vocab = run->config->vocab, total = run->sequences * run->length;
    struct queue *queue = run->queue;
    struct matrix x = matrix_rows(matrix_f32(run->x, total, hidden), from, rows);
    struct matrix logits = matrix_f32(run->logits, rows, vocab);
    size_t at = (size_t)from * (size_t)hidden;
    ends_embed(run->ends, queue, matrix_rows(matrix_i32(run->ids, total, 1), from, rows), x);
    op_read(queue, x, run->taps[0] + at);
    for (int i = 0; i < LAYERS; i++) {
        struct span spans[SEQUENCES_MAX] = {{rows, &run->kv[i], from - start}};
        for (int s = 0; s < run->sequences && !cached; s++)
            spans[s] = (struct span){.rows = run->length};
        layer_attention(run->layer[i], queue, run->scratch, spans, cached ? 1 : rows / run->length, x);
        op_read(queue, x, run->taps[2 * i + 1] + at);
        layer_mlp(run->layer[i], queue, run->scratch, x);
        op_read(queue, x, run->taps[2 * i + 2] + at);
    }
    op_norm(queue, x, ends_final_norm(run->ends), run->config->norm_epsilon, x);
    op_matmul(queue, x, ends_output(run->ends), logits, OP_STORE);
    op_read(queue, logits, run->taps[LOGITS] + (size_t)from * (size_t)vocab);
}

/* The largest difference of any tap (in bf16: their root mean square) as a share of that tap's RMS, checked
 * and shown when it is too large. */
static void check_taps(const struct run *run, const float *const *expected, double tolerance, const char *name,
                       const char *device, const char *way)
{
    const bool bf16 = backend_math(run->backend) == MATH_BF16;
    for (int i = 0; i <= TAPS; i++) {
        size_t count = (size_t)run->sequences * (size_t)run->length *
                       (size_t)(i == LOGITS ? run->config->vocab : run->config->hidden);
        double largest = 0, squares = 0, errors = 0;
        for (size_t j = 0; j < count; j++) {
            double difference = fabs((double)run->taps[i][j] - (double)expected[i][j]);
            largest = difference > largest || isnan(difference) ? difference : largest;
            errors += difference * difference;
            squares += (double)expected[i][j] * (double)expected[i][j];
        }
        double rms = sqrt(squares / (double)count), error = bf16 ? sqrt(errors / (double)count) : largest;
        if (!(error <= tolerance * rms) || rms == 0)
            test_fail(__FILE__, __LINE__, "%s on %s %s, %s: tap %s is off by %.2g of its RMS", name, device,
                      bf16 ? "bf16" : "f32", way, tap_names[i], error / rms);
    }
}

static int check_cached(struct run *run, const float *const *expected, const char *name,
                        const struct kind *kind, const int *pieces, const char *way, struct error *error)
{
    for (int s = 0; s < run->sequences; s++) {
        int start = s * run->length, done = 0;
        for (int i = 0; done < run->length; i++) {
            int rows = pieces[i % 4] < run->length - done ? pieces[i % 4] : run->length - done;
            run_rows(run, start + done, rows, true, start);
            done += rows;
        }
    }
    if (queue_wait(run->queue, error) < 0)
        return -1;
    check_taps(run, expected, kind->cache_tolerance, name, kind->device, way);
    return 0;
}

static int check_run(struct run *run, const char *name, const struct kind *kind, struct error *error)
{
    static const int single[4] = {1, 1, 1, 1}, uneven[4] = {5, 1, 9, 2};
    const float *golden[TAPS + 1], *whole[TAPS + 1];
    float *own[TAPS + 1];
    int result = -1;
    for (int i = 0; i <= TAPS; i++) {
        const struct tensor *tensor = safetensors_find(run->golden, tap_names[i]);
        if (!tensor || tensor->type != DTYPE_F32 ||
            tensor->shape[1] != (i == LOGITS ? run->config->vocab : run->config->hidden))
            return error_set(error, "tap %s of %s is missing", tap_names[i], name);
        golden[i] = tensor->data;
    }
    run_rows(run, 0, run->sequences * run->length, false, 0);
    if (queue_wait(run->queue, error) < 0)
        return -1;
    check_taps(run, golden, kind->tolerance, name, kind->device, "all sequences at once");
    for (int i = 0; i <= TAPS; i++) { /* keep these, and let the next run fill others */
        whole[i] = own[i] = run->taps[i];
        run->taps[i] = NULL;
    }
    for (int i = 0; i <= TAPS; i++)
        if (array_alloc(&run->taps[i],
                        run->sequences * run->length * (i == LOGITS ? run->config->vocab : run->config->hidden),
                        error) < 0)
            goto done;
    for (int s = 0; s < run->sequences; s++)
        run_rows(run, s * run->length, run->length, false, 0);
    if (queue_wait(run->queue, error) < 0)
        goto done;
    check_taps(run, whole, kind->cache_tolerance, name, kind->device, "one sequence at a time");
    if (check_cached(run, whole, name, kind, single, "token by token", error) < 0 ||
        check_cached(run, whole, name, kind, uneven, "in uneven pieces", error) < 0)
        goto done;
    result = 0;
done:
    for (int i = 0; i <= TAPS; i++)
        free(own[i]);
    return result;
}

static void check_model(const char *name, const char *model, const char *golden)
{
    static const struct kind kinds[] = {{"ref", MATH_F32, F32_TOLERANCE, CACHE_TOLERANCE},
                                        {"cpu", MATH_F32, F32_TOLERANCE, CACHE_TOLERANCE},
                                        {"cuda", MATH_F32, F32_TOLERANCE, CACHE_TOLERANCE},
                                        {"cuda", MATH_BF16, BF16_TOLERANCE, BF16_TOLERANCE}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct error error;
        struct run run;
        if (!test_wants_device(kinds[i].device))
            continue;
        if (run_open(&run, model, golden, &kinds[i], &error) < 0 ||
            check_run(&run, name, &kinds[i], &error) < 0)
            test_fail(__FILE__, __LINE__, "%s on %s: %s", name, kinds[i].device, error.text);
        run_close(&run);
    }
}

TEST(golden_llama)
{
    check_model("llama", FOLDER "llama", FOLDER "llama/states.safetensors");
}

TEST(golden_bias)
{
    check_model("bias", FOLDER "bias", FOLDER "bias/states.safetensors");
}

TEST(golden_mistral)
{
    check_model("mistral", FOLDER "mistral", FOLDER "mistral/states.safetensors");
}

TEST(golden_qwen2)
{
    check_model("qwen2", FOLDER "qwen2", FOLDER "qwen2/states.safetensors");
}

TEST(golden_qwen3)
{
    check_model("qwen3", FOLDER "qwen3", FOLDER "qwen3/states.safetensors");
}

TEST(golden_gguf_llama)
{
    check_model("gguf-llama", FOLDER "gguf-llama.gguf", FOLDER "gguf-llama.states.safetensors");
}

TEST(golden_gguf_qwen2)
{
    check_model("gguf-qwen2", FOLDER "gguf-qwen2.gguf", FOLDER "gguf-qwen2.states.safetensors");
}

TEST(golden_gguf_qwen3)
{
    check_model("gguf-qwen3", FOLDER "gguf-qwen3.gguf", FOLDER "gguf-qwen3.states.safetensors");
}

/* Writes a copy of the folder whose header has `blanks` more behind it, without the "model." of its names or
 * with. */
static int copy_model(const char *from, const char *to, size_t blanks, bool prefix, struct error *error)
{
    static const char files[2][20] = {"config.json", "model.safetensors"};
    struct string out = {0};
    char path[4400], *text = NULL;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", from, files[1]);
    if (file_read(path, &text, &size, error) < 0)
        return -1;
    const size_t header = (unsigned char)text[0] + 256 * (size_t)(unsigned char)text[1];
    string_append(&out, text, 8);
    for (size_t at = 8; at < 8 + header;) {
        const bool name = !prefix && strncmp(text + at, "\"model.", 7) == 0;
        string_append(&out, text + at, 1);
        at += name ? 7 : 1;
    }
    while (out.length < 8 + header + blanks)
        string_append(&out, " ", 1);
    string_append(&out, text + 8 + header, size - 8 - header);
    out.data[0] = (char)((header + blanks) & 255);
    out.data[1] = (char)((header + blanks) >> 8);
    free(text);
    snprintf(path, sizeof path, "%s/%s", to, files[1]);
    int result = file_write(path, out.data, out.length, error);
    string_free(&out);
    snprintf(path, sizeof path, "%s/%s", from, files[0]);
    if (result < 0 || file_read(path, &text, &size, error) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/%s", to, files[0]);
    result = file_write(path, text, size, error);
    free(text);
    return result;
}

/* Tensors that begin at odd bytes: the format allows it. */
TEST(golden_any_address)
{
    static const char *const models[] = {"llama", "bias", "qwen2"}; /* f32, f16, bf16 */
    const char *folder = test_folder();
    struct error error;
    for (int i = 0; i < 3; i++) {
        char from[80], golden[120];
        snprintf(from, sizeof from, FOLDER "%s", models[i]);
        snprintf(golden, sizeof golden, "%s/states.safetensors", from);
        REQUIRE_OK(copy_model(from, folder, 1 + 2 * (size_t)i, true, &error));
        check_model(models[i], folder, golden);
    }
}

/* As transformers saves a model without its head. */
TEST(golden_without_prefix)
{
    const char *folder = test_folder();
    struct error error;
    REQUIRE_OK(copy_model(FOLDER "qwen3", folder, 0, false, &error));
    check_model("qwen3", folder, FOLDER "qwen3/states.safetensors");
}

/* What does not fit makes the queue fail; nothing is written outside. */
TEST(golden_room)
{
    struct error error;
    struct run run;
    for (int i = 0; i < 5; i++) {
        REQUIRE_OK(run_open(&run, FOLDER "llama", FOLDER "llama/states.safetensors",
                            &(struct kind){"ref", MATH_F32, F32_TOLERANCE, CACHE_TOLERANCE}, &error));
        /* longer than the rope table, longer than the cache, behind the cache's end, rows without a span, too
         * many spans */
        int rows = i == 0 ? run.length + 3 : i == 1 ? run.length + 1 : i == 2 ? 1 : run.sequences + 1;
        struct span spans[SEQUENCES_MAX + 1] = {
            {i == 3 ? rows - 1 : rows, i ? &run.kv[0] : NULL, i == 2 ? run.length : 0}};
        for (int s = 0; s < rows && i == 4; s++)
            spans[s] = (struct span){.rows = 1};
        layer_attention(run.layer[0], run.queue, run.scratch, spans, i == 4 ? rows : 1,
                        matrix_rows(matrix_f32(run.x, rows, run.config->hidden), 0, rows));
        CHECK(queue_wait(run.queue, &error) < 0);
        run_close(&run);
    }
}

TEST_MAIN
