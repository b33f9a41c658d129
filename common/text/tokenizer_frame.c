/* What goes around a text, by the post-processor of a tokenizer.json. */
#include <string.h>

#include "common/base/json.h"
#include "common/text/tokenizer_parts.h"

enum { NESTING_LIMIT = 4 }; /* of Sequence in Sequence; real files have one */

int parts_frame_id(const struct tokenizer_parts *parts, int64_t id, struct frame_side *side,
                   struct error *error)
{
    if (!parts_has_token(parts, id))
        return error_set(error, "token %lld, which goes around a text, is not in the vocabulary",
                         (long long)id);
    if (side->count == FRAME_MAX)
        return error_set(error, "more than %d tokens go around a text", FRAME_MAX);
    side->id[side->count++] = (int32_t)id;
    return 0;
}

/* The ids that special_tokens has for a name. */
static int add_special(const json_t *template, const char *name, const struct tokenizer_parts *parts,
                       struct frame_side *side, struct error *error)
{
    const json_t *ids =
        json_object_get(json_object_get(json_object_get(template, "special_tokens"), name), "ids");
    if (!json_is_array(ids))
        return error_set(error, "\"special_tokens\" has no \"ids\" of \"%.80s\"", name);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id))
            return error_set(error, "an id of \"%.80s\" is not a number", name);
        if (parts_frame_id(parts, json_integer_value(id), side, error) < 0)
            return -1;
    }
    return 0;
}

/* "single": tokens by name, and the text, "A", once. */
static int read_template(const json_t *template, struct tokenizer_parts *parts, struct error *error)
{
    const json_t *single = json_object_get(template, "single");
    struct frame_side *const before = &parts->frame.before, *const behind = &parts->frame.behind,
                             *side = before;
    if (!json_is_array(single))
        return error_set(error, "\"single\" is not a list");
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        const char *text = json_string_value(json_object_get(json_object_get(item, "Sequence"), "id"));
        if (name) {
            if (add_special(template, name, parts, side, error) < 0)
                return -1;
        } else if (text && strcmp(text, "A") == 0 && side == before) {
            side = behind;
        } else {
            return error_set(error, "\"single\" holds more than tokens and one text");
        }
    }
    if (side == before)
        return error_set(error, "\"single\" does not hold the text");
    return 0;
}

/* *templates counts them: what a second one does, Hugging Face leaves open. */
static int read_processor(const json_t *processor, int depth, int *templates, struct tokenizer_parts *parts,
                          struct error *error)
{
    if (!processor || json_is_null(processor))
        return 0;
    const char *type = json_string_value(json_object_get(processor, "type"));
    const json_t *inner = json_object_get(processor, "processors");
    if (type && strcmp(type, "ByteLevel") == 0) /* counts characters, and leaves ids alone */
        return 0;
    if (type && strcmp(type, "TemplateProcessing") == 0)
        return (*templates)++ == 0 ? read_template(processor, parts, error)
                                   : error_set(error, "more than one TemplateProcessing");
    if (!type || strcmp(type, "Sequence") != 0 || !json_is_array(inner) || depth == NESTING_LIMIT)
        return error_set(
            error,
            "\"%.80s\" is not supported (ByteLevel, TemplateProcessing and Sequence are), so give the "
            "corpus as a token file",
            type ? type : "?");
    for (size_t i = 0; i < json_array_size(inner); i++)
        if (read_processor(json_array_get(inner, i), depth + 1, templates, parts, error) < 0)
            return -1;
    return 0;
}

int parts_read_frame(const json_t *processor, struct tokenizer_parts *parts, struct error *error)
{
    int templates = 0;
    if (read_processor(processor, 0, &templates, parts, error) < 0)
        return error_prefix(error, "post_processor");
    if (parts->frame.before.count + parts->frame.behind.count > 0)
        parts->frame.source = "the post_processor of tokenizer.json";
    return 0;
}
