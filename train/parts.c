#include "train/parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "train/metrics.h"
#include "train/run_left.h"

/* ---- a part ---- */

bool parts_is_done(const struct run_folder *run, const struct sweep *sweep)
{
    bool done = json_is_true(run_folder_noted(run, "ended"));
    for (int i = 0; i < sweep->trials && done; i++)
        done = run_trial_is_there(run, sweep->trial[i].id);
    return done;
}

int parts_end(struct run_folder *run, const struct sweep *sweep, struct error *error)
{
    const struct sweep_part part = run->share.part;
    if (run_folder_note(run, "ended", json_true(), error) < 0 || run_folder_save(run, error) < 0)
        return -1;
    if (sweep->trials == 0)
        cli_say("part %d of %d has no trials: the sweep has fewer", part.index, part.count);
    else
        cli_say("part %d of %d has ended: %d trial%s. When all parts have, --collect makes the leaderboard, "
                "the report "
                "and the policy",
                part.index, part.count, sweep->trials, sweep->trials == 1 ? "" : "s");
    return 0;
}

/* ---- collecting: is everything there? ---- */

/* What a part has learned, or NULL: it has left no file. */
static json_t *read_learned(const struct run_folder *run, int part)
{
    struct error ignored;
    char *path = run_folder_part_path(run, part, "json", &ignored);
    json_t *learned = path && file_exists(path) ? json_read(path, &ignored) : NULL;
    free(path);
    return learned;
}

/* How far a trial that has not ended has come. */
static void tell_trial(const struct run_folder *run, const char *id)
{
    struct metrics metrics = {0};
    struct error error = {0};
    char *path = run_folder_trial_path(run, id, "metrics.jsonl", &error);
    if (!path || metrics_read(path, &metrics, &error) < 0)
        cli_say("    %s: %s", id, error.text);
    else if (metrics.failed[0])
        cli_say("    %s has failed: %s", id, metrics.failed);
    else if (run_trial_is_there(run, id))
        cli_say("    %s has ended", id);
    else if (metrics.count == 0)
        cli_say("    %s has not begun", id);
    else
        cli_say("    %s has come to step %" PRId64 " of %.0f", id, metrics.point[metrics.count - 1].step,
                run_folder_number(run, "steps"));
    metrics_free(&metrics);
    free(path);
}

/* Says what keeps a part from being collected; returns whether something does. */
static bool tell_part(const struct run_folder *run, const struct sweep *sweep, int part)
{
    struct error ignored;
    char holder[CLAIM_HOLDER_SIZE] = "";
    const struct sweep_part share = {part, run->share.part.count};
    json_t *learned = read_learned(run, part);
    char *claim = run_folder_part_path(run, part, "claim", &ignored);
    const bool held = claim && claim_is_held(claim, holder),
               ended = json_is_true(json_object_get(learned, "ended"));
    int trials = 0, missing = 0;
    for (int i = 0; i < sweep->trials; i++) {
        trials += sweep_part_has(share, i);
        missing += sweep_part_has(share, i) && !run_trial_is_there(run, sweep->trial[i].id);
    }
    const bool lacks = trials > 0 && (held || !ended || missing > 0);
    if (lacks)
        cli_say("part %d of %d %s%s; %d of its %d trials %s missing:", part, share.count,
                held      ? "is at work: "
                : learned ? "was stopped"
                          : "has not begun",
                holder, missing, trials, missing == 1 ? "is" : "are");
    for (int i = 0; i < sweep->trials && lacks; i++) {
        if (sweep_part_has(share, i))
            tell_trial(run, sweep->trial[i].id);
    }
    json_decref(learned);
    free(claim);
    return lacks;
}

int parts_check(const struct run_folder *run, const struct sweep *sweep, struct error *error)
{
    int lacking = 0, first = -1;
    for (int part = 0; part < run->share.part.count; part++) {
        if (tell_part(run, sweep, part)) {
            first = first < 0 ? part : first;
            lacking++;
        }
    }
    if (lacking == 0)
        return 0;
    return error_set(
        error,
        "%s: %d of %d parts have not ended, so nothing is made of the run. Give --part %d/%d instead of "
        "--collect to go on with %s",
        run->path, lacking, run->share.part.count, first, run->share.part.count,
        lacking == 1 ? "it" : "the first of them");
}

/* ---- collecting: adding up ---- */

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcmp(text + length - tail, end);
}

static bool has_item(const json_t *list, const json_t *item)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_equal(json_array_get(list, i), item))
            return true;
    }
    return false;
}

/* `sum` with what a part says of the same fact, as a new reference; `sum` may be NULL. */
static json_t *join(const char *name, const json_t *sum, json_t *value)
{
    const double a = json_number_value(sum), b = json_number_value(value);
    if (!sum)
        return json_deep_copy(value);
    if (json_is_number(value) && ends_with(name, "seconds"))
        return json_real(a + b);
    if (json_is_number(value) && ends_with(name, "memory"))
        return json_real(a > b ? a : b);
    json_t *joined = json_deep_copy(sum);
    if (json_is_object(joined) && json_is_object(value))
        json_object_update_missing(joined, value);
    for (size_t i = 0; json_is_array(joined) && i < json_array_size(value); i++) {
        json_t *item = json_array_get(value, i);
        if (!has_item(joined, item))
            json_array_append(joined, item);
    }
    return joined;
}

int parts_gather(struct run_folder *run, const struct sweep *sweep, struct error *error)
{
    json_t *sums = json_object(), *value;
    const char *name;
    int result = sums ? 0 : error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    for (int part = 0; result == 0 && part < run->share.part.count && part < sweep->trials; part++) {
        json_t *learned = read_learned(run, part);
        json_object_foreach(learned, name, value)
        {
            if (result == 0 && strcmp(name, "ended") != 0 &&
                json_object_set_new(sums, name, join(name, json_object_get(sums, name), value)) < 0)
                result = error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
        }
        json_decref(learned);
    }
    /* Set, not added: a process that was collecting and was killed has saved sums of its own. */
    json_object_foreach(sums, name, value)
    {
        if (result == 0)
            result = run_folder_note(run, name, json_incref(value), error);
    }
    json_decref(sums);
    return result;
}

void parts_dissolve(struct run_folder *run)
{
    json_object_del(run->facts, "parts");
}

int parts_remove(const struct run_folder *run, struct error *error)
{
    char *path = run_folder_path(run, error, "parts");
    int result = path ? directory_delete(path, error) : -1;
    free(path);
    return result;
}
