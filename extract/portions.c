#include "extract/portions.h"

#include "extract/tokenize_parts.h"

#define READ_BYTES      (4u << 20)
#define READ_LEAST      (64u << 10)
#define BYTES_PER_TOKEN 8 /* more than text has, so that one reading mostly suffices */

static int check_ids(const struct portions *portions, const struct token_list *ids, struct error *error)
{
    for (size_t i = 0; i < ids->count; i++)
        if (ids->data[i] < 0 || ids->data[i] >= portions->rules->vocab)
            return error_set(
                error,
                "the tokenizer has a token %d, the model a vocabulary of %d: they do not belong together",
                ids->data[i], portions->rules->vocab);
    return 0;
}

static int pack_parts(struct portions *portions, struct error *error)
{
    for (size_t i = 0; i < portions->parts.count; i++) {
        const struct document_part *part = &portions->parts.part[i];
        if (check_ids(portions, &part->ids, error) < 0 ||
            packing_append(portions->packing, part->split, part->ids.data, part->ids.count, part->first,
                           part->last, error) < 0)
            return -1;
    }
    return 0;
}

/* Bytes worth reading next: not much more than what is still wanted. */
static size_t next_bytes(const struct portions *portions)
{
    uint64_t wanted = 0;
    for (int split = 0; split < SPLIT_COUNT; split++) {
        uint64_t left = portions->wanted.most[split] - packing_sequences(portions->packing, (enum split)split);
        wanted += left < READ_BYTES ? left : READ_BYTES;
    }
    wanted *= (uint64_t)portions->wanted.rows * BYTES_PER_TOKEN;
    return wanted > READ_BYTES ? READ_BYTES : wanted < READ_LEAST ? READ_LEAST : (size_t)wanted;
}

int portions_advance(struct portions *portions, struct error *error)
{
    bool wanted[SPLIT_COUNT] = {packing_wants(portions->packing, SPLIT_TRAIN),
                                packing_wants(portions->packing, SPLIT_HELD_OUT)};
    part_list_clear(&portions->parts);
    if (corpus_read(portions->corpus, wanted, next_bytes(portions), &portions->parts, error) < 0)
        return -1;
    if (portions->parts.count == 0) {
        portions->complete = true;
        packing_finish(portions->packing);
        return 0;
    }
    return parts_tokenize(portions->pool, portions->rules, &portions->parts, error) < 0 ||
                   pack_parts(portions, error) < 0
               ? -1
               : 0;
}

int portions_create(const struct packing_rules *wanted, const struct corpus_rules *rules, int threads,
                    struct portions *portions, struct error *error)
{
    *portions = (struct portions){.wanted = *wanted, .rules = rules};
    if (packing_create(wanted, &portions->packing, error) < 0)
        return -1;
    return pool_create(threads, &portions->pool, error);
}

int portions_open(struct portions *portions, const struct corpus_list *list,
                  const struct corpus_position *position, struct error *error)
{
    return corpus_open(list, portions->rules, position, &portions->corpus, error);
}

void portions_close(struct portions *portions)
{
    corpus_close(portions->corpus);
    packing_destroy(portions->packing);
    pool_destroy(portions->pool);
    part_list_free(&portions->parts);
}
