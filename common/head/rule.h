/* rule.h: when a token may leave at an exit.
 *
 * An exit looks at something before it lets a token leave: its evidence. A rule decides by the evidence.
 *
 *     state at the tap --> head --> evidence --> rule --> the token leaves, or goes on
 *
 * The two are apart: what is looked at has a kind, and the rule says how much of it is enough. `train` counts
 * with this rule what exits would do, and `generate` lets tokens leave by it. So a policy's table is about what
 * really happens.
 *
 *     const struct exit_rule rule = {.threshold = 0.9};
 *     const struct evidence evidence = {.confidence = prediction.probability};
 *     if (rule_lets_leave(&rule, EVIDENCE_CONFIDENCE, &evidence)) ...
 */
#ifndef OFFRAMP_HEAD_RULE_H
#define OFFRAMP_HEAD_RULE_H

#include <stdbool.h>

#include "common/base/error.h"

/* What can be looked at. */
enum evidence_kind {
    EVIDENCE_CONFIDENCE /* the probability that the exit's head gives to its likeliest token */
};

/* What an exit knows of one token: a member for each kind. Whether it is right it does not know. */
struct evidence {
    double confidence;
};

struct exit_rule {
    double threshold; /* the least evidence that lets a token leave, 0 .. 1 */
};

/* Decides by the member of the evidence that `kind` says. Evidence that is not a number lets nothing leave. */
bool rule_lets_leave(const struct exit_rule *rule, enum evidence_kind kind, const struct evidence *evidence);

/* "confidence". An unknown name is an error that lists the known ones. */
const char *evidence_kind_name(enum evidence_kind kind);
int evidence_kind_find(const char *name, enum evidence_kind *kind, struct error *error);

#endif
