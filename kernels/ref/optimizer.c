/* optimizer.c: one Adam step. */
#include <math.h>

#include "kernels/ref/ref.h"

static void update_values(const struct adam *adam, struct matrix gradient, struct matrix value,
                          struct matrix first, struct matrix second)
{
    const double beta1 = (double)adam->beta1, beta2 = (double)adam->beta2;
    const double correction1 = 1 - pow(beta1, (double)adam->step),
                 correction2 = 1 - pow(beta2, (double)adam->step);
    for (int64_t m = 0; m < value.rows; m++)
        for (int64_t n = 0; n < value.cols; n++) {
            float *g = matrix_floats(gradient) + m * gradient.stride + n;
            float *x = matrix_floats(value) + m * value.stride + n;
            float *mean = matrix_floats(first) + m * first.stride + n;
            float *square = matrix_floats(second) + m * second.stride + n;
            const double clipped = (double)*g * (double)adam->clip;
            const double new_mean = beta1 * (double)*mean + (1 - beta1) * clipped;
            const double new_square = beta2 * (double)*square + (1 - beta2) * clipped * clipped;
            const double step =
                new_mean / correction1 / (sqrt(new_square / correction2) + (double)adam->epsilon);
            *x = (float)((double)*x - (double)adam->rate * (step + (double)adam->decay * (double)*x));
            *mean = (float)new_mean;
            *square = (float)new_square;
            *g = 0;
        }
}

void ref_adam(struct queue *queue, const struct adam_update *updates, int count)
{
    (void)queue;
    for (int i = 0; i < count; i++)
        update_values(&updates[i].adam, updates[i].gradient, updates[i].value, updates[i].first,
                      updates[i].second);
}
