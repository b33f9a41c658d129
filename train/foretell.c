#include "train/foretell.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/head/teacher.h"
#include "train/draft_work.h"
#include "train/feed.h"
#include "train/subsets.h"
#include "train/workspace.h"

#define USED_SHARE                                                                                             \
    0.75 /* of the machine's memory, where it does not hold all trials: the rest is the machine's */

static uint64_t largest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool reads_tap(const struct head_spec *spec, struct tap tap)
{
    struct tap taps[HEAD_TAPS];
    const int count = head_spec_taps(spec, taps);
    bool found = false;
    for (int t = 0; t < count; t++)
        found = found || tap_compare(taps[t], tap) == 0;
    return found;
}

/* Taps that are read, each once, the final one among them. */
static uint64_t count_taps(const struct sweep *sweep)
{
    uint64_t count = 1;
    for (int i = 0; i < sweep->trials; i++) {
        struct tap taps[HEAD_TAPS];
        const int own = head_spec_taps(&sweep->trial[i].spec, taps);
        for (int t = 0; t < own; t++) {
            bool before = false;
            for (int j = 0; j < i && !before; j++)
                before = reads_tap(&sweep->trial[j].spec, taps[t]);
            count += !before;
        }
    }
    return count;
}

uint64_t foretell_trial(const struct trial_config *config, const struct model_config *model)
{
    return sizeof(float) * ((uint64_t)head_spec_values(&config->spec, model, false) +
                            2 * (uint64_t)head_spec_values(&config->spec, model, true));
}

static int compare_bytes(const void *a, const void *b)
{
    const uint64_t *one = a, *other = b;
    return (*one < *other) - (*one > *other);
}

/* Of the `live` trials that take the most. */
static int most_of_trials(const struct sweep *sweep, const struct model_config *model, int live, uint64_t *most,
                          struct error *error)
{
    uint64_t *bytes;
    if (array_alloc(&bytes, sweep->trials, error) < 0)
        return -1;
    for (int i = 0; i < sweep->trials; i++)
        bytes[i] = foretell_trial(&sweep->trial[i], model);
    qsort(bytes, (size_t)sweep->trials, sizeof *bytes, compare_bytes);
    *most = 0;
    for (int i = 0; i < live && i < sweep->trials; i++)
        *most += bytes[i];
    free(bytes);
    return 0;
}

/* What subsets of the vocabulary take: the output weight as the store has it, in two bytes a value or so, and the
 * gathered rows. */
static uint64_t subset_bytes(const struct sweep *sweep, const struct stores *stores)
{
    const struct model_config *config = &stores->config;
    const int64_t rows = (int64_t)sweep->sequences * stores->rows;
    bool any = false, draft = false;
    for (int i = 0; i < sweep->trials; i++) {
        any = any || sweep->trial[i].vocabulary == VOCABULARY_SUBSET;
        draft = draft || head_kind_is_draft(sweep->trial[i].spec.kind);
    }
    const uint64_t weights = (uint64_t)(any || draft) + (draft && !config->tied);
    return weights * 2 * (uint64_t)config->vocab * (uint64_t)config->hidden +
           (any ? subsets_bytes(config->vocab, config->hidden, rows, stores->rows) : 0);
}

/* Working memory of heads for a row: of each shape (head_specs_join) as much as a group has of it. */
static uint64_t scratch_values(const struct sweep *sweep, const struct model_config *config, uint64_t group)
{
    uint64_t values = 0;
    for (int i = 0; i < sweep->trials; i++) {
        const struct head_spec *spec = &sweep->trial[i].spec;
        uint64_t before = 0;
        for (int j = 0; j < i && before < group; j++)
            before += head_specs_join(&sweep->trial[j].spec, spec);
        if (before < group)
            values += (uint64_t)head_spec_scratch(spec, config);
    }
    return values;
}

int foretell(const struct sweep *sweep, const struct stores *stores, enum math math, int live,
             struct foretold *foretold, struct error *error)
{
    const struct model_config *config = &stores->config;
    const uint64_t rows = (uint64_t)sweep->sequences * (uint64_t)stores->rows,
                   hidden = (uint64_t)config->hidden;
    const uint64_t taps = count_taps(sweep), group = (uint64_t)trials_together((int64_t)rows, live);
    const uint64_t row = sizeof(float) * hidden;
    uint64_t gradients = 0, draft = 0;
    *foretold = (struct foretold){0};
    if (most_of_trials(sweep, config, live, &foretold->trials, error) < 0)
        return -1;
    for (int i = 0; i < sweep->trials; i++) {
        const struct head_spec *spec = &sweep->trial[i].spec;
        gradients = largest(gradients, (uint64_t)head_spec_values(spec, config, true));
        if (head_kind_is_draft(spec->kind))
            draft = largest(draft, rows * draft_work_row_bytes(&sweep->trial[i], config) +
                                       draft_work_fixed_bytes(&sweep->trial[i], config));
    }
    foretold->gradients = sizeof(float) * group * gradients;
    foretold->host = FEED_BATCHES * (taps + 1) * rows * row + 2 * rows * row; /* and what evaluations read */
    foretold->batch = (taps + 2) * rows * row /* states, u and the teacher's */
                      + group * rows * 3 * row + rows * sizeof(float) * scratch_values(sweep, config, group) +
                      draft + foretold->host;
    foretold->fixed =
        teacher_weight_bytes(config, math) + teacher_working_bytes(config, 0) + subset_bytes(sweep, stores);
    return 0;
}

