/* Gates: their names and features, how they are scored, calibrated and fitted, and their files. */
#include "common/head/gate.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "tests/test.h"
#include "train/gate_fit.h"
#include "train/gate_wish.h"

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-5 * (1 + fabs(b));
}

/* ---- names ---- */

TEST(gate_names)
{
    static const char *const pairs[][2] = {
        {"linear", "linear"},
        {"mlp", "mlp"},
        {"state", "mlp"},
        {"short-list", "short-list"},
        {"state+candidates", "candidates+state"},
        {"mlp+confidence+short-list+candidates", "candidates+short-list+confidence+state"}};
    static const char *const wrong[][2] = {{"", "is not a gate"},
                                           {"lines", "is not a gate"},
                                           {"state+", "is not a gate"},
                                           {"state+mlp", "twice"},
                                           {"linear+short-list", "by itself"}};
    struct gate_spec spec;
    struct error error;
    char name[GATE_NAME_SIZE];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        REQUIRE_OK(gate_spec_parse(pairs[i][0], &spec, &error));
        gate_spec_name(&spec, name);
        CHECK(strcmp(name, pairs[i][1]) == 0);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        REQUIRE(gate_spec_parse(wrong[i][0], &spec, &error) < 0);
        CHECK_TEXT(error.text, wrong[i][1]);
    }
}

TEST(gate_wishes)
{
    struct gate_wish wish, kept = {0};
    struct error error;
    REQUIRE_OK(gate_wish_parse("mlp,short-list+state,state+short-list", &wish, &error));
    CHECK(wish.given && wish.count == 2);
    json_t *json = gate_wish_to_json(&wish);
    REQUIRE_OK(gate_wish_keep(json, &kept, &error));
    CHECK(kept.count == 2 && kept.spec[1].features == (GATE_SHORT_LIST | GATE_STATE));
    REQUIRE_OK(gate_wish_parse("none", &wish, &error)); /* it is said, so what is kept does not count */
    REQUIRE_OK(gate_wish_keep(json, &wish, &error));
    CHECK(wish.given && wish.count == 0);
    json_decref(json);
    REQUIRE_OK(gate_wish_parse("", &wish, &error));
    CHECK(!wish.given);
    CHECK(gate_wish_parse("mlp,,linear", &wish, &error) < 0);
}

/* ---- features ---- */

TEST(gate_features_of_a_state)
{
    const float state[] = {3, -4, 0, 5}; /* root mean square: sqrt(50 / 4) */
    const struct gate_sight sight = {.state = state};
    float values[5];
    REQUIRE(gate_width(GATE_STATE, 4) == 5);
    gate_features(GATE_STATE, 4, &sight, values);
    const double size = sqrt(12.5);
    CHECK(near(values[0], 3 / size) && near(values[1], -4 / size) && values[2] == 0);
    CHECK(near(values[4], log(size)));
}

/* Four logits of which three quarters are the first's. */
TEST(gate_features_of_a_softmax)
{
    const float second = (float)log(1. / 12), lse = (float)log(1 + 3. / 12);
    struct gate_softmax softmax = {.rank = {0, 99}, .lse = lse, .entropy = 0.5f};
    for (int b = 0; b < GATE_BEST; b++)
        softmax.logit[b] = b == 0 ? 0 : second;
    const struct gate_sight sight = {.short_list = softmax};
    float values[64];
    const int64_t width = gate_width(GATE_SHORT_LIST, 4);
    gate_features(GATE_SHORT_LIST, 4, &sight, values);
    CHECK(width == GATE_BEST + 7);
    CHECK(near(values[0], log(0.8)) && near(values[1], log(0.8 / 12)));
    CHECK(near(values[GATE_BEST], 0.8) && near(values[GATE_BEST + 1], log(4)));
    CHECK(near(values[GATE_BEST + 2], -second) && near(values[GATE_BEST + 3], 0.5) &&
          near(values[GATE_BEST + 4], lse));
    CHECK(values[GATE_BEST + 5] == 0 && near(values[GATE_BEST + 6], log(100)));
}

