/* block.h: what a layer of a model is, as data.
 *
 * A layer is two halves. Each adds what it makes of the residual stream x to x:
 *
 *     half          norm of x         in             mix                out      then x is
 *     attention     attention_norm    q | k | v      attention          o        tap L.mid
 *     mlp           mlp_norm          gate | up      silu(gate) * up    down     tap L
 *
 *     x = x + out(mix(in(norm(x))))
 *
 * The description names roles and their order. Their shapes are role_shape's, and a role without a tensor in a
 * model (a bias, a norm) is left out of its layers. Who holds the weights is not said here: a frozen layer has
 * them prepared, those of `in` stacked to one product (layer.h); a head that is trained has a matrix of floats
 * for each role.
 *
 *     const struct block_half *mlp = &block_of(config)->half[HALF_MLP];
 *     for (int i = 0; i < half_products(mlp); i++)
 *         ... role_rows(config, mlp->in[i].weight)         // I, I
 *     half_projected(config, mlp);                         // 2 I: columns of gate | up
 *     half_mixed(config, mlp);                             // I: columns that down takes
 */
#ifndef OFFRAMP_MODEL_BLOCK_H
#define OFFRAMP_MODEL_BLOCK_H

#include "common/model/role.h"

#define BLOCK_STACKED 3 /* products of the same rows in a half, at most */

/* y = x weight^T + bias. */
struct block_product {
    enum tensor_role weight; /* [rows, cols] */
    enum tensor_role bias; /* [rows] */
};

/* How the results of `in` become what `out` multiplies. */
enum block_mix {
    MIX_ATTENTION, /* q | k | v: attention, causal, within the layer's window (config_window) */
    MIX_SWIGLU, /* gate | up: silu(gate) * up */
};

struct block_half {
    enum tensor_role norm; /* RMS norm of x */
    struct block_product
        in[BLOCK_STACKED]; /* half_products of them; their results are neighbours, as columns */
    enum tensor_role
        in_norm[BLOCK_STACKED]; /* RMS norm of a result, in groups as long as its scale (op_norm) */
    int rotated; /* how many results, from the first on, get their positions by rope: 2 of q | k | v */
    enum block_mix mix;
    struct block_product out; /* what is added to x */
};

enum { HALF_ATTENTION, HALF_MLP, BLOCK_HALVES };

struct block {
    struct block_half half[BLOCK_HALVES];
};

/* The layers of a config's family, which must be known (config_check). */
const struct block *block_of(const struct model_config *config);

/* ---- sizes ---- */

/* Products of `in`. */
int half_products(const struct block_half *half);
/* Where the result of in[product] begins among the columns of all of them; how many columns these are; and how
 * many mix makes of them, which `out` takes. */
int64_t half_column(const struct model_config *config, const struct block_half *half, int product);
int64_t half_projected(const struct model_config *config, const struct block_half *half);
int64_t half_mixed(const struct model_config *config, const struct block_half *half);
/* Values of a half's matrices, which are what decoding reads and what memory goes into; and of both halves'. */
int64_t half_values(const struct model_config *config, const struct block_half *half);
int64_t block_values(const struct model_config *config);

#endif
