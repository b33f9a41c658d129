/* report_gates.h: what RUN/gates/gates.json says of the gates of a run: how well each tells, on tokens that it has not seen,
 * whether the exit's likeliest token is the full model's.
 *
 *     {"version": 1, "gates": [{"tap": "12", "trial": "12-affine-...", "gate": "mlp", "auc": 0.74, "confidence": 0.72,
 *                               "fitted": 8192, "scored": 8192, "cost": 0.01,
 *                               "reliability": [{"predicted": 0.05, "observed": 0.04, "tokens": 820}, ...]}, ...]}
 *
 *     struct report_gate_list gates;
 *     report_gate_list_read(path, &gates, error);
 *     report_gate_list_free(&gates);
 */
#ifndef OFFRAMP_TRAIN_REPORT_GATES_H
#define OFFRAMP_TRAIN_REPORT_GATES_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "train/gate_score.h"

struct report_gate {
    char tap[32], gate[64];
    char *trial; /* the exit's head */
    double
        auc; /* NaN: not known; else the probability that a token that agrees gets more than one that does not */
    double
        confidence; /* the AUC of the head's largest probability on the same tokens, for comparison; NaN: not known */
    double cost; /* in layers */
    int64_t fitted, scored; /* tokens */
    struct gate_bin bin[GATE_BINS]; /* [bins] */
    int bins;
};

struct report_gate_list {
    struct report_gate *gate; /* [count], in the file's order */
    size_t count, capacity;
};

/* Of a file that is not there: none. */
int report_gate_list_read(const char *path, struct report_gate_list *gates, struct error *error);
void report_gate_list_free(struct report_gate_list *gates); /* a zeroed one is fine */

#endif
