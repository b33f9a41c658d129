#include "cache/npy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/string.h"

#define ALIGNMENT 64 /* of the data in a file */

struct npy_file {
    struct file_writer *file;
    size_t left; /* bytes that have not come */
};

struct npy_writer {
    size_t count, current;
    struct npy_file *files; /* [count] */
};

static const char *type_name(enum dtype type)
{
    switch (type) {
    case DTYPE_F32: return "<f4";
    case DTYPE_F16: return "<f2";
    case DTYPE_F64: return "<f8";
    case DTYPE_I32: return "<i4";
    case DTYPE_I16: return "<i2";
    case DTYPE_U8: return "|u1";
    default: return NULL;
    }
}

/* Magic, version, length of what follows: a Python dictionary, blanks up to the alignment, a line feed. */
static int write_header(struct file_writer *file, const struct tensor *tensor, struct error *error)
{
    struct string header = {0};
    string_print(&header, "{'descr': '%s', 'fortran_order': False, 'shape': (", type_name(tensor->type));
    for (int i = 0; i < tensor->dims; i++)
        string_print(&header, "%" PRId64 ",%s", tensor->shape[i], i + 1 < tensor->dims ? " " : "");
    string_print(&header, "), }");
    while (!header.failed && (10 + header.length + 1) % ALIGNMENT != 0)
        string_print(&header, " ");
    string_print(&header, "\n");
    int result = -1;
    if (!string_failed(&header, error)) {
        const unsigned char first[10] = {0x93,
                                         'N',
                                         'U',
                                         'M',
                                         'P',
                                         'Y',
                                         1,
                                         0,
                                         (unsigned char)header.length,
                                         (unsigned char)(header.length >> 8)};
        result = file_writer_append(file, first, sizeof first, error);
        if (result == 0)
            result = file_writer_append(file, header.data, header.length, error);
    }
    string_free(&header);
    return result;
}

static int create_file(struct npy_file *npy, const char *folder, const struct tensor *tensor,
                       struct error *error)
{
    char name[256];
    size_t values = 1;
    if (!type_name(tensor->type))
        return error_set(error, "%s: NumPy files have no %s", tensor->name, dtype_name(tensor->type));
    for (int i = 0; i < tensor->dims; i++)
        if (!size_multiply(values, (size_t)tensor->shape[i], &values))
            return error_set(error, "%s: the tensor is too large", tensor->name);
    if (!dtype_row_bytes(tensor->type, (int64_t)values, &npy->left) && values > 0)
        return error_set(error, "%s: the tensor is too large", tensor->name);
    snprintf(name, sizeof name, "%s.npy", tensor->name);
    char *path = path_join(folder, name, error);
    int result = path ? file_writer_open(path, &npy->file, error) : -1;
    free(path);
    return result < 0 ? -1 : write_header(npy->file, tensor, error);
}

int npy_create(const char *folder, const struct tensor *tensors, size_t count, struct npy_writer **result,
               struct error *error)
{
    struct npy_writer *writer;
    *result = NULL;
    if (array_alloc(&writer, 1, error) < 0)
        return -1;
    int failed = array_alloc(&writer->files, count, error);
    if (failed == 0) {
        writer->count = count;
        failed = directory_create(folder, error);
    }
    for (size_t i = 0; i < count && failed == 0; i++)
        failed = create_file(&writer->files[i], folder, &tensors[i], error);
    if (failed < 0) {
        npy_abandon(writer);
        return -1;
    }
    *result = writer;
    return 0;
}

int npy_write(struct npy_writer *writer, const void *data, size_t size, struct error *error)
{
    const unsigned char *bytes = data;
    while (size > 0) {
        while (writer->current < writer->count && writer->files[writer->current].left == 0)
            writer->current++;
        if (writer->current == writer->count)
            return error_set_kind(error, ERROR_INTERNAL, "more bytes than the files' shapes have");
        struct npy_file *npy = &writer->files[writer->current];
        const size_t part = size < npy->left ? size : npy->left;
        if (file_writer_append(npy->file, bytes, part, error) < 0)
            return -1;
        npy->left -= part;
        bytes += part;
        size -= part;
    }
    return 0;
}

int npy_finish(struct npy_writer *writer, struct error *error)
{
    int result = 0;
    for (size_t i = 0; i < writer->count && result == 0; i++) {
        if (writer->files[i].left > 0)
            result =
                error_set_kind(error, ERROR_INTERNAL, "%zu bytes are missing in a file", writer->files[i].left);
        else {
            result = file_writer_finish(writer->files[i].file, error);
            writer->files[i].file = NULL;
        }
    }
    npy_abandon(writer);
    return result;
}

void npy_abandon(struct npy_writer *writer)
{
    if (!writer)
        return;
    for (size_t i = 0; i < writer->count; i++)
        file_writer_abandon(writer->files[i].file);
    free(writer->files);
    free(writer);
}
