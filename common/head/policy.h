/* policy.h: which exits a model has and when a token may leave: what `train` writes and `generate` loads.
 *
 * An exit is a tap and a head, the evidence that is looked at there, and a rule over it (rule.h). RUN/policy/policy.json
 * keeps the three apart. The head files lie beside it:
 *     {"version": 2, "model": FINGERPRINT, "layers": 30,
 *      "exits": [{"tap": "12",
 *                 "head": {"kind": "affine", "output": "tied", "file": "12.safetensors", "hash": "..."},
 *                 "evidence": {"kind": "confidence"},
 *                 "rule": {"threshold": 0.9}}, ...],
 *      "agreement": 0.95,                                          // that was asked for; null: a threshold was
 *      "costs": {"layer": 1.0, "head": ..., "output": ...},        // in layers
 *      "table": [{"threshold": 0.9, "exit_rates": [...], "agreement": ..., "depth": ..., "speedup": ...}, ...]}
 *
 * Where no exit is predicted to pay, "exits" is empty. That is a policy like any other: the full model. "tried" names the
 * taps that came nearest then, and the table is theirs:
 *     {..., "exits": [], "tried": ["24"], ...}
 *
 * Version 1, which had no "head", "evidence" and "rule" of their own, can still be read.
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

struct policy_exit {
    struct tap tap;
    struct policy_head head;
    struct exit_rule rule; /* with the kind of evidence that it is over */
};

struct policy_row {
    double threshold; /* of all exits alike */
    double *exit_rate; /* [policy_columns] share of tokens that leave there */
    double agreement; /* of tokens that left, with the full model's token; NaN (null in JSON) when none left */
    double depth; /* mean layers run */
    double speedup; /* predicted from costs, checks that did not exit included */
};

struct policy {
    char *folder; /* where policy.json and the head files lie; set by policy_read */
    char fingerprint[17];
    int layers;
    int exits; /* 0: the full model */
    struct policy_exit *exit; /* [exits], by tap; no two at one tap */
    int tried; /* without exits: those that came nearest to paying; else 0 */
    struct tap *tried_tap; /* [tried], by tap */
    double agreement; /* that a threshold had to have; NaN: the threshold was given */
    double cost_head; /* of a head without its output product, in layers; mean over exits */
    double cost_output; /* of a vocabulary product, in layers */
    int rows;
    struct policy_row *row; /* [rows], by threshold, ascending */
};

/* What the table is of: the exits, or where there are none those that were tried. */
int policy_columns(const struct policy *policy);
struct tap policy_column(const struct policy *policy, int column);
/* Why a policy has no exits, for people: "none was predicted to be faster than the full model (best: ...)". */
void policy_reason(const struct policy *policy, char *text, size_t size);

/* hash of a head file as policy.json keeps it. */
int policy_hash_file(const char *path, char hash[17], struct error *error);
/* `path` is the folder or the file. Checks versions, ranges, order and the head files' hashes. Of a folder that is
 * just being replaced the old one is read (directory_replace). */
int policy_read(const char *path, struct policy *policy, struct error *error);
/* Writes folder/policy.json; the head files are already there. What policy_read would refuse is refused. */
int policy_write(const char *folder, const struct policy *policy, struct error *error);
void policy_free(struct policy *policy); /* a zeroed one is fine */

#endif
