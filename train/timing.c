#include "train/timing.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/head/draft.h"
#include "train/evaluate.h"
#include "train/regressions.h"
#include "train/step_feed.h"

#define BATCHES     3 /* read and loaded */
#define BUDGET      1.5 /* seconds: where a step of one trial of each make takes longer, batches are smaller */
#define SOLVED_MOST 1024 /* hidden size up to which a regression is solved */

/* A part of a run: its batches, or smaller ones, and a trial of each make. */
struct bench {
    const struct timing_setting *setting;
    int sequences; /* of a batch */
    struct batch *batch;
    struct workspace *workspace;
    struct step_feed feed; /* whose last batch is loaded */
    int *make; /* [trials of the sweep] which of: */
    struct trial **trial; /* [makes] */
    int makes;
};

/* ---- makes ---- */

static bool same_make(const struct trial_config *a, const struct trial_config *b)
{
    return head_specs_join(&a->spec, &b->spec) && a->spec.output == b->spec.output &&
           trial_config_same_loss(a, b) && a->vocabulary == b->vocabulary &&
           a->spec.draft_vocab == b->spec.draft_vocab && a->spec.befores == b->spec.befores &&
           (!head_kind_is_draft(a->spec.kind) || a->unroll == b->unroll);
}

/* The first ones: it is the time of their products that counts. */
static int set_any_tokens(struct trial *trial, const struct head_source *source, struct error *error)
{
    const int count = trial->config.spec.draft_vocab;
    int32_t *tokens;
    if (array_alloc(&tokens, count, error) < 0)
        return -1;
    for (int i = 0; i < count; i++)
        tokens[i] = i;
    int result = draft_set_tokens(trial->head, tokens, source, error);
    free(tokens);
    return result;
}

static int open_trial(struct bench *bench, const struct trial_config *config, struct error *error)
{
    const struct stores *stores = bench->setting->stores;
    const struct head_source source = stores_head_source(stores);
    struct trial **trial = &bench->trial[bench->makes];
    if (trial_create(config, &stores->config, bench->setting->backend, trial, error) < 0)
        return -1;
    bench->makes++;
    const bool draft = trial_is_draft(*trial);
    if (head_initialise((*trial)->head, draft ? config->init : INIT_COPY, 0, &source, error) < 0)
        return -1;
    return draft ? set_any_tokens(*trial, &source, error) : 0;
}

/* A trial of each make, and which make each trial of the sweep is of. */
static int open_makes(struct bench *bench, struct error *error)
{
    const struct sweep *sweep = bench->setting->sweep;
    if (array_alloc(&bench->make, sweep->trials, error) < 0 ||
        array_alloc(&bench->trial, sweep->trials, error) < 0)
        return -1;
    for (int i = 0; i < sweep->trials; i++) {
        int make = 0;
        while (make < bench->makes && !same_make(&bench->trial[make]->config, &sweep->trial[i]))
            make++;
        bench->make[i] = make;
        if (make == bench->makes && open_trial(bench, &sweep->trial[i], error) < 0)
            return -1;
    }
    return 0;
}

/* ---- opening ---- */

static void close_batches(struct bench *bench)
{
    step_feed_close(&bench->feed);
    workspace_destroy(bench->workspace);
    batch_destroy(bench->batch);
    bench->workspace = NULL;
    bench->batch = NULL;
}

static void close_bench(struct bench *bench)
{
    close_batches(bench);
    for (int m = 0; m < bench->makes; m++)
        trial_destroy(bench->trial[m]);
    free(bench->trial);
    free(bench->make);
}

