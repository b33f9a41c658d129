/* blas.h: what BLAS and LAPACK need before they are called. */
#ifndef OFFRAMP_BASE_BLAS_H
#define OFFRAMP_BASE_BLAS_H

#include "common/base/error.h"

/* Makes OpenBLAS, where it is installed, use one thread from now on: with several it splits sums by threads,
 * which changes bytes. (The plain BLAS has no threads.) */
void blas_use_one_thread(void);

/* The error of a routine of LAPACKE that returned `info`, not 0: memory that it lacked, else `what`, which is the fault of
 * what it was given. Always returns -1. */
int blas_fail(int info, const char *what, struct error *error);

#endif
