/* sample.h: estimates how many tokens a corpus has, from a sample that is spread over it, and gives some of the
 * tokens.
 *
 * A corpus of up to 16 MB of text is read whole, and the numbers are exact. Compressed files, and JSON that is
 * not in lines, are read from their beginning only.
 */
#ifndef OFFRAMP_EXTRACT_SAMPLE_H
#define OFFRAMP_EXTRACT_SAMPLE_H

#include "extract/corpus.h"

struct sample {
    double tokens[SPLIT_COUNT]; /* of the whole corpus, ends of documents included */
    bool exact;
    double seconds; /* that tokenizing the whole corpus takes */
    struct token_list ids; /* of the sample, of all splits, ends of documents included */
};

/* The end-of-text id of the rules, if there is one, is put behind each document. */
int corpus_sample(const struct corpus_list *list, const struct corpus_rules *rules, int threads,
                  struct sample *sample, struct error *error);
void sample_free(struct sample *sample); /* a zeroed one is fine */

#endif
