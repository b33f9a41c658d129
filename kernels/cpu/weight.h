/* weight.h: prepared weights, and right sides packed as a grid of tiles. */
#ifndef OFFRAMP_KERNELS_CPU_WEIGHT_H
#define OFFRAMP_KERNELS_CPU_WEIGHT_H

#include "kernels/cpu/cpu.h"

/* A right side [inner, cols], cut into tiles of tile_inner x tile_cols. A weight W [N, K] has two: forward W^T
 * [K, N] and backward W [N, K]. Both are cut along N, so that tile t of both has the same rows of W. A forward
 * tile is cut again, along K, into slices; their products are added up. So no chain of f32 sums is longer than
 * a slice: with one chain over the 1536 values of a small model's MLP, the error of states was four times as
 * large. */
struct pack {
    int64_t inner, cols, tile_inner, tile_cols;
    int64_t tile_rows, tiles; /* rows of W in a tile */
    int64_t slice_inner, slices; /* of a tile */
    bool bf16, backward;
    struct product_right *right; /* [tiles][slices] */
    void *data; /* owned unless it was lent */
    bool lent;
    size_t bytes;
};

struct cpu_weight {
    struct weight base;
    struct weight_part *parts; /* WEIGHT_ROWS */
    int part_count;
    float *values; /* a subset's rows, its only part; else NULL */
    float *bias; /* or NULL */
    struct pack *forward, *backward; /* NULL when not asked for */
};

/* Rows of a weight that make a tile: all of them, or WEIGHT_TILE where there are many (a vocabulary). A subset has
 * smaller ones, so that all threads have something to pack. */
enum { WEIGHT_TILE = 512, WEIGHT_WHOLE = 4096, SUBSET_TILE = 256 };
static inline int64_t weight_tile(int64_t rows)
{
    return rows <= WEIGHT_WHOLE ? rows : WEIGHT_TILE;
}

/* A side of a weight [rows, cols]. */
struct pack_side {
    int64_t rows, cols, tile_rows;
    bool backward, bf16;
};

/* Bytes that pack_create needs for it. */
int pack_bytes(struct product_cache *cache, const struct pack_side *side, size_t *bytes, struct error *error);
/* An empty pack; `data` [pack_bytes] is lent, or NULL: allocated. */
int pack_create(struct product_cache *cache, const struct pack_side *side, void *data, struct pack **pack,
                struct error *error);
void pack_destroy(struct pack *pack); /* NULL is fine */
/* Fills tile t from its rows of the weight, `stride` apart. */
int pack_fill(struct product_cache *cache, const struct pack *pack, int64_t t, int worker, const float *rows,
              int64_t stride);

/* Fills the packs of a subset from its values. */
void subset_pack(struct queue *queue, const struct cpu_weight *subset);

/* [inner, cols] of tile t. */
void pack_tile_shape(const struct pack *pack, int64_t t, int64_t *inner, int64_t *cols);

/* ---- a left side times one tile ---- */

/* For the slices of a tile: [last slice][add]. */
struct tile_product {
    const struct product *product[2][2];
};

/* The products for a left side of `rows` rows and tile t; `add`: also for adding to a result. False: the queue
 * has failed. */
bool tile_product_find(struct queue *queue, const struct pack *pack, int64_t t, int64_t rows, bool add,
                       struct tile_product *products);

/* Rows [first, first + rows) of x [.., tile_inner] as the left side of a tile: `padded` rows, one slice behind
 * the other. `space` [padded, tile_inner] is used where x's own memory will not do. */
const void *tile_left(const struct cpu_loops *loops, const struct pack *pack, struct matrix x, int64_t first,
                      int64_t rows, int64_t padded, void *space);

/* result [padded, cols] (=, or with `add` +=) left times tile t. */
void tile_multiply(struct queue *queue, const struct tile_product *products, const struct pack *pack, int64_t t,
                   int worker, const void *left, int64_t padded, bool add, float *result);

#endif
