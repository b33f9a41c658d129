#include "common/base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json_repair.h"

json_t *json_decode(const char *text, size_t size, size_t flags, json_error_t *position)
{
    char *copy;
    if (json_repair(&text, &size, flags & JSON_ALLOW_NUL, &copy) < 0) {
        *position = (json_error_t){.text = "out of memory"};
        return NULL;
    }
    json_t *value = json_loadb(text, size, flags, position);
    for (char *at = position->text; !value && *at; at++) /* it quotes the text as it is */
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    free(copy);
    return value;
}

/* By its mark, or by the zeros that half of its bytes are: every JSON text begins with ASCII. */
static bool is_utf16(const char *text, size_t size)
{
    return size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0 ||
                         (text[0] == 0) != (text[1] == 0));
}

json_t *json_parse(const char *name, const char *text, size_t size, struct error *error)
{
    json_error_t position;
    json_t *value = json_decode(text, size, 0, &position);
    if (!value && is_utf16(text, size))
        error_set(error, "%s: is UTF-16, but JSON must be UTF-8", name);
    else if (!value)
        error_set(error, "%s: line %d, column %d: %s", name, position.line, position.column, position.text);
    return value;
}

json_t *json_read(const char *path, struct error *error)
{
    char *text;
    size_t size;
    if (file_read(path, &text, &size, error) < 0)
        return NULL;
    json_t *value = json_parse(path, text, size, error);
    free(text);
    return value;
}

json_t *json_read_fetched(const char *path, struct error *error)
{
    char *text;
    size_t size;
    if (file_read(path, &text, &size, error) < 0)
        return NULL;
    struct error reason;
    json_t *value = json_parse(path, text, size, &reason);
    free(text);
    if (!value)
        error_set_kind(error, ERROR_DAMAGED, "%s: the file is damaged: fetch it again", reason.text);
    return value;
}

char *json_text(const char *name, const json_t *value, size_t flags, struct error *error)
{
    char *text = value ? json_dumps(value, flags) : NULL;
    json_t *again = text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    if (!again) {
        error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory, or a value that JSON cannot write", name);
        free(text);
        return NULL;
    }
    json_decref(again);
    return text;
}

int json_write(const char *path, const json_t *value, struct error *error)
{
    char *text = json_text(path, value, JSON_INDENT(2) | JSON_REAL_PRECISION(9), error);
    if (!text)
        return -1;
    char *line = NULL;
    int length = asprintf(&line, "%s\n", text);
    int result = length < 0 ? error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", path)
                            : file_write(path, line, (size_t)length, error);
    if (length >= 0)
        free(line);
    free(text);
    return result;
}

int json_print(const char *name, json_t *value, FILE *stream, struct error *error)
{
    char *text = json_text(name, value, JSON_INDENT(2) | JSON_REAL_PRECISION(9), error);
    json_decref(value);
    if (!text)
        return -1;
    const int result = fprintf(stream, "%s\n", text) < 0 || ferror(stream)
                           ? error_system(error, "%s: cannot be printed", name)
                           : 0;
    free(text);
    return result;
}

static int missing(const char *name, const char *key, const char *expected, const json_t *found,
                   struct error *error)
{
    if (!found)
        return error_set(error, "%s: \"%s\" is missing (%s expected)", name, key, expected);
    return error_set(error, "%s: \"%s\" is not %s", name, key, expected);
}

int json_get_integer(const char *name, const json_t *object, const char *key, int64_t least, int64_t most,
                     int64_t *value, struct error *error)
{
    json_t *found = json_object_get(object, key);
    if (!json_is_integer(found))
        return missing(name, key, "an integer", found, error);
    if (json_integer_value(found) < least || json_integer_value(found) > most)
        return error_set(error, "%s: \"%s\" is %" JSON_INTEGER_FORMAT ", not in %" PRId64 " .. %" PRId64, name,
                         key, json_integer_value(found), least, most);
    *value = json_integer_value(found);
    return 0;
}

int json_get_number(const char *name, const json_t *object, const char *key, double *value, struct error *error)
{
    json_t *found = json_object_get(object, key);
    if (!json_is_number(found))
        return missing(name, key, "a number", found, error);
    *value = json_number_value(found);
    return 0;
}

int json_get_string(const char *name, const json_t *object, const char *key, const char **value,
                    struct error *error)
{
    json_t *found = json_object_get(object, key);
    if (!json_is_string(found))
        return missing(name, key, "a string", found, error);
    *value = json_string_value(found);
    return 0;
}

int json_get_written_integer(const char *name, const json_t *object, const char *key, int64_t least,
                             int64_t most, int64_t *value, struct error *error)
{
    const char *text;
    if (json_get_string(name, object, key, &text, error) < 0)
        return -1;
    return parse_integer(text, least, most, value, error) < 0 ? error_prefix(error, "%s: \"%s\"", name, key)
                                                              : 0;
}