/* Whoever names the candidates prefers the first, the exit the third. */
TEST(gate_features_of_candidates)
{
    struct gate_sight sight = {.named = {.logit = {1, 0, 2, 0}, .prior = {0.5f, 0.25f, 0.125f, 0}}};
    const double sum = exp(2) + exp(1) + 2;
    float values[64];
    gate_features(GATE_CANDIDATES, 4, &sight, values);
    CHECK(gate_width(GATE_CANDIDATES, 4) == 3 * GATE_NAMED + 4);
    CHECK(near(values[0], exp(2) / sum) && near(values[1], exp(1) / sum) && near(values[3], 1 / sum));
    CHECK(near(values[4], exp(1) / sum) && near(values[6], exp(2) / sum));
    CHECK(near(values[8], log(0.5)) && near(values[10], log(0.125)) && near(values[11], log(1e-6)));
    CHECK(values[12] == 2 && values[13] == 1 && values[14] == 0 && near(values[15], log(0.125 / 0.875)));
}

/* ---- scores ---- */

/* Counted pair by pair, as the definition says. */
static double count_auc(const double *score, const bool *is_so, int64_t count)
{
    double won = 0, pairs = 0;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < count; j++) {
            if (!is_so[i] || is_so[j])
                continue;
            pairs++;
            won += score[i] > score[j] ? 1 : score[i] == score[j] ? 0.5 : 0;
        }
    }
    return won / pairs;
}

TEST(gate_auc_is_that_of_all_pairs)
{
    enum { COUNT = 300 };
    struct random random = {5};
    double score[COUNT], auc;
    bool is_so[COUNT];
    struct error error;
    for (int levels = 1; levels <= 1000; levels *= 10) { /* few levels: many ties */
        for (int i = 0; i < COUNT; i++) {
            is_so[i] = random_uniform(&random) < 0.3;
            score[i] = floor((random_uniform(&random) + 0.3 * is_so[i]) * levels);
        }
        REQUIRE_OK(gate_auc(score, is_so, COUNT, &auc, &error));
        CHECK(fabs(auc - count_auc(score, is_so, COUNT)) < 1e-12);
    }
    REQUIRE_OK(gate_auc(score, is_so, 0, &auc, &error));
    CHECK(isnan(auc));
    bool all[2] = {true, true};
    REQUIRE_OK(gate_auc(score, all, 2, &auc, &error));
    CHECK(isnan(auc));
}

TEST(gate_reliability_counts_tenths)
{
    const double probability[] = {0, 0.05, 0.1, 0.55, 0.59, 1};
    const bool is_so[] = {false, true, false, true, false, true};
    struct gate_bin bins[GATE_BINS];
    gate_reliability(probability, is_so, 6, bins);
    CHECK(bins[0].tokens == 2 && near(bins[0].predicted, 0.025) && bins[0].observed == 0.5);
    CHECK(bins[1].tokens == 1 && bins[5].tokens == 2 && near(bins[5].predicted, 0.57));
    CHECK(bins[9].tokens == 1 && bins[9].predicted == 1 && bins[9].observed == 1);
    CHECK(bins[2].tokens == 0 && isnan(bins[2].predicted));
    CHECK(near(gate_calibration_error(bins), (2 * 0.475 + 0.1 + 2 * 0.07) / 6));
}

static double calibrated_loss(const double *logit, const bool *is_so, int count, double slope, double shift)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        const double z = slope * logit[i] + shift;
        sum += log1p(exp(-fabs(z))) + fmax(is_so[i] ? -z : z, 0);
    }
    return sum / count;
}

