/* klt.h: the parameters of the klt codec (klt.c), which klt_fit.c makes. Only common/codec includes this. */
#ifndef OFFRAMP_CODEC_KLT_H
#define OFFRAMP_CODEC_KLT_H

#include "common/codec/fit.h"

#define KLT_MOST_COLS (1 << 16)

/* Little-endian; then f32 mean[cols], f32 basis[cols][cols], a direction a row, in the order of their
 * variances. */
struct klt_header {
    char magic[4]; /* "OFRK" */
    uint16_t version, reserved; /* 1, 0 */
    uint32_t cols;
    float spacing, bits, loss; /* struct codec_setting */
    uint64_t reserved2; /* 0 */
};
_Static_assert(sizeof(struct klt_header) == 32, "the header is 32 bytes on every machine");

size_t klt_parameters_size(int64_t cols);
/* Checks all of the header but the setting, and that `size` is what it says. */
int klt_header_read(const void *parameters, size_t size, struct klt_header *header, struct error *error);

/* Of struct codec. */
int klt_fit(const struct moments *moments, struct string *parameters, struct error *error);
int klt_choose_spacing(const void *parameters, size_t size, const float *states, int64_t rows, double bits,
                       double *spacing, struct error *error);
int klt_set(void *parameters, size_t size, const struct codec_setting *setting, struct error *error);

#endif
