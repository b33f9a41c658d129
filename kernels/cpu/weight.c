/* weight.c: dequantises a weight once and packs it for products. */
#include "kernels/cpu/weight.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "kernels/cpu/stage.h"

/* ---- packs ---- */

enum {
    PACK_ALIGN = 4096,
    SLICE_INNER = 256, /* the longest chain of sums, where a tile is cut */
    WHOLE_INNER = 768, /* up to here it is not: rounding stays small, and adding slices up costs time */
    SLICE_MULTIPLE = 16
};

static struct pack pack_of(const struct pack_side *side)
{
    const int64_t rows = side->rows, cols = side->cols, tile = side->tile_rows;
    struct pack pack = {.bf16 = side->bf16, .backward = side->backward, .tile_rows = tile};
    pack.tiles = divide_up(rows, tile);
    pack.inner = side->backward ? rows : cols;
    pack.cols = side->backward ? cols : rows;
    pack.tile_inner = side->backward ? tile : cols;
    pack.tile_cols = side->backward ? cols : tile;
    pack.slice_inner = pack.tile_inner;
    if (!side->backward && cols > WHOLE_INNER)
        pack.slice_inner = round_up(divide_up(cols, divide_up(cols, SLICE_INNER)), SLICE_MULTIPLE);
    pack.slices = divide_up(pack.tile_inner, pack.slice_inner);
    return pack;
}

/* The inner side of a slice of a tile of that inner side. */
static int64_t slice_inner(const struct pack *pack, int64_t tile_inner, int64_t slice)
{
    return min_int64(pack->slice_inner, tile_inner - slice * pack->slice_inner);
}

void pack_tile_shape(const struct pack *pack, int64_t t, int64_t *inner, int64_t *cols)
{
    *inner = pack->tile_inner;
    *cols = pack->tile_cols;
    if (pack->backward)
        *inner = min_int64(pack->tile_inner, pack->inner - t * pack->tile_inner);
    else
        *cols = min_int64(pack->tile_cols, pack->cols - t * pack->tile_cols);
}

/* Bytes from one right side to the next, so that any of them fits and starts aligned; and of all. */
static int right_stride(struct product_cache *cache, const struct pack *pack, size_t *stride, size_t *all,
                        struct error *error)
{
    *stride = 0;
    for (int last = 0; last < 4; last++) {
        int64_t inner, cols;
        size_t bytes;
        pack_tile_shape(pack, last & 1 ? pack->tiles - 1 : 0, &inner, &cols);
        inner = slice_inner(pack, inner, last & 2 ? pack->slices - 1 : 0);
        if (right_bytes(cache, inner, cols, pack->bf16, &bytes, error) < 0)
            return -1;
        bytes = (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
        *stride = bytes > *stride ? bytes : *stride;
    }
    if (!size_multiply(*stride, (size_t)(pack->tiles * pack->slices), all))
        return error_set_kind(error, ERROR_NO_MEMORY, "a packed weight of [%lld, %lld] cannot be addressed",
                              (long long)pack->inner, (long long)pack->cols);
    return 0;
}

int pack_bytes(struct product_cache *cache, const struct pack_side *side, size_t *bytes, struct error *error)
{
    struct pack pack = pack_of(side);
    size_t stride;
    return right_stride(cache, &pack, &stride, bytes, error);
}

int pack_create(struct product_cache *cache, const struct pack_side *side, void *data, struct pack **result,
                struct error *error)
{
    struct pack *pack = memory_alloc(1, sizeof *pack, error);
    size_t stride;
    *result = NULL;
    if (!pack)
        return -1;
    *pack = pack_of(side);
    pack->data = data;
    pack->lent = data != NULL;
    if (right_stride(cache, pack, &stride, &pack->bytes, error) < 0 ||
        array_alloc(&pack->right, pack->tiles * pack->slices, error) < 0)
        goto fail;
    if (!pack->lent && posix_memalign(&pack->data, PACK_ALIGN, pack->bytes) != 0) {
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory: %zu bytes for a packed weight could not be had",
                       pack->bytes);
        goto fail;
    }
    for (int64_t i = 0; i < pack->tiles * pack->slices; i++) {
        int64_t inner, tile_cols;
        pack_tile_shape(pack, i / pack->slices, &inner, &tile_cols);
        if (right_create(cache, slice_inner(pack, inner, i % pack->slices), tile_cols, side->bf16,
                         (char *)pack->data + (size_t)i * stride, &pack->right[i], error) < 0)
            goto fail;
    }
    *result = pack;
    return 0;
fail:
    pack_destroy(pack);
    return -1;
}

void pack_destroy(struct pack *pack)
{
    if (!pack)
        return;
    for (int64_t i = 0; pack->right && i < pack->tiles * pack->slices; i++)
        right_destroy(&pack->right[i]);
    free(pack->right);
    if (!pack->lent)
        free(pack->data);
    free(pack);
}

