/* layers.h: the weights of the layers to run: all of them resident, or two at a time, the one that computes
 * and the next, which a thread reads from disk and prepares meanwhile.
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

/* What loading has cost so far, in seconds. */
struct layers_times {
    int loads;
    double read; /* from disk, or from the system's cache of it: all loads */
    double prepare; /* the first load, when nothing else was computed */
    double load; /* the thread, at work: all loads */
};

/* The first `count` layers. */
int layers_open(const struct model *model, struct backend *backend, int count, bool resident,
                struct layers **layers, struct error *error);
void layers_close(struct layers *layers); /* NULL is fine */

/* Weights of layer `index`: the `next` of the call before, or any in the first call. The thread begins to
 * load `next` (-1: nothing). Seconds spent waiting are added to stage->waiting. */
int layers_use(struct layers *layers, int index, int next, struct stage *stage, const struct layer **layer,
               struct error *error);

/* By the thread that calls layers_use; all zero when resident. */
struct layers_times layers_times(const struct layers *layers);

/* Bytes that the largest of the first `count` layers has in the model's file. */
uint64_t layers_file_bytes(const struct model *model, int count);

#endif
