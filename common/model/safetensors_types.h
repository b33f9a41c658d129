/* safetensors_types.h: how safetensors headers name types of numbers. For safetensors.c and
 * safetensors_write.c. */
#ifndef OFFRAMP_MODEL_SAFETENSORS_TYPES_H
#define OFFRAMP_MODEL_SAFETENSORS_TYPES_H

#include <stddef.h>
#include <string.h>

#include "kernels/dtype.h"

#define SAFETENSORS_HEADER_MAX 100000000 /* bytes; the format's own limit */

/* Block types have no name there: NULL. */
static inline const char *safetensors_type_name(enum dtype type)
{
    switch (type) {
    case DTYPE_F32: return "F32";
    case DTYPE_F16: return "F16";
    case DTYPE_BF16: return "BF16";
    case DTYPE_F64: return "F64";
    case DTYPE_I32: return "I32";
    case DTYPE_I64: return "I64";
    case DTYPE_BOOL: return "BOOL";
    default: return NULL;
    }
}

/* The type of that name, or -1. */
static inline int safetensors_type_find(const char *text)
{
    for (int type = 0; type < DTYPE_COUNT; type++) {
        const char *name = safetensors_type_name((enum dtype)type);
        if (name && strcmp(name, text) == 0)
            return type;
    }
    return -1;
}

#endif
