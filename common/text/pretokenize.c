#include "common/text/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/text/pattern.h"
#include "common/text/unicode.h"

enum { STAGE_LIMIT = 16 }; /* the longest known row has seven */

struct stage {
    pcre2_code *code; /* NULL: the stage puts a space in front */
    pcre2_code *parts; /* pairs of characters between which it always cuts; NULL: not known */
    pcre2_code
        *joined; /* pairs between which it never does, nor looks from one to the other; NULL: not known */
    enum split_behavior behavior;
    bool invert;
};

struct pretokenizer {
    struct stage stages[STAGE_LIMIT];
    int count;
    uint64_t hash; /* of what the stages were made from */
};

/* One call of pretokenizer_run. */
struct run {
    const struct pretokenizer *pretokenizer;
    struct pretokenizer_work *work;
    pretoken_function *emit;
    void *context;
    struct error *error;
};

/* A stretch of the text: a match, or what lies between matches. */
struct stretch {
    size_t begin, end;
    bool match;
};

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ---- where a text may be cut ----
 *
 * Both sides of a boundary have the pretokens of the whole text when no match ever goes across it, and when a
 * match that ends there would also end there if the text did. The patterns have no lookbehind: behind the end
 * of a match they go on as at the beginning of a text. With O for what is neither white space, letter nor
 * number:
 * - A letter is followed, within a match, by letters alone (tekken: and marks); a number by numbers; an O by O
 *   and, but in GPT-2, line ends (tekken: and "/", which is an O); an O by a letter where it is a prefix.
 * - A line end is the last thing but line ends (tekken: and "/") in every match that has one, but in GPT-2:
 *   \s*[\r\n]+ comes before the other alternatives for white space.
 * - \s+(?!\S), the only lookahead, sees one character behind its white space. So GPT-2's text must not be cut behind white space: a
 *   text that ends there has other pretokens.
 */
#define GPT2_PAIRS   "\\p{L}[^\\p{L}]|\\p{N}[^\\p{N}]|[^\\s\\p{L}\\p{N}][\\s\\p{N}]"
#define LINES_PAIRS  "\\p{N}[^\\p{N}]|[^\\s\\p{L}\\p{N}](?:(?![\\r\\n])\\s|\\p{N})"
#define LLAMA_PAIRS  "\\p{L}[^\\p{L}]|" LINES_PAIRS "|[\\r\\n]\\S"
#define TEKKEN_PAIRS "\\p{L}[^\\p{L}\\p{M}]|" LINES_PAIRS "|[\\r\\n][^\\s/]"

static const struct known {
    const char *pattern, *pairs; /* pairs: see above */
} known[] = {
    [PATTERN_GPT2] = {gpt2_pattern, GPT2_PAIRS},
    [PATTERN_LLAMA3] = {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
                        LLAMA_PAIRS},
    [PATTERN_QWEN2] =
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
         "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
         LLAMA_PAIRS},
    [PATTERN_TEKKEN] =
        {"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
         "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
         TEKKEN_PAIRS},
};

int pretokenizer_create(struct pretokenizer **pretokenizer, struct error *error)
{
    *pretokenizer = memory_alloc(1, sizeof **pretokenizer, error);
    return *pretokenizer ? 0 : -1;
}

static void free_stage(struct stage *stage)
{
    pcre2_code_free(stage->code);
    pcre2_code_free(stage->parts);
    pcre2_code_free(stage->joined);
}

void pretokenizer_destroy(struct pretokenizer *pretokenizer)
{
    if (!pretokenizer)
        return;
    for (int i = 0; i < pretokenizer->count; i++)
        free_stage(&pretokenizer->stages[i]);
    free(pretokenizer);
}

/* Puts a stage at the end; takes its codes, also when it fails. */
static int add_stage(struct pretokenizer *pretokenizer, struct stage *stage, const char *pattern, size_t size,
                     struct error *error)
{
    if (pretokenizer->count == STAGE_LIMIT) {
        free_stage(stage);
        return error_set(error, "a pre-tokenizer of more than %d stages", STAGE_LIMIT);
    }
    pretokenizer->stages[pretokenizer->count++] = *stage;
    unsigned char manner[] = {(unsigned char)stage->behavior, stage->invert, stage->code != NULL};
    pretokenizer->hash = hash_bytes(pattern, size, hash_bytes(manner, sizeof manner, pretokenizer->hash));
    return 0;
}

static int compile_pairs(const char *pattern, pcre2_code **code, struct error *error)
{
    return pattern ? pattern_compile(pattern, strlen(pattern), code, error) : 0;
}

