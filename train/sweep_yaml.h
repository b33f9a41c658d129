/* sweep_yaml.h: a sweep file taken apart by libcyaml into scalars as they were written.
 *
 * libcyaml checks the structure; what the scalars mean is checked by sweep.c, which asks sweep_line
 * where a wrong one stands.
 */
#ifndef OFFRAMP_TRAIN_SWEEP_YAML_H
#define OFFRAMP_TRAIN_SWEEP_YAML_H

#include <stddef.h>

#include "common/base/error.h"
#include "train/sweep.h"

struct sweep_scalars {
    char *value[TRIAL_KEYS]; /* NULL: not given */
};

struct sweep_lists {
    struct {
        char **item; /* [count]; NULL: not given */
        unsigned count;
    } key[TRIAL_KEYS];
};

struct sweep_document {
    char *setting[SETTING_KEYS]; /* NULL: not given */
    struct sweep_lists *grid; /* NULL: not given */
    struct sweep_scalars *trial; /* [trials] */
    unsigned trials;
};

/* `name` is the file's, for errors. */
int sweep_document_load(const char *name, const char *text, size_t size, struct sweep_document **document,
                        struct error *error);
void sweep_document_free(struct sweep_document *document); /* NULL is fine */

/* The line (from 1) of the first `value` given to `key`, at or after line `from`; the key's own line
 * when the value is NULL or not found; 0 when there is no such key. */
int sweep_line(const char *text, const char *key, const char *value, int from);

#endif
