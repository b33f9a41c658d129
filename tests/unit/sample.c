#include "generate/sample.h"

#include <math.h>

#include "tests/test.h"

enum { V = 8, DRAWS = 20000 };

/* Probabilities 0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.015, 0.005, in another order. */
static const double share[V] = {0.1, 0.25, 0.005, 0.4, 0.03, 0.15, 0.05, 0.015};

static void make_logits(float *logits)
{
    for (int v = 0; v < V; v++)
        logits[v] = (float)log(share[v]) + 3;
}

/* How often each token comes, of DRAWS; -1 when the sampler cannot be made. */
static int draw_counts(double temperature, int top_k, double top_p, uint64_t seed, int counts[V],
                       struct error *error)
{
    struct sampler sampler;
    float logits[V];
    memset(counts, 0, sizeof(int) * V);
    make_logits(logits);
    if (sampler_create(&sampler, temperature, top_k, top_p, seed, V, error) < 0)
        return -1;
    for (int i = 0; i < DRAWS; i++) {
        const int32_t token = sampler_pick(&sampler, logits, V);
        counts[token >= 0 && token < V ? token : 0]++;
    }
    sampler_free(&sampler);
    return 0;
}

/* Within five deviations of a binomial: one seed in a million fails. */
static void check_share(const int counts[V], int token, double expected)
{
    const double deviation = sqrt(expected * (1 - expected) / DRAWS);
    const double found = (double)counts[token] / DRAWS;
    if (fabs(found - expected) > 5 * deviation)
        test_fail(__FILE__, __LINE__, "token %d comes with %.4f, expected %.4f", token, found, expected);
}

TEST(sample_follows_the_softmax)
{
    struct error error;
    int counts[V];
    REQUIRE_OK(draw_counts(1, 0, 1, 1, counts, &error));
    for (int v = 0; v < V; v++)
        check_share(counts, v, share[v]);
}

TEST(sample_temperature)
{
    struct error error;
    int counts[V];
    double total = 0;
    for (int v = 0; v < V; v++)
        total += share[v] * share[v];
    REQUIRE_OK(draw_counts(0.5, 0, 1, 2, counts, &error)); /* squares of the probabilities */
    for (int v = 0; v < V; v++)
        check_share(counts, v, share[v] * share[v] / total);
    REQUIRE_OK(draw_counts(1e-300, 0, 1, 3, counts, &error)); /* as good as greedy, and no NaN */
    CHECK(counts[3] == DRAWS);
}

TEST(sample_top_k)
{
    struct error error;
    int counts[V];
    REQUIRE_OK(draw_counts(1, 3, 1, 4, counts, &error));
    check_share(counts, 3, 0.4 / 0.8);
    check_share(counts, 1, 0.25 / 0.8);
    check_share(counts, 5, 0.15 / 0.8);
    CHECK(counts[3] + counts[1] + counts[5] == DRAWS);
    REQUIRE_OK(draw_counts(1, 1, 1, 4, counts, &error));
    CHECK(counts[3] == DRAWS);
    REQUIRE_OK(draw_counts(1, V + 5, 1, 4, counts, &error)); /* more than there are: all */
    for (int v = 0; v < V; v++)
        check_share(counts, v, share[v]);
}

TEST(sample_top_p)
{
    struct error error;
    int counts[V];
    REQUIRE_OK(draw_counts(1, 0, 0.6, 5, counts, &error)); /* 0.4 is too few, 0.65 enough */
    check_share(counts, 3, 0.4 / 0.65);
    CHECK(counts[3] + counts[1] == DRAWS);
    REQUIRE_OK(draw_counts(1, 0, 0.39, 5, counts, &error));
    CHECK(counts[3] == DRAWS);
    REQUIRE_OK(draw_counts(1, 0, 0, 5, counts, &error)); /* the likeliest is always there */
    CHECK(counts[3] == DRAWS);
    /* of the three that top-k leaves, 0.5 and 0.3125 make 0.8 */
    REQUIRE_OK(draw_counts(1, 3, 0.8, 6, counts, &error));
    check_share(counts, 3, 0.4 / 0.65);
    CHECK(counts[3] + counts[1] == DRAWS);
}

TEST(sample_ties_and_seeds)
{
    const float equal[V] = {0, 1, 1, 1, 0, 0, 0, 0};
    struct error error;
    struct sampler sampler;
    int first[V], second[V];
    REQUIRE_OK(sampler_create(&sampler, 1, 2, 1, 7, V, &error));
    for (int i = 0; i < 100; i++) { /* the smaller ids among equals */
        const int32_t token = sampler_pick(&sampler, equal, V);
        CHECK(token == 1 || token == 2);
    }
    sampler_free(&sampler);
    REQUIRE_OK(draw_counts(1, 0, 0.9, 8, first, &error));
    REQUIRE_OK(draw_counts(1, 0, 0.9, 8, second, &error));
    CHECK(!memcmp(first, second, sizeof first));
    REQUIRE_OK(draw_counts(1, 0, 0.9, 9, second, &error));
    CHECK(memcmp(first, second, sizeof first) != 0);
}

/* Sorting as far as needed gives the same order as sorting all: every k of a larger vocabulary. */
TEST(sample_order)
{
    enum { LARGE = 1000 };
    float logits[LARGE];
    struct error error;
    struct random random = {11};
    for (int v = 0; v < LARGE; v++)
        logits[v] = (float)(random_next(&random) % 400); /* with ties */
    for (int k = 1; k < LARGE; k += 97) {
        struct sampler sampler;
        REQUIRE_OK(sampler_create(&sampler, 1e9, k, 1, (uint64_t)k, LARGE, &error));
        for (int i = 0; i < 200; i++) { /* so hot that all k are equally likely */
            const int32_t token = sampler_pick(&sampler, logits, LARGE);
            int before = 0;
            for (int v = 0; v < LARGE; v++)
                before += logits[v] > logits[token] || (logits[v] == logits[token] && v < token);
            CHECK(before < k);
        }
        sampler_free(&sampler);
    }
}

TEST_MAIN
