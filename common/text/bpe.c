#include "common/text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash_index.h"
#include "common/base/memory.h"

static const uint32_t no_merge = HASH_INDEX_END;

struct bpe {
    const struct vocab *vocab;
    int32_t *joined; /* [ranks]: what the pair of that rank becomes */
    struct hash_index ranks; /* of pairs: left << 32 | right */
    int32_t bytes[256]; /* the token of one byte, or -1 */
    unsigned char *whole; /* [ids]: a pretoken with this token's bytes is this token */
    int32_t unknown;
    bool fuse_unknown;
};

/* A token of the pretoken as far as it is merged; they form a chain from left to right. */
struct bpe_symbol {
    int32_t id;
    uint32_t rank; /* of its merge with the next; no_merge when there is none, or this symbol has gone */
    uint32_t previous, next; /* indices; `none` at the ends */
};

static const uint32_t none = UINT32_MAX;

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The rank of the merge of two neighbours, or no_merge. */
static uint32_t find_rank(const struct bpe *bpe, int32_t left, int32_t right)
{
    struct hash_probe probe = {.key = pair_of(left, right)};
    return hash_index_next(&bpe->ranks, &probe);
}

static int fill_merges(struct bpe *bpe, const struct bpe_rules *rules, struct error *error)
{
    if (rules->count >= VOCAB_LIMIT * (size_t)4)
        return error_set(error, "%zu merges, more than the %d that are possible", rules->count,
                         VOCAB_LIMIT * 4);
    if (array_alloc(&bpe->joined, rules->count, error) < 0)
        return -1;
    for (uint32_t rank = (uint32_t)rules->count; rank-- > 0;) { /* from the last, which counts */
        const struct bpe_merge *merge = &rules->merges[rank];
        bpe->joined[rank] = merge->joined;
        if (find_rank(bpe, merge->left, merge->right) == no_merge &&
            hash_index_put(&bpe->ranks, pair_of(merge->left, merge->right), rank, error) < 0)
            return -1;
    }
    return 0;
}

