/* bpe.h: merges the bytes of a pretoken into tokens (Sennrich et al. 2016, arXiv 1508.07909).
 *
 * Of all neighbouring pairs that a merge joins, the one of lowest rank is joined, and of equals the leftmost,
 * until there are no more. With a heap of candidates this takes O(n log n) for a pretoken of n bytes. Many
 * pretokens are tokens themselves, and merging gives just that token: they are looked up instead. Which tokens
 * these are is found out once, by encoding every token.
 *
 *     struct bpe_work work = {0};
 *     bpe_encode(bpe, " the", 4, &work, &ids, error);
 *     bpe_work_free(&work);
 */
#ifndef OFFRAMP_TEXT_BPE_H
#define OFFRAMP_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/text/token_list.h"
#include "common/text/vocab.h"

struct bpe_merge {
    int32_t left, right, joined; /* ids */
};

struct bpe_rules {
    struct bpe_merge *merges; /* [count], by rank, the lowest first; a pair's last rank counts */
    size_t count, capacity;
    bool ignore_merges; /* a pretoken that is a token is that token, whatever the merges say (Llama 3) */
    int32_t unknown; /* for a byte that no token stands for; -1: such bytes are left out */
    bool fuse_unknown; /* one `unknown` for several such bytes in a row */
};

struct bpe;

/* Working memory of one thread, zeroed at first; grows as needed and is used again. */
struct bpe_work {
    struct bpe_symbol *symbols;
    uint64_t *heap; /* rank << 32 | symbol: the smallest first */
    size_t symbol_capacity, heap_capacity, heap_count;
};

/* The vocabulary is borrowed and must outlive the bpe; of the rules nothing is kept. */
int bpe_create(const struct vocab *vocab, const struct bpe_rules *rules, struct bpe **bpe, struct error *error);
void bpe_destroy(struct bpe *bpe); /* NULL is fine */

/* Appends the ids of one pretoken of 1 .. 2^31-1 bytes. Safe from several threads, each with its own work. */
int bpe_encode(const struct bpe *bpe, const char *pretoken, size_t size, struct bpe_work *work,
               struct token_list *ids, struct error *error);
void bpe_work_free(struct bpe_work *work);

#endif
