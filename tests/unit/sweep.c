/* Sweep files: grids, defaults, names of trials, and what is said about a wrong one, with its line. */
#include <stdlib.h>

#include "common/base/string.h"
#include "tests/test.h"
#include "train/sweep.h"

static const struct model_config model = {
    .layers = 30, .hidden = 8, .intermediate = 16, .vocab = 32, .norm_epsilon = 1e-5f};

static int parse(const char *text, struct sweep *sweep, struct error *error)
{
    return sweep_parse("s.yaml", text, strlen(text), sweep, error);
}

/* The text is refused, and what is said contains `line` and `part`. */
static void check_refused(const char *text, const char *line, const char *part)
{
    struct sweep sweep = {0};
    struct error error = {0};
    if (parse(text, &sweep, &error) == 0 && sweep_resolve(&sweep, &model, &error) == 0)
        test_fail(__FILE__, __LINE__, "accepted: %s", text);
    CHECK_TEXT(error.text, "s.yaml: ");
    CHECK_TEXT(error.text, line);
    CHECK_TEXT(error.text, part);
    sweep_free(&sweep);
}

TEST(sweep_grid_is_multiplied_out)
{
    struct error error = {0};
    struct sweep sweep;
    REQUIRE_OK(parse("seed: 7\n"
                     "grid:\n"
                     "  tap: [6, 12]\n"
                     "  head: [affine]\n"
                     "  init: [copy, ridge]\n"
                     "  rate:\n"
                     "    - 1e-3\n"
                     "    - 0.0003\n"
                     "    - 1e-4\n"
                     "trials:\n"
                     "  - {tap: 12.mid, head: mlp, loss: cross-entropy}\n"
                     "  - tap: 30\n"
                     "    head: norm\n"
                     "    output: untied\n"
                     "    warmup: 9\n",
                     &sweep, &error));
    REQUIRE(sweep.trials == 2 * 2 * 3 + 2);
    REQUIRE_OK(sweep_resolve(&sweep, &model, &error));
    CHECK(!strcmp(sweep.trial[0].id, "6-affine-copy-distillation-0.001"));
    CHECK(!strcmp(sweep.trial[1].id, "6-affine-copy-distillation-0.0003"));
    CHECK(!strcmp(sweep.trial[3].id, "6-affine-ridge-distillation-0.001"));
    CHECK(!strcmp(sweep.trial[11].id, "12-affine-ridge-distillation-0.0001"));
    CHECK(!strcmp(sweep.trial[12].id, "12.mid-mlp-copy-cross-entropy-0.001"));
    CHECK(!strcmp(sweep.trial[13].id, "final-norm-untied-copy-distillation-0.001-warmup9"));
    CHECK(sweep.trial[12].spec.tap.layer == 12 && sweep.trial[12].spec.tap.mid);
    CHECK(sweep.trial[3].init == INIT_RIDGE && sweep.trial[3].rate == 1e-3);
    CHECK(sweep.seed == 7 && sweep.passes == 1 && sweep.steps == -1 && sweep.sequences == 4);
    CHECK(sweep.evaluate == 0 && sweep.checkpoint == 50);
    sweep_free(&sweep);
}

TEST(sweep_steps_from_passes)
{
    struct sweep sweep = {.passes = 2, .steps = -1, .sequences = 4};
    CHECK(sweep_steps(&sweep, 64) == 32);
    CHECK(sweep_steps(&sweep, 63) == 31);
    CHECK(sweep_steps(&sweep, 1) == 1);
    sweep.steps = 0;
    CHECK(sweep_steps(&sweep, 64) == 0);
    sweep.steps = 5;
    CHECK(sweep_steps(&sweep, 64) == 5);
}

TEST(sweep_rate_warms_up_and_ends_at_a_tenth)
{
    struct trial_config config = {.rate = 2, .warmup = 4};
    CHECK(trial_rate(&config, 1, 20) == 0.5);
    CHECK(trial_rate(&config, 4, 20) == 2);
    double middle = trial_rate(&config, 12, 20), last = trial_rate(&config, 20, 20);
    CHECK(middle > 1.0999 && middle < 1.1001);
    CHECK(last > 0.1999 && last < 0.2001);
    config.warmup = 0;
    CHECK(trial_rate(&config, 1, 1) > 0.1999 && trial_rate(&config, 1, 1) < 0.2001);
}

