#include "train/subsets.h"

#include <stdlib.h>

#include "common/base/memory.h"

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Rows of a section. */
static int64_t section_rows(int64_t rows, int64_t length)
{
    const int64_t least = divide_up(SECTION_ROWS, length), most = divide_up(rows / length, SECTIONS_MOST);
    return length * (least > most ? least : most);
}

uint64_t subsets_bytes(int64_t vocab, int64_t hidden, int64_t rows, int64_t length)
{
    const int64_t section = section_rows(rows, length), size = subset_size(vocab, SUBSET_SIZE, section);
    return (uint64_t)divide_up(rows, section) * 2 * sizeof(float) * (uint64_t)hidden * (uint64_t)size;
}

int subsets_create(struct backend *backend, const struct weight *output, int64_t vocab, int64_t rows,
                   int64_t length, struct subsets **subsets, struct error *error)
{
    struct subsets *made;
    *subsets = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->backend = backend;
    made->from = output;
    made->rows = section_rows(rows, length);
    if (subset_create(vocab, SUBSET_SIZE, &made->draw, error) < 0 ||
        array_alloc(&made->member, rows, error) < 0 ||
        buffer_create(backend, (size_t)rows * sizeof(int32_t), &made->label, error) < 0) {
        subsets_destroy(made);
        return -1;
    }
    *subsets = made;
    return 0;
}

static void drop_section(struct section *section)
{
    weight_destroy(section->output);
    buffer_destroy(section->token);
    buffer_destroy(section->shifts);
    *section = (struct section){0};
}

void subsets_destroy(struct subsets *subsets)
{
    if (!subsets)
        return;
    for (int i = 0; i < SECTIONS_MOST; i++)
        drop_section(&subsets->section[i]);
    buffer_destroy(subsets->label);
    subset_destroy(subsets->draw);
    free(subsets->member);
    free(subsets);
}

/* Room for a subset of that size. */
static int need_section(const struct subsets *subsets, struct section *section, int64_t size,
                        struct error *error)
{
    const size_t bytes = (size_t)size * sizeof(float);
    if (section->size == size)
        return 0;
    drop_section(section);
    if (buffer_create(subsets->backend, bytes, &section->token, error) < 0 ||
        buffer_create(subsets->backend, bytes, &section->shifts, error) < 0 ||
        weight_subset_create(subsets->from, size, &section->output, error) < 0)
        return -1;
    section->size = size;
    return 0;
}

static int load_section(struct subsets *subsets, struct queue *queue, const struct subset *draw,
                        struct section *section, struct error *error)
{
    if (need_section(subsets, section, draw->size, error) < 0)
        return -1;
    const struct matrix token = matrix_i32(section->token, draw->size, 1);
    section->shift = matrix_f32(section->shifts, 1, draw->size);
    op_write(queue, token, draw->token);
    op_write(queue, section->shift, draw->shift);
    op_gather(queue, subsets->from, token, section->output);
    return 0;
}

int subsets_load(struct subsets *subsets, struct queue *queue, const struct feed_batch *next, uint64_t seed,
                 struct error *error)
{
    struct subset *draw = subsets->draw;
    const int64_t length = next->rows / next->sequences;
    const struct subset_tokens tokens = {
        .rows = next->rows, .labels = next->labels, .best = next->best, .count = next->best_count};
    int sections = 0;
    subsets->count = 0;
    for (int64_t first = 0; first < next->rows; first += subsets->rows, sections++) {
        const int64_t left = next->rows - first;
        const struct piece piece = {first, left < subsets->rows ? left : subsets->rows};
        subset_draw(draw, &tokens, piece, seed, next->first + (uint64_t)(first / length));
        if (draw->size == draw->vocab)
            return 0;
        if (load_section(subsets, queue, draw, &subsets->section[sections], error) < 0)
            return -1;
        subsets->section[sections].piece = piece;
        for (int64_t r = first; r < first + piece.rows; r++)
            subsets->member[r] = subset_member(draw, next->labels[r]);
    }
    subsets->labels = matrix_i32(subsets->label, next->rows, 1);
    op_write(queue, subsets->labels, subsets->member);
    subsets->count = sections;
    return 0;
}
