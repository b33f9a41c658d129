/* attention_grad.cu: gradients of attention. */
#include "kernels/cuda/table.cuh"

void cuda_attention_grad(struct queue *queue, const struct attention *attention, struct matrix q,
                         const struct attention_span *spans, int count, struct matrix out, struct matrix dout,
                         struct matrix dq, const struct attention_span *dspans)
{
    (void)attention;
    (void)q;
    (void)spans;
    (void)count;
    (void)out;
    (void)dout;
    (void)dq;
    (void)dspans;
    cuda_fail(queue, ERROR_INTERNAL, "op_attention_grad is not on this device yet: use --device cpu");
}
