/* pretokenize.h: cuts a text into the pretokens that merges do not cross.
 *
 * A pretokenizer is a list of stages. Each cuts what the one before has left, as the stages of Hugging Face
 * `tokenizers` do (Split, Digits, ByteLevel).
 *
 *     pretokenizer_create(&pretokenizer, error);
 *     pretokenizer_add_digits(pretokenizer, true, error);
 *     pretokenizer_add_byte_level(pretokenizer, false, true, error);
 *     pretokenizer_run(pretokenizer, text, size, &work, emit, context, error);
 */
#ifndef OFFRAMP_TEXT_PRETOKENIZE_H
#define OFFRAMP_TEXT_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/string.h"

struct pretokenizer;

/* What becomes of the stretches that a pattern matches, and of those between them. */
enum split_behavior {
    SPLIT_ISOLATED, /* each is a pretoken */
    SPLIT_REMOVED, /* matches are dropped */
    SPLIT_CONTIGUOUS, /* matches in a row are one pretoken */
    SPLIT_MERGED_WITH_PREVIOUS, /* a match belongs to the stretch before it */
    SPLIT_MERGED_WITH_NEXT /* a match belongs to the stretch behind it */
};

/* Working memory of one thread, zeroed at first. */
struct pretokenizer_work {
    void *match; /* pcre2_match_data */
    struct string prefixed;
};

/* Called for each pretoken, in order, never empty. A negative result ends the run. */
typedef int pretoken_function(void *context, const char *pretoken, size_t size, struct error *error);

/* No stages yet: the whole text is one pretoken. */
int pretokenizer_create(struct pretokenizer **pretokenizer, struct error *error);
void pretokenizer_destroy(struct pretokenizer *pretokenizer); /* NULL is fine */

/* Cuts at matches of a regular expression (pattern.h), or of a text that is taken literally. `invert` exchanges
 * the matches and what is between them. */
int pretokenizer_add_split(struct pretokenizer *pretokenizer, const char *pattern, size_t size, bool literal,
                           enum split_behavior behavior, bool invert, struct error *error);
/* Cuts digits (\p{N}) off: each one, or each run of them. */
int pretokenizer_add_digits(struct pretokenizer *pretokenizer, bool individual, struct error *error);
/* With `prefix_space`, puts a space before a text that does not begin with one; then, with `use_regex`, cuts by
 * GPT-2's pattern. */
int pretokenizer_add_byte_level(struct pretokenizer *pretokenizer, bool prefix_space, bool use_regex,
                                struct error *error);

/* Patterns that many tokenizers share: GPT-2's, Llama 3's, Qwen2's, Mistral NeMo's. */
enum known_pattern { PATTERN_GPT2, PATTERN_LLAMA3, PATTERN_QWEN2, PATTERN_TEKKEN };
/* Cuts at one of them; each match is a pretoken. */
int pretokenizer_add_known(struct pretokenizer *pretokenizer, enum known_pattern pattern, struct error *error);

/* What else belongs to a tokenizer that is known by name. */
struct pretokenizer_traits {
    bool compose; /* text is brought to normalization form C first */
    bool ignore_merges; /* bpe.h */
    bool begins; /* a text begins with the begin-of-text token, unless the file says otherwise */
};

/* By the names that GGUF files use (tokenizer.ggml.pre): "gpt-2", "smollm", "llama-bpe", "qwen2", "tekken" and
 * what splits as one of them. An unknown name is an error. */
int pretokenizer_by_name(const char *name, size_t size, struct pretokenizer **pretokenizer,
                         struct pretokenizer_traits *traits, struct error *error);

/* Safe from several threads, each with its own work. The text is valid UTF-8. */
int pretokenizer_run(const struct pretokenizer *pretokenizer, const char *text, size_t size,
                     struct pretokenizer_work *work, pretoken_function *emit, void *context,
                     struct error *error);
void pretokenizer_work_free(struct pretokenizer_work *work);

/* Whether a text can be cut between the two characters of `pair`: the pretokens of both parts are those of the
 * whole text, whatever comes before and behind. False also where that is not known, as with all stages that no
 * tokenizer known by name has. Never true between two characters of white space. */
bool pretokenizer_parts(const struct pretokenizer *pretokenizer, const char *pair, size_t size,
                        struct pretokenizer_work *work);

/* XXH3-64 of the stages, chained to `seed`. */
uint64_t pretokenizer_hash(const struct pretokenizer *pretokenizer, uint64_t seed);

#endif
