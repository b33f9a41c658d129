#include "common/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *error, const char *format, ...)
{
    char text[sizeof error->text]; /* an argument may be the old text */
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    memcpy(error->text, text, sizeof text);
    return -1;
}

int error_prefix(struct error *error, const char *format, ...)
{
    char text[2 * sizeof error->text];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(text, sizeof error->text, format, list);
    va_end(list);
    if (length < 0)
        length = 0;
    if ((size_t)length >= sizeof error->text)
        length = sizeof error->text - 1;
    snprintf(text + length, sizeof text - (size_t)length, ": %s", error->text);
    text[sizeof error->text - 1] = 0;
    memcpy(error->text, text, sizeof error->text);
    return -1;
}

int error_system(struct error *error, const char *format, ...)
{
    int number = errno;
    char text[sizeof error->text];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return error_set(error, "%s: %s", text, strerror(number));
}
