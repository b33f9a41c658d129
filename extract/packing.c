#include "extract/packing.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/store/runs.h"

struct stream {
    int32_t *ids; /* [rows + 1], the first `filled` are there */
    int32_t *starts; /* [rows + 1], indexes in ids where documents start */
    int filled, started;
    uint64_t sequences, documents; /* sequences: all, also those not stored */
};

struct packing {
    struct packing_rules rules;
    struct stream stream[SPLIT_COUNT];
    uint64_t sequences[SPLIT_COUNT]; /* given away */
};

int packing_create(const struct packing_rules *rules, struct packing **result, struct error *error)
{
    struct packing *packing = memory_alloc(1, sizeof *packing, error);
    *result = NULL;
    if (!packing)
        return -1;
    packing->rules = *rules;
    for (int split = 0; split < SPLIT_COUNT; split++) {
        struct stream *stream = &packing->stream[split];
        if (array_alloc(&stream->ids, rules->rows + 1, error) < 0 ||
            array_alloc(&stream->starts, rules->rows + 1, error) < 0) {
            packing_destroy(packing);
            return -1;
        }
    }
    *result = packing;
    return 0;
}

void packing_destroy(struct packing *packing)
{
    if (!packing)
        return;
    for (int split = 0; split < SPLIT_COUNT; split++) {
        free(packing->stream[split].ids);
        free(packing->stream[split].starts);
    }
    free(packing);
}

static bool is_full(const struct packing *packing, enum split split)
{
    return packing->sequences[split] >= packing->rules.most[split];
}

/* Gives the full sequence away, if it is wanted, and keeps its last id, the next one's first. */
static int put_sequence(struct packing *packing, enum split documents, struct error *error)
{
    struct stream *stream = &packing->stream[documents];
    const enum split split =
        packing->rules.runs > 0 ? runs_split(stream->sequences, packing->rules.runs) : documents;
    const int rows = packing->rules.rows;
    int count = stream->started;
    if (count > 0 && stream->starts[count - 1] == rows)
        count--; /* this start is row 0 of the next sequence */
    if (split != RUNS_GAP && !is_full(packing, split)) {
        if (packing->rules.put(packing->rules.context, split, stream->ids, stream->starts, count, error) < 0)
            return -1;
        packing->sequences[split]++;
    }
    stream->sequences++;
    stream->ids[0] = stream->ids[rows];
    stream->filled = 1;
    stream->started -= count;
    stream->starts[0] = 0;
    return 0;
}

static int append_id(struct packing *packing, enum split split, int32_t id, bool starts, struct error *error)
{
    struct stream *stream = &packing->stream[split];
    if (starts)
        stream->starts[stream->started++] = stream->filled;
    stream->ids[stream->filled++] = id;
    return stream->filled > packing->rules.rows ? put_sequence(packing, split, error) : 0;
}

int packing_append(struct packing *packing, enum split split, const int32_t *ids, size_t count, bool first,
                   bool last, struct error *error)
{
    if (!packing_wants(packing, split))
        return 0;
    packing->stream[split].documents += first;
    for (size_t i = 0; i < count && packing_wants(packing, split); i++)
        if (append_id(packing, split, ids[i], first && i == 0, error) < 0)
            return -1;
    if (!last || packing->rules.end < 0 || !packing_wants(packing, split))
        return 0;
    return append_id(packing, split, packing->rules.end, first && count == 0, error);
}

void packing_finish(struct packing *packing)
{
    for (int split = 0; split < SPLIT_COUNT; split++)
        packing->stream[split].filled = packing->stream[split].started = 0;
}

bool packing_wants(const struct packing *packing, enum split split)
{
    if (packing->rules.runs > 0)
        return split == SPLIT_TRAIN && !(is_full(packing, SPLIT_TRAIN) && is_full(packing, SPLIT_HELD_OUT));
    return !is_full(packing, split);
}

uint64_t packing_sequences(const struct packing *packing, enum split split)
{
    return packing->sequences[split];
}

uint64_t packing_documents(const struct packing *packing, enum split split)
{
    return packing->stream[split].documents;
}

/* ---- state ---- */

static json_t *list_to_json(const int32_t *values, int count)
{
    json_t *array = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(array, json_integer(values[i]));
    return array;
}

static int list_from_json(const json_t *array, int most, int32_t least_value, int32_t *values, int *count)
{
    size_t size = json_array_size(array);
    if (!json_is_array(array) || size > (size_t)most)
        return -1;
    for (size_t i = 0; i < size; i++) {
        json_int_t value = json_integer_value(json_array_get(array, i));
        if (value < least_value || value > INT32_MAX)
            return -1;
        values[i] = (int32_t)value;
    }
    *count = (int)size;
    return 0;
}

json_t *packing_save(const struct packing *packing, struct error *error)
{
    json_t *splits = json_array();
    for (int split = 0; split < SPLIT_COUNT; split++) {
        const struct stream *stream = &packing->stream[split];
        json_t *object = json_pack(
            "{s:I, s:I, s:I, s:o, s:o}", "sequences", (json_int_t)packing->sequences[split], "stream",
            (json_int_t)stream->sequences, "documents", (json_int_t)stream->documents, "ids",
            list_to_json(stream->ids, stream->filled), "starts", list_to_json(stream->starts, stream->started));
        if (json_array_append_new(splits, object) < 0) {
            json_decref(splits);
            error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
            return NULL;
        }
    }
    return splits;
}

int packing_restore(struct packing *packing, const json_t *state, struct error *error)
{
    for (int split = 0; split < SPLIT_COUNT; split++) {
        struct stream *stream = &packing->stream[split];
        const json_t *object = json_array_get(state, (size_t)split);
        int64_t sequences, packed, documents;
        if (json_get_integer("packing", object, "sequences", 0, INT64_MAX, &sequences, error) < 0 ||
            json_get_integer("packing", object, "stream", 0, INT64_MAX, &packed, error) < 0 ||
            json_get_integer("packing", object, "documents", 0, INT64_MAX, &documents, error) < 0)
            return -1;
        if (list_from_json(json_object_get(object, "ids"), packing->rules.rows, 0, stream->ids,
                           &stream->filled) < 0 ||
            list_from_json(json_object_get(object, "starts"), packing->rules.rows, 0, stream->starts,
                           &stream->started) < 0)
            return error_set(error, "packing: the list of ids or of document starts is damaged");
        for (int i = 0; i < stream->started; i++)
            if (stream->starts[i] >= stream->filled || (i > 0 && stream->starts[i] <= stream->starts[i - 1]))
                return error_set(error, "packing: the document starts are damaged");
        packing->sequences[split] = (uint64_t)sequences;
        stream->sequences = (uint64_t)packed;
        stream->documents = (uint64_t)documents;
    }
    return 0;
}
