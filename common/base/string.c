#include "common/base/string.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

/* Room for `size` more bytes and the zero byte; false once memory has run out. */
static bool reserve(struct string *string, size_t size)
{
    struct error ignored;
    size_t needed;
    if (!string->failed && (!size_add(string->length, size, &needed) || !size_add(needed, 1, &needed) ||
                            array_grow(&string->data, &string->capacity, needed, &ignored) < 0))
        string->failed = true;
    return !string->failed;
}

void string_append(struct string *string, const char *bytes, size_t size)
{
    if (!reserve(string, size))
        return;
    if (size > 0) /* bytes may be NULL then, which memcpy may not see */
        memcpy(string->data + string->length, bytes, size);
    string->length += size;
    string->data[string->length] = 0;
}

void string_print(struct string *string, const char *format, ...)
{
    va_list list, again;
    va_start(list, format);
    va_copy(again, list);
    int length = vsnprintf(NULL, 0, format, list);
    if (length < 0)
        string->failed = true;
    else if (reserve(string, (size_t)length)) {
        vsnprintf(string->data + string->length, (size_t)length + 1, format, again);
        string->length += (size_t)length;
    }
    va_end(again);
    va_end(list);
}

bool string_failed(const struct string *string, struct error *error)
{
    if (string->failed)
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory: a text of %zu bytes could not grow",
                       string->length);
    return string->failed;
}

void string_free(struct string *string)
{
    free(string->data);
    *string = (struct string){0};
}
