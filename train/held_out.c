#include "train/held_out.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/head/draft.h"

/* The members that are measured, with what is known of them. */
struct measured {
    struct member **member; /* [count] */
    struct trial **trial; /* [count] as they are measured */
    struct evaluation **sums; /* [count][split] */
    struct evaluation *full, *values; /* [split]; what `sums` points into */
    struct observed *observed; /* [most] of each; NULL: nothing is looked at */
    int count, most;
};

/* More than that is not looked at while trials end. */
#define OBSERVED_BYTES (64 << 20)

static void measured_free(struct measured *measured)
{
    for (int i = 0; measured->observed && i < measured->most; i++)
        observed_free(&measured->observed[i]);
    free(measured->observed);
    free(measured->member);
    free(measured->trial);
    free(measured->sums);
    free(measured->full);
    free(measured->values);
}

/* What is seen of a head when its trial ends is what the policy will ask for. */
static int prepare_to_observe(struct measured *measured, const struct held_out *held_out, struct error *error)
{
    const struct stores *stores = held_out->evaluation->stores;
    const double tokens = (double)evaluation_split(held_out->evaluation) * stores->rows;
    if (tokens * measured->most * (sizeof(struct evidence) + sizeof(bool)) > OBSERVED_BYTES)
        return 0;
    if (array_alloc(&measured->observed, measured->most, error) < 0)
        return -1;
    for (int i = 0; i < measured->most; i++) {
        if (observed_create(stores, &measured->observed[i], error) < 0)
            return -1;
    }
    return 0;
}

static int measured_allocate(struct measured *measured, const struct held_out *held_out, struct error *error)
{
    const int most = held_out->members->count;
    const uint64_t split = evaluation_split(held_out->evaluation);
    measured->most = most;
    if (array_alloc(&measured->member, most, error) < 0 || array_alloc(&measured->trial, most, error) < 0 ||
        array_alloc(&measured->sums, most, error) < 0 || array_alloc(&measured->full, split, error) < 0 ||
        array_alloc(&measured->values, (uint64_t)most * split, error) < 0)
        return -1;
    for (int i = 0; i < most; i++)
        measured->sums[i] = measured->values + (uint64_t)i * split;
    return 0;
}

/* The trials of the members from `from` on, at the places [first, end). The members share what it takes. */
static int measure(const struct held_out *held_out, struct measured *measured, int from, uint64_t first,
                   uint64_t end, bool *complete, struct error *error)
{
    const double started = clock_seconds();
    const int count = measured->count - from;
    const struct evaluation_sums sums = {.first = first,
                                         .end = end,
                                         .trial = measured->sums + from,
                                         .full = measured->full,
                                         .observed = measured->observed ? measured->observed + from : NULL};
    *complete = true;
    if (count == 0)
        return 0;
    for (int i = from; i < measured->count; i++)
        measured->trial[i] = measured->member[i]->trial;
    int result = evaluate_places(held_out->evaluation, measured->trial + from, count, &sums, complete, error);
    for (int i = from; i < measured->count; i++)
        measured->member[i]->cost.shared += (clock_seconds() - started) / count;
    return result;
}

static int64_t tokens_of(const struct held_out *held_out, uint64_t sequences)
{
    return (int64_t)sequences * held_out->evaluation->stores->rows;
}

/* The full model's loss, on the first `count` places. */
static int note_full_model(const struct held_out *held_out, const struct measured *measured, uint64_t count,
                           struct error *error)
{
    const struct evaluation full = evaluation_mean(held_out->evaluation, measured->full, count);
    const bool whole = count == evaluation_split(held_out->evaluation);
    const double started = clock_seconds();
    if (run_folder_note(held_out->run, whole ? "full_loss" : "sample_full_loss", json_real(full.loss), error) <
            0 ||
        run_folder_save(held_out->run, error) < 0)
        return -1;
    for (int i = 0; i < measured->count; i++)
        measured->member[i]->cost.shared += (clock_seconds() - started) / measured->count;
    return 0;
}

/* ---- on the sample ---- */

static bool is_due(const struct held_out *held_out, const struct member *member, int64_t step)
{
    const bool wanted = step == 0 || step == held_out->steps || schedule_is_rung(held_out->schedule, step) ||
                        (held_out->every > 0 && step % held_out->every == 0);
    return wanted && member_is_at(member, step) && member->evaluated < step;
}

/* Those whose turn it is, as they are now. */
static int measure_due(const struct held_out *held_out, int64_t step, struct measured *measured, bool *complete,
                       struct error *error)
{
    const uint64_t sample = evaluation_sample(held_out->evaluation);
    *complete = true;
    for (int i = 0; i < held_out->members->count; i++) {
        struct member *member = &held_out->members->member[i];
        if (is_due(held_out, member, step))
            measured->member[measured->count++] = member;
    }
    if (measured->count == 0)
        return 0;
    if (measure(held_out, measured, 0, 0, sample, complete, error) < 0)
        return -1;
    /* Before the lines: a trial that has them is not evaluated again. */
    if (!*complete || note_full_model(held_out, measured, sample, error) < 0)
        return *complete ? -1 : 0;
    for (int i = 0; i < measured->count; i++) {
        struct member *member = measured->member[i];
        const struct evaluation mean = evaluation_mean(held_out->evaluation, measured->sums[i], sample);
        if (member->trial->failed
                ? member_fail(member, &member->trial->reason, error) < 0
                : member_keep_evaluation(member, &mean, (int64_t)sample, step * held_out->tokens,
                                         tokens_of(held_out, sample), error) < 0)
            return -1;
    }
    return 0;
}

