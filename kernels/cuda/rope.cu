/* rope.cu: rotary embedding in place, and its gradient, which turns the other way. 8 bytes a value and the table's rows
 * from the cache: bound by memory. */
#include "kernels/cuda/table.cuh"

#define THREADS 256

/* One thread a pair. */
__global__ void rotate_pairs(float *x, int64_t x_stride, int64_t rows, int64_t pairs_per_row, int64_t half,
                             const int32_t *positions, int64_t positions_stride, const float *table,
                             int64_t table_stride, int64_t rows_there, bool adjacent, float direction,
                             int *fault)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * pairs_per_row)
        return;
    int64_t row = index / pairs_per_row, pair = index % pairs_per_row, head = pair / half, i = pair % half;
    int64_t position = positions[row * positions_stride];
    if (position < 0 || position >= rows_there) {
        *fault = FAULT_POSITION;
        return;
    }
    const float *angle = table + position * table_stride;
    float *first = x + row * x_stride + head * 2 * half + (adjacent ? 2 * i : i),
          *second = first + (adjacent ? 1 : half);
    float a = *first, b = *second, c = angle[i], s = direction * angle[half + i];
    *first = a * c - b * s;
    *second = a * s + b * c;
}

/* direction: of the angle, 1 or -1 */
static void rotate(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
                   enum rope_pairs pairs, float direction)
{
    int64_t pairs_per_row = x.cols / 2;
    if (x.rows * pairs_per_row == 0)
        return;
    LAUNCH(rotate_pairs, dim3(blocks_for(x.rows * pairs_per_row, THREADS)), dim3(THREADS), 0,
           queue_stream(queue), matrix_floats(x), x.stride, x.rows, pairs_per_row, table.cols / 2,
           matrix_ints(positions), positions.stride, matrix_floats(table), table.stride, table.rows,
           pairs == ROPE_ADJACENT, direction, queue_fault(queue));
    launch_ok(queue, "rope", x);
}

void cuda_rope(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
               enum rope_pairs pairs)
{
    rotate(queue, x, positions, table, pairs, 1);
}

void cuda_rope_grad(struct queue *queue, struct matrix dx, struct matrix positions, struct matrix table,
                    enum rope_pairs pairs)
{
    rotate(queue, dx, positions, table, pairs, -1);
}