int pack_fill(struct product_cache *cache, const struct pack *pack, int64_t t, int worker, const float *rows,
              int64_t stride)
{
    const int64_t inner_stride = pack->backward ? stride : 1, col_stride = pack->backward ? 1 : stride;
    for (int64_t p = 0; p < pack->slices; p++)
        if (right_pack(cache, &pack->right[t * pack->slices + p], worker,
                       rows + p * pack->slice_inner * inner_stride, inner_stride, col_stride) < 0)
            return -1;
    return 0;
}

/* ---- a left side times one tile ---- */

bool tile_product_find(struct queue *queue, const struct pack *pack, int64_t t, int64_t rows, bool add,
                       struct tile_product *products)
{
    struct product_shape shape = {.rows = rows, .bf16 = pack->bf16, .packed = true};
    int64_t inner;
    pack_tile_shape(pack, t, &inner, &shape.cols);
    for (int last = 0; last < 2; last++)
        for (int adds = 0; adds < (add || pack->slices > 1 ? 2 : 1); adds++) {
            shape.inner = slice_inner(pack, inner, last ? pack->slices - 1 : 0);
            shape.add = adds > 0;
            if (!(products->product[last][adds] = cpu_product_find(queue, shape)))
                return false;
        }
    return true;
}

const void *tile_left(const struct cpu_loops *loops, const struct pack *pack, struct matrix x, int64_t first,
                      int64_t rows, int64_t padded, void *space)
{
    if (pack->slices == 1)
        return stage_left(loops, pack->bf16, x, first, rows, padded, space);
    for (int64_t p = 0; p < pack->slices; p++) {
        const int64_t at = p * pack->slice_inner;
        stage_left(loops, pack->bf16, matrix_cols(x, at, slice_inner(pack, x.cols, p)), first, rows, padded,
                   (char *)space + (size_t)(padded * at) * operand_size(pack->bf16));
    }
    return space;
}

void tile_multiply(struct queue *queue, const struct tile_product *products, const struct pack *pack, int64_t t,
                   int worker, const void *left, int64_t padded, bool add, float *result)
{
    for (int64_t p = 0; p < pack->slices; p++) {
        const char *slice =
            (const char *)left + (size_t)(padded * p * pack->slice_inner) * operand_size(pack->bf16);
        cpu_product(queue, products->product[p == pack->slices - 1][add || p > 0], worker, slice,
                    &pack->right[t * pack->slices + p], result);
    }
}

/* ---- weights ---- */

/* A group of tiles is widened to f32, then packed. */
struct prepare_job {
    const struct cpu_weight *weight;
    struct product_cache *products;
    const struct weight_part *parts;
    int64_t first, rows; /* of the group */
    float *values; /* [rows, cols] */
    atomic_bool failed;
};

enum { WIDEN_ROWS = 64 };

/* Rows [first, first + count) of the stacked parts. */
static void widen_rows(const struct weight_part *parts, int64_t first, int64_t count, float *values)
{
    for (const struct weight_part *part = parts; count > 0; first -= part->rows, part++) {
        size_t row_bytes = 0;
        if (first >= part->rows)
            continue;
        int64_t here = min_int64(count, part->rows - first);
        dtype_row_bytes(part->type, part->cols, &row_bytes);
        dtype_to_f32(part->type, (const char *)part->data + (size_t)first * row_bytes, here * part->cols,
                     values);
        values += here * part->cols;
        count -= here;
        first += here;
    }
}

static void widen_task(void *context, int task, int worker)
{
    struct prepare_job *job = context;
    int64_t at = (int64_t)task * WIDEN_ROWS, count = min_int64(WIDEN_ROWS, job->rows - at);
    (void)worker;
    widen_rows(job->parts, job->first + at, count, job->values + at * job->parts->cols);
}

/* Tasks 0, 2, .. are forward tiles, 1, 3, .. backward ones. */
static void pack_task(void *context, int task, int worker)
{
    struct prepare_job *job = context;
    const struct pack *pack = task % 2 ? job->weight->backward : job->weight->forward;
    if (!pack)
        return;
    const int64_t cols = job->weight->base.cols;
    if (pack_fill(job->products, pack, job->first / pack->tile_rows + task / 2, worker,
                  job->values + task / 2 * pack->tile_rows * cols, cols) < 0)
        atomic_store(&job->failed, true);
}

