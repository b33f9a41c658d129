#include "common/codec/huffman.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    VALUES = 256,
    STREAMS = 4,
    MOST = 6, /* values in a table's entry */
    LOADED = sizeof(uint64_t),
    STEPS = (8 * LOADED - 7) / HUFFMAN_BITS, /* codes, or groups of them, for which one load has bits enough */
    ROUND = MOST * STEPS + LOADED - MOST /* bytes that these may write */
};

struct head {
    unsigned char length[VALUES / 2];
    uint32_t end[STREAMS];
};
_Static_assert(sizeof(struct head) == 144, "the head is the same on every machine");

size_t huffman_bound(size_t count)
{
    /* No more bits than with a length of 8 for all; a byte begun in each stream, and room to store eight at a time. */
    return sizeof(struct head) + count + STREAMS + LOADED;
}

/* Where a stream's values begin. */
static size_t first_of(size_t count, int stream)
{
    const size_t first = (size_t)stream * ((count + STREAMS - 1) / STREAMS);
    return first < count ? first : count;
}

/* ---- codes ---- */

/* A value and how often it occurs. */
struct coin {
    uint64_t weight;
    int value;
};

static int compare_coins(const void *a, const void *b)
{
    const struct coin *x = a, *y = b;
    return x->weight != y->weight ? (x->weight > y->weight) - (x->weight < y->weight) : x->value - y->value;
}

/* One round of package-merge: pairs of the last round's items, and the coins, in the order of their weights.
 * Returns how many there are; is_coin tells which are coins. */
static int merge_packages(const struct coin *coin, int coins, const uint64_t *last, int count, uint64_t *weight,
                          bool *is_coin)
{
    int merged = 0, taken = 0, next = 0;
    while (taken < coins || next + 1 < count) {
        const bool package =
            next + 1 < count && (taken == coins || last[next] + last[next + 1] < coin[taken].weight);
        weight[merged] = package ? last[next] + last[next + 1] : coin[taken].weight;
        is_coin[merged++] = !package;
        if (package)
            next += 2;
        else
            taken++;
    }
    return merged;
}

/* The best lengths of at most HUFFMAN_BITS bits for `coins` >= 2 coins, which ascend (package-merge: Larmore and
 * Hirschberg, A fast algorithm for optimal length-limited Huffman codes, 1990). length [VALUES], zeros. */
static void choose_lengths(const struct coin *coin, int coins, unsigned char *length)
{
    uint64_t weight[2][2 * VALUES];
    bool is_coin[HUFFMAN_BITS][2 * VALUES];
    for (int round = 0, count = 0; round < HUFFMAN_BITS; round++)
        count = merge_packages(coin, coins, weight[round & 1], count, weight[~round & 1], is_coin[round]);
    int wanted = 2 * coins - 2; /* of the last round's items, the lightest; each coin among them is a bit */
    for (int round = HUFFMAN_BITS - 1; round >= 0; round--) {
        int bits = 0;
        for (int i = 0; i < wanted; i++)
            bits += is_coin[round][i];
        for (int i = 0; i < bits; i++)
            length[coin[i].value]++;
        wanted = 2 * (wanted - bits);
    }
}

static void count_values(const unsigned char *values, size_t count, uint64_t total[VALUES])
{
    enum { PARTS = 4 };
    uint32_t part[PARTS][VALUES] = {{0}}; /* so that a counter is not waited for by its next use */
    size_t i = 0;
    for (; count - i >= PARTS; i += PARTS)
        for (int p = 0; p < PARTS; p++)
            part[p][values[i + (size_t)p]]++;
    for (; i < count; i++)
        part[0][values[i]]++;
    for (int v = 0; v < VALUES; v++)
        total[v] = (uint64_t)part[0][v] + part[1][v] + part[2][v] + part[3][v];
}

/* Lengths for the values that occur, of which there are taken to be two at least. */
static void measure_lengths(const unsigned char *values, size_t count, unsigned char length[VALUES])
{
    uint64_t total[VALUES];
    struct coin coin[VALUES];
    int coins = 0;
    count_values(values, count, total);
    for (int v = 0; v < VALUES; v++)
        if (total[v] > 0)
            coin[coins++] = (struct coin){total[v], v};
    if (coins == 1)
        coin[coins++] = (struct coin){0, (coin[0].value + 1) % VALUES};
    qsort(coin, (size_t)coins, sizeof *coin, compare_coins);
    memset(length, 0, VALUES);
    choose_lengths(coin, coins, length);
}

