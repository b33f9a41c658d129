#include "train/gate_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/base/random.h"

/* How probes are trained. Of about 30 recipes these had the lowest cross-entropy on folds that a probe had not seen: demo
 * model, ridge heads at taps 12, 18 and 24, 8,192 tokens. */
static const struct gate_recipe recipes[] = {
    /* of some values */ {.units = 16, .rate = 2e-3f, .decay = 1, .steps = 3000, .patience = 8},
    /* with the state */ {.units = 32, .rate = 2e-3f, .decay = 3, .steps = 3000, .patience = 8},
    /* linear */ {.rate = 3e-2f, .decay = 0.3f, .steps = 3000, .patience = 8},
};

static struct gate_recipe recipe_of(const struct gate_spec *spec)
{
    return recipes[spec->linear ? 2 : spec->features & GATE_STATE ? 1 : 0];
}

/* All values of the state weigh as so many others. Each with a weight of its own, they drown what else a probe looks at:
 * at tap 24 short-list+state had an AUC of 0.77 on those folds, and 0.84 so. */
static const double state_weight = 6;

/* ---- the values of a gate ---- */

/* The first value of a feature among those of all. */
static int64_t first_value(unsigned features, unsigned feature, int64_t hidden)
{
    return gate_width(features & (feature - 1), hidden);
}

/* Those of a sample that the gate looks at, of which there are gate->width. */
static void pick_values(const struct gate_samples *samples, const struct gate *gate, int64_t token,
                        float *values)
{
    const float *from = samples->values + token * samples->width;
    for (unsigned feature = 1; feature <= GATE_STATE; feature *= 2) {
        if (!(gate->spec.features & feature))
            continue;
        const int64_t count = gate_width(feature, gate->hidden);
        memcpy(values, from + first_value(samples->features, feature, gate->hidden),
               (size_t)count * sizeof *values);
        values += count;
    }
}

/* values [tokens, width] of the tokens that are fitted to, as they are. */
static int pick_all(const struct gate_samples *samples, const struct gate *gate, int64_t tokens, float **values,
                    struct error *error)
{
    if (array_alloc(values, tokens * gate->width, error) < 0)
        return -1;
    for (int64_t t = 0; t < tokens; t++)
        pick_values(samples, gate, t, *values + t * gate->width);
    return 0;
}

/* What a normalised value is multiplied by. */
static double value_weight(const struct gate *gate, int64_t value)
{
    const int64_t state = gate_width(gate->spec.features & GATE_STATE, gate->hidden); /* the last ones */
    return value < gate->width - state ? 1 : sqrt(state_weight / (double)state);
}

static void normalise(struct gate *gate, float *values, int64_t tokens)
{
    for (int64_t f = 0; f < gate->width; f++) {
        double sum = 0, squares = 0;
        for (int64_t t = 0; t < tokens; t++)
            sum += values[t * gate->width + f];
        const double mean = sum / (double)tokens;
        for (int64_t t = 0; t < tokens; t++)
            squares += pow(values[t * gate->width + f] - mean, 2);
        const double deviation = sqrt(squares / (double)tokens);
        gate->mean[f] = (float)mean;
        /* A value that never changes says nothing. */
        gate->scale[f] = deviation > 1e-6 ? (float)(value_weight(gate, f) / deviation) : 0;
    }
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t f = 0; f < gate->width; f++)
            values[t * gate->width + f] = (values[t * gate->width + f] - gate->mean[f]) * gate->scale[f];
    }
}

/* ---- folds ---- */

struct folds {
    const struct gate_samples *samples;
    const struct gate_cut *cut;
    struct backend *backend;
    struct gate_recipe recipe;
    struct gate *gate;
    int64_t tokens; /* that are fitted to */
    float *values; /* [tokens, width] normalised */
    double *logit; /* [tokens] of the probes that have not seen them */
    float *fold_values; /* [tokens, width] of the others, shuffled */
    bool *fold_agrees; /* [tokens] */
};

static int64_t fold_begin(const struct folds *folds, int fold)
{
    return (int64_t)(folds->cut->fitted * (uint64_t)fold / GATE_FOLDS) * folds->cut->rows;
}

/* The tokens outside [first, end), shuffled. */
static void shuffle_others(const struct folds *folds, int64_t first, int64_t end)
{
    const int64_t width = folds->gate->width, count = folds->tokens - (end - first);
    for (int64_t i = 0; i < count; i++) {
        const int64_t other = i < first ? i : i + (end - first);
        const int64_t to = (int64_t)random_permute((uint64_t)i, (uint64_t)count, folds->recipe.seed);
        memcpy(folds->fold_values + to * width, folds->values + other * width, (size_t)width * sizeof(float));
        folds->fold_agrees[to] = folds->samples->agrees[other];
    }
}

