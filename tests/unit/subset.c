/* The subset of the vocabulary that a batch trains on. */
#include "train/subset.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "tests/test.h"

enum { VOCAB = 2000, ROWS = 6, WIDTH = 3, LEAST = 300 };

static const int32_t labels[ROWS] = {5, 1999, 0, -1, VOCAB, 5}; /* three tokens */
static const int32_t best[ROWS * WIDTH] = {5, 6, 7, 100, 101, 102, 0,   200, 300,
                                           4, 5, 6, 6,   999, 997, 999, 1,   VOCAB};

static const struct subset_tokens tokens = {.rows = ROWS, .labels = labels, .best = best, .count = WIDTH};
static const struct piece all_rows = {0, ROWS};
static const struct subset_tokens labels_only = {.rows = ROWS, .labels = labels};

static struct subset *make(int64_t vocab, int64_t least)
{
    struct subset *subset;
    struct error error;
    if (subset_create(vocab, least, &subset, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    return subset;
}

static bool same(const struct subset *a, const struct subset *b)
{
    const size_t size = (size_t)a->size;
    return a->size == b->size && !memcmp(a->token, b->token, size * sizeof *a->token) &&
           !memcmp(a->shift, b->shift, size * sizeof *a->shift);
}

/* Each token once, in order; the labels among them. */
static void check_members(const struct subset *subset)
{
    static const int32_t sure[] = {0, 5, 1999};
    int members = 0;
    for (int64_t i = 0; i < subset->size; i++) {
        CHECK(i == 0 || subset->token[i - 1] < subset->token[i]);
        CHECK(subset->token[i] >= 0 && subset->token[i] < VOCAB);
        CHECK(subset_member(subset, subset->token[i]) == i);
        CHECK(subset->shift[i] >= 0 && isfinite(subset->shift[i]));
    }
    for (int32_t v = 0; v < VOCAB; v++)
        members += subset_member(subset, v) >= 0;
    CHECK(members == subset->size);
    CHECK(subset_member(subset, -1) == -1 && subset_member(subset, VOCAB) == -1);
    for (int i = 0; i < 3; i++) {
        REQUIRE(subset_member(subset, sure[i]) >= 0);
        CHECK(subset->shift[subset_member(subset, sure[i])] == 0);
    }
}

TEST(subset_holds_the_labels)
{
    struct subset *subset = make(VOCAB, LEAST);
    for (uint64_t step = 0; step < 20; step++) {
        subset_draw(subset, &tokens, all_rows, 1, step);
        CHECK(subset->size == LEAST);
        check_members(subset);
        subset_draw(subset, &labels_only, all_rows, 1, step);
        CHECK(subset->size == LEAST);
        check_members(subset);
    }
    subset_destroy(subset);
}

TEST(subset_depends_on_seed_and_step_only)
{
    struct subset *subset = make(VOCAB, LEAST), *again = make(VOCAB, LEAST);
    subset_draw(again, &labels_only, all_rows, 1, 7); /* what was drawn before leaves no trace */
    for (uint64_t step = 0; step < 5; step++) {
        subset_draw(subset, &tokens, all_rows, 1, step);
        subset_draw(again, &tokens, all_rows, 1, step);
        CHECK(same(subset, again));
        subset_draw(again, &tokens, all_rows, 2, step);
        CHECK(!same(subset, again));
        subset_draw(again, &tokens, all_rows, 1, step + 1);
        CHECK(!same(subset, again));
    }
    subset_destroy(subset);
    subset_destroy(again);
}

/* Where nothing is known of them, every token is as likely as another. */
TEST(subset_draws_evenly)
{
    enum { DRAWS = 2000 };
    struct subset *subset = make(VOCAB, LEAST);
    int drawn[VOCAB] = {0};
    for (uint64_t step = 0; step < DRAWS; step++) {
        subset_draw(subset, &labels_only, all_rows, 3, step);
        for (int64_t i = 0; i < subset->size; i++)
            drawn[subset->token[i]]++;
    }
    const double share = (double)(LEAST - 3) / (VOCAB - 3), deviation = sqrt(DRAWS * share * (1 - share));
    double squares = 0;
    for (int32_t v = 0; v < VOCAB; v++) {
        const double off = (drawn[v] - DRAWS * share) / deviation;
        if (drawn[v] == DRAWS) /* a label */
            continue;
        CHECK(fabs(off) < 5);
        squares += off * off;
    }
    CHECK(fabs(squares / (VOCAB - 3) - 1) < 0.15);
    subset_destroy(subset);
}

/* Of the best tokens, the more often the surer; in a subset of nearly all, those stand for themselves. */
TEST(subset_draws_likely_tokens_first)
{
    enum { DRAWS = 400 };
    struct subset *subset = make(VOCAB, LEAST);
    int six = 0, seven = 0, nobody = 0;
    for (uint64_t step = 0; step < DRAWS; step++) {
        subset_draw(subset, &tokens, all_rows, 5, step);
        six += subset_member(subset, 6) >= 0; /* three times among the best */
        seven += subset_member(subset, 7) >= 0; /* once */
        nobody += subset_member(subset, 8) >= 0;
        for (int64_t i = 0; i < subset->size; i++)
            CHECK(subset->token[i] != 6 || subset->shift[i] == 0);
    }
    CHECK(six == DRAWS && seven == DRAWS && nobody < DRAWS / 4 && nobody > DRAWS / 20);
    subset_destroy(subset);
}

/* The mean of the estimated sums over many draws is the sum over the vocabulary. */
static void check_sum(const struct subset_tokens *known, double most)
{
    enum { DRAWS = 4000 };
    struct subset *subset = make(VOCAB, LEAST);
    double logit[VOCAB], whole = 0, sum = 0, squares = 0;
    for (int32_t v = 0; v < VOCAB; v++) {
        logit[v] = 2 * sin(v * 12.9898) + (v == 6 || v == 999 ? 6 : 0);
        whole += exp(logit[v]);
    }
    for (uint64_t step = 0; step < DRAWS; step++) {
        double estimate = 0;
        subset_draw(subset, known, all_rows, 4, step);
        for (int64_t i = 0; i < subset->size; i++)
            estimate += exp(logit[subset->token[i]] + (double)subset->shift[i]);
        sum += estimate / whole;
        squares += estimate / whole * (estimate / whole);
    }
    const double mean = sum / DRAWS, deviation = sqrt(squares / DRAWS - mean * mean);
    CHECK(deviation < most);
    CHECK(fabs(mean - 1) < 4 * deviation / sqrt(DRAWS));
    subset_destroy(subset);
}

/* And what is known of likely tokens makes them differ less from it. */
TEST(subset_estimates_the_partition_sum)
{
    check_sum(&labels_only, 1);
    check_sum(&tokens, 0.1);
}

TEST(subset_of_few_tokens_is_all_of_them)
{
    static int32_t few[60];
    for (int32_t i = 0; i < 60; i++)
        few[i] = 2 * i;
    struct subset *subset = make(100, 100);
    for (int labels_are_many = 0; labels_are_many < 2; labels_are_many++) {
        const struct subset_tokens given = {
            .rows = labels_are_many ? 51 : 2, .labels = few, .best = few, .count = 1};
        subset->least = labels_are_many ? 40 : 100;
        subset_draw(subset, &given, (struct piece){0, given.rows}, 1, 1);
        CHECK(subset->size == 100);
        for (int32_t v = 0; v < 100; v++)
            CHECK(subset->token[v] == v && subset->shift[v] == 0 && subset_member(subset, v) == v);
    }
    subset_destroy(subset);
}

/* No more than half of a subset are labels. */
TEST(subset_grows_with_the_labels)
{
    static int32_t many[200];
    struct subset *subset = make(VOCAB, LEAST);
    for (int32_t i = 0; i < 200; i++)
        many[i] = i;
    subset_draw(subset, &(struct subset_tokens){.rows = 150, .labels = many}, (struct piece){0, 150}, 1, 1);
    CHECK(subset->size == LEAST);
    subset_draw(subset, &(struct subset_tokens){.rows = 151, .labels = many}, (struct piece){0, 151}, 1, 1);
    CHECK(subset->size == 2 * LEAST);
    subset_destroy(subset);
}

/* A section's own labels are sure, its best tokens weigh most, and then those of other rows. */
TEST(subset_of_a_section)
{
    enum { DRAWS = 200 };
    static int32_t label[100], likely[100];
    struct subset *subset = make(VOCAB, 80);
    int own = 0, other = 0, nobody = 0, label_of_other = 0;
    for (int32_t r = 0; r < 100; r++) {
        label[r] = r < 20 ? r : 1000 + r;
        likely[r] = r < 20 ? 100 + r : 200 + r % 40;
    }
    const struct subset_tokens batch = {.rows = 100, .labels = label, .best = likely, .count = 1};
    for (uint64_t number = 0; number < DRAWS; number++) {
        subset_draw(subset, &batch, (struct piece){0, 20}, 5, number);
        CHECK(subset->size == 80);
        for (int32_t v = 0; v < 20; v++)
            CHECK(subset_member(subset, v) >= 0);
        label_of_other += subset_member(subset, 1050) >= 0;
        own += subset_member(subset, 105) >= 0;
        other += subset_member(subset, 205) >= 0;
        nobody += subset_member(subset, 905) >= 0;
    }
    CHECK(own == DRAWS && other > DRAWS / 2 && other < DRAWS);
    CHECK(nobody < DRAWS / 10 && label_of_other < DRAWS / 10);
    subset_destroy(subset);
}

/* What runs that have begun rely on: the same seed gives the same tokens in every version. */
TEST(subset_stays_the_same)
{
    static const int32_t expected[] = {0, 1, 4, 5, 6, 7, 8, 18};
    struct subset *subset = make(VOCAB, LEAST);
    subset_draw(subset, &tokens, all_rows, 4, 11);
    for (int i = 0; i < 8; i++)
        CHECK(subset->token[i] == expected[i]);
    subset_destroy(subset);
}

TEST_MAIN
