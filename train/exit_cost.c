#include "train/exit_cost.h"

#include "common/model/block.h"

double tap_depth(const struct model_config *config, struct tap tap)
{
    if (!tap.mid)
        return tap.layer;
    const double attention = (double)half_values(config, &block_of(config)->half[HALF_ATTENTION]);
    return tap.layer - 1 + attention / (double)block_values(config);
}

static double output_values(const struct model_config *config)
{
    return (double)role_values(config, role_holder(config, ROLE_OUTPUT));
}

double output_cost(const struct model_config *config)
{
    return output_values(config) / (double)block_values(config);
}

struct exit_cost exit_cost(const struct head_spec *spec, const struct model_config *config)
{
    double values = (double)head_spec_values(spec, config, false);
    if (spec->output == OUTPUT_UNTIED) /* its own output weight is among them */
        values -= output_values(config);
    return (struct exit_cost){tap_depth(config, spec->tap), values / (double)block_values(config)};
}

struct exit_cost draft_cost(const struct head_spec *spec, const struct model_config *config)
{
    return (struct exit_cost){0, (double)head_spec_values(spec, config, false) / (double)block_values(config)};
}
