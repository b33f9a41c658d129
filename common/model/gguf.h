/* gguf.h: reads GGUF files, version 2 and 3 (ggml's docs/gguf.md): metadata and tensors.
 *
 * Nothing in the file is believed before it is checked: counts, strings and array lengths against the bytes
 * that are left, types, alignment, each tensor's extent against the file's size. Overlapping tensors and
 * duplicate names are refused. Errors name the file, the key or tensor, and the byte offset.
 *
 * Strings and tensors are borrowed from the mapped file, until gguf_close.
 *
 *     struct gguf *gguf;
 *     if (gguf_open(path, &gguf, error) < 0) ...
 *     if (gguf_get_integer(gguf, "llama.block_count", 1, 1000, &layers, error) < 0) ...
 */
#ifndef OFFRAMP_MODEL_GGUF_H
#define OFFRAMP_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/tensor.h"

struct gguf;

/* Bytes in the mapped file. No zero byte ends them. */
struct gguf_string {
    const char *data;
    size_t length;
};

int gguf_open(const char *path, struct gguf **gguf, struct error *error);
void gguf_close(struct gguf *gguf); /* NULL is fine */
const char *gguf_path(const struct gguf *gguf);

bool gguf_has(const struct gguf *gguf, const char *key);
/* The value at a key of any integer type, or of bool (0 and 1). An error that names the key when it is missing,
 * or its value is not in least .. most. */
int gguf_get_integer(const struct gguf *gguf, const char *key, int64_t least, int64_t most, int64_t *value,
                     struct error *error);
/* The same of any integer or float type. */
int gguf_get_number(const struct gguf *gguf, const char *key, double *value, struct error *error);
int gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *value, struct error *error);
/* Arrays. The caller frees *values with free(). */
int gguf_get_strings(const struct gguf *gguf, const char *key, struct gguf_string **values, size_t *count,
                     struct error *error);
int gguf_get_integers(const struct gguf *gguf, const char *key, int64_t **values, size_t *count,
                      struct error *error);

size_t gguf_tensor_count(const struct gguf *gguf);
const struct tensor *gguf_tensor(const struct gguf *gguf, size_t index); /* in the file's order */
/* NULL when there is none of that name. */
const struct tensor *gguf_find_tensor(const struct gguf *gguf, const char *name);

#endif
