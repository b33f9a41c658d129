/* What a verifier accepts of a draft on texts that the model has said greedily, to compare with what a server counts:
 *
 *     draft_chain MODEL HEAD.safetensors STEPS < texts       a line a text: how many tokens the prompt has, then all ids
 *
 * It prints a line a text, and one for all: rounds, and in how many the proposal of each step was accepted. Rounds whose
 * proposals reach behind the text are left out.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/head/draft_chain.h"
#include "common/model/ends.h"
#include "common/model/forward.h"

struct work {
    struct model *model;
    struct backend *backend;
    struct queue *queue;
    struct head *head;
    struct ends *ends;
    int steps, choices;
    int32_t *token; /* [D] */
    struct tap taps[HEAD_TAPS];
    int count;
    /* Of a text: */
    int32_t *ids;
    size_t length, capacity;
    int64_t prompt;
    struct buffer *states[HEAD_TAPS];
};

static int open_work(struct work *work, char **argv, struct error *error)
{
    char fingerprint[17];
    int64_t steps;
    if (parse_integer(argv[3], 1, DRAFT_STEPS_MOST, &steps, error) < 0 ||
        model_open(argv[1], &work->model, error) < 0 ||
        backend_open("cpu", &(struct backend_options){0}, &work->backend, error) < 0 ||
        queue_create(work->backend, &work->queue, error) < 0 ||
        model_fingerprint(work->model, fingerprint, error) < 0 ||
        head_load(argv[2], model_config(work->model), fingerprint, work->backend, &work->head, error) < 0 ||
        ends_load(work->model, work->backend, false, 0, &work->ends, error) < 0)
        return -1;
    const struct head_spec *spec = head_get_spec(work->head);
    if (!head_kind_is_draft(spec->kind))
        return error_set(error, "%s: is not a draft", argv[2]);
    work->steps = (int)steps;
    work->choices = spec->draft_vocab;
    work->count = head_spec_taps(spec, work->taps);
    return array_alloc(&work->token, work->choices, error) < 0
               ? -1
               : draft_get_tokens(work->head, work->queue, work->token, error);
}

static void close_work(struct work *work)
{
    free(work->ids);
    free(work->token);
    ends_destroy(work->ends);
    head_destroy(work->head);
    queue_destroy(work->queue);
    backend_close(work->backend);
    model_close(work->model);
}

/* 1; 0 at the end; -1. */
static int read_text(struct work *work, struct error *error)
{
    char *line = NULL, *at, *end;
    size_t room = 0;
    work->length = 0;
    if (getline(&line, &room, stdin) < 0) {
        free(line);
        return 0;
    }
    work->prompt = strtoll(line, &at, 10);
    for (long id; (id = strtol(at, &end, 10)), end != at; at = end) {
        if (array_grow(&work->ids, &work->capacity, work->length + 1, error) < 0) {
            free(line);
            return -1;
        }
        work->ids[work->length++] = (int32_t)id;
    }
    free(line);
    return work->prompt < 1 || (size_t)work->prompt >= work->length
               ? error_set(error, "a text needs a prompt and tokens behind it")
               : 1;
}

static int keep_states(void *context, int call, int layer, bool mid, struct queue *queue, struct matrix states,
                       struct error *error)
{
    struct work *work = context;
    (void)call, (void)error;
    for (int t = 0; t < work->count; t++) {
        if (tap_compare(work->taps[t], (struct tap){layer, mid}) == 0)
            op_copy(queue, states, matrix_f32(work->states[t], states.rows, states.cols));
    }
    return 0;
}

static int run_model(struct work *work, struct error *error)
{
    const struct model_config *config = model_config(work->model);
    const struct tap last = work->taps[work->count - 1];
    const struct forward_shape shape = {.rows = (int)work->length,
                                        .batch = 1,
                                        .group = 1,
                                        .layers = last.layer,
                                        .half = last.mid,
                                        .resident = true};
    struct forward *forward;
    for (int t = 0; t < work->count; t++) {
        if (buffer_create(work->backend, work->length * (size_t)config->hidden * sizeof(float),
                          &work->states[t], error) < 0)
            return -1;
    }
    if (forward_open(work->model, work->backend, &shape, &forward, error) < 0)
        return -1;
    forward_add(forward, work->ids, 1);
    int result = forward_run(forward, false, keep_states, work, error);
    forward_close(forward);
    return result;
}

