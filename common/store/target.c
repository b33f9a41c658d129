#include "common/store/target.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* Members of struct target_row, in its order: the columns that this program makes and reads. The first ones
 * are four bytes each, and needed. */
enum { SINGLES = 4, BEST = SINGLES, BEST_PROBABILITY, MEMBERS };
static const struct columns made = {MEMBERS,
                                    {{"top", DTYPE_I32, 1},
                                     {"probability", DTYPE_F32, 1},
                                     {"entropy", DTYPE_F32, 1},
                                     {"loss", DTYPE_F32, 1},
                                     {"best", DTYPE_I32, TARGET_BEST},
                                     {"best_probability", DTYPE_F16, TARGET_BEST}}};
_Static_assert(offsetof(struct target_row, best) == SINGLES * sizeof(float), "four bytes each");

/* Of the best tokens in a store. */
enum { BEST_MOST = 32 };
/* What the sum of probabilities may be above 1: each is rounded to 11 bits. */
static const double BEST_EXCESS = 1e-3;

const struct columns *target_columns(void)
{
    return &made;
}

/* The index of a member among the columns. -1: it is missing, or of another type. */
static int find_member(const struct columns *columns, int member)
{
    const int index = columns_find(columns, made.column[member].name);
    const int most = member < SINGLES ? 1 : BEST_MOST;
    if (index < 0 || columns->column[index].type != made.column[member].type ||
        columns->column[index].width > most)
        return -1;
    return index;
}

/* Where the best tokens are among columns: both of them, or neither. */
struct best_columns {
    int token, probability; /* -1: nowhere */
    int width; /* of both; or 0 */
};

static struct best_columns find_best(const struct columns *columns)
{
    const struct best_columns best = {find_member(columns, BEST), find_member(columns, BEST_PROBABILITY), 0};
    if (best.token < 0 || best.probability < 0 ||
        columns->column[best.token].width != columns->column[best.probability].width)
        return (struct best_columns){-1, -1, 0};
    return (struct best_columns){best.token, best.probability, columns->column[best.token].width};
}

int target_best(const struct columns *columns)
{
    const int width = find_best(columns).width;
    return width < TARGET_BEST ? width : TARGET_BEST;
}

int target_check_columns(const struct columns *columns, struct error *error)
{
    for (int member = 0; member < SINGLES; member++)
        if (find_member(columns, member) < 0)
            return error_set(error, "the target has no column %s of %s", made.column[member].name,
                             dtype_name(made.column[member].type));
    return 0;
}

/* ---- packing ---- */

static void pack_best(const struct target_row *values, int64_t rows, int width, bool probabilities,
                      unsigned char *column)
{
    for (int64_t r = 0; r < rows; r++)
        for (int k = 0; k < width; k++) {
            const uint16_t half = f32_to_f16(values[r].best_probability[k]);
            const int64_t at = r * width + k;
            if (probabilities)
                memcpy(column + at * (int64_t)sizeof half, &half, sizeof half);
            else
                memcpy(column + at * (int64_t)sizeof *values->best, &values[r].best[k], sizeof *values->best);
        }
}

/* Which member column i is, or -1. */
static int member_at(const struct columns *columns, int i)
{
    const struct best_columns best = find_best(columns);
    const int member = columns_find(&made, columns->column[i].name);
    if (i == best.token || i == best.probability)
        return best.width <= TARGET_BEST ? member : -1;
    return member >= 0 && member < SINGLES && find_member(columns, member) == i ? member : -1;
}

int target_check_made(const struct columns *columns, struct error *error)
{
    for (int i = 0; i < columns->count; i++)
        if (member_at(columns, i) < 0)
            return error_set(error, "this program cannot make the target's column %s: use the one that made it",
                             columns->column[i].name);
    return 0;
}

int target_pack(const struct columns *columns, const struct target_row *values, int64_t rows, void *bytes,
                struct error *error)
{
    if (target_check_made(columns, error) < 0)
        return -1;
    for (int i = 0; i < columns->count; i++) {
        const int member = member_at(columns, i);
        unsigned char *column = (unsigned char *)bytes + column_offset(columns, i, rows);
        if (member >= SINGLES)
            pack_best(values, rows, columns->column[i].width, member == BEST_PROBABILITY, column);
        for (int64_t r = 0; r < rows && member < SINGLES; r++)
            memcpy(column + r * 4, (const char *)&values[r] + member * 4, 4);
    }
    return 0;
}

/* ---- checking and unpacking ---- */

static int check_token(int64_t row, int32_t token, int64_t vocab, struct error *error)
{
    return token >= 0 && token < vocab
               ? 0
               : error_set(error, "row %" PRId64 ": token %" PRId32 " is outside the vocabulary of %" PRId64,
                           row, token, vocab);
}

