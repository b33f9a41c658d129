/* layers.h: the weights of the layers to run: all of them resident, or one at a time.
 *
 *     layers_open(model, backend, 24, true, &layers, error);
 *     layers_use(layers, 0, &layer, error);       // borrowed until the next layers_use
 *     layers_close(layers);
 */
#ifndef OFFRAMP_MODEL_LAYERS_H
#define OFFRAMP_MODEL_LAYERS_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/model/forward.h"
#include "common/model/model.h"

struct layers;

/* The first `count` layers. Not resident: each use loads a layer and drops the one before, and has
 * the system read the file's pages of the next one meanwhile. */
int layers_open(const struct model *model, struct backend *backend, int count, bool resident,
                struct layers **layers, struct error *error);
int layers_use(struct layers *layers, int index, const struct layer **layer, struct error *error);
void layers_close(struct layers *layers); /* NULL is fine */

#endif
