#include "common/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/base/string.h"
#include "common/text/tokenizer_parts.h"
#include "common/text/unicode.h"

struct tokenizer {
    struct tokenizer_parts parts;
    struct bpe *bpe;
    int32_t end;
    uint64_t hash;
};

/* One call of tokenizer_encode. */
struct encoding {
    const struct tokenizer *tokenizer;
    bool skip_special;
    struct token_list *ids;
    struct pretokenizer_work split;
    struct bpe_work merge;
    struct error *error;
};

/* A token of that name that marks a place in texts, or -1. */
static int32_t find_mark(const struct tokenizer_parts *parts, const char *name)
{
    const int32_t id = vocab_find(&parts->vocab, name, strlen(name));
    return id >= 0 && parts->vocab.tokens[id].kind == TOKEN_SPECIAL ? id : -1;
}

static int choose_end(struct tokenizer *tokenizer, struct error *error)
{
    static const char *const between[] = {"<|endoftext|>", "<|end_of_text|>", "</s>"};
    /* Ends of texts, turns and messages, by the names that models give them. */
    static const char *const names[] = {"<|endoftext|>",
                                        "<|end_of_text|>",
                                        "</s>",
                                        "<eos>",
                                        "[EOS]",
                                        "<|eot_id|>",
                                        "<|eom_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<end_of_turn>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "[EOT]",
                                        "<|return|>",
                                        "<|call|>",
                                        "<end_of_utterance>",
                                        "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"};
    struct tokenizer_parts *parts = &tokenizer->parts;
    tokenizer->end = -1;
    for (size_t i = 0; i < sizeof between / sizeof *between && tokenizer->end < 0; i++)
        tokenizer->end = find_mark(parts, between[i]);
    if (tokenizer->end < 0 && parts->ends)
        tokenizer->end = parts->first_end;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (parts_add_end(parts, find_mark(parts, names[i]), error) < 0)
            return -1;
    return 0;
}

static uint64_t hash_added(const struct added *added, uint64_t hash)
{
    for (size_t i = 0; i < added->count; i++) {
        int32_t both[] = {added->tokens[i].id, added->tokens[i].flags};
        hash = hash_bytes(both, sizeof both, hash);
    }
    return hash;
}

static uint64_t hash_parts(const struct tokenizer_parts *parts)
{
    const struct bpe_rules *rules = &parts->rules;
    int32_t manner[] = {parts->compose, rules->ignore_merges, rules->unknown, rules->fuse_unknown};
    uint64_t hash = hash_bytes(manner, sizeof manner, 0);
    for (int i = 0; i < parts->vocab.count; i++) {
        const struct vocab_token *token = &parts->vocab.tokens[i];
        uint32_t both[] = {(uint32_t)token->kind, token->size};
        hash = hash_bytes(token->bytes, token->size, hash_bytes(both, sizeof both, hash));
    }
    hash = hash_bytes(rules->merges, rules->count * sizeof *rules->merges, hash);
    hash = hash_added(&parts->added_composed, hash_added(&parts->added, hash));
    return pretokenizer_hash(parts->pretokenizer, hash);
}

int tokenizer_open(const struct gguf *gguf, const char *folder, struct tokenizer **tokenizer,
                   struct error *error)
{
    struct tokenizer *new = memory_alloc(1, sizeof *new, error);
    *tokenizer = NULL;
    if (!new)
        return -1;
    struct tokenizer_parts *parts = &new->parts;
    if ((gguf ? parts_from_gguf(gguf, parts, error) : parts_from_folder(folder, parts, error)) < 0 ||
        choose_end(new, error) < 0 || bpe_create(&parts->vocab, &parts->rules, &new->bpe, error) < 0) {
        tokenizer_close(new);
        return -1;
    }
    new->hash = hash_parts(parts);
    free(parts->rules.merges); /* the bpe keeps them in its own form */
    parts->rules = (struct bpe_rules){0};
    *tokenizer = new;
    return 0;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    bpe_destroy(tokenizer->bpe);
    parts_free(&tokenizer->parts);
    free(tokenizer);
}

static int encode_pretoken(void *context, const char *pretoken, size_t size, struct error *error)
{
    struct encoding *encoding = context;
    return bpe_encode(encoding->tokenizer->bpe, pretoken, size, &encoding->merge, encoding->ids, error);
}

static int encode_plain(struct encoding *encoding, const char *text, size_t size)
{
    return pretokenizer_run(encoding->tokenizer->parts.pretokenizer, text, size, &encoding->split,
                            encode_pretoken, encoding, encoding->error);
}

/* Appends the ids of the added tokens in the text, and calls `between` for what lies between them. */
static int encode_added(struct encoding *encoding, const struct added *added, const char *text, size_t size,
                        int (*between)(struct encoding *encoding, const char *text, size_t size))
{
    struct added_match match;
    size_t search = 0, done = 0;
    while (added_find(added, text, size, encoding->skip_special, &search, &match)) {
        if (match.begin > done && between(encoding, text + done, match.begin - done) < 0)
            return -1;
        if (token_list_append(encoding->ids, match.id, encoding->error) < 0)
            return -1;
        done = match.end;
    }
    return done < size ? between(encoding, text + done, size - done) : 0;
}