TEST(sweep_config_as_json)
{
    struct error error = {0};
    struct sweep sweep;
    REQUIRE_OK(parse("trials: [{tap: 6, head: affine, beta1: 0.8}]", &sweep, &error));
    REQUIRE_OK(sweep_resolve(&sweep, &model, &error));
    json_t *object = trial_config_to_json(&sweep.trial[0], &error);
    REQUIRE(object);
    CHECK(!strcmp(json_string_value(json_object_get(object, "tap")), "6"));
    CHECK(!strcmp(json_string_value(json_object_get(object, "output")), "tied"));
    CHECK(json_number_value(json_object_get(object, "beta1")) == 0.8);
    CHECK(json_number_value(json_object_get(object, "share")) == 0.5);
    CHECK(json_number_value(json_object_get(object, "temperature")) == 1);
    CHECK(!strcmp(json_string_value(json_object_get(object, "weighting")), "none"));
    CHECK(trial_config_is_default("share", json_object_get(object, "share")));
    CHECK(trial_config_is_default("weighting", json_object_get(object, "weighting")));
    CHECK(!trial_config_is_default("beta1", json_object_get(object, "beta1")));
    CHECK(!trial_config_is_default("tap", json_object_get(object, "tap")));
    json_decref(object);
    sweep_free(&sweep);
}

/* What each of four trials trains on, and that it is in its name only where it is not what auto comes to. */
TEST(sweep_vocabulary_is_chosen_by_store_and_output)
{
    static const char text[] = "trials:\n"
                               "  - {tap: 6, head: affine, init: ridge}\n"
                               "  - {tap: 6, head: norm, output: untied}\n"
                               "  - {tap: 12, head: affine, init: ridge, vocabulary: all}\n"
                               "  - {tap: 12, head: norm}\n";
    for (int best = 0; best < 2; best++) {
        struct error error = {0};
        struct sweep sweep;
        REQUIRE_OK(parse(text, &sweep, &error));
        CHECK(sweep.trial[0].vocabulary == VOCABULARY_AUTO);
        REQUIRE_OK(sweep_choose_vocabulary(&sweep, best, &error));
        REQUIRE_OK(sweep_resolve(&sweep, &model, &error));
        CHECK(sweep.trial[0].vocabulary == (best ? VOCABULARY_SUBSET : VOCABULARY_ALL));
        CHECK(sweep.trial[1].vocabulary == VOCABULARY_ALL && sweep.trial[2].vocabulary == VOCABULARY_ALL);
        CHECK(sweep.trial[3].vocabulary == VOCABULARY_ALL);
        CHECK(!strcmp(sweep.trial[0].id, "6-affine-ridge-distillation-0.001"));
        CHECK(!strcmp(sweep.trial[1].id, "6-norm-untied-copy-distillation-0.001"));
        CHECK(!strcmp(sweep.trial[2].id,
                      best ? "12-affine-ridge-distillation-0.001-all" : "12-affine-ridge-distillation-0.001"));
        CHECK(!strcmp(sweep.trial[3].id, "12-norm-copy-distillation-0.001"));
        json_t *object = trial_config_to_json(&sweep.trial[0], &error);
        REQUIRE(object);
        CHECK(!strcmp(json_string_value(json_object_get(object, "vocabulary")), best ? "subset" : "all"));
        json_decref(object);
        sweep_free(&sweep);
    }
}

static void check_no_subset(const char *text, bool best, const char *line, const char *part)
{
    struct error error = {0};
    struct sweep sweep;
    REQUIRE_OK(parse(text, &sweep, &error));
    CHECK(sweep_choose_vocabulary(&sweep, best, &error) < 0);
    CHECK_TEXT(error.text, line);
    CHECK_TEXT(error.text, part);
    sweep_free(&sweep);
}

TEST(sweep_subset_that_cannot_be_is_refused)
{
    check_no_subset("trials:\n  - tap: 6\n    head: norm\n    vocabulary: subset\n", false,
                    "s.yaml: line 4: vocabulary", "extract it anew");
    check_no_subset("trials:\n  - tap: 6\n    head: norm\n    vocabulary: subset\n    output: untied\n", true,
                    "s.yaml: line 4: vocabulary", "untied");
    check_refused("trials:\n  - tap: 6\n    head: norm\n    vocabulary: half\n", "line 4: vocabulary",
                  "\"half\" is none of: auto subset all");
}

