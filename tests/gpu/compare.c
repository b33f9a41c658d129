/* compare STORE OTHER TOLERANCE: the states of two stores of the same tokens, tap by tap: the root mean square
 * of their differences as a share of the states', which may be TOLERANCE. For tests/gpu/all.sh: the device's
 * states against the cpu's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/memory.h"
#include "common/store/store.h"
#include "common/store/target.h"

struct side {
    struct store *store;
    struct reader *reader;
    float *states;
};

static int side_open(const char *path, struct side *side, struct error *error)
{
    if (store_open(path, STORE_READ, &side->store, error) < 0 ||
        reader_open(side->store, &side->reader, error) < 0)
        return -1;
    const struct store_info *info = store_info(side->store);
    return array_alloc(&side->states, (size_t)info->rows * (size_t)info->hidden, error);
}

static void side_close(struct side *side)
{
    free(side->states);
    reader_close(side->reader);
    store_close(side->store);
}

/* Every sequence of one tap: *share gets the root mean square of the differences over the states'. */
static int compare_tap(struct side *a, struct side *b, int tap, double *share, struct error *error)
{
    const struct store_info *info = store_info(a->store);
    const size_t count = (size_t)info->rows * (size_t)info->hidden;
    double differences = 0, squares = 0;
    for (uint64_t s = 0; s < store_sequences(a->store, SPLIT_TRAIN); s++) {
        const struct sequence sequence = {SPLIT_TRAIN, s};
        if (reader_states(a->reader, tap, sequence, a->states, error) < 0 ||
            reader_states(b->reader, tap, sequence, b->states, error) < 0)
            return -1;
        for (size_t i = 0; i < count; i++) {
            const double difference = (double)a->states[i] - (double)b->states[i];
            differences += difference * difference;
            squares += (double)b->states[i] * (double)b->states[i];
        }
    }
    *share = sqrt(differences / squares);
    return 0;
}

int main(int argc, char **argv)
{
    struct side a = {0}, b = {0};
    struct error error = {0};
    double worst = 0, share;
    int result = -1;
    if (argc != 4) {
        fprintf(stderr, "usage: compare STORE OTHER TOLERANCE\n");
        return 2;
    }
    if (side_open(argv[1], &a, &error) < 0 || side_open(argv[2], &b, &error) < 0)
        goto done;
    const struct store_info *info = store_info(a.store), *other = store_info(b.store);
    if (info->taps != other->taps || info->rows != other->rows || info->hidden != other->hidden ||
        store_sequences(a.store, SPLIT_TRAIN) != store_sequences(b.store, SPLIT_TRAIN)) {
        error_set(&error, "%s and %s are of different shapes", argv[1], argv[2]);
        goto done;
    }
    for (int tap = 0; tap < info->taps; tap++) {
        char name[TAP_NAME_SIZE];
        tap_name(info->tap[tap], info->layers, name);
        if (tap_compare(info->tap[tap], other->tap[tap]) != 0) {
            error_set(&error, "%s and %s have different taps", argv[1], argv[2]);
            goto done;
        }
        if (tap == store_find_target(info))
            continue;
        if (compare_tap(&a, &b, tap, &share, &error) < 0)
            goto done;
        printf("%-10s %.3g\n", name, share);
        worst = share > worst || isnan(share) ? share : worst;
    }
    printf("worst %.3g\n", worst);
    result = worst <= atof(argv[3]) ? 0 : 1;
done:
    if (result < 0)
        fprintf(stderr, "compare: %s\n", error.text);
    side_close(&a);
    side_close(&b);
    return result == 0 ? 0 : 1;
}
