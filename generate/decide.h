/* decide.h: the exits of a policy and the rule by which a token leaves.
 *
 * Confidence: a token leaves at the first exit whose head gives its top token at least the exit's
 * threshold of probability. What it leaves with is the head's prediction.
 *
 *     exits_load(&policy, fingerprint, config, backend, &exits, error);
 *     for (e = 0; e < exits.count; e++) {
 *         session_run(session, tap_step(exits.exit[e].tap));
 *         exit_check(&exits.exit[e], session, predictor, &prediction, &leaves, error);
 */
#ifndef OFFRAMP_GENERATE_DECIDE_H
#define OFFRAMP_GENERATE_DECIDE_H

#include "common/head/head.h"
#include "common/head/policy.h"
#include "common/model/config.h"
#include "generate/predict.h"
#include "generate/session.h"

struct exit_point {
    struct tap tap;
    double threshold;
    struct head *head;
    struct head_scratch *scratch; /* one row */
};

struct exits {
    int count;
    struct exit_point *exit; /* [count], by tap */
};

/* The policy's heads, checked against it and the model, whose fingerprint is given. A threshold that
 * is not NaN replaces the policy's. */
int exits_load(const struct policy *policy, const char *fingerprint, const struct model_config *config,
               struct backend *backend, double threshold, struct exits *exits, struct error *error);
void exits_free(struct exits *exits); /* a zeroed one is fine */

/* The session's last row stands at the exit's tap: what its head predicts, and whether that is enough. */
int exit_check(const struct exit_point *exit, const struct session *session, struct predictor *predictor,
               struct prediction *prediction, bool *leaves, struct error *error);

#endif
