/* tokenize.h: the first stage: tokenizes the whole corpus, packs it into sequences, and puts these into the
 * store.
 *
 * A shard stores every n-th sequence, but reads all of the corpus: which sequence a text is in is known only
 * when all text before it is tokenized.
 *
 * What is stored depends on the corpus and the rules only. Each commit has a note, "corpus", that says where
 * reading and packing are. After a kill the stage goes on from there.
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

/* Returns at once when all is done already. A signal ends it with an error that says so; everything so far is
 * committed then. */
int corpus_tokenize(const struct tokenize_job *job, struct tokenize_result *result, struct error *error);

/* Packs the corpus from its beginning, as far as the store has sequences. same: how many sequences of each
 * split, from its first, are as they are stored; packed: how many were packed. */
int corpus_compare(const struct tokenize_job *job, uint64_t same[SPLIT_COUNT], uint64_t packed[SPLIT_COUNT],
                   struct error *error);

/* The next corpus_tokenize begins at the beginning of the corpus and skips the sequences that are stored.
 * Inside a transaction. */
int corpus_restart(const struct tokenize_job *job, struct error *error);

#endif
