#include "common/base/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

bool size_multiply(size_t a, size_t b, size_t *product)
{
    size_t result;
    if (__builtin_mul_overflow(a, b, &result))
        return false;
    *product = result;
    return true;
}

bool size_add(size_t a, size_t b, size_t *sum)
{
    size_t result;
    if (__builtin_add_overflow(a, b, &result))
        return false;
    *sum = result;
    return true;
}

void *memory_alloc(size_t count, size_t size, struct error *error)
{
    size_t bytes;
    if (!size_multiply(count, size, &bytes) || bytes > SIZE_MAX / 2) {
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory: %zu objects of %zu bytes cannot be addressed",
                       count, size);
        return NULL;
    }
    void *block = NULL;
    if (posix_memalign(&block, 64, bytes ? bytes : 1) != 0) {
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory: %zu bytes could not be had", bytes);
        return NULL;
    }
    memset(block, 0, bytes);
    return block;
}

int memory_grow(void **pointer, size_t *capacity, size_t needed, size_t size, struct error *error)
{
    if (needed <= *capacity)
        return 0;
    size_t count = *capacity > SIZE_MAX / 2 ? needed : *capacity * 2, bytes;
    if (count < needed)
        count = needed;
    if (count < 16)
        count = 16;
    void *block = size_multiply(count, size, &bytes) ? realloc(*pointer, bytes) : NULL;
    if (!block)
        return error_set_kind(error, ERROR_NO_MEMORY,
                              "out of memory: %zu objects of %zu bytes could not be had", count, size);
    memset((char *)block + *capacity * size, 0, (count - *capacity) * size);
    *pointer = block;
    *capacity = count;
    return 0;
}

char *string_copy(const char *text, struct error *error)
{
    size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    if (!copy) {
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory: %zu bytes could not be had", size);
        return NULL;
    }
    return memcpy(copy, text, size);
}

size_t memory_peak(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    size_t kilobytes = 0;
    char line[256];
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %zu kB", &kilobytes) == 1)
            break;
    fclose(file);
    return kilobytes * 1024;
}
