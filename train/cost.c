#include "train/cost.h"

#include "common/base/clock.h"
#include "common/base/memory.h"

struct cost cost_start(void)
{
    return (struct cost){.started = clock_seconds()};
}

void cost_watch(struct cost *cost, struct backend *backend)
{
    cost->backend = backend;
    cost->device_memory = backend_memory(backend);
}

static int add(struct run_folder *run, const char *name, double seconds, struct error *error)
{
    return run_folder_note(run, name, json_real(run_folder_number(run, name) + seconds), error);
}

static int raise_to(struct run_folder *run, const char *name, double bytes, struct error *error)
{
    const double peak = run_folder_number(run, name);
    return run_folder_note(run, name, json_real(bytes > peak ? bytes : peak), error);
}

/* What is gone of the device's memory: before the end nothing is given back but where it ran out. Other
 * processes count, too. */
static int note_device_memory(const struct cost *cost, struct run_folder *run, struct error *error)
{
    if (cost->device_memory == 0)
        return 0;
    return raise_to(run, "device_memory", (double)cost->device_memory - (double)backend_memory(cost->backend),
                    error);
}

static int note_device_times(struct cost *cost, struct run_folder *run, struct error *error)
{
    if (!cost->backend)
        return 0;
    const struct device_times now = backend_times(cost->backend), last = cost->device_times;
    if (now.ops > 0 && (add(run, "device_compute_seconds", now.ops - last.ops, error) < 0 ||
                        add(run, "device_in_seconds", now.in - last.in, error) < 0 ||
                        add(run, "device_out_seconds", now.out - last.out, error) < 0))
        return -1;
    cost->device_times = now;
    return 0;
}

int cost_note(struct cost *cost, struct run_folder *run, struct error *error)
{
    const double now = clock_seconds();
    if (add(run, "seconds", now - cost->started, error) < 0 ||
        add(run, "stall_seconds", cost->stalled, error) < 0 ||
        add(run, "training_seconds", cost->trained, error) < 0 ||
        raise_to(run, "peak_memory", (double)memory_peak(), error) < 0 ||
        note_device_memory(cost, run, error) < 0 || note_device_times(cost, run, error) < 0)
        return -1;
    cost->started = now;
    cost->stalled = cost->trained = 0;
    return run_folder_save(run, error);
}

void cost_print(const struct run_folder *run, FILE *stream)
{
    const double seconds = run_folder_number(run, "seconds"), stalled = run_folder_number(run, "stall_seconds");
    const double ops = run_folder_number(run, "device_compute_seconds"),
                 in = run_folder_number(run, "device_in_seconds"),
                 out = run_folder_number(run, "device_out_seconds"),
                 memory = run_folder_number(run, "device_memory");
    /* The run is bound by the part that is at work for most of the time beside the others. */
    const struct {
        const char *name;
        double seconds;
    } parts[] = {{"computing", ops > 0 ? ops : seconds - stalled},
                 {"reading the store", stalled},
                 {"bringing to the device", in},
                 {"taking from the device", out}};
    int most = 0;
    char time[32], stall[32], bytes[32];
    for (int i = 1; i < (int)(sizeof parts / sizeof *parts); i++)
        most = parts[i].seconds > parts[most].seconds ? i : most;
    fprintf(stream,
            "Time %s, of that %s waiting for the store: bound by %s; peak memory %s (pages of the mapped store "
            "included).\n",
            format_duration(seconds, time, sizeof time), format_duration(stalled, stall, sizeof stall),
            parts[most].name, format_bytes(run_folder_number(run, "peak_memory"), bytes, sizeof bytes));
    if (ops > 0)
        fprintf(stream, "The device computed for %.1f s, received data for %.1f s and sent data for %.1f s.\n",
                ops, in, out);
    if (memory > 0)
        fprintf(stream, "Memory of the device %s.\n", format_bytes(memory, bytes, sizeof bytes));
}
