/* inputs.h: the first thread of a run. It reads the tokens of one call after another from the store, a few
 * calls ahead.
 *
 *     inputs_open(store, &order, batch, kept, &inputs, error);
 *     while ((ids = inputs_next(inputs, &stage))) {
 *         ...
 *         inputs_return(inputs, ids);
 *     }
 *     inputs_close(inputs, &report, error);
 */
#ifndef OFFRAMP_EXTRACT_INPUTS_H
#define OFFRAMP_EXTRACT_INPUTS_H

#include <stdint.h>

#include "common/base/channel.h"
#include "common/base/error.h"
#include "common/store/store.h"
#include "extract/kept.h"
#include "extract/order.h"

/* The tokens of one call. It covers the sequences index .. index + span - 1 of the run's order, and has tokens
 * of those that are not kept. */
struct input {
    uint64_t index, span;
    int sequences; /* with tokens; 0: all that are left are kept */
    int32_t *ids; /* [sequences * rows] */
    int32_t *labels; /* [sequences * rows] the token after each of them */
};

struct inputs;

/* Reads all sequences of the order, with tokens of `batch` of them in a call. `kept` (NULL: none) outlives the
 * inputs. */
int inputs_open(struct store *store, const struct order *order, int batch, const struct kept *kept,
                struct inputs **inputs, struct error *error);

/* Borrowed until inputs_return; NULL at the end or after a failure. */
struct input *inputs_next(struct inputs *inputs, struct stage *stage);
void inputs_return(struct inputs *inputs, struct input *batch);

/* Stops the thread, wherever it is, and frees the inputs. -1 when reading failed. NULL is fine. */
int inputs_close(struct inputs *inputs, struct stage *report, struct error *error);

#endif
