#include "train/observations.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

void observations_free(struct observations *observations)
{
    for (size_t i = 0; i < observations->count; i++)
        observed_free(&observations->list[i].observed);
    free(observations->list);
    *observations = (struct observations){0};
}

/* That of a tap; a new one, to which nothing is known, where there is none. */
static struct observation *find_tap(struct observations *observations, struct tap tap, struct error *error)
{
    for (size_t i = 0; i < observations->count; i++) {
        if (tap_compare(observations->list[i].tap, tap) == 0)
            return &observations->list[i];
    }
    if (array_grow(&observations->list, &observations->capacity, observations->count + 1, error) < 0)
        return NULL;
    struct observation *found = &observations->list[observations->count++];
    *found = (struct observation){.tap = tap};
    return found;
}

int observations_keep(struct observations *observations, const struct trial_config *config, double kl,
                      struct observed *observed, struct error *error)
{
    struct observation *best = find_tap(observations, config->spec.tap, error);
    if (!best)
        return -1;
    if (!*best->id || kl < best->kl || (kl == best->kl && strcmp(config->id, best->id) < 0)) {
        observed_free(&best->observed);
        best->observed = *observed;
        best->kl = kl;
        strcpy(best->id, config->id);
    } else
        observed_free(observed);
    *observed = (struct observed){0};
    return 0;
}

const struct observed *observations_find(const struct observations *observations, const char *id)
{
    for (size_t i = 0; i < observations->count; i++) {
        if (!strcmp(observations->list[i].id, id))
            return &observations->list[i].observed;
    }
    return NULL;
}
