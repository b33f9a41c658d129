/* transform.h: does the first half of encoding on the device that has the states.
 *
 * What a codec's coder_transform describes is done by ops there. So a few bytes a value cross the bus instead
 * of four, and host threads do the entropy coding only. On a backend whose memory is the host's, this gains
 * nothing, and nobody opens it.
 *
 *     transforms_open(backend, coders, taps, rows, cols, &transforms, error);
 *     made = transforms_put(transforms, queue, tap, states);
 *     if (matrix_is_none(made))
 *         op_read(queue, states, ...);                    // to coder_encode
 *     else
 *         op_read(queue, made, ...);                      // to coder_encode_transformed
 */
#ifndef OFFRAMP_TRANSFORM_TRANSFORM_H
#define OFFRAMP_TRANSFORM_TRANSFORM_H

#include "common/base/error.h"
#include "common/codec/codec.h"
#include "kernels/ops.h"

struct transforms;

/* coder [taps]: coders of `cols` columns, which must outlive the transforms; NULL for a tap of which nothing is
 * put. rows: the most that are put at a time. Takes of the device's memory what the coders' parameters take,
 * once for each tap, and rows that are smaller than states. */
int transforms_open(struct backend *backend, const struct coder *const *coder, int taps, int64_t rows,
                    int64_t cols, struct transforms **transforms, struct error *error);
/* NULL is fine. All queues they were put on must have been waited for. */
void transforms_close(struct transforms *transforms);

/* states [n, cols] f32 -> the rows that coder_encode_transformed takes, as f32 [n, row / 4], which are good
 * until the next call on the same queue. None when the tap's codec does not have a transform. */
struct matrix transforms_put(struct transforms *transforms, struct queue *queue, int tap, struct matrix states);

#endif
