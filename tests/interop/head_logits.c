/* The logits of a head of offramp on the held-out sequences of a store, or, where it has none, on the others; for
 * tests/interop/exports.py and vllm_serve.py.
 *
 *     head_logits STORE HEAD.safetensors COUNT OUT.safetensors       OUT has "logits" [COUNT, T, V]; of a draft
 *                                                            [COUNT, DRAFT_STEPS, T, D], of steps on its own output
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/head/draft.h"
#include "common/head/head.h"
#include "common/model/layer.h"
#include "common/model/safetensors.h"
#include "common/store/shards.h"

enum { DRAFT_STEPS = 3 };

struct work {
    struct shards *shards;
    struct shards_reader *reader;
    struct model_config config;
    struct backend *backend;
    struct queue *queue;
    struct head *head;
    bool is_draft;
    struct head_scratch *scratch; /* or, of a draft */
    struct draft_scratch *draft_scratch;
    float *embedding; /* [V, H] of a draft's model */
    int32_t *ids; /* [T + 1] */
    int vocab; /* V, or a draft's D */
    struct weight *output;
    void *output_data; /* what it was prepared from */
    struct buffer *x[HEAD_TAPS], *embedded, *h, *logits;
    float *states, *values; /* of a sequence: [T, H], [T, V] */
    int rows; /* T */
};

/* The head's own output weight, or the model's. */
static int load_output(struct work *work, struct error *error)
{
    const struct head_parameter *last = head_parameter(work->head, head_parameter_count(work->head) - 1);
    struct weight_part part = {DTYPE_F32, work->vocab, work->config.hidden, NULL};
    if (work->is_draft || head_get_spec(work->head)->output == OUTPUT_UNTIED) {
        float *values;
        if (array_alloc(&values, part.rows * part.cols, error) < 0)
            return -1;
        work->output_data = values;
        op_read(work->queue, last->value, values);
        if (queue_wait(work->queue, error) < 0)
            return -1;
    } else {
        struct source_shape shape;
        if (shards_get_source(work->shards, "output", &shape, &work->output_data, error) < 0)
            return -1;
        part.type = shape.type;
    }
    part.data = work->output_data;
    return weight_prepare(work->backend, &part, 1, NULL, WEIGHT_FORWARD | WEIGHT_ROWS, &work->output, error);
}

/* The model's embedding, which is its output weight where it ties the two. */
static int load_embedding(struct work *work, struct error *error)
{
    struct source_shape shape;
    void *data;
    if (shards_get_source(work->shards, work->config.tied ? "output" : "embedding", &shape, &data, error) < 0)
        return -1;
    const int result = array_alloc(&work->embedding, shape.rows * shape.cols, error);
    if (result == 0)
        dtype_to_f32(shape.type, data, shape.rows * shape.cols, work->embedding);
    free(data);
    return result;
}

static int make_scratch(struct work *work, struct error *error)
{
    const struct draft_size size = {.rows = work->rows, .length = work->rows, .steps = DRAFT_STEPS};
    work->is_draft = head_kind_is_draft(head_get_spec(work->head)->kind);
    work->vocab = work->is_draft ? head_get_spec(work->head)->draft_vocab : work->config.vocab;
    if (!work->is_draft)
        return head_scratch_create(work->head, work->rows, work->rows, false, &work->scratch, error);
    return load_embedding(work, error) < 0
               ? -1
               : draft_scratch_create(work->head, &size, &work->draft_scratch, error);
}

static int make_buffers(struct work *work, struct error *error)
{
    const size_t rows = (size_t)work->rows, states = rows * (size_t)work->config.hidden,
                 logits = rows * (size_t)work->vocab;
    for (int i = 0; i < HEAD_TAPS; i++)
        if (buffer_create(work->backend, states * sizeof(float), &work->x[i], error) < 0)
            return -1;
    return buffer_create(work->backend, states * sizeof(float), &work->embedded, error) < 0 ||
                   buffer_create(work->backend, states * sizeof(float), &work->h, error) < 0 ||
                   buffer_create(work->backend, logits * sizeof(float), &work->logits, error) < 0 ||
                   array_alloc(&work->ids, rows + 1, error) < 0 || array_alloc(&work->states, states, error) < 0
               ? -1
               : array_alloc(&work->values, logits, error);
}

static int open_work(struct work *work, const char *store, const char *head, struct error *error)
{
    const char *fingerprint;
    if (shards_open(&store, 1, &work->shards, error) < 0 ||
        shards_reader_open(work->shards, &work->reader, error) < 0)
        return -1;
    const json_t *model = json_object_get(shards_manifest(work->shards), "model");
    work->rows = shards_info(work->shards)->rows;
    if (config_from_json(store, model, &work->config, error) < 0 ||
        !(fingerprint = json_string_value(json_object_get(model, "fingerprint"))) ||
        backend_open("cpu", &(struct backend_options){0}, &work->backend, error) < 0 ||
        queue_create(work->backend, &work->queue, error) < 0 ||
        head_load(head, &work->config, fingerprint, work->backend, &work->head, error) < 0)
        return -1;
    return make_scratch(work, error) < 0 || make_buffers(work, error) < 0 ? -1 : load_output(work, error);
}

