/* portions.h: a corpus, portion after portion: read, turned into tokens, packed into sequences.
 *
 *     portions_create(&packing, &rules, threads, &portions, error);
 *     portions_open(&portions, &list, NULL, error);                      // at the beginning of the corpus
 *     while (!portions.complete)
 *         portions_advance(&portions, error);                           // packing.put gets the sequences
 *     portions_close(&portions);
 */
#ifndef OFFRAMP_EXTRACT_PORTIONS_H
#define OFFRAMP_EXTRACT_PORTIONS_H

#include <stdbool.h>

#include "common/base/pool.h"
#include "extract/corpus.h"
#include "extract/packing.h"

struct portions {
    struct packing_rules wanted;
    const struct corpus_rules *rules;
    struct packing *packing;
    struct corpus *corpus; /* portions_open */
    bool complete; /* there is no more, or no more is wanted */
    struct pool *pool;
    struct part_list parts;
};

/* The rules of the corpus outlive the portions. After an error, too, portions_close. */
int portions_create(const struct packing_rules *wanted, const struct corpus_rules *rules, int threads,
                    struct portions *portions, struct error *error);
/* list and position as corpus_open's. */
int portions_open(struct portions *portions, const struct corpus_list *list,
                  const struct corpus_position *position, struct error *error);
void portions_close(struct portions *portions); /* a zeroed one is fine */

/* One portion; sets `complete` when there is none. */
int portions_advance(struct portions *portions, struct error *error);

#endif
