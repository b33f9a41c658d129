/* forward.h: whole sequences through the first layers of a model, with a look at their states on the way.
 *
 * Layer by layer over a super-batch of calls: each layer's weights take all calls through before the next
 * layer's turn, so that weights which do not stay in memory are loaded once for all of them, the next layer's
 * while one computes. When all stay, a super-batch of one call is the ordinary forward pass. Layers above the
 * last one wanted are never loaded.
 *
 *     const struct forward_shape shape = {.rows = 512, .batch = 4, .group = 1, .layers = 24, .resident = true};
 *     forward_open(model, backend, &shape, &forward, error);
 *     while (...) {
 *         forward_add(forward, ids, sequences);               // 1 .. group times
 *         forward_run(forward, more, visit, context, error);  // visit sees every call after every half layer
 *     }
 *     forward_close(forward);
 *
 * The states of a sequence do not depend on the sequences computed with it.
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
    int layers; /* to run */
    bool half; /* of the last one, the attention only */
    bool resident; /* all weights stay in memory */
};

struct forward;

/* Seconds, where weights are loaded layer by layer. */
struct forward_times {
    double read; /* a layer's weights from disk, or the system's cache of it: mean */
    double prepare; /* them for computing, when nothing else runs */
    double call; /* a full call through a layer */
    double loading; /* the thread that loads, at work in all */
    double waited; /* for it, in all */
};

/* Loads what stays in memory. The model must outlive it. */
int forward_open(const struct model *model, struct backend *backend, const struct forward_shape *shape,
                 struct forward **forward, struct error *error);
void forward_close(struct forward *forward); /* NULL is fine */

/* Another number of calls per super-batch, while none waits. After an error only forward_close is left. */
int forward_resize(struct forward *forward, int group, struct error *error);

/* Times the first layer, loaded and run once; while no call waits. */
int forward_measure(struct forward *forward, struct error *error);
/* What forward_measure and all loads since have taken. */
struct forward_times forward_times(const struct forward *forward);

/* One more call for the next forward_run: ids [sequences * rows], sequences <= batch. Fewer than `group` calls
 * may wait. */
void forward_add(struct forward *forward, const int32_t *ids, int sequences);

/* Looks at the states of call number `call`, in the order they were added: states [sequences * rows, hidden]
 * after `layer` (0: the embedding), or with `mid` after that layer's attention. They may be read with
 * op_read on `queue`. -1 with an error ends the run. */
typedef int forward_visit(void *context, int call, int layer, bool mid, struct queue *queue,
                          struct matrix states, struct error *error);

/* Takes the calls that were added through all layers; `more`: another run follows, whose first layer can be
 * loaded ahead. None wait afterwards. */
int forward_run(struct forward *forward, bool more, forward_visit *visit, void *context, struct error *error);

#endif
