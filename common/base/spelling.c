#include "common/base/spelling.h"

#include <string.h>

#define LETTERS 40

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Letters to change, to add, to leave out, or to swap with a neighbour (Damerau 1964, each place touched once). */
static int distance(const char *a, const char *b)
{
    const int rows = (int)strlen(a), cols = (int)strlen(b);
    int table[LETTERS + 1][LETTERS + 1];
    if (rows > LETTERS || cols > LETTERS)
        return LETTERS;
    for (int i = 0; i <= rows; i++) {
        for (int j = 0; j <= cols; j++) {
            if (i == 0 || j == 0) {
                table[i][j] = i + j;
                continue;
            }
            table[i][j] = least(table[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
                                1 + least(table[i - 1][j], table[i][j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                table[i][j] = least(table[i][j], table[i - 2][j - 2] + 1);
        }
    }
    return table[rows][cols];
}

/* "learning_rate" holds "rate", and "eps" is in "epsilon". */
static int holds(const char *text, const char *word)
{
    return (strlen(word) > 2 && strstr(text, word)) || (strlen(text) > 2 && strstr(word, text));
}

int spelling_nearest(const char *text, const char *const *words, int count)
{
    const int length = (int)strlen(text);
    int nearest = -1, best = 1 + least(2, length / 2), held = -1;
    for (int i = 0; i < count; i++) {
        if (!words[i])
            continue;
        const int wrong = distance(text, words[i]);
        if (wrong < best) {
            best = wrong;
            nearest = i;
        }
        if (holds(text, words[i]) && (held < 0 || strlen(words[i]) > strlen(words[held])))
            held = i;
    }
    return nearest >= 0 ? nearest : held;
}
