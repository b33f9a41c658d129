#include "extract/scout.h"

/* Layers that the best so many taps of which this is the last one leave out, a token; and the tap before it. */
struct best {
    double saved;
    int before; /* -1: none */
};

enum { MOST_LAYERS = 1024 };

int scout_choose(const double *agreement, int layers, int taps[SCOUT_TAPS])
{
    static const struct best none = {-1, -1};
    struct best best[SCOUT_TAPS][MOST_LAYERS];
    int end_count = 0, end = -1;
    layers = layers < MOST_LAYERS ? layers : MOST_LAYERS;
    for (int k = 0; k < SCOUT_TAPS; k++)
        for (int tap = 1; tap < layers; tap++) {
            best[k][tap] =
                k == 0 && agreement[tap] > 0 ? (struct best){agreement[tap] * (layers - tap), -1} : none;
            for (int before = 1; k > 0 && before < tap; before++) {
                const double more = agreement[tap] - agreement[before];
                const double saved = best[k - 1][before].saved + more * (layers - tap);
                if (best[k - 1][before].saved >= 0 && more > 0 && saved > best[k][tap].saved)
                    best[k][tap] = (struct best){saved, before};
            }
            if (best[k][tap].saved >= 0 && (end < 0 || best[k][tap].saved > best[end_count - 1][end].saved)) {
                end_count = k + 1;
                end = tap;
            }
        }
    for (int k = end_count - 1; k >= 0; k--) {
        taps[k] = end;
        end = best[k][end].before;
    }
    return end_count;
}
