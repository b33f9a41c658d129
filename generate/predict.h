/* predict.h: what one state predicts through an output weight: the top token and its probability, and
 * the logits where tokens are sampled. One vocabulary product a prediction, on few-row kernels.
 *
 *     predictor_create(queue, hidden, vocab, sampling, &predictor, error);
 *     op_norm(queue, state, scale, epsilon, predictor_input(predictor));
 *     predictor_run(predictor, &weight, &prediction, error);
 */
#ifndef OFFRAMP_GENERATE_PREDICT_H
#define OFFRAMP_GENERATE_PREDICT_H

#include "kernels/ops.h"

struct prediction {
    int32_t token; /* of the largest logit, the smallest id among equals */
    double probability; /* of that token */
    const float *logits; /* [V], until the next prediction; NULL without sampling */
};

struct predictor;

int predictor_create(struct queue *queue, int hidden, int vocab, bool sampling, struct predictor **predictor,
                     struct error *error);
void predictor_destroy(struct predictor *predictor); /* NULL is fine */

/* Where the state goes, normed: [1, H]. */
struct matrix predictor_input(const struct predictor *predictor);

/* Waits for the queue. Logits that are not numbers are an error. */
int predictor_run(struct predictor *predictor, const struct vocab *weight, struct prediction *prediction,
                  struct error *error);

#endif
