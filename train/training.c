#include "train/training.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/pool.h"
#include "common/device/device.h"
#include "train/batch.h"
#include "train/cost.h"
#include "train/evaluate.h"
#include "train/first_values.h"
#include "train/foretell.h"
#include "train/gates.h"
#include "train/held_out.h"
#include "train/live_view.h"
#include "train/members.h"
#include "train/parts.h"
#include "train/results.h"
#include "train/run_identity.h"
#include "train/step_feed.h"
#include "train/waves.h"

struct training {
    const struct training_options *options;
    struct sweep *sweep; /* trial i is member i */
    struct run_folder run;
    struct stores stores;
    int64_t steps;
    int threads; /* options' resolved */
    struct policy_wish wish;
    enum run_left left; /* nothing: what follows is not open; policy: there are no members */
    struct backend *backend;
    struct batch *batch;
    struct workspace *workspace;
    struct members members;
    int live; /* trials that may be so at a time */
    struct schedule schedule;
    struct live_view view;
    struct waves waves;
    struct resume_setting resume; /* what a trial is made on */
    struct observations seen; /* of heads whose trials have ended in this process */
    struct step_feed feed;
    struct cost cost;
    double noted, noted_waited; /* clock, and seconds of waiting, when it was noted last */
    int trials_told; /* of a group, that the device's memory holds, as it was said last */
    int64_t rows_told; /* of a piece of a batch, likewise */
};

/* ---- opening ---- */

/* What heads read and learn from, and where they are computed. */
static int create_batch(struct training *training, struct error *error)
{
    const struct sweep *sweep = training->sweep;
    const struct stores *stores = &training->stores;
    const int64_t rows = (int64_t)sweep->sequences * stores->rows;
    if (trials_create_batch(sweep, stores, training->backend, sweep->sequences, &training->batch, error) < 0 ||
        workspace_create(training->backend, sweep->sequences, stores->rows, stores->config.hidden,
                         training->live, &training->workspace, error) < 0)
        return -1;
    training->trials_told = training->workspace->trials;
    training->rows_told = rows;
    return 0;
}

static int open_device(struct training *training, struct error *error)
{
    if (device_open(&training->options->device, &training->backend, error) < 0 ||
        run_identity_check_device(&training->run, training->backend, error) < 0)
        return -1;
    cost_watch(&training->cost, training->backend);
    const struct sweep *sweep = training->sweep;
    const enum math math = backend_math(training->backend);
    const struct bounds bounds = {.most = training->options->max_parallel,
                                  .memory = training->options->memory,
                                  .device = training->cost.device_memory};
    if (foretell_live(sweep, &training->stores, math, &bounds, &training->live, error) < 0 ||
        foretell_check(sweep, &training->stores, math, training->live, training->steps,
                       training->cost.device_memory, error) < 0)
        return -1;
    training->schedule = schedule_create(training->steps, sweep->halving, training->live);
    return create_batch(training, error);
}

/* Which gates are asked for. */
static int read_gates(struct training *training, struct error *error)
{
    struct gate_wish *wish = &training->sweep->gates;
    if (run_is_part(&training->run)) {
        *wish = (struct gate_wish){0}; /* they are made when parts are collected */
        return 0;
    }
    return gate_wish_keep(json_object_get(training->run.facts, "gates"), wish, error);
}

/* What the run has to do still. other: another policy is asked for; more: more steps. */
static enum run_left find_left(const struct training *training, bool other, bool more)
{
    struct error ignored; /* a process that was killed may have left checkpoints; they do no harm */
    if (!run_is_finished(&training->run, training->sweep))
        return LEFT_TRAINING;
    members_remove_checkpoints(&training->run, training->sweep, &ignored);
    if (more)
        return LEFT_TRAINING;
    if (other || !run_has_results(&training->run))
        return LEFT_POLICY;
    return run_has_gates(&training->run, training->sweep, &training->stores.config) ? LEFT_NOTHING : LEFT_GATES;
}

