/* report_gates.h: what RUN/gates/gates.json says of the gates of a run: how well each tells, on tokens that it has not seen,
 * whether the exit's likeliest token is the full model's.
 *
 *     {"version": 1, "gates": [{"tap": "12", "trial": "12-affine-...", "gate": "mlp", "auc": 0.74, "fitted": 8192,
 *                               "scored": 8192, "cost": 0.01,
 *                               "reliability": [{"predicted": 0.05, "observed": 0.04, "tokens": 820}, ...]}, ...]}
 *
 *     struct gate_list gates;
 *     gate_list_read(path, &gates, error);
 *     gate_list_free(&gates);
 */
#ifndef OFFRAMP_TRAIN_REPORT_GATES_H
#define OFFRAMP_TRAIN_REPORT_GATES_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "train/gate_score.h"

struct gate_result {
    char tap[32], gate[64];
    char *trial; /* the exit's head */
    double auc; /* the probability that a token that agrees gets more than one that does not */
    double cost; /* in layers */
    int64_t fitted, scored; /* tokens */
    struct gate_bin bin[GATE_BINS]; /* [bins] */
    int bins;
};

struct gate_list {
    struct gate_result *gate; /* [count], in the file's order */
    size_t count, capacity;
};

/* Of a file that is not there: none. */
int gate_list_read(const char *path, struct gate_list *gates, struct error *error);
void gate_list_free(struct gate_list *gates); /* a zeroed one is fine */

#endif
