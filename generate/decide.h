/* decide.h: the exits of a policy, and whether a token leaves at one.
 *
 * A token leaves at the first exit whose rule lets it (common/head/rule.h). It leaves with what the exit's head
 * predicts.
 *
 *     exits_load(&policy, fingerprint, config, backend, &exits, error);
 *     exits_attach(&exits, engine, error);                                      // before sequences are created
 *     for (e = 0; e < exits.count; e++) {
 *         state = engine_run(engine, &(struct engine_row){sequence, last, tap_half(exits.exit[e].tap), true}, 1);
 *         exit_check(&exits.exit[e], engine, sequence, state, predictor, &prediction, &leaves, error);
 */
#ifndef OFFRAMP_GENERATE_DECIDE_H
#define OFFRAMP_GENERATE_DECIDE_H

#include "common/head/head.h"
#include "common/head/policy.h"
#include "common/model/config.h"
#include "generate/engine.h"
#include "generate/predict.h"

struct exit_point {
    struct tap tap;
    enum evidence_kind evidence; /* what the rule decides by */
    struct exit_rule rule;
    struct head *head;
    struct head_scratch *scratch; /* one row; NULL where the head is not by row */
    int attached; /* number among those of the engine; -1: by row */
};

struct exits {
    int count;
    struct exit_point *exit; /* [count], by tap */
};

/* Loads the policy's heads and checks them against it and against the model, whose fingerprint is given. A
 * threshold that is not NaN replaces those of all rules. */
int exits_load(const struct policy *policy, const char *fingerprint, const struct model_config *config,
               struct backend *backend, double threshold, struct exits *exits, struct error *error);
/* Heads that are not by row are attached to the engine; the exits must outlive it. */
int exits_attach(const struct exits *exits, struct engine *engine, struct error *error);
void exits_free(struct exits *exits); /* a zeroed one is fine */

/* Looks at the last row of a sequence, whose state [1, H] at the exit's tap is given: what the head predicts, and
 * whether the token leaves with that. */
int exit_check(const struct exit_point *exit, const struct engine *engine,
               const struct engine_sequence *sequence, struct matrix state, struct predictor *predictor,
               struct prediction *prediction, bool *leaves, struct error *error);

#endif