static unsigned reverse_bits(unsigned code, int length)
{
    unsigned reversed = 0;
    for (int bit = 0; bit < length; bit++)
        reversed |= (code >> bit & 1) << (length - 1 - bit);
    return reversed;
}

/* False: lengths that leave codes over, or need more than there are. */
static bool assign_codes(const unsigned char length[VALUES], uint16_t code[VALUES])
{
    unsigned next = 0;
    for (int bits = 1; bits <= HUFFMAN_BITS; bits++) {
        next <<= 1;
        for (int v = 0; v < VALUES; v++)
            if (length[v] == bits) {
                if (next >> bits)
                    return false;
                code[v] = (uint16_t)reverse_bits(next++, bits);
            }
    }
    return next == HUFFMAN_SLOTS;
}

/* ---- encoding ---- */

/* Bits that no byte has been written for yet; behind `bytes` there is room for eight more. */
struct writer {
    unsigned char *bytes;
    uint64_t waiting;
    unsigned bits;
};

/* code: its length times 2^16, and the code. */
static inline void add_code(struct writer *writer, uint32_t code)
{
    writer->waiting |= (uint64_t)(code & 0xffff) << writer->bits;
    writer->bits += code >> 16;
}

/* Writes what is whole bytes; after STEPS codes at the latest. */
static inline void put_bytes(struct writer *writer)
{
    memcpy(writer->bytes, &writer->waiting, sizeof writer->waiting);
    writer->bytes += writer->bits / 8;
    writer->waiting >>= writer->bits & ~7u;
    writer->bits %= 8;
}

/* Returns the next byte behind the values' codes. */
static unsigned char *put_codes(const uint32_t code[VALUES], const unsigned char *values, size_t count,
                                unsigned char *bytes)
{
    struct writer writer = {bytes, 0, 0};
    size_t i = 0;
    for (; count - i >= STEPS; i += STEPS) {
        for (int step = 0; step < STEPS; step++)
            add_code(&writer, code[values[i + step]]);
        put_bytes(&writer);
    }
    for (; i < count; i++) {
        add_code(&writer, code[values[i]]);
        put_bytes(&writer);
    }
    return writer.bytes + (writer.bits > 0);
}

size_t huffman_encode(const unsigned char *values, size_t count, unsigned char *bytes)
{
    struct head head = {{0}, {0}};
    unsigned char length[VALUES];
    uint16_t code[VALUES] = {0};
    uint32_t both[VALUES];
    measure_lengths(values, count, length);
    assign_codes(length, code);
    for (int v = 0; v < VALUES; v++) {
        head.length[v / 2] |= (unsigned char)(length[v] << (v % 2 * 4));
        both[v] = (uint32_t)length[v] << 16 | code[v];
    }
    unsigned char *const start = bytes + sizeof head, *end = start;
    for (int s = 0; s < STREAMS; s++) {
        const size_t first = first_of(count, s);
        end = put_codes(both, values + first, first_of(count, s + 1) - first, end);
        head.end[s] = (uint32_t)(end - start);
    }
    memcpy(bytes, &head, sizeof head);
    memset(end, 0, LOADED);
    return (size_t)(end - bytes) + LOADED;
}

/* ---- decoding ---- */

static void fill_table(const unsigned char length[VALUES], const uint16_t code[VALUES],
                       struct huffman_table *table)
{
    unsigned char first[HUFFMAN_SLOTS] = {0};
    for (int v = 0; v < VALUES; v++)
        for (int slot = code[v]; length[v] && slot < HUFFMAN_SLOTS; slot += 1 << length[v])
            first[slot] = (unsigned char)v;
    for (int slot = 0; slot < HUFFMAN_SLOTS; slot++) {
        uint64_t values = 0, count = 0, bits = 0;
        for (; count < MOST; count++) {
            const unsigned value = first[slot >> bits];
            if (bits + length[value] > HUFFMAN_BITS)
                break;
            values |= (uint64_t)value << 8 * count;
            bits += length[value];
        }
        table->entry[slot] = values | bits << 48 | count << 56;
    }
}

struct stream {
    const unsigned char *at, *end; /* the next code is in the byte `at`; eight bytes behind the end are there */
    unsigned bit; /* of that byte */
    unsigned char *to, *to_end;
};

