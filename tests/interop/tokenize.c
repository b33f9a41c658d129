/* Prints the token ids of texts, for tests/interop/tokenizer.py.
 *
 *     tokenize MODEL.gguf|FOLDER encode [plain] < records      one line of ids a record
 *     tokenize MODEL.gguf|FOLDER bytes                         one line of hexadecimal bytes a token
 *
 * A record is its size (4 bytes, little-endian) and so many bytes. The rate goes to stderr.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/text/tokenizer.h"

/* Processor time, so that what else the machine does is not counted. */
static double busy_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* 1, 0 at the end, -1. */
static int read_record(char **text, size_t *capacity, size_t *size, struct error *error)
{
    unsigned char head[4];
    if (fread(head, 1, sizeof head, stdin) != sizeof head)
        return 0;
    *size = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    if (array_grow(text, capacity, *size + 1, error) < 0)
        return -1;
    return fread(*text, 1, *size, stdin) == *size ? 1 : error_set(error, "the last record is cut short");
}

static int encode_records(const struct tokenizer *tokenizer, int flags, struct error *error)
{
    struct token_list ids = {0};
    char *text = NULL;
    size_t capacity = 0, size, bytes = 0, tokens = 0;
    double seconds = 0;
    int result;
    while ((result = read_record(&text, &capacity, &size, error)) > 0) {
        double start = busy_seconds();
        ids.count = 0;
        result = tokenizer_encode(tokenizer, text, size, flags, &ids, error);
        seconds += busy_seconds() - start;
        if (result < 0)
            break;
        for (size_t i = 0; i < ids.count; i++)
            printf(i ? " %" PRId32 : "%" PRId32, ids.data[i]);
        printf("\n");
        bytes += size;
        tokens += ids.count;
    }
    fprintf(stderr, "%zu bytes, %zu tokens, %.1f MB/s in one thread\n", bytes, tokens,
            (double)bytes / 1e6 / seconds);
    free(ids.data);
    free(text);
    return result;
}

static void print_bytes(const struct tokenizer *tokenizer)
{
    for (int32_t id = 0; id < tokenizer_size(tokenizer); id++) {
        const char *bytes;
        size_t size;
        tokenizer_decode(tokenizer, id, &bytes, &size);
        for (size_t i = 0; i < size; i++)
            printf("%02x", (unsigned char)bytes[i]);
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    struct error error = {0};
    struct gguf *gguf = NULL;
    struct tokenizer *tokenizer = NULL;
    int result = -1;
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL.gguf|FOLDER encode|bytes [plain]\n", argv[0]);
        return 2;
    }
    double start = clock_seconds();
    if (!path_is_directory(argv[1]) && gguf_open(argv[1], &gguf, &error) < 0)
        goto done;
    if (tokenizer_open(gguf, argv[1], &tokenizer, &error) < 0)
        goto done;
    char fingerprint[17];
    tokenizer_fingerprint(tokenizer, fingerprint);
    fprintf(stderr, "%s: %d ids, end of text %" PRId32 ", fingerprint %s, opened in %.2f s\n", argv[1],
            tokenizer_size(tokenizer), tokenizer_end(tokenizer), fingerprint, clock_seconds() - start);
    result = 0;
    if (strcmp(argv[2], "bytes") == 0)
        print_bytes(tokenizer);
    else
        result = encode_records(tokenizer, argc > 3 ? TOKENIZER_PLAIN : TOKENIZER_SPECIAL, &error);
done:
    if (result < 0)
        fprintf(stderr, "%s: %s\n", argv[0], error.text);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
    return result < 0;
}
