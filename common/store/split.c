#include "common/store/split.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

#define RUNS_MAX 100000

void split_free(struct split_list *list)
{
    free(list->run);
    *list = (struct split_list){0};
}

int split_add(struct split_list *list, uint64_t from, uint64_t first, uint64_t end, uint64_t to,
              struct error *error)
{
    const struct split_run *last = list->runs > 0 ? &list->run[list->runs - 1] : NULL;
    if (from < (last ? last->to : 0) || from > first || first >= end || end > to || to > INT64_MAX)
        return error_set(error, "run %zu of the split is out of order", list->runs);
    struct split_run run = {.from = from, .first = first, .end = end, .to = to, .train = from};
    if (last) {
        run.train = last->train + from - last->to;
        run.held_out = last->held_out + last->end - last->first;
    }
    if (array_grow(&list->run, &list->capacity, list->runs + 1, error) < 0)
        return -1;
    list->run[list->runs++] = run;
    return 0;
}

/* ---- in the manifest ---- */

static int parse_run(const json_t *numbers, struct split_list *list, struct error *error)
{
    uint64_t value[4];
    if (json_array_size(numbers) != 4)
        return error_set(error, "run %zu of the split is not four numbers", list->runs);
    for (size_t i = 0; i < 4; i++) {
        const json_t *number = json_array_get(numbers, i);
        if (!json_is_integer(number) || json_integer_value(number) < 0)
            return error_set(error, "run %zu of the split is not four numbers", list->runs);
        value[i] = (uint64_t)json_integer_value(number);
    }
    return split_add(list, value[0], value[1], value[2], value[3], error);
}

int split_parse(const char *name, const json_t *manifest, struct split_list *list, struct error *error)
{
    const json_t *object = json_object_get(manifest, "split"), *runs = json_object_get(object, "runs");
    const size_t count = json_array_size(runs);
    int result = 0;
    if (!object)
        return 0;
    if (!json_is_array(runs) || count > RUNS_MAX)
        return error_set(error, "%s: \"split\" has no list of runs", name);
    for (size_t i = 0; i < count && result == 0; i++)
        result = parse_run(json_array_get(runs, i), list, error);
    if (result < 0) {
        split_free(list);
        error_prefix(error, "%s", name);
    }
    return result;
}

json_t *split_to_json(const struct split_list *list, double held_out, const char *by, struct error *error)
{
    json_t *runs = json_array();
    bool whole = runs != NULL;
    for (size_t i = 0; i < list->runs && whole; i++) {
        const struct split_run *run = &list->run[i];
        whole = json_array_append_new(runs, json_pack("[IIII]", (json_int_t)run->from, (json_int_t)run->first,
                                                      (json_int_t)run->end, (json_int_t)run->to)) == 0;
    }
    json_t *object = whole ? json_pack("{s:f, s:s, s:O}", "held_out", held_out, "by", by, "runs", runs) : NULL;
    json_decref(runs);
    if (!object)
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory for the split's runs");
    return object;
}

/* ---- numbers ---- */

/* How many of first .. end-1 lie below `bound` and in the shard. */
static uint64_t count_between(uint64_t first, uint64_t end, uint64_t bound, int shard, int shards)
{
    const uint64_t n = (uint64_t)shards, behind = n - 1 - (uint64_t)shard;
    end = end < bound ? end : bound;
    return end > first ? (end + behind) / n - (first + behind) / n : 0;
}

static uint64_t count_runs(const struct split_list *list, enum split split, uint64_t bound, int shard,
                           int shards)
{
    uint64_t count = 0;
    for (size_t i = 0; i < list->runs; i++) {
        const struct split_run *run = &list->run[i];
        count += split == SPLIT_TRAIN ? count_between(run->from, run->to, bound, shard, shards)
                                      : count_between(run->first, run->end, bound, shard, shards);
    }
    return count;
}

uint64_t split_count_shard(const struct split_list *list, enum split split, const uint64_t stored[SPLIT_COUNT],
                           int shard, int shards)
{
    const uint64_t bound = shard_sequence(shard, shards, SPLIT_TRAIN, stored[SPLIT_TRAIN]).index;
    const uint64_t runs = count_runs(list, split, bound, shard, shards);
    return split == SPLIT_TRAIN ? stored[split] - runs : stored[split] + runs;
}

uint64_t split_count(const struct split_list *list, enum split split, const uint64_t stored[SPLIT_COUNT])
{
    return split_count_shard(list, split, stored, 0, 1);
}

/* The last run that has at most `index` sequences of the split before it, or NULL. */
static const struct split_run *find_run(const struct split_list *list, struct sequence sequence)
{
    size_t low = 0, high = list->runs; /* it is below high */
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const struct split_run *run = &list->run[middle];
        if ((sequence.split == SPLIT_TRAIN ? run->train : run->held_out) <= sequence.index)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &list->run[low - 1] : NULL;
}

struct sequence split_stored(const struct split_list *list, struct sequence sequence, uint64_t held_out)
{
    if (list->runs == 0 || (sequence.split == SPLIT_HELD_OUT && sequence.index < held_out))
        return sequence;
    if (sequence.split == SPLIT_HELD_OUT)
        sequence.index -= held_out;
    const struct split_run *run = find_run(list, sequence);
    if (!run)
        return sequence;
    const uint64_t index = sequence.split == SPLIT_TRAIN ? run->to + sequence.index - run->train
                                                         : run->first + sequence.index - run->held_out;
    return (struct sequence){SPLIT_TRAIN, index};
}