/* All streams side by side, for as long as none comes near its end. */
static inline __attribute__((always_inline)) void decode_rounds(const struct huffman_table *table,
                                                                struct stream stream[STREAMS])
{
    struct stream local[STREAMS]; /* of which the compiler knows that `to` does not point to it */
    memcpy(local, stream, sizeof local);
    for (;;) {
        uint64_t bits[STREAMS], used[STREAMS];
        for (int s = 0; s < STREAMS; s++)
            if (local[s].to_end - local[s].to < ROUND || local[s].at > local[s].end)
                goto done;
        for (int s = 0; s < STREAMS; s++) {
            memcpy(&bits[s], local[s].at, sizeof bits[s]);
            bits[s] >>= local[s].bit;
            used[s] = local[s].bit;
        }
        for (int step = 0; step < STEPS; step++)
            for (int s = 0; s < STREAMS; s++) {
                const uint64_t entry = table->entry[bits[s] % HUFFMAN_SLOTS], taken = entry >> 48;
                memcpy(local[s].to, &entry, sizeof entry);
                bits[s] >>= taken % 64;
                used[s] += taken; /* the counts add up above the bits */
                local[s].to += taken >> 8;
            }
        for (int s = 0; s < STREAMS; s++) {
            local[s].at += used[s] % 256 / 8;
            local[s].bit = used[s] % 8;
        }
    }
done:
    memcpy(stream, local, sizeof local);
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("bmi2"))) static void decode_bmi2(const struct huffman_table *table,
                                                        struct stream *stream)
{
    decode_rounds(table, stream);
}
static bool has_bmi2(void)
{
    return __builtin_cpu_supports("bmi2");
}
#else
#define decode_bmi2 decode_rounds
static bool has_bmi2(void)
{
    return false;
}
#endif

/* What is left of a stream, value by value; false: it does not end where its bytes do. */
static bool decode_rest(const struct huffman_table *table, const unsigned char length[VALUES],
                        struct stream *stream)
{
    while (stream->to < stream->to_end && stream->at <= stream->end) {
        uint64_t bits;
        memcpy(&bits, stream->at, sizeof bits);
        const unsigned char value = (unsigned char)table->entry[(bits >> stream->bit) % HUFFMAN_SLOTS];
        *stream->to++ = value;
        stream->bit += length[value];
        stream->at += stream->bit / 8;
        stream->bit %= 8;
    }
    return stream->to == stream->to_end && stream->at + (stream->bit > 0) == stream->end;
}

/* Streams by what the head says of them; -1: they do not fill `room`. (One that begins behind its end is found when
 * it is decoded.) */
static int place_streams(const struct head *head, const unsigned char *start, size_t room,
                         unsigned char *values, size_t count, struct stream stream[STREAMS])
{
    for (int s = 0; s < STREAMS; s++) {
        if (head->end[s] > room)
            return -1;
        stream[s] = (struct stream){.at = start + (s > 0 ? head->end[s - 1] : 0),
                                    .end = start + head->end[s],
                                    .to = values + first_of(count, s),
                                    .to_end = values + first_of(count, s + 1)};
    }
    return head->end[STREAMS - 1] == room ? 0 : -1;
}

int huffman_decode(struct huffman_table *table, const unsigned char *bytes, size_t size, unsigned char *values,
                   size_t count, struct error *error)
{
    struct head head;
    struct stream stream[STREAMS];
    unsigned char length[VALUES];
    uint16_t code[VALUES] = {0};
    if (size < sizeof head + LOADED)
        return error_set(error, "%zu bytes are too few for its codes", size);
    memcpy(&head, bytes, sizeof head);
    for (int v = 0; v < VALUES; v++)
        length[v] = head.length[v / 2] >> (v % 2 * 4) & 15;
    if (!assign_codes(length, code))
        return error_set(error, "its codes' lengths do not fit together");
    if (place_streams(&head, bytes + sizeof head, size - sizeof head - LOADED, values, count, stream) < 0)
        return error_set(error, "its streams do not end where they should");
    fill_table(length, code, table);
    (has_bmi2() ? decode_bmi2 : decode_rounds)(table, stream);
    for (int s = 0; s < STREAMS; s++)
        if (!decode_rest(table, length, &stream[s]))
            return error_set(error, "its values do not end where their bytes do");
    return 0;
}