/* hit [rows][steps], of the rows whose proposals are all within the text. */
static int find_hits(struct work *work, const struct draft_run *run, bool *hit, int64_t rows,
                     struct error *error)
{
    const int64_t length = (int64_t)work->length;
    struct buffer *buffer;
    int32_t *top;
    if (array_alloc(&top, length, error) < 0)
        return -1;
    int result = buffer_create(work->backend, work->length * sizeof *top, &buffer, error);
    const struct matrix best = matrix_i32(buffer, length, 1);
    const struct vocab vocab = head_vocab(work->head, NULL);
    const struct vocab_stats stats = {.top = best};
    for (int step = 0; step < work->steps && result == 0; step++) {
        draft_step(work->queue, run, step);
        op_vocab_stats(work->queue, draft_output(run, step), &vocab, matrix_none(), &stats);
        op_read(work->queue, best, top);
        result = queue_wait(work->queue, error);
        for (int64_t r = 0; r < rows && result == 0; r++)
            hit[r * work->steps + step] = work->token[top[r]] == work->ids[r + 2 + step];
    }
    buffer_destroy(buffer);
    free(top);
    return result;
}

static int count_text(struct work *work, struct draft_chain *chain, struct error *error)
{
    const int64_t length = (int64_t)work->length, hidden = model_config(work->model)->hidden;
    const int64_t rows = length - 1 - work->steps;
    const struct draft_size size = {.rows = length, .length = length, .steps = work->steps};
    struct draft_run run = {.head = work->head, .sequences = 1};
    struct buffer *ids = NULL, *embedded = NULL;
    bool *hit = NULL;
    int result = -1;
    if (rows < 1 || run_model(work, error) < 0 || array_alloc(&hit, rows * work->steps, error) < 0 ||
        draft_scratch_create(work->head, &size, &run.scratch, error) < 0 ||
        buffer_create(work->backend, work->length * sizeof(int32_t), &ids, error) < 0 ||
        buffer_create(work->backend, (size_t)(length * hidden) * sizeof(float), &embedded, error) < 0)
        goto done;
    op_write(work->queue, matrix_i32(ids, length - 1, 1), work->ids + 1); /* of the last row: token 0 */
    run.embedded = matrix_f32(embedded, length, hidden);
    ends_embed(work->ends, work->queue, matrix_i32(ids, length, 1), run.embedded);
    for (int t = 0; t < work->count; t++)
        run.states[t] = matrix_f32(work->states[t], length, hidden);
    draft_begin(work->queue, &run);
    if (find_hits(work, &run, hit, rows, error) < 0)
        goto done;
    draft_chain_count(chain, hit, rows, work->prompt - 1);
    result = 0;
done:
    draft_scratch_destroy(run.scratch);
    buffer_destroy(ids);
    buffer_destroy(embedded);
    for (int t = 0; t < work->count; t++)
        buffer_destroy(work->states[t]);
    free(hit);
    return result;
}

static void print_chain(const char *name, const struct draft_chain *chain)
{
    printf("%s rounds %" PRId64 " accepted", name, chain->rounds);
    for (int k = 0; k < chain->steps; k++)
        printf(" %" PRId64, chain->accepted[k]);
    printf("\n");
}

int main(int argc, char **argv)
{
    struct work work = {0};
    struct error error = {0};
    struct draft_chain all = {0};
    int result = argc == 4 ? open_work(&work, argv, &error)
                           : error_set(&error, "usage: draft_chain MODEL HEAD.safetensors STEPS < texts");
    int text = 0;
    all.steps = work.steps;
    while (result == 0 && (text = read_text(&work, &error)) > 0) {
        struct draft_chain chain = {.steps = work.steps};
        result = count_text(&work, &chain, &error);
        print_chain("text", &chain);
        all.rounds += chain.rounds;
        for (int k = 0; k < all.steps; k++)
            all.accepted[k] += chain.accepted[k];
    }
    if (result == 0 && text == 0)
        print_chain("all", &all);
    else
        fprintf(stderr, "draft_chain: %s\n", error.text);
    close_work(&work);
    return result == 0 && text == 0 ? 0 : 1;
}
