/* scout_sums.h: the sums of the ridge regressions (common/head/ridge.h) from every layer's states to two later taps:
 *
 *     to n, the last layer's output      from the taps 0 .. n - 1: what a ridge `affine` head starts from
 *     to n - 2                           from the taps 0 .. n - 3: what a `bridge` starts from, the model's last two
 *                                        layers being behind it
 *
 *     scout_sums_create(backend, layers, hidden, rows, &sums, error);
 *     scout_sums_add(sums, &call, error);                              // as scout_pass_run's visitor
 *     scout_sums_take(sums, queue, map, &values, error);              // for ridge_solve
 *     scout_sums_free(sums);
 *
 * A sequence is added at a time. So sums depend on the sequences and their order, and not on how many are in a call.
 */
#ifndef OFFRAMP_EXTRACT_SCOUT_SUMS_H
#define OFFRAMP_EXTRACT_SCOUT_SUMS_H

#include <stdbool.h>

#include "common/head/source.h"
#include "extract/scout_pass.h"

#define SCOUT_BRIDGED                                                                                          \
    SOURCE_LAYERS /* layers of the model behind a bridge, where its trial does not say otherwise */

/* ---- the maps ---- */

struct scout_map {
    int tap, to;
};

/* From the model's number of layers: those to the last layer, then those to SCOUT_BRIDGED layers below it. */
int scout_map_count(int layers);
struct scout_map scout_map(int layers, int map);
/* The number of the bridge's map from a tap, or -1. (The affine map's is the tap.) */
int scout_bridge_map(int layers, int tap);

/* ---- their sums ---- */

struct scout_sums;

/* rows: of a sequence. */
int scout_sums_create(struct backend *backend, int layers, int hidden, int rows, struct scout_sums **sums,
                      struct error *error);
void scout_sums_free(struct scout_sums *sums); /* NULL is fine */
/* Bytes of it. */
uint64_t scout_sums_bytes(int layers, int hidden, int rows);

/* Waits for the queue. */
int scout_sums_add(struct scout_sums *sums, const struct scout_call *call, struct error *error);
uint64_t scout_sums_tokens(const struct scout_sums *sums); /* that were added */

/* A map's sums on the host: ridge_sums_values doubles, freshly allocated. */
int scout_sums_read(const struct scout_sums *sums, struct queue *queue, int map, double **values,
                    struct error *error);
/* The same, for the last time: the device's memory of them is freed. */
int scout_sums_take(struct scout_sums *sums, struct queue *queue, int map, double **values,
                    struct error *error);

#endif