/* The same of a part, or of parts that are collected. Without trials a part needs no device. */
static int find_left_of_parts(struct training *training, struct error *error)
{
    struct run_folder *run = &training->run;
    const struct sweep *sweep = training->sweep;
    training->left = LEFT_POLICY;
    if (run->share.collect)
        return run_folder_keep_sweep(run, sweep->text, sweep->size, error) < 0 ||
                       parts_check(run, sweep, error) < 0 || parts_gather(run, sweep, error) < 0
                   ? -1
                   : 0;
    training->left = parts_is_done(run, sweep) ? LEFT_NOTHING : LEFT_TRAINING;
    return 0;
}

static int open_run(struct training *training, struct error *error)
{
    const struct training_options *options = training->options;
    struct sweep *sweep = training->sweep;
    if (stores_open(options->store, options->stores, &training->stores, error) < 0)
        return -1;
    const uint64_t sequences = training->stores.sequences[SPLIT_TRAIN];
    if (sweep_take_stores(sweep, &training->stores, error) < 0 ||
        gates_check(&training->stores, &sweep->gates, error) < 0)
        return -1;
    struct run_folder *run = &training->run;
    if (run_folder_open_share(options->out, &options->share, run, error) < 0)
        return -1;
    if (run_is_part(run)) {
        sweep_take_part(sweep, run->share.part);
        if (sweep->halving > 0 && run->share.part.count > 1)
            cli_say("halving compares the trials of this part only; a run in one process may keep others");
    }
    training->steps = sweep_steps(sweep, sequences);
    bool more = false, other = false;
    if (run_identity_check(&training->run, &training->stores, sweep, error) < 0 ||
        run_identity_keep_vocabulary(&training->run, sweep, error) < 0 ||
        run_identity_check_steps(&training->run, training->steps, &more, error) < 0 ||
        wish_read(&options->wish, sweep, &training->run, &training->stores, &training->wish, &other, error) <
            0 ||
        read_gates(training, error) < 0)
        return -1;
    if (run_is_whole(run))
        training->left = find_left(training, other, more);
    else if (find_left_of_parts(training, error) < 0)
        return -1;
    if (training->left == LEFT_NOTHING || sweep->trials == 0)
        return 0;
    if (options->share.part.count > 0 && run_is_whole(run))
        return error_set_kind(error, ERROR_USAGE, "%s: this run has ended, and is given more without --part",
                              options->out);
    if (open_device(training, error) < 0)
        return -1;
    if (training->left != LEFT_TRAINING)
        return 0;
    json_object_del(run->facts, "result");
    return run_folder_begin(run, error) < 0 ? -1 : run_folder_keep_sweep(run, sweep->text, sweep->size, error);
}

int training_open(const struct training_options *options, struct sweep *sweep, struct training **training,
                  struct error *error)
{
    struct training *opened;
    *training = NULL;
    if (array_alloc(&opened, 1, error) < 0)
        return -1;
    opened->options = options;
    opened->sweep = sweep;
    opened->run.lock = -1;
    opened->cost = cost_start();
    opened->threads = options->device.backend.threads > 0 ? options->device.backend.threads : processor_count();
    if (open_run(opened, error) < 0) {
        training_close(opened);
        return -1;
    }
    *training = opened;
    return 0;
}

void training_close(struct training *training)
{
    if (!training)
        return;
    step_feed_close(&training->feed);
    waves_close(&training->waves);
    members_close(&training->members);
    observations_free(&training->seen);
    free(training->wish.exit);
    workspace_destroy(training->workspace);
    batch_destroy(training->batch);
    backend_close(training->backend);
    stores_close(&training->stores);
    run_folder_close(&training->run);
    free(training);
}

enum run_left training_left(const struct training *training)
{
    return training->left;
}

const struct run_folder *training_run(const struct training *training)
{
    return &training->run;
}

const struct model_config *training_model(const struct training *training)
{
    return &training->stores.config;
}

/* ---- the trials ---- */

static struct first_values_setting first_values_setting(const struct training *training)
{
    return (struct first_values_setting){.stores = &training->stores,
                                         .backend = training->backend,
                                         .seed = training->sweep->seed,
                                         .threads = training->threads,
                                         .resume = &training->resume};
}

