#include "common/model/tensor.h"

#include <sys/mman.h>
#include <unistd.h>

static uintptr_t page_size(void)
{
    return (uintptr_t)sysconf(_SC_PAGESIZE);
}

/* Only pages that belong to this tensor alone. */
static void advise(const struct tensor *tensor, int advice)
{
    const uintptr_t page = page_size();
    const uintptr_t from = ((uintptr_t)tensor->data + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)tensor->data + tensor->bytes) / page * page;
    if (from < to)
        madvise((void *)from, to - from, advice);
}

/* Asks for all pages at once, then waits for each. */
void tensor_read(const struct tensor *tensor)
{
    const volatile unsigned char *bytes = tensor->data;
    const size_t page = page_size();
    advise(tensor, MADV_WILLNEED);
    for (size_t i = 0; i < tensor->bytes; i += page)
        (void)bytes[i];
}

void tensor_release(const struct tensor *tensor)
{
    advise(tensor, MADV_DONTNEED);
}
