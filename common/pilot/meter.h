/* meter.h: what a codec costs the model: the divergence, in nats per token, between what the model's own head
 * (final norm and output weight) says on exact states and what it says on decoded ones.
 *
 *     meter_open(store, backend, rows, &meter, error);
 *     meter_add(meter, exact, coded, rows, error);        // any number of times
 *     kl = meter_mean(meter);
 *     meter_close(meter);
 *
 * At `final` this is the divergence from the full model that coding causes. At earlier taps the same head is
 * used (the "logit lens"): most exit heads begin as that.
 */
#ifndef OFFRAMP_PILOT_METER_H
#define OFFRAMP_PILOT_METER_H

#include "common/base/error.h"
#include "common/store/store.h"
#include "kernels/ops.h"

struct meter;

/* The head of the model that the store was made with, from the tensors kept in it. rows: the most per call. */
int meter_open(struct store *store, struct backend *backend, int64_t rows, struct meter **meter,
               struct error *error);
void meter_close(struct meter *meter); /* NULL is fine */

/* exact, coded [rows, hidden]. Adds the rows' KL(softmax on exact || softmax on coded). */
int meter_add(struct meter *meter, const float *exact, const float *coded, int64_t rows, struct error *error);
/* Mean over the rows added since the last meter_reset; 0 when there are none. */
double meter_mean(const struct meter *meter);
void meter_reset(struct meter *meter);

#endif
