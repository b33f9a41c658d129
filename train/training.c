#include "train/training.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/progress.h"
#include "train/members.h"
#include "train/metrics.h"

/* What the device's memory has not held since this was said last. */
static void tell_memory(struct training *training)
{
    const int trials = workspace_trials(training->workspace);
    const int64_t rows = workspace_rows(training->workspace);
    if (trials < training->trials_told)
        cli_say("device memory does not hold %d trials together; they go by %d", training->trials_told, trials);
    if (rows < training->rows_told)
        cli_say("device memory does not hold a trial's %" PRId64 " rows together; they go by %" PRId64
                ", which is slower",
                training->rows_told, rows);
    training->trials_told = trials;
    if (rows < training->rows_told)
        training->rows_told = rows;
}

static int64_t tokens_after(const struct training *training, int64_t step)
{
    return step * training->sweep->sequences * training->stores.rows;
}

/* Steps that every trial has done; -1 when none is left. */
static int64_t common_step(const struct training *training)
{
    int64_t least = -1;
    for (int i = 0; i < training->sweep->trials; i++) {
        const struct trial *trial = training->member[i].trial;
        if (trial && (least < 0 || trial->step < least))
            least = trial->step;
    }
    return least;
}

/* ---- evaluation ---- */

static bool evaluation_is_due(const struct training *training, const struct trial *trial, int64_t step)
{
    const int64_t every = training->sweep->evaluate;
    const bool wanted = step == 0 || step == training->steps || (every > 0 && step % every == 0);
    return wanted && trial && trial->step == step && trial->evaluated < step;
}

/* As its trial is marked. */
static int fail_member(struct training *training, int index, struct error *error)
{
    const struct error reason = training->member[index].trial->reason;
    return member_fail(training, index, &reason, error);
}

static int keep_evaluation(struct training *training, int index, const struct evaluation *result,
                           struct error *error)
{
    struct member *member = &training->member[index];
    struct trial *trial = member->trial;
    if (trial->failed)
        return fail_member(training, index, error);
    if (result->kl < trial->best && member_keep_head(training, index, error) < 0)
        return -1;
    trial->best = fmin(trial->best, result->kl);
    trial->evaluated = trial->step;
    return metrics_write_evaluation(member->metrics, trial->step, tokens_after(training, trial->step), result,
                                    error);
}

/* Evaluates the trials whose turn it is after `step`; an evaluation that is interrupted is none. */
static int evaluate_due(struct training *training, int64_t step, struct error *error)
{
    const int trials = training->sweep->trials;
    const struct evaluation_setting setting = training_evaluation(training);
    struct trial **due = NULL;
    struct evaluation *results = NULL, full;
    int *index = NULL, count = 0, result = -1;
    bool complete;
    if (array_alloc(&due, trials, error) < 0 || array_alloc(&results, trials, error) < 0 ||
        array_alloc(&index, trials, error) < 0)
        goto done;
    for (int i = 0; i < trials; i++) {
        if (evaluation_is_due(training, training->member[i].trial, step)) {
            index[count] = i;
            due[count++] = training->member[i].trial;
        }
    }
    result = count > 0 ? evaluate_trials(&setting, due, count, results, &full, NULL, &complete, error) : 0;
    tell_memory(training);
    if (result == 0 && count > 0 && complete) {
        /* Before the lines: a trial that has them is not evaluated again. */
        result = run_folder_note(&training->run, "full_loss", json_real(full.loss), error);
        if (result == 0)
            result = run_folder_save(&training->run, error);
        for (int i = 0; i < count && result == 0; i++)
            result = keep_evaluation(training, index[i], &results[i], error);
    }
done:
    free(due);
    free(results);
    free(index);
    return result;
}

/* ---- steps ---- */

static void close_feed(struct training *training)
{
    if (training->feed)
        training->stalled += feed_waiting(training->feed);
    feed_close(training->feed);
    training->feed = NULL;
}

/* What the trials that have not failed are taught by, whichever step they are at. */
static unsigned teaching(const struct training *training)
{
    unsigned teach = TEACH_NOTHING;
    for (int i = 0; i < training->sweep->trials; i++) {
        const struct trial *trial = training->member[i].trial;
        if (trial)
            teach |= trial_teaching(trial);
    }
    return teach;
}

/* The batch of a step. The feed goes on by itself, but for when the trials that were behind have failed. */
static int next_batch(struct training *training, int64_t step, const struct feed_batch **next,
                      struct error *error)
{
    const uint64_t sequences = (uint64_t)training->sweep->sequences;
    struct feed_plan plan = {
        .split = SPLIT_TRAIN,
        .shuffled = true,
        .seed = training->sweep->seed,
        .sequences = training->sweep->sequences,
        .first = (uint64_t)step * sequences,
        .end = (uint64_t)training->steps * sequences,
    };
    if (training->feed && training->feed_step != step)
        close_feed(training);
    if (!training->feed) {
        batch_plan(training->batch, teaching(training), &plan);
        if (feed_open(&training->stores, &plan, training->threads, &training->feed, error) < 0)
            return -1;
        training->feed_step = step;
    }
    training->feed_step++;
    return feed_next(training->feed, next, error);
}

static bool is_at(const struct training *training, int index, int64_t step)
{
    const struct trial *trial = training->member[index].trial;
    return trial && trial->step == step && !trial->starved;
}

