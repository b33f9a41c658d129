#include "extract/scout_sums.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/head/ridge.h"

int scout_map_count(int layers)
{
    return layers + (layers > SCOUT_BRIDGED ? layers - SCOUT_BRIDGED : 0);
}

struct scout_map scout_map(int layers, int map)
{
    return map < layers ? (struct scout_map){map, layers}
                        : (struct scout_map){map - layers, layers - SCOUT_BRIDGED};
}

int scout_bridge_map(int layers, int tap)
{
    return tap < layers - SCOUT_BRIDGED ? layers + tap : -1;
}

struct scout_sums {
    int layers, hidden;
    uint64_t tokens;
    struct ridge_rows *rows; /* of the tap that maps lead to */
    struct ridge_sums *sums; /* [scout_map_count] */
};

int scout_sums_create(struct backend *backend, int layers, int hidden, int rows, struct scout_sums **result,
                      struct error *error)
{
    struct scout_sums *sums;
    *result = NULL;
    if (array_alloc(&sums, 1, error) < 0)
        return -1;
    *sums = (struct scout_sums){.layers = layers, .hidden = hidden};
    int done = array_alloc(&sums->sums, scout_map_count(layers), error);
    if (done == 0)
        done = ridge_rows_create(backend, hidden, hidden, rows, &sums->rows, error);
    for (int map = 0; map < scout_map_count(layers) && done == 0; map++)
        done = ridge_sums_create(backend, hidden, hidden, &sums->sums[map], error);
    if (done < 0) {
        scout_sums_free(sums);
        return -1;
    }
    *result = sums;
    return 0;
}

void scout_sums_free(struct scout_sums *sums)
{
    if (!sums)
        return;
    for (int map = 0; sums->sums && map < scout_map_count(sums->layers); map++)
        ridge_sums_free(&sums->sums[map]);
    ridge_rows_destroy(sums->rows);
    free(sums->sums);
    free(sums);
}

uint64_t scout_sums_bytes(int layers, int hidden, int rows)
{
    const uint64_t joined = sizeof(float) * (uint64_t)rows * (2 * (uint64_t)hidden + 2);
    return (uint64_t)scout_map_count(layers) * (uint64_t)ridge_sums_values(hidden, hidden) * sizeof(double) +
           2 * joined;
}

/* Adds a sequence, whose first row among the call's is `first`, to the maps that lead to tap `to`. */
static int add_sequence(struct scout_sums *sums, const struct scout_call *call, int64_t first, int to,
                        struct error *error)
{
    if (ridge_rows_set(sums->rows, call->queue, matrix_rows(call->tap[to], first, call->rows), error) < 0)
        return -1;
    for (int map = 0; map < scout_map_count(sums->layers); map++) {
        const struct scout_map of = scout_map(sums->layers, map);
        if (of.to == to)
            ridge_sums_add(&sums->sums[map], call->queue, sums->rows,
                           matrix_rows(call->tap[of.tap], first, call->rows));
    }
    return 0;
}

int scout_sums_add(struct scout_sums *sums, const struct scout_call *call, struct error *error)
{
    for (int s = 0; s < call->sequences; s++) {
        const int64_t first = (int64_t)s * call->rows;
        if (add_sequence(sums, call, first, sums->layers, error) < 0 ||
            (sums->layers > SCOUT_BRIDGED &&
             add_sequence(sums, call, first, sums->layers - SCOUT_BRIDGED, error) < 0))
            return -1;
    }
    sums->tokens += (uint64_t)call->sequences * (uint64_t)call->rows;
    return queue_wait(call->queue, error);
}

uint64_t scout_sums_tokens(const struct scout_sums *sums)
{
    return sums->tokens;
}

int scout_sums_read(const struct scout_sums *sums, struct queue *queue, int map, double **values,
                    struct error *error)
{
    return ridge_sums_read(&sums->sums[map], queue, values, error);
}

int scout_sums_take(struct scout_sums *sums, struct queue *queue, int map, double **values, struct error *error)
{
    const int result = scout_sums_read(sums, queue, map, values, error);
    ridge_sums_free(&sums->sums[map]);
    return result;
}
