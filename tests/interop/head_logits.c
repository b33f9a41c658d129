/* The logits of a head of offramp on held-out sequences of a store, for tests/interop/exports.py.
 *
 *     head_logits STORE HEAD.safetensors COUNT OUT.safetensors       OUT has "logits" [COUNT, T, V]
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/head/head.h"
#include "common/model/layer.h"
#include "common/model/safetensors.h"
#include "common/store/shards.h"

struct work {
    struct shards *shards;
    struct shards_reader *reader;
    struct model_config config;
    struct backend *backend;
    struct queue *queue;
    struct head *head;
    struct head_scratch *scratch;
    struct weight *output;
    void *output_data; /* what it was prepared from */
    struct buffer *x, *h, *logits;
    float *states, *values; /* of a sequence: [T, H], [T, V] */
    int rows; /* T */
};

/* The head's own output weight, or the model's. */
static int load_output(struct work *work, struct error *error)
{
    const struct head_parameter *last = head_parameter(work->head, head_parameter_count(work->head) - 1);
    struct weight_part part = {DTYPE_F32, work->config.vocab, work->config.hidden, NULL};
    if (head_get_spec(work->head)->output == OUTPUT_UNTIED) {
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
        head_load(head, &work->config, fingerprint, work->backend, &work->head, error) < 0 ||
        head_scratch_create(work->head, work->rows, work->rows, false, &work->scratch, error) < 0)
        return -1;
    const size_t rows = (size_t)work->rows, hidden = (size_t)work->config.hidden,
                 vocab = (size_t)work->config.vocab;
    return buffer_create(work->backend, rows * hidden * sizeof(float), &work->x, error) < 0 ||
                   buffer_create(work->backend, rows * hidden * sizeof(float), &work->h, error) < 0 ||
                   buffer_create(work->backend, rows * vocab * sizeof(float), &work->logits, error) < 0 ||
                   array_alloc(&work->states, rows * hidden, error) < 0 ||
                   array_alloc(&work->values, rows * vocab, error) < 0
               ? -1
               : load_output(work, error);
}

static int write_sequence(struct work *work, uint64_t index, struct safetensors_writer *writer,
                          struct error *error)
{
    const struct sequence sequence = {SPLIT_HELD_OUT, index};
    const int tap = shards_find_tap(work->shards, head_get_spec(work->head)->tap, error);
    const struct matrix x = matrix_f32(work->x, work->rows, work->config.hidden),
                        h = matrix_f32(work->h, work->rows, work->config.hidden),
                        logits = matrix_f32(work->logits, work->rows, work->config.vocab);
    const struct span span = {.rows = work->rows};
    const struct head_run run = {
        .head = work->head, .scratch = work->scratch, .x = x, .spans = &span, .span_count = 1, .h = h};
    if (tap < 0 || shards_reader_states(work->reader, tap, sequence, work->states, error) < 0)
        return -1;
    op_write(work->queue, x, work->states);
    heads_forward(work->queue, &run, 1);
    op_matmul(work->queue, h, work->output, logits, OP_STORE);
    op_read(work->queue, logits, work->values);
    return queue_wait(work->queue, error) < 0
               ? -1
               : safetensors_write(writer, work->values,
                                   (size_t)work->rows * (size_t)work->config.vocab * sizeof(float), error);
}

static void close_work(struct work *work)
{
    weight_destroy(work->output);
    free(work->output_data);
    buffer_destroy(work->x);
    buffer_destroy(work->h);
    buffer_destroy(work->logits);
    free(work->states);
    free(work->values);
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
        const struct tensor tensor = {
            .name = name, .type = DTYPE_F32, .dims = 3, .shape = {count, work.rows, work.config.vocab}};
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