TEST(sweep_wrong_keys_have_their_line)
{
    check_refused("seed: 1\nsede: 2\ntrials: [{tap: 6, head: norm}]\n", "line 2",
                  "unknown key \"sede\"; did you mean \"seed\"?");
    check_refused("# sede: no\nseed: 1\n\n\nsede: 2\n", "line 5", "known here: seed, passes");
    check_refused("trials:\n  - {tap: 6, head: norm}\n  - tap: 6\n    head: norm\n    rat: 1\n", "line 5",
                  "unknown key \"rat\" in trials; did you mean \"rate\"? (known here: tap, head");
    check_refused("grid:\n  tap: [6]\n  haed: [norm]\n", "line 3", "unknown key \"haed\" in grid");
    check_refused("grid:\n  tap: [6]\n  sequences: 3\n", "line 3", "\"sequences\" is a setting of the run");
    check_refused("trials:\n  - {head: norm, rate: 1}\n", "line 2",
                  "\"tap\" is missing; give it here or in `defaults`");
    check_refused("grid:\n  tap: [6]\n", "line 2", "\"head\" is missing; give");
    check_refused("seed: 1\npasses: 2\nseed: 1\n", "line 3", "\"seed\" is given twice");
    check_refused("trials:\n  - {tap: 6, head: norm, tap: 7}\n  - {tap: 8, head: norm}\n", "line 2",
                  "\"tap\" is given twice");
    check_refused("trials:\n  - tap: 6\n    head: norm\n\n    tap: 7\n  - {tap: 8, head: norm}\n", "line 5",
                  "\"tap\" is given twice");
    check_refused("grid:\n  tap: [6]\n  head: [norm]\n  # again\n  head: [mlp]\n", "line 5",
                  "\"head\" is given twice");
    check_refused("trials:\n  - &a {tap: 6, head: norm}\n  - <<: *a\n    rate: 1\n", "line 3", "merge keys");
    check_refused("seed: 1\n? [a]\n: 1\n", "line 2", "a key is not a single word");
}

TEST(sweep_weights_of_exits_are_refused_with_a_reason)
{
    static const char *const keys[] = {"weight",      "layer_weight",  "exit_weight",
                                       "loss_weight", "layer-weights", "exit_layer_weight"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char text[128];
        snprintf(text, sizeof text, "trials:\n  - tap: 6\n    head: norm\n    %s: 0.5\n", keys[i]);
        check_refused(text, "line 4", "exits have no weights here. They share no parameter");
        snprintf(text, sizeof text, "seed: 1\n%s: [0.5, 1]\n", keys[i]);
        check_refused(text, "line 2", "leave the key out");
    }
    check_refused("trials:\n  - {tap: 6, head: norm, weight_decay: 0.1}\n", "line 2", "unknown key");
}

TEST(sweep_wrong_structure_has_its_line)
{
    check_refused("seed: 1\ngrid:\n  tap: {uniform: [1, 2]}\n  head: [norm]\n", "line 3",
                  "a list expected, not keys and values; distributions belong in `random`");
    check_refused("seed: [1, 2]\n", "line 1", "a single value expected, not a list");
    check_refused("trials:\n  tap: 6\n", "line 2", "a list expected, not keys and values");
    check_refused("trials:\n  - 6\n", "line 2", "keys and values expected, not a single value");
    check_refused("seed: 1\ngrid: {tap: [}\n", "line 2", "not YAML");
    check_refused("grid:\n  tap: []\n  head: [norm]\n", "line 2", "the list is empty");
    check_refused("seed: *a\n", "line 1", "undefined alias");
    check_refused("trials:\n\t- {tap: 6, head: norm}\n", "line 2", "is indented with a tab");
    check_refused("trials:\n  - tap: 6\n  \t  head: norm\n", "line 3", "is indented with a tab");
    check_refused("seed: 1\n---\ntrials:\n  - {tap: 6, head: norm}\n", "line 2", "a second document");
    check_refused("---\ntrials:\n  - {tap: 6, head: norm}\n--- # more\nseed: 1\n", "line 4",
                  "a second document");
    check_refused("trials:\n  - {tap: 6, head: norm}\n...\nseed: 1\n", "line 4", "a second document");
    check_refused("seed: 1\n", "", "holds no trials");
    check_refused("", "", "");
}

