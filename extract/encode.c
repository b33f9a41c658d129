#include "extract/encode.h"

#include <pthread.h>

struct encoding {
    const struct tokenizer *tokenizer;
    struct piece_list *pieces;
    pthread_mutex_t mutex;
    int failed; /* the first piece that failed, or -1 */
    struct error error;
};

static void encode_piece(void *context, int number, int worker)
{
    struct encoding *encoding = context;
    struct piece *piece = &encoding->pieces->piece[number];
    struct error error;
    (void)worker;
    if (!piece->text || tokenizer_encode(encoding->tokenizer, piece->text, piece->size, TOKENIZER_SPECIAL,
                                         &piece->ids, &error) == 0)
        return;
    pthread_mutex_lock(&encoding->mutex);
    if (encoding->failed < 0 || number < encoding->failed) {
        encoding->failed = number;
        encoding->error = error;
    }
    pthread_mutex_unlock(&encoding->mutex);
}

int pieces_encode(struct pool *pool, const struct tokenizer *tokenizer, struct piece_list *pieces,
                  struct error *error)
{
    struct encoding encoding = {.tokenizer = tokenizer, .pieces = pieces, .failed = -1};
    pthread_mutex_init(&encoding.mutex, NULL);
    pool_run(pool, (int)pieces->count, encode_piece, &encoding);
    pthread_mutex_destroy(&encoding.mutex);
    if (encoding.failed < 0)
        return 0;
    *error = encoding.error;
    return -1;
}
