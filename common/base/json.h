/* json.h: jansson with offramp's errors. Values of type json_t are jansson's own. */
#ifndef OFFRAMP_BASE_JSON_H
#define OFFRAMP_BASE_JSON_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"

/* Parses UTF-8 text from outside, an object or array, as Python's json module reads it: what jansson cannot hold
 * (json_repair.h) is not an error where nobody reads it, and of two members with one name the last counts. Depth is
 * bounded. `flags` are jansson's: JSON_ALLOW_NUL keeps NUL in values, whose length json_string_length tells; else
 * no string holds one. Where it ends goes into *position. json_decref the result. NULL on error. */
json_t *json_decode(const char *text, size_t size, size_t flags, json_error_t *position);
/* json_decode without flags; `name` (a file or key) goes into the error with line and column. */
json_t *json_parse(const char *name, const char *text, size_t size, struct error *error);
json_t *json_read(const char *path, struct error *error);
/* json_read of a file that was downloaded, such as a model's: where it is not JSON, the kind is ERROR_DAMAGED and the
 * error says to fetch it again. */
json_t *json_read_fetched(const char *path, struct error *error);

/* json_dumps with `flags`, free() the text. Where memory runs out while jansson prints a key, it leaves the
 * key out and says nothing: the text is parsed before it is given away. NULL on error, with `name` in it. */
char *json_text(const char *name, const json_t *value, size_t flags, struct error *error);

/* Writes with file_write, indented, keys in the order they were added, with a final line feed. */
int json_write(const char *path, const json_t *value, struct error *error);

/* Prints to a stream, in the same way; a stream that lost something is an error. Takes the reference; NULL says that memory
 * is out. `name` goes into errors. */
int json_print(const char *name, json_t *value, FILE *stream, struct error *error);

/* A member that must be there and of that type and range; the error names `name` and the key. */
int json_get_integer(const char *name, const json_t *object, const char *key, int64_t least, int64_t most,
                     int64_t *value, struct error *error);
int json_get_number(const char *name, const json_t *object, const char *key, double *value,
                    struct error *error);
/* Borrowed from the object. */
int json_get_string(const char *name, const json_t *object, const char *key, const char **value,
                    struct error *error);

#endif
