/* A folder with the input as its tokenizer.json; texts are encoded when it opens. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char folder[] = "/tmp/offramp-fuzz-XXXXXX", *made, path[64]; /* one a process */
    const int flags = TOKENIZER_SPECIAL | TOKENIZER_BEGIN | TOKENIZER_END;
    static const char text[] = "Hello, world\n\t 123 don't \xe4\xbd\xa0\xe5\xa5\xbd <|endoftext|> \xff";
    struct error error;
    struct tokenizer *tokenizer = NULL;
    if (!made) {
        made = mkdtemp(folder);
        snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    }
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
    if (tokenizer_open(NULL, folder, &tokenizer, &error) == 0) {
        struct token_list ids = {0};
        if (tokenizer_encode(tokenizer, text, sizeof text - 1, flags, &ids, &error) == 0)
            for (size_t i = 0; i < ids.count; i++) {
                const char *bytes;
                size_t length;
                tokenizer_decode(tokenizer, ids.data[i], &bytes, &length);
            }
        free(ids.data);
    }
    tokenizer_close(tokenizer);
    return 0;
}
