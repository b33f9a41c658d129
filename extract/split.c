#include "extract/split.h"

#include <string.h>

#include "common/base/cli.h"
#include "common/store/runs.h"
#include "extract/tokenize_parts.h"

#define READ_BYTES ((size_t)256 << 10)

static const struct {
    const char *name, *text;
} ways[HOLDING_COUNT] = {
    {"none", "nothing is held out"},
    {"documents", "whole documents are held out"},
    {"runs",
     "documents are too few to hold some out, so runs of sequences are, and those beside them left out"},
    {"corpus", "the held-out corpus is held out"},
};

const char *holding_name(enum holding holding)
{
    return ways[holding].name;
}

enum holding holding_find(const char *name)
{
    enum holding holding = HOLDING_NONE;
    while (holding < HOLDING_COUNT && (!name || strcmp(ways[holding].name, name) != 0))
        holding++;
    return holding;
}

const char *holding_text(enum holding holding)
{
    return ways[holding].text;
}

/* Whether the documents of each split have so many tokens, ends of documents included. */
static int find_tokens(const struct corpus_list *list, const struct corpus_rules *rules, struct pool *pool,
                       const uint64_t least[SPLIT_COUNT], bool found[SPLIT_COUNT], struct error *error)
{
    uint64_t tokens[SPLIT_COUNT] = {0};
    struct part_list parts = {0};
    struct corpus *corpus;
    if (corpus_open(list, rules, NULL, &corpus, error) < 0)
        return -1;
    int result = 0;
    do {
        part_list_clear(&parts);
        for (int split = 0; split < SPLIT_COUNT; split++)
            found[split] = tokens[split] >= least[split];
        const bool wanted[SPLIT_COUNT] = {!found[SPLIT_TRAIN], !found[SPLIT_HELD_OUT]};
        if (cli_interrupted())
            result = error_set_kind(error, ERROR_INTERRUPTED, "interrupted before anything was stored");
        if (result == 0 && (wanted[SPLIT_TRAIN] || wanted[SPLIT_HELD_OUT]))
            result = corpus_read(corpus, wanted, READ_BYTES, &parts, error);
        if (result == 0)
            result = parts_tokenize(pool, rules, &parts, error);
        for (size_t i = 0; i < parts.count && result == 0; i++)
            tokens[parts.part[i].split] += parts.part[i].ids.count + (parts.part[i].last && rules->end >= 0);
    } while (result == 0 && parts.count > 0);
    part_list_free(&parts);
    corpus_close(corpus);
    return result;
}

static bool has_held_out_files(const struct corpus_list *list)
{
    return list->count > 0 && list->file[list->count - 1].held_out;
}

static int refuse(const char *what, const char *sequences, int rows, const char *other, struct error *error)
{
    return error_set(error, "%s not fill %s of %d tokens: give more text, or a smaller --seq-len%s", what,
                     sequences, rows, other);
}

/* Of a corpus without a single token, there is more to say than that it is short. */
static int check_not_empty(const struct corpus_list *list, const struct corpus_rules *rules, struct pool *pool,
                           struct error *error)
{
    const uint64_t least[SPLIT_COUNT] = {1, 0};
    struct corpus_rules together = *rules;
    bool found[SPLIT_COUNT];
    together.held_out = 0;
    if (find_tokens(list, &together, pool, least, found, error) < 0)
        return -1;
    return found[SPLIT_TRAIN]
               ? 0
               : error_set(error, "--corpus: is empty: there is not one token in its files (%s is the first)",
                           list->file[0].path);
}

/* Nothing but documents of their own split; `held_out`: some are wanted. */
static int check_documents(const bool found[SPLIT_COUNT], bool held_out, int rows, struct error *error)
{
    if (!found[SPLIT_TRAIN])
        return refuse("the training documents do", "one sequence", rows, "", error);
    if (held_out && !found[SPLIT_HELD_OUT])
        return refuse("--held-out-corpus: the documents do", "one sequence", rows, "", error);
    return 0;
}

static int choose(const struct corpus_list *list, const struct corpus_rules *rules, int rows, struct pool *pool,
                  enum holding *holding, struct error *error)
{
    const uint64_t one = (uint64_t)rows + 1;
    const bool files = has_held_out_files(list), share = rules->held_out > 0;
    const uint64_t least[SPLIT_COUNT] = {one, files || share ? one : 0};
    const uint64_t least_runs[SPLIT_COUNT] = {RUNS_LEAST * (uint64_t)rows + 1, 0};
    struct corpus_rules together = *rules;
    bool found[SPLIT_COUNT];
    *holding = files ? HOLDING_CORPUS : share ? HOLDING_DOCUMENTS : HOLDING_NONE;
    if (find_tokens(list, rules, pool, least, found, error) < 0)
        return -1;
    if (!found[SPLIT_TRAIN] && check_not_empty(list, rules, pool, error) < 0)
        return -1;
    if (files || !share)
        return check_documents(found, files, rows, error);
    if (found[SPLIT_TRAIN] && found[SPLIT_HELD_OUT])
        return 0;
    *holding = HOLDING_RUNS;
    together.held_out = 0;
    if (find_tokens(list, &together, pool, least_runs, found, error) < 0)
        return -1;
    return found[SPLIT_TRAIN]
               ? 0
               : refuse("there are too few documents to hold some out, and for a split by "
                        "sequences the corpus does",
                        "three sequences", rows, " (or --held-out 0: a store without a split)", error);
}

int split_choose(const struct corpus_list *list, const struct corpus_rules *rules, int rows, int threads,
                 enum holding *holding, struct error *error)
{
    struct pool *pool;
    if (pool_create(threads, &pool, error) < 0)
        return -1;
    const int result = choose(list, rules, rows, pool, holding, error);
    pool_destroy(pool);
    return result;
}
