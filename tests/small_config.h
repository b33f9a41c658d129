/* small_config.h: the shape of SmolLM2-135M, for tests of sizes. */
#ifndef OFFRAMP_TESTS_SMALL_CONFIG_H
#define OFFRAMP_TESTS_SMALL_CONFIG_H

#include "common/model/config.h"

static const struct model_config small = {.family = "llama",
                                          .layers = 30,
                                          .hidden = 576,
                                          .attention_heads = 9,
                                          .kv_heads = 3,
                                          .head_size = 64,
                                          .intermediate = 1536,
                                          .vocab = 49152};

#endif
