#include "extract/run.h"

#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/progress.h"
#include "common/model/forward.h"
#include "extract/inputs.h"
#include "extract/layers.h"
#include "extract/pipeline.h"

/* Sequences that go through a layer together; their residuals lie in x from row `row`. */
struct call {
    uint64_t index; /* of the first one in store order */
    int sequences;
    int64_t row;
};

struct run {
    struct backend *backend;
    const struct store_info *info;
    const struct plan *plan;
    uint64_t from, total; /* sequences of the store in store order: [from, total) are computed */
    uint64_t *stored; /* [taps] records that are there already */

    struct queue *queue;
    struct ends *ends;
    struct layers *layers;
    struct forward_scratch *scratch;
    struct buffer *x; /* [group * batch * rows, hidden] */
    struct buffer *ids; /* [batch * rows] i32 */
    struct call *calls; /* [group] */

    struct inputs *inputs;
    struct pipeline *pipeline;
    struct stage stage; /* of this thread */
    struct progress progress;
    uint64_t records_before, tokens;
    bool interrupted;
};

/* ---- computing ---- */

static struct matrix call_states(const struct run *run, const struct call *call)
{
    const struct matrix all =
        matrix_f32(run->x, (int64_t)run->plan->group * run->plan->batch * run->info->rows, run->info->hidden);
    return matrix_rows(all, call->row, (int64_t)call->sequences * run->info->rows);
}

static void update_progress(struct run *run)
{
    const uint64_t records = run->records_before + pipeline_written(run->pipeline);
    progress_update(&run->progress, records / (uint64_t)run->info->taps * (uint64_t)run->info->rows);
}

/* Hands the states of a call to the encoders when there is a tap here. */
static int read_tap(struct run *run, const struct call *call, struct tap here, struct error *error)
{
    int tap = 0;
    while (tap < run->info->taps && tap_compare(run->info->tap[tap], here) != 0)
        tap++;
    if (tap == run->info->taps)
        return 0;
    const struct matrix x = call_states(run, call);
    for (int i = 0; i < call->sequences; i++) {
        const uint64_t index = call->index + (uint64_t)i;
        if (index < run->stored[tap])
            continue;
        struct job *job = pipeline_job(run->pipeline, &run->stage);
        if (!job)
            return error_set(error, "a later stage failed"); /* pipeline_close knows why */
        job->tap = tap;
        job->index = index;
        op_read(run->queue, matrix_rows(x, (int64_t)i * run->info->rows, run->info->rows), job->states);
        if (queue_wait(run->queue, error) < 0)
            return -1;
        pipeline_submit(run->pipeline, job);
    }
    update_progress(run);
    return 0;
}

/* Takes up to `group` calls from the reader and embeds them; *count 0: there are no more. */
static int embed_calls(struct run *run, int *count, struct error *error)
{
    int64_t row = 0;
    for (*count = 0; *count < run->plan->group; ++*count) {
        struct input *batch = inputs_next(run->inputs, &run->stage);
        if (!batch)
            break;
        struct call *call = &run->calls[*count];
        *call = (struct call){batch->index, batch->sequences, row};
        const int64_t rows = (int64_t)batch->sequences * run->info->rows;
        const struct matrix ids = matrix_i32(run->ids, rows, 1);
        op_write(run->queue, ids, batch->ids);
        ends_embed(run->ends, run->queue, ids, call_states(run, call));
        inputs_return(run->inputs, batch);
        row += rows;
        if (read_tap(run, call, (struct tap){0, false}, error) < 0)
            return -1;
    }
    return 0;
}

/* One layer over all calls, its taps included. */
static int run_layer(struct run *run, int number, int count, struct error *error)
{
    const struct layer *layer;
    const bool attention_only = run->plan->half && number == run->plan->layers;
    if (layers_use(run->layers, number - 1, &layer, error) < 0)
        return -1;
    for (int i = 0; i < count; i++) {
        const struct call *call = &run->calls[i];
        const struct place place = {.sequences = call->sequences};
        const struct matrix x = call_states(run, call);
        run->interrupted = run->interrupted || cli_interrupted();
        if (run->interrupted)
            return 0;
        layer_attention(layer, run->queue, run->scratch, &place, x);
        if (read_tap(run, call, (struct tap){number, true}, error) < 0)
            return -1;
        if (attention_only)
            continue;
        layer_mlp(layer, run->queue, run->scratch, x);
        if (read_tap(run, call, (struct tap){number, false}, error) < 0)
            return -1;
    }
    return 0;
}

