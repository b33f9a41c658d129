#include "common/base/blas.h"

#include <dlfcn.h>
#include <lapacke.h>
#include <string.h>

void blas_use_one_thread(void)
{
    void (*set_threads)(int) = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
    memcpy(&set_threads, &symbol, sizeof set_threads);
    if (set_threads)
        set_threads(1);
}

int blas_fail(int info, const char *what, struct error *error)
{
    if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR)
        return error_set_kind(error, ERROR_NO_MEMORY, "LAPACK is out of memory");
    return error_set(error, "%s (LAPACK: %d)", what, info);
}