TEST(sweep_wrong_values_have_their_line)
{
    check_refused("seed: -1\ntrials: [{tap: 6, head: norm}]\n", "line 1: seed", "not in 0");
    check_refused("trials: [{tap: 6, head: norm}]\npasses: 0\n", "line 2: passes", "not in 1");
    check_refused("steps: 1.5\ntrials: [{tap: 6, head: norm}]\n", "line 1: steps", "not a whole number");
    check_refused("sequences: 0\ntrials: [{tap: 6, head: norm}]\n", "line 1: sequences", "not in 1");
    check_refused("evaluate: x\ntrials: [{tap: 6, head: norm}]\n", "line 1: evaluate", "not a whole number");
    check_refused("checkpoint: 0\ntrials: [{tap: 6, head: norm}]\n", "line 1: checkpoint", "not in 1");
    check_refused("halving: 1\ntrials: [{tap: 6, head: norm}]\n", "line 1: halving", "would stop no trial");
    check_refused("halving: -2\ntrials: [{tap: 6, head: norm}]\n", "line 1: halving", "not in 0");
    check_refused("patience: -1\ntrials: [{tap: 6, head: norm}]\n", "line 1: patience", "not in 0");
    check_refused("steps: 3\npasses: 2\ntrials: [{tap: 6, head: norm}]\n", "line 1", "give one");
    check_refused("trials:\n  - {tap: 6x, head: norm}\n", "line 2: tap", "\"6x\" is not a tap");
    check_refused("trials:\n  - {tap: 6, head: norm}\n  - {tap: 31, head: norm}\n", "line 3: tap", "31");
    check_refused("trials:\n  - tap: 6\n    head: nrom\n", "line 3: head", "there are: embedding, norm");
    check_refused("trials:\n  - {tap: 6, head: mlp}\n", "line 2: tap", "mlp");
    check_refused("trials:\n  - tap: 6\n    head: norm\n    init: ridge\n", "line 4: init", "no ridge");
    check_refused("trials:\n  - tap: 6\n    head: norm\n    output: shared\n", "line 4: output", "\"shared\"");
    check_refused("trials:\n  - tap: 6\n    head: norm\n    loss: kl\n", "line 4: loss",
                  "\"kl\" is none of: cross-entropy distillation mix");
    check_refused("trials:\n  - tap: 6\n    head: norm\n    init: zero\n", "line 4: init", "\"zero\"");
    check_refused("trials:\n  - tap: 6\n    head: norm\n    share: 0.3\n", "line 4: share",
                  "this trial's loss is distillation");
    check_refused("trials:\n  - {tap: 6, head: norm, loss: mix, share: 1.5}\n", "line 2: share",
                  "not in 0 .. 1");
    check_refused("trials:\n  - tap: 6\n    head: norm\n    loss: cross-entropy\n    temperature: 2\n",
                  "line 5: temperature", "this trial's loss is cross-entropy alone");
    check_refused("trials:\n  - {tap: 6, head: norm, temperature: 0}\n", "line 2: temperature",
                  "not in 0.05 .. 100");
    check_refused("trials:\n  - tap: 6\n    head: norm\n    unroll: 2\n", "line 4: unroll",
                  "this trial's head is norm");
    check_refused("trials:\n  - tap: 6\n    head: draft\n    draft_vocab: 60000000\n", "line 4: draft_vocab",
                  "60000000 tokens");
    check_refused("trials:\n  - tap: 6\n    head: norm\n    weighting: top\n", "line 4: weighting",
                  "\"top\" is none of: none confidence");
    check_refused("grid:\n  tap: [6]\n  head: [norm]\n  rate: [1e-3,\n    'fast']\n", "line 5: rate",
                  "not a number");
    check_refused("grid:\n  tap: [6]\n  head: [norm]\n  rate: [nan]\n", "line 4: rate", "not in 0 .. 10");
    for (int k = KEY_RATE + 1; k <= KEY_EPSILON; k++) { /* the numbers behind rate */
        char text[128], line[64];
        snprintf(text, sizeof text, "trials:\n  - tap: 6\n    head: norm\n    %s: -2\n", trial_keys[k].name);
        snprintf(line, sizeof line, "line 4: %s", trial_keys[k].name);
        check_refused(text, line, "\"-2\" is not in");
    }
    check_refused("grid: {tap: [6, 6], head: [norm]}\n", "line 1",
                  "trial 6-norm-copy-distillation-0.001 is made twice here");
}

