#include "common/text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

static const uint32_t no_merge = UINT32_MAX;

/* What a pair of neighbours becomes. `pair` is left << 32 | right. */
struct merge_slot {
    uint64_t pair;
    uint32_t rank; /* no_merge: free */
    int32_t joined;
};

struct bpe {
    const struct vocab *vocab;
    struct merge_slot *slots; /* open addressing, at most half of them taken */
    size_t mask;
    int32_t bytes[256]; /* the token of one byte, or -1 */
    unsigned char *whole; /* [ids]: a piece with this token's bytes is this token */
    int32_t unknown;
    bool fuse_unknown;
};

/* A token of the piece as far as it is merged; they form a chain from left to right. */
struct bpe_symbol {
    int32_t id, joined; /* joined: what it and the next become */
    uint32_t rank; /* of that merge; no_merge when there is none, or this symbol has gone */
    uint32_t previous, next; /* indices; `none` at the ends */
};

static const uint32_t none = UINT32_MAX;

static struct merge_slot *find_slot(const struct bpe *bpe, uint64_t pair)
{
    uint64_t hash = pair * UINT64_C(0x9E3779B97F4A7C15); /* Fibonacci hashing: the high bits are mixed best */
    size_t at = (size_t)(hash >> 32) & bpe->mask;
    while (bpe->slots[at].rank != no_merge && bpe->slots[at].pair != pair)
        at = (at + 1) & bpe->mask;
    return &bpe->slots[at];
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static int fill_slots(struct bpe *bpe, const struct bpe_rules *rules, struct error *error)
{
    size_t slots = 16;
    if (rules->count >= VOCAB_LIMIT * (size_t)4)
        return error_set(error, "%zu merges, more than the %d that are possible", rules->count,
                         VOCAB_LIMIT * 4);
    while (slots / 2 < rules->count)
        slots *= 2;
    bpe->mask = slots - 1;
    if (array_alloc(&bpe->slots, slots, error) < 0)
        return -1;
    for (size_t i = 0; i < slots; i++)
        bpe->slots[i].rank = no_merge;
    for (size_t rank = 0; rank < rules->count; rank++) {
        const struct bpe_merge *merge = &rules->merges[rank];
        uint64_t pair = pair_of(merge->left, merge->right);
        *find_slot(bpe, pair) =
            (struct merge_slot){.pair = pair, .rank = (uint32_t)rank, .joined = merge->joined};
    }
    return 0;
}

static int heap_push(struct bpe_work *work, uint64_t value, struct error *error)
{
    if (array_grow(&work->heap, &work->heap_capacity, work->heap_count + 1, error) < 0)
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
    const struct merge_slot *slot = find_slot(bpe, pair_of(symbol->id, work->symbols[symbol->next].id));
    if (slot->rank == no_merge)
        return 0;
    symbol->rank = slot->rank;
    symbol->joined = slot->joined;
    return heap_push(work, (uint64_t)slot->rank << 32 | at, error);
}

/* One symbol a byte. Bytes without a token of their own become `unknown` or are left out. */
static uint32_t fill_symbols(const struct bpe *bpe, const char *piece, size_t size, struct bpe_symbol *symbols)
{
    uint32_t count = 0;
    bool fusing = false;
    for (size_t i = 0; i < size; i++) {
        int32_t id = bpe->bytes[(unsigned char)piece[i]];
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
    left->id = left->joined;
    left->next = right->next;
    right->rank = no_merge;
    if (left->next != none)
        work->symbols[left->next].previous = at;
    if (left->previous != none && propose(bpe, work, left->previous, error) < 0)
        return -1;
    return propose(bpe, work, at, error);
}

static int merge_piece(const struct bpe *bpe, const char *piece, size_t size, struct bpe_work *work,
                       struct token_list *ids, struct error *error)
{
    if (array_grow(&work->symbols, &work->symbol_capacity, size, error) < 0)
        return -1;
    uint32_t count = fill_symbols(bpe, piece, size, work->symbols);
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
        if (!all && merge_piece(bpe, token->bytes, token->size, &work, &ids, error) < 0)
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
        new->bytes[byte] = vocab_piece(vocab, &(char){(char)byte}, 1);
    if (fill_slots(new, rules, error) < 0 || find_whole(new, rules->ignore_merges, error) < 0) {
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
    free(bpe->slots);
    free(bpe->whole);
    free(bpe);
}

int bpe_encode(const struct bpe *bpe, const char *piece, size_t size, struct bpe_work *work,
               struct token_list *ids, struct error *error)
{
    if (size > INT32_MAX)
        return error_set(error, "a stretch of %zu bytes without a place to split it; at most %d are possible",
                         size, INT32_MAX);
    int32_t id = vocab_piece(bpe->vocab, piece, size);
    if (id >= 0 && bpe->whole[id])
        return token_list_append(ids, id, error);
    return merge_piece(bpe, piece, size, work, ids, error);
}

void bpe_work_free(struct bpe_work *work)
{
    free(work->symbols);
    free(work->heap);
    *work = (struct bpe_work){0};
}