/* What each trial has come to; and their regressions, which all waves share. */
static int open_members(struct training *training, struct error *error)
{
    const struct first_values_setting first = first_values_setting(training);
    training->resume = (struct resume_setting){.run = &training->run,
                                               .model = &training->stores.config,
                                               .backend = training->backend,
                                               .steps = training->steps};
    const struct waves_setting waves = {.schedule = training->schedule,
                                        .members = &training->members,
                                        .resume = &training->resume,
                                        .patience = training->sweep->patience};
    if (members_open(&training->resume, training->sweep, training->stores.fingerprint, &training->members,
                     error) < 0 ||
        members_regress(&training->members, &first, error) < 0)
        return -1;
    return waves_open(&waves, &training->waves, error);
}

/* Of the members that are trained. */
static int use_taps(struct training *training, struct error *error)
{
    const struct members *members = &training->members;
    struct tap *taps;
    int count = 0;
    if (array_alloc(&taps, HEAD_TAPS * members->count, error) < 0)
        return -1;
    for (int i = 0; i < members->count; i++) {
        if (members->member[i].state == MEMBER_TRAINING)
            count += head_spec_taps(&members->member[i].config->spec, taps + count);
    }
    batch_use(training->batch, taps, count);
    free(taps);
    return 0;
}

/* The trials of the next wave to where they were, or to their first values. */
static int open_wave(struct training *training, struct wave *wave, struct error *error)
{
    const struct first_values_setting first = first_values_setting(training);
    const double started = clock_seconds();
    if (waves_next(&training->waves, wave, error) < 0)
        return -1;
    if (wave->count == 0)
        return 0;
    if (use_taps(training, error) < 0 || members_set_first_values(&training->members, &first, error) < 0)
        return -1;
    members_charge(&training->members, -1, clock_seconds() - started, 0);
    if (training->schedule.rungs > 0 || wave->count < training->sweep->trials)
        cli_say("%d trial%s to step %" PRId64 " of %" PRId64, wave->count, wave->count == 1 ? "" : "s",
                wave->step, training->steps);
    return members_save(&training->members, error);
}

/* What the device's memory has not held since this was said last. */
static void tell_memory(struct training *training)
{
    const int trials = training->workspace->trials;
    const int64_t rows = training->workspace->rows;
    if (trials < training->trials_told)
        cli_say("device memory does not hold %d trials together; they are computed by %d at a time",
                training->trials_told, trials);
    if (rows < training->rows_told)
        cli_say("device memory does not hold a trial's %" PRId64 " rows together; they are computed by %" PRId64
                " at a time, which is slower",
                training->rows_told, rows);
    training->trials_told = trials;
    if (rows < training->rows_told)
        training->rows_told = rows;
}

static int64_t tokens_after(const struct training *training, int64_t step)
{
    return step * training->sweep->sequences * training->stores.rows;
}

/* ---- evaluation ---- */

static struct evaluation_setting evaluation_setting(const struct training *training)
{
    return (struct evaluation_setting){
        .stores = &training->stores,
        .batch = training->batch,
        .workspace = training->workspace,
        .sequences = training->sweep->sequences,
        .threads = training->threads,
        .seed = training->sweep->seed,
        .sample = training->sweep->sample,
    };
}

/* Those whose turn it is after `step`; after the last one they end. */
static int measure(struct training *training, int64_t step, struct error *error)
{
    const struct evaluation_setting evaluation = evaluation_setting(training);
    const struct held_out held_out = {.evaluation = &evaluation,
                                      .run = &training->run,
                                      .members = &training->members,
                                      .steps = training->steps,
                                      .every = training->sweep->evaluate,
                                      .schedule = &training->schedule,
                                      .patience = training->sweep->patience,
                                      .tokens = tokens_after(training, 1),
                                      .seen = &training->seen};
    int result = held_out_measure(&held_out, step, error);
    tell_memory(training);
    return result;
}

/* ---- steps ---- */

