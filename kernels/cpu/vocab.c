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
 *
 * Threads share out what a step has to do. Where the vocabulary is small (a subset), that would be too little: each
 * thread takes smaller chunks by itself then, with working memory of its own. A row's bytes are the same in both ways.
 */
#include <math.h>
#include <string.h>

#include "common/base/interrupt.h"
#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/stage.h"

enum {
    CHUNK = 256,
    SLICE_TILES = 4,
    ALONE_ROWS = 128, /* a chunk of one thread; full speed from here */
    ALONE_LEAST = 64, /* where there are not enough chunks for all threads; a tenth slower */
    ALONE_TOKENS = 8192 /* the largest vocabulary whose values for so many rows stay in a thread's cache */
};

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
    float plain_exponent, plain_sum;
    float label_logit;
    int32_t label; /* or -1 */
    /* What the row's values are multiplied by before product 2. Without a teacher they stay as they are: what this
     * would be is in out_scale. */
    float share, teacher_share, plain_share;
    float label_value; /* is subtracted from the label's then */
    float out_scale; /* product 2 is multiplied by this */
    float u_scale; /* this times u is subtracted then */
    bool counts; /* it has a loss */
};

/* For a chunk's rows: [last tile]. */
struct vocab_products {
    struct tile_product logits[2], combine[2];
    const struct product *outer[2];
};

struct vocab_job {
    struct queue *queue;
    const struct cpu_loops *loops;
    bool bf16, few;
    struct matrix h, t, labels;
    struct vocab_weight weight, teacher;
    bool with_teacher, keep; /* keep: values are needed for product 2 */
    float temperature; /* the softmax and the teacher's are of logits divided by this */
    bool with_plain; /* and that of the logits as they are is wanted, too */
    const struct vocab_stats *stats; /* op_vocab_stats */
    const struct vocab_loss *target; /* op_vocab_loss */
    bool top; /* the largest logit is wanted */
    struct matrix cross, loss, dh, down, shift;
    int64_t size, width; /* of the vocabulary, of h */
    int64_t tile, tiles, slices;
    int64_t chunk, chunks; /* rows of each but the last; how many */
    struct vocab_products products[2]; /* [last chunk] */
    atomic_bool *stopped; /* by a signal */
    /* one chunk */
    int worker; /* the thread that does all of it, or -1: they share its tasks */
    int64_t first, rows, padded;
    char *states_space, *teacher_states_space; /* [padded, width] */
    const void *states, *teacher_states; /* [padded, width] left sides; NULL for few rows */
    char *values, *teacher_values; /* [tiles] of [padded, tile] */
    char *plain_values; /* or NULL: only their sums are wanted */
    struct part *parts, *teacher_parts, *plain_parts; /* [tiles, chunk] */
    int64_t best_most; /* op_vocab_stats's K; 0: none are wanted */
    struct part_best *best; /* [tiles, chunk, best_most] of each tile those that may be among the row's */
    _Atomic(float) least[CHUNK]; /* the row's last best logit is at least that; a tile that ends raises it */
    struct row_total total[CHUNK];
    float *scores; /* per worker 2 [chunk, tile], and more for down */
    int64_t score_space;
    float *partial; /* [slices, padded, width] */
    void *scaled_states; /* [padded, width]: h times out_scale, for down */
};

static const struct vocab_products *chunk_products(const struct vocab_job *job)
{
    return &job->products[job->first + job->chunk >= job->h.rows];
}

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
    if (job->few)
        few_rows_range(job->loops, &weight->few, t * job->tile, tile_size(job, t), states, z,
                       tile_size(job, t));
    else
        tile_multiply(job->queue, &chunk_products(job)->logits[t == job->tiles - 1], weight->forward, t, worker,
                      left, job->padded, false, z);
}

static struct part_best *best_of(const struct vocab_job *job, int64_t t, int64_t r)
{
    return job->best + (t * job->chunk + r) * job->best_most;
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
    } else if (job->top) {
        part->top = (int32_t)job->loops->part_top(z, size);
        part->top_logit = z[part->top];
        part->top += (int32_t)(t * job->tile);
    }
}

