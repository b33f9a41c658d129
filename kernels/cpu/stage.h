/* stage.h: brings operands into the form that products need: dense, with rows padded to ROW_MULTIPLE, in the
 * compute type. Memory that has this form already is used as it is. */
#ifndef OFFRAMP_KERNELS_CPU_STAGE_H
#define OFFRAMP_KERNELS_CPU_STAGE_H

#include "kernels/cpu/cpu.h"

/* Rows of a left side that holds `rows`. */
static inline int64_t padded_rows(int64_t rows)
{
    return round_up(rows, ROW_MULTIPLE);
}

static inline size_t operand_size(bool bf16)
{
    return bf16 ? sizeof(uint16_t) : sizeof(float);
}

/* Rows [first, first + rows) of x as a left side of `padded` rows, with zeros below. `space` [padded, x.cols]
 * is used when x's own memory cannot be. */
const void *stage_left(const struct cpu_loops *loops, bool bf16, struct matrix x, int64_t first, int64_t rows,
                       int64_t padded, void *space);

/* Columns [first, first + cols) of rows [row, row + count) of x, transposed, as a left side [padded, count];
 * each row's values times `weights` [count] unless NULL. `space` [padded, count] f32 holds the result,
 * `space_bf16` instead of it when not NULL. */
const void *stage_transposed(const struct cpu_loops *loops, struct matrix x, int64_t row, int64_t count,
                             int64_t first, int64_t cols, int64_t padded, const float *weights, float *space,
                             uint16_t *space_bf16);

/* All of x, or of its transpose, as a plain right side; SCRATCH_RIGHT where x's own memory will not do. The
 * plain pointer is NULL when the queue has failed. */
struct product_right stage_right(struct queue *queue, bool bf16, struct matrix x, bool transpose);

/* Where products for rows [row, row + rows) of y go: y itself where it may, or else `space` [padded rows,
 * y.cols]. Results are always made anew and added after: products that add to cold memory are slow. */
float *result_open(struct matrix y, int64_t row, int64_t rows, enum op_mode mode, float *space);

/* Brings the result, plus a bias unless NULL, from there to y. */
void result_close(const struct cpu_loops *loops, float *result, const float *bias, struct matrix y, int64_t row,
                  int64_t rows, enum op_mode mode);

#endif
