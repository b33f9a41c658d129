/* vocab.c: softmax over the vocabulary, fused with the output product.
 *
 * Tokens go in chunks of CHUNK rows, the vocabulary in the tiles of its packed weight. Per chunk:
 *     1  every tile: logits (product 1), then at once, while they are in cache, their softmax
 *        against the tile's own reference, a power of two (loops.h, struct part_sums)
 *     2  every row: the tiles' sums brought together: log sum exp, entropy, the loss
 *     3  every SLICE_TILES tiles: values to the row's common reference, which is exact, labels
 *        subtracted, product 2 with the weight's rows; and an own weight's gradient
 *     4  every row: the slices of product 2 added up in order
 * Logits are written once and values read once; only one chunk's values exist.
 */
#include <math.h>
#include <string.h>

#include "common/base/interrupt.h"
#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/stage.h"

enum { CHUNK = 256, SLICE_TILES = 4 };

static const double LN2 = 0.69314718055994530942;

/* An output weight: a prepared one's packs, or an own one packed for the length of the op. */
struct vocab_weight {
    struct few_source few;
    const struct pack *forward, *backward; /* forward NULL for few rows, backward when not needed */
    struct pack *made[2]; /* forward, backward: to be destroyed */
};

/* A tile's reference and sums for one row, and what is picked out of its logits. */
struct part {
    struct part_sums sums;
    float top_logit;
    int32_t top;
    int32_t best_count; /* of vocab_job's best */
};

/* What a chunk's row comes to. */
struct row_total {
    float exponent, sum; /* of the softmax: values are e^(z - exponent ln 2) / sum */
    float teacher_exponent, teacher_sum;
    float label_logit;
    int32_t label; /* or -1 */
    bool counts; /* a label inside the vocabulary, or another target */
    float out_scale; /* product 2 is multiplied by this */
};

struct vocab_job {
    struct queue *queue;
    const struct cpu_loops *loops;
    bool bf16, few;
    struct matrix h, t, labels;
    struct vocab_weight weight, teacher;
    bool with_teacher, keep; /* keep: values are needed for product 2 */
    const struct vocab_stats *stats; /* op_vocab_stats */
    const struct vocab_loss *target; /* op_vocab_loss */
    struct matrix cross, loss, dh, down, shift;
    int64_t size, width; /* of the vocabulary, of h */
    int64_t tile, tiles, slices;
    /* one chunk */
    int64_t first, rows, padded;
    const void *states, *teacher_states; /* [padded, width] left sides; NULL for few rows */
    char *values, *teacher_values; /* [tiles] of [padded, tile] */
    struct part *parts, *teacher_parts; /* [tiles, CHUNK] */
    int64_t best_most; /* op_vocab_stats's K; 0: none are wanted */
    struct part_best *best; /* [tiles, CHUNK, best_most] of each tile those that may be among the row's */
    _Atomic(float) least[CHUNK]; /* the row's last best logit is at least that; a tile that ends raises it */
    struct row_total total[CHUNK];
    float *scores; /* per worker 2 [CHUNK, tile], and more for down */
    int64_t score_space;
    float *partial; /* [slices, padded, width] */
    void *scaled_states; /* [padded, width]: h times out_scale, for down */
    struct tile_product logits[2], combine[2]; /* [last tile] */
    const struct product *outer[2];
};

static int64_t tile_size(const struct vocab_job *job, int64_t t)
{
    return min_int64(job->tile, job->size - t * job->tile);
}

static void *tile_values(const struct vocab_job *job, char *values, int64_t t)
{
    return values + (size_t)(t * job->padded * job->tile) * operand_size(job->bf16);
}

/* ---- weights ---- */

struct own_job {
    struct product_cache *products;
    struct matrix own;
    const struct pack *pack;
    atomic_bool failed;
};

static void pack_own_task(void *context, int task, int worker)
{
    struct own_job *job = context;
    if (pack_fill(job->products, job->pack, task, worker,
                  matrix_floats(job->own) + task * job->pack->tile_rows * job->own.stride, job->own.stride) < 0)
        atomic_store(&job->failed, true);
}

