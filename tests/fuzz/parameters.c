/* Parameters of every codec that has some; the first two bytes are the columns. */
#include "common/codec/codec.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error;
    struct coder *coder;
    if (size < 2)
        return 0;
    const int64_t cols = 1 + data[0] + 256 * (data[1] % 4);
    for (int i = 0; codec_table()[i]; i++)
        if (codec_table()[i]->prepare &&
            coder_create(codec_table()[i], data + 2, size - 2, cols, &coder, &error) == 0)
            coder_destroy(coder);
    return 0;
}
