#include "common/model/tensor.h"

#include <sys/mman.h>
#include <unistd.h>

/* Of the pages that belong to this tensor alone. */
static void advise(const struct tensor *tensor, int advice)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = ((uintptr_t)tensor->data + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)tensor->data + tensor->bytes) / page * page;
    if (from < to)
        madvise((void *)from, to - from, advice);
}

void tensor_read_ahead(const struct tensor *tensor)
{
    advise(tensor, MADV_WILLNEED);
}

void tensor_release(const struct tensor *tensor)
{
    advise(tensor, MADV_DONTNEED);
}
