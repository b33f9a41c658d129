#include "common/store/columns.h"

#include <string.h>

#include "common/base/json.h"

#define MOST_WIDTH (1 << 16)

static bool is_name(const char *text)
{
    static const char *const taken[] = {"tokens", "split", "states"};
    const size_t length = strlen(text);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (strcmp(text, taken[i]) == 0)
            return false;
    return length > 0 && length < COLUMN_NAME_SIZE &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") == length;
}

static bool is_column_type(int type)
{
    switch (type) {
    case DTYPE_F64:
    case DTYPE_F32:
    case DTYPE_F16:
    case DTYPE_I32:
    case DTYPE_I16:
    case DTYPE_U8: return true;
    default: return false;
    }
}

static int parse_column(const json_t *object, struct columns *columns, struct error *error)
{
    const char *name, *type_name;
    int64_t width;
    if (json_get_string("a column", object, "name", &name, error) < 0 ||
        json_get_string("a column", object, "type", &type_name, error) < 0 ||
        json_get_integer("a column", object, "width", 1, MOST_WIDTH, &width, error) < 0)
        return -1;
    const int type = dtype_find(type_name);
    if (!is_name(name))
        return error_set(error, "\"%.100s\" cannot name a column", name);
    if (columns_find(columns, name) >= 0)
        return error_set(error, "column %s is there twice", name);
    if (!is_column_type(type))
        return error_set(error, "column %s: has values of the type %.100s", name, type_name);
    struct column *column = &columns->column[columns->count++];
    memcpy(column->name, name, strlen(name) + 1);
    column->type = (enum dtype)type;
    column->width = (int)width;
    return 0;
}

int columns_parse(const json_t *list, struct columns *columns, struct error *error)
{
    const size_t count = json_array_size(list);
    *columns = (struct columns){0};
    if (count < 1 || count > COLUMNS_MAX)
        return error_set(error, "\"columns\" must be a list of 1 to %d columns", COLUMNS_MAX);
    for (size_t i = 0; i < count; i++)
        if (parse_column(json_array_get(list, i), columns, error) < 0)
            return -1;
    return 0;
}

json_t *columns_to_json(const struct columns *columns)
{
    json_t *list = json_array();
    for (int i = 0; i < columns->count; i++) {
        const struct column *column = &columns->column[i];
        if (json_array_append_new(list, json_pack("{s:s, s:s, s:i}", "name", column->name, "type",
                                                  dtype_name(column->type), "width", column->width)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int columns_find(const struct columns *columns, const char *name)
{
    for (int i = 0; i < columns->count; i++)
        if (strcmp(columns->column[i].name, name) == 0)
            return i;
    return -1;
}

/* Far from overflow: at most 2^24 rows of 2^16 values of 8 bytes, 16 times. */
size_t column_bytes(const struct columns *columns, int column, int64_t rows)
{
    size_t row = 0;
    dtype_row_bytes(columns->column[column].type, columns->column[column].width, &row);
    return row * (size_t)rows;
}

size_t column_offset(const struct columns *columns, int column, int64_t rows)
{
    size_t offset = 0;
    for (int i = 0; i < column; i++)
        offset += column_bytes(columns, i, rows);
    return offset;
}

size_t columns_bytes(const struct columns *columns, int64_t rows)
{
    return column_offset(columns, columns->count, rows);
}