/* What a trial's step came to, at the end of which its step has moved on or the trial has failed. */
static int keep_step(const struct training *training, struct member *member, const struct trial_result *result,
                     struct error *error)
{
    if (member->trial->failed)
        return member_fail(member, &member->trial->reason, error);
    return member_keep_step(member, result, tokens_after(training, member->trial->step),
                            tokens_after(training, 1), error);
}

/* What a group's step has taken: what the results say of each, and the rest together. */
static void charge_step(struct member *const *group, int count, const struct trial_result *results,
                        double seconds)
{
    for (int t = 0; t < count; t++)
        seconds -= results[t].own + results[t].shared;
    for (int t = 0; t < count; t++) {
        group[t]->cost.own += results[t].own;
        group[t]->cost.shared += results[t].shared + seconds / count;
    }
}

/* Step `step` + 1 of member `first`, and of those behind it that take it together with it. */
static int step_group(struct training *training, int first, int64_t step, struct error *error)
{
    const double started = clock_seconds();
    const int most = training->workspace->trials;
    struct member *group[TRIALS_TOGETHER];
    struct trial *trials[TRIALS_TOGETHER];
    struct trial_result results[TRIALS_TOGETHER] = {0};
    int count = 0;
    for (int i = first; i < training->members.count && count < most; i++) {
        struct member *member = &training->members.member[i];
        if (member_is_at(member, step) && (i == first || trial_joins(member->trial, trials[0]))) {
            group[count] = member;
            trials[count++] = member->trial;
        }
    }
    if (trials_step(trials, count, training->workspace, training->batch, training->steps, results, error) < 0)
        return -1;
    charge_step(group, count, results, clock_seconds() - started);
    for (int t = 0; t < count; t++) {
        if (!trials[t]->starved && keep_step(training, group[t], &results[t], error) < 0)
            return -1;
    }
    return 0;
}

/* What becomes of the trials that memory does not hold. */
static int judge_starved(struct training *training, struct error *error)
{
    struct members *members = &training->members;
    struct trial **trials;
    if (array_alloc(&trials, members->count, error) < 0)
        return -1;
    const int count = members_trials(members, trials);
    int result = trials_judge(trials, count, training->workspace, training->batch, error);
    free(trials);
    for (int i = 0; i < members->count && result == 0; i++) {
        struct member *member = &members->member[i];
        if (member->state == MEMBER_TRAINING && member->trial->failed)
            result = member_fail(member, &member->trial->reason, error);
    }
    return result;
}

/* Step `step` + 1 of the trials that have done `step`. */
static int take_step(struct training *training, int64_t step, struct error *error)
{
    struct members *members = &training->members;
    const double started = clock_seconds(), waited = step_feed_waited(&training->feed);
    const struct feed_batch *next;
    if (step_feed_next(&training->feed, step, members_teaching(members, -1), &next, error) < 0 ||
        batch_load(training->batch, next, members_teaching(members, step), error) < 0)
        return -1;
    members_charge(members, step, clock_seconds() - started, step_feed_waited(&training->feed) - waited);
    for (int i = 0; i < members->count; i++) {
        if (member_is_at(&members->member[i], step) && step_group(training, i, step, error) < 0)
            return -1;
    }
    tell_memory(training);
    return judge_starved(training, error) < 0 ? -1 : members_settle(members, error);
}

/* What training took so far. */
static int note_cost(struct training *training, struct error *error)
{
    const double waited = step_feed_waited(&training->feed), now = clock_seconds();
    training->cost.stalled += waited - training->noted_waited;
    training->cost.trained += now - training->noted;
    training->noted_waited = waited;
    training->noted = now;
    return cost_note(&training->cost, &training->run, error);
}

/* Checkpoints; and the cost of the steps that they count, as whoever is killed comes back to them. */
static int save(struct training *training, struct error *error)
{
    if (run_folder_check_claim(&training->run, error) < 0 || members_save(&training->members, error) < 0)
        return -1;
    const double started = clock_seconds();
    const int result = note_cost(training, error);
    members_charge(&training->members, -1, clock_seconds() - started, 0);
    return result;
}

