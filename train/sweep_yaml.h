/* sweep_yaml.h: takes a sweep file apart into scalars, as they were written, each with its line.
 *
 * The structure is checked here: known keys, each once, and a single value, a list or a distribution where there
 * may be one. sweep.c checks what the scalars mean. sweep.h says what a file may hold.
 */
#ifndef OFFRAMP_TRAIN_SWEEP_YAML_H
#define OFFRAMP_TRAIN_SWEEP_YAML_H

#include <stddef.h>

#include "common/base/error.h"
#include "train/sweep_keys.h"

struct sweep_scalar {
    const char *text; /* the document's; NULL: not given. Without control characters */
    int line; /* from 1 */
};

enum sweep_choice { CHOICE_LIST, CHOICE_UNIFORM, CHOICE_LOG_UNIFORM, CHOICE_INTEGER };
enum { CHOICES = CHOICE_INTEGER + 1 };
/* "uniform", "log_uniform", "integer"; NULL for a list. */
extern const char *const sweep_choice_names[CHOICES];

/* What a key of a section may be: of a list one item (of a single value that one), of a distribution a value
 * between its two items. */
struct sweep_values {
    enum sweep_choice choice;
    int count; /* items; 0: the key is not given */
    int line; /* of the key */
    int node; /* the document's own */
};

struct sweep_section {
    int line;
    struct sweep_values key[TRIAL_KEYS];
    struct sweep_scalar count, seed; /* of `random`, where `count` is always given */
};

enum section_kind { SECTION_DEFAULTS, SECTION_GRID, SECTION_RANDOM, SECTION_TRIALS };
enum { SECTION_KINDS = SECTION_TRIALS + 1 };

struct sweep_document {
    const char *name; /* borrowed */
    struct sweep_scalar setting[SETTING_KEYS]; /* an empty text is one that is not given */
    struct {
        struct sweep_section *section; /* [sections] */
        int sections;
    } kind[SECTION_KINDS];
    void *yaml;
};

/* name: of the file, for errors. */
int sweep_document_load(const char *name, const char *text, size_t size, struct sweep_document **document,
                        struct error *error);
void sweep_document_free(struct sweep_document *document); /* NULL is fine */

struct sweep_scalar sweep_document_item(const struct sweep_document *document,
                                        const struct sweep_values *values, int index);

#endif
