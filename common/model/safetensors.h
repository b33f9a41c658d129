/* safetensors.h: reads and writes safetensors files (Hugging Face's format).
 *
 *     | length of the header, 8 bytes | header: JSON with names, types, shapes, offsets | the tensors' bytes |
 *
 * Reading takes a file, or a folder. A folder holds model.safetensors, or model.safetensors.index.json and the
 * files that it lists. Nothing in them is believed before it is checked, as in gguf.h.
 *
 *     safetensors_open(path, &file, error);
 *     tensor = safetensors_find(file, "scale");              // borrowed from the open file
 *     safetensors_close(file);
 *
 * Writing streams: the header is made from shapes alone, then each tensor's bytes come in order. So an export
 * does not hold in memory what it writes. The file has its final name only after safetensors_finish.
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

/* ---- writing: F32, F16, BF16, F64, I32, I64, BOOL ---- */

struct safetensors_writer;

/* Starts a file under a temporary name. `tensors` have name, type, dims and shape; their data is not used.
 * metadata: an object of strings, or NULL. */
int safetensors_create(const char *path, const struct tensor *tensors, size_t count, const json_t *metadata,
                       struct safetensors_writer **writer, struct error *error);
/* The next bytes of the tensors, in the order given to safetensors_create. A call may take any number of
 * them. */
int safetensors_write(struct safetensors_writer *writer, const void *data, size_t size, struct error *error);
/* An error unless all bytes have come. Syncs the file and gives it its final name. Frees the writer either
 * way. */
int safetensors_finish(struct safetensors_writer *writer, struct error *error);
/* Removes the temporary file and frees the writer; NULL is fine. */
void safetensors_abandon(struct safetensors_writer *writer);

#endif
