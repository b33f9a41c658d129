/* frequency.h: tokens in the order of how often they come.
 *
 *     tokens_by_frequency(times, NULL, vocab, order, error);
 *     order[0] ...        // comes most often
 */
#ifndef OFFRAMP_TRAIN_FREQUENCY_H
#define OFFRAMP_TRAIN_FREQUENCY_H

#include <stdint.h>

#include "common/base/error.h"

/* order [vocab]: all tokens by falling times [vocab]; of equal ones the greater weight [vocab] first, where it is given,
 * then the smaller id. */
int tokens_by_frequency(const int64_t *times, const double *weight, int64_t vocab, int32_t *order,
                        struct error *error);

#endif