/* An own weight packed into the slot; NULL: the queue has failed. */
static struct pack *pack_own(struct queue *queue, struct matrix own, int64_t tile_rows, bool backward,
                             enum scratch slot)
{
    struct cpu_backend *backend = queue_cpu(queue);
    const struct pack_side side = {own.rows, own.cols, tile_rows, backward, backend->bf16};
    struct own_job job = {.products = backend->products, .own = own};
    struct pack *pack = NULL;
    struct error error;
    size_t bytes;
    if (pack_bytes(backend->products, &side, &bytes, &error) < 0) {
        queue_fail(queue, error.kind, "%s", error.text);
        return NULL;
    }
    void *data = scratch_get(queue, slot, 1, bytes);
    if (!data)
        return NULL;
    if (pack_create(backend->products, &side, data, &pack, &error) < 0) {
        queue_fail(queue, error.kind, "%s", error.text);
        return NULL;
    }
    job.pack = pack;
    cpu_run(queue, pack->tiles, pack_own_task, &job);
    if (atomic_load(&job.failed))
        queue_fail(queue, ERROR_NO_MEMORY, "oneDNN failed to pack a weight; the machine may be out of memory");
    return pack;
}

static void weight_open(struct vocab_job *job, const struct vocab *vocab, bool backward, bool teacher,
                        struct vocab_weight *weight)
{
    const struct cpu_weight *tied = (const struct cpu_weight *)vocab->tied;
    if (tied) {
        weight->few = (struct few_source){.parts = tied->parts, .count = tied->part_count};
        weight->forward = tied->forward;
        weight->backward = tied->backward;
        return;
    }
    weight->few = (struct few_source){
        .own = {DTYPE_F32, vocab->own.rows, vocab->own.cols, matrix_floats(vocab->own)},
        .own_stride = (size_t)vocab->own.stride * sizeof(float),
        .count = 1,
    };
    weight->few.parts = &weight->few.own;
    if (!job->few)
        weight->forward = weight->made[0] = pack_own(job->queue, vocab->own, job->tile, false,
                                                     teacher ? SCRATCH_PACK_TEACHER : SCRATCH_PACK_FORWARD);
    if (backward)
        weight->backward = weight->made[1] =
            pack_own(job->queue, vocab->own, job->tile, true, SCRATCH_PACK_BACKWARD);
}

static void weight_close(struct vocab_weight *weight)
{
    pack_destroy(weight->made[0]);
    pack_destroy(weight->made[1]);
}

/* ---- 1: logits and their softmax, per tile ---- */

static void tile_logits(const struct vocab_job *job, const struct vocab_weight *weight, struct matrix states,
                        const void *left, int64_t t, int worker, float *z)
{
    const float *shift = matrix_floats(job->shift);
    if (job->few)
        few_rows_range(job->loops, &weight->few, t * job->tile, tile_size(job, t), states, z,
                       tile_size(job, t));
    else
        tile_multiply(job->queue, &job->logits[t == job->tiles - 1], weight->forward, t, worker, left,
                      job->padded, false, z);
    for (int64_t r = 0; shift && r < job->rows; r++)
        job->loops->axpy(1.0f, shift + t * job->tile, tile_size(job, t), z + r * tile_size(job, t));
}

static struct part_best *best_of(const struct vocab_job *job, int64_t t, int64_t r)
{
    return job->best + (t * CHUNK + r) * job->best_most;
}

/* What other tiles have found spares this one logits that cannot be among the row's best. Which tiles these are
 * depends on the threads; which logits are the row's best does not. */
static void find_best(struct vocab_job *job, const float *z, int64_t t, int64_t r, struct part *part)
{
    struct part_best *best = best_of(job, t, r);
    const float least = atomic_load_explicit(&job->least[r], memory_order_relaxed);
    const int64_t count =
        job->loops->part_best(z, tile_size(job, t), t * job->tile, least, job->best_most, best);
    part->best_count = (int32_t)count;
    if (count == job->best_most && best[count - 1].logit > least)
        atomic_store_explicit(&job->least[r], best[count - 1].logit, memory_order_relaxed);
}

