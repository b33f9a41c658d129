/* json.h: jansson with offramp's errors. Values of type json_t are jansson's own. */
#ifndef OFFRAMP_BASE_JSON_H
#define OFFRAMP_BASE_JSON_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"

/* Parses UTF-8 text from outside: an object or an array. It reads as Python's json module does: a value that
 * jansson cannot hold is not an error (json_repair.h), and of two members with one name the last counts. Depth
 * is bounded. `flags` are jansson's: with JSON_ALLOW_NUL values may contain NUL, and json_string_length tells
 * their length; without it no string contains one. *position gets the end. json_decref the result; NULL on
 * error. */
json_t *json_decode(const char *text, size_t size, size_t flags, json_error_t *position);
/* json_decode without flags; `name` (a file or key) goes into the error with line and column. */
json_t *json_parse(const char *name, const char *text, size_t size, struct error *error);
json_t *json_read(const char *path, struct error *error);
/* json_read of a file that was downloaded, such as a model's. Where it is not JSON, the error is ERROR_DAMAGED
 * and says to fetch the file again. */
json_t *json_read_fetched(const char *path, struct error *error);

/* json_dumps with `flags`; free() the text. The text is parsed again before it is returned, because jansson
 * leaves a key out, and does not say so, when memory runs out while it prints the key. NULL on error; the error
 * names `name`. */
char *json_text(const char *name, const json_t *value, size_t flags, struct error *error);

/* Writes with file_write, indented, keys in the order they were added, with a final line feed. */
int json_write(const char *path, const json_t *value, struct error *error);

/* Prints to a stream in the same way. It is an error when the stream did not take everything. Takes the
 * reference; a value of NULL is reported as memory that is out. Errors name `name`. */
int json_print(const char *name, json_t *value, FILE *stream, struct error *error);

/* A member that must be there, of that type and in that range. The error names `name` and the key. */
int json_get_integer(const char *name, const json_t *object, const char *key, int64_t least, int64_t most,
                     int64_t *value, struct error *error);
int json_get_number(const char *name, const json_t *object, const char *key, double *value,
                    struct error *error);
/* A whole number that is written as a string, as all of a safetensors file's metadata is. */
int json_get_written_integer(const char *name, const json_t *object, const char *key, int64_t least,
                             int64_t most, int64_t *value, struct error *error);
/* Borrowed from the object. */
int json_get_string(const char *name, const json_t *object, const char *key, const char **value,
                    struct error *error);

#endif