/* Puts a fold's probe into its part of the gate. */
static void join_probe(struct gate *gate, const struct gate_parameters *probe, int64_t units, int fold)
{
    const int64_t width = gate->width, first = fold * units;
    gate->out_bias += *probe->out_bias / GATE_FOLDS;
    for (int64_t u = 0; u < (units > 0 ? units : width); u++)
        gate->out[first + u] += probe->out[u] / GATE_FOLDS;
    for (int half = 0; half < 2 && units > 0; half++) {
        memcpy(gate->in + (half * gate->units + first) * width, probe->in + half * units * width,
               (size_t)(units * width) * sizeof(float));
        memcpy(gate->in_bias + half * gate->units + first, probe->in_bias + half * units,
               (size_t)units * sizeof(float));
    }
}

static int fit_fold(struct folds *folds, int fold, bool *complete, struct error *error)
{
    const int64_t first = fold_begin(folds, fold), end = fold_begin(folds, fold + 1),
                  width = folds->gate->width;
    const int64_t units = folds->recipe.units;
    struct gate_parameters probe = {0};
    float out_bias = 0;
    const struct gate_rows others = {folds->fold_values, folds->fold_agrees, folds->tokens - (end - first),
                                     width};
    const struct gate_rows apart = {folds->values + first * width, folds->samples->agrees + first, end - first,
                                    width};
    int result = -1;
    folds->recipe.seed++;
    shuffle_others(folds, first, end);
    probe.out_bias = &out_bias;
    if (array_alloc(&probe.in, 2 * units * width, error) == 0 &&
        array_alloc(&probe.in_bias, 2 * units, error) == 0 &&
        array_alloc(&probe.out, units > 0 ? units : width, error) == 0)
        result = gate_probe_fit(folds->backend, &folds->recipe, &others, &apart, &probe, folds->logit + first,
                                complete, error);
    if (result == 0 && *complete)
        join_probe(folds->gate, &probe, units, fold);
    free(probe.in);
    free(probe.in_bias);
    free(probe.out);
    return result;
}

static int allocate_gate(struct gate *gate, struct error *error)
{
    const int64_t width = gate->width, units = gate->units;
    if (array_alloc(&gate->mean, width, error) < 0 || array_alloc(&gate->scale, width, error) < 0 ||
        array_alloc(&gate->in, 2 * units * width, error) < 0 ||
        array_alloc(&gate->in_bias, 2 * units, error) < 0)
        return -1;
    return array_alloc(&gate->out, units > 0 ? units : width, error);
}

int gate_fit(const struct gate_samples *samples, const struct gate_cut *cut, struct backend *backend,
             uint64_t seed, struct gate *gate, bool *complete, struct error *error)
{
    struct folds folds = {.samples = samples,
                          .cut = cut,
                          .backend = backend,
                          .recipe = recipe_of(&gate->spec),
                          .gate = gate,
                          .tokens = (int64_t)cut->fitted * cut->rows};
    int result = -1;
    folds.recipe.seed = seed;
    gate->width = gate_width(gate->spec.features, gate->hidden);
    gate->units = (int64_t)folds.recipe.units * GATE_FOLDS;
    *complete = true;
    if (allocate_gate(gate, error) < 0 || pick_all(samples, gate, folds.tokens, &folds.values, error) < 0 ||
        array_alloc(&folds.logit, folds.tokens, error) < 0 ||
        array_alloc(&folds.fold_values, folds.tokens * gate->width, error) < 0 ||
        array_alloc(&folds.fold_agrees, folds.tokens, error) < 0)
        goto done;
    normalise(gate, folds.values, folds.tokens);
    result = 0;
    for (int fold = 0; fold < GATE_FOLDS && *complete && result == 0; fold++)
        result = fit_fold(&folds, fold, complete, error);
    if (result == 0 && *complete)
        gate_calibrate(folds.logit, samples->agrees, folds.tokens, &gate->slope, &gate->shift);
done:
    free(folds.values);
    free(folds.logit);
    free(folds.fold_values);
    free(folds.fold_agrees);
    return result;
}

/* ---- scoring ---- */

static double cross_entropy(const double *probability, const bool *agrees, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum -= log(fmax(agrees[i] ? probability[i] : 1 - probability[i], 1e-12));
    return sum / (double)count;
}

int gate_measure(const struct gate_samples *samples, const struct gate_cut *cut, const struct gate *gate,
                 struct gate_score *score, struct error *error)
{
    const int64_t first = (int64_t)cut->scored * cut->rows, count = (int64_t)cut->sequences * cut->rows - first;
    const bool *agrees = samples->agrees + first;
    double *probability = NULL;
    float *values = NULL;
    int result = -1;
    *score = (struct gate_score){.fitted = (int64_t)cut->fitted * cut->rows, .scored = count};
    if (array_alloc(&probability, count, error) < 0 || array_alloc(&values, gate->width, error) < 0)
        goto done;
    for (int64_t i = 0; i < count; i++) {
        pick_values(samples, gate, first + i, values);
        probability[i] = gate_probability(gate, values);
        score->agreement += agrees[i] / (double)count;
    }
    score->loss = cross_entropy(probability, agrees, count);
    gate_reliability(probability, agrees, count, score->bins);
    if (gate_auc(probability, agrees, count, &score->auc, error) == 0 &&
        gate_auc(samples->confidence + first, agrees, count, &score->confidence, error) == 0)
        result = 0;
done:
    free(probability);
    free(values);
    return result;
}
