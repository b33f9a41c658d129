/* sweep_keys.h: the keys of a sweep file, which are also the flags of a run of one trial.
 *
 * A key's row says its name, its help, its default, and what its value can be. A new key is a row here and a case
 * that puts its value where it belongs: of the run in sweep.c, of a trial in trial_config.c. A trial's key also goes
 * into the trial's name and into trial_config_to_json. sweep_yaml.c knows no more of a key than its row.
 */
#ifndef OFFRAMP_TRAIN_SWEEP_KEYS_H
#define OFFRAMP_TRAIN_SWEEP_KEYS_H

#include <stdint.h>

#include "common/base/error.h"

enum key_type { KEY_WORD, KEY_WHOLE, KEY_NUMBER };

struct sweep_key {
    const char *name;
    const char *value; /* what the value is, for help and errors: "TAP", "STEPS" */
    const char *help; /* one line */
    const char *standard; /* the default, NULL: the key must be given */
    enum key_type type;
    double least, most; /* of a number */
};

/* Of a trial. */
enum trial_key {
    KEY_TAP,
    KEY_HEAD,
    KEY_RANK,
    KEY_TO,
    KEY_LAYERS,
    KEY_OUTPUT,
    KEY_INIT,
    KEY_LOSS,
    KEY_SHARE,
    KEY_TEMPERATURE,
    KEY_WEIGHTING,
    KEY_VOCABULARY,
    KEY_DRAFT_VOCAB,
    KEY_UNROLL,
    KEY_UNROLL_DECAY,
    KEY_RATE,
    KEY_WARMUP,
    KEY_CLIP,
    KEY_DECAY,
    KEY_BETA1,
    KEY_BETA2,
    KEY_EPSILON
};
enum { TRIAL_KEYS = KEY_EPSILON + 1 };
extern const struct sweep_key trial_keys[TRIAL_KEYS];

/* Of the run. */
enum setting_key {
    KEY_SEED,
    KEY_PASSES,
    KEY_STEPS,
    KEY_SEQUENCES,
    KEY_EVALUATE,
    KEY_SAMPLE,
    KEY_CHECKPOINT,
    KEY_HALVING,
    KEY_PATIENCE,
    KEY_GATES
};
enum { SETTING_KEYS = KEY_GATES + 1 };
extern const struct sweep_key setting_keys[SETTING_KEYS];

/* The value of a key of KEY_WHOLE or KEY_NUMBER, in its range. */
int sweep_key_whole(const struct sweep_key *key, const char *text, int64_t *value, struct error *error);
int sweep_key_number(const struct sweep_key *key, const char *text, double *value, struct error *error);

#endif
