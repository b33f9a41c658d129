/* A safetensors file: its header, and every tensor's bytes. */
#include <unistd.h>

#include "common/base/hash.h"
#include "common/model/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error;
    struct safetensors *tensors = NULL;
    char path[32];
    int file = fuzz_file(data, size, path);
    if (safetensors_open(path, &tensors, &error) == 0)
        for (size_t i = 0; i < safetensors_count(tensors); i++)
            hash_bytes(safetensors_tensor(tensors, i)->data, safetensors_tensor(tensors, i)->bytes, 0);
    safetensors_close(tensors);
    close(file);
    return 0;
}
