#include "common/base/piece.h"

int64_t cut_count(int64_t rows, int64_t most)
{
    return rows / most + (rows % most > 0);
}

struct piece cut_piece(int64_t rows, int64_t most, int64_t index)
{
    const int64_t pieces = cut_count(rows, most), size = rows / pieces, larger = rows % pieces;
    const int64_t first = index * size + (index < larger ? index : larger);
    return (struct piece){first, size + (index < larger)};
}
