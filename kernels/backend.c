#include "kernels/backend.h"

#include <string.h>

#include "common/base/pool.h"

static const struct {
    const char *name;
    const struct backend_table *table;
} backends[] = {{"cpu", &cpu_table}, {"ref", &ref_table}};

static const char automatic[] = "cpu";

int backend_open(const char *device, const struct backend_options *options, struct backend **backend,
                 struct error *error)
{
    struct backend_options resolved = *options;
    const char *name = strcmp(device, "auto") == 0 ? automatic : device;
    if (options->threads < 0)
        return error_set(error, "device %s: %d threads make no sense", device, options->threads);
    if (options->threads == 0)
        resolved.threads = processor_count();
    if (strcmp(name, "cuda") == 0)
        return error_set(error, "device cuda: this build of offramp has no CUDA backend yet; "
                                "use --device cpu");
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (strcmp(name, backends[i].name) != 0)
            continue;
        if (backends[i].table->open(&resolved, backend, error) < 0)
            return error_prefix(error, "device %s", name);
        (*backend)->table = backends[i].table;
        (*backend)->name = backends[i].name;
        (*backend)->options = resolved;
        return 0;
    }
    return error_set(error, "device %s: there is no such device; known are auto, cpu, cuda and ref", device);
}

void backend_close(struct backend *backend)
{
    if (backend)
        backend->table->close(backend);
}

const char *backend_name(const struct backend *backend)
{
    return backend->name;
}

const char *backend_identity(const struct backend *backend)
{
    return backend->identity;
}