uint64_t foretold_bytes(const struct foretold *foretold)
{
    return foretold->trials + foretold->gradients + foretold->batch + foretold->fixed;
}

/* Of a device's memory a run goes by fewer trials and pieces of batches where it is short; what it cannot do
 * without is this. */
static uint64_t least_of_device(const struct foretold *foretold)
{
    return foretold->trials + foretold->gradients + foretold->fixed;
}

static uint64_t bytes_of_host(const struct foretold *foretold, uint64_t device)
{
    return device > 0 ? foretold->host : foretold_bytes(foretold);
}

/* share: of what the machine has. */
static bool fits(const struct foretold *foretold, const struct bounds *bounds, double share)
{
    const double limit = share * (double)memory_limit(), device = share * (double)bounds->device;
    return (bounds->memory == 0 || foretold_bytes(foretold) <= bounds->memory) &&
           (bounds->device == 0 || (double)least_of_device(foretold) <= device) &&
           (memory_limit() == 0 || (double)bytes_of_host(foretold, bounds->device) <= limit);
}

static int refuse_memory(const struct foretold *foretold, uint64_t memory, struct error *error)
{
    char given[32], needed[32], heads[32], batch[32], fixed[32];
    return error_set_kind(
        error, ERROR_USAGE,
        "--memory: %s do not hold a single trial, which takes %s: %s for its head and its optimizer, %s for "
        "batches, %s for the output weight. Give more, or fewer `sequences`",
        format_bytes((double)memory, given, sizeof given),
        format_bytes((double)foretold_bytes(foretold), needed, sizeof needed),
        format_bytes((double)(foretold->trials + foretold->gradients), heads, sizeof heads),
        format_bytes((double)foretold->batch, batch, sizeof batch),
        format_bytes((double)foretold->fixed, fixed, sizeof fixed));
}

int foretell_live(const struct sweep *sweep, const struct stores *stores, enum math math,
                  const struct bounds *bounds, int *live, struct error *error)
{
    struct foretold foretold;
    int good = 0, bad = (bounds->most > 0 && bounds->most < sweep->trials ? bounds->most : sweep->trials) + 1;
    for (int tried = bad - 1; bad - good > 1; tried = good + (bad - good) / 2) { /* all of them first */
        if (foretell(sweep, stores, math, tried, &foretold, error) < 0)
            return -1;
        if (fits(&foretold, bounds, good == 0 && tried == bad - 1 ? 1 : USED_SHARE))
            good = tried;
        else
            bad = tried;
    }
    *live = good > 0 ? good : 1;
    if (good > 0)
        return 0;
    if (foretell(sweep, stores, math, 1, &foretold, error) < 0)
        return -1;
    return bounds->memory > 0 && foretold_bytes(&foretold) > bounds->memory
               ? refuse_memory(&foretold, bounds->memory, error)
               : 0;
}

int foretell_check(const struct sweep *sweep, const struct stores *stores, enum math math, int live,
                   int64_t steps, uint64_t device, struct error *error)
{
    struct foretold foretold;
    if (foretell(sweep, stores, math, live, &foretold, error) < 0)
        return -1;
    const uint64_t all = foretold_bytes(&foretold), host = bytes_of_host(&foretold, device);
    const uint64_t heads = foretold.trials + foretold.gradients;
    const uint64_t limit = memory_limit();
    char needed[32], trials[32], batch[32], there[32], together[40];
    *together = 0;
    if (live < sweep->trials)
        snprintf(together, sizeof together, ", %d of them at a time", live);
    cli_say("%d trial%s%s, %" PRId64 " step%s of %d sequence%s (%" PRId64 " tokens each); about %s of memory",
            sweep->trials, sweep->trials == 1 ? "" : "s", together, steps, steps == 1 ? "" : "s",
            sweep->sequences, sweep->sequences == 1 ? "" : "s", (int64_t)sweep->sequences * stores->rows,
            format_bytes((double)all, needed, sizeof needed));
    format_bytes((double)heads, trials, sizeof trials);
    format_bytes((double)foretold.batch, batch, sizeof batch);
    if (device > 0 && least_of_device(&foretold) > device)
        return error_set_kind(
            error, ERROR_NO_MEMORY,
            "the device has %s of memory free, but the heads and optimizers of %d trial%s take %s, and "
            "the model's output weight takes %s. Run fewer trials at a time, or give --device cpu",
            format_bytes((double)device, there, sizeof there), live, live == 1 ? "" : "s", trials,
            format_bytes((double)foretold.fixed, needed, sizeof needed));
    if (limit > 0 && host > limit)
        return error_set_kind(
            error, ERROR_NO_MEMORY,
            "the run takes about %s of memory, but there are %s. Batches of %d sequences take %s, and "
            "heads and optimizers of %d trial%s take %s. Give fewer `sequences` or fewer trials",
            format_bytes((double)host, needed, sizeof needed), format_bytes((double)limit, there, sizeof there),
            sweep->sequences, batch, live, live == 1 ? "" : "s", trials);
    return 0;
}