/* values: NULL where only the sums are wanted. */
static void softmax_row(const struct vocab_job *job, const float *z, const float *other, char *values,
                        int64_t t, int64_t r, struct part_sums *sums)
{
    int64_t size = tile_size(job, t);
    void *tile = values ? tile_values(job, values, t) : NULL;
    job->loops->part_softmax(z, other, size, sums, tile && !job->bf16 ? (float *)tile + r * size : NULL,
                             tile && job->bf16 ? (uint16_t *)tile + r * size : NULL);
}

static void divide_row(const struct vocab_job *job, int64_t t, float *z)
{
    if (job->temperature != 1)
        job->loops->scale(1 / job->temperature, z, tile_size(job, t), z);
}

static void shift_row(const struct vocab_job *job, int64_t t, float *z)
{
    const float *shift = matrix_floats(job->shift);
    if (shift)
        job->loops->axpy(1.0f, shift + t * job->tile, tile_size(job, t), z);
}

/* Row r of a tile: logits z (and the teacher's, or NULL) become the values of their softmax; copy: [tile]. */
static void tile_row(struct vocab_job *job, float *z, float *teacher_z, float *copy, int64_t t, int64_t r)
{
    struct part *part = &job->parts[t * job->chunk + r];
    pick_from_row(job, z, t, r, part);
    if (job->with_plain) {
        memcpy(copy, z, (size_t)tile_size(job, t) * sizeof *copy);
        shift_row(job, t, copy);
        softmax_row(job, copy, NULL, job->plain_values, t, r, &job->plain_parts[t * job->chunk + r].sums);
    }
    divide_row(job, t, z);
    if (teacher_z) {
        divide_row(job, t, teacher_z);
        shift_row(job, t, teacher_z);
        softmax_row(job, teacher_z, z, job->teacher_values, t, r, &job->teacher_parts[t * job->chunk + r].sums);
    }
    shift_row(job, t, z);
    softmax_row(job, z, NULL, job->values, t, r, &part->sums);
}

