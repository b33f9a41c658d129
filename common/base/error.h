/* error.h: the one error style of offramp.
 *
 * A function that can fail returns int: 0, or -1 with the reason in the caller's `struct error`.
 * The text is for a person: what happened, where (file, key, offset, sequence), what to do next.
 *
 *     if (file_map(path, &map, error) < 0)
 *         return error_prefix(error, "model");          // "model: PATH: no such file"
 *     if (rows < 1)
 *         return error_set(error, "%s: has no rows", path);
 */
#ifndef OFFRAMP_BASE_ERROR_H
#define OFFRAMP_BASE_ERROR_H

struct error {
    char text[1024]; /* one line, no full stop, no line feed; cut when longer */
};

/* Replaces the text. Always returns -1, so that `return error_set(...)` reads well. */
int error_set(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the text that is there. Always returns -1. */
int error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* error_set with ": " and strerror(errno) behind it; reads errno first. Always returns -1. */
int error_system(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
