/* A GGUF file: header, metadata, tensors, and what a model and a tokenizer make of them. */
#include <unistd.h>

#include "common/model/model.h"
#include "common/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error;
    struct gguf *gguf = NULL;
    struct tokenizer *tokenizer = NULL;
    char path[32];
    int file = fuzz_file(data, size, path);
    if (gguf_open(path, &gguf, &error) == 0 && tokenizer_open(gguf, NULL, &tokenizer, &error) == 0) {
        struct token_list ids = {0};
        tokenizer_encode(tokenizer, "a b\n12 \xc3\xa9", 9, TOKENIZER_SPECIAL, &ids, &error);
        free(ids.data);
    }
    tokenizer_close(tokenizer);
    gguf_close(gguf);
    close(file);
    return 0;
}
