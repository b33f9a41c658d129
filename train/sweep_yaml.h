/* sweep_yaml.h: takes a sweep file apart into scalars, as they were written.
 *
 * libcyaml checks the structure. sweep.c checks what the scalars mean; sweep_line tells it in which line a
 * wrong one is.
 */
#ifndef OFFRAMP_TRAIN_SWEEP_YAML_H
#define OFFRAMP_TRAIN_SWEEP_YAML_H

#include <stddef.h>

#include "common/base/error.h"
#include "train/sweep_keys.h"

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

/* name: of the file, for errors. */
int sweep_document_load(const char *name, const char *text, size_t size, struct sweep_document **document,
                        struct error *error);
void sweep_document_free(struct sweep_document *document); /* NULL is fine */

/* The line (from 1) of the first `value` given to `key`, at line `from` or after it. When the value is NULL or
 * not found: the line of the key. 0 when there is no such key. */
int sweep_line(const char *text, const char *key, const char *value, int from);

#endif
