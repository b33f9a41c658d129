#include "extract/scout.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/progress.h"
#include "common/head/ridge.h"
#include "extract/scout_file.h"

struct scout {
    const struct scout_job *job;
    struct scout_result *result;
    struct scout_needs needs;
    json_t *identity;
    struct scout_about about;
    struct sequences *sequences;
    uint64_t measured; /* held-out sequences that were read */
    struct scout_pass *pass;
    struct scout_sums *sums; /* of this command's text; or */
    struct scout_files *files;
    struct queue *queue;
    struct scout_heads *heads;
    struct progress progress;
};

int scout_needs(const struct scout_job *job, struct scout_needs *needs, struct error *error)
{
    const struct model_config *config = model_config(job->model);
    const struct plan_machine machine = plan_machine(job->backend, job->wish.threads, job->memory);
    const uint64_t solving =
        sizeof(double) * ((uint64_t)ridge_sums_values(config->hidden, config->hidden) +
                          ((uint64_t)config->hidden + 1) * (2 * (uint64_t)config->hidden + 1));
    struct plan plan;
    *needs = (struct scout_needs){
        .sums = job->files > 0 ? 0 : scout_sums_bytes(config->layers, config->hidden, job->wish.rows)};
    if (scout_plan(config, plan_file(job->model), job->wish.rows,
                   &(struct plan_machine){.math = machine.math,
                                          .threads = machine.threads,
                                          .activations = machine.activations,
                                          .working = machine.working},
                   0, &plan, error) < 0)
        return -1;
    needs->heads = scout_heads_bytes(config, machine.math, (int64_t)plan.batch * job->wish.rows) + solving;
    return scout_plan(config, plan_file(job->model), job->wish.rows, &machine, needs->sums + needs->heads,
                      &needs->plan, error);
}

/* ---- the two texts ---- */

static int read_training(void *context, int32_t *ids, struct error *error)
{
    struct scout *scout = context;
    const double share = sequences_share(scout->sequences), tokens = (double)scout_sums_tokens(scout->sums);
    if (share > 0) /* how much text there is shows as it is read */
        scout->progress.total = (uint64_t)(tokens / share);
    progress_update(&scout->progress, (uint64_t)tokens);
    return sequences_next(scout->sequences, ids, error);
}

static int read_held_out(void *context, int32_t *ids, struct error *error)
{
    struct scout *scout = context;
    const int rows = scout->job->wish.rows;
    (void)error;
    if (scout->measured == sequences_held_out(scout->sequences))
        return 0;
    const int32_t *from = sequences_held_out_ids(scout->sequences, scout->measured++);
    for (int i = 0; i <= rows; i++)
        ids[i] = from[i];
    return 1;
}

static int add(void *context, const struct scout_call *call, struct error *error)
{
    return scout_sums_add(((struct scout *)context)->sums, call, error);
}

static int measure(void *context, const struct scout_call *call, struct error *error)
{
    struct scout *scout = context;
    const int result = scout_heads_measure(scout->heads, call, error);
    progress_update(&scout->progress, scout->measured);
    return result;
}

/* Only the held-out text is read: its sequences are all there when no training sequence comes any more. */
static int skip_training(struct scout *scout, struct error *error)
{
    int32_t *ids;
    int there = 1;
    if (array_alloc(&ids, scout->job->wish.rows + 1, error) < 0)
        return -1;
    while (there > 0)
        there = sequences_next(scout->sequences, ids, error);
    free(ids);
    return there;
}

static void warn_few(const struct scout *scout)
{
    const uint64_t tokens = scout->result->tokens, hidden = (uint64_t)scout->about.hidden;
    if (scout->about.shards == 1 && tokens < SCOUT_FEW * hidden)
        cli_say("warning: %" PRIu64 " tokens are fewer than %d for each of a state's %" PRIu64
                " values: the regressions fit them better than held-out text, and most so at low layers",
                tokens, SCOUT_FEW, hidden);
}

static int sum_up(struct scout *scout, struct error *error)
{
    const struct scout_job *job = scout->job;
    const double started = clock_seconds();
    progress_start(&scout->progress, "scout", "tokens", 0);
    int result = scout_sums_create(job->backend, scout->about.layers, scout->about.hidden, job->wish.rows,
                                   &scout->sums, error);
    if (result == 0)
        result = scout_pass_run(scout->pass, read_training, scout, add, scout, error);
    progress_finish(&scout->progress);
    if (result < 0)
        return -1;
    scout->result->tokens = scout_sums_tokens(scout->sums);
    scout->result->seconds[SPLIT_TRAIN] = clock_seconds() - started;
    return job->out ? scout_file_write(job->out, scout->sums, scout->queue, &scout->about, error) : 0;
}

/* ---- the maps ---- */

static int solve(struct scout *scout, int map, float *a, float *b, struct error *error)
{
    const int hidden = scout->about.hidden;
    double *values;
    if ((scout->files ? scout_files_sum(scout->files, map, &values, error)
                      : scout_sums_take(scout->sums, scout->queue, map, &values, error)) < 0)
        return -1;
    const int result = ridge_solve(values, hidden, hidden, a, b, error);
    free(values);
    if (result < 0)
        return error_prefix(error, "tap %d", scout_map(scout->about.layers, map).tap);
    return scout_heads_set(scout->heads, map, a, b, error);
}