static void check_accepted(const char *text, int trials)
{
    struct error error = {0};
    struct sweep sweep;
    if (sweep_parse("x.yaml", text, strlen(text), &sweep, &error) < 0 ||
        sweep_resolve(&sweep, &model, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    else
        CHECK(sweep.trials == trials);
    sweep_free(&sweep);
}

/* ---- defaults, several grids, random trials ---- */

static void open_resolved(const char *text, struct sweep *sweep)
{
    struct error error = {0};
    REQUIRE_OK(parse(text, sweep, &error));
    REQUIRE_OK(sweep_resolve(sweep, &model, &error));
}

static void check_ids(const struct sweep *sweep, const char *const *ids, int count)
{
    REQUIRE(sweep->trials == count);
    for (int i = 0; i < count; i++)
        CHECK_TEXT(sweep->trial[i].id, ids[i]);
}

TEST(sweep_defaults_and_what_overrides_them)
{
    static const char *const ids[] = {
        "6-norm-copy-cross-entropy-0.01-warmup9", "8-affine-ridge-cross-entropy-0.01-warmup9",
        "8-affine-ridge-cross-entropy-0.02-warmup9", "7-norm-copy-distillation-0.01-warmup0"};
    struct sweep sweep;
    open_resolved("defaults: {head: norm, loss: cross-entropy, rate: 1e-2, warmup: 9}\n"
                  "trials:\n"
                  "  - {tap: 7, loss: distillation, warmup: 0}\n"
                  "grid:\n"
                  "  - tap: 6\n"
                  "  - {tap: [8], head: affine, init: ridge, rate: [1e-2, 2e-2]}\n",
                  &sweep);
    check_ids(&sweep, ids, 4);
    sweep_free(&sweep);
}

TEST(sweep_names_of_losses)
{
    static const char *const ids[] = {
        "6-norm-copy-mix-0.001", "6-norm-copy-mix-0.001-confidence-share0.25-temperature2",
        "6-norm-copy-distillation-0.001-temperature2", "6-norm-copy-cross-entropy-0.001-confidence"};
    struct sweep sweep;
    open_resolved("defaults: {tap: 6, head: norm, share: 0.5}\n"
                  "trials:\n"
                  "  - {loss: mix}\n"
                  "  - {loss: mix, share: 0.25, temperature: 2, weighting: confidence}\n"
                  "  - {temperature: 2}\n"
                  "  - {loss: cross-entropy, weighting: confidence}\n",
                  &sweep);
    check_ids(&sweep, ids, 4);
    CHECK(!trial_config_takes_final(&sweep.trial[0]) && trial_config_takes_final(&sweep.trial[1]) &&
          trial_config_takes_final(&sweep.trial[2]) && !trial_config_takes_final(&sweep.trial[3]));
    sweep_free(&sweep);
}

static const char random_text[] = "seed: 3\n"
                                  "random:\n"
                                  "  count: %d\n"
                                  "  tap: [6, 12, 18]\n"
                                  "  head: affine\n"
                                  "  rate: {log_uniform: [1e-4, 1e-2]}\n"
                                  "  decay: {uniform: [0, 0.1]}\n"
                                  "  warmup: {integer: [0, 20]}\n"
                                  "%s";

static void open_random(int count, const char *more, struct sweep *sweep)
{
    char text[1024];
    snprintf(text, sizeof text, random_text, count, more);
    open_resolved(text, sweep);
}

/* These are the same on every machine. */
TEST(sweep_random_trials_by_their_names)
{
    static const char *const ids[] = {"6-affine-copy-distillation-0.002597-warmup14-decay0.01947",
                                      "12-affine-copy-distillation-0.0001149-warmup18-decay0.04956",
                                      "18-affine-copy-distillation-0.001107-warmup16-decay0.02377"};
    struct sweep sweep;
    open_random(3, "", &sweep);
    check_ids(&sweep, ids, 3);
    sweep_free(&sweep);
}

TEST(sweep_random_trials_stay_when_others_change)
{
    struct sweep few, many, beside;
    open_random(4, "", &few);
    open_random(9, "", &many);
    open_random(4, "  beta1: [0.9, 0.8]\ntrials: [{tap: 1, head: norm}]\npasses: 2\n", &beside);
    REQUIRE(few.trials == 4 && many.trials == 9 && beside.trials == 5);
    for (int i = 0; i < 4; i++) {
        CHECK(!strcmp(few.trial[i].id, many.trial[i].id));
        CHECK(few.trial[i].rate == beside.trial[1 + i].rate &&
              !strcmp(few.trial[i].tap, beside.trial[1 + i].tap));
    }
    sweep_free(&few);
    sweep_free(&many);
    sweep_free(&beside);
    open_random(4, "  seed: 8\n", &beside);
    open_random(4, "", &few);
    CHECK(few.trial[0].rate != beside.trial[0].rate && beside.seed == 3);
    sweep_free(&few);
    sweep_free(&beside);
}

/* Over all of a distribution, and not beyond its bounds. */
TEST(sweep_random_trials_are_spread)
{
    struct sweep sweep;
    int low = 0, least_warmup = 20, most_warmup = 0, taps[3] = {0};
    open_random(2000, "", &sweep);
    for (int i = 0; i < sweep.trials; i++) {
        const struct trial_config *config = &sweep.trial[i];
        char text[32];
        snprintf(text, sizeof text, "%.4g", config->rate);
        CHECK(config->rate >= 1e-4 && config->rate <= 1e-2 && strtod(text, NULL) == config->rate);
        CHECK(config->decay >= 0 && config->decay <= 0.1);
        CHECK(config->warmup >= 0 && config->warmup <= 20);
        low += config->rate < 1e-3;
        least_warmup = config->warmup < least_warmup ? (int)config->warmup : least_warmup;
        most_warmup = config->warmup > most_warmup ? (int)config->warmup : most_warmup;
        taps[config->spec.tap.layer / 6 - 1]++;
    }
    CHECK(low > 900 && low < 1100 && least_warmup == 0 && most_warmup == 20);
    CHECK(taps[0] > 580 && taps[1] > 580 && taps[2] > 580);
    sweep_free(&sweep);
}

/* Bounds of more digits than a draw has are not left by rounding. */
TEST(sweep_random_trials_stay_between_their_bounds)
{
    struct sweep sweep;
    open_resolved("random: {count: 2, tap: 1, head: norm, rate: {uniform: [0.123447, 0.123452]}}\n", &sweep);
    for (int i = 0; i < sweep.trials; i++)
        CHECK(sweep.trial[i].rate >= 0.123447 && sweep.trial[i].rate <= 0.123452);
    sweep_free(&sweep);
}

TEST(sweep_random_trials_differ)
{
    struct sweep sweep;
    open_resolved("trials: [{tap: 2, head: norm}]\n"
                  "random: {count: 11, tap: [1, 2, 3, 4], head: norm, warmup: [5, 6, 7]}\n",
                  &sweep);
    CHECK(sweep.trials == 12);
    sweep_free(&sweep);
    open_resolved("random: {count: 3, tap: 1, head: norm, vocabulary: [all, subset, auto]}\n", &sweep);
    CHECK(sweep.trials == 3);
    sweep_free(&sweep);
    check_refused("trials: [{tap: 2, head: norm}]\n"
                  "random:\n"
                  "  tap: [1, 2, 3, 4]\n"
                  "  head: norm\n"
                  "  count: 4\n",
                  "line 5: count", "only 3 trials were found that are not there already");
}

TEST(sweep_wrong_distributions_have_their_line)
{
    static const struct {
        const char *key, *part;
    } wrong[] = {
        {"rate: {log_uniform: [0, 1]}", "line 4: rate: log_uniform: the lower bound 0 is not above 0"},
        {"rate: {uniform: [1, 0.5]}",
         "line 4: rate: uniform: the lower bound 1 is not below the upper bound 0.5"},
        {"rate: {uniform: [1, 1]}", "line 4: rate: uniform: the lower bound 1 is not below the upper bound 1"},
        {"rate: {uniform: [0, nan]}", "line 4: rate: \"nan\" is not in 0 .. 10"},
        {"rate: {uniform: [0, inf]}", "line 4: rate: \"inf\" is not in 0 .. 10"},
        {"rate: {uniform: [0, 1e999]}", "line 4: rate: \"1e999\" is not in 0 .. 10"},
        {"rate: {uniform: [a, 1]}", "line 4: rate: \"a\" is not a number"},
        {"rate: {integer: [0, 0.5]}", "line 4: rate: \"0.5\" is not a whole number"},
        {"rate: {uniform: 1}", "line 4: uniform: two values expected"},
        {"rate: {uniform: [1]}", "line 4: uniform: two values expected"},
        {"rate: {uniform: [1, 2, 3]}", "line 4: uniform: two values expected"},
        {"rate: {uniform: [[1], 2]}", "line 4: a single value expected, not a list"},
        {"rate: {}", "line 4: one distribution expected"},
        {"rate: {uniform: [1, 2], integer: [1, 2]}", "line 4: one distribution expected"},
        {"rate: {loguniform: [1, 2]}",
         "line 4: unknown distribution \"loguniform\"; did you mean \"log_uniform\"?"},
        {"rate: {normal: [1, 2]}",
         "unknown distribution \"normal\" (known here: uniform, log_uniform, integer)"},
        {"rate: []", "line 4: the list is empty"},
        {"rate: [1, 2, 11]", "line 4: rate: \"11\" is not in 0 .. 10"},
        {"warmup: {uniform: [0, 5]}", "line 4: warmup: is a whole number; give {integer: [lower, upper]}"},
        {"epsilon: {integer: [0, 1]}", "line 4: epsilon: \"0\" is not in 1e-20 .. 1"},
        {"loss: {uniform: [0, 5]}", "line 4: loss: has no numbers to draw from; give a list"},
        {"loss: [distillation, kl]", "line 4: loss: \"kl\" is none of: cross-entropy distillation mix"},
        {"init: [ridge]", "line 4: init"},
        {"count: 2", "line 4: \"count\" is given twice"},
        {"seed: -1", "line 4: seed: \"-1\" is not in 0"},
        {"passes: 1", "line 4: \"passes\" is a setting of the run"},
        {"counts: 1", "line 4: unknown key \"counts\" in random; did you mean \"count\"?"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "random:\n- {tap: 1, head: norm, count: 1}\n- count: 1\n  %s\n  head: norm\n  tap: 2\n",
                 wrong[i].key);
        check_refused(text, "line 4", wrong[i].part);
    }
    check_refused("random: {tap: 1, head: norm}\n", "line 1", "random: \"count\" is missing");
    check_refused("random: {count: 0, tap: 1, head: norm}\n", "line 1: count", "not in 1 .. 10000");
    check_refused(
        "random: {count: 10000, tap: 1, head: norm, rate: {uniform: [0, 1]}}\ntrials: [{tap: 1, head: norm}]\n",
        "line 1", "more than 10000 trials");
}

/* A text that is there several times: the line is that of the one that is wrong. */
TEST(sweep_lines_are_those_of_the_right_place)
{
    check_refused("trials:\n  - {tap: 3, head: affine}\n  - {tap: 3, head: mlp}\n", "line 3: tap", "mlp");
    check_refused("grid:\n  - {tap: 3, head: affine}\n  -\n    head: mlp\n    tap:\n      - 3.mid\n      - 3\n",
                  "line 7: tap", "mlp");
    check_refused("defaults:\n  head: norm\n  rate: 11\n\ntrials: [{tap: 3, rate: 1}]\n", "line 3: rate",
                  "\"11\"");
    check_refused("defaults: {head: norm}\ntrials:\n- tap: 3\n- tap: 4\n\n-\n  tap: 3\n", "line 7",
                  "given twice, here and in line 3");
    check_refused("trials:\n- tap: 3\n  head: norm\n  # tap: x\n- head: norm\n  tap: *x\n", "line 6", "alias");
    check_refused("trials:\n- head: norm\n  tap:\n", "line 3: tap", "\"\" is not a tap");
    check_refused("rate: 1\ntrials: [{tap: 3, head: norm}]\n", "line 1", "\"rate\" is a key of trials");
    check_refused("trials:\n- {tap: 3, head: norm,\n   steps: 4}\n", "line 3",
                  "\"steps\" is a setting of the run, not of a trial, because all trials take the same steps");
    check_refused("defaults: [{tap: 3}]\ntrials: [{tap: 3, head: norm}]\n", "line 1",
                  "keys and values expected");
    check_refused("defaults: {tap: [3]}\ntrials: [{tap: 3, head: norm}]\n", "line 1", "lists belong in `grid`");
    check_refused("defaults: {tap: 3, head: norm}\n", "", "holds no trials");
    check_refused("trials: [{tap: 3, head: \"no\\x1brm\"}]\n", "line 1", "control character");
    check_refused("trials: [{tap: 3, head: \"no\\0rm\"}]\n", "line 1", "control character");
    check_refused("trials:\n- {learning_rate: 1}\n", "line 2", "did you mean \"rate\"?");
    check_refused("trials:\n- {xyz: 1}\n", "line 2", "\"xyz\" in trials (known");
}

/* What other writers of YAML make. */
TEST(sweep_forms_of_yaml)
{
    check_accepted("\xef\xbb\xbftrials:\n  - {tap: 6, head: norm}\n", 1);
    check_accepted("trials:\r\n  - {tap: 6, head: norm}\r\n", 1);
    check_accepted("%YAML 1.1\n# a sweep\n---\ntrials:\n  - {tap: 6, head: norm}\n...\n", 1);
    check_accepted("---\ntrials:\n  - {tap: 6, head: norm}\n---\n", 1);
    check_accepted("grid:\n  tap: &taps [6, 7]\n  head: [norm]\n  rate: [&r 1e-3]\n", 2);
    check_accepted("trials:\n  - {tap: &t 6, head: norm}\n  - {tap: *t, head: affine}\n", 2);
    check_accepted("steps:\nseed:\ntrials:\n  - {tap: '6', \"head\": !!str norm}\n", 1);
}

TEST(sweep_lines_in_forms_of_yaml)
{
    check_refused("\xef\xbb\xbfsede: 1\n", "line 1", "unknown key \"sede\"");
    check_refused("seed: 1\r\n\r\nsede: 2\r\n", "line 3", "unknown key \"sede\"");
    check_refused("seed: 1\rpasses: 1\rsede: 2\r", "line 3", "unknown key \"sede\"");
    check_refused("trials:\n- {tap: 6,\n   'head':\n     \"no\n     rm\"}\n", "line 4: head", "\"no rm\"");
    check_refused("# caf\xe9\nseed: 1\n", "byte", "not YAML");
    check_refused("seed: 1 # \x01\n", "byte", "not YAML");
    check_refused("seed: 1\n\"sede\": 2\n", "line 2", "unknown key \"sede\"");
    check_refused("&a seed: 1\n*a : 2\n", "line", "\"seed\" is given twice");
    check_refused("[1, 2]\n", "line 1", "keys and values expected, not a list");
    check_refused("just a text\n", "line 1", "keys and values expected, not a single value");
}

TEST(sweep_fits_the_training_split)
{
    static const char given[] = "seed: 1\nsequences: 9\ntrials: [{tap: 6, head: norm}]\n";
    static const char empty[] = "sequences:\ntrials: [{tap: 6, head: norm}]\n";
    static const char standard[] = "trials: [{tap: 6, head: norm}]\n";
    struct error error = {0};
    struct sweep sweep;
    REQUIRE_OK(sweep_parse("x.yaml", given, sizeof given - 1, &sweep, &error));
    REQUIRE_OK(sweep_fit(&sweep, 9, &error));
    CHECK(sweep_fit(&sweep, 8, &error) == -1);
    CHECK_TEXT(error.text, "x.yaml: line 2: sequences: 9 per step are more than the 8");
    sweep_free(&sweep);
    REQUIRE_OK(sweep_parse("x.yaml", empty, sizeof empty - 1, &sweep, &error));
    REQUIRE_OK(sweep_fit(&sweep, 3, &error));
    CHECK(sweep.sequences == 3);
    sweep_free(&sweep);
    REQUIRE_OK(sweep_parse("x.yaml", standard, sizeof standard - 1, &sweep, &error));
    REQUIRE_OK(sweep_fit(&sweep, 3, &error));
    CHECK(sweep.sequences == 3);
    sweep_free(&sweep);
}

/* Every trial is in one part, in the order of the sweep. */
TEST(sweep_parts_share_out_the_trials)
{
    static const char text[] = "grid: {tap: [6], head: [norm], rate: [1, 2, 3, 4, 5, 6, 7]}\n";
    static const int sizes[3] = {3, 2, 2};
    struct error error = {0};
    struct sweep sweep;
    for (int i = 0; i < 3; i++) {
        REQUIRE_OK(sweep_parse("x.yaml", text, sizeof text - 1, &sweep, &error));
        sweep_take_part(&sweep, (struct sweep_part){i, 3});
        CHECK(sweep.trials == sizes[i]);
        for (int t = 0; t < sweep.trials; t++)
            CHECK(sweep.trial[t].rate == 1 + i + 3 * t);
        sweep_take_part(&sweep, (struct sweep_part){0, 0});
        CHECK(sweep.trials == sizes[i]);
        sweep_free(&sweep);
    }
}

/* Texts of which a parser could make much more than they are. */
TEST(sweep_large_and_deep_texts_are_refused)
{
    struct string text = {0};
    for (int i = 0; i < 2000; i++)
        string_append(&text, "[", 1);
    check_refused(text.data, "line 1", "more than 100 brackets are open");
    string_free(&text);
    string_print(&text, "grid: &a [*a]\n");
    check_refused(text.data, "line 1", "keys and values expected, not a list");
    string_free(&text);
    string_print(&text, "a: &a0 [x, x]\n");
    for (int i = 1; i < 60; i++)
        string_print(&text, "b%d: &a%d [*a%d, *a%d]\n", i, i, i - 1, i - 1);
    check_refused(text.data, "line 1", "unknown key \"a\"");
    string_free(&text);
    string_print(&text, "x: [");
    for (int i = 0; i < 1001; i++)
        string_print(&text, "&a%d 1,", i);
    check_refused(text.data, "line 1", "more than 1000 anchors");
    string_free(&text);
    string_print(&text, "grid: [");
    for (int i = 0; i < 1001; i++)
        string_print(&text, "{tap: 1, head: norm},");
    string_print(&text, "]");
    check_refused(text.data, "line 1", "more than 1000 items");
    string_free(&text);
    string_print(&text, "seed: %0300d\n", 1);
    check_refused(text.data, "line 1", "is too long");
    string_free(&text);
    while (text.length < 10000000)
        string_print(&text, "# nothing but a remark, again and again and again and again\n");
    check_refused(text.data, "", "is longer than the 4 MiB");
    string_free(&text);
}

TEST(sweep_grid_is_bounded)
{
    char text[8192] = "grid:\n  head: [norm]\n  tap: [6";
    for (int i = 0; i < 200; i++)
        strcat(text, ",6");
    strcat(text, "]\n  rate: [1");
    for (int i = 0; i < 200; i++)
        strcat(text, ",1");
    strcat(text, "]\n");
    check_refused(text, "line 2", "more than 10000 trials");
}

/* Enough sequences for 2,048 tokens, at least four, at most the split. */
TEST(sweep_sample_by_tokens)
{
    struct sweep sweep = {.sample = -1};
    CHECK(sweep_sample(&sweep, 100, 512) == 4 && sweep_sample(&sweep, 100, 2048) == 4);
    CHECK(sweep_sample(&sweep, 100, 64) == 32 && sweep_sample(&sweep, 100, 500) == 5);
    CHECK(sweep_sample(&sweep, 3, 512) == 3);
    sweep.sample = 7;
    CHECK(sweep_sample(&sweep, 100, 64) == 7 && sweep_sample(&sweep, 5, 64) == 5);
    sweep.sample = 0;
    CHECK(sweep_sample(&sweep, 100, 64) == 100);
}

TEST_MAIN
