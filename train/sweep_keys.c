#include "train/sweep_keys.h"

#include <stddef.h>

#include "common/base/cli.h"
#include "common/head/draft.h"

const struct sweep_key trial_keys[TRIAL_KEYS] = {
    [KEY_TAP] = {"tap", "TAP", "where the head reads: 12, 12.mid; a draft: 2+15+27", NULL, KEY_WORD, 0, 0},
    [KEY_HEAD] = {"head", "KIND", "embedding, norm, affine, affine+mlp, mlp, block, bridge or draft", NULL,
                  KEY_WORD, 0, 0},
    [KEY_RANK] = {"rank", "N", "rank of the map of affine, affine+mlp and bridge; 0: full", "0", KEY_WHOLE, 0,
                  1e6},
    [KEY_TO] = {"to", "TAP",
                "bridge: the tap that its map leads to, n - 1 or n - 2 of n layers (default: n - 2)", "",
                KEY_WORD, 0, 0},
    [KEY_LAYERS] = {"layers", "HOW", "bridge: its layers of the model are trained, or frozen", "trained",
                    KEY_WORD, 0, 0},
    [KEY_OUTPUT] = {"output", "OUTPUT", "tied (the model's output weight) or untied (a trained copy)", "tied",
                    KEY_WORD, 0, 0},
    [KEY_INIT] = {"init", "INIT", "copy, random or ridge", "copy", KEY_WORD, 0, 0},
    [KEY_LOSS] =
        {"loss", "LOSS",
         "distillation, cross-entropy, or mix of both; exits are trained one by one and need no weights",
         "distillation", KEY_WORD, 0, 0},
    [KEY_SHARE] = {"share", "SHARE", "of cross-entropy in a mix", "0.5", KEY_NUMBER, 0, 1},
    [KEY_TEMPERATURE] =
        {"temperature", "T",
         "distillation of softmaxes of logits / T, times T^2; other than 1 it takes more products", "1",
         KEY_NUMBER, 0.05, 100},
    [KEY_WEIGHTING] = {"weighting", "WEIGHTS",
                       "none, or confidence: of a token's loss, the head's largest probability (EE-LLM)",
                       "none", KEY_WORD, 0, 0},
    [KEY_VOCABULARY] =
        {"vocabulary", "TOKENS",
         "a step's softmax is over a subset of the vocabulary, or all; auto: subset for tied heads from ridge",
         "auto", KEY_WORD, 0, 0},
    [KEY_DRAFT_VOCAB] = {"draft_vocab", "TOKENS", "a draft: how many tokens it chooses from", "6000", KEY_WHOLE,
                         1, 1 << 28},
    [KEY_UNROLL] = {"unroll", "STEPS", "a draft: steps on its own output that it learns from", "3", KEY_WHOLE,
                    1, DRAFT_STEPS_MOST},
    [KEY_UNROLL_DECAY] = {"unroll_decay", "SHARE", "a draft: what each such step counts of the one before", "1",
                          KEY_NUMBER, 0.01, 1},
    [KEY_RATE] = {"rate", "RATE", "learning rate", "1e-3", KEY_NUMBER, 0, 10},
    [KEY_WARMUP] = {"warmup", "STEPS", "steps in which the rate grows from 0", "5", KEY_WHOLE, 0, 1e9},
    [KEY_CLIP] = {"clip", "NORM", "largest norm of the gradient; 0: no limit", "1", KEY_NUMBER, 0, 1e9},
    [KEY_DECAY] = {"decay", "SHARE", "decoupled weight decay", "0", KEY_NUMBER, 0, 1},
    [KEY_BETA1] = {"beta1", "SHARE", "Adam: share of the gradient's running mean that a step keeps", "0.9",
                   KEY_NUMBER, 0, 0.99999},
    [KEY_BETA2] = {"beta2", "SHARE", "Adam: share of the running mean of its square that a step keeps", "0.95",
                   KEY_NUMBER, 0, 0.99999},
    [KEY_EPSILON] = {"epsilon", "NUMBER", "Adam: added to the divisor", "1e-5", KEY_NUMBER, 1e-20, 1},
};

const struct sweep_key setting_keys[SETTING_KEYS] = {
    [KEY_SEED] = {"seed", "N", "seed of the reading order, of random first values and of random trials", "1",
                  KEY_WHOLE, 0, 0x1p63},
    [KEY_PASSES] = {"passes", "N", "times the training split is read", "1", KEY_WHOLE, 1, 10000},
    [KEY_STEPS] = {"steps", "N", "number of steps, instead of passes; 0: only evaluate the first values", "",
                   KEY_WHOLE, 0, 1e9},
    [KEY_SEQUENCES] = {"sequences", "N", "sequences read per step", "4", KEY_WHOLE, 1, 65536},
    [KEY_EVALUATE] = {"evaluate", "STEPS", "steps between evaluations; 0: only the first and the last", "0",
                      KEY_WHOLE, 0, 1e9},
    [KEY_SAMPLE] =
        {"sample", "N",
         "held-out sequences that an evaluation reads before a trial's end; 0: each of them (default: "
         "4 or more with 2048 tokens, or as the run was begun)",
         "", KEY_WHOLE, 0, 1e9},
    [KEY_CHECKPOINT] = {"checkpoint", "STEPS", "steps between checkpoints", "50", KEY_WHOLE, 1, 1e9},
    [KEY_HALVING] =
        {"halving", "N",
         "after 1/N of the steps (and 1/N of these) only the best 1/N of a tap's trials go on; 0: all", "0",
         KEY_WHOLE, 0, 1000},
    [KEY_PATIENCE] = {"patience", "N", "evaluations without a lower KL after which a trial ends; 0: none does",
                      "0", KEY_WHOLE, 0, 1e6},
    [KEY_GATES] =
        {"gates", "GATE,...",
         "probes that tell where exits are right: linear, mlp (of the state), candidates, short-list, "
         "confidence, joined ones such as short-list+state; none",
         "", KEY_WORD, 0, 0},
};

int sweep_key_whole(const struct sweep_key *key, const char *text, int64_t *value, struct error *error)
{
    const int64_t most = key->most < 0x1p63 ? (int64_t)key->most : INT64_MAX;
    return parse_integer(text, (int64_t)key->least, most, value, error);
}

int sweep_key_number(const struct sweep_key *key, const char *text, double *value, struct error *error)
{
    return parse_number(text, key->least, key->most, value, error);
}
