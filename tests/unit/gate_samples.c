/* What gates are fitted to: the short list, and the features of held-out tokens, against a plain computation. */
#include "train/gate_samples.h"

#include <math.h>
#include <stdlib.h>

#include "tests/trial_bench.h"

enum { HELD_OUT = 6 };

static struct evaluation_setting setting_of(struct bench *bench)
{
    return (struct evaluation_setting){.stores = &bench->stores,
                                       .batch = bench->batch,
                                       .workspace = bench->workspace,
                                       .sequences = SEQUENCES,
                                       .threads = 2,
                                       .seed = 1};
}

/* The fixture's vocabulary of 61 has a short list of 8. */
TEST(short_list_has_the_most_frequent)
{
    struct bench bench;
    struct error error = {0};
    struct short_list_tokens tokens;
    struct feed *feed = NULL;
    const struct feed_batch *next;
    struct feed_plan plan = {.split = SPLIT_TRAIN, .values = true, .sequences = 1, .end = 40};
    int64_t times[61] = {0}, of_list = 0, all = 0;
    bool complete, listed[61] = {false};
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(short_list_count(&bench.stores, 1, 2, &tokens, &complete, &error));
    REQUIRE_OK(feed_open(&bench.stores, &plan, 1, &feed, &error));
    while (feed_next(feed, &next, &error) == 0 && next) {
        for (int64_t r = 0; r < next->rows; r++)
            times[next->values[r].top]++;
    }
    feed_close(feed);
    REQUIRE(complete && tokens.count == 8 && tokens.vocab == 61);
    for (int i = 0; i < 8; i++) {
        const int32_t token = tokens.token[i];
        listed[token] = true;
        of_list += times[token];
        CHECK(tokens.rank[token] == i);
        CHECK(i == 0 || times[token] < times[tokens.token[i - 1]] ||
              (times[token] == times[tokens.token[i - 1]] && token > tokens.token[i - 1]));
    }
    for (int v = 0; v < 61; v++) {
        all += times[v];
        CHECK(listed[v] || (tokens.rank[v] == 8 && times[v] <= times[tokens.token[7]]));
    }
    CHECK(fabs(tokens.covered - (double)of_list / (double)all) < 1e-12);
    short_list_tokens_free(&tokens);
    bench_close(&bench);
}

/* A made head, in `values` what its output weight has. */
static int make_trial(struct bench *bench, enum head_output output, struct trial **trial, float **values,
                      struct error *error)
{
    const struct trial_config config = make_config(1, output, LOSS_CROSS_ENTROPY);
    struct random random = {8};
    if (bench_trial(bench, &config, INIT_COPY, trial, error) < 0 ||
        !(*values = train_fixture_output(&small_fixture, error)))
        return -1;
    for (int v = 0; v < small_fixture.vocab * small_fixture.hidden && output == OUTPUT_UNTIED; v++)
        (*values)[v] = (float)random_normal(&random);
    if (output == OUTPUT_UNTIED)
        op_write((*trial)->queue,
                 head_parameter((*trial)->head, head_parameter_count((*trial)->head) - 1)->value, *values);
    return queue_wait((*trial)->queue, error);
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 2e-4 * (1 + fabs(b));
}

