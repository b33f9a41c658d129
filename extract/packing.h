/* packing.h: packs documents into sequences of equal length.
 *
 * The documents of a split are one long stream of ids. A sequence is T rows of it, and has the label of its
 * last row behind them, which is the first row of the next sequence:
 *
 *     stream       document 0 | end | document 1 | end | document 2 ...
 *     sequence 0   [ T rows          ] label
 *     sequence 1                     [ T rows          ] label
 *
 * Ids at the end that do not fill a sequence are not stored. With `runs`, all documents are in the stream of
 * the training split, and runs.h says which split each of its sequences belongs to, if any.
 *
 *     packing_create(&rules, &packing, error);
 *     packing_append(packing, SPLIT_TRAIN, ids, count, true, true, error);      // a whole document
 *
 * Its state can be saved as JSON, so that packing goes on after a stop as if there had been none.
 */
#ifndef OFFRAMP_EXTRACT_PACKING_H
#define OFFRAMP_EXTRACT_PACKING_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/store/store.h"

struct packing_rules {
    int rows; /* T */
    int32_t end; /* the end-of-text id; -1: nothing is put behind documents */
    uint64_t most[SPLIT_COUNT]; /* sequences of each split */
    double runs; /* share of the sequences held out in runs; 0: documents are held out, or none */
    /* Takes a full sequence: ids [rows + 1], and the rows at which documents start, ascending. */
    int (*put)(void *context, enum split split, const int32_t *ids, const int32_t *starts, int count,
               struct error *error);
    void *context;
};

struct packing;

int packing_create(const struct packing_rules *rules, struct packing **packing, struct error *error);
void packing_destroy(struct packing *packing); /* NULL is fine */

/* The next `count` ids of a document of the split. The document begins with them (first) or ends behind them
 * (last). Ids of a split that has all its sequences are dropped. */
int packing_append(struct packing *packing, enum split split, const int32_t *ids, size_t count, bool first,
                   bool last, struct error *error);

/* No more documents come: drops the ids that do not fill a sequence. */
void packing_finish(struct packing *packing);

/* The split still lacks sequences. */
bool packing_wants(const struct packing *packing, enum split split);
uint64_t packing_sequences(const struct packing *packing, enum split split);
uint64_t packing_documents(const struct packing *packing, enum split split); /* begun */

/* The state as a new JSON object, or NULL; and back, checked, into a fresh packing of the same rules. */
json_t *packing_save(const struct packing *packing, struct error *error);
int packing_restore(struct packing *packing, const json_t *state, struct error *error);

#endif