static int encode_composed(struct encoding *encoding, const char *text, size_t size)
{
    const struct tokenizer_parts *parts = &encoding->tokenizer->parts;
    char *copy = NULL;
    if (parts->compose && unicode_compose(&text, &size, &copy, encoding->error) < 0)
        return -1;
    int result = encode_added(encoding, &parts->added_composed, text, size, encode_plain);
    free(copy);
    return result;
}

static int append_side(struct token_list *ids, const struct frame_side *side, struct error *error)
{
    for (int i = 0; i < side->count; i++)
        if (token_list_append(ids, side->id[i], error) < 0)
            return -1;
    return 0;
}

/* Whether the ids from `at` on are those of the side. */
static bool is_side(const struct token_list *ids, size_t at, const struct frame_side *side)
{
    const size_t count = (size_t)side->count;
    return ids->count >= at + count && memcmp(ids->data + at, side->id, count * sizeof *side->id) == 0;
}

static int encode_text(struct encoding *encoding, const char *text, size_t size, int flags)
{
    const struct tokenizer_parts *parts = &encoding->tokenizer->parts;
    const struct frame_side *before = &parts->frame.before, *behind = &parts->frame.behind;
    struct token_list *ids = encoding->ids;
    const size_t first = ids->count, count = flags & TOKENIZER_BEGIN ? (size_t)before->count : 0;
    if ((count && append_side(ids, before, encoding->error) < 0) ||
        encode_added(encoding, &parts->added, text, size, encode_composed) < 0)
        return -1;
    if (count && is_side(ids, first + count, before)) { /* the text has them itself */
        ids->count -= count;
        memmove(ids->data + first, ids->data + first + count, (ids->count - first) * sizeof *ids->data);
    }
    if (!(flags & TOKENIZER_END) || behind->count == 0 ||
        (ids->count - first >= (size_t)behind->count &&
         is_side(ids, ids->count - (size_t)behind->count, behind)))
        return 0;
    return append_side(ids, behind, encoding->error);
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int flags,
                     struct token_list *ids, struct error *error)
{
    struct encoding encoding = {
        .tokenizer = tokenizer, .skip_special = !(flags & TOKENIZER_SPECIAL), .ids = ids, .error = error};
    size_t before = ids->count;
    char *copy;
    if (utf8_repair(&text, &size, &copy, error) < 0)
        return -1;
    int result = encode_text(&encoding, text, size, flags);
    if (result < 0)
        ids->count = before;
    pretokenizer_work_free(&encoding.split);
    bpe_work_free(&encoding.merge);
    free(copy);
    return result;
}

size_t tokenizer_cut(const struct tokenizer *tokenizer, const char *text, size_t from, size_t size)
{
    return parts_find_cut(&tokenizer->parts, text, from, size);
}

void tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, const char **bytes, size_t *size)
{
    const struct vocab_token *token = &tokenizer->parts.vocab.tokens[id];
    *bytes = token->bytes;
    *size = token->size;
}

int tokenizer_size(const struct tokenizer *tokenizer)
{
    return tokenizer->parts.vocab.count;
}

int32_t tokenizer_end(const struct tokenizer *tokenizer)
{
    return tokenizer->end;
}

bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id)
{
    return tokenizer->parts.ends && id >= 0 && id < tokenizer->parts.vocab.count && tokenizer->parts.ends[id];
}

const struct frame *tokenizer_frame(const struct tokenizer *tokenizer)
{
    return &tokenizer->parts.frame;
}

void tokenizer_frame_text(const struct tokenizer *tokenizer, const struct frame_side *side, char *text,
                          size_t size)
{
    struct string words = {0};
    for (int i = 0; i < side->count; i++) {
        const struct vocab_token *token = &tokenizer->parts.vocab.tokens[side->id[i]];
        string_print(&words, "%s%.*s (%d)", i > 0 ? ", " : "", (int)(token->size < 80 ? token->size : 80),
                     token->bytes, (int)side->id[i]);
    }
    snprintf(text, size, "%s", words.data ? words.data : "no token");
    string_free(&words);
}

const char *tokenizer_frame_warning(const struct tokenizer *tokenizer)
{
    return tokenizer->parts.frame_warning.text[0] ? tokenizer->parts.frame_warning.text : NULL;
}

const char *tokenizer_warning(const struct tokenizer *tokenizer)
{
    return tokenizer->parts.warning.text[0] ? tokenizer->parts.warning.text : NULL;
}

void tokenizer_fingerprint(const struct tokenizer *tokenizer, char fingerprint[17])
{
    hash_print(tokenizer->hash, fingerprint);
}
