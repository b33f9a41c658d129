#include "common/base/blas.h"

#include <dlfcn.h>
#include <string.h>

void blas_use_one_thread(void)
{
    void (*set_threads)(int) = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
    memcpy(&set_threads, &symbol, sizeof set_threads);
    if (set_threads)
        set_threads(1);
}
