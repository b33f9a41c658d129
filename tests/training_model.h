/* training_model.h: the small model and the text on which training is compared with PyTorch
 * (tests/golden/training.c, tests/interop/training.py). */
#ifndef OFFRAMP_TESTS_TRAINING_MODEL_H
#define OFFRAMP_TESTS_TRAINING_MODEL_H

#include <stdio.h>

#include "common/base/file.h"
#include "common/base/random.h"
#include "tests/make_model.h"

/* How the store is made of them, as the arguments of a process: behind these come the device, model, corpus and store. */
#define TRAINING_EXTRACT                                                                                       \
    "extract", "--codec", "raw:f32", "--math", "f32", "--seq-len", "24", "--held-out", "0.1", "--end-of-text", \
        "2", "--taps", "1,2,2.mid,3,3.mid,final"

enum { TRAINING_MODEL_VOCAB = 96, TRAINING_MODEL_TOKENS = 1200 };

/* Writes FOLDER/model, a Llama of Hugging Face, and FOLDER/ids.u16, a token file of some documents; token 2 ends one.
 * Most tokens follow from the one before, so that labels can be learned. */
static inline int make_training_model(const char *folder, struct error *error)
{
    const struct made_model made = {.layers = 4,
                                    .hidden = 32,
                                    .attention_heads = 4,
                                    .kv_heads = 2,
                                    .head_size = 8,
                                    .intermediate = 48,
                                    .vocab = TRAINING_MODEL_VOCAB,
                                    .context = 64,
                                    .seed = 5};
    struct random random = {17};
    uint16_t ids[TRAINING_MODEL_TOKENS];
    char path[2048];
    snprintf(path, sizeof path, "%s/model", folder);
    if (make_model(&made, path, error) < 0)
        return -1;
    ids[0] = 3;
    for (int i = 1; i < TRAINING_MODEL_TOKENS; i++) {
        const uint64_t any = random_next(&random) % TRAINING_MODEL_VOCAB;
        ids[i] =
            (uint16_t)(random_uniform(&random) < 0.7 ? (5u * ids[i - 1] + 1u) % TRAINING_MODEL_VOCAB : any);
    }
    snprintf(path, sizeof path, "%s/ids.u16", folder);
    return file_write(path, ids, sizeof ids, error);
}

#endif
