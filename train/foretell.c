#include "train/foretell.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/head/teacher.h"
#include "train/feed.h"
#include "train/workspace.h"

/* Bytes, by what they grow with. Pages of the mapped store are not counted, because the system drops them when
 * it must. */
struct foretold {
    uint64_t trials; /* heads and their optimizers; with the number of trials */
    uint64_t batch; /* states and working memory; with the sequences of a step */
    uint64_t fixed; /* the output weight, and what products with it take */
    uint64_t host; /* of the above what is on the host when there is a device: batches that are read ahead */
};

static uint64_t largest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Taps that are read, each once, the final one among them. */
static uint64_t count_taps(const struct sweep *sweep)
{
    uint64_t taps = 1;
    for (int i = 0; i < sweep->trials; i++) {
        bool before = false;
        for (int j = 0; j < i && !before; j++)
            before = tap_compare(sweep->trial[j].spec.tap, sweep->trial[i].spec.tap) == 0;
        taps += !before;
    }
    return taps;
}

static struct foretold foretell(const struct sweep *sweep, const struct stores *stores, enum math math)
{
    const struct model_config *config = &stores->config;
    const uint64_t rows = (uint64_t)sweep->sequences * (uint64_t)stores->rows,
                   hidden = (uint64_t)config->hidden;
    const uint64_t taps = count_taps(sweep), group = (uint64_t)trials_together((int64_t)rows, sweep->trials);
    const uint64_t row = sizeof(float) * hidden;
    uint64_t gradients = 0, scratch = 0;
    struct foretold foretold = {0};
    for (int i = 0; i < sweep->trials; i++) {
        const struct head_spec *spec = &sweep->trial[i].spec;
        const uint64_t trained = (uint64_t)head_spec_values(spec, config, true);
        foretold.trials += sizeof(float) * ((uint64_t)head_spec_values(spec, config, false) + 2 * trained);
        gradients = largest(gradients, trained);
        scratch = largest(scratch, (uint64_t)head_spec_scratch(spec, config));
    }
    foretold.trials += sizeof(float) * group * gradients;
    foretold.host = FEED_BATCHES * (taps + 1) * rows * row + 2 * rows * row; /* and what evaluations read */
    foretold.batch = (taps + 2) * rows * row /* states, u and the teacher's */
                     + group * rows * (3 * row + sizeof(float) * scratch) + foretold.host;
    foretold.fixed = teacher_weight_bytes(&stores->config, math) + teacher_working_bytes(&stores->config, 0);
    return foretold;
}

int foretell_check(const struct sweep *sweep, const struct stores *stores, enum math math, int64_t steps,
                   uint64_t device, struct error *error)
{
    const struct foretold foretold = foretell(sweep, stores, math);
    const uint64_t all = foretold.trials + foretold.batch + foretold.fixed, host = device ? foretold.host : all;
    const uint64_t limit = memory_limit();
    /* A device goes by fewer trials and pieces of batches where its memory is short; what it cannot do without
     * is this. */
    const uint64_t least = foretold.trials + foretold.fixed;
    char needed[32], trials[32], batch[32], there[32];
    cli_say("%d trial%s, %" PRId64 " step%s of %d sequence%s (%" PRId64 " tokens each); about %s of memory",
            sweep->trials, sweep->trials == 1 ? "" : "s", steps, steps == 1 ? "" : "s", sweep->sequences,
            sweep->sequences == 1 ? "" : "s", (int64_t)sweep->sequences * stores->rows,
            format_bytes((double)all, needed, sizeof needed));
    format_bytes((double)foretold.trials, trials, sizeof trials);
    format_bytes((double)foretold.batch, batch, sizeof batch);
    if (device > 0 && least > device)
        return error_set_kind(
            error, ERROR_NO_MEMORY,
            "the device has %s of memory free, but the heads and optimizers of %d trials take %s, and the "
            "model's output weight takes %s. Run fewer trials at a time, or give --device cpu",
            format_bytes((double)device, there, sizeof there), sweep->trials, trials,
            format_bytes((double)foretold.fixed, needed, sizeof needed));
    if (limit > 0 && host > limit)
        return error_set_kind(
            error, ERROR_NO_MEMORY,
            "the run takes about %s of memory, but there are %s. Batches of %d sequences take %s, and "
            "heads and optimizers of %d trials take %s. Give fewer `sequences` or fewer trials",
            format_bytes((double)host, needed, sizeof needed), format_bytes((double)limit, there, sizeof there),
            sweep->sequences, batch, sweep->trials, trials);
    return 0;
}
