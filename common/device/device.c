#include "common/device/device.h"

#include <stdio.h>

#include "common/base/cli.h"

int device_open(const struct device_options *options, struct backend **backend, struct error *error)
{
    if (backend_open(options->name, &options->backend, backend, error) < 0)
        return -1;
    const char *const warnings[] = {backend_unused_gpu(*backend), backend_warning(*backend)};
    fprintf(stderr, "device: %s\n", backend_description(*backend));
    for (size_t i = 0; i < sizeof warnings / sizeof warnings[0]; i++)
        if (warnings[i])
            cli_say("warning: %s", warnings[i]);
    return 0;
}