/* Its taps' states into work->x. */
static int read_states(struct work *work, struct sequence sequence, struct error *error)
{
    struct tap taps[HEAD_TAPS];
    const int count = head_spec_taps(head_get_spec(work->head), taps);
    for (int i = 0; i < count; i++) {
        const int tap = shards_find_tap(work->shards, taps[i], error);
        if (tap < 0 || shards_reader_states(work->reader, tap, sequence, work->states, error) < 0)
            return -1;
        op_write(work->queue, matrix_f32(work->x[i], work->rows, work->config.hidden), work->states);
    }
    return shards_reader_tokens(work->reader, sequence, work->ids, error);
}

static int write_logits(struct work *work, struct matrix h, struct safetensors_writer *writer,
                        struct error *error)
{
    const struct matrix logits = matrix_f32(work->logits, work->rows, work->vocab);
    op_matmul(work->queue, h, work->output, logits, OP_STORE);
    op_read(work->queue, logits, work->values);
    return queue_wait(work->queue, error) < 0
               ? -1
               : safetensors_write(writer, work->values,
                                   (size_t)work->rows * (size_t)work->vocab * sizeof(float), error);
}

static int write_draft(struct work *work, struct safetensors_writer *writer, struct error *error)
{
    const int hidden = work->config.hidden;
    struct draft_run run = {.head = work->head, .scratch = work->draft_scratch, .sequences = 1};
    run.embedded = matrix_f32(work->embedded, work->rows, hidden);
    for (int i = 0; i < HEAD_TAPS; i++)
        run.states[i] = matrix_f32(work->x[i], work->rows, hidden);
    for (int r = 0; r < work->rows; r++)
        for (int c = 0; c < hidden; c++)
            work->states[(int64_t)r * hidden + c] = work->embedding[(int64_t)work->ids[r + 1] * hidden + c];
    op_write(work->queue, run.embedded, work->states);
    draft_begin(work->queue, &run);
    for (int step = 0; step < DRAFT_STEPS; step++) {
        draft_step(work->queue, &run, step);
        if (write_logits(work, draft_output(&run, step), writer, error) < 0)
            return -1;
    }
    return 0;
}

static int write_sequence(struct work *work, uint64_t index, struct safetensors_writer *writer,
                          struct error *error)
{
    const struct matrix x = matrix_f32(work->x[0], work->rows, work->config.hidden),
                        h = matrix_f32(work->h, work->rows, work->config.hidden);
    const struct span span = {.rows = work->rows};
    const struct head_run run = {
        .head = work->head, .scratch = work->scratch, .x = x, .spans = &span, .span_count = 1, .h = h};
    const enum split split = shards_sequences(work->shards, SPLIT_HELD_OUT) > 0 ? SPLIT_HELD_OUT : SPLIT_TRAIN;
    if (read_states(work, (struct sequence){split, index}, error) < 0)
        return -1;
    if (work->is_draft)
        return write_draft(work, writer, error);
    heads_forward(work->queue, &run, 1);
    return write_logits(work, h, writer, error);
}

static void close_work(struct work *work)
{
    weight_destroy(work->output);
    free(work->output_data);
    for (int i = 0; i < HEAD_TAPS; i++)
        buffer_destroy(work->x[i]);
    buffer_destroy(work->embedded);
    buffer_destroy(work->h);
    buffer_destroy(work->logits);
    free(work->embedding);
    free(work->ids);
    free(work->states);
    free(work->values);
    draft_scratch_destroy(work->draft_scratch);
    head_scratch_destroy(work->scratch);
    head_destroy(work->head);
    queue_destroy(work->queue);
    backend_close(work->backend);
    shards_reader_close(work->reader);
    shards_close(work->shards);
}

int main(int argc, char **argv)
{
    struct work work = {0};
    struct error error = {0};
    struct safetensors_writer *writer = NULL;
    int64_t count;
    int result = -1;
    cli_start();
    if (argc != 5) {
        cli_say("usage: head_logits STORE HEAD.safetensors COUNT OUT.safetensors");
        return EXIT_WRONG_USAGE;
    }
    if (parse_integer(argv[3], 1, 1000000, &count, &error) == 0 &&
        open_work(&work, argv[1], argv[2], &error) == 0) {
        char name[] = "logits";
        struct tensor tensor = {
            .name = name, .type = DTYPE_F32, .dims = 3, .shape = {count, work.rows, work.vocab}};
        if (work.is_draft) {
            tensor.dims = 4;
            tensor.shape[1] = DRAFT_STEPS;
            tensor.shape[2] = work.rows;
            tensor.shape[3] = work.vocab;
        }
        result = safetensors_create(argv[4], &tensor, 1, NULL, &writer, &error);
        for (int64_t s = 0; s < count && result == 0; s++)
            result = write_sequence(&work, (uint64_t)s, writer, &error);
        if (result == 0)
            result = safetensors_finish(writer, &error);
        else
            safetensors_abandon(writer);
    }
    if (result < 0)
        cli_say("%s", error.text);
    close_work(&work);
    return cli_exit_code(result, &error);
}
