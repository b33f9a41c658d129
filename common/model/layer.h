/* layer.h: one transformer layer of any family on any backend, as its family's block (block.h) describes it.
 *
 * A layer runs as two halves, so that the tap between them (`L.mid`) costs nothing more:
 *
 *     x = x + attention(norm(x))          layer_attention, in place
 *     x = x + mlp(norm(x))                layer_mlp, in place
 *
 *     struct layer *layer;
 *     layer_load(model, 11, backend, WEIGHT_FORWARD, &layer, error);
 *     const struct span span = {.rows = 512};                    // one whole sequence
 *     layer_attention(layer, queue, scratch, &span, 1, x);       // x is now tap 12.mid
 *     layer_mlp(layer, queue, scratch, x);                       // x is now tap 12
 */
#ifndef OFFRAMP_MODEL_LAYER_H
#define OFFRAMP_MODEL_LAYER_H

#include "common/model/model.h"
#include "kernels/ops.h"

/* ---- weights of one layer, prepared ---- */

struct layer;

/* `uses` as in weight_prepare. The model must stay open while the layer lives. */
int layer_load(const struct model *model, int index, struct backend *backend, unsigned uses,
               struct layer **layer, struct error *error);
void layer_destroy(struct layer *layer); /* NULL is fine */
/* What the layer takes of the backend's memory. */
size_t layer_bytes(const struct layer *layer);

/* ---- working memory, which all layers share ---- */

struct layer_scratch;

/* rows: the most tokens per call. spans: the most sequences they belong to. positions: the longest sequence
 * (rows of the rope table). */
int scratch_create(const struct model_config *config, struct backend *backend, int rows, int spans,
                   int positions, struct layer_scratch **scratch, struct error *error);
void scratch_destroy(struct layer_scratch *scratch); /* NULL is fine */

/* Keys and values of one layer for one sequence: [capacity, the columns of k and of v]. */
struct kv {
    struct buffer *keys, *values; /* keys after rope */
    int capacity; /* rows; kv_create */
};
int kv_create(const struct model_config *config, struct backend *backend, int capacity, struct kv *kv,
              struct error *error);
void kv_destroy(struct kv *kv); /* a zeroed one is fine */

/* Neighbouring rows of a call that belong to one sequence. The spans of a call are all of its rows, in order.
 *
 *     x        span 0: rows of sequence A | span 1: rows of sequence B | ...
 *
 * Without kv a span is a whole sequence, from position 0. With kv its rows stand at the positions first ..
 * first + rows - 1: their keys and values are written there, and rows 0 .. first - 1 of kv are read. Spans of
 * one sequence may follow each other in a call when the later one stands behind the earlier one. */
struct span {
    int rows;
    const struct kv *kv; /* of this layer; or NULL */
    int first; /* 0 without kv */
};

/* x [M, H] in place: x + attention(norm(x)). More rows, spans, positions or keys than there is room for make
 * the queue fail. A scratch belongs to one queue at a time. What a row comes to does not depend on the other
 * spans of the call; how far that holds to the last bit, kernels/ops.h says ("Same bytes"). */
void layer_attention(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch,
                     const struct span *spans, int count, struct matrix x);
/* x [M, H] in place: x + mlp(norm(x)). */
void layer_mlp(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch, struct matrix x);

#endif