TEST(gate_calibration_undoes_a_slope)
{
    enum { COUNT = 20000 };
    struct random random = {11};
    static double logit[COUNT];
    static bool is_so[COUNT];
    double slope, shift;
    for (int i = 0; i < COUNT; i++) { /* logits that are three times too sure, and 1 too high */
        const double z = 1.5 * random_normal(&random);
        is_so[i] = random_uniform(&random) < 1 / (1 + exp(-z));
        logit[i] = 3 * z + 1;
    }
    gate_calibrate(logit, is_so, COUNT, &slope, &shift);
    CHECK(fabs(slope - 1. / 3) < 0.01 && fabs(shift + 1. / 3) < 0.04);
    const double least = calibrated_loss(logit, is_so, COUNT, slope, shift);
    for (int i = 0; i < 4; i++) /* no other one nearby is better, but for what Platt's two tokens more make */
        CHECK(calibrated_loss(logit, is_so, COUNT, slope + (i == 0) * 0.01 - (i == 1) * 0.01,
                              shift + (i == 2) * 0.03 - (i == 3) * 0.03) > least);
    for (int i = 0; i < COUNT; i++) /* told apart without a fault: no slope is too large, but it must be one */
        logit[i] = is_so[i] ? 2 : -2;
    gate_calibrate(logit, is_so, COUNT, &slope, &shift);
    CHECK(isfinite(slope) && slope > 1 && isfinite(shift));
    for (int i = 0; i < COUNT; i++) /* the wrong way round: worth nothing, so all get the share */
        logit[i] = is_so[i] ? -2 : 2;
    gate_calibrate(logit, is_so, COUNT, &slope, &shift);
    CHECK(slope == 0 && isfinite(shift));
}

/* ---- fitting ---- */

enum { ROWS = 32, SEQUENCES = 80, TOKENS = ROWS * SEQUENCES, HIDDEN = 6 };

/* States in whose third direction it lies whether the head agrees; and of a second kind, where it is the product of two
 * of them, which no linear map can tell. */
static int make_samples(bool product, struct gate_samples *samples, struct error *error)
{
    struct random random = {21};
    *samples = (struct gate_samples){
        .features = GATE_STATE, .tokens = TOKENS, .width = gate_width(GATE_STATE, HIDDEN)};
    if (array_alloc(&samples->values, TOKENS * samples->width, error) < 0 ||
        array_alloc(&samples->agrees, TOKENS, error) < 0 ||
        array_alloc(&samples->confidence, TOKENS, error) < 0)
        return -1;
    for (int t = 0; t < TOKENS; t++) {
        float state[HIDDEN], *values = samples->values + t * samples->width;
        for (int c = 0; c < HIDDEN; c++)
            state[c] = (float)random_normal(&random);
        const struct gate_sight sight = {.state = state};
        gate_features(GATE_STATE, HIDDEN, &sight, values);
        const double z = product ? 3 * values[1] * values[4] : 2 * values[2];
        samples->agrees[t] = random_uniform(&random) < 1 / (1 + exp(-z));
        samples->confidence[t] = random_uniform(&random);
    }
    return 0;
}

static const struct gate_cut half = {.fitted = 40, .scored = 40, .sequences = SEQUENCES, .rows = ROWS};

static int fit(const char *name, const struct gate_samples *samples, int threads, struct gate *gate,
               struct error *error)
{
    struct backend *backend = NULL;
    bool complete;
    *gate = (struct gate){.hidden = HIDDEN, .layers = 4, .vocab = 64, .tap = {.layer = 2}};
    strcpy(gate->fingerprint, "0123456789abcdef");
    strcpy(gate->head, "00000000000000aa");
    if (gate_spec_parse(name, &gate->spec, error) < 0 ||
        backend_open("cpu", &(struct backend_options){.threads = threads}, &backend, error) < 0)
        return -1;
    const int result = gate_fit(samples, &half, backend, 1, gate, &complete, error);
    backend_close(backend);
    return result < 0 || !complete ? -1 : 0;
}

static void check_fit(bool product, const char *name, double least, double most)
{
    struct gate_samples samples = {0};
    struct gate gate = {0};
    struct gate_score score;
    struct error error;
    REQUIRE_OK(make_samples(product, &samples, &error));
    REQUIRE_OK(fit(name, &samples, 2, &gate, &error));
    REQUIRE_OK(gate_measure(&samples, &half, &gate, &score, &error));
    CHECK(score.auc > least && score.auc < most);
    CHECK(score.fitted == TOKENS / 2 && score.scored == TOKENS / 2);
    CHECK(fabs(score.confidence - 0.5) < 0.05);
    CHECK(gate_calibration_error(score.bins) < 0.06);
    gate_free(&gate);
    gate_samples_free(&samples);
}

TEST(gate_fits_tell_what_can_be_told)
{
    check_fit(false, "linear", 0.80, 0.95);
    check_fit(false, "mlp", 0.78, 0.95);
    check_fit(true, "linear", 0.4, 0.58);
    check_fit(true, "mlp", 0.70, 0.95);
}