/* Batches of so many sequences. */
static int open_batches(struct bench *bench, int sequences, struct error *error)
{
    const struct timing_setting *setting = bench->setting;
    const struct sweep *sweep = setting->sweep;
    const struct stores *stores = setting->stores;
    close_batches(bench);
    bench->sequences = sequences;
    int result = trials_create_batch(sweep, stores, setting->backend, sequences, &bench->batch, error);
    if (result == 0)
        result = workspace_create(setting->backend, sequences, stores->rows, stores->config.hidden, 1,
                                  &bench->workspace, error);
    bench->feed = (struct step_feed){.stores = stores,
                                     .batch = bench->batch,
                                     .seed = sweep->seed,
                                     .sequences = sequences,
                                     .steps = BATCHES,
                                     .threads = setting->threads};
    return result;
}

/* ---- times ---- */

static unsigned teaching(const struct bench *bench)
{
    unsigned teach = TEACH_NOTHING;
    for (int m = 0; m < bench->makes; m++)
        teach |= trial_teaching(&bench->trial[m]->config);
    return teach;
}

/* Seconds to read and load a batch. The last one stays loaded. */
static int time_batch(struct bench *bench, double *seconds, struct error *error)
{
    const double started = clock_seconds();
    const unsigned teach = teaching(bench);
    const struct feed_batch *next;
    for (int step = 0; step < BATCHES; step++) {
        if (step_feed_next(&bench->feed, step, teach, &next, error) < 0 ||
            batch_load(bench->batch, next, teach, error) < 0)
            return -1;
    }
    *seconds = (clock_seconds() - started) / BATCHES;
    return 0;
}

/* Seconds of a step on the loaded batch. The first one also makes what later ones find; a short one is timed
 * twice. */
static int time_step(struct bench *bench, struct trial *trial, double *seconds, struct error *error)
{
    struct trial_result result;
    *seconds = 0;
    for (int i = 0; i < (*seconds < 0.2 ? 3 : 2); i++) {
        const double started = clock_seconds();
        if (trials_step(&trial, 1, bench->workspace, bench->batch, BATCHES, &result, error) < 0)
            return -1;
        const double taken = clock_seconds() - started;
        *seconds = i < 2 || taken < *seconds ? taken : *seconds;
    }
    trial->failed = trial->starved = false;
    return 0;
}

/* Seconds of each make's step, and of all of them. */
static int time_steps(struct bench *bench, double *step, double *sum, struct error *error)
{
    *sum = 0;
    for (int m = 0; m < bench->makes; m++) {
        if (time_step(bench, bench->trial[m], &step[m], error) < 0)
            return -1;
        *sum += step[m];
    }
    return 0;
}

/* Seconds of the evaluation of a trial on the first places, for each of them, without reading it. */
static int time_evaluation(struct bench *bench, struct trial *trial, double reading, double *seconds,
                           struct error *error)
{
    const struct evaluation_setting setting = {.stores = bench->setting->stores,
                                               .batch = bench->batch,
                                               .workspace = bench->workspace,
                                               .sequences = bench->sequences,
                                               .threads = bench->setting->threads};
    const uint64_t split = evaluation_split(&setting), wanted = (uint64_t)bench->sequences;
    struct evaluation_sums sums = {.end = wanted < split ? wanted : split};
    struct evaluation *own = NULL;
    bool complete;
    int result = -1;
    sums.trial = &own;
    if (array_alloc(&own, split, error) == 0 && array_alloc(&sums.full, split, error) == 0) {
        const double started = clock_seconds();
        result = evaluate_places(&setting, &trial, 1, &sums, &complete, error);
        const double taken = (clock_seconds() - started) / (double)sums.end;
        *seconds = taken > reading ? taken - reading : 0;
        trial->failed = trial->starved = false;
    }
    free(own);
    free(sums.full);
    return result;
}

/* ---- regressions ---- */

/* The regressions of the sweep, each once, into pairs (room for all trials). */
static int list_pairs(const struct timing_setting *setting, struct regression *pairs)
{
    const struct sweep *sweep = setting->sweep;
    int count = 0;
    for (int i = 0; i < sweep->trials; i++) {
        if (sweep->trial[i].init == INIT_RIDGE)
            count =
                regressions_list(pairs, count, regression_of(&sweep->trial[i].spec, &setting->stores->config));
    }
    return count;
}

