/* policy.h: which exits a model has, and when a token may leave at them. `train` writes a policy, `generate`
 * loads it.
 *
 * An exit has three parts: a head at a tap, the evidence that is looked at there, and a rule over the evidence
 * (rule.h). RUN/policy/policy.json keeps them apart. The head files lie beside it:
 *     {"version": 2, "model": FINGERPRINT, "layers": 30,
 *      "exits": [{"tap": "12",
 *                 "head": {"kind": "affine", "output": "tied", "file": "12.safetensors", "hash": "..."},
 *                 "evidence": {"kind": "confidence"},
 *                 "rule": {"threshold": 0.9}}, ...],
 *      "agreement": 0.95,                                          // what was asked for; null: a threshold
 *      "costs": {"layer": 1.0, "head": ..., "output": ...},        // in layers
 *      "table": [{"threshold": 0.9, "exit_rates": [...], "agreement": ..., "depth": ..., "speedup": ...}, ...]}
 *
 * Where no exit is predicted to pay, "exits" is empty. That is a policy like any other: the full model. "tried"
 * names the taps that came nearest then, and the table is theirs:
 *     {..., "exits": [], "tried": ["24"], ...}
 *
 * Version 1 had no objects for "head", "evidence" and "rule". It can still be read.
 *
 *     struct policy policy;
 *     policy_read("run/policy", &policy, error);
 *     for (int e = 0; e < policy.exits; e++) ...
 *     policy_free(&policy);
 */
#ifndef OFFRAMP_HEAD_POLICY_H
#define OFFRAMP_HEAD_POLICY_H

#include <stddef.h>

#include "common/base/error.h"
#include "common/head/rule.h"
#include "common/store/tap.h"

struct policy_head {
    char kind[16];
    char output[8]; /* "tied" or "untied" */
    char file[256]; /* beside policy.json */
    char hash[17]; /* XXH3-64 of the file */
};

struct policy_evidence {
    enum evidence_kind kind;
};

struct policy_exit {
    struct tap tap;
    struct policy_head head;
    struct policy_evidence evidence; /* what is looked at */
    struct exit_rule rule; /* over that */
};

/* What all exits do with one threshold. */
struct policy_row {
    double threshold;
    double *exit_rate; /* [policy_columns] the share of the tokens that leave there */
    double
        agreement; /* of the tokens that left, the share that has the full model's token; NaN (null in JSON): none left */
    double depth; /* mean of the layers run */
    double speedup; /* predicted from the costs; a check that lets a token go on costs, too */
};

struct policy {
    char *folder; /* that holds policy.json and the head files; policy_read sets it */
    char fingerprint[17]; /* of the model */
    int layers;
    int exits; /* 0: the full model */
    struct policy_exit *exit; /* [exits], by tap, not two at one tap */
    int tried; /* without exits: how many came nearest to paying; else 0 */
    struct tap *tried_tap; /* [tried], by tap */
    double agreement; /* that a threshold had to reach; NaN: the threshold was given */
    double cost_head; /* of a head without its output product, in layers; the mean over the exits */
    double cost_output; /* of an output product, in layers */
    int rows;
    struct policy_row *row; /* [rows], by threshold, ascending */
};

/* `path` is the folder or the file. Checks versions, ranges, order and the hashes of the head files. While
 * another policy is being put in the folder's place (directory_replace), the old one is read. */
int policy_read(const char *path, struct policy *policy, struct error *error);
void policy_free(struct policy *policy); /* a zeroed one is fine */

/* Writes folder/policy.json; the head files must be there already. It refuses what policy_read would refuse. */
int policy_write(const char *folder, const struct policy *policy, struct error *error);
/* The hash of a head file, as policy.json keeps it. */
int policy_hash_file(const char *path, char hash[17], struct error *error);

/* The columns of the table: the exits, or those that were tried where there are none. */
int policy_columns(const struct policy *policy);
struct tap policy_column(const struct policy *policy, int column);
/* Why a policy has no exits, for people: "none was predicted to be faster than the full model (best: ...)". */
void policy_reason(const struct policy *policy, char *text, size_t size);

#endif
