#include "common/store/target.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Members of struct target_row, in its order: the columns that this program makes and reads, four bytes
 * each. */
enum { MEMBERS = 4 };
static const struct columns made = {
    MEMBERS,
    {{"top", DTYPE_I32, 1}, {"probability", DTYPE_F32, 1}, {"entropy", DTYPE_F32, 1}, {"loss", DTYPE_F32, 1}}};
_Static_assert(sizeof(struct target_row) == MEMBERS * sizeof(float), "four bytes each");

const struct columns *target_columns(void)
{
    return &made;
}

/* The index of a member among the columns. -1: it is missing, or of another type. */
static int find_member(const struct columns *columns, int member)
{
    const int index = columns_find(columns, made.column[member].name);
    if (index < 0 || columns->column[index].type != made.column[member].type ||
        columns->column[index].width != 1)
        return -1;
    return index;
}

int target_check_columns(const struct columns *columns, struct error *error)
{
    for (int member = 0; member < MEMBERS; member++)
        if (find_member(columns, member) < 0)
            return error_set(error, "the target has no column %s of %s", made.column[member].name,
                             dtype_name(made.column[member].type));
    return 0;
}

int target_pack(const struct columns *columns, const struct target_row *values, int64_t rows, void *bytes,
                struct error *error)
{
    for (int i = 0; i < columns->count; i++) {
        const int known = columns_find(&made, columns->column[i].name);
        if (known < 0 || find_member(columns, known) != i)
            return error_set(error, "this program cannot make the target's column %s: use the one that made it",
                             columns->column[i].name);
        unsigned char *column = (unsigned char *)bytes + column_offset(columns, i, rows);
        for (int64_t r = 0; r < rows; r++)
            memcpy(column + r * 4, (const char *)&values[r] + known * 4, 4);
    }
    return 0;
}

static int check_value(int member, int64_t row, const void *value, int64_t vocab, struct error *error)
{
    int32_t top;
    float number;
    memcpy(&top, value, sizeof top);
    memcpy(&number, value, sizeof number);
    const bool right = member == 0   ? top >= 0 && top < vocab
                       : member == 1 ? number >= 0 && number <= 1
                                     : (bool)isfinite(number);
    if (right)
        return 0;
    return member == 0
               ? error_set(error, "row %" PRId64 ": token %" PRId32 " is outside the vocabulary of %" PRId64,
                           row, top, vocab)
               : error_set(error, "row %" PRId64 ": %s is %g", row, made.column[member].name, (double)number);
}

int target_unpack(const struct columns *columns, const void *bytes, int64_t rows, int64_t vocab,
                  struct target_row *values, struct error *error)
{
    if (values && target_check_columns(columns, error) < 0)
        return -1;
    for (int member = 0; member < MEMBERS; member++) {
        const int index = find_member(columns, member);
        if (index < 0)
            continue;
        const unsigned char *column = (const unsigned char *)bytes + column_offset(columns, index, rows);
        for (int64_t r = 0; r < rows; r++) {
            if (check_value(member, r, column + r * 4, vocab, error) < 0)
                return -1;
            if (values)
                memcpy((char *)&values[r] + member * 4, column + r * 4, 4);
        }
    }
    return 0;
}
