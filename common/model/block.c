#include "common/model/block.h"

#include "common/model/family.h"

const struct block *block_of(const struct model_config *config)
{
    return family_find(config->family)->block;
}

int half_products(const struct block_half *half)
{
    int count = 0;
    while (count < BLOCK_STACKED && half->in[count].weight != ROLE_NONE)
        count++;
    return count;
}

int64_t half_column(const struct model_config *config, const struct block_half *half, int product)
{
    int64_t column = 0;
    for (int i = 0; i < product; i++)
        column += role_rows(config, half->in[i].weight);
    return column;
}

int64_t half_projected(const struct model_config *config, const struct block_half *half)
{
    return half_column(config, half, half_products(half));
}

int64_t half_mixed(const struct model_config *config, const struct block_half *half)
{
    int64_t shape[2] = {0};
    role_shape(config, half->out.weight, shape);
    return shape[1];
}

int64_t half_values(const struct model_config *config, const struct block_half *half)
{
    int64_t values = role_values(config, half->out.weight);
    for (int i = 0; i < half_products(half); i++)
        values += role_values(config, half->in[i].weight);
    return values;
}

int64_t block_values(const struct model_config *config)
{
    const struct block *block = block_of(config);
    return half_values(config, &block->half[HALF_ATTENTION]) + half_values(config, &block->half[HALF_MLP]);
}
