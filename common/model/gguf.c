#include "common/model/gguf.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/memory.h"

/* An array of arrays may nest this deep; real files do not nest at all. */
#define NESTING_MAX       4
#define KEY_LENGTH_MAX    65535
#define TENSOR_NAME_MAX   64
#define DEFAULT_ALIGNMENT 32
#define LEAST_ALIGNMENT   1
#define MOST_ALIGNMENT    (1 << 20)
/* The fewest bytes a key with its value, and a tensor's entry, can take: they bound the counts. */
#define ENTRY_BYTES_MIN  (8 + 1 + 4 + 1)
#define TENSOR_BYTES_MIN (8 + 1 + 4 + 8 + 4 + 8)

enum value_type {
    VALUE_U8,
    VALUE_I8,
    VALUE_U16,
    VALUE_I16,
    VALUE_U32,
    VALUE_I32,
    VALUE_F32,
    VALUE_BOOL,
    VALUE_STRING,
    VALUE_ARRAY,
    VALUE_U64,
    VALUE_I64,
    VALUE_F64,
    VALUE_COUNT
};

static const struct {
    const char *name;
    size_t bytes; /* of a value; the fewest for a string and an array */
} value_types[VALUE_COUNT] = {
    {"u8", 1},   {"i8", 1},     {"u16", 2},    {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
    {"bool", 1}, {"string", 8}, {"array", 12}, {"u64", 8}, {"i64", 8}, {"f64", 8},
};

/* ggml's type numbers; those without a name were never released. */
static const struct {
    const char *name;
    int dtype; /* -1: not read here */
} tensor_types[] = {
    [0] = {"F32", DTYPE_F32},   [1] = {"F16", DTYPE_F16},    [2] = {"Q4_0", DTYPE_Q4_0},
    [3] = {"Q4_1", DTYPE_Q4_1}, [6] = {"Q5_0", -1},          [7] = {"Q5_1", -1},
    [8] = {"Q8_0", DTYPE_Q8_0}, [9] = {"Q8_1", -1},          [10] = {"Q2_K", -1},
    [11] = {"Q3_K", -1},        [12] = {"Q4_K", -1},         [13] = {"Q5_K", -1},
    [14] = {"Q6_K", -1},        [15] = {"Q8_K", -1},         [16] = {"IQ2_XXS", -1},
    [17] = {"IQ2_XS", -1},      [18] = {"IQ3_XXS", -1},      [19] = {"IQ1_S", -1},
    [20] = {"IQ4_NL", -1},      [21] = {"IQ3_S", -1},        [22] = {"IQ2_S", -1},
    [23] = {"IQ4_XS", -1},      [24] = {"I8", -1},           [25] = {"I16", -1},
    [26] = {"I32", -1},         [27] = {"I64", -1},          [28] = {"F64", -1},
    [29] = {"IQ1_M", -1},       [30] = {"BF16", DTYPE_BF16}, [34] = {"TQ1_0", -1},
    [35] = {"TQ2_0", -1},       [39] = {"MXFP4", -1},
};

struct entry {
    struct gguf_string key;
    enum value_type type;
    size_t at; /* of the value's first byte */
};

struct gguf {
    char *path;
    struct file_map map;
    size_t alignment;
    struct entry *entries; /* sorted by key */
    size_t entry_count, entry_capacity;
    struct tensor *tensors; /* as in the file */
    size_t tensor_count, tensor_capacity;
    const struct tensor **by_name; /* [tensor_count] */
};

/* ---- a position in the file, which only moves over bytes that are there ---- */

struct cursor {
    const struct gguf *gguf;
    size_t at;
    struct error *error;
    const char *kind; /* "key" or "tensor", with its name: what is being read, for errors; or NULL */
    struct gguf_string name;
};

__attribute__((format(printf, 3, 4))) static void explain_at(const struct cursor *cursor, size_t at,
                                                             const char *format, ...)
{
    char reason[sizeof cursor->error->text];
    int length = cursor->name.length < 100 ? (int)cursor->name.length : 100;
    va_list list;
    va_start(list, format);
    vsnprintf(reason, sizeof reason, format, list);
    va_end(list);
    if (cursor->kind)
        error_set(cursor->error, "%s: byte %zu: %s \"%.*s\": %s", cursor->gguf->path, at, cursor->kind, length,
                  cursor->name.data, reason);
    else
        error_set(cursor->error, "%s: byte %zu: %s", cursor->gguf->path, at, reason);
}

/* An expression, so that the compiler sees the -1 and knows what is not set behind it. */
#define fail_at(...) (explain_at(__VA_ARGS__), -1)

static size_t bytes_left(const struct cursor *cursor)
{
    return cursor->gguf->map.size - cursor->at;
}

/* An unsigned little-endian number of `bytes` bytes. */
static uint64_t number_at(const struct gguf *gguf, size_t at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | gguf->map.data[at + i];
    return value;
}

static int cut_short(const struct cursor *cursor, const char *what)
{
    return fail_at(cursor, cursor->at, "the file is cut short in %s (it has %zu bytes)", what,
                   cursor->gguf->map.size);
}

static int read_number(struct cursor *cursor, size_t bytes, const char *what, uint64_t *value)
{
    if (bytes_left(cursor) < bytes)
        return cut_short(cursor, what);
    *value = number_at(cursor->gguf, cursor->at, bytes);
    cursor->at += bytes;
    return 0;
}

static int read_string(struct cursor *cursor, const char *what, struct gguf_string *string)
{
    uint64_t length;
    size_t at = cursor->at;
    if (read_number(cursor, 8, what, &length) < 0)
        return -1;
    if (length > bytes_left(cursor))
        return fail_at(cursor, at, "%s of %" PRIu64 " bytes, but only %zu are left in the file", what, length,
                       bytes_left(cursor));
    *string = (struct gguf_string){(const char *)cursor->gguf->map.data + cursor->at, (size_t)length};
    cursor->at += (size_t)length;
    return 0;
}

/* A name that can be compared, printed and kept as a C string. */
static int read_name(struct cursor *cursor, const char *what, size_t most, struct gguf_string *name)
{
    size_t at = cursor->at;
    if (read_string(cursor, what, name) < 0)
        return -1;
    if (name->length < 1 || name->length > most)
        return fail_at(cursor, at, "%s of %zu bytes (1 to %zu are allowed)", what, name->length, most);
    for (size_t i = 0; i < name->length; i++) {
        unsigned char byte = (unsigned char)name->data[i];
        if (byte < 0x20 || byte == 0x7f)
            return fail_at(cursor, at + 8 + i, "%s holds the control byte 0x%02x", what, byte);
    }
    return 0;
}

/* ---- metadata ---- */

static int read_value_type(struct cursor *cursor, const char *what, enum value_type *type)
{
    uint64_t number;
    size_t at = cursor->at;
    if (read_number(cursor, 4, what, &number) < 0)
        return -1;
    if (number >= VALUE_COUNT)
        return fail_at(cursor, at, "%s is %" PRIu64 ", not one of GGUF's 0 .. %d", what, number,
                       VALUE_COUNT - 1);
    *type = (enum value_type)number;
    return 0;
}

static int skip_value(struct cursor *cursor, enum value_type type, int depth);

static int skip_array(struct cursor *cursor, int depth)
{
    enum value_type type;
    uint64_t count;
    size_t at = cursor->at;
    if (depth >= NESTING_MAX)
        return fail_at(cursor, at, "arrays nest deeper than %d", NESTING_MAX);
    if (read_value_type(cursor, "an array's element type", &type) < 0 ||
        read_number(cursor, 8, "an array's length", &count) < 0)
        return -1;
    if (count > bytes_left(cursor) / value_types[type].bytes)
        return fail_at(cursor, at, "an array of %" PRIu64 " %s values, but only %zu bytes are left in the file",
                       count, value_types[type].name, bytes_left(cursor));
    if (type != VALUE_STRING && type != VALUE_ARRAY) {
        cursor->at += (size_t)count * value_types[type].bytes;
        return 0;
    }
    for (uint64_t i = 0; i < count; i++)
        if (skip_value(cursor, type, depth + 1) < 0)
            return -1;
    return 0;
}

static int skip_value(struct cursor *cursor, enum value_type type, int depth)
{
    struct gguf_string string;
    uint64_t number;
    if (type == VALUE_STRING)
        return read_string(cursor, "a string", &string);
    if (type == VALUE_ARRAY)
        return skip_array(cursor, depth);
    return read_number(cursor, value_types[type].bytes, "a value", &number);
}

static int string_compare(struct gguf_string a, struct gguf_string b)
{
    int order = memcmp(a.data, b.data, a.length < b.length ? a.length : b.length);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static int entry_compare(const void *a, const void *b)
{
    return string_compare(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static int read_entries(struct cursor *cursor, struct gguf *gguf, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct entry entry;
        cursor->kind = NULL;
        if (read_name(cursor, "a key", KEY_LENGTH_MAX, &entry.key) < 0)
            return -1;
        cursor->kind = "key";
        cursor->name = entry.key;
        if (read_value_type(cursor, "a value's type", &entry.type) < 0)
            return -1;
        entry.at = cursor->at;
        if (skip_value(cursor, entry.type, 0) < 0 ||
            array_grow(&gguf->entries, &gguf->entry_capacity, gguf->entry_count + 1, cursor->error) < 0)
            return -1;
        gguf->entries[gguf->entry_count++] = entry;
    }
    if (gguf->entry_count > 0)
        qsort(gguf->entries, gguf->entry_count, sizeof *gguf->entries, entry_compare);
    for (size_t i = 1; i < gguf->entry_count; i++) {
        cursor->name = gguf->entries[i].key;
        if (entry_compare(&gguf->entries[i - 1], &gguf->entries[i]) == 0)
            return fail_at(cursor, gguf->entries[i].at, "there are two of this name");
    }
    cursor->kind = NULL;
    return 0;
}

static int read_alignment(struct cursor *cursor, struct gguf *gguf)
{
    int64_t alignment = DEFAULT_ALIGNMENT;
    if (gguf_has(gguf, "general.alignment") && gguf_get_integer(gguf, "general.alignment", LEAST_ALIGNMENT,
                                                                MOST_ALIGNMENT, &alignment, cursor->error) < 0)
        return -1;
    if (alignment & (alignment - 1))
        return error_set(cursor->error, "%s: key \"general.alignment\" is %" PRId64 ", not a power of 2",
                         gguf->path, alignment);
    gguf->alignment = (size_t)alignment;
    return 0;
}

/* ---- tensors ---- */

static int read_shape(struct cursor *cursor, struct tensor *tensor, size_t *values)
{
    uint64_t dims, size;
    size_t at = cursor->at;
    if (read_number(cursor, 4, "a tensor's number of dimensions", &dims) < 0)
        return -1;
    if (dims < 1 || dims > 4)
        return fail_at(cursor, at, "%" PRIu64 " dimensions (1 to 4 are allowed)", dims);
    tensor->dims = (int)dims;
    *values = 1;
    for (int i = tensor->dims - 1; i >= 0; i--) { /* the file has the fastest first */
        at = cursor->at;
        if (read_number(cursor, 8, "a tensor's shape", &size) < 0)
            return -1;
        if (size < 1 || size > INT64_MAX || !size_multiply(*values, (size_t)size, values) ||
            *values > INT64_MAX)
            return fail_at(cursor, at, "a dimension of %" PRIu64 " in a tensor that cannot be that large",
                           size);
        tensor->shape[i] = (int64_t)size;
    }
    return 0;
}

static int read_type(struct cursor *cursor, struct tensor *tensor)
{
    uint64_t number;
    size_t at = cursor->at;
    if (read_number(cursor, 4, "a tensor's type", &number) < 0)
        return -1;
    const char *name = number < sizeof tensor_types / sizeof *tensor_types ? tensor_types[number].name : NULL;
    if (!name)
        return fail_at(cursor, at, "type number %" PRIu64 ", which ggml does not define", number);
    if (tensor_types[number].dtype < 0)
        return fail_at(cursor, at,
                       "type %s is not supported; use a file of F32, F16, BF16, Q8_0, Q4_0 and Q4_1 tensors",
                       name);
    tensor->type = (enum dtype)tensor_types[number].dtype;
    return 0;
}

/* Everything but where the data lies: its offset from the data's start goes to *offset. */
static int read_tensor(struct cursor *cursor, struct tensor *tensor, uint64_t *offset)
{
    size_t values, row, at = cursor->at;
    if (read_shape(cursor, tensor, &values) < 0 || read_type(cursor, tensor) < 0)
        return -1;
    int64_t cols = tensor->shape[tensor->dims - 1];
    if (!dtype_row_bytes(tensor->type, cols, &row) ||
        !size_multiply(row, values / (size_t)cols, &tensor->bytes))
        return fail_at(cursor, at, "rows of %" PRId64 " values cannot be of type %s", cols,
                       dtype_name(tensor->type));
    at = cursor->at;
    if (read_number(cursor, 8, "a tensor's offset", offset) < 0)
        return -1;
    if (*offset % cursor->gguf->alignment != 0)
        return fail_at(cursor, at, "offset %" PRIu64 " is not a multiple of the alignment %zu", *offset,
                       cursor->gguf->alignment);
    if (*offset > cursor->gguf->map.size)
        return fail_at(cursor, at, "offset %" PRIu64 " lies past the end of the file (%zu bytes)", *offset,
                       cursor->gguf->map.size);
    return 0;
}

static int read_tensors(struct cursor *cursor, struct gguf *gguf, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct gguf_string name;
        uint64_t offset;
        cursor->kind = NULL;
        if (read_name(cursor, "a tensor's name", TENSOR_NAME_MAX, &name) < 0 ||
            array_grow(&gguf->tensors, &gguf->tensor_capacity, gguf->tensor_count + 1, cursor->error) < 0)
            return -1;
        cursor->kind = "tensor";
        cursor->name = name;
        struct tensor *tensor = &gguf->tensors[gguf->tensor_count];
        if (read_tensor(cursor, tensor, &offset) < 0)
            return -1;
        tensor->name = strndup(name.data, name.length);
        if (!tensor->name)
            return error_set_kind(cursor->error, ERROR_NO_MEMORY, "%s: out of memory", gguf->path);
        tensor->file = gguf->path;
        tensor->data = gguf->map.data + offset; /* from the data's start, which settle_data adds */
        gguf->tensor_count++;
    }
    cursor->kind = NULL;
    return 0;
}

/* The data begins at the next multiple of the alignment behind the last tensor's entry. */
static int settle_data(struct cursor *cursor, struct gguf *gguf)
{
    size_t size = gguf->map.size,
           start = cursor->at + (gguf->alignment - cursor->at % gguf->alignment) % gguf->alignment;
    for (size_t i = 0; i < gguf->tensor_count; i++) {
        struct tensor *tensor = &gguf->tensors[i];
        size_t offset = (size_t)((const unsigned char *)tensor->data - gguf->map.data);
        if (start > size || offset > size - start || tensor->bytes > size - start - offset)
            return fail_at(cursor, start + offset,
                           "tensor \"%s\" needs %zu bytes here, but the file ends at byte %zu: it is cut short",
                           tensor->name, tensor->bytes, size);
        tensor->data = gguf->map.data + start + offset;
    }
    return 0;
}

static int data_compare(const void *a, const void *b)
{
    const struct tensor *left = *(const struct tensor *const *)a, *right = *(const struct tensor *const *)b;
    return (left->data > right->data) - (left->data < right->data);
}

static int name_compare(const void *a, const void *b)
{
    return strcmp((*(const struct tensor *const *)a)->name, (*(const struct tensor *const *)b)->name);
}

/* No two tensors may share bytes or a name. Leaves the index by name. */
static int check_tensors(struct gguf *gguf, struct error *error)
{
    size_t count = gguf->tensor_count;
    if (array_alloc(&gguf->by_name, count, error) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        gguf->by_name[i] = &gguf->tensors[i];
    qsort(gguf->by_name, count, sizeof *gguf->by_name, data_compare);
    for (size_t i = 1; i < count; i++) {
        const struct tensor *before = gguf->by_name[i - 1], *tensor = gguf->by_name[i];
        const unsigned char *end = (const unsigned char *)before->data + before->bytes;
        if ((const unsigned char *)tensor->data < end)
            return error_set(error, "%s: byte %zu: tensors \"%s\" and \"%s\" overlap", gguf->path,
                             (size_t)((const unsigned char *)tensor->data - gguf->map.data), before->name,
                             tensor->name);
    }
    qsort(gguf->by_name, count, sizeof *gguf->by_name, name_compare);
    for (size_t i = 1; i < count; i++)
        if (strcmp(gguf->by_name[i - 1]->name, gguf->by_name[i]->name) == 0)
            return error_set(error, "%s: tensor \"%s\" is there twice", gguf->path, gguf->by_name[i]->name);
    return 0;
}

/* ---- the file ---- */

static int check_version(struct cursor *cursor, uint64_t version)
{
    if (version == 2 || version == 3)
        return 0;
    if (version != 0 && (version & 0xffff) == 0)
        return fail_at(cursor, 4, "a big-endian GGUF file; convert the model for little-endian machines");
    return fail_at(cursor, 4, "GGUF version %" PRIu64 "; versions 2 and 3 are read", version);
}

static int read_file_parts(struct gguf *gguf, struct error *error)
{
    struct cursor cursor = {.gguf = gguf, .error = error};
    uint64_t version, tensors, entries;
    if (gguf->map.size < 4 || memcmp(gguf->map.data, "GGUF", 4) != 0)
        return fail_at(
            &cursor, 0,
            "not a GGUF file (it does not begin with \"GGUF\"; a Hugging Face model is named by its folder)");
    cursor.at = 4;
    if (read_number(&cursor, 4, "the header", &version) < 0 || check_version(&cursor, version) < 0 ||
        read_number(&cursor, 8, "the header", &tensors) < 0 ||
        read_number(&cursor, 8, "the header", &entries) < 0)
        return -1;
    if (entries > bytes_left(&cursor) / ENTRY_BYTES_MIN)
        return fail_at(&cursor, 16, "%" PRIu64 " keys, but only %zu bytes are left in the file", entries,
                       bytes_left(&cursor));
    if (read_entries(&cursor, gguf, entries) < 0 || read_alignment(&cursor, gguf) < 0)
        return -1;
    if (tensors > bytes_left(&cursor) / TENSOR_BYTES_MIN)
        return fail_at(&cursor, 8, "%" PRIu64 " tensors, but only %zu bytes are left in the file", tensors,
                       bytes_left(&cursor));
    if (read_tensors(&cursor, gguf, tensors) < 0 || settle_data(&cursor, gguf) < 0)
        return -1;
    return check_tensors(gguf, error);
}

int gguf_open(const char *path, struct gguf **result, struct error *error)
{
    struct gguf *gguf;
    *result = NULL;
    if (array_alloc(&gguf, 1, error) < 0)
        return -1;
    gguf->path = string_copy(path, error);
    if (!gguf->path || file_map(path, &gguf->map, error) < 0 || read_file_parts(gguf, error) < 0) {
        gguf_close(gguf);
        return -1;
    }
    *result = gguf;
    return 0;
}

void gguf_close(struct gguf *gguf)
{
    if (!gguf)
        return;
    for (size_t i = 0; i < gguf->tensor_count; i++)
        free(gguf->tensors[i].name);
    free(gguf->tensors);
    free(gguf->by_name);
    free(gguf->entries);
    file_unmap(&gguf->map);
    free(gguf->path);
    free(gguf);
}

const char *gguf_path(const struct gguf *gguf)
{
    return gguf->path;
}

size_t gguf_tensor_count(const struct gguf *gguf)
{
    return gguf->tensor_count;
}

const struct tensor *gguf_tensor(const struct gguf *gguf, size_t index)
{
    return &gguf->tensors[index];
}

const struct tensor *gguf_find_tensor(const struct gguf *gguf, const char *name)
{
    size_t low = 0, high = gguf->tensor_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, gguf->by_name[middle]->name);
        if (order == 0)
            return gguf->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- values by key ---- */

static const struct entry *find_entry(const struct gguf *gguf, const char *key)
{
    struct entry wanted = {.key = {key, strlen(key)}};
    if (gguf->entry_count == 0)
        return NULL;
    return bsearch(&wanted, gguf->entries, gguf->entry_count, sizeof wanted, entry_compare);
}

static int require_entry(const struct gguf *gguf, const char *key, const char *expected,
                         const struct entry **entry, struct error *error)
{
    *entry = find_entry(gguf, key);
    if (!*entry)
        return error_set(error, "%s: key \"%s\" is missing (%s expected)", gguf->path, key, expected);
    return 0;
}

static int wrong_type(const struct gguf *gguf, const char *key, const struct entry *entry, const char *expected,
                      struct error *error)
{
    return error_set(error, "%s: byte %zu: key \"%s\" is of type %s, %s expected", gguf->path, entry->at, key,
                     value_types[entry->type].name, expected);
}

/* A value of one of the integer types, sign extended; false for other types and for u64 past INT64_MAX. */
static bool integer_at(const struct gguf *gguf, enum value_type type, size_t at, int64_t *value)
{
    uint64_t bits = number_at(gguf, at, value_types[type].bytes);
    switch (type) {
    case VALUE_U8:
    case VALUE_U16:
    case VALUE_U32: *value = (int64_t)bits; return true;
    case VALUE_U64: *value = (int64_t)bits; return bits <= INT64_MAX;
    case VALUE_I8: *value = (int8_t)bits; return true;
    case VALUE_I16: *value = (int16_t)bits; return true;
    case VALUE_I32: *value = (int32_t)bits; return true;
    case VALUE_I64: *value = (int64_t)bits; return true;
    case VALUE_BOOL: *value = (int64_t)bits; return bits <= 1;
    default: return false;
    }
}

/* The same for numbers of any type. */
static bool real_at(const struct gguf *gguf, enum value_type type, size_t at, double *value)
{
    uint64_t bits = number_at(gguf, at, value_types[type].bytes);
    int64_t integer;
    if (type == VALUE_F32) {
        uint32_t half = (uint32_t)bits;
        float single;
        memcpy(&single, &half, sizeof single);
        *value = (double)single;
        return true;
    }
    if (type == VALUE_F64) {
        memcpy(value, &bits, sizeof *value);
        return true;
    }
    if (!integer_at(gguf, type, at, &integer))
        return false;
    *value = (double)integer;
    return true;
}

bool gguf_has(const struct gguf *gguf, const char *key)
{
    return find_entry(gguf, key) != NULL;
}

int gguf_get_integer(const struct gguf *gguf, const char *key, int64_t least, int64_t most, int64_t *value,
                     struct error *error)
{
    const struct entry *entry;
    int64_t found;
    if (require_entry(gguf, key, "an integer", &entry, error) < 0)
        return -1;
    if (entry->type == VALUE_STRING || entry->type == VALUE_ARRAY || entry->type == VALUE_F32 ||
        entry->type == VALUE_F64)
        return wrong_type(gguf, key, entry, "an integer", error);
    if (!integer_at(gguf, entry->type, entry->at, &found))
        return error_set(error, "%s: byte %zu: key \"%s\" is out of range", gguf->path, entry->at, key);
    if (found < least || found > most)
        return error_set(error, "%s: byte %zu: key \"%s\" is %" PRId64 ", not in %" PRId64 " .. %" PRId64,
                         gguf->path, entry->at, key, found, least, most);
    *value = found;
    return 0;
}

int gguf_get_number(const struct gguf *gguf, const char *key, double *value, struct error *error)
{
    const struct entry *entry;
    if (require_entry(gguf, key, "a number", &entry, error) < 0)
        return -1;
    if (entry->type == VALUE_STRING || entry->type == VALUE_ARRAY)
        return wrong_type(gguf, key, entry, "a number", error);
    if (!real_at(gguf, entry->type, entry->at, value))
        return error_set(error, "%s: byte %zu: key \"%s\" is out of range", gguf->path, entry->at, key);
    return 0;
}

int gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *value, struct error *error)
{
    const struct entry *entry;
    if (require_entry(gguf, key, "a string", &entry, error) < 0)
        return -1;
    if (entry->type != VALUE_STRING)
        return wrong_type(gguf, key, entry, "a string", error);
    struct cursor cursor = {.gguf = gguf, .at = entry->at, .error = error};
    return read_string(&cursor, "a string", value);
}

/* The element type and count of an array, and a cursor at its first element. */
static int require_array(const struct gguf *gguf, const char *key, const char *expected, enum value_type *type,
                         size_t *count, struct cursor *cursor, struct error *error)
{
    const struct entry *entry;
    uint64_t number;
    if (require_entry(gguf, key, expected, &entry, error) < 0)
        return -1;
    if (entry->type != VALUE_ARRAY)
        return wrong_type(gguf, key, entry, expected, error);
    *cursor = (struct cursor){.gguf = gguf, .at = entry->at, .error = error};
    if (read_value_type(cursor, "an array's element type", type) < 0 ||
        read_number(cursor, 8, "an array's length", &number) < 0)
        return -1;
    *count = (size_t)number; /* checked against the file when it was opened */
    return 0;
}

static int wrong_elements(const struct gguf *gguf, const char *key, enum value_type type, const char *expected,
                          struct error *error)
{
    return error_set(error, "%s: key \"%s\" is an array of type %s, %s expected", gguf->path, key,
                     value_types[type].name, expected);
}

int gguf_get_strings(const struct gguf *gguf, const char *key, struct gguf_string **values, size_t *count,
                     struct error *error)
{
    struct cursor cursor;
    enum value_type type;
    *values = NULL;
    if (require_array(gguf, key, "an array of strings", &type, count, &cursor, error) < 0)
        return -1;
    if (type != VALUE_STRING)
        return wrong_elements(gguf, key, type, "strings", error);
    if (array_alloc(values, *count, error) < 0)
        return -1;
    for (size_t i = 0; i < *count; i++) {
        if (read_string(&cursor, "a string", &(*values)[i]) < 0) {
            free(*values);
            *values = NULL;
            return -1;
        }
    }
    return 0;
}

int gguf_get_integers(const struct gguf *gguf, const char *key, int64_t **values, size_t *count,
                      struct error *error)
{
    struct cursor cursor;
    enum value_type type;
    *values = NULL;
    if (require_array(gguf, key, "an array of integers", &type, count, &cursor, error) < 0)
        return -1;
    if (type == VALUE_STRING || type == VALUE_ARRAY || type == VALUE_F32 || type == VALUE_F64)
        return wrong_elements(gguf, key, type, "integers", error);
    if (array_alloc(values, *count, error) < 0)
        return -1;
    for (size_t i = 0; i < *count; i++) {
        if (!integer_at(gguf, type, cursor.at + i * value_types[type].bytes, &(*values)[i])) {
            free(*values);
            *values = NULL;
            return error_set(error, "%s: key \"%s\": value %zu is out of range", gguf->path, key, i);
        }
    }
    return 0;
}
