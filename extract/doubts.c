#include "extract/doubts.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/interrupt.h"
#include "common/base/json.h"
#include "common/base/memory.h"

#define BEGINNING_BYTES 256 /* say whether it may be an object at all */
#define LINES_BYTES     ((size_t)1 << 20) /* the first lines are looked for in so much */
#define LINES           8

static bool is_document(const char *line, size_t size, const char *field)
{
    json_error_t where;
    json_t *value = json_decode(line, size, JSON_ALLOW_NUL, &where);
    const bool result = json_is_object(value) && json_is_string(json_object_get(value, field));
    json_decref(value);
    return result;
}

/* ended: the file has nothing behind the text, so that its last line is whole. */
static bool are_documents(const char *text, size_t size, bool ended, const char *field)
{
    int lines = 0;
    while (size > 0 && lines < LINES) {
        const char *feed = memchr(text, '\n', size);
        const size_t length = feed ? (size_t)(feed - text) : size, whole = length + (feed != NULL);
        if (!feed && !ended)
            break;
        if (strspn(text, " \t\r") < length) {
            if (!is_document(text, length, field))
                return false;
            lines++;
        }
        text += whole;
        size -= whole;
    }
    return lines > 0;
}

static bool begins_object(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '{';
}

int doubts_json_lines(const struct corpus_file *file, const char *field, bool *found, struct error *error)
{
    struct stream *stream = NULL;
    char beginning[BEGINNING_BYTES + 1] = "", *text = NULL;
    size_t size = 0, rest = 0;
    int result = -1;
    *found = false;
    if (file->kind != CORPUS_TEXT)
        return 0;
    if (stream_open(file->path, file->compression, file->size, &stream, error) < 0 ||
        stream_skip(stream, file->begin, error) < 0 ||
        stream_read(stream, beginning, BEGINNING_BYTES, &size, error) < 0)
        goto done;
    if (begins_object(beginning)) {
        if (array_alloc(&text, LINES_BYTES + 1, error) < 0 ||
            stream_read(stream, text + size, LINES_BYTES - size, &rest, error) < 0)
            goto done;
        memcpy(text, beginning, size);
        *found = are_documents(text, size + rest, size + rest < LINES_BYTES, field);
    }
    result = 0;
done:
    stream_close(stream);
    free(text);
    return result;
}

int doubts_say(const struct corpus_list *list, const char *field, struct error *error)
{
    const char *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        bool found;
        if (cli_interrupted())
            return error_set_kind(error, ERROR_INTERRUPTED, "interrupted; nothing was begun");
        if (doubts_json_lines(&list->file[i], field, &found, error) < 0)
            return -1;
        if (found && count++ == 0)
            first = list->file[i].path;
    }
    if (count == 1)
        cli_say("warning: %s: looks like JSON lines but is read as text: name it .jsonl", first);
    else if (count > 1)
        cli_say("warning: %s and %zu more: look like JSON lines but are read as text: name them .jsonl", first,
                count - 1);
    return 0;
}
