#include "train/claim.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"

/* Processes that have the same `machine` see each other's numbers. */
struct holder {
    char host[128], machine[128], job[80], time[32];
    long process;
    long long
        begun; /* of the process, in ticks since the machine's start: another one of its number has another */
    long long restarts; /* of the Slurm job */
    bool released; /* it said so itself */
};

/* ---- processes ---- */

/* When a process began, or -1: it is not there. One that has ended, and that nobody has waited for, is not. */
static long long process_begun(long process)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", process);
    FILE *file = fopen(path, "re");
    const size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[length] = 0;
    char state;
    long long begun;
    const char *rest = strrchr(text, ')'); /* behind the name, which may hold anything */
    if (!rest ||
        sscanf(rest + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld",
               &state, &begun) != 2)
        return -1;
    return state == 'Z' || state == 'X' ? -1 : begun;
}

static void read_word(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    if (!file || !fgets(text, (int)size, file))
        *text = 0;
    if (file)
        fclose(file);
    text[strcspn(text, "\n")] = 0;
}

/* The start of the machine and the space of process numbers; empty where /proc does not say. */
static void name_machine(char *text, size_t size)
{
    char start[64], space[64];
    read_word("/proc/sys/kernel/random/boot_id", start, sizeof start);
    const ssize_t length = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    space[length > 0 ? length : 0] = 0;
    *text = 0;
    if (*start && *space)
        snprintf(text, size, "%s %s", start, space);
}

static struct holder holder_self(void)
{
    const char *job = getenv("SLURM_JOB_ID"), *restarts = getenv("SLURM_RESTART_COUNT");
    const char *cluster = getenv("SLURM_CLUSTER_NAME");
    const time_t now = time(NULL);
    struct tm utc;
    struct holder self = {.process = (long)getpid(), .begun = process_begun((long)getpid())};
    if (gethostname(self.host, sizeof self.host - 1) < 0)
        strcpy(self.host, "?");
    name_machine(self.machine, sizeof self.machine);
    if (job && *job)
        snprintf(self.job, sizeof self.job, "%.30s%s%.30s", job, cluster ? " of " : "", cluster ? cluster : "");
    self.restarts = restarts ? atoll(restarts) : 0;
    strftime(self.time, sizeof self.time, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&now, &utc));
    return self;
}

/* ---- files ---- */

static char *claim_path(const char *base, int number, struct error *error)
{
    char *path;
    if (asprintf(&path, "%s.%d", base, number) >= 0)
        return path;
    error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", base);
    return NULL;
}

static char *claim_text(const char *path, const struct holder *self, struct error *error)
{
    json_t *object =
        json_pack("{ss sI ss ss sI sI ss sb}", "host", self->host, "process", (json_int_t)self->process, "time",
                  self->time, "slurm_job", self->job, "restarts", (json_int_t)self->restarts, "begun",
                  (json_int_t)self->begun, "machine", self->machine, "released", self->released);
    char *text = object ? json_text(path, object, JSON_INDENT(1), error) : NULL;
    if (!object)
        error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", path);
    json_decref(object);
    return text;
}

/* *first: it was not there. */
static int make_claim(const char *base, int number, const struct holder *self, bool *first, struct error *error)
{
    char *path = claim_path(base, number, error);
    char *text = path ? claim_text(path, self, error) : NULL;
    int result = text ? file_write_first(path, text, strlen(text), first, error) : -1;
    free(text);
    free(path);
    return result;
}

static void take_text(const json_t *object, const char *key, char *text, size_t size)
{
    const char *value = json_string_value(json_object_get(object, key));
    snprintf(text, size, "%s", value ? value : "");
}

static int read_claim(const char *base, int number, struct holder *holder, struct error *error)
{
    char *path = claim_path(base, number, error);
    json_t *object = path ? json_read(path, error) : NULL;
    if (object) {
        *holder = (struct holder){.process = (long)json_integer_value(json_object_get(object, "process")),
                                  .begun = json_integer_value(json_object_get(object, "begun")),
                                  .released = json_is_true(json_object_get(object, "released")),
                                  .restarts = json_integer_value(json_object_get(object, "restarts"))};
        take_text(object, "host", holder->host, sizeof holder->host);
        take_text(object, "machine", holder->machine, sizeof holder->machine);
        take_text(object, "slurm_job", holder->job, sizeof holder->job);
        take_text(object, "time", holder->time, sizeof holder->time);
    }
    json_decref(object);
    free(path);
    return object ? 0 : -1;
}

