/* error.h: the one error style of offramp.
 *
 * A function that can fail returns int: 0, or -1 with the reason in the caller's `struct error`.
 * The text is for a person: what happened, where (file, key, offset, sequence), what to do next.
 *
 *     if (file_map(path, &map, error) < 0)
 *         return error_prefix(error, "model");          // "model: PATH: no such file"
 *     if (rows < 1)
 *         return error_set(error, "%s: has no rows", path);
 *
 * The kind is for callers that decide by it; they never look at the text. error_set says ERROR_INPUT,
 * error_set_kind another.
 *
 *     if (error->kind == ERROR_NO_MEMORY) ...             // fewer rows may do
 *     if (error_is_machines(error)) ...                   // what was read is not at fault
 *     return cli_exit_code(result, &error);               // main: ERROR_USAGE is 2, all others 1 (cli.h)
 *
 * Who knows more than a callee narrows the kind:
 *
 *     if (parse_list(options->taps, &names, &count, error) < 0)
 *         return error_narrow(error, ERROR_USAGE);        // the text was the command line's
 */
#ifndef OFFRAMP_BASE_ERROR_H
#define OFFRAMP_BASE_ERROR_H

#include <stdbool.h>

enum error_kind {
    ERROR_INPUT, /* a file that cannot be used as it is */
    ERROR_USAGE, /* the command line, or a sweep file: wrong by itself, or it contradicts what it names */
    ERROR_DAMAGED, /* bytes are not what was once written: a hash does not fit, a file is cut short */
    ERROR_NO_SPACE, /* of a disk, or a quota or a limit of it */
    ERROR_NO_MEMORY, /* of the host or of a device */
    ERROR_DEVICE, /* an accelerator or a disk failed */
    ERROR_INTERRUPTED, /* somebody asked to stop */
    ERROR_INTERNAL /* a mistake of offramp's own */
};

struct error {
    char text[1024]; /* one line, no full stop, no line feed; cut when longer */
    enum error_kind kind;
};

/* Replaces the text; the kind is ERROR_INPUT. Always returns -1, so that `return error_set(...)` reads well. */
int error_set(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* error_set with another kind. Always returns -1. */
int error_set_kind(struct error *error, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text that is there and keeps the kind. Always returns -1. */
int error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ERROR_INPUT becomes `kind`; every other kind stays. Always returns -1. */
int error_narrow(struct error *error, enum error_kind kind);

/* Whether the machine failed, or somebody stopped it, and not what it was given: true for all kinds but
 * ERROR_INPUT, ERROR_USAGE and ERROR_DAMAGED. */
bool error_is_machines(const struct error *error);

/* error_set with ": " and strerror(errno) behind it, and errno's kind; reads errno first. Always returns -1. */
int error_system(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The kind of a value of errno. */
enum error_kind error_kind_of(int number);

#endif