static int stop(struct training *training, int64_t step, struct error *error)
{
    if (save(training, error) < 0)
        return error->kind == ERROR_INTERRUPTED
                   ? error_prefix(error, "stopped after step %" PRId64 " of %" PRId64, step, training->steps)
                   : -1;
    return error_set_kind(error, ERROR_INTERRUPTED,
                          "stopped after step %" PRId64 " of %" PRId64 "; the same command goes on from there",
                          step, training->steps);
}

/* ---- the run ---- */

/* The members that are open, to `last`. */
static int train_steps(struct training *training, int64_t last, struct error *error)
{
    for (;;) {
        const int64_t step = members_step(&training->members);
        if (step < 0)
            return 0; /* all have ended or failed */
        if (measure(training, step, error) < 0)
            return -1;
        live_view_update(&training->view);
        if (cli_interrupted())
            return stop(training, step, error);
        if (step == last)
            return 0;
        if (members_step(&training->members) != step)
            continue; /* those that were at it have ended or failed */
        if (take_step(training, step, error) < 0)
            return error->kind == ERROR_INTERRUPTED ? stop(training, step, error) : -1;
        if (((step + 1) % training->sweep->checkpoint == 0 || step + 1 == last) && save(training, error) < 0)
            return -1;
        live_view_update(&training->view);
    }
}

static int train_wave(struct training *training, int64_t last, struct error *error)
{
    training->feed.steps = last;
    int result = train_steps(training, last, error);
    if (result == 0) /* checkpoints, which need not believe their metrics, will be removed */
        result = members_sync(&training->members, error);
    step_feed_close(&training->feed);
    return result;
}

static int train_waves(struct training *training, struct error *error)
{
    struct wave wave;
    do {
        if (open_wave(training, &wave, error) < 0 ||
            (wave.count > 0 && train_wave(training, wave.step, error) < 0))
            return -1;
    } while (wave.count > 0);
    batch_use(training->batch, training->batch->tap, training->batch->taps);
    return 0;
}

int training_train(struct training *training, struct error *error)
{
    struct error ignored;
    if (training->sweep->trials == 0) /* of a part */
        return 0;
    training->noted = clock_seconds();
    if (open_members(training, error) < 0)
        return -1;
    training->feed = (struct step_feed){.stores = &training->stores,
                                        .batch = training->batch,
                                        .seed = training->sweep->seed,
                                        .sequences = training->sweep->sequences,
                                        .threads = training->threads};
    const struct evaluation_setting evaluation = evaluation_setting(training);
    const int64_t sample = (int64_t)evaluation_sample(&evaluation),
                  split = (int64_t)evaluation_split(&evaluation);
    const struct live_work work = {.step = tokens_after(training, 1),
                                   .every = training->sweep->evaluate,
                                   .sample = sample * training->stores.rows,
                                   .end = (split - sample) * training->stores.rows};
    live_view_start(&training->view, &training->members, &training->schedule, &work);
    const int result = train_waves(training, error);
    live_view_finish(&training->view);
    if (note_cost(training, result < 0 ? &ignored : error) < 0) /* the first failure is what is told */
        return -1;
    return result;
}

/* Of a part: its heads and metrics are all that it is. */
static int finish_part(struct training *training, struct error *error)
{
    struct run_folder *run = &training->run;
    return cost_note(&training->cost, run, error) < 0 || parts_end(run, training->sweep, error) < 0
               ? -1
               : members_remove_checkpoints(run, training->sweep, error);
}

int training_finish(struct training *training, struct error *error)
{
    if (run_is_part(&training->run))
        return finish_part(training, error);
    const struct evaluation_setting evaluation = evaluation_setting(training);
    const struct results_setting setting = {.run = &training->run,
                                            .sweep = training->sweep,
                                            .evaluation = &evaluation,
                                            .seen = &training->seen,
                                            .wish = &training->wish,
                                            .cost = &training->cost};
    return training->left == LEFT_GATES ? results_add_gates(&setting, error) : results_write(&setting, error);
}
