#include "common/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int set(struct error *error, enum error_kind kind, const char *format, va_list list)
{
    char text[sizeof error->text]; /* an argument may be the old text */
    vsnprintf(text, sizeof text, format, list);
    memcpy(error->text, text, sizeof text);
    error->kind = kind;
    return -1;
}

int error_set(struct error *error, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    set(error, ERROR_INPUT, format, list);
    va_end(list);
    return -1;
}

int error_set_kind(struct error *error, enum error_kind kind, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    set(error, kind, format, list);
    va_end(list);
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

int error_narrow(struct error *error, enum error_kind kind)
{
    if (error->kind == ERROR_INPUT)
        error->kind = kind;
    return -1;
}

bool error_is_machines(const struct error *error)
{
    return error->kind != ERROR_INPUT && error->kind != ERROR_USAGE && error->kind != ERROR_DAMAGED;
}

enum error_kind error_kind_of(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return ERROR_NO_SPACE;
    case ENOMEM:
    case EAGAIN: /* threads and locked pages beyond a limit */
    case EMFILE:
    case ENFILE: return ERROR_NO_MEMORY;
    case EIO:
    case ENXIO:
    case ENODEV:
    case EREMOTEIO:
    case ESTALE: return ERROR_DEVICE;
    case EINTR: return ERROR_INTERRUPTED;
    default: return ERROR_INPUT;
    }
}

int error_system(struct error *error, const char *format, ...)
{
    int number = errno;
    char text[sizeof error->text];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return error_set_kind(error, error_kind_of(number), "%s: %s", text, strerror(number));
}
