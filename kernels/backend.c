#include "kernels/backend.h"

#include <string.h>

#include "common/base/pool.h"
#include "kernels/cuda_library.h"
#include "kernels/gpu.h"

/* The devices there are, the one that "auto" prefers first. */
enum device { DEVICE_CUDA, DEVICE_CPU, DEVICE_REF, DEVICE_COUNT };
static const char *const names[DEVICE_COUNT] = {"cuda", "cpu", "ref"};

static const struct backend_table *find_table(enum device device, struct error *error)
{
    switch (device) {
    case DEVICE_CUDA: return cuda_library_table(error);
    case DEVICE_CPU: return &cpu_table;
    default: return &ref_table;
    }
}

static int open_device(enum device device, const struct backend_options *options, struct backend **backend,
                       struct error *error)
{
    struct backend_options resolved = *options;
    if (options->threads < 0)
        return error_set(error, "device %s: there cannot be %d threads", names[device], options->threads);
    if (options->threads == 0)
        resolved.threads = processor_count();
    if (options->math == MATH_DEFAULT)
        resolved.math = device == DEVICE_CUDA ? MATH_BF16 : MATH_F32;
    if (resolved.math == MATH_TF32 && device != DEVICE_CUDA)
        return error_set_kind(error, ERROR_USAGE, "device %s: has no tf32; use --math f32 or bf16",
                              names[device]);
    const struct backend_table *table = find_table(device, error);
    if (!table || table->open(&resolved, backend, error) < 0) {
        error_narrow(error, ERROR_DEVICE);
        return error_prefix(error, "device %s", names[device]);
    }
    (*backend)->table = table;
    (*backend)->name = names[device];
    (*backend)->options = resolved;
    return 0;
}

/* A GPU that is there is taken, or its absence explained: no computation is slow without a word. */
static int open_best(const struct backend_options *options, struct backend **backend, struct error *error)
{
    struct error reason;
    if (open_device(DEVICE_CUDA, options, backend, &reason) == 0)
        return 0;
    const bool lost = gpu_explain(gpu_find("/"), &reason);
    if (open_device(DEVICE_CPU, options, backend, error) < 0)
        return lost ? error_set_kind(error, error->kind, "%s; %s", error->text, reason.text) : -1;
    if (lost)
        (*backend)->unused_gpu = reason;
    return 0;
}

int backend_open(const char *device, const struct backend_options *options, struct backend **backend,
                 struct error *error)
{
    if (strcmp(device, "auto") == 0)
        return open_best(options, backend, error);
    for (enum device d = 0; d < DEVICE_COUNT; d++)
        if (strcmp(device, names[d]) == 0)
            return open_device(d, options, backend, error);
    return error_set_kind(error, ERROR_USAGE,
                          "device %s: there is no such device; known are auto, cpu, cuda and ref", device);
}

void backend_close(struct backend *backend)
{
    if (backend)
        backend->table->close(backend);
}

uint64_t backend_memory(const struct backend *backend)
{
    return backend->table->memory ? backend->table->memory(backend) : 0;
}

uint64_t backend_activations(const struct backend *backend)
{
    return backend->activations ? backend->activations : 64 << 20;
}

uint64_t backend_working(const struct backend *backend)
{
    return backend->working;
}

struct device_times backend_times(const struct backend *backend)
{
    return backend->times;
}

enum ran_out backend_ran_out(struct backend *backend)
{
    return (enum ran_out)__atomic_exchange_n(&backend->ran_out, (int)RAN_OUT_NOTHING, __ATOMIC_RELAXED);
}

const char *backend_name(const struct backend *backend)
{
    return backend->name;
}

const char *backend_description(const struct backend *backend)
{
    return backend->description;
}

const char *backend_unused_gpu(const struct backend *backend)
{
    return backend->unused_gpu.text[0] ? backend->unused_gpu.text : NULL;
}

const char *backend_warning(const struct backend *backend)
{
    return backend->warning;
}

const char *backend_identity(const struct backend *backend)
{
    return backend->identity;
}

enum math backend_math(const struct backend *backend)
{
    return backend->options.math;
}

const char *const *device_names(void)
{
    static const char *const list[] = {"auto", "cpu", "cuda", "ref", NULL};
    return list;
}

const char *const *math_names(void)
{
    static const char *const list[] = {"f32", "tf32", "bf16", NULL};
    return list;
}
