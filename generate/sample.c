#include "generate/sample.h"

#include <math.h>
#include <stdbool.h>

#include "common/base/memory.h"

struct candidate {
    int32_t token;
    float logit;
};

int sampler_create(struct sampler *sampler, double temperature, int top_k, double top_p, uint64_t seed,
                   int vocab, struct error *error)
{
    *sampler = (struct sampler){temperature, top_k, top_p, {seed}, NULL};
    return array_alloc(&sampler->candidate, vocab, error);
}

void sampler_free(struct sampler *sampler)
{
    free(sampler->candidate);
    *sampler = (struct sampler){0};
}

/* Likelier, the smaller id among equals: an order without ties. */
static bool is_before(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

/* Restores the heap of `count` candidates, the likeliest first, below `index`. */
static void sift_down(struct candidate *heap, int index, int count)
{
    const struct candidate moved = heap[index];
    for (int child = 2 * index + 1; child < count; child = 2 * index + 1) {
        if (child + 1 < count && is_before(heap[child + 1], heap[child]))
            child++;
        if (!is_before(heap[child], moved))
            break;
        heap[index] = heap[child];
        index = child;
    }
    heap[index] = moved;
}

/* The candidates as a heap, from which they are taken in order: no more is sorted than is looked at. */
struct order {
    struct candidate *heap;
    int count, taken; /* the taken ones stand at the end, the last one taken first */
};

static void order_start(struct order *order, struct candidate *space, const float *logits, int count)
{
    *order = (struct order){space, count, 0};
    for (int v = 0; v < count; v++)
        space[v] = (struct candidate){v, logits[v]};
    for (int index = count / 2; index-- > 0;)
        sift_down(space, index, count);
}

static struct candidate nth_likeliest(struct order *order, int n)
{
    while (order->taken <= n) {
        const int last = order->count - ++order->taken;
        const struct candidate next = order->heap[0];
        order->heap[0] = order->heap[last];
        order->heap[last] = next;
        sift_down(order->heap, 0, last);
    }
    return order->heap[order->count - 1 - n];
}

/* In proportion to its probability; the likeliest has 1. */
static double weight_of(struct candidate candidate, double most, double temperature)
{
    return exp(((double)candidate.logit - most) / temperature);
}

int32_t sampler_pick(struct sampler *sampler, const float *logits, int vocab)
{
    const double temperature = sampler->temperature;
    struct order order;
    order_start(&order, sampler->candidate, logits, vocab);
    const double most = (double)nth_likeliest(&order, 0).logit;
    double total = 0;
    int kept = vocab;
    if (sampler->top_k > 0 && sampler->top_k < vocab) {
        kept = sampler->top_k;
        for (int n = 0; n < kept; n++)
            total += weight_of(nth_likeliest(&order, n), most, temperature);
    } else {
        for (int v = 0; v < vocab; v++)
            total += weight_of((struct candidate){v, logits[v]}, most, temperature);
    }
    if (sampler->top_p < 1) {
        const double goal = sampler->top_p * total;
        int n = 0;
        total = 0;
        do
            total += weight_of(nth_likeliest(&order, n++), most, temperature);
        while (n < kept && total < goal);
        kept = n;
    }
    double draw = random_uniform(&sampler->random) * total;
    for (int n = 0; n < kept - 1; n++) {
        draw -= weight_of(nth_likeliest(&order, n), most, temperature);
        if (draw < 0)
            return nth_likeliest(&order, n).token;
    }
    return nth_likeliest(&order, kept - 1).token;
}
