#include "train/subset.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/base/random.h"

/* What a token that is among no row's best weighs: this share of the mean weight of all tokens. */
#define WEIGHT_LEAST 0.3
/* What it weighs to be among the best tokens of a row of the batch, beside 1 for a row of the section. */
#define WEIGHT_BATCH 0.2f

/* What a token is during a draw, in `member`. */
enum { OUTSIDE = -1, DRAWN = 0, SURE = 1 };

int64_t subset_size(int64_t vocab, int64_t least, int64_t labels)
{
    int64_t size = least;
    while (size < 2 * labels) /* doubled, so that products have few shapes */
        size *= 2;
    return size < vocab ? size : vocab;
}

int subset_create(int64_t vocab, int64_t least, struct subset **subset, struct error *error)
{
    struct subset *made;
    *subset = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    *made = (struct subset){.vocab = vocab, .least = least};
    if (array_alloc(&made->token, vocab, error) < 0 || array_alloc(&made->shift, vocab, error) < 0 ||
        array_alloc(&made->member, vocab, error) < 0 || array_alloc(&made->weight, vocab, error) < 0 ||
        array_alloc(&made->priority, vocab, error) < 0) {
        subset_destroy(made);
        return -1;
    }
    *subset = made;
    return 0;
}

void subset_destroy(struct subset *subset)
{
    if (!subset)
        return;
    free(subset->token);
    free(subset->shift);
    free(subset->member);
    free(subset->weight);
    free(subset->priority);
    free(subset);
}

static bool is_token(const struct subset *subset, int32_t token)
{
    return token >= 0 && token < subset->vocab;
}

int32_t subset_member(const struct subset *subset, int32_t token)
{
    return is_token(subset, token) ? subset->member[token] : OUTSIDE;
}

/* Marks the labels; returns how many they are, each counted once. */
static int64_t mark_sure(struct subset *subset, const struct subset_tokens *tokens, struct piece section)
{
    int64_t sure = 0;
    for (int64_t r = section.first; r < section.first + section.rows; r++) {
        const int32_t label = tokens->labels[r];
        if (!is_token(subset, label) || subset->member[label] == SURE)
            continue;
        subset->member[label] = SURE;
        sure++;
    }
    return sure;
}

/* Adds to the weights of some rows' best tokens. */
static void add_weight(struct subset *subset, const struct subset_tokens *tokens, struct piece rows,
                       float weight)
{
    const int32_t *best = tokens->best + rows.first * tokens->count;
    for (int64_t i = 0; i < rows.rows * tokens->count; i++) {
        if (is_token(subset, best[i]))
            subset->weight[best[i]] += weight;
    }
}

static void set_weights(struct subset *subset, const struct subset_tokens *tokens, struct piece section)
{
    const bool known = tokens->best && tokens->count > 0;
    const double all = (double)(section.rows * tokens->count);
    const double least = known ? WEIGHT_LEAST * all / (double)subset->vocab : 1;
    for (int64_t v = 0; v < subset->vocab; v++)
        subset->weight[v] = (float)least;
    if (!known)
        return;
    add_weight(subset, tokens, section, 1);
    add_weight(subset, tokens, (struct piece){0, tokens->rows}, WEIGHT_BATCH);
}

/* The n-th largest of values, n from 1 to count, none of which is below 0: by one byte after another, since the
 * bits of such numbers are in their order. */
static float nth_largest(const float *values, int64_t count, int64_t n)
{
    uint32_t found = 0, known = 0; /* bits, and which of them */
    float value;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t having[256] = {0};
        for (int64_t i = 0; i < count; i++) {
            uint32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            if ((bits & known) == found)
                having[bits >> shift & 255]++;
        }
        uint32_t byte = 255;
        for (; n > having[byte]; byte--)
            n -= having[byte];
        found |= byte << shift;
        known |= (uint32_t)255 << shift;
    }
    memcpy(&value, &found, sizeof value);
    return value;
}

/* Marks `count` tokens that are not sure; fewer than all of those. Returns t. */
static float mark_drawn(struct subset *subset, int64_t count, uint64_t seed)
{
    struct random random = {seed};
    for (int64_t v = 0; v < subset->vocab; v++) {
        const double even = 1 - random_uniform(&random); /* every token takes one, whatever the others are */
        subset->priority[v] = subset->member[v] == SURE ? 0 : (float)(subset->weight[v] / even);
    }
    const float next = nth_largest(subset->priority, subset->vocab, count + 1);
    for (int pass = 0; pass < 2; pass++) { /* those above it; then some that are like it, if any are */
        for (int64_t v = 0; v < subset->vocab && count > 0; v++) {
            const bool wanted = pass == 0 ? subset->priority[v] > next : subset->priority[v] == next;
            if (!wanted || subset->member[v] != OUTSIDE)
                continue;
            subset->member[v] = DRAWN;
            count--;
        }
    }
    return next;
}

void subset_draw(struct subset *subset, const struct subset_tokens *tokens, struct piece section, uint64_t seed,
                 uint64_t number)
{
    float next = 0; /* t; 0: all stand for themselves */
    for (int64_t v = 0; v < subset->vocab; v++)
        subset->member[v] = OUTSIDE;
    const int64_t sure = mark_sure(subset, tokens, section);
    subset->size = subset_size(subset->vocab, subset->least, sure);
    set_weights(subset, tokens, section);
    if (subset->size < subset->vocab)
        next = mark_drawn(subset, subset->size - sure, hash_bytes(&number, sizeof number, seed));
    int32_t index = 0;
    for (int64_t v = 0; v < subset->vocab; v++) {
        if (subset->size < subset->vocab && subset->member[v] == OUTSIDE)
            continue;
        const bool shifted = subset->member[v] == DRAWN && subset->weight[v] < next;
        subset->token[index] = (int32_t)v;
        subset->shift[index] = shifted ? logf(next / subset->weight[v]) : 0;
        subset->member[v] = index++;
    }
}
