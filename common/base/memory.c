#include "common/base/memory.h"

#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

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

/* The number in a file that may not be there; UINT64_MAX without one ("max"). */
static uint64_t read_limit(const char *path)
{
    unsigned long long value = 0;
    FILE *file = fopen(path, "re");
    const bool found = file && fscanf(file, "%llu", &value) == 1;
    if (file)
        fclose(file);
    return found ? value : UINT64_MAX;
}

uint64_t memory_limit(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    const uint64_t machine = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    const uint64_t bounds[] = {machine, read_limit("/sys/fs/cgroup/memory.max"),
                               read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
                               limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit.rlim_cur};
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        least = bounds[i] < least ? bounds[i] : least;
    return least == UINT64_MAX ? 0 : least;
}

void memory_give_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
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
