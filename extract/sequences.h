/* sequences.h: the sequences of a corpus, as extraction packs them, one after another and without a store.
 *
 *     sequences_open(&wish, &sequences, error);
 *     while ((there = sequences_next(sequences, ids, error)) > 0) ...           // of the training split
 *     for (n = 0; n < sequences_held_out(sequences); n++)
 *         ... sequences_held_out_ids(sequences, n) ...                         // those that came by the way
 *     sequences_close(sequences);
 *
 * In memory are the training sequences of one portion of the corpus (portions.h), and all held-out ones.
 */
#ifndef OFFRAMP_EXTRACT_SEQUENCES_H
#define OFFRAMP_EXTRACT_SEQUENCES_H

#include <stdint.h>

#include "common/base/error.h"
#include "extract/corpus.h"

/* What is wanted; list and rules outlive the sequences. */
struct sequences_wish {
    const struct corpus_list *list;
    struct corpus_rules rules;
    int rows; /* tokens per sequence */
    uint64_t most[SPLIT_COUNT]; /* sequences, over all shards */
    double runs; /* as packing_rules.runs */
    int shard, shards; /* of the training split those whose number is `shard` modulo `shards` */
    int threads;
};

struct sequences;

int sequences_open(const struct sequences_wish *wish, struct sequences **sequences, struct error *error);
void sequences_close(struct sequences *sequences); /* NULL is fine */

/* ids [rows + 1]: the next training sequence with its last label. 1; 0: there are no more, and all held-out ones
 * have come; -1: an error. */
int sequences_next(struct sequences *sequences, int32_t *ids, struct error *error);

/* How many held-out sequences have come so far; and their ids [rows + 1], valid until the next sequences_next. */
uint64_t sequences_held_out(const struct sequences *sequences);
const int32_t *sequences_held_out_ids(const struct sequences *sequences, uint64_t number);

/* The share of the corpus that sequences_next has given, 0 .. 1. */
double sequences_share(const struct sequences *sequences);

#endif