static void pick_from_row(struct vocab_job *job, const float *z, int64_t t, int64_t r, struct part *part)
{
    int64_t size = tile_size(job, t), label = job->total[r].label - t * job->tile;
    if (label >= 0 && label < size)
        job->total[r].label_logit = z[label];
    if (job->best_most > 0) {
        find_best(job, z, t, r, part);
    } else if (job->stats && (!matrix_is_none(job->stats->top) || !matrix_is_none(job->stats->top_logit))) {
        part->top = (int32_t)job->loops->part_top(z, size);
        part->top_logit = z[part->top];
        part->top += (int32_t)(t * job->tile);
    }
}

static void softmax_row(const struct vocab_job *job, const float *z, const float *other, char *values,
                        int64_t t, int64_t r, struct part_sums *sums)
{
    int64_t size = tile_size(job, t);
    void *tile = job->keep ? tile_values(job, values, t) : NULL;
    job->loops->part_softmax(z, other, size, sums, tile && !job->bf16 ? (float *)tile + r * size : NULL,
                             tile && job->bf16 ? (uint16_t *)tile + r * size : NULL);
}

static void tile_task(void *context, int t, int worker)
{
    struct vocab_job *job = context;
    int64_t size = tile_size(job, t);
    float *space = job->scores + worker * job->score_space;
    bool in_place = job->keep && !job->bf16; /* logits become values where they lie */
    float *z = in_place ? tile_values(job, job->values, t) : space, *teacher_z = NULL;
    tile_logits(job, &job->weight, matrix_rows(job->h, job->first, job->rows), job->states, t, worker, z);
    if (job->with_teacher) {
        teacher_z = in_place ? tile_values(job, job->teacher_values, t) : space + CHUNK * job->tile;
        tile_logits(job, &job->teacher, matrix_rows(job->t, job->first, job->rows), job->teacher_states, t,
                    worker, teacher_z);
    }
    for (int64_t r = 0; r < job->rows; r++) {
        struct part *part = &job->parts[t * CHUNK + r];
        pick_from_row(job, z + r * size, t, r, part);
        if (teacher_z)
            softmax_row(job, teacher_z + r * size, z + r * size, job->teacher_values, t, r,
                        &job->teacher_parts[t * CHUNK + r].sums);
        softmax_row(job, z + r * size, NULL, job->values, t, r, &part->sums);
    }
}

/* ---- 2: rows ---- */

