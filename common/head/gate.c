#include "common/head/gate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static const struct {
    const char *word;
    unsigned feature;
    bool linear;
} words[] = {
    {"candidates", GATE_CANDIDATES, false}, {"short-list", GATE_SHORT_LIST, false},
    {"confidence", GATE_CONFIDENCE, false}, {"state", GATE_STATE, false},
    {"linear", GATE_STATE, true},           {"mlp", GATE_STATE, false},
};
enum {
    WORDS = sizeof words / sizeof words[0],
    FEATURES = 4 /* the first words: one a feature, in their order */
};

static int parse_word_of(const char *name, const char *word, size_t length, struct gate_spec *spec,
                         struct error *error)
{
    for (int w = 0; w < WORDS; w++) {
        if (strlen(words[w].word) != length || strncmp(words[w].word, word, length) != 0)
            continue;
        if (spec->features & words[w].feature)
            return error_set(error, "\"%.60s\" names a feature twice", name);
        spec->features |= words[w].feature;
        spec->linear = spec->linear || words[w].linear;
        return 0;
    }
    return error_set(
        error,
        "\"%.60s\" is not a gate (there are: linear, mlp, candidates, short-list, confidence, and joined "
        "ones such as short-list+state)",
        name);
}

int gate_spec_parse(const char *name, struct gate_spec *spec, struct error *error)
{
    *spec = (struct gate_spec){0};
    for (const char *word = name;;) {
        const size_t length = strcspn(word, "+");
        if (parse_word_of(name, word, length, spec, error) < 0)
            return -1;
        if (!word[length])
            break;
        word += length + 1;
    }
    if (spec->linear && spec->features != GATE_STATE)
        return error_set(error, "\"%.60s\": linear is a gate by itself; join \"state\" instead", name);
    return 0;
}

void gate_spec_name(const struct gate_spec *spec, char name[GATE_NAME_SIZE])
{
    int length = 0;
    name[0] = 0;
    if (spec->features == GATE_STATE) {
        strcpy(name, spec->linear ? "linear" : "mlp");
        return;
    }
    for (int w = 0; w < FEATURES; w++) {
        if (spec->features & words[w].feature)
            length += snprintf(name + length, GATE_NAME_SIZE - (size_t)length, "%s%s", length ? "+" : "",
                               words[w].word);
    }
}

/* ---- features ---- */

enum {
    SOFTMAX_VALUES = GATE_BEST + 7, /* as put_softmax writes them */
    NAMED_VALUES = 3 * GATE_NAMED + 4
};

int64_t gate_width(unsigned features, int64_t hidden)
{
    return (features & GATE_CANDIDATES ? NAMED_VALUES : 0) + (features & GATE_SHORT_LIST ? SOFTMAX_VALUES : 0) +
           (features & GATE_CONFIDENCE ? SOFTMAX_VALUES : 0) + (features & GATE_STATE ? hidden + 1 : 0);
}

static const double least_share = 1e-6; /* what probabilities are cut to before their logarithm is taken */

static float log_odds(double share)
{
    const double cut = fmin(fmax(share, least_share), 1 - least_share);
    return (float)(log(cut) - log1p(-cut));
}

static float *put_softmax(const struct gate_softmax *softmax, float *value)
{
    const double first = exp((double)softmax->logit[0] - softmax->lse);
    for (int b = 0; b < GATE_BEST; b++) /* logarithms of the probabilities */
        *value++ = fmaxf(softmax->logit[b] - softmax->lse, -30);
    *value++ = (float)first;
    *value++ = log_odds(first);
    *value++ = softmax->logit[0] - softmax->logit[1];
    *value++ = softmax->entropy;
    *value++ = softmax->lse;
    for (int r = 0; r < 2; r++)
        *value++ = logf(1 + (float)softmax->rank[r]);
    return value;
}

static float *put_named(const struct gate_named *named, float *value)
{
    float order[GATE_NAMED]; /* logits, falling */
    double sum = 0;
    int best = 0;
    memcpy(order, named->logit, sizeof order);
    for (int i = 1; i < GATE_NAMED; i++) {
        const float logit = order[i];
        int at = i;
        for (; at > 0 && order[at - 1] < logit; at--)
            order[at] = order[at - 1];
        order[at] = logit;
    }
    for (int i = 0; i < GATE_NAMED; i++) {
        sum += exp((double)order[i] - order[0]);
        best = named->logit[i] > named->logit[best] ? i : best;
    }
    for (int i = 0; i < GATE_NAMED; i++) /* of a softmax over the candidates alone, falling */
        *value++ = (float)(exp((double)order[i] - order[0]) / sum);
    for (int i = 0; i < GATE_NAMED; i++) /* the same of each by its place: whether the two agree */
        *value++ = (float)(exp((double)named->logit[i] - order[0]) / sum);
    for (int i = 0; i < GATE_NAMED; i++)
        *value++ = (float)log(fmax(named->prior[i], least_share));
    *value++ = order[0];
    *value++ = order[0] - order[1];
    *value++ = best == 0;
    *value++ = log_odds(named->prior[best]);
    return value;
}

static void put_state(const float *state, int64_t hidden, float *value)
{
    double squares = 0;
    for (int64_t c = 0; c < hidden; c++)
        squares += (double)state[c] * state[c];
    const double size = sqrt(squares / (double)hidden) + 1e-12;
    for (int64_t c = 0; c < hidden; c++)
        *value++ = (float)(state[c] / size);
    *value = (float)log(size);
}

void gate_features(unsigned features, int64_t hidden, const struct gate_sight *sight, float *values)
{
    if (features & GATE_CANDIDATES)
        values = put_named(&sight->named, values);
    if (features & GATE_SHORT_LIST)
        values = put_softmax(&sight->short_list, values);
    if (features & GATE_CONFIDENCE)
        values = put_softmax(&sight->vocabulary, values);
    if (features & GATE_STATE)
        put_state(sight->state, hidden, values);
}

/* ---- running ---- */

void gate_free(struct gate *gate)
{
    free(gate->mean);
    free(gate->scale);
    free(gate->in);
    free(gate->in_bias);
    free(gate->out);
    free(gate->token);
    *gate = (struct gate){0};
}

/* A row of weights times the normalised values. */
static double product(const struct gate *gate, const float *weights, const float *values)
{
    double sum = 0;
    for (int64_t f = 0; f < gate->width; f++)
        sum += (double)weights[f] * (values[f] - gate->mean[f]) * gate->scale[f];
    return sum;
}

double gate_logit(const struct gate *gate, const float *values)
{
    double logit = gate->out_bias;
    if (gate->units == 0)
        return logit + product(gate, gate->out, values);
    for (int64_t u = 0; u < gate->units; u++) {
        const double g = product(gate, gate->in + u * gate->width, values) + gate->in_bias[u];
        const double v =
            product(gate, gate->in + (gate->units + u) * gate->width, values) + gate->in_bias[gate->units + u];
        logit += gate->out[u] * v * g / (1 + exp(-g));
    }
    return logit;
}

double gate_probability(const struct gate *gate, const float *values)
{
    return 1 / (1 + exp(-(gate->slope * gate_logit(gate, values) + gate->shift)));
}
