/* screen.h: a terminal of which a test sees what a user would.
 *
 *     struct screen screen;
 *     screen_open(&screen, 24, 80);          // stderr goes there, and TERM says that it can be drawn on
 *     ... something that draws ...
 *     screen_look(&screen);
 *     CHECK(screen_has(&screen, "42 %"));     // in the rows as they are now; screen_row
 *     screen_close(&screen);                  // stderr is what it was
 *
 * It knows what a program may write there: line feeds, carriage returns, and the control sequences A (up), J, K
 * (erase) and m. Anything else is counted in `unknown`.
 */
#ifndef OFFRAMP_TESTS_SCREEN_H
#define OFFRAMP_TESTS_SCREEN_H

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SCREEN_ROWS = 64, SCREEN_COLUMNS = 256 };

struct screen {
    int kept, terminal, end; /* descriptors: stderr as it was, and the two ends */
    int rows, columns, row, column; /* the cursor's */
    char cell[SCREEN_ROWS][SCREEN_COLUMNS + 1];
    int wrapped, unknown, bold; /* counts */
    size_t bytes;
};

static inline void screen_resize(struct screen *screen, int rows, int columns)
{
    const struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    screen->rows = rows > 0 ? rows : 24;
    screen->columns = columns > 0 ? columns : 80;
    ioctl(screen->terminal, TIOCSWINSZ, &size);
}

static inline void screen_clear(struct screen *screen)
{
    for (int r = 0; r < SCREEN_ROWS; r++) {
        memset(screen->cell[r], ' ', SCREEN_COLUMNS);
        screen->cell[r][SCREEN_COLUMNS] = 0;
    }
    screen->row = screen->column = 0;
}

/* 0 of rows or columns: nobody knows how many; it has 24 and 80. -1: no terminal can be had. */
static inline int screen_open(struct screen *screen, int rows, int columns)
{
    *screen = (struct screen){.kept = dup(STDERR_FILENO), .terminal = posix_openpt(O_RDWR | O_NOCTTY)};
    if (screen->terminal < 0 || grantpt(screen->terminal) < 0 || unlockpt(screen->terminal) < 0)
        return -1;
    screen->end = open(ptsname(screen->terminal), O_RDWR | O_NOCTTY);
    screen_resize(screen, rows, columns);
    screen_clear(screen);
    return screen->end < 0 || setenv("TERM", "xterm", 1) < 0 || dup2(screen->end, STDERR_FILENO) < 0 ? -1 : 0;
}

static inline void screen_feed_line(struct screen *screen)
{
    if (screen->row < screen->rows - 1) {
        screen->row++;
        return;
    }
    memmove(screen->cell[0], screen->cell[1], sizeof screen->cell[0] * (size_t)(screen->rows - 1));
    memset(screen->cell[screen->rows - 1], ' ', SCREEN_COLUMNS);
}

static inline void screen_erase(struct screen *screen, char what)
{
    memset(screen->cell[screen->row] + screen->column, ' ', (size_t)(SCREEN_COLUMNS - screen->column));
    for (int r = screen->row + 1; what == 'J' && r < screen->rows; r++)
        memset(screen->cell[r], ' ', SCREEN_COLUMNS);
}

/* A control sequence; returns its bytes. */
static inline size_t screen_control(struct screen *screen, const char *text)
{
    char *end;
    const long number = strtol(text + 2, &end, 10);
    switch (*end) {
    case 'A':
        screen->row -= number > 0 ? (int)number : 1;
        screen->row = screen->row < 0 ? 0 : screen->row;
        break;
    case 'J':
    case 'K': screen_erase(screen, *end); break;
    case 'm': screen->bold += number == 1; break;
    default: screen->unknown++;
    }
    return (size_t)(end - text) + (*end != 0);
}

static inline void screen_put(struct screen *screen, char letter)
{
    if (((unsigned char)letter & 0xc0) == 0x80) /* one column for the whole of it */
        return;
    if (screen->column >= screen->columns) {
        screen->wrapped++;
        screen->column = 0;
        screen_feed_line(screen);
    }
    screen->cell[screen->row][screen->column++] = letter;
}

static inline void screen_write(struct screen *screen, const char *text)
{
    while (*text) {
        if (text[0] == '\033' && text[1] == '[') {
            text += screen_control(screen, text);
            continue;
        }
        if (*text == '\r')
            screen->column = 0;
        else if (*text == '\n')
            screen_feed_line(screen);
        else if ((unsigned char)*text < ' ')
            screen->unknown++;
        else
            screen_put(screen, *text);
        text++;
    }
}

/* Takes what was written so far. */
static inline void screen_look(struct screen *screen)
{
    char text[8192];
    struct pollfd wait = {.fd = screen->terminal, .events = POLLIN};
    while (poll(&wait, 1, 20) == 1 && (wait.revents & POLLIN)) {
        const ssize_t length = read(screen->terminal, text, sizeof text - 1);
        if (length <= 0)
            return;
        text[length] = 0;
        screen->bytes += (size_t)length;
        screen_write(screen, text);
    }
}

/* A row without the blanks at its end, until the next call. */
static inline const char *screen_row(struct screen *screen, int row)
{
    static char text[SCREEN_COLUMNS + 1];
    memcpy(text, screen->cell[row], sizeof text);
    for (int c = SCREEN_COLUMNS; c > 0 && text[c - 1] == ' '; c--)
        text[c - 1] = 0;
    return text;
}

/* Rows that have the text. */
static inline int screen_has(struct screen *screen, const char *text)
{
    int count = 0;
    for (int r = 0; r < screen->rows; r++)
        count += strstr(screen_row(screen, r), text) != NULL;
    return count;
}

/* Rows that are not empty. */
static inline int screen_used(struct screen *screen)
{
    int count = 0;
    for (int r = 0; r < screen->rows; r++)
        count += *screen_row(screen, r) != 0;
    return count;
}

static inline void screen_close(struct screen *screen)
{
    dup2(screen->kept, STDERR_FILENO);
    close(screen->kept);
    close(screen->end);
    close(screen->terminal);
}

#endif
