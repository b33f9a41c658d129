/* trial_config.h: the settings of one trial: set from texts by the keys of sweep_keys.h, named, written as JSON.
 *
 *     struct trial_config config = {0};
 *     for (int k = 0; k < TRIAL_KEYS; k++)
 *         trial_config_set(&config, k, text_of(k), error);
 *     trial_config_name(&config, error);
 */
#ifndef OFFRAMP_TRAIN_TRIAL_CONFIG_H
#define OFFRAMP_TRAIN_TRIAL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/hash_index.h"
#include "common/head/head.h"
#include "train/sweep_keys.h"

enum trial_loss { LOSS_CROSS_ENTROPY, LOSS_DISTILLATION, LOSS_MIX };
/* What the loss of a token is multiplied by (ops.h, struct vocab_loss). */
enum trial_weighting { WEIGHTING_NONE, WEIGHTING_CONFIDENCE };

/* Over which tokens the softmax of a step is taken (subset.h). Evaluations are over all. */
enum trial_vocabulary {
    VOCABULARY_AUTO, /* the subset where the start is a ridge regression, the output is tied and the store has best
                        tokens; else all */
    VOCABULARY_SUBSET,
    VOCABULARY_ALL
};

#define TRIAL_ID_SIZE 160

struct trial_config {
    /* Made from the trial's settings alone, so that it has the same name in every sweep: for instance
     * "12-affine-ridge-distillation-0.001". Set by trial_config_name. */
    char id[TRIAL_ID_SIZE];
    char tap[TAPS_NAME_SIZE]; /* as written; after sweep_resolve the tap's own name, or the taps' */
    struct head_spec
        spec; /* its taps and draft_vocab are set by sweep_resolve, and `to`, which is -1 before where it was not given */
    bool to_named; /* `to` is not what it is by default: part of the id. Set by sweep_resolve */
    enum head_init init;
    enum trial_loss loss;
    double share; /* of cross-entropy in LOSS_MIX; the rest is distillation */
    double temperature; /* of distillation */
    enum trial_weighting weighting;
    enum trial_vocabulary vocabulary; /* subset or all after sweep_choose_vocabulary */
    bool vocabulary_auto; /* nobody asked for it: what its run began with counts (run_identity.h) */
    bool vocabulary_named; /* it is not what auto comes to, as far as that is known: part of the id */
    int draft_vocab; /* a draft's tokens; after sweep_resolve those of the model at most */
    int unroll; /* steps of a draft that it learns from */
    double unroll_decay; /* the weight of each, of the one before */
    double rate; /* of the first step after the warm-up */
    int64_t warmup; /* steps in which the rate grows from 0 */
    double clip; /* largest norm of the gradient; 0: no limit */
    double decay, beta1, beta2, epsilon; /* of Adam */
    struct {
        int trial, key[TRIAL_KEYS]; /* 0: the key is not given */
    } line; /* of the sweep file, for errors */
};

/* A key's value from the text of it. */
int trial_config_set(struct trial_config *config, enum trial_key key, const char *text, struct error *error);
/* Whether its keys of the loss, and those of drafts, go with what it is; where they do not, *key is the one to blame. */
int trial_config_check_keys(const struct trial_config *config, enum trial_key *key, struct error *error);
/* The id. */
int trial_config_name(struct trial_config *config, struct error *error);
/* Puts before an error where the key's value is: in the file of that name, or, where that is NULL, in a flag. */
int trial_config_blame(const struct trial_config *config, const char *name, enum trial_key key,
                       struct error *error);

/* What its softmax is compared with is the full model's, as `final` has it: the head has an output weight of its own,
 * or u (docs/design.md) is of another temperature. */
bool trial_config_takes_final(const struct trial_config *config);
/* Trials with the same loss can take a step in one group. */
bool trial_config_same_loss(const struct trial_config *config, const struct trial_config *other);

/* ---- finding one by its id ---- */

/* Enters configs[entry], which is named. */
int trial_configs_add(const struct trial_config *configs, struct hash_index *names, int entry,
                      struct error *error);
/* The one that was entered under the id; -1: none was. */
int trial_configs_find(const struct trial_config *configs, const struct hash_index *names, const char *id);

/* ---- */

/* The learning rate of a step (1 .. steps): a linear warm-up, then half a cosine from the full rate to a tenth
 * of it (Loshchilov and Hutter 2016, arXiv 1608.03983, without restarts). */
double trial_rate(const struct trial_config *config, int64_t step, int64_t steps);

/* The trial's settings by the names of their keys. NULL on error. */
json_t *trial_config_to_json(const struct trial_config *config, struct error *error);

/* Whether a value of that is its key's default: what counts where a config.json of an older program lacks the key. */
bool trial_config_is_default(const char *key, const json_t *value);

const char *trial_loss_name(enum trial_loss loss);

#endif