/* ---- on the whole split ---- */

static void swap(struct measured *measured, int i, int j)
{
    struct member *member = measured->member[i];
    struct evaluation *sums = measured->sums[i];
    measured->member[i] = measured->member[j];
    measured->sums[i] = measured->sums[j];
    measured->member[j] = member;
    measured->sums[j] = sums;
    if (measured->observed) {
        const struct observed observed = measured->observed[i];
        measured->observed[i] = measured->observed[j];
        measured->observed[j] = observed;
    }
}

/* True for those that have come to the end of their training at `step`, and were evaluated there. */
static bool has_ended(const struct held_out *held_out, const struct member *member, int64_t step)
{
    return member_is_at(member, step) && member->evaluated == step &&
           (step == held_out->steps || member_has_stalled(member, held_out->patience));
}

/* Leaves those that have ended: first those of whose kept heads the sample is known, then the others as their kept
 * heads are. Returns where the others begin. */
static int gather_ended(const struct held_out *held_out, int64_t step, struct measured *measured)
{
    int known = 0;
    for (int i = 0; i < measured->count; i++) {
        const struct member *member = measured->member[i];
        if (has_ended(held_out, member, step) && member->best_step == step)
            swap(measured, i, known++);
    }
    measured->count = known;
    for (int i = 0; i < held_out->members->count; i++) {
        struct member *member = &held_out->members->member[i];
        bool there = !has_ended(held_out, member, step);
        for (int k = 0; k < known; k++)
            there = there || measured->member[k] == member;
        if (!there)
            measured->member[measured->count++] = member;
    }
    return known;
}

/* Ends a member, of which `read` tokens were read. Where the sample is the split, it is known already what its
 * kept head is worth. seen: its kept head was looked at. */
static int end(const struct held_out *held_out, const struct measured *measured, int index, int64_t step,
               int64_t read, bool seen, struct error *error)
{
    struct member *member = measured->member[index];
    const uint64_t split = evaluation_split(held_out->evaluation);
    const struct evaluation whole = evaluation_sample(held_out->evaluation) < split
                                        ? evaluation_mean(held_out->evaluation, measured->sums[index], split)
                                        : member->best;
    if (member->trial->failed)
        return member_fail(member, &member->trial->reason, error);
    if (member_end(member, &whole, (int64_t)split, step * held_out->tokens, read, error) < 0)
        return -1;
    if (step < held_out->steps)
        cli_say("%s ends early, after step %" PRId64 " of %" PRId64
                ": its last %d evaluations brought no lower KL (patience)",
                member->config->id, step, held_out->steps, held_out->patience);
    return seen && measured->observed && !head_kind_is_draft(member->config->spec.kind)
               ? observations_keep(held_out->seen, member->config, metrics_as_read(&whole).kl,
                                   &measured->observed[index], error)
               : 0;
}

/* The members that have come to their end after `step` are measured as their kept heads are. */
static int measure_ended(const struct held_out *held_out, int64_t step, struct measured *measured,
                         bool *complete, struct error *error)
{
    const struct evaluation_setting *setting = held_out->evaluation;
    const uint64_t split = evaluation_split(setting), sample = evaluation_sample(setting);
    const int known = gather_ended(held_out, step, measured);
    *complete = true;
    if (measured->count == 0)
        return 0;
    if (sample < split) {
        for (int i = known; i < measured->count; i++) {
            struct member *member = measured->member[i];
            if (member->best_step != step &&
                member_restore_head(member, &setting->stores->config, setting->batch->backend, error) < 0)
                return -1;
        }
        if (measure(held_out, measured, known, 0, sample, complete, error) < 0 || !*complete)
            return *complete ? -1 : 0;
        if (measure(held_out, measured, 0, sample, split, complete, error) < 0 || !*complete)
            return *complete ? -1 : 0;
        if (note_full_model(held_out, measured, split, error) < 0)
            return -1;
    }
    for (int i = 0; i < measured->count; i++) {
        const int64_t read = sample < split ? tokens_of(held_out, i < known ? split - sample : split) : 0;
        if (end(held_out, measured, i, step, read, sample < split || i < known, error) < 0)
            return -1;
    }
    return 0;
}

/* Most steps bring nothing to measure, and nothing is made for those. */
static bool is_anything_due(const struct held_out *held_out, int64_t step)
{
    for (int i = 0; i < held_out->members->count; i++) {
        const struct member *member = &held_out->members->member[i];
        if (is_due(held_out, member, step) || has_ended(held_out, member, step))
            return true;
    }
    return false;
}

int held_out_measure(const struct held_out *held_out, int64_t step, struct error *error)
{
    struct measured measured = {0};
    bool complete = false;
    if (!is_anything_due(held_out, step))
        return 0;
    int result = measured_allocate(&measured, held_out, error);
    if (result == 0 && (step == held_out->steps || held_out->patience > 0))
        result = prepare_to_observe(&measured, held_out, error);
    if (result == 0)
        result = measure_due(held_out, step, &measured, &complete, error);
    if (result == 0)
        result = members_settle(held_out->members, error);
    if (result == 0 && complete)
        result = measure_ended(held_out, step, &measured, &complete, error);
    if (result == 0)
        result = members_settle(held_out->members, error);
    measured_free(&measured);
    return result;
}
