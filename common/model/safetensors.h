/* safetensors.h: reads and writes the safetensors format (Hugging Face): 8 bytes of header length,
 * a JSON header, then the tensors.
 *
 * Reading takes a file, or a folder with model.safetensors or model.safetensors.index.json and its
 * shards. Everything is checked as in gguf.h. Writing streams: the header first, from shapes alone,
 * then each tensor's bytes in order, so that an export needs no memory for what it writes.
 */
#ifndef OFFRAMP_MODEL_SAFETENSORS_H
#define OFFRAMP_MODEL_SAFETENSORS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/tensor.h"

struct safetensors;

int safetensors_open(const char *path, struct safetensors **file, struct error *error);
void safetensors_close(struct safetensors *file); /* NULL is fine */
size_t safetensors_count(const struct safetensors *file);
const struct tensor *safetensors_tensor(const struct safetensors *file, size_t index);
/* NULL when there is none of that name. */
const struct tensor *safetensors_find(const struct safetensors *file, const char *name);
/* The "__metadata__" object of a single file, or NULL; borrowed. */
const json_t *safetensors_metadata(const struct safetensors *file);

/* ---- writing: F32, F16, BF16, I32, F64 ---- */

struct safetensors_writer;

/* Starts a file under a temporary name. `tensors` give name, type, dims, shape; data is not looked
 * at. metadata: an object of strings, or NULL. */
int safetensors_create(const char *path, const struct tensor *tensors, size_t count, const json_t *metadata,
                       struct safetensors_writer **writer, struct error *error);
/* The next bytes, tensor after tensor as they were given; any piece size. */
int safetensors_write(struct safetensors_writer *writer, const void *data, size_t size, struct error *error);
/* All bytes must have come: fsyncs, renames to the final name. Frees the writer either way. */
int safetensors_finish(struct safetensors_writer *writer, struct error *error);
/* Removes the temporary file and frees the writer; NULL is fine. */
void safetensors_abandon(struct safetensors_writer *writer);

#endif
