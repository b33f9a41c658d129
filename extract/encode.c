#include "extract/encode.h"

#include <pthread.h>

struct encoding {
    const struct corpus_rules *rules;
    struct piece_list *pieces;
    pthread_mutex_t mutex;
    int failed; /* the first piece that failed, or -1 */
    struct error error;
};

static int encode_text(const struct corpus_rules *rules, struct piece *piece, struct error *error)
{
    const int flags =
        TOKENIZER_SPECIAL | (piece->first ? TOKENIZER_BEGIN : 0) | (piece->last ? TOKENIZER_END : 0);
    const struct frame_side *behind = &tokenizer_frame(rules->tokenizer)->behind;
    struct token_list *ids = &piece->ids;
    if (tokenizer_encode(rules->tokenizer, piece->text, piece->size, flags, ids, error) < 0)
        return -1;
    if (piece->last && behind->count > 0 && behind->id[behind->count - 1] == rules->end)
        ids->count--;
    return 0;
}

static void encode_piece(void *context, int number, int worker)
{
    struct encoding *encoding = context;
    struct piece *piece = &encoding->pieces->piece[number];
    struct error error;
    (void)worker;
    if (!piece->text || encode_text(encoding->rules, piece, &error) == 0)
        return;
    pthread_mutex_lock(&encoding->mutex);
    if (encoding->failed < 0 || number < encoding->failed) {
        encoding->failed = number;
        encoding->error = error;
    }
    pthread_mutex_unlock(&encoding->mutex);
}

int pieces_encode(struct pool *pool, const struct corpus_rules *rules, struct piece_list *pieces,
                  struct error *error)
{
    struct encoding encoding = {.rules = rules, .pieces = pieces, .failed = -1};
    pthread_mutex_init(&encoding.mutex, NULL);
    pool_run(pool, (int)pieces->count, encode_piece, &encoding);
    pthread_mutex_destroy(&encoding.mutex);
    if (encoding.failed < 0)
        return 0;
    *error = encoding.error;
    return -1;
}