static int time_solution(const struct regressions *regressions, int64_t hidden, double *seconds,
                         struct error *error)
{
    float *a = NULL, *b = NULL;
    struct error ignored; /* what the few states give need not be solvable */
    int result = -1;
    const double started = clock_seconds();
    if (array_alloc(&a, hidden * hidden, error) == 0 && array_alloc(&b, hidden, error) == 0) {
        regressions_solve(regressions, 0, a, b, &ignored);
        result = 0;
    }
    free(a);
    free(b);
    *seconds = clock_seconds() - started;
    return result;
}

static int time_regressions(const struct timing_setting *setting, double *seconds, struct error *error)
{
    struct stores few = *setting->stores;
    struct regressions *regressions = NULL;
    struct regression *pairs;
    double solution = 0;
    *seconds = 0;
    if (array_alloc(&pairs, setting->sweep->trials, error) < 0)
        return -1;
    const int count = list_pairs(setting, pairs);
    const uint64_t all = few.sequences[SPLIT_TRAIN];
    few.sequences[SPLIT_TRAIN] = all < 2 ? all : 2;
    int result = 0;
    if (count > 0) {
        const double started = clock_seconds();
        result = regressions_read(&few, setting->backend, setting->threads, pairs, count, &regressions, error);
        *seconds = (clock_seconds() - started) * (double)all / (double)few.sequences[SPLIT_TRAIN];
        if (result == 0 && few.config.hidden <= SOLVED_MOST)
            result = time_solution(regressions, few.config.hidden, &solution, error);
        *seconds += count * solution;
    }
    regressions_free(regressions);
    free(pairs);
    return result;
}

/* ---- the whole ---- */

/* Times all makes, on whole batches where that does not take long. */
static int time_makes(struct bench *bench, struct timing *timing, double *step, double *evaluation,
                      struct error *error)
{
    const int sequences = bench->setting->sweep->sequences;
    double sum;
    if (open_batches(bench, 1, error) < 0 || time_batch(bench, &timing->batch, error) < 0 ||
        time_steps(bench, step, &sum, error) < 0)
        return -1;
    if (sequences > 1 && sum * sequences < BUDGET &&
        (open_batches(bench, sequences, error) < 0 || time_batch(bench, &timing->batch, error) < 0 ||
         time_steps(bench, step, &sum, error) < 0))
        return -1;
    const double rest = (double)sequences / bench->sequences;
    timing->held_out = timing->batch / bench->sequences;
    timing->batch *= rest;
    for (int m = 0; m < bench->makes; m++) {
        step[m] *= rest;
        if (time_evaluation(bench, bench->trial[m], timing->held_out, &evaluation[m], error) < 0)
            return -1;
    }
    return 0;
}

int timing_run(const struct timing_setting *setting, struct timing *timing, struct error *error)
{
    struct bench bench = {.setting = setting};
    const int trials = setting->sweep->trials;
    double *step = NULL, *evaluation = NULL;
    int result = -1;
    *timing = (struct timing){0};
    if (array_alloc(&step, trials, error) < 0 || array_alloc(&evaluation, trials, error) < 0 ||
        array_alloc(&timing->step, trials, error) < 0 || array_alloc(&timing->evaluation, trials, error) < 0 ||
        open_makes(&bench, error) < 0 || time_makes(&bench, timing, step, evaluation, error) < 0)
        goto done;
    for (int i = 0; i < trials; i++) {
        timing->step[i] = step[bench.make[i]];
        timing->evaluation[i] = evaluation[bench.make[i]];
    }
    result = time_regressions(setting, &timing->regressions, error);
done:
    close_bench(&bench);
    free(step);
    free(evaluation);
    if (result < 0)
        timing_free(timing);
    return result;
}

void timing_free(struct timing *timing)
{
    free(timing->step);
    free(timing->evaluation);
    *timing = (struct timing){0};
}
