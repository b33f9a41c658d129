/* product.h: small matrix products, each run by one oneDNN primitive on one thread.
 *
 *     product_cache_create(threads, &cache, error);
 *     product = product_find(cache, (struct product_shape){.rows = 64, .inner = k, .cols = n}, error);
 *     product_run(product, worker, left, &right, result);    // result [rows, cols] = left right
 *
 * All three matrices lie dense in memory: oneDNN 2.6 takes another, slower and differently rounding
 * implementation for other strides. Rows come in multiples of ROW_MULTIPLE: with these a row's result is
 * the same in products of any number of rows, wherever they are in it, with every instruction set
 * (tests/unit/cpu_products.c; with avx2 and sse41 it is not for other numbers of rows). `add` adds to
 * what the result holds.
 */
#ifndef OFFRAMP_KERNELS_CPU_PRODUCT_H
#define OFFRAMP_KERNELS_CPU_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

enum {
    ROW_MULTIPLE = 16,
    TILE_ROWS = 64 /* the tile of all ops but those of the vocabulary; full speed from here */
};

struct product_cache;
struct product;

/* left [rows, inner] and right [inner, cols] are f32, or bf16; the result is f32. */
struct product_shape {
    int64_t rows, inner, cols;
    bool bf16;
    bool packed; /* the right side is in oneDNN's own order, from right_pack; else rows one behind the other */
    bool add;
};

/* A right side that products read: plain values, or what right_pack has made. */
struct product_right {
    const void *plain;
    void *packed; /* dnnl_memory_t; pads its edges with zeros */
};

int product_cache_create(int threads, struct product_cache **cache, struct error *error);
void product_cache_destroy(struct product_cache *cache); /* NULL is fine */

/* The product of that shape, made on first use; lives as long as the cache. NULL with `error` set. */
const struct product *product_find(struct product_cache *cache, struct product_shape shape,
                                   struct error *error);

/* Runs on the calling thread; `worker` is its number, of which no other thread makes use meanwhile.
 * 0, or -1 when oneDNN fails (out of memory). */
int product_run(const struct product *product, int worker, const void *left, const struct product_right *right,
                float *result);

/* Bytes of a packed right side of that shape. -1 on error. */
int right_bytes(struct product_cache *cache, int64_t inner, int64_t cols, bool bf16, size_t *bytes,
                struct error *error);
/* Names `data` [right_bytes], 64-byte aligned and the caller's, as a packed right side. */
int right_create(struct product_cache *cache, int64_t inner, int64_t cols, bool bf16, void *data,
                 struct product_right *right, struct error *error);
void right_destroy(struct product_right *right);
/* Fills it: value (i, c) of [inner, cols] is source[i * inner_stride + c * col_stride]. -1 when oneDNN
 * fails. */
int right_pack(struct product_cache *cache, const struct product_right *right, int worker, const float *source,
               int64_t inner_stride, int64_t col_stride);

enum bf16_products {
    BF16_NONE,
    BF16_EMULATED, /* by f32 instructions: slower than f32 products */
    BF16_NATIVE
};

/* "onednn-2.6.3 avx512_core_bf16" into text. */
void product_describe(char *text, size_t size);
enum bf16_products product_bf16(struct product_cache *cache);

/* oneDNN's instruction set as it may be limited by ONEDNN_MAX_CPU_ISA: 2 avx512, 1 avx2, 0 less. */
int product_vector_level(void);

#endif