static int compute(struct run *run, struct error *error)
{
    int count;
    for (;;) {
        if (embed_calls(run, &count, error) < 0)
            return -1;
        if (count == 0)
            return queue_wait(run->queue, error);
        for (int number = 1; number <= run->plan->layers && !run->interrupted; number++)
            if (run_layer(run, number, count, error) < 0)
                return -1;
        if (run->interrupted)
            return 0;
        for (int i = 0; i < count; i++)
            run->tokens += (uint64_t)run->calls[i].sequences * (uint64_t)run->info->rows;
    }
}

/* ---- life ---- */

static int find_start(struct run *run, const struct store *store, struct error *error)
{
    run->total = store_sequences(store, SPLIT_TRAIN) + store_sequences(store, SPLIT_HELD_OUT);
    run->from = run->total;
    if (array_alloc(&run->stored, run->info->taps, error) < 0)
        return -1;
    for (int tap = 0; tap < run->info->taps; tap++) {
        run->stored[tap] = records_stored(store, tap);
        run->records_before += run->stored[tap];
        if (run->stored[tap] < run->from)
            run->from = run->stored[tap];
    }
    return 0;
}

static int prepare_model(struct run *run, const struct model *model, struct error *error)
{
    const int64_t rows = (int64_t)run->plan->batch * run->info->rows;
    const size_t states = (size_t)run->plan->group * (size_t)rows * (size_t)run->info->hidden;
    if (queue_create(run->backend, &run->queue, error) < 0 ||
        ends_load(model, run->backend, false, 0, &run->ends, error) < 0 ||
        layers_open(model, run->backend, run->plan->layers, run->plan->resident, &run->layers, error) < 0 ||
        scratch_create(model_config(model), run->backend, (int)rows, run->info->rows, &run->scratch, error) <
            0 ||
        buffer_create(run->backend, states * sizeof(float), &run->x, error) < 0 ||
        buffer_create(run->backend, (size_t)rows * sizeof(int32_t), &run->ids, error) < 0)
        return -1;
    return array_alloc(&run->calls, run->plan->group, error);
}

static void free_model(struct run *run)
{
    free(run->calls);
    free(run->stored);
    buffer_destroy(run->ids);
    buffer_destroy(run->x);
    scratch_destroy(run->scratch);
    layers_close(run->layers);
    ends_destroy(run->ends);
    queue_destroy(run->queue);
}

/* Ends all threads; of several failures it returns the one that came first: a stage's, whose end made
 * the computation fail, before the computation's own. */
static int close_stages(struct run *run, int result, struct run_report *report, struct error *error)
{
    struct pipeline_report stages = {0};
    if (inputs_close(run->inputs, &report->read, error) < 0)
        result = -1;
    if (pipeline_close(run->pipeline, &stages, error) < 0)
        result = -1;
    report->encode = stages.encode;
    report->write = stages.write;
    return result;
}

int run_model(const struct model *model, struct backend *backend, struct store *store, const struct plan *plan,
              struct run_report *report, struct error *error)
{
    const double started = clock_seconds();
    struct run run = {.backend = backend, .info = store_info(store), .plan = plan};
    *report = (struct run_report){0};
    int result = find_start(&run, store, error);
    if (result < 0 || run.from == run.total)
        goto done;
    result = prepare_model(&run, model, error);
    const double loaded = clock_seconds();
    report->loading = loaded - started;
    if (result < 0)
        goto done;
    progress_start(&run.progress, "extract", "tokens", run.total * (uint64_t)run.info->rows);
    run.progress.first = run.records_before / (uint64_t)run.info->taps * (uint64_t)run.info->rows;
    if (pipeline_open(store, plan, &run.pipeline, error) < 0 ||
        inputs_open(store, run.from, run.total, plan->batch, &run.inputs, error) < 0)
        result = -1;
    else
        result = compute(&run, error);
    run.stage.busy = clock_seconds() - loaded - run.stage.waiting;
    result = close_stages(&run, result, report, error);
    progress_finish(&run.progress);
    report->compute = run.stage;
    report->compute.name = "compute";
    report->tokens = run.tokens;
    if (result == 0 && run.interrupted)
        result =
            error_set(error, "interrupted; what was computed is kept: the same command goes on from there");
done:
    report->seconds = clock_seconds() - started;
    free_model(&run);
    return result;
}
