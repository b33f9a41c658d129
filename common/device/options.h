/* options.h: --device, --math and --threads, the same in every program: a child of the program's argp parser.
 *
 *     static const struct argp_child children[] = {{.argp = &device_argp}, {0}};
 *     static const struct argp argp = {.options = options, .parser = parse, .children = children};
 *     ...
 *     case ARGP_KEY_INIT: state->child_inputs[0] = &options->device; return 0;
 *
 * The program sets what stands where an option is not given. --help prints the three in the group
 * DEVICE_OPTIONS_GROUP; the program numbers the groups of its own options so that they come before or behind.
 */
#ifndef OFFRAMP_DEVICE_OPTIONS_H
#define OFFRAMP_DEVICE_OPTIONS_H

#include <argp.h>

#include "common/device/device.h"

enum { DEVICE_OPTIONS_GROUP = 10 };

extern const struct argp device_argp; /* its input is a struct device_options */
extern const struct argp threads_argp; /* --threads alone; its input is an int */

#endif
