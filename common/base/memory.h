/* memory.h: allocations whose sizes are checked before they are used.
 *
 *     float *x = NULL;
 *     if (array_alloc(&x, rows * cols, error) < 0) goto done;     // zeroed, 64-byte aligned
 *     ...
 *     done: free(x);
 */
#ifndef OFFRAMP_BASE_MEMORY_H
#define OFFRAMP_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base/error.h"

/* *product = a * b; false, and *product untouched, when it does not fit in size_t. */
bool size_multiply(size_t a, size_t b, size_t *product);

/* *sum = a + b; false, and *sum untouched, when it does not fit in size_t. */
bool size_add(size_t a, size_t b, size_t *sum);

/* `count` objects of `size` bytes, zeroed, 64-byte aligned; free() them. With count 0 the result is not NULL, and may not be read.
 * NULL with `error` set when the product overflows or memory is out. */
void *memory_alloc(size_t count, size_t size, struct error *error);

/* memory_alloc for a typed pointer: array_alloc(&x, n, error) sets x; 0, or -1 with x NULL. */
#define array_alloc(pointer, count, error)                                                                     \
    ((*(pointer) = memory_alloc((size_t)(count), sizeof **(pointer), error)) ? 0 : -1)

/* Grows *pointer so that it holds at least `needed` objects; it is NULL, or comes from here or from realloc. *capacity counts
 * objects, and at least doubles. New objects are zeroed. On error the old block is as it was. free() it. */
int memory_grow(void **pointer, size_t *capacity, size_t needed, size_t size, struct error *error);
#define array_grow(pointer, capacity, needed, error)                                                           \
    memory_grow((void **)(pointer), capacity, needed, sizeof **(pointer), error)

/* strdup that fails like everything else here. NULL with `error` set. */
char *string_copy(const char *text, struct error *error);

/* Bytes of memory that this process can ever have: the machine's, or less where a cgroup or a limit of the shell says so. 0 when
 * the system does not tell. */
uint64_t memory_limit(void);

/* Gives memory that was freed back to the system. free() alone keeps much of it, and what comes next may not fit in the gaps: call this
 * when something large is closed before something else that is large is opened. */
void memory_give_back(void);

/* Peak resident memory of this process in bytes (VmHWM), 0 when the system does not tell. */
size_t memory_peak(void);

#endif
