/* failing_memory.h: allocations that fail, one after another, for tests that let memory run out everywhere in turn.
 *
 *     for (int n = 1; ; n++) {
 *         until_failure = n;                  // the n-th allocation from now on fails, and only that
 *         failed = false;
 *         result = use(&error);
 *         if (!failed)
 *             break;                          // there are fewer than n
 *     }
 *
 * build.mk gives the linker of such a program the names below (FAILING_MEMORY). One file of a program includes this.
 */
#ifndef OFFRAMP_TESTS_FAILING_MEMORY_H
#define OFFRAMP_TESTS_FAILING_MEMORY_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

static int until_failure; /* 0: none fails */
static bool failed;

static bool fails_now(void)
{
    if (until_failure == 0 || --until_failure > 0)
        return false;
    failed = true;
    return true;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);
int __real_posix_memalign(void **block, size_t alignment, size_t size);
int __wrap_posix_memalign(void **block, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size)
{
    return fails_now() ? NULL : __real_realloc(block, size);
}

int __wrap_posix_memalign(void **block, size_t alignment, size_t size)
{
    return fails_now() ? ENOMEM : __real_posix_memalign(block, alignment, size);
}

#endif