static void tile_task(void *context, int t, int worker)
{
    struct vocab_job *job = context;
    int64_t size = tile_size(job, t);
    float *space = job->scores + worker * job->score_space, *copy = space + 2 * job->chunk * job->tile;
    bool in_place = job->keep && !job->bf16; /* logits become values where they lie */
    float *z = in_place ? tile_values(job, job->values, t) : space, *teacher_z = NULL;
    tile_logits(job, &job->weight, matrix_rows(job->h, job->first, job->rows), job->states, t, worker, z);
    if (job->with_teacher) {
        teacher_z = in_place ? tile_values(job, job->teacher_values, t) : space + job->chunk * job->tile;
        tile_logits(job, &job->teacher, matrix_rows(job->t, job->first, job->rows), job->teacher_states, t,
                    worker, teacher_z);
    }
    for (int64_t r = 0; r < job->rows; r++)
        tile_row(job, z + r * size, teacher_z ? teacher_z + r * size : NULL, copy, t, r);
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

static struct softmax_total add_parts(const struct vocab_job *job, const struct part *parts, int64_t r)
{
    struct softmax_total total = {.exponent = -INFINITY};
    for (int64_t t = 0; t < job->tiles; t++)
        if (parts[t * job->chunk + r].sums.exponent > total.exponent)
            total.exponent = parts[t * job->chunk + r].sums.exponent;
    for (int64_t t = 0; t < job->tiles; t++) {
        const struct part_sums *part = &parts[t * job->chunk + r].sums;
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
        for (int64_t k = 0; k < job->parts[t * job->chunk + r].best_count; k++)
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
        if (job->parts[t * job->chunk + r].top_logit > best->top_logit)
            best = &job->parts[t * job->chunk + r];
    write_top(stats, row, best->top, best->top_logit);
}

/* q . z / T, q . z being h . u without a teacher's logits. */
static double teacher_cross(const struct vocab_job *job, int64_t r, const struct softmax_total *teacher)
{
    const int64_t row = job->first + r;
    if (job->with_teacher)
        return teacher->cross / teacher->sum;
    return job->loops->dot(matrix_floats(job->h) + row * job->h.stride,
                           matrix_floats(job->target->u) + row * job->target->u.stride, job->width);
}

static double total_lse(const struct softmax_total *total)
{
    return total->exponent * LN2 + log(total->sum);
}

static float largest_logit(const struct vocab_job *job, int64_t r)
{
    float largest = job->parts[r].top_logit;
    for (int64_t t = 1; t < job->tiles; t++)
        if (!(job->parts[t * job->chunk + r].top_logit <= largest))
            largest = job->parts[t * job->chunk + r].top_logit;
    return largest;
}

/* The row's loss, and what its values are multiplied by. plain: the softmax at temperature 1. */
static void write_loss(struct vocab_job *job, int64_t r, const struct softmax_total *total,
                       const struct softmax_total *teacher, const struct softmax_total *plain)
{
    const struct vocab_loss *target = job->target;
    struct row_total *row = &job->total[r];
    const struct loss_shares shares = loss_shares_of(target, row->label >= 0);
    const double t = (double)job->temperature, all = shares.labels + shares.teacher,
                 w = target->weighted ? exp((double)largest_logit(job, r) - total_lse(plain)) : 1;
    double loss = 0;
    row->counts = all > 0;
    if (shares.labels > 0)
        loss += shares.labels * (total_lse(plain) - row->label_logit);
    if (shares.teacher > 0)
        loss += shares.teacher * t * t * (total_lse(total) - teacher_cross(job, r, teacher));
    set_value(job->loss, job->first + r, row->counts ? w * loss : 0.0);
    row->share = (float)(job->temperature != 1 ? shares.teacher * t : all);
    row->teacher_share = (float)(shares.teacher * t);
    row->plain_share = (float)shares.labels;
    row->label_value = (float)(job->with_teacher ? shares.labels : total->sum * (shares.labels / all));
    row->out_scale = (float)(target->scale * w * (job->with_teacher ? 1.0 : all / total->sum));
    row->u_scale = (float)(target->scale * w * shares.teacher);
}

static void total_task(void *context, int task, int worker)
{
    struct vocab_job *job = context;
    int64_t r = task;
    struct row_total *row = &job->total[r];
    struct softmax_total total = add_parts(job, job->parts, r), teacher = {.sum = 1}, plain = total;
    (void)worker;
    if (job->with_teacher)
        teacher = add_parts(job, job->teacher_parts, r);
    if (job->with_plain)
        plain = add_parts(job, job->plain_parts, r);
    row->exponent = total.exponent;
    row->sum = (float)total.sum;
    row->teacher_exponent = teacher.exponent;
    row->teacher_sum = (float)teacher.sum;
    row->plain_exponent = plain.exponent;
    row->plain_sum = (float)plain.sum;
    set_value(job->cross, job->first + r, teacher.cross / teacher.sum);
    if (job->stats) {
        row->counts = true;
        row->out_scale = (float)(1.0 / total.sum);
        write_stats(job, r, &total, total_lse(&total));
    }
    if (job->target)
        write_loss(job, r, &total, &teacher, &plain);
}

/* ---- 3: product 2, per slice of the vocabulary ---- */

/* Row r of a tile's values: factor * values - other_factor * others; others may be NULL. */
static void combine_values(const struct vocab_job *job, char *values, char *others, int64_t t, int64_t r,
                           float factor, float other_factor)
{
    const int64_t size = tile_size(job, t), at = r * size;
    void *to = tile_values(job, values, t), *other = others ? tile_values(job, others, t) : NULL;
    if (factor == 1.0f && !others)
        return;
    if (job->bf16)
        job->loops->part_combine_bf16(factor, other_factor, other ? (uint16_t *)other + at : NULL, size,
                                      (uint16_t *)to + at);
    else
        job->loops->part_combine(factor, other_factor, other ? (float *)other + at : NULL, size,
                                 (float *)to + at);
}

/* Brings row r of a tile's values to the row's common reference: the softmax times its sum, minus the
 * label's part; with a teacher the difference of both softmaxes, each times its share. */
static void combine_row(const struct vocab_job *job, int64_t t, int64_t r)
{
    const struct row_total *row = &job->total[r];
    const int64_t size = tile_size(job, t), label = row->label - t * job->tile, at = t * job->chunk + r;
    float *values = (float *)tile_values(job, job->values, t) + r * size;
    uint16_t *halves = (uint16_t *)tile_values(job, job->values, t) + r * size;
    float factor = power_of_two(job->parts[at].sums.exponent - row->exponent), other_factor = 0;
    if (!row->counts) {
        memset(job->bf16 ? (void *)halves : values, 0, (size_t)size * operand_size(job->bf16));
        return;
    }
    if (job->with_teacher) {
        factor = row->share * (factor / row->sum);
        other_factor =
            row->teacher_share *
            (power_of_two(job->teacher_parts[at].sums.exponent - row->teacher_exponent) / row->teacher_sum);
    }
    combine_values(job, job->values, job->with_teacher ? job->teacher_values : NULL, t, r, factor,
                   other_factor);
    if (job->plain_values)
        combine_values(
            job, job->values, job->plain_values, t, r, 1,
            -row->plain_share *
                (power_of_two(job->plain_parts[at].sums.exponent - row->plain_exponent) / row->plain_sum));
    if (!job->target || label < 0 || label >= size)
        return;
    if (job->bf16)
        halves[label] = f32_to_bf16(bf16_to_f32(halves[label]) - row->label_value);
    else
        values[label] -= row->label_value;
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
    cpu_product(job->queue, chunk_products(job)->outer[t == job->tiles - 1], worker, operand, &right,
                left + space);
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
        tile_multiply(job->queue, &chunk_products(job)->combine[t == job->tiles - 1], job->weight.backward, t,
                      worker, values, job->padded, t > first, partial);
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
        job->loops->axpy(-row->u_scale,
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

/* For chunks of `padded` rows. */
static bool find_vocab_products(const struct vocab_job *job, int64_t padded, struct vocab_products *products)
{
    for (int last = 0; last < 2; last++) {
        const int64_t t = last ? job->tiles - 1 : 0, size = tile_size(job, t);
        struct product_shape outer = {
            round_up(size, ROW_MULTIPLE), padded, job->width, job->bf16, false, false};
        if (!job->few &&
            !tile_product_find(job->queue, job->weight.forward, t, padded, false, &products->logits[last]))
            return false;
        if (job->keep &&
            !tile_product_find(job->queue, job->weight.backward, t, padded, true, &products->combine[last]))
            return false;
        if (!matrix_is_none(job->down) && !(products->outer[last] = cpu_product_find(job->queue, outer)))
            return false;
    }
    return true;
}

static void read_labels(struct vocab_job *job)
{
    for (int64_t r = 0; r < job->rows; r++) {
        int32_t label = -1;
        if (!matrix_is_none(job->labels))
            label = matrix_ints(job->labels)[(job->first + r) * job->labels.stride];
        if (label < 0 || label >= job->size)
            label = -1;
        job->total[r] = (struct row_total){.label = label};
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

static void run_tasks(struct vocab_job *job, int64_t tasks, pool_function *function)
{
    if (job->worker < 0)
        cpu_run(job->queue, tasks, function, job);
    else
        for (int64_t t = 0; t < tasks; t++)
            function(job, (int)t, job->worker);
}

static void run_chunk(struct vocab_job *job)
{
    job->rows = min_int64(job->chunk, job->h.rows - job->first);
    job->padded = round_up(job->rows, ROW_MULTIPLE);
    read_labels(job);
    job->states = stage_states(job, &job->weight, job->h, job->states_space);
    if (job->with_teacher)
        job->teacher_states = stage_states(job, &job->teacher, job->t, job->teacher_states_space);
    run_tasks(job, job->tiles, tile_task);
    run_tasks(job, job->rows, total_task);
    if (!job->keep)
        return;
    if (!matrix_is_none(job->down))
        scale_states(job);
    run_tasks(job, job->slices, combine_task);
    run_tasks(job, job->rows, reduce_task);
}

/* Bytes of one chunk's operands and values, and of all tiles' values. */
static int64_t states_bytes(const struct vocab_job *job)
{
    return job->chunk * job->width * (int64_t)operand_size(job->bf16);
}

static int64_t values_bytes(const struct vocab_job *job)
{
    return job->tiles * job->chunk * job->tile * (int64_t)operand_size(job->bf16);
}

/* A chunk's parts, of as many softmaxes as there may be. */
static int64_t part_count(const struct vocab_job *job)
{
    return 3 * job->tiles * job->chunk;
}

static int64_t partial_values(const struct vocab_job *job)
{
    return job->slices * job->chunk * job->width;
}

/* Working memory for chunks, `copies` of them at once; false when the queue has failed. */
static bool vocab_scratch(struct vocab_job *job, int64_t copies)
{
    struct queue *queue = job->queue;
    int64_t threads = pool_threads(queue_cpu(queue)->pool), tile = round_up(job->tile, ROW_MULTIPLE);
    job->score_space = (2 * job->chunk + 1) * tile + (matrix_is_none(job->down) ? 0 : tile * job->width);
    job->scores = scratch_get(queue, SCRATCH_SCORES, threads * job->score_space, sizeof(float));
    job->states_space = scratch_get(queue, SCRATCH_STATES, copies * states_bytes(job), 1);
    job->teacher_states_space = scratch_get(queue, SCRATCH_TEACHER_STATES, copies * states_bytes(job), 1);
    job->parts = scratch_get(queue, SCRATCH_PART_SUMS, copies * part_count(job), sizeof *job->parts);
    if (job->best_most > 0)
        job->best =
            scratch_get(queue, SCRATCH_PART_BEST, job->tiles * job->chunk * job->best_most, sizeof *job->best);
    if (queue->failed)
        return false;
    job->teacher_parts = job->parts + job->tiles * job->chunk;
    job->plain_parts = job->teacher_parts + job->tiles * job->chunk;
    if (!job->keep)
        return true;
    job->values = scratch_get(queue, SCRATCH_PARTS, copies * values_bytes(job), 1);
    if (job->with_teacher)
        job->teacher_values = scratch_get(queue, SCRATCH_TEACHER_PARTS, copies * values_bytes(job), 1);
    if (job->with_plain && !matrix_is_none(job->labels))
        job->plain_values = scratch_get(queue, SCRATCH_PLAIN_PARTS, copies * values_bytes(job), 1);
    job->partial = scratch_get(queue, SCRATCH_SUMS, copies * partial_values(job), sizeof(float));
    job->scaled_states = scratch_get(queue, SCRATCH_RIGHT, states_bytes(job), 1);
    return !queue->failed;
}

/* Whether a signal asks the program to stop. The first rows are done whatever happens: it takes a moment. */
static bool stops(const struct vocab_job *job, int64_t first)
{
    if (first < CHUNK || !cli_interrupted())
        return false;
    atomic_store(job->stopped, true);
    return true;
}

/* A chunk of one thread, in its own working memory. */
static void alone_task(void *context, int task, int worker)
{
    const struct vocab_job *job = context;
    struct vocab_job chunk;
    if (stops(job, task * job->chunk))
        return;
    memcpy(&chunk, job, sizeof chunk);
    chunk.worker = worker;
    chunk.first = task * job->chunk;
    chunk.states_space += worker * states_bytes(job);
    chunk.teacher_states_space += worker * states_bytes(job);
    chunk.parts += worker * part_count(job);
    chunk.teacher_parts += worker * part_count(job);
    chunk.plain_parts += worker * part_count(job);
    if (job->keep)
        chunk.values += worker * values_bytes(job);
    if (job->keep && job->with_teacher)
        chunk.teacher_values += worker * values_bytes(job);
    if (job->plain_values)
        chunk.plain_values += worker * values_bytes(job);
    if (job->keep)
        chunk.partial += worker * partial_values(job);
    run_chunk(&chunk);
}

/* Whether each chunk is one thread's; and a chunk's rows. */
static bool choose_chunk(struct vocab_job *job)
{
    const int64_t threads = pool_threads(queue_cpu(job->queue)->pool), rows = job->h.rows;
    const bool by_row =
        matrix_is_none(job->down) && job->best_most == 0; /* else tiles share what they add to */
    const bool alone = by_row && !job->few && job->size <= ALONE_TOKENS && rows >= threads * ALONE_LEAST;
    const int64_t own = rows >= 4 * threads * ALONE_ROWS ? ALONE_ROWS : ALONE_LEAST;
    job->chunk = min_int64(alone ? own : CHUNK, round_up(rows, ROW_MULTIPLE));
    job->chunks = divide_up(rows, job->chunk);
    return alone;
}

static void run_chunks(struct vocab_job *job)
{
    const bool alone = choose_chunk(job);
    const int64_t last = job->h.rows - (job->chunks - 1) * job->chunk;
    atomic_bool stopped = false;
    job->stopped = &stopped;
    if (!find_vocab_products(job, job->chunk, &job->products[0]) ||
        !find_vocab_products(job, round_up(last, ROW_MULTIPLE), &job->products[1]) ||
        !vocab_scratch(job, alone ? pool_threads(queue_cpu(job->queue)->pool) : 1))
        return;
    job->worker = -1;
    if (alone)
        cpu_run(job->queue, job->chunks, alone_task, job);
    for (job->first = 0; !alone && job->first < job->h.rows && !stops(job, job->first);
         job->first += job->chunk)
        run_chunk(job);
    if (atomic_load(&stopped))
        queue_fail(job->queue, ERROR_INTERRUPTED, "interrupted");
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
    if (!job->queue->failed)
        run_chunks(job);
    weight_close(&job->weight);
    weight_close(&job->teacher);
}

void cpu_vocab_stats(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix labels,
                     const struct vocab_stats *stats)
{
    struct vocab_job job = {.queue = queue, .h = h, .labels = labels, .stats = stats, .temperature = 1};
    job.cross = job.loss = job.dh = job.down = job.shift = matrix_none();
    job.keep = !matrix_is_none(stats->u);
    job.best_most = stats->best.cols;
    job.top = !matrix_is_none(stats->top) || !matrix_is_none(stats->top_logit);
    vocab_run(&job, vocab, NULL);
}

void cpu_vocab_cross(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix t,
                     const struct vocab *teacher, struct matrix cross)
{
    struct vocab_job job = {.queue = queue, .h = h, .t = t, .cross = cross, .temperature = 1};
    job.labels = job.loss = job.dh = job.down = job.shift = matrix_none();
    vocab_run(&job, vocab, teacher);
}

void cpu_vocab_loss(struct queue *queue, struct matrix h, const struct vocab *vocab,
                    const struct vocab_loss *target, struct matrix loss, struct matrix dh, struct matrix down)
{
    bool by_teacher = target->target == VOCAB_TEACHER;
    struct vocab_job job = {.queue = queue, .h = h, .target = target, .loss = loss, .dh = dh, .down = down};
    job.cross = matrix_none();
    job.temperature = vocab_temperature(target);
    job.top = target->weighted;
    job.labels = target->target == VOCAB_LABELS || target->share > 0 ? target->labels : matrix_none();
    job.with_plain = job.temperature != 1 && (target->weighted || !matrix_is_none(job.labels));
    job.shift = target->shift;
    job.t = by_teacher ? target->teacher_state : matrix_none();
    job.keep = true;
    vocab_run(&job, vocab, by_teacher ? &target->teacher : NULL);
}
