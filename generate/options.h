/* options.h: the command line of generate. */
#ifndef OFFRAMP_GENERATE_OPTIONS_H
#define OFFRAMP_GENERATE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/device/device.h"

struct generate_options {
    const char *model;
    const char *policy; /* NULL: the full model */
    const char *prompt, *prompt_file; /* both NULL: standard input */
    struct device_options device;
    int tokens, top_k;
    double temperature, top_p;
    double threshold; /* NaN: the policy's */
    uint64_t seed;
    bool exit_given, exit_off, show, json;
};

/* Where the command line is wrong, ends the program with EXIT_WRONG_USAGE and a reason; for --help it ends it,
 * too. The texts stay argv's own. */
void generate_options_parse(int argc, char **argv, struct generate_options *options);

#endif
