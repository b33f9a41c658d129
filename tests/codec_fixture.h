/* codec_fixture.h: states much as a model's, and a coder for every codec in the table. */
#ifndef OFFRAMP_TESTS_CODEC_FIXTURE_H
#define OFFRAMP_TESTS_CODEC_FIXTURE_H

#include <math.h>
#include <stdlib.h>

#include "common/base/random.h"
#include "common/codec/fit.h"

/* Every channel and every token has a scale of its own, neighbouring channels go together, one token is
 * huge. free() them; NULL: memory is out. */
static inline float *codec_fixture_states(int64_t rows, int64_t cols, uint64_t seed)
{
    struct random random = {seed};
    float *states = malloc((size_t)(rows * cols) * sizeof *states);
    for (int64_t r = 0; r < rows && states; r++)
        for (int64_t c = 0; c < cols; c++) {
            double scale = exp2((double)(c * 7 % 5) - 3) * (r == 1 ? 150 : 1 + (double)(r % 3));
            states[r * cols + c] = (float)(random_normal(&random) * scale);
            if (c > 0)
                states[r * cols + c] += states[r * cols + c - 1] / 2;
        }
    return states;
}

/* A codec's parameters from states, with a spacing; *parameters is empty for a codec that has none. */
static inline int codec_fixture_fit(const struct codec *codec, const float *states, int64_t rows, int64_t cols,
                                    double spacing, struct string *parameters, struct error *error)
{
    struct moments *moments = NULL;
    int result = 0;
    if (!codec->fit)
        return 0;
    if (moments_create(cols, &moments, error) < 0 || moments_add(moments, states, rows, error) < 0 ||
        codec->fit(moments, parameters, error) < 0 ||
        codec->set(parameters->data, parameters->length, &(struct codec_setting){.spacing = spacing}, error) <
            0)
        result = -1;
    moments_destroy(moments);
    return result;
}

/* Fitted, where it must be, to 64 rows of codec_fixture_states. */
static inline int codec_fixture_coder(const struct codec *codec, int64_t cols, struct coder **coder,
                                      struct error *error)
{
    struct string parameters = {0};
    float *states = codec_fixture_states(64, cols, 3);
    int result = states ? codec_fixture_fit(codec, states, 64, cols, 0.05, &parameters, error)
                        : error_set(error, "out of memory");
    *coder = NULL;
    if (result == 0)
        result = coder_create(codec, parameters.data, parameters.length, cols, coder, error);
    string_free(&parameters);
    free(states);
    return result;
}

#endif
