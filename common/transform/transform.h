/* transform.h: the first half of encoding, on the device that has the states: what codecs' coder_transform describes,
 * done by ops, so that a few bytes a value cross the bus instead of four, and host threads have the entropy coding only.
 *
 *     transforms_open(backend, coders, taps, rows, &transforms, error);
 *     made = transforms_put(transforms, queue, tap, states);
 *     if (matrix_is_none(made))
 *         op_read(queue, states, ...);                    // to coder_encode
 *     else
 *         op_read(queue, made, ...);                      // to coder_encode_transformed
 *
 * Where ops run on the processor the codecs' own loops do as well: nobody opens this for a backend whose memory is the
 * host's.
 */
#ifndef OFFRAMP_TRANSFORM_TRANSFORM_H
#define OFFRAMP_TRANSFORM_TRANSFORM_H

#include "common/base/error.h"
#include "common/codec/codec.h"
#include "kernels/ops.h"

struct transforms;

/* coder [taps], of `cols` columns each (NULL: nothing is put of that tap), outlives them; `rows` are put at a time at most. Takes of the device what the coders'
 * parameters take, each once, and rows of less than the states' size. */
int transforms_open(struct backend *backend, const struct coder *const *coder, int taps, int64_t rows,
                    int64_t cols, struct transforms **transforms, struct error *error);
/* NULL is fine; the queues they were put on have been waited for. */
void transforms_close(struct transforms *transforms);

/* Of states [n, cols] f32 the rows that coder_encode_transformed takes, as f32 [n, row / 4], good until the next call on
 * the same queue; none where the tap's codec has no transform. */
struct matrix transforms_put(struct transforms *transforms, struct queue *queue, int tap, struct matrix states);

#endif