/* What a trial's step came to, at the end of which its step has moved on or the trial has failed. */
static int keep_step(struct training *training, int index, const struct trial_result *result, double seconds,
                     struct error *error)
{
    const struct member *member = &training->member[index];
    const struct trial *trial = member->trial;
    if (trial->failed)
        return fail_member(training, index, error);
    return metrics_write_step(member->metrics, trial->step, tokens_after(training, trial->step), result,
                              (double)tokens_after(training, 1) / (seconds > 0 ? seconds : 1e-9),
                              training->stalled + feed_waiting(training->feed), error);
}

/* Step `step` + 1 of trial `first`, and of those behind it that take it together with it. */
static int step_group(struct training *training, int first, int64_t step, struct error *error)
{
    const double started = clock_seconds();
    const int most = workspace_trials(training->workspace);
    struct trial *trials[TRIALS_TOGETHER];
    struct trial_result results[TRIALS_TOGETHER];
    int index[TRIALS_TOGETHER], count = 0;
    for (int i = first; i < training->sweep->trials && count < most; i++) {
        struct trial *trial = training->member[i].trial;
        if (is_at(training, i, step) && (i == first || trial_joins(trial, trials[0]))) {
            index[count] = i;
            trials[count++] = trial;
        }
    }
    if (trials_step(trials, count, training->workspace, training->batch, training->steps, results, error) < 0)
        return -1;
    const double seconds = clock_seconds() - started;
    for (int t = 0; t < count; t++) {
        if (!trials[t]->starved && keep_step(training, index[t], &results[t], seconds, error) < 0)
            return -1;
    }
    return 0;
}

/* What becomes of the trials that memory does not hold. */
static int judge_starved(struct training *training, struct error *error)
{
    struct trial **active;
    if (array_alloc(&active, training->sweep->trials, error) < 0)
        return -1;
    const int count = training_active(training, active);
    int result = trials_judge(active, count, training->workspace, training->batch, error);
    free(active);
    for (int i = 0; i < training->sweep->trials && result == 0; i++) {
        const struct trial *trial = training->member[i].trial;
        if (trial && trial->failed)
            result = fail_member(training, i, error);
    }
    return result;
}

/* Step `step` + 1 of the trials that have done `step`. */
static int take_step(struct training *training, int64_t step, struct error *error)
{
    const struct feed_batch *next;
    unsigned teach = TEACH_NOTHING;
    for (int i = 0; i < training->sweep->trials; i++) {
        if (is_at(training, i, step))
            teach |= trial_teaching(training->member[i].trial);
    }
    if (next_batch(training, step, &next, error) < 0 || batch_load(training->batch, next, teach, error) < 0)
        return -1;
    for (int i = 0; i < training->sweep->trials; i++) {
        if (is_at(training, i, step) && step_group(training, i, step, error) < 0)
            return -1;
    }
    tell_memory(training);
    return judge_starved(training, error);
}

static int stop(struct training *training, int64_t step, struct error *error)
{
    if (members_save(training, error) < 0)
        return -1;
    return error_set_kind(error, ERROR_INTERRUPTED,
                          "stopped after step %" PRId64 " of %" PRId64 "; the same command goes on from there",
                          step, training->steps);
}

/* Evaluations that come before that step is trained. */
static int64_t evaluations_before(const struct training *training, int64_t step)
{
    const int64_t every = training->sweep->evaluate;
    return step == 0 ? 0 : 1 + (every > 0 ? (step - 1) / every : 0);
}

/* Tokens that steps and evaluations have gone through. */
static uint64_t work_after(const struct training *training, int64_t step, int64_t evaluations)
{
    const uint64_t held_out = training->stores.sequences[SPLIT_HELD_OUT] * (uint64_t)training->stores.rows;
    return (uint64_t)tokens_after(training, step) + (uint64_t)evaluations * held_out;
}

static int train_steps(struct training *training, struct progress *progress, struct error *error)
{
    for (;;) {
        const int64_t step = common_step(training);
        if (step < 0)
            return 0; /* all are done or have failed: results say so */
        if (evaluate_due(training, step, error) < 0)
            return -1;
        if (cli_interrupted())
            return stop(training, step, error);
        if (step == training->steps)
            return 0;
        if (take_step(training, step, error) < 0)
            return error->kind == ERROR_INTERRUPTED ? stop(training, step, error) : -1;
        if ((step + 1) % training->sweep->checkpoint == 0 || step + 1 == training->steps) {
            if (members_save(training, error) < 0)
                return -1;
        }
        progress_update(progress, work_after(training, step + 1, evaluations_before(training, step + 1)));
    }
}

int training_train(struct training *training, struct error *error)
{
    struct progress progress;
    struct error ignored;
    if (members_prepare(training, error) < 0)
        return -1;
    progress_start(&progress, "train", "tokens",
                   work_after(training, training->steps, evaluations_before(training, training->steps) + 1));
    const int64_t first = common_step(training);
    progress.first = first > 0 ? work_after(training, first, evaluations_before(training, first)) : 0;
    int result = train_steps(training, &progress, error);
    if (result == 0) /* checkpoints, which need not believe their metrics, will be removed */
        result = members_sync(training, error);
    progress_finish(&progress);
    close_feed(training);
    if (result < 0)
        training_note_cost(training, &ignored); /* the first failure is what is told */
    return result;
}