static int solve_all(struct scout *scout, struct error *error)
{
    const int64_t hidden = scout->about.hidden;
    float *a = NULL, *b = NULL;
    int result = array_alloc(&a, hidden * hidden, error);
    if (result == 0)
        result = array_alloc(&b, hidden, error);
    for (int map = 0; map < scout_map_count(scout->about.layers) && result == 0; map++)
        result = cli_interrupted() ? error_set_kind(error, ERROR_INTERRUPTED, "interrupted")
                                   : solve(scout, map, a, b, error);
    free(a);
    free(b);
    return result;
}

static int measure_all(struct scout *scout, struct error *error)
{
    const struct scout_job *job = scout->job;
    struct scout_result *result = scout->result;
    const double started = clock_seconds();
    if (sequences_held_out(scout->sequences) == 0)
        return error_set_kind(
            error, ERROR_USAGE,
            "--scout: heads are measured on held-out text, and there is none: give --held-out or "
            "--held-out-corpus");
    if (scout_heads_open(job->model, job->backend, &scout->needs.plan, job->wish.rows, &scout->heads, error) <
            0 ||
        solve_all(scout, error) < 0)
        return -1;
    progress_start(&scout->progress, "measure", "sequences", sequences_held_out(scout->sequences));
    const int done = scout_pass_run(scout->pass, read_held_out, scout, measure, scout, error);
    progress_finish(&scout->progress);
    if (done < 0 || array_alloc(&result->scores, scout_map_count(result->layers), error) < 0)
        return -1;
    result->measured = scout_heads_scores(scout->heads, result->scores, &result->full);
    result->seconds[SPLIT_HELD_OUT] = clock_seconds() - started;
    return 0;
}

static int choose_taps(struct scout_result *result, struct error *error)
{
    double *agreement;
    if (array_alloc(&agreement, result->layers, error) < 0)
        return -1;
    for (int tap = 0; tap < result->layers; tap++)
        agreement[tap] = result->scores[tap].agreement;
    result->count = scout_choose(agreement, result->layers, result->taps);
    free(agreement);
    return 0;
}

/* ---- all of it ---- */

static int open_scout(struct scout *scout, struct error *error)
{
    const struct scout_job *job = scout->job;
    struct sequences_wish wish = job->wish;
    char text[32];
    if (job->files > 0)
        wish.most[SPLIT_TRAIN] = 0;
    if (!(scout->identity = scout_identity(job->manifest, error)))
        return -1;
    scout->about.identity = scout->identity;
    if ((job->files > 0 && scout_files_open(job->sums, job->files, &scout->about, &scout->files, error) < 0) ||
        scout_needs(job, &scout->needs, error) < 0)
        return -1;
    const struct plan *plan = &scout->needs.plan;
    if (!plan->resident)
        cli_say("the weights of %d layers take %s and do not fit in memory beside the sums: each layer is "
                "loaded once "
                "for up to %d tokens",
                plan->layers, format_bytes((double)plan->weights, text, sizeof text),
                plan->group * plan->batch * wish.rows);
    return sequences_open(&wish, &scout->sequences, error) < 0 ||
                   queue_create(job->backend, &scout->queue, error) < 0
               ? -1
               : scout_pass_open(job->model, job->backend, plan, wish.rows, &scout->pass, error);
}

static int run(struct scout *scout, struct error *error)
{
    if (open_scout(scout, error) < 0)
        return -1;
    if (scout->files) {
        scout->result->tokens = scout_files_tokens(scout->files);
        if (skip_training(scout, error) < 0)
            return -1;
    } else if (sum_up(scout, error) < 0)
        return -1;
    if (scout->result->tokens == 0 && scout->about.shards == 1)
        return error_set(error, "--scout: the training text does not fill one sequence of %d tokens",
                         scout->job->wish.rows);
    warn_few(scout);
    return scout->about.shards > 1 ? 0 : measure_all(scout, error) < 0 ? -1 : choose_taps(scout->result, error);
}

int scout_run(const struct scout_job *job, struct scout_result *result, struct error *error)
{
    const struct model_config *config = model_config(job->model);
    struct scout scout = {.job = job,
                          .result = result,
                          .about = {.layers = config->layers,
                                    .hidden = config->hidden,
                                    .shard = job->wish.shard,
                                    .shards = job->wish.shards}};
    *result = (struct scout_result){.layers = config->layers};
    int done = run(&scout, error);
    if (done < 0 && error->kind == ERROR_INTERRUPTED)
        error_set_kind(error, ERROR_INTERRUPTED,
                       "interrupted; a scout keeps nothing: the same command begins again");
    scout_heads_close(scout.heads);
    scout_pass_close(scout.pass);
    scout_sums_free(scout.sums);
    scout_files_close(scout.files);
    queue_destroy(scout.queue);
    sequences_close(scout.sequences);
    json_decref(scout.identity);
    return done;
}

void scout_free(struct scout_result *result)
{
    free(result->scores);
    *result = (struct scout_result){0};
}
