#include "kernels/cuda_library.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME       "libofframp_cuda.so"
#define SYMBOL     "offramp_cuda_library"
#define OLD_SYMBOL "offramp_cuda_table" /* of libraries that did not say what they are */
#define MAKE       "pipelines/setup.sh --cuda && make, and make install where the programs are installed"

/* Cuts a path's last part off, with its slash; false where it has none. */
static bool cut_last(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
    return slash != NULL;
}

/* folder/NAME; false where there is no such file. */
static bool is_in(const char *folder, char *path, size_t size)
{
    return (size_t)snprintf(path, size, "%s/" NAME, folder) < size && access(path, F_OK) == 0;
}

static int find_library(char *path, size_t size, struct error *error)
{
    const char *wanted = getenv("OFFRAMP_CUDA_LIBRARY");
    char beside[4096] = {0}, installed[4096];
    if (wanted && *wanted) {
        if ((size_t)snprintf(path, size, "%s", wanted) < size && access(path, F_OK) == 0)
            return 0;
        return error_set(error, "%s is not there (OFFRAMP_CUDA_LIBRARY); what makes it: " MAKE, wanted);
    }
    const ssize_t length = readlink("/proc/self/exe", beside, sizeof beside - sizeof "/lib/offramp");
    if (length < 0)
        return error_system(error, "/proc/self/exe, which tells where " NAME " is, cannot be read");
    cut_last(beside);
    strcpy(installed, beside);
    if (cut_last(installed))
        strcat(installed, "/lib/offramp");
    if (is_in(beside, path, size) || is_in(installed, path, size))
        return 0;
    return error_set(error, NAME " is neither in %s nor in %s; what makes it: " MAKE, beside, installed);
}

/* Of the library that `reason` says is not found: the packages differ in name from one release to the next. */
static int explain_cublas(const char *reason, const char *path, struct error *error)
{
    const char *name = strstr(reason, "libcublas"), *dots = name ? strstr(name, ".so.") : NULL,
               *slash = strrchr(path, '/');
    const int release = dots ? atoi(dots + 4) : 0;
    char package[64];
    if (release <= 0)
        return error_set(error, "%s; cuBLAS comes with a CUDA toolkit", reason);
    snprintf(package, sizeof package, release < 13 ? "nvidia-cublas-cu%d" : "nvidia-cublas==%d.*", release);
    return error_set(error,
                     "%s; cuBLAS %d comes with a CUDA %d toolkit, or by: python3 -m pip install --target "
                     "%.*s/cuda '%s'",
                     reason, release, release, slash ? (int)(slash - path) : 1, slash ? path : ".", package);
}

/* NULL unless it was made with this program. */
static const struct backend_table *checked_table(const struct cuda_library *library, const char *path,
                                                 struct error *error)
{
    if (library->interface == OFFRAMP_INTERFACE && library->size == sizeof *library->table &&
        strncmp(library->version, OFFRAMP_VERSION, sizeof library->version) == 0 && library->table)
        return library->table;
    error_set(error,
              "%s is of another build: it is %.*s, interface %" PRIu32 ", table of %" PRIu32
              " bytes; this program is " OFFRAMP_VERSION ", interface %" PRIu32
              ", table of %zu bytes; what makes them alike: " MAKE,
              path, (int)sizeof library->version, library->version, library->interface, library->size,
              (uint32_t)OFFRAMP_INTERFACE, sizeof *library->table);
    return NULL;
}

const struct backend_table *cuda_library_table(struct error *error)
{
    char path[4096];
    if (find_library(path, sizeof path, error) < 0)
        return NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *reason = dlerror();
        if (strstr(reason, "libcublas"))
            explain_cublas(reason, path, error);
        else
            error_set(error, "%s", reason);
        return NULL;
    }
    const void *description = dlsym(library, SYMBOL);
    if (description)
        return checked_table(description, path, error);
    error_set(error,
              dlsym(library, OLD_SYMBOL) ? "%s is of an older build of offramp; what makes one that fits: " MAKE
                                         : "%s is not a cuda backend of offramp; what makes one: " MAKE,
              path);
    return NULL;
}
