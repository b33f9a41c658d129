#include "kernels/cuda_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME "libofframp_cuda.so"

/* Beside the program: where `make` puts it, and a bundle. False when the path does not fit. */
static bool path_beside(char *path, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", path, size);
    if (length <= 0 || (size_t)length >= size)
        return false;
    path[length] = 0;
    char *slash = strrchr(path, '/');
    if (!slash || (size_t)(slash + 1 - path) + sizeof NAME > size)
        return false;
    memcpy(slash + 1, NAME, sizeof NAME);
    return true;
}

const struct backend_table *cuda_library_table(struct error *error)
{
    char beside[4096];
    const char *path = getenv("OFFRAMP_CUDA_LIBRARY");
    if (!path || !*path)
        path = path_beside(beside, sizeof beside) ? beside : NAME;
    if (access(path, F_OK) < 0) {
        error_set(error, "%s is not there; what makes it: pipelines/setup.sh --cuda && make", path);
        return NULL;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *reason = dlerror(), *slash = strrchr(path, '/');
        if (strstr(reason, "libcublas"))
            error_set(error,
                      "%s; cuBLAS 13 comes with a CUDA 13 toolkit, or by: python3 -m pip install --target "
                      "%.*s/cuda 'nvidia-cublas==13.*'",
                      reason, slash ? (int)(slash - path) : 1, slash ? path : ".");
        else
            error_set(error, "%s", reason);
        return NULL;
    }
    /* ISO C has no cast from an object's address to a function's; POSIX does. */
    const struct backend_table *(*table)(void);
    void *symbol = dlsym(library, "offramp_cuda_table");
    memcpy(&table, &symbol, sizeof table);
    if (!symbol) {
        error_set(error, "%s is not a cuda backend of offramp", path);
        return NULL;
    }
    return table();
}
