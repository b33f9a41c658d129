/* report.h: the sections of RUN/report.html. Each is made of what is in struct report, by a file of its own, and knows of
 * no other one; html_report.c puts them into a page, and leaves out those that do not apply.
 *
 *     report_exits(&report, &text);
 *
 * Names are escaped. The bytes depend on the struct alone. When memory runs out, the string remembers it.
 */
#ifndef OFFRAMP_TRAIN_REPORT_H
#define OFFRAMP_TRAIN_REPORT_H

#include <stdbool.h>

#include "common/base/string.h"
#include "common/head/policy.h"
#include "common/model/config.h"
#include "train/leaderboard.h"
#include "train/report_gates.h"
#include "train/run_folder.h"

struct report {
    const char *name, *fingerprint; /* of the model */
    const struct model_config *model;
    const struct run_folder *run;
    const struct leaderboard *board;
    const struct policy *policy;
    const struct report_gate_list *gates; /* empty: there are none */
};

/* What to deploy, and why, in plain words. */
void report_verdict(const struct report *report, struct string *out);

/* What the policy's exits would do at each threshold. */
void report_exits(const struct report *report, struct string *out);

/* What an exit costs against how close it is to the full model: the heads that no other beats in both. */
void report_front(const struct report *report, struct string *out);
bool report_front_applies(const struct report *report);
/* Whether no head beats that of the row in both. */
bool report_front_has(const struct leaderboard *board, int row);

/* Loss and agreement by depth and by kind. */
void report_depth(const struct report *report, struct string *out);

/* The ranked table. */
void report_trials(const struct report *report, struct string *out);

/* Losses by step. */
void report_curves(const struct report *report, struct string *out);
bool report_curves_apply(const struct report *report);

/* How far drafts are right, by step. */
void report_drafts(const struct report *report, struct string *out);
bool report_drafts_apply(const struct report *report);
/* For the verdict: the best draft in one paragraph; nothing where there is none. */
void report_drafts_in_short(const struct report *report, struct string *out);

/* How well gates tell which tokens may leave. */
void report_gates(const struct report *report, struct string *out);
bool report_gates_apply(const struct report *report);
/* For the verdict: of the gates of heads on the front the one that tells more than the head's confidence by most; nothing
 * where none does. */
void report_gates_in_short(const struct report *report, struct string *out);

/* Which trials went on at the rungs of successive halving. */
void report_halving(const struct report *report, struct string *out);
bool report_halving_applies(const struct report *report);

/* Where the time went: of the run, and of each trial. */
void report_time(const struct report *report, struct string *out);
bool report_time_applies(const struct report *report);

/* What failed or was stopped, and why. */
void report_failures(const struct report *report, struct string *out);
bool report_failures_apply(const struct report *report);

#endif
