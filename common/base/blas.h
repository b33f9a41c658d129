/* blas.h: what BLAS and LAPACK need before they are called. */
#ifndef OFFRAMP_BASE_BLAS_H
#define OFFRAMP_BASE_BLAS_H

/* Makes OpenBLAS, where it is installed, use one thread from now on: with several it splits sums by threads,
 * which changes bytes. (The plain BLAS has no threads.) */
void blas_use_one_thread(void);

#endif
