/* block.c: what a family's layers are: the description fits the shapes of its roles, and misses none. */
#include "common/model/block.h"

#include <string.h>

#include "common/model/family.h"
#include "tests/small_config.h"
#include "tests/test.h"

/* q and o 576 x 576, k and v 192 x 576, three of 1536 x 576. */
TEST(block_sizes)
{
    const struct block_half *attention = &block_of(&small)->half[HALF_ATTENTION],
                            *mlp = &block_of(&small)->half[HALF_MLP];
    CHECK(half_products(attention) == 3 && half_products(mlp) == 2);
    CHECK(half_projected(&small, attention) == 576 + 192 + 192 && half_mixed(&small, attention) == 576);
    CHECK(half_column(&small, attention, 0) == 0 && half_column(&small, attention, 1) == 576 &&
          half_column(&small, attention, 2) == 576 + 192);
    CHECK(half_projected(&small, mlp) == 2 * 1536 && half_mixed(&small, mlp) == 1536);
    CHECK(half_values(&small, attention) == 576 * (576 + 576 + 192 + 192));
    CHECK(half_values(&small, mlp) == 576 * 3 * 1536);
    CHECK(block_values(&small) == 3538944);
}

TEST(block_roles_without_a_tensor)
{
    int64_t shape[2];
    struct model_config config = small;
    CHECK(role_rows(&small, ROLE_EMBEDDING) == 49152 && role_values(&small, ROLE_EMBEDDING) == 49152 * 576);
    CHECK(role_rows(&small, ROLE_Q_BIAS) == 0 && role_values(&small, ROLE_Q_BIAS) == 0);
    CHECK(role_shape(&small, ROLE_NONE, shape) == 0 && role_values(&small, ROLE_NONE) == 0);
    config.attention_bias = true;
    CHECK(role_rows(&config, ROLE_K_BIAS) == 192 && role_values(&config, ROLE_K_BIAS) == 192);
}

TEST(block_output_weight_has_a_holder)
{
    int64_t shape[2];
    struct model_config config = small;
    config.tied = true;
    CHECK(role_shape(&config, ROLE_OUTPUT, shape) == 0);
    CHECK(role_holder(&config, ROLE_OUTPUT) == ROLE_EMBEDDING);
    CHECK(role_values(&config, role_holder(&config, ROLE_OUTPUT)) == 49152 * 576);
    config.tied = false;
    CHECK(role_holder(&config, ROLE_OUTPUT) == ROLE_OUTPUT);
    CHECK(role_values(&config, ROLE_OUTPUT) == 49152 * 576);
    for (int role = ROLE_NONE; role < ROLE_COUNT; role++) {
        config.tied = role != ROLE_OUTPUT;
        CHECK(role_holder(&config, (enum tensor_role)role) == (enum tensor_role)role);
    }
}

/* A config of that family with every optional role, and sizes that differ from each other. */
static struct model_config config_of(const char *family)
{
    struct model_config config = {.layers = 2,
                                  .hidden = 40,
                                  .attention_heads = 6,
                                  .kv_heads = 2,
                                  .head_size = 8,
                                  .intermediate = 56,
                                  .vocab = 99,
                                  .attention_bias = true,
                                  .output_bias = true,
                                  .mlp_bias = true,
                                  .qk_norms = true};
    strcpy(config.family, family);
    return config;
}

static bool is_matrix(const struct model_config *config, enum tensor_role role, int64_t rows, int64_t cols)
{
    int64_t shape[2];
    return role_shape(config, role, shape) == 2 && shape[0] == rows && shape[1] == cols;
}

static bool is_vector(const struct model_config *config, enum tensor_role role, int64_t length)
{
    int64_t shape[2];
    return role_shape(config, role, shape) == 1 && shape[0] == length;
}

static void check_half(const struct model_config *config, const struct block_half *half)
{
    const int64_t mixed = half_mixed(config, half);
    int64_t rows[BLOCK_STACKED] = {0};
    CHECK(is_vector(config, half->norm, config->hidden));
    for (int i = 0; i < half_products(half); i++) {
        rows[i] = role_rows(config, half->in[i].weight);
        CHECK(is_matrix(config, half->in[i].weight, rows[i], config->hidden));
        CHECK(is_vector(config, half->in[i].bias, rows[i]));
        CHECK(half->in_norm[i] == ROLE_NONE || rows[i] % role_rows(config, half->in_norm[i]) == 0);
    }
    CHECK(is_matrix(config, half->out.weight, config->hidden, mixed));
    CHECK(is_vector(config, half->out.bias, config->hidden));
    /* What is rotated comes in attention heads. */
    CHECK(half->rotated <= half_products(half));
    for (int i = 0; i < half->rotated; i++)
        CHECK(rows[i] % config->head_size == 0);
    if (half->mix == MIX_ATTENTION)
        CHECK(half_products(half) == 3 && rows[0] == mixed && rows[1] == rows[2]);
    else
        CHECK(half_products(half) == 2 && rows[0] == mixed && rows[1] == mixed);
}

static void count_roles(const struct block *block, int counts[ROLE_COUNT])
{
    for (int h = 0; h < BLOCK_HALVES; h++) {
        const struct block_half *half = &block->half[h];
        counts[half->norm]++;
        for (int i = 0; i < half_products(half); i++) {
            counts[half->in[i].weight]++;
            counts[half->in[i].bias]++;
            counts[half->in_norm[i]]++;
        }
        counts[half->out.weight]++;
        counts[half->out.bias]++;
    }
}

/* A tensor that a model may have and that no half uses would be read, checked, and left out of its layers. */
TEST(block_uses_every_role)
{
    static const char *const families[] = {"llama", "mistral", "qwen2", "qwen3"};
    for (int f = 0; f < 4; f++) {
        const struct model_config config = config_of(families[f]);
        int counts[ROLE_COUNT] = {0};
        check_half(&config, &block_of(&config)->half[HALF_ATTENTION]);
        check_half(&config, &block_of(&config)->half[HALF_MLP]);
        count_roles(block_of(&config), counts);
        for (int role = ROLE_NONE + 1; role < ROLE_COUNT; role++)
            if (counts[role] != role_is_per_layer((enum tensor_role)role))
                test_fail(__FILE__, __LINE__, "a layer of %s uses %s %d times", families[f],
                          role_name((enum tensor_role)role), counts[role]);
    }
}

TEST_MAIN
