/* table.c: one instruction set's loops. */
#include "kernels/cpu/loops/loops.h"

#define LOOP_TEXT_(set) #set
#define LOOP_TEXT(set)  LOOP_TEXT_(set)

const struct cpu_loops LOOP_PASTE(loops, LOOP_SET) = {
    .name = LOOP_TEXT(LOOP_SET),
    .round_bf16 = LOOP(round_bf16),
    .transpose = LOOP(transpose),
    .axpy = LOOP(axpy),
    .scale = LOOP(scale),
    .multiply = LOOP(multiply),
    .add_double = LOOP(add_double),
    .sum_squares = LOOP(sum_squares),
    .dot = LOOP(dot),
    .adam = LOOP(adam),
    .mean_square = LOOP(mean_square),
    .norm = LOOP(norm),
    .norm_grad = LOOP(norm_grad),
    .swiglu = LOOP(swiglu),
    .swiglu_grad = LOOP(swiglu_grad),
    .rope_halves = LOOP(rope_halves),
    .rope_adjacent = LOOP(rope_adjacent),
    .softmax = LOOP(softmax),
    .blocks_largest = LOOP(blocks_largest),
    .blocks_exp = LOOP(blocks_exp),
    .attend = LOOP(attend),
    .attend_grad = LOOP(attend_grad),
    .slopes = LOOP(slopes),
    .part_softmax = LOOP(part_softmax),
    .part_top = LOOP(part_top),
    .part_best = LOOP(part_best),
    .part_combine = LOOP(part_combine),
    .part_combine_bf16 = LOOP(part_combine_bf16),
    .widen_bf16 = LOOP(widen_bf16),
    .few_rows =
        {
            [DTYPE_F32] = LOOP(few_rows_f32),
            [DTYPE_F16] = LOOP(few_rows_f16),
            [DTYPE_BF16] = LOOP(few_rows_bf16),
            [DTYPE_Q8_0] = LOOP(few_rows_q8_0),
            [DTYPE_Q4_0] = LOOP(few_rows_q4_0),
            [DTYPE_Q4_1] = LOOP(few_rows_q4_1),
        },
};
