/* codec.h: turns a matrix of states into bytes and back. A codec knows matrices and bytes only.
 *
 *     raw:f32   the values as they are                        32 bits a value, exact
 *     raw       rounded to bf16                               16
 *     lossless  rounded to bf16, byte planes, zstd            about 11
 *
 * "Exact" for raw and lossless means: decoding gives the bf16 rounding of what was encoded.
 *
 *     const struct codec *codec = codec_find("lossless", error);
 *     capacity = codec->bound(rows, cols);
 *     codec->encode(worker, states, rows, cols, payload, capacity, &size, error);
 *     codec->decode(worker, payload, size, rows, cols, states, error);
 */
#ifndef OFFRAMP_CODEC_CODEC_H
#define OFFRAMP_CODEC_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "kernels/dtype.h"

/* Working memory of one thread (zstd contexts, planes); codecs grow it as they need. */
struct codec_worker;
int codec_worker_create(struct codec_worker **worker, struct error *error);
void codec_worker_destroy(struct codec_worker *worker); /* NULL is fine */

struct codec {
    const char *name; /* as --codec and the manifest write it */
    uint16_t id; /* in record headers; never reused */
    enum dtype type; /* of the values it keeps: DTYPE_F32 or DTYPE_BF16 */
    const char *summary; /* one line for --help */

    /* The most bytes encode can write for rows x cols; 0 when the shape is out of range. */
    size_t (*bound)(int64_t rows, int64_t cols);

    /* states [rows, cols] f32 -> payload of *size <= capacity bytes. The same states give the same
     * bytes, whatever was encoded before. */
    int (*encode)(struct codec_worker *worker, const float *states, int64_t rows, int64_t cols, void *payload,
                  size_t capacity, size_t *size, struct error *error);

    /* payload -> states [rows, cols] f32. The payload is not trusted: any bytes give an error or
     * some finite amount of work, never a read or write outside. */
    int (*decode)(struct codec_worker *worker, const void *payload, size_t size, int64_t rows, int64_t cols,
                  float *states, struct error *error);
};

/* NULL with an error that lists the names there are. */
const struct codec *codec_find(const char *name, struct error *error);
const struct codec *codec_find_id(uint16_t id); /* NULL: unknown */
/* The table, ended by NULL. */
const struct codec *const *codec_table(void);

#endif
