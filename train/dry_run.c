#include "train/dry_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/pool.h"
#include "common/head/draft.h"
#include "train/foretell.h"
#include "train/schedule.h"
#include "train/timing.h"

/* A run that will not be. */
struct plan {
    const struct sweep *sweep;
    struct stores stores;
    struct backend *backend;
    int64_t steps;
    int64_t evaluations; /* of each trial that goes to the last step */
    int64_t sample, split; /* held-out sequences: of an evaluation, of all */
    int live; /* trials at a time, at most */
    struct foretold memory; /* with so many */
    struct schedule schedule;
    int waves;
    int64_t read; /* steps whose batches are read, in all waves */
    int rung_trials[RUNGS_MAX + 1]; /* trials that go to each rung, and to the last step */
    double *part; /* [trials] of the steps, that one of its tap takes on average */
    struct timing timing;
    double *seconds; /* [trials] of each trial alone, to the last step */
    double trials, shared; /* of all of them; of what they share */
    double begin; /* first values */
};

/* ---- waves and rungs ---- */

/* A trial has come to a step, as one whose KL is known from its place in the sweep. */
static void arrive(struct plan *plan, struct standing *standing, int trial, int64_t step)
{
    const struct schedule *schedule = &plan->schedule;
    standing->step = step;
    if (step == plan->steps) {
        standing->state = STANDING_ENDED;
        plan->rung_trials[schedule->rungs]++;
    }
    for (int r = 0; r < schedule->rungs; r++) {
        if (schedule->rung[r] == step) {
            standing->kl[r] = trial;
            plan->rung_trials[r]++;
        }
    }
}

/* Takes the trials that are live to the step of their wave. */
static void rehearse_wave(struct plan *plan, const struct wave *wave, const struct verdict *verdicts,
                          struct standing *standings)
{
    int64_t lowest = wave->step;
    for (int i = 0; i < plan->sweep->trials; i++) {
        if (verdicts[i].kind == VERDICT_STOP)
            standings[i].state = STANDING_STOPPED;
        if (verdicts[i].kind != VERDICT_LIVE)
            continue;
        lowest = standings[i].step < lowest ? standings[i].step : lowest;
        arrive(plan, &standings[i], i, wave->step);
    }
    plan->waves += wave->count > 0;
    plan->read += wave->step - lowest;
}

/* Halving leaves as many trials of a tap whichever are the better ones. So the parts of the steps that they take are
 * known on average. */
static void set_parts(struct plan *plan, const struct standing *standings)
{
    const struct sweep *sweep = plan->sweep;
    for (int i = 0; i < sweep->trials; i++) {
        int64_t steps = 0, most = 0;
        for (int j = 0; j < sweep->trials; j++) {
            if (tap_compare(sweep->trial[i].spec.tap, sweep->trial[j].spec.tap) == 0 &&
                head_kind_is_draft(sweep->trial[i].spec.kind) ==
                    head_kind_is_draft(sweep->trial[j].spec.kind)) {
                steps += standings[j].step;
                most += plan->steps;
            }
        }
        plan->part[i] = most > 0 ? (double)steps / (double)most : 1;
    }
}

/* Goes through the waves of the run. */
static int rehearse(struct plan *plan, struct error *error)
{
    const int trials = plan->sweep->trials;
    struct standing *standings = NULL;
    struct verdict *verdicts = NULL;
    struct wave wave = {0};
    int result = -1;
    plan->schedule = schedule_create(plan->steps, plan->sweep->halving, plan->live);
    if (array_alloc(&plan->part, trials, error) < 0 || array_alloc(&standings, trials, error) < 0 ||
        array_alloc(&verdicts, trials, error) < 0)
        goto done;
    for (int i = 0; i < trials; i++) {
        standings[i].tap = plan->sweep->trial[i].spec.tap;
        standings[i].draft = head_kind_is_draft(plan->sweep->trial[i].spec.kind);
        for (int r = 0; r < RUNGS_MAX; r++)
            standings[i].kl[r] = NAN;
    }
    do {
        result = schedule_next(&plan->schedule, standings, trials, verdicts, &wave, error);
        if (result == 0)
            rehearse_wave(plan, &wave, verdicts, standings);
    } while (result == 0 && wave.count > 0);
    set_parts(plan, standings);
done:
    free(standings);
    free(verdicts);
    return result;
}

/* ---- times ---- */

/* Evaluations of a trial that goes to the last step. */
static int64_t count_evaluations(const struct plan *plan)
{
    const int64_t every = plan->sweep->evaluate;
    int64_t count = plan->steps > 0 ? 2 + (every > 0 ? (plan->steps - 1) / every : 0) : 1;
    for (int r = 0; r < plan->schedule.rungs; r++)
        count += every == 0 || plan->schedule.rung[r] % every != 0;
    return count;
}

