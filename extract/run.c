#include "extract/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/progress.h"
#include "common/head/teacher.h"
#include "common/model/forward.h"
#include "common/transform/transform.h"
#include "extract/encoders.h"
#include "extract/inputs.h"

struct run {
    const struct store_info *info;
    struct plan *plan;
    struct order order;
    uint64_t total; /* sequences in that order */
    bool bus; /* states cross one from the device's memory */
    const struct coder **coder; /* [taps] the store's, then, and */
    struct transforms *transforms; /* what the device does of their work */
    uint64_t *stored; /* [taps] records that are there already */

    struct forward *forward;
    struct call {
        uint64_t index, span; /* of its sequences in the run's order, those that are kept included */
        int sequences; /* that run through the model */
        int32_t *labels; /* [batch * rows] the token after each of its rows */
    } * calls; /* [group] */
    int target; /* its index among the taps, or -1 */
    struct teacher *teacher; /* with a target */
    struct target_row *values; /* [batch * rows] the teacher's, of a call */
    int group, most_group; /* calls per super-batch, now and before */

    struct kept *kept; /* or NULL; then none of what is for a sequence of it: */
    struct queue *kept_queue; /* of a call in which every sequence is kept */
    struct buffer *kept_buffer; /* [rows, hidden] on the device */
    float *kept_states; /* [rows, hidden] */
    struct target_row *kept_values; /* [rows] */

    struct job *reading; /* handed on when its states have come; NULL: none */
    struct queue *reading_queue;
    uint64_t reading_mark;

    struct inputs *inputs;
    struct encoders *encoders;
    struct stage stage, asking; /* of this thread: with the layers, with the teacher */
    struct progress progress;
    uint64_t records_before, tokens;
};

/* ---- computing ---- */

static void update_progress(struct run *run)
{
    const uint64_t records = run->records_before + encoders_written(run->encoders);
    progress_update(&run->progress, records / (uint64_t)run->info->taps * (uint64_t)run->info->rows);
}

/* Hands the job whose states are on their way to the encoders. */
static int submit_reading(struct run *run, struct error *error)
{
    struct job *job = run->reading;
    run->reading = NULL;
    if (!job)
        return 0;
    if (queue_reach(run->reading_queue, run->reading_mark, error) < 0)
        return -1;
    encoders_submit(run->encoders, job);
    return 0;
}

/* What an exact codec would round is rounded before it crosses the bus, to the same record. made: what a device
 * has made of the states, or none. */
static void read_states(const struct run *run, struct job *job, struct queue *queue, struct matrix states,
                        struct matrix made)
{
    const struct codec *codec = run->info->codec[job->tap].codec;
    job->transformed = !matrix_is_none(made);
    if (job->transformed)
        op_read(queue, made, job->states);
    else if (run->bus && codec->exact && codec->type == DTYPE_BF16)
        op_read_rounded(queue, states, job->states);
    else
        op_read(queue, states, job->states);
}

/* Where states are looked at. */
struct look {
    int tap; /* index */
    struct queue *queue; /* on which they are computed */
    struct stage *stage; /* whose time it is */
};

/* Hands `count` sequences to the encoders, a job each, each when the next is on its way: states [count * rows,
 * hidden], and of the target its values. index: of the first, in the run's order. */
static int submit_rows(struct run *run, const struct look *look, uint64_t index, uint64_t count,
                       struct matrix states, const struct target_row *values, struct error *error)
{
    const int rows = run->info->rows, tap = look->tap;
    const struct matrix made = run->transforms && index + count > run->stored[tap]
                                   ? transforms_put(run->transforms, look->queue, tap, states)
                                   : matrix_none();
    for (uint64_t i = 0; i < count; i++) {
        if (index + i < run->stored[tap])
            continue;
        struct job *job = encoders_job(run->encoders, look->stage);
        if (!job)
            return error_set(error, "a later stage failed"); /* encoders_close knows why */
        job->tap = tap;
        job->index = index + i;
        if (values)
            memcpy(job->values, values + i * (size_t)rows, (size_t)rows * sizeof *values);
        read_states(run, job, look->queue, matrix_rows(states, (int64_t)i * rows, rows),
                    matrix_rows(made, (int64_t)i * rows, rows));
        const uint64_t mark = queue_mark(look->queue);
        if (submit_reading(run, error) < 0)
            return -1;
        run->reading = job;
        run->reading_queue = look->queue;
        run->reading_mark = mark;
    }
    return 0;
}

static int interrupted(struct error *error)
{
    return error_set_kind(error, ERROR_INTERRUPTED,
                          "interrupted; what was computed is kept: the same command goes on from there");
}

