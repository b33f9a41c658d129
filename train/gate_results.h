/* gate_results.h: RUN/gates/gates.json: what the gates of a run are worth.
 *
 *     {"version": 1,
 *      "split": {"fitted": 40, "left_out": 1, "scored": 39, "documents": "apart"},      // sequences
 *      "gates": [{"tap": "12", "trial": ID, "gate": "short-list+state", "auc": ..., "confidence": ..., "agreement": ...,
 *                 "loss": ..., "calibration_error": ..., "fitted": ..., "scored": ..., "cost": ...,
 *                 "reliability": [{"predicted": ..., "observed": ..., "tokens": ...} x 10],
 *                 "file": "12-short-list+state.safetensors", "hash": ..., "head": ...}, ...],
 *      "left_out": [{"tap": "6", "trial": ID, "gate": "candidates", "reason": "..."}, ...]}
 *
 * "confidence" is the AUC of the head's largest probability on the same tokens, "agreement" the share of them where the
 * head's token is the full model's, "cost" in layers, "head" the hash of the head's file.
 */
#ifndef OFFRAMP_TRAIN_GATE_RESULTS_H
#define OFFRAMP_TRAIN_GATE_RESULTS_H

#include <jansson.h>
#include <stdio.h>

#include "train/gate_fit.h"
#include "train/run_folder.h"

/* A gate that was asked for: which one, and of what. */
struct gate_entry {
    const char *tap, *trial;
    char gate[GATE_NAME_SIZE];
    char file[TAP_NAME_SIZE + GATE_NAME_SIZE + 16]; /* in RUN/gates */
    char head[17]; /* the hash of the head's file; empty: whichever */
};

struct gate_entry gate_entry_of(const char *tap, const char *trial, const struct gate_spec *spec);

/* The results; of a run without gates, or whose file cannot be read, new ones. NULL when memory is out. */
json_t *gate_results_read(const struct run_folder *run);
int gate_results_write(const struct run_folder *run, const json_t *results, struct error *error);

/* Whether there is such a result, and the gate's file; or the reason why there is none. */
bool gate_results_have(const struct run_folder *run, const json_t *results, const struct gate_entry *entry);

/* Puts a result in the place of the one that there may be, in the order of the taps; `file_hash` of the gate's file. */
int gate_results_put(json_t *results, const struct gate_entry *entry, const struct gate_score *score,
                     double cost, const char *file_hash, struct error *error);
/* Why there can be no such gate. */
int gate_results_leave_out(json_t *results, const struct gate_entry *entry, const char *reason,
                           struct error *error);

/* The table for people; nothing where there are none. */
void gate_results_print(const json_t *results, FILE *stream);

#endif
