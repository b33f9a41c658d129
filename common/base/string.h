/* string.h: text that grows. A string remembers that memory ran out: check string_failed once, at the end.
 *
 *     struct string text = {0};
 *     string_print(&text, "<td>%d</td>", n);
 *     if (string_failed(&text, error)) goto done;
 *     done: string_free(&text);
 */
#ifndef OFFRAMP_BASE_STRING_H
#define OFFRAMP_BASE_STRING_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

struct string {
    char *data; /* zero-terminated; NULL while empty */
    size_t length; /* without the zero byte */
    size_t capacity;
    bool failed; /* memory ran out: the text is incomplete */
};

void string_append(struct string *string, const char *bytes, size_t size);
void string_print(struct string *string, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* True, with `error` set, when any append failed. */
bool string_failed(const struct string *string, struct error *error);
void string_free(struct string *string);

#endif