/* The same for one sequence that is kept. On a device its states are written there and read back: so they take
 * the same way as states that are computed, and the record is the same. */
static int submit_kept(struct run *run, const struct look *look, uint64_t index, struct error *error)
{
    const struct matrix states = matrix_f32(run->kept_buffer, run->info->rows, run->info->hidden);
    const struct sequence sequence = order_at(&run->order, index);
    if (index < run->stored[look->tap])
        return 0;
    if (cli_interrupted())
        return interrupted(error);
    if (kept_read(run->kept, look->tap, sequence, run->kept_states, run->kept_values, error) < 0)
        return -1;
    op_write(look->queue, states, run->kept_states);
    return submit_rows(run, look, index, 1, states, look->tap == run->target ? run->kept_values : NULL, error);
}

/* Hands a call's states at a tap to the encoders, in the run's order: states [rows of the call, hidden] of the
 * sequences that were computed; those of the others are kept. */
static int submit(struct run *run, const struct look *look, const struct call *call, struct matrix states,
                  const struct target_row *values, struct error *error)
{
    const int64_t rows = run->info->rows;
    const uint64_t end = call->index + call->span;
    int64_t row = 0;
    for (uint64_t index = call->index, next; index < end; index = next) {
        next = index + 1;
        if (kept_has(run->kept, order_at(&run->order, index))) {
            if (submit_kept(run, look, index, error) < 0)
                return -1;
            continue;
        }
        while (next < end && !kept_has(run->kept, order_at(&run->order, next)))
            next++;
        const uint64_t count = next - index;
        if (submit_rows(run, look, index, count, matrix_rows(states, row, (int64_t)count * rows),
                        values ? values + row : NULL, error) < 0)
            return -1;
        row += (int64_t)count * rows;
    }
    update_progress(run);
    return 0;
}

/* A call in which every sequence is kept. */
static int submit_all_kept(struct run *run, const struct call *call, struct error *error)
{
    for (int tap = 0; tap < run->info->taps; tap++) {
        const struct look look = {tap, run->kept_queue, &run->stage};
        if (submit(run, &look, call, matrix_none(), NULL, error) < 0)
            return -1;
    }
    return 0;
}

/* What the full model makes of a call's last states. */
static int read_target(struct run *run, const struct call *call, struct queue *queue, struct matrix states,
                       struct error *error)
{
    const double started = clock_seconds(), waited = run->asking.waiting;
    const struct look look = {run->target, queue, &run->asking};
    struct matrix u;
    if (run->target < 0 || call->index + call->span <= run->stored[run->target])
        return 0;
    if (teacher_ask(run->teacher, queue, states, call->labels, run->values, &u, error) < 0 ||
        submit(run, &look, call, u, run->values, error) < 0)
        return -1;
    run->asking.busy += clock_seconds() - started - (run->asking.waiting - waited);
    return 0;
}

/* Hands the states of a call to the encoders when there is a tap here. */
static int read_tap(void *context, int number, int layer, bool mid, struct queue *queue, struct matrix states,
                    struct error *error)
{
    struct run *run = context;
    const struct call *call = &run->calls[number];
    struct look look = {0, queue, &run->stage};
    if (cli_interrupted())
        return interrupted(error);
    while (look.tap < run->info->taps && tap_compare(run->info->tap[look.tap], (struct tap){layer, mid}) != 0)
        look.tap++;
    if (look.tap < run->info->taps && submit(run, &look, call, states, NULL, error) < 0)
        return -1;
    return layer == run->info->layers && !mid ? read_target(run, call, queue, states, error) : 0;
}

/* The size of the next super-batch, of which `from` is the first sequence. */
static int choose_group(struct run *run, uint64_t from, struct error *error)
{
    const uint64_t batch = (uint64_t)run->plan->batch;
    const struct forward_times times = forward_times(run->forward);
    run->group = plan_group(run->plan, &times, (run->total - from + batch - 1) / batch);
    if (run->group > run->most_group)
        run->most_group = run->group;
    return forward_resize(run->forward, run->group, error);
}

static void print_group(const struct run *run)
{
    const struct plan *plan = run->plan;
    const struct forward_times times = forward_times(run->forward);
    const int rows = plan->batch * run->info->rows;
    const double compute = times.call * run->group, load = times.read + times.prepare;
    char weights[32];
    cli_say("the weights of %d layers take %s and do not fit in memory. Each layer is loaded once for %d "
            "tokens, while the "
            "layer before it computes. Reading a layer takes %.2f s, preparing it %.2f s, computing %.2f s%s",
            plan->layers, format_bytes((double)plan->weights, weights, sizeof weights), run->group * rows,
            times.read, times.prepare, compute,
            load > compute && run->group == plan->group ? ". More --memory would be faster" : "");
}

