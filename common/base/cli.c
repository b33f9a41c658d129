#include "common/base/cli.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/string.h"
#include "common/base/terminal.h"

/* A file that got the number of a closed stderr would take the messages. What is opened here in its place
 * neither reads nor writes. */
static void hold_standard_descriptors(void)
{
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++) {
        if (fcntl(i, F_GETFD) < 0 && open("/dev/null", O_PATH) != i) {
            cli_say("standard descriptor %d is closed, and /dev/null cannot be opened: %s", i, strerror(errno));
            exit(EXIT_FAILED);
        }
    }
}

void cli_start(void)
{
    hold_standard_descriptors();
    argp_err_exit_status = EXIT_WRONG_USAGE;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    interrupt_listen();
}

void cli_say(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    flockfile(stderr);
    fprintf(stderr, "%s%s: ", terminal_look().moves ? TERMINAL_ERASE : "", program_invocation_short_name);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    funlockfile(stderr);
    va_end(list);
}

int cli_exit_code(int result, const struct error *error)
{
    return result >= 0 ? EXIT_DONE : error->kind == ERROR_USAGE ? EXIT_WRONG_USAGE : EXIT_FAILED;
}

/* ---- the command line ---- */

enum { OPTION_USAGE = -2 };

static const struct argp_option general_options[] = {
    {"help", 'h', NULL, 0, "Print this help", -1},
    {NULL, '?', NULL, OPTION_ALIAS | OPTION_HIDDEN, NULL, -1},
    {"usage", OPTION_USAGE, NULL, 0, "Print a short usage message", -1},
    {"version", 'V', NULL, 0, "Print the program's version", -1},
    {0}};

/* Ends the program, as argp's own options do, but not well when what it printed was lost. */
static _Noreturn void end_printed(const struct argp_state *state)
{
    struct error error;
    if (cli_finish_output(&error) == 0)
        exit(EXIT_DONE);
    fprintf(stderr, "%s: %s\n", state->name, error.text);
    exit(EXIT_FAILED);
}

static error_t parse_general(int key, char *value, struct argp_state *state)
{
    (void)value;
    switch (key) {
    case 'h':
    case '?': argp_state_help(state, stdout, ARGP_HELP_STD_HELP & ~(unsigned)ARGP_HELP_EXIT_OK); break;
    case OPTION_USAGE: argp_state_help(state, stdout, ARGP_HELP_USAGE); break;
    case 'V': printf("offramp %s %s\n", state->name, OFFRAMP_VERSION); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    end_printed(state);
}

void cli_parse(const struct argp *argp, int argc, char **argv, unsigned flags, void *input)
{
    static const struct argp general = {.options = general_options, .parser = parse_general};
    struct argp_child children[CLI_CHILDREN + 2] = {{0}};
    struct argp whole = *argp;
    int count = 0;
    for (; argp->children && argp->children[count].argp; count++)
        children[count] = argp->children[count];
    children[count] = (struct argp_child){&general, 0, NULL, -1};
    char *slash = strrchr(argv[0], '/');
    whole.children = children;
    if (slash)
        argv[0] = slash + 1; /* getopt prints it as it is, argp without a folder */
    argp_parse(&whole, argc, argv, flags | ARGP_NO_HELP, NULL, input);
}

/* ---- values ---- */

int parse_integer(const char *text, int64_t least, int64_t most, int64_t *value, struct error *error)
{
    char *end;
    errno = 0;
    long long result = strtoll(text, &end, 10);
    if (end == text || *end)
        return error_set(error, "\"%s\" is not a whole number", text);
    if (errno || result < least || result > most)
        return error_set(error, "\"%s\" is not in %" PRId64 " .. %" PRId64, text, least, most);
    *value = result;
    return 0;
}

int parse_number(const char *text, double least, double most, double *value, struct error *error)
{
    char *end;
    double result = strtod(text, &end);
    if (end == text || *end)
        return error_set(error, "\"%s\" is not a number", text);
    if (!(result >= least && result <= most))
        return error_set(error, "\"%s\" is not in %g .. %g", text, least, most);
    *value = result;
    return 0;
}

int parse_size(const char *text, bool binary, uint64_t *value, struct error *error)
{
    static const char suffixes[] = "KMGT";
    char *end;
    double number = strtod(text, &end);
    if (end == text || !(number >= 0))
        return error_set(error, "\"%s\" is not a size such as 4096, 64K or 1.5G", text);
    if (*end) {
        const char *suffix = strchr(suffixes, *end >= 'a' ? *end - 32 : *end);
        if (!suffix || end[1])
            return error_set(error, "\"%s\" is not a size such as 4096, 64K or 1.5G", text);
        number *= pow(binary ? 1024 : 1000, (double)(suffix - suffixes + 1));
    }
    if (number >= 0x1p63)
        return error_set(error, "\"%s\" is too large", text);
    *value = (uint64_t)number;
    return 0;
}

int parse_word(const char *text, const char *const *words, int *index, struct error *error)
{
    struct string list = {0};
    for (int i = 0; words[i]; i++) {
        if (!strcmp(text, words[i])) {
            *index = i;
            return 0;
        }
    }
    for (int i = 0; words[i]; i++)
        string_print(&list, " %s", words[i]);
    if (!string_failed(&list, error))
        error_set(error, "\"%s\" is none of:%s", text, list.data);
    string_free(&list);
    return -1;
}

int parse_list(const char *text, char ***items, int *count, struct error *error)
{
    int most = 1;
    for (const char *c = text; *c; c++)
        most += *c == ',';
    *items = NULL;
    *count = 0;
    if (array_alloc(items, most, error) < 0)
        return -1;
    for (const char *from = text; *count < most; (*count)++) {
        size_t length = strcspn(from, ",");
        if (length == 0) {
            error_set(error, "\"%s\" has an empty item", text);
            goto fail;
        }
        char *item = memory_alloc(length + 1, 1, error);
        if (!item)
            goto fail;
        (*items)[*count] = memcpy(item, from, length);
        from += length + 1;
    }
    return 0;
fail:
    cli_list_free(*items, *count);
    *items = NULL;
    *count = 0;
    return -1;
}

void cli_list_free(char **items, int count)
{
    for (int i = 0; i < count; i++)
        free(items[i]);
    free(items);
}

int cli_finish_output(struct error *error)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    if (fcntl(STDOUT_FILENO, F_GETFL) & O_PATH)
        return error_set(error, "standard output is closed: nothing could be written");
    return error_system(error, "standard output: not everything could be written");
}

int cli_check_room(const char *path, double bytes, double available, const char *choices, bool force,
                   struct error *error)
{
    char wanted[32], there[32];
    if (bytes <= available)
        return 0;
    format_bytes(bytes, wanted, sizeof wanted);
    format_bytes(available, there, sizeof there);
    if (force) {
        cli_say("warning: about %s are still to be written, but the disk has %s free", wanted, there);
        return 0;
    }
    return error_set_kind(error, ERROR_NO_SPACE,
                          "%s: about %s are still to be written, but the disk has %s free. Make room%s%s%s",
                          path, wanted, there, choices ? ", " : "", choices ? choices : "",
                          choices ? ", or give --force" : "");
}
