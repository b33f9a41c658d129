/* blas.h: what BLAS and LAPACK need before they are called. */
#ifndef OFFRAMP_BASE_BLAS_H
#define OFFRAMP_BASE_BLAS_H

/* Optimised BLAS libraries split sums by threads, which changes bytes; the plain one has none. Where
 * OpenBLAS is installed, has it use one thread from now on. */
void blas_use_one_thread(void);

#endif
