/* tokenize.h: the first stage: the whole corpus, tokenized and packed into sequences, goes into the
 * store's `tokens`; of a shard, every n-th of the sequences. Each shard reads all of the corpus for that:
 * which sequence a text falls into is known only when all before it is tokenized.
 *
 * What is stored depends on the corpus and the rules only. With every commit goes a note, "corpus",
 * that says where reading and packing stand, so that after a kill the stage goes on from there.
 */
#ifndef OFFRAMP_EXTRACT_TOKENIZE_H
#define OFFRAMP_EXTRACT_TOKENIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/store/store.h"
#include "common/text/tokenizer.h"
#include "extract/corpus.h"

struct tokenize_job {
    struct store *store;
    const struct corpus_list *list;
    struct corpus_rules rules; /* `end` is also put behind documents, unless it is -1 */
    uint64_t most[SPLIT_COUNT]; /* sequences wanted of each split */
    double runs; /* as packing_rules.runs */
    int threads;
};

struct tokenize_result {
    uint64_t sequences[SPLIT_COUNT], documents[SPLIT_COUNT]; /* of all shards */
    uint64_t empty; /* documents without text, left out */
    double seconds; /* of this run */
};

/* Returns at once when it was done before. Interrupted by a signal: an error that says so, with
 * everything so far committed. */
int corpus_tokenize(const struct tokenize_job *job, struct tokenize_result *result, struct error *error);

/* Packs the corpus from its beginning until all that the store has has come again. same: how many sequences
 * of each split, from its first, are as they are stored; packed: how many came, at most those stored. */
int corpus_compare(const struct tokenize_job *job, uint64_t same[SPLIT_COUNT], uint64_t packed[SPLIT_COUNT],
                   struct error *error);

/* Has the next corpus_tokenize begin at the beginning and leave out what is stored. Inside a transaction. */
int corpus_restart(const struct tokenize_job *job, struct error *error);

#endif