/* Features of a row from what the head makes of it, one logit after another. */
static void check_row(const struct gate_samples *samples, const struct short_list_tokens *tokens,
                      const struct gate_candidates *candidates, const float *h, const float *output,
                      int64_t token, int32_t full)
{
    const int hidden = small_fixture.hidden, vocab = small_fixture.vocab;
    const float *values = samples->values + token * samples->width;
    double z[64], sum = 0, list_sum = 0, list_top = -INFINITY;
    int best = 0, first = 0;
    for (int v = 0; v < vocab; v++) {
        z[v] = 0;
        for (int c = 0; c < hidden; c++)
            z[v] += (double)h[c] * output[v * hidden + c];
        sum += exp(z[v]);
        best = z[v] > z[best] ? v : best;
    }
    for (int i = 0; i < tokens->count; i++) {
        list_sum += exp(z[tokens->token[i]]);
        if (z[tokens->token[i]] > list_top)
            list_top = z[tokens->token[first = i]];
    }
    CHECK(samples->agrees[token] == (best == full));
    CHECK(near(samples->confidence[token], exp(z[best]) / sum));
    CHECK(near(values[12], fmax(fmax(z[candidates->token[0]], z[candidates->token[1]]),
                                z[candidates->token[2]]))); /* the largest logit of the candidates */
    const float *list = values + gate_width(GATE_CANDIDATES, hidden),
                *all = list + gate_width(GATE_SHORT_LIST, hidden);
    CHECK(near(list[0], list_top - log(list_sum)) && near(list[GATE_BEST + 4], log(list_sum)));
    CHECK(near(list[GATE_BEST + 5], log(1. + first)));
    CHECK(near(all[0], z[best] - log(sum)) && near(all[GATE_BEST + 5], log(1. + tokens->rank[best])));
    CHECK(samples->likely[token].token[0] == tokens->token[first]);
    CHECK(near(samples->likely[token].prior[0], exp(list_top) / list_sum));
}

static void check_samples(enum head_output output)
{
    struct bench bench;
    struct error error = {0};
    struct trial *trial = NULL;
    struct short_list_tokens tokens;
    struct short_list *list = NULL;
    struct gate_samples samples;
    struct gate_candidates candidates[HELD_OUT * 16];
    struct feed *feed = NULL;
    const struct feed_batch *next;
    struct feed_plan plan = {.split = SPLIT_HELD_OUT, .sequences = 1, .end = HELD_OUT};
    bool complete;
    float *weights, *h = NULL;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(make_trial(&bench, output, &trial, &weights, &error));
    REQUIRE_OK(short_list_count(&bench.stores, 1, 1, &tokens, &complete, &error));
    REQUIRE_OK(short_list_open(&tokens, trial, &bench.stores, &list, &error));
    for (int t = 0; t < HELD_OUT * 16; t++) /* three of them, and no fourth */
        candidates[t] = (struct gate_candidates){
            {tokens.token[t % 8], tokens.token[(t + 1) % 8], tokens.token[(t + 5) % 8], -1},
            {0.5f, 0.2f, 0.1f, 0}};
    const struct evaluation_setting setting = setting_of(&bench);
    const struct gate_source source = {.evaluation = &setting,
                                       .trial = trial,
                                       .list = list,
                                       .candidates = candidates,
                                       .features =
                                           GATE_STATE | GATE_SHORT_LIST | GATE_CONFIDENCE | GATE_CANDIDATES,
                                       .sequences = HELD_OUT};
    REQUIRE_OK(gate_samples_read(&source, &samples, &complete, &error));
    REQUIRE(complete && samples.tokens == HELD_OUT * 16);
    REQUIRE_OK(array_alloc(&h, 16 * small_fixture.hidden, &error));
    batch_plan(bench.batch, TEACH_OUTCOME, &plan);
    REQUIRE_OK(feed_open(&bench.stores, &plan, 1, &feed, &error));
    while (feed_next(feed, &next, &error) == 0 && next) {
        struct stack stack;
        REQUIRE_OK(batch_load(bench.batch, next, TEACH_OUTCOME, &error));
        REQUIRE_OK(
            trials_forward(&trial, 1, bench.workspace, bench.batch, (struct piece){0, 16}, &stack, &error));
        op_read(bench.workspace->queue, stack.h, h);
        REQUIRE_OK(queue_wait(bench.workspace->queue, &error));
        for (int r = 0; r < 16; r++) {
            const int64_t token = (int64_t)next->first * 16 + r;
            check_row(&samples, &tokens, &candidates[token], h + r * small_fixture.hidden, weights, token,
                      next->values[r].top);
        }
    }
    feed_close(feed);
    gate_samples_free(&samples);
    short_list_close(list);
    short_list_tokens_free(&tokens);
    trial_destroy(trial);
    free(weights);
    free(h);
    bench_close(&bench);
}

TEST(gate_samples_of_a_tied_head)
{
    check_samples(OUTPUT_TIED);
}

TEST(gate_samples_of_an_untied_head)
{
    check_samples(OUTPUT_UNTIED);
}

TEST_MAIN