static bool same_gate(const struct gate *a, const struct gate *b)
{
    const size_t width = (size_t)a->width, units = (size_t)a->units, size = sizeof(float);
    return a->width == b->width && a->units == b->units && a->slope == b->slope && a->shift == b->shift &&
           a->out_bias == b->out_bias && a->tokens == b->tokens && !memcmp(a->mean, b->mean, width * size) &&
           !memcmp(a->scale, b->scale, width * size) && !memcmp(a->in, b->in, 2 * units * width * size) &&
           !memcmp(a->in_bias, b->in_bias, 2 * units * size) &&
           !memcmp(a->out, b->out, (units > 0 ? units : width) * size) &&
           a->spec.features == b->spec.features && a->spec.linear == b->spec.linear &&
           !strcmp(a->head, b->head) && tap_compare(a->tap, b->tap) == 0 &&
           (a->tokens == 0 || !memcmp(a->token, b->token, (size_t)a->tokens * sizeof *a->token));
}

TEST(gate_fits_do_not_depend_on_threads)
{
    struct gate_samples samples = {0};
    struct gate one, three;
    struct error error;
    REQUIRE_OK(make_samples(true, &samples, &error));
    REQUIRE_OK(fit("mlp", &samples, 1, &one, &error));
    REQUIRE_OK(fit("mlp", &samples, 3, &three, &error));
    CHECK(same_gate(&one, &three));
    gate_free(&one);
    gate_free(&three);
    gate_samples_free(&samples);
}

/* ---- files ---- */

static const struct model_config model = {.layers = 4, .hidden = HIDDEN, .vocab = 64};

/* Two units, a short list of three tokens. */
static int make_gate(struct gate *gate, struct error *error)
{
    struct random random = {3};
    *gate = (struct gate){.spec = {GATE_SHORT_LIST | GATE_STATE, false},
                          .tap = {.layer = 2},
                          .layers = 4,
                          .hidden = HIDDEN,
                          .vocab = 64,
                          .units = 2,
                          .tokens = 3,
                          .out_bias = 0.25f,
                          .slope = 1.5,
                          .shift = -0.5};
    gate->width = gate_width(gate->spec.features, HIDDEN);
    strcpy(gate->fingerprint, "0123456789abcdef");
    strcpy(gate->head, "00000000000000aa");
    if (array_alloc(&gate->mean, gate->width, error) < 0 || array_alloc(&gate->scale, gate->width, error) < 0 ||
        array_alloc(&gate->in, 4 * gate->width, error) < 0 || array_alloc(&gate->in_bias, 4, error) < 0 ||
        array_alloc(&gate->out, 2, error) < 0 || array_alloc(&gate->token, 3, error) < 0)
        return -1;
    for (int64_t f = 0; f < gate->width; f++) {
        gate->mean[f] = (float)random_normal(&random);
        gate->scale[f] = (float)random_uniform(&random);
        for (int u = 0; u < 4; u++)
            gate->in[u * gate->width + f] = (float)random_normal(&random);
    }
    for (int u = 0; u < 2; u++)
        gate->out[u] = (float)(1 + u);
    for (int t = 0; t < 3; t++)
        gate->token[t] = 7 * t;
    return 0;
}

/* By the formula that the header gives, in another order. */
TEST(gate_logits)
{
    struct gate gate;
    struct error error;
    float values[64];
    REQUIRE_OK(make_gate(&gate, &error));
    double logit = gate.out_bias, product[4] = {0};
    for (int64_t f = 0; f < gate.width; f++)
        values[f] = (float)sin((double)f);
    for (int u = 0; u < 4; u++) {
        for (int64_t f = gate.width - 1; f >= 0; f--)
            product[u] += (double)gate.in[u * gate.width + f] * (values[f] - gate.mean[f]) * gate.scale[f];
    }
    for (int u = 0; u < 2; u++)
        logit += gate.out[u] * product[u] / (1 + exp(-product[u])) * product[2 + u];
    CHECK(near(gate_logit(&gate, values), logit));
    CHECK(near(gate_probability(&gate, values), 1 / (1 + exp(-(1.5 * logit - 0.5)))));
    gate_free(&gate);
}

