#include "generate/attached.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

struct attached {
    struct backend *backend;
    int hidden;
    int64_t rows;
    int count;
    struct attached_head *head; /* [count] */
    struct head_scratch **scratch; /* [count] */
    struct buffer *result; /* [rows, H] of one head */
    struct head_cache **cache; /* [rows] of a call's spans */
};

struct attached_kept {
    int hidden, capacity;
    int count;
    struct head_cache **cache; /* [count] */
    struct buffer **made; /* [count] of [capacity, H] */
};

int attached_create(const struct model_config *config, struct backend *backend,
                    const struct attached_head *heads, int count, int64_t rows, int positions,
                    struct attached **result, struct error *error)
{
    struct attached *attached;
    *result = NULL;
    if (array_alloc(&attached, 1, error) < 0)
        return -1;
    *attached = (struct attached){.backend = backend, .hidden = config->hidden, .rows = rows, .count = count};
    if (array_alloc(&attached->head, count, error) < 0 || array_alloc(&attached->scratch, count, error) < 0 ||
        array_alloc(&attached->cache, rows, error) < 0 ||
        buffer_create(backend, (size_t)rows * (size_t)config->hidden * sizeof(float), &attached->result,
                      error) < 0)
        goto failed;
    for (int i = 0; i < count; i++) {
        attached->head[i] = heads[i];
        if (head_scratch_create(heads[i].head, rows, positions, false, &attached->scratch[i], error) < 0)
            goto failed;
    }
    *result = attached;
    return 0;
failed:
    attached_destroy(attached);
    return -1;
}

void attached_destroy(struct attached *attached)
{
    if (!attached)
        return;
    for (int i = 0; attached->scratch && i < attached->count; i++)
        head_scratch_destroy(attached->scratch[i]);
    buffer_destroy(attached->result);
    free(attached->head);
    free(attached->scratch);
    free(attached->cache);
    free(attached);
}

int attached_kept_create(const struct attached *attached, int capacity, struct attached_kept **result,
                         struct error *error)
{
    struct attached_kept *kept;
    size_t bytes;
    *result = NULL;
    if (!size_multiply((size_t)capacity, (size_t)attached->hidden * sizeof(float), &bytes))
        return error_set_kind(error, ERROR_NO_MEMORY, "the states of %d positions do not fit in memory",
                              capacity);
    if (array_alloc(&kept, 1, error) < 0)
        return -1;
    *kept = (struct attached_kept){.hidden = attached->hidden, .capacity = capacity, .count = attached->count};
    if (array_alloc(&kept->cache, kept->count, error) < 0 || array_alloc(&kept->made, kept->count, error) < 0)
        goto failed;
    for (int i = 0; i < kept->count; i++) {
        if (head_cache_create(attached->head[i].head, capacity, &kept->cache[i], error) < 0 ||
            buffer_create(attached->backend, bytes, &kept->made[i], error) < 0)
            goto failed;
    }
    *result = kept;
    return 0;
failed:
    attached_kept_destroy(kept);
    return -1;
}

void attached_kept_destroy(struct attached_kept *kept)
{
    if (!kept)
        return;
    for (int i = 0; kept->cache && i < kept->count; i++)
        head_cache_destroy(kept->cache[i]);
    for (int i = 0; kept->made && i < kept->count; i++)
        buffer_destroy(kept->made[i]);
    free(kept->cache);
    free(kept->made);
    free(kept);
}

static struct matrix made_rows(const struct attached_kept *kept, int index, int first, int rows)
{
    return matrix_rows(matrix_f32(kept->made[index], kept->capacity, kept->hidden), first, rows);
}

void attached_run(struct attached *attached, struct queue *queue, int half, const struct span *spans,
                  struct attached_kept *const *keeps, int count, struct matrix x)
{
    for (int i = 0; i < attached->count; i++) {
        if (attached->head[i].half != half)
            continue;
        for (int s = 0; s < count; s++)
            attached->cache[s] = keeps[s]->cache[i];
        const struct matrix h = matrix_f32(attached->result, x.rows, attached->hidden);
        const struct head_run run = {.head = attached->head[i].head,
                                     .scratch = attached->scratch[i],
                                     .x = x,
                                     .spans = spans,
                                     .span_count = count,
                                     .caches = attached->cache,
                                     .h = h};
        heads_forward(queue, &run, 1);
        for (int s = 0, row = 0; s < count; row += spans[s++].rows)
            op_copy(queue, matrix_rows(h, row, spans[s].rows),
                    made_rows(keeps[s], i, spans[s].first, spans[s].rows));
    }
}

struct matrix attached_row(const struct attached_kept *kept, int index, int position)
{
    return made_rows(kept, index, position, 1);
}

void attached_copy(const struct attached *attached, struct queue *queue, const struct attached_kept *from,
                   struct attached_kept *to, int (*rows_at)(const void *context, int half), const void *context)
{
    for (int i = 0; i < attached->count; i++) {
        const int rows = rows_at(context, attached->head[i].half);
        if (rows == 0)
            continue;
        head_cache_copy(attached->head[i].head, queue, from->cache[i], to->cache[i], rows);
        op_copy(queue, made_rows(from, i, 0, rows), made_rows(to, i, 0, rows));
    }
}