static int check_value(int member, int64_t row, const void *value, int64_t vocab, struct error *error)
{
    int32_t top;
    float number;
    memcpy(&top, value, sizeof top);
    memcpy(&number, value, sizeof number);
    if (member == 0)
        return check_token(row, top, vocab, error);
    if (member == 1 ? number >= 0 && number <= 1 : (bool)isfinite(number))
        return 0;
    return error_set(error, "row %" PRId64 ": %s is %g", row, made.column[member].name, (double)number);
}

static int unpack_single(const struct columns *columns, int member, const void *bytes, int64_t rows,
                         int64_t vocab, struct target_row *values, struct error *error)
{
    const int index = find_member(columns, member);
    if (index < 0)
        return 0;
    const unsigned char *column = (const unsigned char *)bytes + column_offset(columns, index, rows);
    for (int64_t r = 0; r < rows; r++) {
        if (check_value(member, r, column + r * 4, vocab, error) < 0)
            return -1;
        if (values)
            memcpy((char *)&values[r] + member * 4, column + r * 4, 4);
    }
    return 0;
}

/* The best tokens of one row, all that a store has. */
struct best_row {
    int32_t token[BEST_MOST];
    float probability[BEST_MOST];
};

static int check_best(int64_t row, const struct best_row *best, int width, int64_t vocab, struct error *error)
{
    double sum = 0;
    for (int k = 0; k < width; k++) {
        const float most = k > 0 ? best->probability[k - 1] : 1;
        if (check_token(row, best->token[k], vocab, error) < 0)
            return -1;
        if (!(best->probability[k] >= 0 && best->probability[k] <= most))
            return error_set(error, "row %" PRId64 ": best_probability %d is %g, and the one before it %g", row,
                             k + 1, (double)best->probability[k], (double)most);
        for (int other = 0; other < k; other++)
            if (best->token[other] == best->token[k])
                return error_set(error, "row %" PRId64 ": token %" PRId32 " is twice among the best", row,
                                 best->token[k]);
        sum += (double)best->probability[k];
    }
    return sum <= 1 + BEST_EXCESS
               ? 0
               : error_set(error, "row %" PRId64 ": best_probability adds up to %g", row, sum);
}

/* The first of the best is the top one, where there is that. */
static int check_first(const struct columns *columns, const void *bytes, int64_t rows, int64_t row,
                       const struct best_row *best, struct error *error)
{
    const int top = find_member(columns, 0), probability = find_member(columns, 1);
    int32_t token = best->token[0];
    float number = best->probability[0];
    if (top >= 0)
        memcpy(&token, (const char *)bytes + column_offset(columns, top, rows) + row * 4, sizeof token);
    if (probability >= 0)
        memcpy(&number, (const char *)bytes + column_offset(columns, probability, rows) + row * 4,
               sizeof number);
    return token == best->token[0] && f32_to_f16(number) == f32_to_f16(best->probability[0])
               ? 0
               : error_set(error,
                           "row %" PRId64 ": the first of the best is token %" PRId32
                           " of probability %g, and top is %" PRId32 " of %g",
                           row, best->token[0], (double)best->probability[0], token, (double)number);
}

static int unpack_best(const struct columns *columns, const void *bytes, int64_t rows, int64_t vocab,
                       struct target_row *values, struct error *error)
{
    const struct best_columns there = find_best(columns);
    const int count = target_best(columns);
    for (int64_t r = 0; r < rows; r++) {
        struct best_row best;
        for (int k = 0; k < there.width; k++) {
            const size_t at = (size_t)(r * there.width + k);
            uint16_t half;
            memcpy(&best.token[k],
                   (const char *)bytes + column_offset(columns, there.token, rows) + at * sizeof *best.token,
                   sizeof *best.token);
            memcpy(&half,
                   (const char *)bytes + column_offset(columns, there.probability, rows) + at * sizeof half,
                   sizeof half);
            best.probability[k] = f16_to_f32(half);
        }
        if (there.width > 0 && (check_best(r, &best, there.width, vocab, error) < 0 ||
                                check_first(columns, bytes, rows, r, &best, error) < 0))
            return -1;
        for (int k = 0; k < TARGET_BEST && values; k++) {
            values[r].best[k] = k < count ? best.token[k] : -1;
            values[r].best_probability[k] = k < count ? best.probability[k] : 0;
        }
    }
    return 0;
}

int target_unpack(const struct columns *columns, const void *bytes, int64_t rows, int64_t vocab,
                  struct target_row *values, struct error *error)
{
    if (values && target_check_columns(columns, error) < 0)
        return -1;
    for (int member = 0; member < SINGLES; member++)
        if (unpack_single(columns, member, bytes, rows, vocab, values, error) < 0)
            return -1;
    return unpack_best(columns, bytes, rows, vocab, values, error);
}
