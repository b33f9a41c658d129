/* gate.h: gates. A gate is a small probe beside an exit's head. It says how likely it is that the exit's likeliest token
 * is the full model's, and it may be much cheaper than the softmax of the whole vocabulary that the head's own
 * confidence takes.
 *
 *     what the exit knows --> features --> normalised --> probe --> calibrated --> probability
 *
 *     feature      what is looked at                                               products
 *     state        the tap's state, scaled by its root mean square                 none
 *     candidates   logits of a few tokens through the exit's head (SpecEE,         the head, GATE_CANDIDATES rows of the
 *                  arXiv 2504.08850), and how likely whoever names them finds      output weight; and what names them
 *                  them
 *     short-list   the softmax over the most frequent tokens of the full model     the head, a row for each of those
 *     confidence   the softmax over the whole vocabulary, for comparison           the head, all rows
 *
 * A gate has one of them, or several joined. The probe is linear, or a layer of GATE_UNITS units with a gate
 * (op_swiglu) and a linear map. `train` fits and measures gates (train/gates.h).
 *
 *     gate_load(path, config, fingerprint, &gate, error);
 *     gate_features(gate.spec.features, hidden, &sight, values);        // values [gate.width]
 *     probability = gate_probability(&gate, values);
 *     gate_free(&gate);
 *
 * The names of gates, as they are asked for: "linear" and "mlp" (of the state), "candidates", "short-list",
 * "confidence" (each an MLP); joined ones such as "candidates+state", in any order.
 */
#ifndef OFFRAMP_HEAD_GATE_H
#define OFFRAMP_HEAD_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/config.h"
#include "common/store/tap.h"

/* In the order in which their values follow each other. */
enum gate_feature { GATE_CANDIDATES = 1, GATE_SHORT_LIST = 2, GATE_CONFIDENCE = 4, GATE_STATE = 8 };

struct gate_spec {
    unsigned features; /* of enum gate_feature, at least one */
    bool linear; /* of the state alone */
};

#define GATE_NAME_SIZE 48

/* An unknown name is an error that lists the known ones. */
int gate_spec_parse(const char *name, struct gate_spec *spec, struct error *error);
/* The name in its own order, which files and results have. */
void gate_spec_name(const struct gate_spec *spec, char name[GATE_NAME_SIZE]);

/* ---- features ---- */

#define GATE_NAMED 4 /* candidates of a token */
#define GATE_BEST  8 /* of a softmax's largest logits that are looked at */

/* A softmax over some tokens, or all: what the features say of it. Fewer tokens than GATE_BEST: the rest of the logits
 * is as the last. */
struct gate_softmax {
    float logit[GATE_BEST]; /* the largest ones, falling */
    int32_t rank[2]; /* of the two likeliest tokens: how many tokens of the short list are more frequent */
    float lse; /* log sum exp of all logits */
    float entropy; /* nats */
};

/* Tokens that somebody else finds likely. */
struct gate_named {
    float logit[GATE_NAMED]; /* through the exit's head, in the order of falling `prior` */
    float prior[GATE_NAMED]; /* how likely whoever names them finds them */
};

/* What an exit knows of a token. What a gate does not look at need not be set. */
struct gate_sight {
    const float *state; /* [H] of the tap */
    struct gate_named named;
    struct gate_softmax short_list, vocabulary;
};

/* How many values the features have. */
int64_t gate_width(unsigned features, int64_t hidden);
/* values [gate_width]. */
void gate_features(unsigned features, int64_t hidden, const struct gate_sight *sight, float *values);

/* ---- gates ---- */

struct gate {
    struct gate_spec spec;
    struct tap tap;
    int layers, hidden, vocab; /* of the model */
    char fingerprint[17]; /* of the model */
    char head
        [17]; /* XXH3-64 of the file of the exit's head, whose logits it knows; all but the state depend on it */
    int64_t width; /* values of its features: F */
    int64_t units; /* of the probe; 0: linear */
    float *mean, *scale; /* [F] a value is normalised to (value - mean) * scale */
    float *in, *in_bias; /* [2 units, F], [2 units]: what op_swiglu takes; none where linear */
    float *out; /* [units], or [F] where linear */
    float out_bias;
    double slope, shift; /* calibration: the probability is sigmoid(slope * logit + shift) */
    int tokens; /* of the short list; 0: it looks at none */
    int32_t *token; /* [tokens] the most frequent first */
};

void gate_free(struct gate *gate); /* a zeroed one is fine */

/* Before calibration. values [width], as gate_features gives them. */
double gate_logit(const struct gate *gate, const float *values);
double gate_probability(const struct gate *gate, const float *values);

/* ---- files ---- */

/* Writes a gate's safetensors file: "mean", "scale" F32 [F]; "in" F32 [2 units, F] and "in_bias" F32 [2 units] unless
 * linear, the first half of whose rows goes through the sigmoid; "out" F32 [units] or [F]; "out_bias" F32 [1];
 * "calibration" F64 [2], slope and shift; "tokens" I32 [tokens] where it looks at a short list. Metadata, all strings:
 * "offramp" (version), "gate" (its name), "tap", "layers", "hidden", "vocab", "model" (the fingerprint), "head". */
int gate_save(const struct gate *gate, const char *path, struct error *error);
/* Reads a gate of the model with that config and fingerprint; a gate of another model is an error. Every byte is
 * checked. */
int gate_load(const char *path, const struct model_config *config, const char *fingerprint, struct gate *gate,
              struct error *error);

#endif