static int foretell_times(struct plan *plan, struct error *error)
{
    const struct sweep *sweep = plan->sweep;
    const struct timing *timing = &plan->timing;
    const double steps = (double)plan->steps, rest = (double)(plan->split - plan->sample),
                 held_out = (double)(plan->evaluations * plan->sample) + rest;
    if (array_alloc(&plan->seconds, sweep->trials, error) < 0)
        return -1;
    for (int i = 0; i < sweep->trials; i++) {
        plan->seconds[i] = steps * timing->step[i] + held_out * timing->evaluation[i];
        plan->trials += plan->part[i] * plan->seconds[i];
    }
    const double passes = steps > 0 ? (double)plan->read / steps : plan->waves;
    plan->shared = (double)plan->read * timing->batch + passes * held_out * timing->held_out;
    plan->begin = timing->regressions;
    return 0;
}

static double all_seconds(const struct plan *plan)
{
    return plan->begin + plan->trials + plan->shared;
}

/* ---- opening ---- */

static void close_plan(struct plan *plan)
{
    free(plan->part);
    free(plan->seconds);
    timing_free(&plan->timing);
    backend_close(plan->backend);
    stores_close(&plan->stores);
}

static int open_plan(struct plan *plan, const struct training_options *options, struct sweep *sweep,
                     struct error *error)
{
    plan->sweep = sweep;
    if (stores_open(options->store, options->stores, &plan->stores, error) < 0)
        return -1;
    if (sweep_take_stores(sweep, &plan->stores, error) < 0)
        return -1;
    sweep_take_part(sweep, options->share.part);
    if (sweep->trials == 0)
        return error_set_kind(error, ERROR_USAGE, "this part has no trials");
    plan->steps = sweep_steps(sweep, plan->stores.sequences[SPLIT_TRAIN]);
    plan->split = (int64_t)plan->stores.sequences[SPLIT_HELD_OUT];
    plan->sample = sweep_sample(sweep, plan->split, plan->stores.rows);
    if (device_open(&options->device, &plan->backend, error) < 0)
        return -1;
    const struct bounds bounds = {
        .most = options->max_parallel, .memory = options->memory, .device = backend_memory(plan->backend)};
    const enum math math = backend_math(plan->backend);
    if (foretell_live(sweep, &plan->stores, math, &bounds, &plan->live, error) < 0 ||
        foretell_check(sweep, &plan->stores, math, plan->live, plan->steps, bounds.device, error) < 0)
        return -1;
    if (foretell(sweep, &plan->stores, math, plan->live, &plan->memory, error) < 0 || rehearse(plan, error) < 0)
        return -1;
    plan->evaluations = count_evaluations(plan);
    return 0;
}

/* ---- printing ---- */

static uint64_t trained_values(const struct plan *plan, int trial)
{
    return (uint64_t)head_spec_values(&plan->sweep->trial[trial].spec, &plan->stores.config, true);
}

static uint64_t trial_bytes(const struct plan *plan, int trial)
{
    return foretell_trial(&plan->sweep->trial[trial], &plan->stores.config);
}

/* Of the time that trials take for themselves. */
static double share(const struct plan *plan, int trial)
{
    return plan->trials > 0 ? plan->part[trial] * plan->seconds[trial] / plan->trials : 0;
}

static void print_trials(const struct plan *plan)
{
    const struct sweep *sweep = plan->sweep;
    int width = 5;
    char bytes[32], time[32];
    for (int i = 0; i < sweep->trials; i++) {
        const int length = (int)strlen(sweep->trial[i].id);
        width = length > width ? length : width;
    }
    printf("%-*s  trained values     memory        time   share\n", width, "trial");
    for (int i = 0; i < sweep->trials; i++)
        printf("%-*s  %14" PRIu64 "  %9s  %10s  %4.1f %%\n", width, sweep->trial[i].id, trained_values(plan, i),
               format_bytes((double)trial_bytes(plan, i), bytes, sizeof bytes),
               format_duration(plan->seconds[i], time, sizeof time), 100 * share(plan, i));
}

static const char *plural(int64_t count)
{
    return count == 1 ? "" : "s";
}

static void print_waves(const struct plan *plan)
{
    const struct schedule *schedule = &plan->schedule;
    if (schedule->rungs > 0) {
        printf("Halving:");
        for (int r = 0; r < schedule->rungs; r++)
            printf(" %d to step %" PRId64 ",", plan->rung_trials[r], schedule->rung[r]);
        printf(" %d to step %" PRId64 ". Times of trials are those to the last step; shares and the sum are by "
               "what is left.\n",
               plan->rung_trials[schedule->rungs], plan->steps);
    }
    if (plan->live < plan->sweep->trials)
        printf("At most %d trial%s at a time: %d waves, which read the batches of %" PRId64 " steps.\n",
               plan->live, plural(plan->live), plan->waves, plan->read);
}

