#include "train/wish.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/string.h"
#include "common/head/draft.h"

json_t *wish_to_json(const struct policy_wish *wish, int layers)
{
    json_t *exits = json_array();
    for (int e = 0; e < wish->exits; e++) {
        char name[TAP_NAME_SIZE];
        tap_name(wish->exit[e], layers, name);
        json_array_append_new(exits, json_string(name));
    }
    const bool given = !isnan(wish->threshold);
    return json_pack("{so so so}", "agreement", given ? json_null() : json_real(wish->agreement), "threshold",
                     given ? json_real(wish->threshold) : json_null(), "exits", exits);
}

/* Only taps where the sweep has a trial, below the last layer. */
static int check_tap(const struct sweep *sweep, int layers, struct tap tap, struct error *error)
{
    struct string there = {0};
    char name[TAP_NAME_SIZE];
    bool found = false;
    for (int i = 0; i < sweep->trials; i++) {
        const struct tap other = sweep->trial[i].spec.tap;
        if (tap_compare(other, (struct tap){.layer = layers}) == 0 ||
            head_kind_is_draft(sweep->trial[i].spec.kind))
            continue;
        found = found || tap_compare(other, tap) == 0;
        bool told = false;
        for (int j = 0; j < i && !told; j++)
            told = tap_compare(sweep->trial[j].spec.tap, other) == 0;
        if (!told)
            string_print(&there, "%s%s", there.length ? ", " : "", sweep->trial[i].tap);
    }
    tap_name(tap, layers, name);
    int result = 0;
    if (!found && !string_failed(&there, error))
        result = error_set_kind(error, ERROR_USAGE,
                                "--exits: no trial of the sweep is an exit at tap %s (there are: %s)", name,
                                there.length ? there.data : "none");
    string_free(&there);
    return found ? 0 : result < 0 ? result : -1;
}

/* In order along the model; one that is named twice counts once. */
static void insert_tap(struct policy_wish *wish, struct tap tap)
{
    int index = wish->exits;
    for (int e = 0; e < wish->exits; e++)
        if (tap_compare(wish->exit[e], tap) == 0)
            return;
    for (; index > 0 && tap_compare(wish->exit[index - 1], tap) > 0; index--)
        wish->exit[index] = wish->exit[index - 1];
    wish->exit[index] = tap;
    wish->exits++;
}

static int read_exits(const char *text, const struct sweep *sweep, int layers, struct policy_wish *wish,
                      struct error *error)
{
    char **items;
    int count, result = 0;
    if (parse_list(text, &items, &count, error) < 0)
        return error_prefix(error, "--exits");
    if (array_alloc(&wish->exit, count, error) < 0)
        result = -1;
    for (int i = 0; i < count && result == 0; i++) {
        struct tap tap;
        if (tap_parse(items[i], layers, &tap, error) < 0)
            result = error_prefix(error, "--exits");
        else if ((result = check_tap(sweep, layers, tap, error)) == 0)
            insert_tap(wish, tap);
    }
    cli_list_free(items, count);
    return result;
}

/* As it was asked last. */
static int read_kept(const json_t *kept, const struct sweep *sweep, int layers, struct policy_wish *wish,
                     struct error *error)
{
    const json_t *exits = json_object_get(kept, "exits"), *threshold = json_object_get(kept, "threshold");
    const json_t *agreement = json_object_get(kept, "agreement");
    if (json_is_number(threshold))
        wish->threshold = json_number_value(threshold);
    if (json_is_number(agreement))
        wish->agreement = json_number_value(agreement);
    if (array_alloc(&wish->exit, json_array_size(exits), error) < 0)
        return -1;
    for (size_t e = 0; e < json_array_size(exits); e++) {
        const char *name = json_string_value(json_array_get(exits, e));
        struct tap tap;
        struct error ignored; /* trials may have been left out since */
        if (name && tap_parse(name, layers, &tap, &ignored) == 0 &&
            check_tap(sweep, layers, tap, &ignored) == 0)
            insert_tap(wish, tap);
    }
    return 0;
}

int wish_read(const struct wish_options *options, const struct sweep *sweep, const struct run_folder *run,
              const struct stores *stores, struct policy_wish *wish, bool *other, struct error *error)
{
    const int layers = stores->config.layers;
    const json_t *kept = json_object_get(run->facts, "policy");
    const bool given = options->exits || !isnan(options->agreement) || !isnan(options->threshold);
    *wish = (struct policy_wish){.agreement = POLICY_AGREEMENT, .threshold = NAN};
    if (given) {
        if (!isnan(options->agreement))
            wish->agreement = options->agreement;
        wish->threshold = options->threshold;
        if (options->exits && read_exits(options->exits, sweep, layers, wish, error) < 0)
            return error_narrow(error, ERROR_USAGE);
    } else if (kept && read_kept(kept, sweep, layers, wish, error) < 0)
        return -1;
    json_t *now = wish_to_json(wish, layers);
    *other = !json_equal(now, kept);
    json_decref(now);
    return 0;
}
