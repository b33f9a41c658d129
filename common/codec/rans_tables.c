/* The tables of rans.h: bell curves of 24 widths, cut into integers, as multiples of 2^-11.
 *
 * A curve is a sum of two Gaussians, one wider: the spread of a value is not quite what its level says, and a
 * sum of Gaussians is what a spread in doubt looks like. Only + - * / are used, which IEEE 754 rounds in one
 * way, so that the tables are the same on every machine.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/codec/rans.h"

#define PARTS      16 /* of an integer's unit, at whose middles the curve is read */
#define WIDE_SHARE 0.1
#define WIDE       1.5

/* exp(-x) for x >= 0: the series of a small part of x, squared. */
static double exp_minus(double x)
{
    double term = 1, sum = 1;
    if (x > 700)
        return 0;
    x /= 1024;
    for (int i = 1; i <= 8; i++) {
        term *= -x / i;
        sum += term;
    }
    for (int i = 0; i < 10; i++)
        sum *= sum;
    return sum;
}

static double bell(double x)
{
    const double wide = x / WIDE;
    return (1 - WIDE_SHARE) * exp_minus(x * x / 2) + WIDE_SHARE / WIDE * exp_minus(wide * wide / 2);
}

/* The share of values that round to n, times a constant. */
static double mass(int n, double deviation)
{
    double sum = 0;
    for (int i = 0; i < PARTS; i++)
        sum += bell((n - 0.5 + (i + 0.5) / PARTS) / deviation);
    return sum;
}

/* 2^(table / 4 - 3) */
static double deviation_of(int table)
{
    static const double quarter[] = {1, 1.189207115002721, 1.4142135623730951, 1.681792830507429};
    return quarter[table % RANS_OCTAVE] * (double)(1 << (table / RANS_OCTAVE)) / 8;
}

/* Frequencies of the symbols -RANS_REACH + 1 .. RANS_REACH - 1, in that order from index 1; index 0 is the
 * escape. A symbol gets 0 when it is rarer than half of a slot. */
static void divide_slots(double deviation, uint16_t frequency[2 * RANS_REACH])
{
    double total = mass(0, deviation), share[RANS_REACH];
    share[0] = total;
    for (int n = 1; n < RANS_REACH; n++) {
        share[n] = mass(n, deviation);
        total += 2 * share[n];
    }
    int left = RANS_SLOTS;
    double tail = 0;
    for (int n = 1; n < RANS_REACH; n++) {
        const int slots = (int)(share[n] / total * RANS_SLOTS + 0.5);
        frequency[RANS_REACH + n] = frequency[RANS_REACH - n] = (uint16_t)slots;
        left -= 2 * slots;
        if (slots == 0)
            tail += 2 * share[n];
    }
    frequency[0] = (uint16_t)(1 + (int)(tail / total * RANS_SLOTS));
    frequency[RANS_REACH] = (uint16_t)(left - frequency[0]);
}

static void fill_table(struct rans *rans, int table, const uint16_t frequency[2 * RANS_REACH])
{
    uint32_t *slot = rans->slot + ((size_t)table << RANS_BITS);
    int start = 0;
    for (int index = 0; index < 2 * RANS_REACH; index++) {
        const int symbol = index ? index - RANS_REACH : RANS_ESCAPE;
        rans->symbol[table][index] = (struct rans_symbol){(uint16_t)start, frequency[index]};
        for (int i = 0; i < frequency[index]; i++)
            slot[start + i] = (uint32_t)symbol << 24 | (uint32_t)i << 12 | frequency[index];
        start += frequency[index];
    }
}

/* The mean square of a table's values; the escape counts as a value just behind the last symbol. */
static double energy_of(const uint16_t frequency[2 * RANS_REACH])
{
    double sum = 0;
    int last = 1;
    for (int n = 1; n < RANS_REACH; n++)
        if (frequency[RANS_REACH + n] > 0) {
            sum += 2.0 * frequency[RANS_REACH + n] * n * n;
            last = n + 1;
        }
    return (sum + (double)frequency[0] * last * last) / RANS_SLOTS;
}

/* For the shuffles of rans_x86.c: lane i, if its bit is set, gets word number (set bits below i). */
static void fill_compact(unsigned char compact[256][8])
{
    for (int mask = 0; mask < 256; mask++)
        for (int lane = 0, word = 0; lane < 8; lane++) {
            compact[mask][lane] = (unsigned char)word;
            word += mask >> lane & 1;
        }
}

int rans_create(struct rans **rans, struct error *error)
{
    if (array_alloc(rans, 1, error) < 0)
        return -1;
    for (int table = 0; table < RANS_TABLES; table++) {
        uint16_t frequency[2 * RANS_REACH];
        divide_slots(deviation_of(table), frequency);
        fill_table(*rans, table, frequency);
        (*rans)->energy[table] = energy_of(frequency);
    }
    for (int level = RANS_TABLES; level < RANS_LEVELS; level++)
        (*rans)->energy[level] = 4 * (*rans)->energy[level - RANS_OCTAVE];
    for (int frequency = 1; frequency < RANS_SLOTS; frequency++)
        (*rans)->inverse[frequency] = (1 + 0x1p-51) / frequency;
    fill_compact((*rans)->compact);
    return 0;
}

void rans_destroy(struct rans *rans)
{
    free(rans);
}

/* The border between two levels is the geometric mean of their energies. */
int rans_level(const struct rans *rans, double energy)
{
    int level = 0;
    while (level < RANS_LEVELS - 1 && energy * energy > rans->energy[level] * rans->energy[level + 1])
        level++;
    return level;
}