static int heap_push(struct bpe_work *work, uint64_t value, struct error *error)
{
    if (work->heap_count == work->heap_capacity &&
        array_grow(&work->heap, &work->heap_capacity, work->heap_count + 1, error) < 0)
        return -1;
    uint64_t *heap = work->heap;
    size_t at = work->heap_count++;
    for (; at > 0 && heap[(at - 1) / 2] > value; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = value;
    return 0;
}

static uint64_t heap_pop(struct bpe_work *work)
{
    uint64_t *heap = work->heap, least = heap[0], last = heap[--work->heap_count];
    size_t at = 0, count = work->heap_count;
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return least;
}

/* Looks up what the symbol and the one after it become, and puts that among the candidates. */
static int propose(const struct bpe *bpe, struct bpe_work *work, uint32_t at, struct error *error)
{
    struct bpe_symbol *symbol = &work->symbols[at];
    symbol->rank = no_merge;
    if (symbol->next == none)
        return 0;
    const uint32_t rank = find_rank(bpe, symbol->id, work->symbols[symbol->next].id);
    if (rank == no_merge)
        return 0;
    symbol->rank = rank;
    return heap_push(work, (uint64_t)rank << 32 | at, error);
}

/* One symbol a byte. Bytes without a token of their own become `unknown` or are left out. */
static uint32_t fill_symbols(const struct bpe *bpe, const char *pretoken, size_t size,
                             struct bpe_symbol *symbols)
{
    uint32_t count = 0;
    bool fusing = false;
    for (size_t i = 0; i < size; i++) {
        int32_t id = bpe->bytes[(unsigned char)pretoken[i]];
        bool known = id >= 0;
        if (!known && (bpe->unknown < 0 || (fusing && bpe->fuse_unknown)))
            continue;
        fusing = !known;
        symbols[count] = (struct bpe_symbol){.id = known ? id : bpe->unknown,
                                             .rank = no_merge,
                                             .previous = count ? count - 1 : none,
                                             .next = none};
        if (count)
            symbols[count - 1].next = count;
        count++;
    }
    return count;
}

/* Joins the symbol with the next one, and proposes the two pairs that this makes. */
static int join(const struct bpe *bpe, struct bpe_work *work, uint32_t at, struct error *error)
{
    struct bpe_symbol *left = &work->symbols[at], *right = &work->symbols[left->next];
    left->id = bpe->joined[left->rank];
    left->next = right->next;
    right->rank = no_merge;
    if (left->next != none)
        work->symbols[left->next].previous = at;
    if (left->previous != none && propose(bpe, work, left->previous, error) < 0)
        return -1;
    return propose(bpe, work, at, error);
}

static int merge_pretoken(const struct bpe *bpe, const char *pretoken, size_t size, struct bpe_work *work,
                          struct token_list *ids, struct error *error)
{
    if (array_grow(&work->symbols, &work->symbol_capacity, size, error) < 0)
        return -1;
    uint32_t count = fill_symbols(bpe, pretoken, size, work->symbols);
    work->heap_count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (propose(bpe, work, i, error) < 0)
            return -1;
    while (work->heap_count) {
        uint64_t candidate = heap_pop(work);
        uint32_t at = (uint32_t)candidate;
        /* A candidate is out of date when its symbol has gone or has another neighbour by now: then the
         * rank differs, since no two pairs have the same one. */
        if (work->symbols[at].rank == (uint32_t)(candidate >> 32) && join(bpe, work, at, error) < 0)
            return -1;
    }
    for (uint32_t i = count ? 0 : none; i != none; i = work->symbols[i].next)
        if (token_list_append(ids, work->symbols[i].id, error) < 0)
            return -1;
    return 0;
}

/* Encodes every token, to know those that merging makes of their bytes. */
static int find_whole(struct bpe *bpe, bool all, struct error *error)
{
    const struct vocab *vocab = bpe->vocab;
    struct bpe_work work = {0};
    struct token_list ids = {0};
    int result = -1;
    if (array_alloc(&bpe->whole, vocab->count, error) < 0)
        goto done;
    for (int32_t id = 0; id < vocab->count; id++) {
        const struct vocab_token *token = &vocab->tokens[id];
        ids.count = 0;
        if (!all && merge_pretoken(bpe, token->bytes, token->size, &work, &ids, error) < 0)
            goto done;
        bpe->whole[id] = all || (ids.count == 1 && ids.data[0] == id);
    }
    result = 0;
done:
    bpe_work_free(&work);
    free(ids.data);
    return result;
}

int bpe_create(const struct vocab *vocab, const struct bpe_rules *rules, struct bpe **bpe, struct error *error)
{
    struct bpe *new = memory_alloc(1, sizeof *new, error);
    *bpe = NULL;
    if (!new)
        return -1;
    new->vocab = vocab;
    new->unknown = rules->unknown;
    new->fuse_unknown = rules->fuse_unknown;
    for (int byte = 0; byte < 256; byte++)
        new->bytes[byte] = vocab_find_bytes(vocab, &(char){(char)byte}, 1);
    if (fill_merges(new, rules, error) < 0 || find_whole(new, rules->ignore_merges, error) < 0) {
        bpe_destroy(new);
        return -1;
    }
    *bpe = new;
    return 0;
}

void bpe_destroy(struct bpe *bpe)
{
    if (!bpe)
        return;
    free(bpe->joined);
    hash_index_free(&bpe->ranks);
    free(bpe->whole);
    free(bpe);
}

int bpe_encode(const struct bpe *bpe, const char *pretoken, size_t size, struct bpe_work *work,
               struct token_list *ids, struct error *error)
{
    if (size > INT32_MAX)
        return error_set(error, "a stretch of %zu bytes without a place to split it; at most %d are possible",
                         size, INT32_MAX);
    int32_t id = vocab_find_bytes(bpe->vocab, pretoken, size);
    if (id >= 0 && bpe->whole[id])
        return token_list_append(ids, id, error);
    return merge_pretoken(bpe, pretoken, size, work, ids, error);
}

void bpe_work_free(struct bpe_work *work)
{
    free(work->symbols);
    free(work->heap);
    *work = (struct bpe_work){0};
}
