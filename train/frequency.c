#include "train/frequency.h"

#include <stdlib.h>

#include "common/base/memory.h"

struct counted {
    int64_t times;
    double weight;
    int32_t token;
};

static int compare(const void *a, const void *b)
{
    const struct counted *one = a, *other = b;
    if (one->times != other->times)
        return one->times < other->times ? 1 : -1;
    if (one->weight != other->weight)
        return one->weight < other->weight ? 1 : -1;
    return (one->token > other->token) - (one->token < other->token);
}

int tokens_by_frequency(const int64_t *times, const double *weight, int64_t vocab, int32_t *order,
                        struct error *error)
{
    struct counted *counted;
    if (array_alloc(&counted, vocab, error) < 0)
        return -1;
    for (int64_t v = 0; v < vocab; v++)
        counted[v] = (struct counted){times[v], weight ? weight[v] : 0, (int32_t)v};
    qsort(counted, (size_t)vocab, sizeof *counted, compare);
    for (int64_t v = 0; v < vocab; v++)
        order[v] = counted[v].token;
    free(counted);
    return 0;
}
