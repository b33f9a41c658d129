/* piece.h: rows cut into the fewest pieces of at most `most`, of nearly one size.
 *
 *     for (int64_t p = 0; p < cut_count(rows, most); p++)
 *         work_on(cut_piece(rows, most, p));
 *
 * Whoever cuts rows into calls cuts them so: what is left over in a last piece of its own may be so few rows
 * that they run other kernels and round otherwise (ops.h, MATMUL_FEW_ROWS). Of two pieces or more none has
 * less than half of `most`, rounded down.
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
