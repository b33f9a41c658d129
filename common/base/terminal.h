/* terminal.h: lines on stderr that are drawn over and over in one place, where it is a terminal.
 *
 * The cursor rests at the beginning of the first of these lines, so nobody has to know of them who writes
 * something else there: TERMINAL_ERASE takes them away first, and they are drawn again below. cli_say does so.
 * A program that is killed leaves nothing that would have to be restored.
 *
 *     const struct terminal terminal = terminal_look();
 *     terminal_draw(&terminal, "train  42 %\n16 trials\n");
 *     terminal_leave(&terminal, "train 100 %");       // what stays; the cursor is in the row below
 */
#ifndef OFFRAMP_BASE_TERMINAL_H
#define OFFRAMP_BASE_TERMINAL_H

#include <stdbool.h>

/* From the cursor to the end of the screen. */
#define TERMINAL_ERASE "\033[J"
#define TERMINAL_BOLD  "\033[1m"
#define TERMINAL_PLAIN "\033[m" /* ends bold */

/* What stderr is now: ask again before each drawing, as its size may change. */
struct terminal {
    bool moves; /* a terminal that moves its cursor: not a file, nor TERM=dumb */
    bool bold; /* likewise, and NO_COLOR is not set: letters may be made to stand out */
    int rows, columns; /* 24 and 80 where nobody knows */
};

struct terminal terminal_look(void);

/* Draws lines, each of which a line feed ends. What is too wide or too much for the screen is left out: a line
 * that wraps cannot be drawn over. Letters beyond ASCII count as one column each. Control sequences may only be
 * the two above. Only where `moves`. */
void terminal_draw(const struct terminal *terminal, const char *lines);

/* Draws one line, without its line feed, in the place of those that are there, and leaves it. */
void terminal_leave(const struct terminal *terminal, const char *line);

#endif