/* Takes up to `group` calls from the reader; returns how many. */
static int add_calls(struct run *run)
{
    int count = 0;
    for (; count < run->group; count++) {
        struct input *batch = inputs_next(run->inputs, &run->stage);
        if (!batch)
            break;
        struct call *call = &run->calls[count];
        call->index = batch->index;
        call->span = batch->span;
        call->sequences = batch->sequences;
        if (run->teacher)
            memcpy(call->labels, batch->labels,
                   (size_t)(batch->sequences * run->info->rows) * sizeof *call->labels);
        if (batch->sequences > 0)
            forward_add(run->forward, batch->ids, batch->sequences);
        inputs_return(run->inputs, batch);
    }
    return count;
}

static int compute(struct run *run, struct error *error)
{
    int count;
    while ((count = add_calls(run)) > 0) {
        const struct call *last = &run->calls[count - 1];
        const uint64_t end = last->index + last->span;
        if ((last->sequences == 0 ? submit_all_kept(run, last, error)
                                  : forward_run(run->forward, end < run->total, read_tap, run, error)) < 0 ||
            submit_reading(run, error) < 0)
            return -1;
        if (run->teacher)
            teacher_rest(run->teacher);
        for (int i = 0; i < count; i++)
            run->tokens += (uint64_t)run->calls[i].sequences * (uint64_t)run->info->rows;
        if (!run->plan->resident && end < run->total && choose_group(run, end, error) < 0)
            return -1;
    }
    return 0;
}

/* ---- life ---- */

static int find_start(struct run *run, struct store *store, struct error *error)
{
    int result = 0;
    run->order = order_of(store);
    run->total = order_length(&run->order);
    if (array_alloc(&run->stored, run->info->taps, error) < 0 ||
        array_alloc(&run->coder, run->info->taps, error) < 0)
        return -1;
    for (int tap = 0; tap < run->info->taps && result == 0; tap++) {
        run->stored[tap] = order_stored(&run->order, store, tap);
        run->records_before += store_all_progress(store, tap);
        if (run->bus)
            result = store_coder(store, tap, &run->coder[tap], error);
    }
    return result;
}

static int open_teacher(struct run *run, const struct model *model, struct backend *backend,
                        struct error *error)
{
    const struct plan *plan = run->plan;
    const int64_t rows = (int64_t)plan->batch * run->info->rows;
    if (run->target < 0)
        return 0;
    for (int i = 0; i < plan->group; i++)
        if (array_alloc(&run->calls[i].labels, rows, error) < 0)
            return -1;
    if (array_alloc(&run->values, rows, error) < 0)
        return -1;
    return teacher_open(model, backend, rows, plan->resident, &run->teacher, error);
}

static int open_kept(struct run *run, struct backend *backend, struct error *error)
{
    const int64_t rows = run->info->rows, values = rows * run->info->hidden;
    if (!run->kept)
        return 0;
    if (array_alloc(&run->kept_states, values, error) < 0 || array_alloc(&run->kept_values, rows, error) < 0 ||
        queue_create(backend, &run->kept_queue, error) < 0)
        return -1;
    return buffer_create(backend, (size_t)values * sizeof(float), &run->kept_buffer, error);
}

static int open_forward(struct run *run, const struct model *model, struct backend *backend,
                        struct error *error)
{
    const struct plan *plan = run->plan;
    const struct forward_shape shape = {run->info->rows, plan->batch, 1,
                                        plan->layers,    plan->half,  plan->resident};
    run->group = 1;
    if (forward_open(model, backend, &shape, &run->forward, error) < 0 ||
        array_alloc(&run->calls, plan->group, error) < 0 || open_teacher(run, model, backend, error) < 0 ||
        open_kept(run, backend, error) < 0 ||
        (run->bus &&
         transforms_open(backend, run->coder, run->info->taps, (int64_t)plan->batch * run->info->rows,
                         run->info->hidden, &run->transforms, error) < 0))
        return -1;
    if (plan->resident) /* on a device, a first call shows whether its working memory is there */
        return backend_memory(backend) > 0 ? forward_measure(run->forward, error) : 0;
    if (forward_measure(run->forward, error) < 0 || choose_group(run, 0, error) < 0)
        return -1;
    print_group(run);
    return 0;
}