/* The pairs of a pattern that is known, where each of its matches is a pretoken. */
static const char *find_pairs(const char *pattern, size_t size, enum split_behavior behavior, bool invert)
{
    const bool pretokens = behavior == SPLIT_ISOLATED || (behavior == SPLIT_REMOVED && invert);
    for (size_t i = 0; i < sizeof known / sizeof *known && pretokens; i++)
        if (strlen(known[i].pattern) == size && memcmp(known[i].pattern, pattern, size) == 0)
            return known[i].pairs;
    return NULL;
}

int pretokenizer_add_split(struct pretokenizer *pretokenizer, const char *pattern, size_t size, bool literal,
                           enum split_behavior behavior, bool invert, struct error *error)
{
    struct stage stage = {.behavior = behavior, .invert = invert};
    const char *pairs = literal ? NULL : find_pairs(pattern, size, behavior, invert);
    if ((literal ? pattern_compile_literal(pattern, size, &stage.code, error)
                 : pattern_compile(pattern, size, &stage.code, error)) < 0 ||
        compile_pairs(pairs, &stage.parts, error) < 0) {
        free_stage(&stage);
        return -1;
    }
    return add_stage(pretokenizer, &stage, pattern, size, error);
}

/* Each digit is a match that looks at nothing else. */
int pretokenizer_add_digits(struct pretokenizer *pretokenizer, bool individual, struct error *error)
{
    const char *digit = pattern_numeric, *members = pattern_numeric + 1; /* behind its bracket */
    struct stage stage = {.behavior = individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS};
    struct string parts = {0}, joined = {0};
    string_print(&parts, "%s[^%s|[^%s%s", digit, members, members, digit);
    if (individual)
        string_print(&parts, "|%s%s", digit, digit);
    string_print(&joined, "[^%s[^%s", members, members);
    int result = string_failed(&parts, error) || string_failed(&joined, error) ||
                         pattern_compile(digit, strlen(digit), &stage.code, error) < 0 ||
                         compile_pairs(parts.data, &stage.parts, error) < 0 ||
                         compile_pairs(joined.data, &stage.joined, error) < 0
                     ? -1
                     : 0;
    string_free(&parts);
    string_free(&joined);
    if (result < 0) {
        free_stage(&stage);
        return -1;
    }
    return add_stage(pretokenizer, &stage, digit, strlen(digit), error);
}

int pretokenizer_add_byte_level(struct pretokenizer *pretokenizer, bool prefix_space, bool use_regex,
                                struct error *error)
{
    struct stage prefix = {0};
    if (prefix_space && (compile_pairs("(?:\\s|\\S) ", &prefix.joined, error) < 0 ||
                         add_stage(pretokenizer, &prefix, "", 0, error) < 0))
        return -1;
    if (!use_regex)
        return 0;
    return pretokenizer_add_split(pretokenizer, gpt2_pattern, sizeof gpt2_pattern - 1, false, SPLIT_ISOLATED,
                                  false, error);
}

int pretokenizer_add_known(struct pretokenizer *pretokenizer, enum known_pattern pattern, struct error *error)
{
    const char *text = known[pattern].pattern;
    return pretokenizer_add_split(pretokenizer, text, strlen(text), false, SPLIT_ISOLATED, false, error);
}

static int run_stage(struct run *run, int index, const char *text, size_t size);

/* Whether `next` becomes part of the stretch before it. */
static bool joins(enum split_behavior behavior, bool before, bool next)
{
    switch (behavior) {
    case SPLIT_CONTIGUOUS: return before == next;
    case SPLIT_MERGED_WITH_PREVIOUS: return next && !before;
    case SPLIT_MERGED_WITH_NEXT: return before && !next;
    case SPLIT_ISOLATED:
    case SPLIT_REMOVED: break;
    }
    return false;
}

/* Hands a finished stretch to the next stage. */
static int hand_on(struct run *run, int index, const char *text, struct stretch stretch)
{
    bool removed = run->pretokenizer->stages[index].behavior == SPLIT_REMOVED && stretch.match;
    if (removed || stretch.begin == stretch.end)
        return 0;
    return run_stage(run, index + 1, text + stretch.begin, stretch.end - stretch.begin);
}

