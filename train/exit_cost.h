/* exit_cost.h: what exits cost, in layers of the model. A cost follows the number of weights, because decoding one token at
 * a time is bound by reading them: a head, and a product with an output weight, cost what they have of a layer's weights.
 *
 *     struct exit_cost cost = exit_cost(&spec, &config);
 *     cost.depth + cost.head + output_cost(&config)     // a token that leaves there, where nothing else was checked
 *     config.layers + output_cost(&config)              // one that does not leave
 */
#ifndef OFFRAMP_TRAIN_EXIT_COST_H
#define OFFRAMP_TRAIN_EXIT_COST_H

#include "common/head/head.h"
#include "common/model/config.h"

struct exit_cost {
    double depth; /* the layers down to the tap */
    double head; /* without the output product */
};

/* How many layers lead to a tap. The attention half of a layer counts by the values of its matrices. */
double tap_depth(const struct model_config *config, struct tap tap);

/* A product with the model's output weight. */
double output_cost(const struct model_config *config);

struct exit_cost exit_cost(const struct head_spec *spec, const struct model_config *config);
/* Of a step of a draft, which has all that it needs from the last pass of the model, and an output weight of its own. */
struct exit_cost draft_cost(const struct head_spec *spec, const struct model_config *config);

#endif
