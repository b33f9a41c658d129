#include "common/base/terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/string.h"

struct terminal terminal_look(void)
{
    const char *name = getenv("TERM"), *plain = getenv("NO_COLOR");
    struct terminal terminal = {.rows = 24, .columns = 80};
    struct winsize size;
    terminal.moves = isatty(STDERR_FILENO) == 1 && name && *name && strcmp(name, "dumb") != 0;
    terminal.bold = terminal.moves && !(plain && *plain);
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0) {
        terminal.rows = size.ws_row > 0 ? size.ws_row : terminal.rows;
        terminal.columns = size.ws_col > 0 ? size.ws_col : terminal.columns;
    }
    return terminal;
}

/* Bytes of the control sequence that a text begins with; 0: none. */
static size_t sequence_length(const char *text)
{
    if (text[0] != '\033' || text[1] != '[')
        return 0;
    const size_t length = 2 + strcspn(text + 2, "mJK");
    return text[length] ? length + 1 : length;
}

static bool continues_letter(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* Adds a line of `size` bytes up to the last column but one: a cursor behind the last one may wrap. */
static void add_line(struct string *out, const struct terminal *terminal, const char *line, size_t size)
{
    int left = terminal->columns - 1;
    for (size_t i = 0; i < size;) {
        size_t length = sequence_length(line + i);
        const bool control = length > 0;
        if (!control)
            for (length = 1; i + length < size && continues_letter(line[i + length]);)
                length++;
        if (control ? terminal->bold : left > 0)
            string_append(out, line + i, length);
        left -= !control;
        i += length;
    }
}

static void write_out(struct string *out)
{
    if (!out->failed)
        fwrite(out->data, 1, out->length, stderr); /* at once, so that nothing comes between */
    string_free(out);
}

void terminal_draw(const struct terminal *terminal, const char *lines)
{
    struct string out = {0};
    int rows = 0;
    string_print(&out, "\r" TERMINAL_ERASE);
    for (const char *end; rows < terminal->rows - 1 && (end = strchr(lines, '\n')); lines = end + 1, rows++) {
        if (rows > 0)
            string_print(&out, "\n");
        add_line(&out, terminal, lines, (size_t)(end - lines));
    }
    string_print(&out, "\r");
    if (rows > 1)
        string_print(&out, "\033[%dA", rows - 1);
    write_out(&out);
}

void terminal_leave(const struct terminal *terminal, const char *line)
{
    struct string out = {0};
    string_print(&out, "\r" TERMINAL_ERASE);
    add_line(&out, terminal, line, strlen(line));
    string_print(&out, "\n");
    write_out(&out);
}
