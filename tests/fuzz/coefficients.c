/* Bytes for the entropy stage of lossy codecs: the first four choose the path and the shape. */
#include <stdlib.h>
#include <string.h>

#include "common/codec/coefficients.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error;
    static struct codec_worker *worker; /* its tables take longer than a run */
    const struct rans_path *paths;
    const int count = rans_paths(&paths);
    if (size < 4 || (!worker && codec_worker_create(&worker, &error) < 0))
        return 0;
    worker->path = &paths[data[0] % count];
    const int64_t rows = 1 + data[1] % 64, cols = 1 + data[2] + 256 * (data[3] % 2);
    int16_t *values = malloc((size_t)(rows * cols) * sizeof *values);
    unsigned char *bytes = malloc(size); /* of its own, so that a read past it is seen */
    memcpy(bytes, data + 4, size - 4);
    bytes = realloc(bytes, size - 4 ? size - 4 : 1);
    coefficients_decode(worker, bytes, size - 4, rows, cols, values, &error);
    free(bytes);
    free(values);
    return 0;
}