static void close_forward(struct run *run)
{
    forward_close(run->forward);
    teacher_close(run->teacher);
    transforms_close(run->transforms);
    for (int i = 0; run->calls && i < run->plan->group; i++)
        free(run->calls[i].labels);
    buffer_destroy(run->kept_buffer);
    queue_destroy(run->kept_queue);
    free(run->kept_states);
    free(run->kept_values);
    free(run->calls);
    free(run->values);
    run->kept_buffer = NULL;
    run->kept_queue = NULL;
    run->kept_states = NULL;
    run->kept_values = NULL;
    run->forward = NULL;
    run->teacher = NULL;
    run->transforms = NULL;
    run->calls = NULL;
    run->values = NULL;
}

/* Makes the plan one that takes less of the device's memory, of which a part has run out. False: there is
 * none. */
static bool plan_less(struct plan *plan, int planned, enum ran_out part, const struct backend *backend,
                      struct error *error)
{
    if (plan->resident && (part == RAN_OUT_WEIGHT || plan->batch == 1)) {
        const uint64_t memory = plan_memory(backend, plan->peak);
        struct error less;
        plan->batch = planned;
        if (plan_stream(plan, memory, &less) == 0)
            return true;
        error_prefix(error, "%s", less.text);
        return false;
    }
    if (plan->batch == 1) {
        error_prefix(error, "with one sequence per call");
        return false;
    }
    plan->batch = (plan->batch + 1) / 2;
    return true;
}

/* As planned, or as the device's memory holds it. */
static int open_fitting(struct run *run, const struct model *model, struct backend *backend,
                        struct error *error)
{
    const int planned = run->plan->batch;
    enum ran_out part;
    backend_ran_out(backend);
    while (open_forward(run, model, backend, error) < 0) {
        if ((part = backend_ran_out(backend)) == RAN_OUT_NOTHING)
            return -1;
        close_forward(run);
        if (!plan_less(run->plan, planned, part, backend, error))
            return -1;
    }
    if (run->plan->batch < planned)
        cli_say("device memory does not hold calls of %d sequences. They have %d", planned, run->plan->batch);
    return 0;
}

/* Ends all threads; of several failures it returns the one that came first: a stage's, whose end made
 * the computation fail, before the computation's own. */
static int close_stages(struct run *run, int result, struct run_report *report, struct error *error)
{
    struct encoders_report stages = {0};
    if (inputs_close(run->inputs, &report->read, error) < 0)
        result = -1;
    if (encoders_close(run->encoders, &stages, error) < 0)
        result = -1;
    report->encode = stages.encode;
    report->write = stages.write;
    return result;
}

static void fill_report(const struct run *run, const struct device_times *before, struct backend *backend,
                        struct run_report *report)
{
    const struct device_times times = backend_times(backend);
    report->compute = run->stage;
    report->compute.name = "compute";
    report->target = run->asking;
    report->target.name = run->teacher ? "target" : NULL;
    report->load = forward_times(run->forward).loading;
    report->waited = forward_times(run->forward).waited;
    report->device =
        (struct device_times){times.ops - before->ops, times.in - before->in, times.out - before->out};
    report->encoders = run->plan->encoders;
    report->group = run->most_group;
    report->tokens = run->tokens;
}

int run_model(const struct run_job *job, struct run_report *report, struct error *error)
{
    struct store *store = job->store;
    const double started = clock_seconds();
    const struct device_times before = backend_times(job->backend);
    struct run run = {.info = store_info(store),
                      .plan = job->plan,
                      .kept = job->kept,
                      .bus = backend_memory(job->backend) > 0,
                      .target = store_find_target(store_info(store))};
    *report = (struct run_report){0};
    int result = find_start(&run, store, error);
    if (result < 0 || run.total == 0)
        goto done;
    result = open_fitting(&run, job->model, job->backend, error);
    const double loaded = clock_seconds();
    report->loading = loaded - started;
    if (result < 0)
        goto done;
    const uint64_t sequences = store_all_sequences(store);
    progress_start(&run.progress, job->title, "tokens", sequences * (uint64_t)run.info->rows);
    run.progress.first = run.records_before / (uint64_t)run.info->taps * (uint64_t)run.info->rows;
    if (encoders_open(store, &run.order, job->plan, &run.encoders, error) < 0 ||
        inputs_open(store, &run.order, job->plan->batch, run.kept, &run.inputs, error) < 0)
        result = -1;
    else
        result = compute(&run, error);
    run.stage.busy = clock_seconds() - loaded - run.stage.waiting - run.asking.busy - run.asking.waiting;
    result = close_stages(&run, result, report, error);
    progress_finish(&run.progress);
    fill_report(&run, &before, job->backend, report);
done:
    if (result < 0 &&
        error->kind == ERROR_INTERRUPTED) /* in a softmax, perhaps, or while weights were loaded */
        interrupted(error);
    report->seconds = clock_seconds() - started;
    close_forward(&run);
    free(run.stored);
    free(run.coder);
    return result;
}