static void print_totals(const struct plan *plan)
{
    const struct sweep *sweep = plan->sweep;
    const struct foretold *memory = &plan->memory;
    const int64_t tokens = (int64_t)sweep->sequences * plan->stores.rows;
    char text[5][32];
    printf("\n%d trial%s, %" PRId64 " step%s of %d sequence%s (%" PRId64 " tokens each, %" PRId64
           " in all); %" PRId64 " evaluation%s on %" PRId64 " of %" PRId64 " held-out sequence%s.\n",
           sweep->trials, plural(sweep->trials), plan->steps, plural(plan->steps), sweep->sequences,
           plural(sweep->sequences), tokens, tokens * plan->steps, plan->evaluations, plural(plan->evaluations),
           plan->sample, plan->split, plural(plan->split));
    print_waves(plan);
    printf("Memory about %s: heads and optimizers %s, gradients %s, batches %s, output weight %s.\n",
           format_bytes((double)foretold_bytes(memory), text[0], sizeof text[0]),
           format_bytes((double)memory->trials, text[1], sizeof text[1]),
           format_bytes((double)memory->gradients, text[2], sizeof text[2]),
           format_bytes((double)memory->batch, text[3], sizeof text[3]),
           format_bytes((double)memory->fixed, text[4], sizeof text[4]));
    printf("Time about %s: first values %s, trials %s, what they share %s.\n",
           format_duration(all_seconds(plan), text[0], sizeof text[0]),
           format_duration(plan->begin, text[1], sizeof text[1]),
           format_duration(plan->trials, text[2], sizeof text[2]),
           format_duration(plan->shared, text[3], sizeof text[3]));
}

static json_t *trials_to_json(const struct plan *plan, struct error *error)
{
    json_t *list = json_array();
    for (int i = 0; list && i < plan->sweep->trials; i++) {
        json_t *object = trial_config_to_json(&plan->sweep->trial[i], error);
        json_t *more =
            json_pack("{s:I, s:I, s:f, s:f}", "trained", (json_int_t)trained_values(plan, i), "memory",
                      (json_int_t)trial_bytes(plan, i), "seconds", plan->seconds[i], "share", share(plan, i));
        const bool whole = object && more && json_object_update(object, more) == 0;
        json_decref(more);
        if (!whole || json_array_append_new(list, object) < 0) {
            json_decref(whole ? NULL : object);
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *rungs_to_json(const struct plan *plan)
{
    json_t *list = json_array();
    for (int r = 0; list && r <= plan->schedule.rungs; r++) {
        const int64_t step = r < plan->schedule.rungs ? plan->schedule.rung[r] : plan->steps;
        json_array_append_new(
            list, json_pack("{s:I, s:i}", "step", (json_int_t)step, "trials", plan->rung_trials[r]));
    }
    return list;
}

static int print_json(const struct plan *plan, struct error *error)
{
    const struct foretold *memory = &plan->memory;
    json_t *object = json_pack(
        "{s:o, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:o, s:{s:I, s:I, s:I, s:I, s:I}, s:{s:f, s:f, s:f, s:f}}",
        "trials", trials_to_json(plan, error), "steps", (json_int_t)plan->steps, "tokens",
        (json_int_t)(plan->steps * plan->sweep->sequences * plan->stores.rows), "evaluations",
        (json_int_t)plan->evaluations, "sample", (json_int_t)plan->sample, "held_out_sequences",
        (json_int_t)plan->split, "live", plan->live, "waves", plan->waves, "rungs", rungs_to_json(plan),
        "memory", "all", (json_int_t)foretold_bytes(memory), "trials", (json_int_t)memory->trials, "gradients",
        (json_int_t)memory->gradients, "batches", (json_int_t)memory->batch, "output",
        (json_int_t)memory->fixed, "seconds", "all", all_seconds(plan), "begin", plan->begin, "trials",
        plan->trials, "shared", plan->shared);
    return json_print("what the run would be", object, stdout, error);
}

int dry_run(const struct training_options *options, struct sweep *sweep, bool json, struct error *error)
{
    struct plan plan = {0};
    const int threads =
        options->device.backend.threads > 0 ? options->device.backend.threads : processor_count();
    int result = open_plan(&plan, options, sweep, error);
    const struct timing_setting setting = {
        .sweep = sweep, .stores = &plan.stores, .backend = plan.backend, .threads = threads};
    if (result == 0)
        result = timing_run(&setting, &plan.timing, error);
    if (result == 0)
        result = foretell_times(&plan, error);
    if (result == 0 && json) {
        result = print_json(&plan, error);
    } else if (result == 0) {
        print_trials(&plan);
        print_totals(&plan);
    }
    close_plan(&plan);
    return result;
}
