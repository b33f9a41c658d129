/* forward.h: the forward pass: whole sequences go through the first layers of a model, and a function of the
 * caller looks at their states on the way.
 *
 * A call is some sequences that go through a layer together. A super-batch is some calls. A layer takes all
 * calls of a super-batch before it is the next layer's turn:
 *
 *                   call 0   call 1   call 2       So weights that do not stay in memory are loaded once for
 *     embedding       1        2        3          a whole super-batch, and while a layer computes, the next
 *     layer 1         4        5        6          one is loaded (layers.h).
 *     layer 2         7        8        9
 *
 * When all weights stay in memory, one call is enough. Layers above the last one wanted are not loaded.
 *
 *     const struct forward_shape shape = {.rows = 512, .batch = 4, .group = 1, .layers = 24, .resident = true};
 *     forward_open(model, backend, &shape, &forward, error);
 *     while (...) {
 *         forward_add(forward, ids, sequences);               // 1 .. group times
 *         forward_run(forward, more, visit, context, error);  // visit sees every call after every half-layer
 *     }
 *     forward_close(forward);
 *
 * The states of a sequence do not depend on the sequences that are computed with it.
 */
#ifndef OFFRAMP_MODEL_FORWARD_H
#define OFFRAMP_MODEL_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/model.h"
#include "kernels/ops.h"

struct forward_shape {
    int rows; /* tokens per sequence; more than MATMUL_FEW_ROWS */
    int batch; /* sequences per call, at most */
    int group; /* calls per super-batch, at most; forward_resize */
    int layers; /* how many to run */
    bool half; /* of the last one only the attention is run */
    bool resident; /* all weights stay in memory */
};

struct forward;

/* Seconds. All but `call` are zero when the weights stay in memory. */
struct forward_times {
    double read; /* reading a layer from disk, or from the system's cache of it: mean */
    double prepare; /* preparing a layer's weights, when nothing else runs */
    double call; /* a full call through a layer; forward_measure */
    double loading; /* the work of the thread that loads, in all */
    double waited; /* waiting for that thread, in all */
};

/* Loads the weights that stay in memory. The model must stay open until forward_close. */
int forward_open(const struct model *model, struct backend *backend, const struct forward_shape *shape,
                 struct forward **forward, struct error *error);
void forward_close(struct forward *forward); /* NULL is fine */

/* Changes the number of calls per super-batch. No call may wait. After an error only forward_close may
 * follow. */
int forward_resize(struct forward *forward, int group, struct error *error);

/* Loads the first layer and runs a call through it, for forward_times. No call may wait. */
int forward_measure(struct forward *forward, struct error *error);
/* The times of forward_measure and of all loads since. */
struct forward_times forward_times(const struct forward *forward);

/* Adds a call for the next forward_run: ids [sequences * rows], sequences <= batch. At most `group` calls may
 * wait. */
void forward_add(struct forward *forward, const int32_t *ids, int sequences);

/* Looks at the states of a call, which are at tap `layer` (0: the embedding's output) or, with `mid`,
 * `layer`.mid. call: its number in the order in which calls were added. states: [sequences * rows, hidden]; it
 * may put ops that read them on `queue`. It returns -1 with an error to end the run. */
typedef int forward_visit(void *context, int call, int layer, bool mid, struct queue *queue,
                          struct matrix states, struct error *error);

/* Takes the added calls through all layers. `more`: another run follows, so the first layer is loaded again
 * meanwhile. No call waits afterwards. */
int forward_run(struct forward *forward, bool more, forward_visit *visit, void *context, struct error *error);

#endif
