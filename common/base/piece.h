/* piece.h: rows cut into the fewest pieces of at most `most`, of nearly one size.
 *
 *     for (int64_t p = 0; p < cut_count(rows, most); p++)
 *         work_on(cut_piece(rows, most, p));
 *
 * Cut rows into calls only with these. A short last piece may have so few rows that they run other kernels,
 * which round differently (ops.h, MATMUL_FEW_ROWS). Here, where there are two pieces or more, each has at least
 * half of `most`, rounded down.
 */
#ifndef OFFRAMP_BASE_PIECE_H
#define OFFRAMP_BASE_PIECE_H

#include <stdint.h>

struct piece {
    int64_t first, rows;
};

/* rows >= 0, most >= 1. */
int64_t cut_count(int64_t rows, int64_t most);
/* Piece `index` of 0 .. cut_count - 1. */
struct piece cut_piece(int64_t rows, int64_t most, int64_t index);

#endif
