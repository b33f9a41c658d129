/* A payload for every codec: the first four bytes choose codec and shape. */
#include <stdlib.h>

#include "tests/codec_fixture.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error;
    static struct codec_worker *worker; /* its tables take longer than a run */
    struct coder *coder = NULL;
    int count = 0;
    while (codec_table()[count])
        count++;
    if (size < 4 || (!worker && codec_worker_create(&worker, &error) < 0))
        return 0;
    const int64_t rows = 1 + data[1] % 64, cols = 1 + data[2] + 256 * (data[3] % 2);
    float *states = malloc((size_t)(rows * cols) * sizeof *states);
    unsigned char *payload = malloc(size); /* of its own, so that a read past it is seen */
    for (size_t i = 4; i < size; i++)
        payload[i - 4] = data[i];
    if (codec_fixture_coder(codec_table()[data[0] % count], cols, &coder, &error) == 0)
        coder_decode(coder, worker, payload, size - 4, rows, states, &error);
    coder_destroy(coder);
    free(payload);
    free(states);
    return 0;
}
