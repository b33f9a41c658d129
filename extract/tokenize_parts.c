#include "extract/tokenize_parts.h"

#include <pthread.h>

struct tokenizing {
    const struct corpus_rules *rules;
    struct part_list *parts;
    pthread_mutex_t mutex;
    int failed; /* the first part that failed, or -1 */
    struct error error;
};

static int tokenize_text(const struct corpus_rules *rules, struct document_part *part, struct error *error)
{
    const int flags =
        TOKENIZER_SPECIAL | (part->first ? TOKENIZER_BEGIN : 0) | (part->last ? TOKENIZER_END : 0);
    const struct frame_side *behind = &tokenizer_frame(rules->tokenizer)->behind;
    struct token_list *ids = &part->ids;
    if (tokenizer_encode(rules->tokenizer, part->text, part->size, flags, ids, error) < 0)
        return -1;
    if (part->last && behind->count > 0 && behind->id[behind->count - 1] == rules->end)
        ids->count--;
    return 0;
}

static void tokenize_part(void *context, int number, int worker)
{
    struct tokenizing *tokenizing = context;
    struct document_part *part = &tokenizing->parts->part[number];
    struct error error;
    (void)worker;
    if (!part->text || tokenize_text(tokenizing->rules, part, &error) == 0)
        return;
    pthread_mutex_lock(&tokenizing->mutex);
    if (tokenizing->failed < 0 || number < tokenizing->failed) {
        tokenizing->failed = number;
        tokenizing->error = error;
    }
    pthread_mutex_unlock(&tokenizing->mutex);
}

int parts_tokenize(struct pool *pool, const struct corpus_rules *rules, struct part_list *parts,
                   struct error *error)
{
    struct tokenizing tokenizing = {.rules = rules, .parts = parts, .failed = -1};
    pthread_mutex_init(&tokenizing.mutex, NULL);
    pool_run(pool, (int)parts->count, tokenize_part, &tokenizing);
    pthread_mutex_destroy(&tokenizing.mutex);
    if (tokenizing.failed < 0)
        return 0;
    *error = tokenizing.error;
    return -1;
}
