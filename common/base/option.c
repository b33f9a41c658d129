#include "common/base/option.h"

#include "common/base/cli.h"

int64_t option_integer(struct argp_state *state, const char *name, const char *text, int64_t least,
                       int64_t most)
{
    struct error error;
    int64_t value = least;
    if (parse_integer(text, least, most, &value, &error) < 0)
        argp_error(state, "--%s: %s", name, error.text);
    return value;
}

double option_number(struct argp_state *state, const char *name, const char *text, double least, double most)
{
    struct error error;
    double value = least;
    if (parse_number(text, least, most, &value, &error) < 0)
        argp_error(state, "--%s: %s", name, error.text);
    return value;
}

uint64_t option_size(struct argp_state *state, const char *name, const char *text, bool binary)
{
    struct error error;
    uint64_t value = 0;
    if (parse_size(text, binary, &value, &error) < 0)
        argp_error(state, "--%s: %s", name, error.text);
    return value;
}

int option_word(struct argp_state *state, const char *name, const char *text, const char *const *words)
{
    struct error error;
    int index = 0;
    if (parse_word(text, words, &index, &error) < 0)
        argp_error(state, "--%s: %s", name, error.text);
    return index;
}
