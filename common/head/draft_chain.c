#include "common/head/draft_chain.h"

void draft_chain_count(struct draft_chain *chain, const bool *hit, int64_t rows, int64_t first)
{
    for (int64_t row = first; row < rows; row++) {
        int accepted = 0;
        while (accepted < chain->steps && hit[row * chain->steps + accepted])
            chain->accepted[accepted++]++;
        chain->rounds++;
        row += accepted;
    }
}
