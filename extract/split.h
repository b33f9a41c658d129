/* split.h: how a corpus is divided into what heads are trained on and what they are measured by.
 *
 * A share that is held out is a share of the documents. Where documents are too few, so that one side would not
 * fill a sequence, it is a share of the sequences, in runs (store/runs.h). The choice is made when a store is
 * begun and kept in its manifest: a corpus that grows keeps it.
 */
#ifndef OFFRAMP_EXTRACT_SPLIT_H
#define OFFRAMP_EXTRACT_SPLIT_H

#include "extract/corpus.h"

enum holding {
    HOLDING_NONE, /* no split is wanted */
    HOLDING_DOCUMENTS, /* a share of the documents */
    HOLDING_RUNS, /* a share of the sequences */
    HOLDING_CORPUS, /* files of their own */
    HOLDING_COUNT
};

/* "none", "documents", "runs", "corpus": in manifests and JSON. */
const char *holding_name(enum holding holding);
/* HOLDING_COUNT for any other text, NULL included. */
enum holding holding_find(const char *name);
/* For people: what is held out. */
const char *holding_text(enum holding holding);

/* rules: with the share that is wanted. rows: of a sequence. Reads as little of the corpus as it needs to
 * decide. An error when the corpus does not fill a sequence of each split that is wanted. */
int split_choose(const struct corpus_list *list, const struct corpus_rules *rules, int rows, int threads,
                 enum holding *holding, struct error *error);

#endif
