/* cuda_library.h: the cuda backend, which lives in a library of its own that is opened at run time, so
 * that one set of programs runs with and without a GPU. */
#ifndef OFFRAMP_KERNELS_CUDA_LIBRARY_H
#define OFFRAMP_KERNELS_CUDA_LIBRARY_H

#include "kernels/backend.h"

/* The table of libofframp_cuda.so, from OFFRAMP_CUDA_LIBRARY (a path) or beside the program; NULL with
 * an error that says what is missing and the line that gets it. Opened once, never closed. */
const struct backend_table *cuda_library_table(struct error *error);

#endif