/* 2^exponent for whole exponents <= 0; 0 below the normal numbers; NaN stays NaN. */
static float power_of_two(float exponent)
{
    if (!(exponent >= -126.0f))
        return isnan(exponent) ? NAN : 0.0f;
    uint32_t bits = (uint32_t)((int32_t)exponent + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

struct softmax_total {
    float exponent;
    double sum, moment, cross;
};

static struct softmax_total add_parts(const struct part *parts, int64_t tiles, int64_t r)
{
    struct softmax_total total = {.exponent = -INFINITY};
    for (int64_t t = 0; t < tiles; t++)
        if (parts[t * CHUNK + r].sums.exponent > total.exponent)
            total.exponent = parts[t * CHUNK + r].sums.exponent;
    for (int64_t t = 0; t < tiles; t++) {
        const struct part_sums *part = &parts[t * CHUNK + r].sums;
        double factor = power_of_two(part->exponent - total.exponent);
        total.sum += factor * part->sum;
        total.cross += factor * part->cross;
        if (factor > 0)
            total.moment += factor * (part->moment + (part->exponent - total.exponent) * LN2 * part->sum);
    }
    return total;
}

static void set_value(struct matrix m, int64_t row, double value)
{
    if (!matrix_is_none(m))
        matrix_floats(m)[row * m.stride] = (float)value;
}

static void write_top(const struct vocab_stats *stats, int64_t row, int32_t token, float logit)
{
    set_value(stats->top_logit, row, logit);
    if (!matrix_is_none(stats->top))
        matrix_ints(stats->top)[row * stats->top.stride] = token;
}

/* The best of all tiles. Where logits are not finite, there may be too few. */
static void write_best(const struct vocab_job *job, int64_t r)
{
    const struct vocab_stats *stats = job->stats;
    struct part_best best[VOCAB_BEST_MOST];
    const int64_t row = job->first + r;
    int64_t count = 0;
    for (int64_t t = 0; t < job->tiles; t++)
        for (int64_t k = 0; k < job->parts[t * CHUNK + r].best_count; k++)
            count = part_best_add(best_of(job, t, r)[k], job->best_most, count, best);
    for (; count < job->best_most; count++)
        best[count] = (struct part_best){NAN, (int32_t)count};
    for (int64_t k = 0; k < count; k++) {
        matrix_ints(stats->best)[row * stats->best.stride + k] = best[k].token;
        matrix_floats(stats->best_logit)[row * stats->best_logit.stride + k] = best[k].logit;
    }
    write_top(stats, row, best[0].token, best[0].logit);
}

static void write_stats(const struct vocab_job *job, int64_t r, const struct softmax_total *total, double lse)
{
    const struct vocab_stats *stats = job->stats;
    const struct part *best = &job->parts[r];
    int64_t row = job->first + r;
    set_value(stats->lse, row, lse);
    set_value(stats->label, row, job->total[r].label_logit);
    set_value(stats->entropy, row, log(total->sum) - total->moment / total->sum);
    if (job->best_most > 0) {
        write_best(job, r);
        return;
    }
    for (int64_t t = 1; t < job->tiles; t++)
        if (job->parts[t * CHUNK + r].top_logit > best->top_logit)
            best = &job->parts[t * CHUNK + r];
    write_top(stats, row, best->top, best->top_logit);
}

static double target_logit(const struct vocab_job *job, int64_t r, double cross)
{
    int64_t row = job->first + r;
    if (job->target->target == VOCAB_LABELS)
        return job->total[r].label_logit;
    if (job->target->target == VOCAB_TEACHER)
        return cross;
    return job->loops->dot(matrix_floats(job->h) + row * job->h.stride,
                           matrix_floats(job->target->u) + row * job->target->u.stride, job->width);
}

static void total_task(void *context, int task, int worker)
{
    struct vocab_job *job = context;
    int64_t r = task;
    struct row_total *row = &job->total[r];
    struct softmax_total total = add_parts(job->parts, job->tiles, r), teacher = {.sum = 1};
    double lse = total.exponent * LN2 + log(total.sum), cross = 0;
    (void)worker;
    if (job->with_teacher) {
        teacher = add_parts(job->teacher_parts, job->tiles, r);
        cross = teacher.cross / teacher.sum;
    }
    row->exponent = total.exponent;
    row->sum = (float)total.sum;
    row->teacher_exponent = teacher.exponent;
    row->teacher_sum = (float)teacher.sum;
    row->out_scale = (float)((job->target ? job->target->scale : 1.0) / (job->with_teacher ? 1.0 : total.sum));
    set_value(job->cross, job->first + r, cross);
    if (job->stats)
        write_stats(job, r, &total, lse);
    if (job->target)
        set_value(job->loss, job->first + r, row->counts ? lse - target_logit(job, r, cross) : 0.0);
}

/* ---- 3: product 2, per slice of the vocabulary ---- */

/* Brings row r of a tile's values to the row's common reference: the softmax times its sum, minus the
 * sum at the label; with a teacher the difference of both softmaxes. */
static void combine_row(const struct vocab_job *job, int64_t t, int64_t r)
{
    const struct row_total *row = &job->total[r];
    int64_t size = tile_size(job, t), label = row->label - t * job->tile;
    float *values = (float *)tile_values(job, job->values, t) + r * size;
    uint16_t *halves = (uint16_t *)tile_values(job, job->values, t) + r * size;
    float factor = power_of_two(job->parts[t * CHUNK + r].sums.exponent - row->exponent), other_factor = 0;
    const float *others = NULL;
    const uint16_t *other_halves = NULL;
    if (!row->counts) {
        memset(job->bf16 ? (void *)halves : values, 0, (size_t)size * operand_size(job->bf16));
        return;
    }
    if (job->with_teacher) {
        others = (float *)tile_values(job, job->teacher_values, t) + r * size;
        other_halves = (uint16_t *)tile_values(job, job->teacher_values, t) + r * size;
        factor /= row->sum;
        other_factor = power_of_two(job->teacher_parts[t * CHUNK + r].sums.exponent - row->teacher_exponent) /
                       row->teacher_sum;
    }
    if (job->bf16 && (factor != 1.0f || other_halves))
        job->loops->part_combine_bf16(factor, other_factor, other_halves, size, halves);
    else if (factor != 1.0f || others)
        job->loops->part_combine(factor, other_factor, others, size, values);
    if (!job->target || job->target->target != VOCAB_LABELS || label < 0 || label >= size)
        return;
    if (job->bf16)
        halves[label] = f32_to_bf16(bf16_to_f32(halves[label]) - row->sum);
    else
        values[label] -= row->sum;
}

/* down [tile] += values^T (out_scale h): rows of the vocabulary, so tiles do not meet. */
static void add_outer(const struct vocab_job *job, int64_t t, int worker)
{
    int64_t size = tile_size(job, t), padded_size = round_up(size, ROW_MULTIPLE),
            space = padded_size * job->padded;
    const void *values = tile_values(job, job->values, t);
    float *wide = job->scores + worker * job->score_space, *left = wide + space;
    struct product_right right = {.plain = job->scaled_states};
    const void *operand = left;
    if (job->bf16)
        job->loops->widen_bf16(values, job->padded * size, wide);
    job->loops->transpose(job->bf16 ? wide : values, size, job->padded, size, left, job->padded);
    memset(left + size * job->padded, 0, (size_t)((padded_size - size) * job->padded) * sizeof *left);
    if (job->bf16) {
        job->loops->round_bf16(left, space, (uint16_t *)wide);
        operand = wide;
    }
    cpu_product(job->queue, job->outer[t == job->tiles - 1], worker, operand, &right, left + space);
    result_close(job->loops, left + space, NULL, job->down, t * job->tile, size, OP_ADD);
}

static void combine_task(void *context, int task, int worker)
{
    const struct vocab_job *job = context;
    int64_t first = (int64_t)task * SLICE_TILES, end = min_int64(first + SLICE_TILES, job->tiles);
    float *partial = job->partial + task * job->padded * job->width;
    for (int64_t t = first; t < end; t++) {
        char *values = tile_values(job, job->values, t);
        size_t row = (size_t)tile_size(job, t) * operand_size(job->bf16);
        for (int64_t r = 0; r < job->rows; r++)
            combine_row(job, t, r);
        memset(values + (size_t)job->rows * row, 0, (size_t)(job->padded - job->rows) * row);
        tile_multiply(job->queue, &job->combine[t == job->tiles - 1], job->weight.backward, t, worker, values,
                      job->padded, t > first, partial);
        if (!matrix_is_none(job->down))
            add_outer(job, t, worker);
    }
}

/* ---- 4: rows of the gradient ---- */

static void reduce_task(void *context, int r, int worker)
{
    const struct vocab_job *job = context;
    const struct row_total *row = &job->total[r];
    struct matrix out = job->stats ? job->stats->u : job->dh;
    float *y = matrix_floats(out) + (job->first + r) * out.stride, *sum = job->partial + r * job->width;
    (void)worker;
    if (!row->counts) {
        memset(y, 0, (size_t)job->width * sizeof *y);
        return;
    }
    for (int64_t p = 1; p < job->slices; p++)
        job->loops->axpy(1.0f, job->partial + (p * job->padded + r) * job->width, job->width, sum);
    job->loops->scale(row->out_scale, sum, job->width, y);
    if (job->target && job->target->target == VOCAB_U)
        job->loops->axpy(-job->target->scale,
                         matrix_floats(job->target->u) + (job->first + r) * job->target->u.stride, job->width,
                         y);
}

/* ---- one op ---- */

static void scale_states(struct vocab_job *job)
{
    float row[4096];
    for (int64_t r = 0; r < job->padded; r++)
        for (int64_t c = 0; c < job->width; c += 4096) {
            int64_t count = min_int64(4096, job->width - c), at = r * job->width + c;
            bool counts = r < job->rows && job->total[r].counts;
            if (counts)
                job->loops->scale(job->total[r].out_scale,
                                  matrix_floats(job->h) + (job->first + r) * job->h.stride + c, count, row);
            else
                memset(row, 0, (size_t)count * sizeof *row);
            if (job->bf16)
                job->loops->round_bf16(row, count, (uint16_t *)job->scaled_states + at);
            else
                memcpy((float *)job->scaled_states + at, row, (size_t)count * sizeof *row);
        }
}

static bool find_vocab_products(struct vocab_job *job)
{
    for (int last = 0; last < 2; last++) {
        const int64_t t = last ? job->tiles - 1 : 0, size = tile_size(job, t);
        struct product_shape outer = {
            round_up(size, ROW_MULTIPLE), job->padded, job->width, job->bf16, false, false};
        if (!job->few &&
            !tile_product_find(job->queue, job->weight.forward, t, job->padded, false, &job->logits[last]))
            return false;
        if (job->keep &&
            !tile_product_find(job->queue, job->weight.backward, t, job->padded, true, &job->combine[last]))
            return false;
        if (!matrix_is_none(job->down) && !(job->outer[last] = cpu_product_find(job->queue, outer)))
            return false;
    }
    return true;
}

static void read_labels(struct vocab_job *job)
{
    bool by_label = job->target && job->target->target == VOCAB_LABELS;
    for (int64_t r = 0; r < job->rows; r++) {
        int32_t label = -1;
        if (!matrix_is_none(job->labels))
            label = matrix_ints(job->labels)[(job->first + r) * job->labels.stride];
        if (label < 0 || label >= job->size)
            label = -1;
        job->total[r] = (struct row_total){.label = label, .counts = !by_label || label >= 0};
        job->least[r] = -INFINITY;
    }
}

/* The chunk's rows of x as the left side of every tile; few rows are read where they lie. */
static const void *stage_states(const struct vocab_job *job, const struct vocab_weight *weight, struct matrix x,
                                void *space)
{
    return job->few ? NULL
                    : tile_left(job->loops, weight->forward, x, job->first, job->rows, job->padded, space);
}

static void run_chunk(struct vocab_job *job, void *states, void *teacher_states)
{
    job->rows = min_int64(CHUNK, job->h.rows - job->first);
    job->padded = round_up(job->rows, ROW_MULTIPLE);
    if (!find_vocab_products(job))
        return;
    read_labels(job);
    job->states = stage_states(job, &job->weight, job->h, states);
    if (job->with_teacher)
        job->teacher_states = stage_states(job, &job->teacher, job->t, teacher_states);
    cpu_run(job->queue, job->tiles, tile_task, job);
    cpu_run(job->queue, job->rows, total_task, job);
    if (!job->keep)
        return;
    if (!matrix_is_none(job->down))
        scale_states(job);
    cpu_run(job->queue, job->slices, combine_task, job);
    cpu_run(job->queue, job->rows, reduce_task, job);
}

/* Working memory for chunks of up to `rows` rows; false when the queue has failed. */
static bool vocab_scratch(struct vocab_job *job, int64_t rows, void **states, void **teacher_states)
{
    struct queue *queue = job->queue;
    size_t size = operand_size(job->bf16);
    int64_t threads = pool_threads(queue_cpu(queue)->pool), tile = round_up(job->tile, ROW_MULTIPLE);
    job->score_space = 2 * CHUNK * tile + (matrix_is_none(job->down) ? 0 : tile * job->width);
    job->scores = scratch_get(queue, SCRATCH_SCORES, threads * job->score_space, sizeof(float));
    *states = scratch_get(queue, SCRATCH_STATES, rows * job->width, size);
    *teacher_states = scratch_get(queue, SCRATCH_TEACHER_STATES, rows * job->width, size);
    job->parts = scratch_get(queue, SCRATCH_PART_SUMS, 2 * job->tiles * CHUNK, sizeof *job->parts);
    if (job->best_most > 0)
        job->best =
            scratch_get(queue, SCRATCH_PART_BEST, job->tiles * CHUNK * job->best_most, sizeof *job->best);
    if (queue->failed)
        return false;
    job->teacher_parts = job->parts + job->tiles * CHUNK;
    if (!job->keep)
        return true;
    job->values = scratch_get(queue, SCRATCH_PARTS, job->tiles * rows * job->tile, size);
    if (job->with_teacher)
        job->teacher_values = scratch_get(queue, SCRATCH_TEACHER_PARTS, job->tiles * rows * job->tile, size);
    job->partial = scratch_get(queue, SCRATCH_SUMS, job->slices * rows * job->width, sizeof(float));
    job->scaled_states = scratch_get(queue, SCRATCH_RIGHT, rows * job->width, size);
    return !queue->failed;
}

/* Whether a signal asks the program to stop. A first chunk is done whatever happens: it takes a moment. */
static bool stops(const struct vocab_job *job)
{
    if (job->first == 0 || !cli_interrupted())
        return false;
    queue_fail(job->queue, ERROR_INTERRUPTED, "interrupted");
    return true;
}

/* Rows of the vocabulary in a tile: what prepared weights are cut into. */
static int64_t tile_rows(const struct vocab *vocab, const struct vocab *teacher)
{
    const struct weight *tied = vocab->tied || !teacher ? vocab->tied : teacher->tied;
    const struct pack *pack = tied ? ((const struct cpu_weight *)tied)->forward : NULL;
    return pack ? pack->tile_rows : weight_tile(tied ? tied->rows : vocab->own.rows);
}

static void vocab_run(struct vocab_job *job, const struct vocab *vocab, const struct vocab *teacher)
{
    struct cpu_backend *backend = queue_cpu(job->queue);
    void *states, *teacher_states;
    job->loops = backend->loops;
    job->bf16 = backend->bf16;
    job->few = job->h.rows <= MATMUL_FEW_ROWS;
    job->size = vocab->tied ? vocab->tied->rows : vocab->own.rows;
    job->width = job->h.cols;
    job->tile = tile_rows(vocab, teacher);
    job->tiles = divide_up(job->size, job->tile);
    job->slices = divide_up(job->tiles, SLICE_TILES);
    job->with_teacher = teacher != NULL;
    weight_open(job, vocab, job->keep, false, &job->weight);
    if (teacher)
        weight_open(job, teacher, false, true, &job->teacher);
    if (vocab_scratch(job, min_int64(CHUNK, round_up(job->h.rows, ROW_MULTIPLE)), &states, &teacher_states))
        for (job->first = 0; job->first < job->h.rows && !stops(job); job->first += CHUNK)
            run_chunk(job, states, teacher_states);
    weight_close(&job->weight);
    weight_close(&job->teacher);
}

void cpu_vocab_stats(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix labels,
                     const struct vocab_stats *stats)
{
    struct vocab_job job = {.queue = queue, .h = h, .labels = labels, .stats = stats};
    job.cross = job.loss = job.dh = job.down = job.shift = matrix_none();
    job.keep = !matrix_is_none(stats->u);
    job.best_most = stats->best.cols;
    vocab_run(&job, vocab, NULL);
}

void cpu_vocab_cross(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix t,
                     const struct vocab *teacher, struct matrix cross)
{
    struct vocab_job job = {.queue = queue, .h = h, .t = t, .cross = cross};
    job.labels = job.loss = job.dh = job.down = job.shift = matrix_none();
    vocab_run(&job, vocab, teacher);
}

void cpu_vocab_loss(struct queue *queue, struct matrix h, const struct vocab *vocab,
                    const struct vocab_loss *target, struct matrix loss, struct matrix dh, struct matrix down)
{
    bool by_teacher = target->target == VOCAB_TEACHER;
    struct vocab_job job = {.queue = queue, .h = h, .target = target, .loss = loss, .dh = dh, .down = down};
    job.cross = matrix_none();
    job.labels = target->target == VOCAB_LABELS ? target->labels : matrix_none();
    job.shift = target->shift;
    job.t = by_teacher ? target->teacher_state : matrix_none();
    job.keep = true;
    vocab_run(&job, vocab, by_teacher ? &target->teacher : NULL);
}
