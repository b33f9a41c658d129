/* layers.h: the weights of the layers to run.
 *
 * Either all layers stay in memory ("resident"), or two at a time do: the one that computes, and the next one,
 * which a thread reads from disk and prepares meanwhile.
 *
 *     caller      computes layer 0    computes layer 1    computes layer 2
 *     thread      loads layer 1       loads layer 2       loads layer 3
 *                                  ^ layers_use         ^ layers_use: waits for the slower of the two
 *
 *     layers_open(model, backend, 24, false, &layers, error);
 *     layers_use(layers, 0, 1, &stage, &layer, error);        // borrowed until the next layers_use
 *     layers_use(layers, 1, 2, &stage, &layer, error);
 *     layers_close(layers);
 */
#ifndef OFFRAMP_MODEL_LAYERS_H
#define OFFRAMP_MODEL_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/channel.h"
#include "common/base/error.h"
#include "common/model/layer.h"
#include "common/model/model.h"

struct layers;

/* The seconds that loading has cost so far. */
struct layers_times {
    int loads;
    double read; /* reading from disk, or from the system's cache of it: of all loads */
    double prepare; /* preparing in the first load, when nothing else was computed */
    double load; /* the thread's work: of all loads */
};

/* The first `count` layers. */
int layers_open(const struct model *model, struct backend *backend, int count, bool resident,
                struct layers **layers, struct error *error);
void layers_close(struct layers *layers); /* NULL is fine */

/* Lends the weights of layer `index` until the next call. The index is the `next` of the call before; in the
 * first call it is any. The thread begins to load `next` (-1: nothing). Seconds spent waiting are added to
 * stage->waiting. */
int layers_use(struct layers *layers, int index, int next, struct stage *stage, const struct layer **layer,
               struct error *error);

/* Only the thread that calls layers_use may ask. All are zero when the layers are resident. */
struct layers_times layers_times(const struct layers *layers);

/* The bytes of the largest of the first `count` layers in the model's file. */
uint64_t layers_file_bytes(const struct model *model, int count);

#endif