TEST(gate_files_keep_all)
{
    struct gate gate, read;
    struct error error;
    char path[4200];
    REQUIRE_OK(make_gate(&gate, &error));
    snprintf(path, sizeof path, "%s/gate.safetensors", test_folder());
    REQUIRE_OK(gate_save(&gate, path, &error));
    REQUIRE_OK(gate_load(path, &model, "0123456789abcdef", &read, &error));
    CHECK(same_gate(&gate, &read));
    gate_free(&read);
    CHECK(gate_load(path, &model, "ffffffffffffffff", &read, &error) < 0);
    CHECK_TEXT(error.text, "trained for the model 0123456789abcdef");
    struct model_config other = model;
    other.layers = 5;
    CHECK(gate_load(path, &other, "0123456789abcdef", &read, &error) < 0);
    CHECK_TEXT(error.text, "for a model with layers 4, but this one has 5");
    gate_free(&gate);
}

/* Saves a gate that one thing is wrong with, and expects that it is not read. */
static void check_refused(void (*spoil)(struct gate *gate), const char *reason)
{
    struct gate gate, read;
    struct error error;
    char path[4200];
    REQUIRE_OK(make_gate(&gate, &error));
    const struct gate whole = gate;
    spoil(&gate);
    snprintf(path, sizeof path, "%s/spoilt.safetensors", test_folder());
    REQUIRE_OK(gate_save(&gate, path, &error));
    REQUIRE(gate_load(path, &model, "0123456789abcdef", &read, &error) < 0);
    CHECK_TEXT(error.text, reason);
    CHECK(!read.mean && !read.token);
    gate.units = whole.units;
    gate_free(&gate);
}

static void spoil_number(struct gate *gate)
{
    gate->in[5] = NAN;
}
static void spoil_slope(struct gate *gate)
{
    gate->slope = INFINITY;
}
static void spoil_token(struct gate *gate)
{
    gate->token[1] = 64;
}
static void spoil_twice(struct gate *gate)
{
    gate->token[1] = gate->token[2];
}
static void spoil_width(struct gate *gate)
{
    gate->width--;
}
static void spoil_units(struct gate *gate)
{
    gate->units = 1;
    gate->spec.linear = true;
    gate->spec.features = GATE_STATE;
}
static void spoil_list(struct gate *gate)
{
    gate->tokens = 0;
}
static void spoil_head(struct gate *gate)
{
    gate->head[3] = 'x';
}

TEST(gate_files_are_not_believed)
{
    check_refused(spoil_number, "value 5 of the tensor \"in\" is not a finite number");
    check_refused(spoil_slope, "\"calibration\" is not a finite number");
    check_refused(spoil_token, "is not in the vocabulary");
    check_refused(spoil_twice, "is there twice");
    check_refused(spoil_width, "the tensor \"mean\" does not have the type and shape");
    check_refused(spoil_units, "does not have the type and shape");
    check_refused(spoil_list, "\"tokens\" of the short list is missing");
    check_refused(spoil_head, "is not a hash");
}

/* However it is cut or changed, it is read or refused. */
TEST(gate_files_may_be_anything)
{
    struct gate gate, read;
    struct error error;
    struct random random = {9};
    char path[4200], *bytes;
    size_t size;
    REQUIRE_OK(make_gate(&gate, &error));
    snprintf(path, sizeof path, "%s/gate.safetensors", test_folder());
    REQUIRE_OK(gate_save(&gate, path, &error));
    gate_free(&gate);
    REQUIRE_OK(file_read(path, &bytes, &size, &error));
    for (int i = 0; i < 400; i++) {
        const size_t at = random_next(&random) % size, length = i % 4 == 0 ? at : size;
        const char before = bytes[at];
        bytes[at] = (char)random_next(&random);
        REQUIRE_OK(file_write(path, bytes, length, &error));
        const int result = gate_load(path, &model, "0123456789abcdef", &read, &error);
        CHECK(result == 0 || !read.mean);
        CHECK(length == size || result < 0);
        gate_free(&read);
        bytes[at] = before;
    }
    free(bytes);
}

TEST_MAIN