/* The number of the last file that is there; 0: there is none. Opened: what a network file system knows of names may
 * be seconds old, but it asks again for a file that is opened. */
static int last_claim(const char *base)
{
    for (int number = 1;; number++) {
        struct error ignored;
        char *path = claim_path(base, number, &ignored);
        const int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        free(path);
        if (file < 0)
            return number - 1;
        close(file);
    }
}

/* ---- judging ---- */

static bool is_over(const struct holder *holder, const struct holder *self)
{
    if (holder->released)
        return true;
    if (*self->machine && !strcmp(holder->machine, self->machine))
        return holder->begun < 0 || process_begun(holder->process) != holder->begun;
    return *self->job && !strcmp(holder->job, self->job) && holder->restarts < self->restarts;
}

static void describe(const struct holder *holder, char text[CLAIM_HOLDER_SIZE])
{
    snprintf(text, CLAIM_HOLDER_SIZE, "process %ld on %s, since %s%s%s", holder->process, holder->host,
             holder->time, *holder->job ? ", Slurm job " : "", holder->job);
}

static int refuse(const char *base, const char *what, const struct holder *holder, const struct holder *self,
                  struct error *error)
{
    char who[CLAIM_HOLDER_SIZE];
    describe(holder, who);
    if (*self->machine && !strcmp(holder->machine, self->machine))
        return error_set(error, "%s: another train is at work there: %s; wait until it has ended", what, who);
    return error_set(
        error,
        "%s: another train may be at work there: %s. When it is not any more, remove %s.* and run the "
        "same command again",
        what, who, base);
}

static void tell_taken(const char *what, const struct holder *before)
{
    char who[CLAIM_HOLDER_SIZE];
    describe(before, who);
    cli_say("%s goes on for a train that was killed: %s", what, who);
}

int claim_take(const char *base, const char *what, struct claim *claim, struct error *error)
{
    const struct holder self = holder_self();
    struct holder holder;
    *claim = (struct claim){0};
    for (;;) {
        const int number = last_claim(base);
        const bool there = number > 0;
        bool first = false;
        if (there && read_claim(base, number, &holder, error) < 0)
            return error_prefix(error, "%s", what);
        if (there && !is_over(&holder, &self))
            return refuse(base, what, &holder, &self, error);
        if (make_claim(base, number + 1, &self, &first, error) < 0)
            return error_prefix(error, "%s", what);
        if (!first && last_claim(base) <= number)
            return error_set(error, "%s: %s.%d cannot be read", what, base, number + 1);
        if (!first) /* somebody was faster, and is judged now */
            continue;
        if (there && !holder.released)
            tell_taken(what, &holder);
        claim->number = number + 1;
        break;
    }
    claim->base = string_copy(base, error);
    return claim->base ? 0 : -1;
}

void claim_release(struct claim *claim)
{
    struct error ignored; /* who comes next judges what is left */
    struct holder self = holder_self();
    self.released = true;
    char *path = claim->base && !claim_is_lost(claim) ? claim_path(claim->base, claim->number, &ignored) : NULL;
    char *text = path ? claim_text(path, &self, &ignored) : NULL;
    if (text)
        file_write(path, text, strlen(text), &ignored);
    free(text);
    free(path);
    free(claim->base);
    *claim = (struct claim){0};
}

bool claim_is_lost(const struct claim *claim)
{
    const struct holder self = holder_self();
    struct holder holder;
    struct error ignored;
    if (!claim->base || last_claim(claim->base) != claim->number)
        return true;
    return read_claim(claim->base, claim->number, &holder, &ignored) < 0 || holder.process != self.process ||
           holder.begun != self.begun || strcmp(holder.machine, self.machine) != 0;
}

bool claim_is_held(const char *base, char holder_text[CLAIM_HOLDER_SIZE])
{
    const struct holder self = holder_self();
    struct holder holder;
    struct error ignored;
    const int number = last_claim(base);
    *holder_text = 0;
    if (number == 0 || read_claim(base, number, &holder, &ignored) < 0 || is_over(&holder, &self))
        return false;
    describe(&holder, holder_text);
    return true;
}
