#include "train/sweep_draw.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/random.h"

/* ---- checks ---- */

/* What is wrong with the kind of distribution for the key. */
static int check_choice(const struct sweep_key *key, enum sweep_choice choice, struct error *error)
{
    if (key->type == KEY_WORD)
        return error_set(error, "has no numbers to draw from; give a list, of which one is chosen");
    if (key->type == KEY_WHOLE && choice != CHOICE_INTEGER)
        return error_set(error, "is a whole number; give {integer: [lower, upper]}, or a list");
    return 0;
}

static int read_bounds(const struct sweep_document *document, const struct sweep_key *key,
                       const struct sweep_values *values, double bounds[2], struct error *error)
{
    for (int i = 0; i < 2; i++) {
        const struct sweep_scalar bound = sweep_document_item(document, values, i);
        int64_t whole;
        if ((values->choice == CHOICE_INTEGER && sweep_key_whole(key, bound.text, &whole, error) < 0) ||
            sweep_key_number(key, bound.text, &bounds[i], error) < 0)
            return -1;
    }
    return 0;
}

int sweep_draw_check(const struct sweep_document *document, enum trial_key key,
                     const struct sweep_values *values, struct error *error)
{
    double bounds[2];
    if (values->choice == CHOICE_LIST)
        return 0;
    const char *lower = sweep_document_item(document, values, 0).text,
               *upper = sweep_document_item(document, values, 1).text;
    int result = check_choice(&trial_keys[key], values->choice, error);
    if (result == 0)
        result = read_bounds(document, &trial_keys[key], values, bounds, error);
    if (result == 0 && !(bounds[0] < bounds[1]))
        result = error_set(error, "%s: the lower bound %s is not below the upper bound %s",
                           sweep_choice_names[values->choice], lower, upper);
    if (result == 0 && values->choice == CHOICE_LOG_UNIFORM && !(bounds[0] > 0))
        result =
            error_set(error, "log_uniform: the lower bound %s is not above 0, and has no logarithm", lower);
    if (result < 0)
        return error_prefix(error, "%s: line %d: %s", document->name,
                            sweep_document_item(document, values, 0).line, trial_keys[key].name);
    return 0;
}

/* ---- draws ---- */

/* A sequence of its own for each draw of each key. */
static struct random begin(enum trial_key key, const struct sweep_draw *draw)
{
    char text[96];
    const int length = snprintf(text, sizeof text, "%s %" PRIu64 " %" PRId64 " %" PRId64, trial_keys[key].name,
                                draw->seed, draw->number, draw->attempt);
    return (struct random){hash_bytes(text, (size_t)length, 0)};
}

/* lower * (upper / lower)^share, from square roots alone: each bit of the share has its root of the ratio. */
static double between(double lower, double upper, double share)
{
    double value = lower, root = sqrt(upper) / sqrt(lower);
    for (int bit = 0; bit < 52; bit++) {
        share *= 2;
        if (share >= 1) {
            value *= root;
            share -= 1;
        }
        root = sqrt(root);
    }
    return value;
}

struct sweep_scalar sweep_draw_value(const struct sweep_document *document, enum trial_key key,
                                     const struct sweep_values *values, const struct sweep_draw *draw,
                                     char room[SWEEP_DRAW_SIZE])
{
    struct random random = begin(key, draw);
    if (values->choice == CHOICE_LIST)
        return sweep_document_item(document, values, (int)(random_next(&random) % (uint64_t)values->count));
    const struct sweep_scalar low = sweep_document_item(document, values, 0),
                              high = sweep_document_item(document, values, 1);
    if (values->choice == CHOICE_INTEGER) {
        const int64_t lower = strtoll(low.text, NULL, 10), upper = strtoll(high.text, NULL, 10);
        const uint64_t count = (uint64_t)(upper - lower) + 1;
        snprintf(room, SWEEP_DRAW_SIZE, "%" PRId64, lower + (int64_t)(random_next(&random) % count));
        return (struct sweep_scalar){room, low.line};
    }
    const double lower = strtod(low.text, NULL), upper = strtod(high.text, NULL);
    const double share = random_uniform(&random);
    const double value =
        values->choice == CHOICE_UNIFORM ? lower + (upper - lower) * share : between(lower, upper, share);
    snprintf(room, SWEEP_DRAW_SIZE, "%.4g", value);
    const double rounded = strtod(room, NULL);
    if (rounded < lower)
        return low;
    return rounded > upper ? high : (struct sweep_scalar){room, low.line};
}