static int fill_packs(struct cpu_backend *backend, const struct cpu_weight *weight,
                      const struct weight_part *parts, struct error *error)
{
    int64_t tile = weight_tile(weight->base.rows), cols = weight->base.cols;
    int64_t group = min_int64(weight->base.rows, tile * pool_threads(backend->pool));
    struct prepare_job job = {.weight = weight, .products = backend->products, .parts = parts};
    if (array_alloc(&job.values, group * cols, error) < 0)
        return -1;
    for (job.first = 0; job.first < weight->base.rows; job.first += group) {
        job.rows = min_int64(group, weight->base.rows - job.first);
        pool_run(backend->pool, (int)divide_up(job.rows, WIDEN_ROWS), widen_task, &job);
        pool_run(backend->pool, (int)divide_up(job.rows, tile) * 2, pack_task, &job);
    }
    free(job.values);
    return atomic_load(&job.failed)
               ? error_set_kind(error, ERROR_NO_MEMORY,
                                "oneDNN failed to pack it; the machine may be out of memory")
               : 0;
}

void cpu_weight_destroy(struct weight *base)
{
    struct cpu_weight *weight = (struct cpu_weight *)base;
    if (!weight)
        return;
    pack_destroy(weight->forward);
    pack_destroy(weight->backward);
    free(weight->parts);
    free(weight->values);
    free(weight->bias);
    free(weight);
}

static int copy_parts(struct cpu_weight *weight, const struct weight_part *parts, int count, const float *bias,
                      struct error *error)
{
    if (array_alloc(&weight->parts, count, error) < 0)
        return -1;
    memcpy(weight->parts, parts, (size_t)count * sizeof *parts);
    weight->part_count = count;
    if (!bias)
        return 0;
    if (array_alloc(&weight->bias, weight->base.rows, error) < 0)
        return -1;
    memcpy(weight->bias, bias, (size_t)weight->base.rows * sizeof *bias);
    weight->base.bytes += (size_t)weight->base.rows * sizeof *bias;
    return 0;
}

/* Empty packs for its uses. */
static int create_packs(struct cpu_backend *backend, struct cpu_weight *weight, int64_t tile_rows,
                        struct error *error)
{
    for (int backward = 0; backward < 2; backward++) {
        struct pack **pack = backward ? &weight->backward : &weight->forward;
        const struct pack_side side = {weight->base.rows, weight->base.cols, tile_rows, backward,
                                       backend->bf16};
        if (!(weight->base.uses & (backward ? WEIGHT_BACKWARD : WEIGHT_FORWARD)))
            continue;
        if (pack_create(backend->products, &side, NULL, pack, error) < 0)
            return -1;
        weight->base.bytes += (*pack)->bytes;
    }
    return 0;
}

int cpu_weight_prepare(struct backend *base, const struct weight_part *parts, int count, const float *bias,
                       unsigned uses, struct weight **result, struct error *error)
{
    struct cpu_backend *backend = (struct cpu_backend *)base;
    struct cpu_weight *weight = memory_alloc(1, sizeof *weight, error);
    *result = NULL;
    if (!weight)
        return -1;
    weight->base = (struct weight){.backend = base, .cols = parts->cols, .uses = uses};
    for (int p = 0; p < count; p++)
        weight->base.rows += parts[p].rows;
    if (copy_parts(weight, parts, count, bias, error) < 0)
        goto fail;
    if (create_packs(backend, weight, weight_tile(weight->base.rows), error) < 0)
        goto fail;
    if ((weight->forward || weight->backward) && fill_packs(backend, weight, parts, error) < 0)
        goto fail;
    *result = &weight->base;
    return 0;
fail:
    cpu_weight_destroy(&weight->base);
    return -1;
}

/* ---- subsets ---- */

int cpu_weight_subset_create(struct backend *base, int64_t rows, int64_t cols, struct weight **result,
                             struct error *error)
{
    struct cpu_weight *weight = memory_alloc(1, sizeof *weight, error);
    struct weight_part part = {DTYPE_F32, rows, cols, NULL};
    *result = NULL;
    if (!weight)
        return -1;
    weight->base = (struct weight){.backend = base, .rows = rows, .cols = cols};
    weight->base.uses = WEIGHT_FORWARD | WEIGHT_BACKWARD;
    weight->base.bytes = (size_t)(rows * cols) * sizeof(float);
    if (array_alloc(&weight->values, rows * cols, error) < 0)
        goto fail;
    part.data = weight->values;
    if (copy_parts(weight, &part, 1, NULL, error) < 0 ||
        create_packs((struct cpu_backend *)base, weight, min_int64(rows, SUBSET_TILE), error) < 0)
        goto fail;
    *result = &weight->base;
    return 0;
fail:
    cpu_weight_destroy(&weight->base);
    return -1;
}

void subset_pack(struct queue *queue, const struct cpu_weight *subset)
{
    struct prepare_job job = {
        .weight = subset, .products = queue_cpu(queue)->products, .values = subset->values};
    cpu_run(queue, subset->forward->tiles * 2, pack_task, &job);
    if (atomic_load(&job.failed))
        queue_fail(queue, ERROR_NO_MEMORY, "oneDNN failed to pack a weight; the machine may be out of memory");
}
