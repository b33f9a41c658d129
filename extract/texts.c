#include "extract/texts.h"

#include <stdio.h>

#include "common/base/string.h"

static json_t *side_to_json(const struct frame_side *side)
{
    json_t *ids = json_array();
    for (int i = 0; i < side->count; i++)
        json_array_append_new(ids, json_integer(side->id[i]));
    return ids;
}

static const struct frame *frame_of(const struct tokenizer *tokenizer, const struct corpus_list *list)
{
    return tokenizer && corpus_list_has_text(list) ? tokenizer_frame(tokenizer) : NULL;
}

json_t *texts_before(const struct tokenizer *tokenizer, const struct corpus_list *list)
{
    const struct frame *frame = frame_of(tokenizer, list);
    return frame ? side_to_json(&frame->before) : json_null();
}

json_t *texts_behind(const struct tokenizer *tokenizer, const struct corpus_list *list)
{
    const struct frame *frame = frame_of(tokenizer, list);
    return frame ? side_to_json(&frame->behind) : json_null();
}

void texts_describe(const struct corpus_rules *rules, const struct corpus_list *list, char *text, size_t size)
{
    const struct frame *frame = frame_of(rules->tokenizer, list);
    const struct frame_side end = {.id = {rules->end}, .count = 1};
    struct string words = {0};
    char side[200];
    if (!frame) {
        snprintf(text, size, "token files are taken as they are; between documents the id %d", (int)rules->end);
        return;
    }
    tokenizer_frame_text(rules->tokenizer, &frame->before, side, sizeof side);
    string_print(&words, "before each text %s", side);
    if (frame->behind.count > 0) {
        tokenizer_frame_text(rules->tokenizer, &frame->behind, side, sizeof side);
        string_print(&words, ", behind it %s", side);
    }
    if (frame->source)
        string_print(&words, ", by %s", frame->source);
    tokenizer_frame_text(rules->tokenizer, &end, side, sizeof side);
    string_print(&words, "; between documents %s", side);
    snprintf(text, size, "%s", words.data ? words.data : "");
    string_free(&words);
}