/* Joins the stretch to the one before, or hands that one on and keeps this. */
static int take_stretch(struct run *run, int index, const char *text, struct stretch *kept, size_t begin,
                        size_t end, bool match)
{
    const struct stage *stage = &run->pretokenizer->stages[index];
    struct stretch next = {begin, end, match != stage->invert};
    if (kept->end > 0 && joins(stage->behavior, kept->match, next.match))
        next.begin = kept->begin;
    else if (hand_on(run, index, text, *kept) < 0)
        return -1;
    *kept = next;
    return 0;
}

/* The next match at or behind `from`: 1, or 0 when there is none. */
static int find_match(struct run *run, const pcre2_code *code, const char *text, size_t size, size_t from)
{
    int result = pcre2_match(code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK, run->work->match, NULL);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter takes its stack from the heap */
        result = pcre2_match(code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                             run->work->match, NULL);
    if (result == PCRE2_ERROR_NOMATCH)
        return 0;
    if (result >= 0)
        return 1;
    char message[200] = "";
    pcre2_get_error_message(result, (PCRE2_UCHAR *)message, sizeof message);
    return error_set(run->error, "the pre-tokenizer's pattern failed at byte %zu of %zu: %s", from, size,
                     message);
}

/* Matches one behind the other. An empty match is one too, unless it stands at the start or where the last one
 * ended. */
static int run_split(struct run *run, int index, const char *text, size_t size)
{
    struct stretch kept = {0};
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(run->work->match);
    size_t from = 0, done = 0, length; /* where to search, and up to where stretches were taken */
    while (from <= size) {
        int found = find_match(run, run->pretokenizer->stages[index].code, text, size, from);
        if (found < 0)
            return -1;
        if (!found)
            break;
        size_t begin = ends[0], end = ends[1];
        if (begin == end && begin == done) {
            if (from == size)
                break;
            utf8_decode(text + from, size - from, &length);
            from += length;
            continue;
        }
        if (begin > done && take_stretch(run, index, text, &kept, done, begin, false) < 0)
            return -1;
        if (take_stretch(run, index, text, &kept, begin, end, true) < 0)
            return -1;
        from = done = end;
    }
    if (done < size && take_stretch(run, index, text, &kept, done, size, false) < 0)
        return -1;
    return hand_on(run, index, text, kept);
}

static int run_prefix(struct run *run, int index, const char *text, size_t size)
{
    struct string *prefixed = &run->work->prefixed;
    if (text[0] == ' ')
        return run_stage(run, index + 1, text, size);
    prefixed->length = 0;
    string_append(prefixed, " ", 1);
    string_append(prefixed, text, size);
    if (string_failed(prefixed, run->error))
        return -1;
    return run_stage(run, index + 1, prefixed->data, prefixed->length);
}

static int run_stage(struct run *run, int index, const char *text, size_t size)
{
    if (index == run->pretokenizer->count)
        return run->emit(run->context, text, size, run->error);
    if (!run->pretokenizer->stages[index].code)
        return run_prefix(run, index, text, size);
    return run_split(run, index, text, size);
}

int pretokenizer_run(const struct pretokenizer *pretokenizer, const char *text, size_t size,
                     struct pretokenizer_work *work, pretoken_function *emit, void *context,
                     struct error *error)
{
    struct run run = {pretokenizer, work, emit, context, error};
    if (!work->match && !(work->match = pcre2_match_data_create(1, NULL)))
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory for a match");
    return size ? run_stage(&run, 0, text, size) : 0;
}

static bool is_pair(const pcre2_code *code, const char *pair, size_t size, struct pretokenizer_work *work)
{
    return code && pcre2_match(code, (PCRE2_SPTR)pair, size, 0, PCRE2_NO_UTF_CHECK, work->match, NULL) >= 0;
}

bool pretokenizer_parts(const struct pretokenizer *pretokenizer, const char *pair, size_t size,
                        struct pretokenizer_work *work)
{
    if (!work->match && !(work->match = pcre2_match_data_create(1, NULL)))
        return false;
    for (int i = 0; i < pretokenizer->count; i++) {
        const struct stage *stage = &pretokenizer->stages[i];
        if (is_pair(stage->parts, pair, size, work))
            return true;
        if (!is_pair(stage->joined, pair, size, work))
            return false;
    }
    return false;
}

void pretokenizer_work_free(struct pretokenizer_work *work)
{
    pcre2_match_data_free(work->match);
    string_free(&work->prefixed);
    *work = (struct pretokenizer_work){0};
}

uint64_t pretokenizer_hash(const struct pretokenizer *pretokenizer, uint64_t seed)
{
    return hash_bytes(&pretokenizer->hash, sizeof pretokenizer->hash, seed);
}
