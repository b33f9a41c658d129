/* show.h: where each token left the model: a table for people, an object for programs, and a summary.
 *
 * The three read one record of a run, which main fills.
 */
#ifndef OFFRAMP_GENERATE_SHOW_H
#define OFFRAMP_GENERATE_SHOW_H

#include <stdio.h>

#include "common/text/tokenizer.h"
#include "generate/generator.h"

struct run_record {
    const struct tokenizer *tokenizer;
    const struct exits *exits;
    const struct engine_sequence *sequence;
    int prompt; /* tokens */
    double prompt_seconds, seconds; /* of the prompt, and of the rest */
    bool ended; /* the last token is an end-of-text token, which is not printed */
    int count;
    struct generated *generated; /* [count], in order */
};

/* A line a token: where it left, the layers below as a bar, the top probability there, the token. */
void show_table(const struct run_record *record, FILE *file);

/* Speed, mean depth, and how many tokens left at each exit. */
void show_summary(const struct run_record *record, FILE *file);

/* One object: {"text", "before_prompt" (ids put before the text), "prompt_tokens", "seconds", ..., "tokens":
 * [{"id", "text", "tap", ...}]}. */
int show_json(const struct run_record *record, FILE *file, struct error *error);

#endif
