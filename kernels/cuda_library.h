/* cuda_library.h: the cuda backend, which lives in a library of its own that is opened at run time, so
 * that one set of programs runs with and without a GPU. */
#ifndef OFFRAMP_KERNELS_CUDA_LIBRARY_H
#define OFFRAMP_KERNELS_CUDA_LIBRARY_H

#include <stdint.h>

#include "common/base/cli.h"
#include "kernels/backend.h"

/* The only public object of libofframp_cuda.so, `offramp_cuda_library`. The table is used only when all members
 * before it are equal to the program's own: in a library of another build structures may have another
 * layout. */
struct cuda_library {
    uint32_t interface; /* OFFRAMP_INTERFACE: the checksum of this header and of those it includes (build.mk) */
    uint32_t size; /* of struct backend_table, bytes */
    char version[16]; /* OFFRAMP_VERSION */
    const struct backend_table *table;
};

/* The table of libofframp_cuda.so: of OFFRAMP_CUDA_LIBRARY (a path), else of the one beside the program, where
 * `make` puts it, else of ../lib/offramp, where `make install` does. NULL with an error that says what is
 * missing, or that the library is of another build, and the line that mends it. Opened once, never closed. */
const struct backend_table *cuda_library_table(struct error *error);

#endif
