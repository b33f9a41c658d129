/* The parent of verify. It starts the children that read, collects what they find, and goes on when one
 * dies. */
#include "common/repair/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/pool.h"
#include "common/base/progress.h"
#include "common/repair/verify_internal.h"

enum { CHILD_DONE = 0, CHILD_FAILED = 1 };

struct parent {
    const char *path;
    const struct verify_options *options;
    struct verify_result *result;
    struct verify_shared *shared;
    int pipe[2]; /* problems come in at 0 */
    pid_t child[VERIFY_PROCESSES_MAX]; /* by slot; 0: none */
    int processes, running;
    char failure[1024]; /* why a child gave up */
    struct progress progress;
};

/* ---- children ---- */

/* A child may die of what it reads. So it has no handlers of the parent's or a sanitizer's, leaves no core, and
 * shows nothing of what LMDB prints. It ends with its parent. */
static void become_child(pid_t parent)
{
    const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    const struct rlimit no_core = {0, 0};
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
        signal(deadly[i], SIG_DFL);
    signal(SIGINT, SIG_IGN); /* the parent stops the children */
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(CHILD_FAILED);
    int silent = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (silent >= 0)
        dup2(silent, STDERR_FILENO);
}

typedef int child_work(const char *path, struct verify_shared *shared, struct verify_slot *slot, int pipe,
                       struct error *error);

static _Noreturn void run_child(const struct parent *parent, int slot, child_work *work)
{
    struct error error;
    struct verify_problem problem = {.kind = VERIFY_STRUCTURE};
    int result = work(parent->path, parent->shared, &parent->shared->slot[slot], parent->pipe[1], &error);
    if (result < 0) {
        memcpy(problem.text, error.text, sizeof problem.text);
        verify_send(parent->pipe[1], true, &problem);
    }
    _exit(result < 0 ? CHILD_FAILED : CHILD_DONE);
}

static int start_child(struct parent *parent, int slot, child_work *work, struct error *error)
{
    pid_t self = getpid();
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        return error_system(error, "%s: a process could not be started", parent->path);
    if (child == 0) {
        become_child(self);
        run_child(parent, slot, work);
    }
    parent->child[slot] = child;
    parent->running++;
    return 0;
}

static void stop_children(struct parent *parent)
{
    for (int i = 0; i < parent->processes; i++)
        if (parent->child[i] > 0) {
            kill(parent->child[i], SIGKILL);
            waitpid(parent->child[i], NULL, 0);
        }
}

/* ---- what they say ---- */

static void report(struct parent *parent, const struct verify_problem *problem)
{
    parent->result->problems++;
    if (parent->options->report)
        parent->options->report(parent->options->context, problem);
}

/* Everything in the pipe. */
static void read_problems(struct parent *parent)
{
    struct verify_message message;
    while (read(parent->pipe[0], &message, sizeof message) == sizeof message)
        if (message.fatal)
            memcpy(parent->failure, message.problem.text, sizeof parent->failure);
        else
            report(parent, &message.problem);
}

/* Waits a little for problems or an end. */
static void wait_a_little(const struct parent *parent)
{
    struct pollfd poll_pipe = {.fd = parent->pipe[0], .events = POLLIN};
    poll(&poll_pipe, 1, 1 /* ms */);
}

static void report_death(struct parent *parent, const struct verify_slot *slot, int signal_number)
{
    struct verify_problem problem = {.kind = VERIFY_STRUCTURE};
    struct verify_unit unit;
    if (slot && atomic_load(&slot->busy) && verify_unit_at(parent->shared, atomic_load(&slot->unit), &unit))
        verify_problem_at(parent->shared, &unit, atomic_load(&slot->value), &problem);
    else
        snprintf(problem.text, sizeof problem.text, "opening the store");
    size_t length = strlen(problem.text);
    snprintf(problem.text + length, sizeof problem.text - length,
             ": structure damaged: reading it ended a process (%s)", strsignal(signal_number));
    report(parent, &problem);
}

/* Whether a damaged page ended a process, not a person or the system. */
static bool is_crash(int status)
{
    if (!WIFSIGNALED(status))
        return false;
    int number = WTERMSIG(status);
    return number == SIGSEGV || number == SIGBUS || number == SIGABRT || number == SIGFPE || number == SIGILL;
}

/* ---- the two stages ---- */

static int child_failed(const struct parent *parent, struct error *error)
{
    return error_set(error, "%s", *parent->failure ? parent->failure : "a process that reads was stopped");
}

static int check_interrupted(const struct parent *parent, struct error *error)
{
    return cli_interrupted() ? error_set_kind(error, ERROR_INTERRUPTED, "%s: interrupted", parent->path) : 0;
}

/* *readable: whether there is anything to read. If not, problems say why. */
static int survey(struct parent *parent, bool *readable, struct error *error)
{
    int status = 0;
    *readable = false;
    if (start_child(parent, 0, verify_survey, error) < 0)
        return -1;
    while (waitpid(parent->child[0], &status, WNOHANG) == 0) {
        read_problems(parent);
        if (check_interrupted(parent, error) < 0)
            return -1;
        wait_a_little(parent);
    }
    parent->running--;
    parent->child[0] = 0;
    read_problems(parent);
    *readable = WIFEXITED(status) && WEXITSTATUS(status) == CHILD_DONE;
    if (is_crash(status))
        report_death(parent, NULL, WTERMSIG(status));
    else if (!*readable) {
        struct verify_problem problem = {.kind = VERIFY_STRUCTURE};
        child_failed(parent, error);
        if (parent->result->problems == 0)
            return -1;
        memcpy(problem.text, error->text, sizeof problem.text);
        report(parent, &problem);
    }
    return 0;
}

/* A child has ended. If it died in a unit, another child takes its slot and goes on behind the value. */
static int end_child(struct parent *parent, int slot, int status, struct error *error)
{
    parent->running--;
    parent->child[slot] = 0;
    read_problems(parent);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_DONE)
        return 0;
    if (!is_crash(status))
        return child_failed(parent, error);
    report_death(parent, &parent->shared->slot[slot], WTERMSIG(status));
    return atomic_load(&parent->shared->slot[slot].busy) ? start_child(parent, slot, verify_read, error) : 0;
}

static void show_progress(struct parent *parent)
{
    uint64_t done = atomic_load(&parent->shared->values), total = parent->shared->total;
    progress_update(&parent->progress, done < total ? done : total);
}

static int read_all(struct parent *parent, struct error *error)
{
    int result = 0;
    for (int slot = 0; slot < parent->processes && result == 0; slot++)
        result = start_child(parent, slot, verify_read, error);
    progress_start(&parent->progress, "verify", "values", parent->shared->total);
    while (parent->running > 0 && result == 0) {
        wait_a_little(parent);
        read_problems(parent);
        for (int slot = 0, status; slot < parent->processes && result == 0; slot++)
            if (parent->child[slot] > 0 && waitpid(parent->child[slot], &status, WNOHANG) > 0)
                result = end_child(parent, slot, status, error);
        show_progress(parent);
        if (result == 0)
            result = check_interrupted(parent, error);
    }
    progress_finish(&parent->progress);
    return result;
}

static int parent_open(struct parent *parent, struct error *error)
{
    if (pipe2(parent->pipe, O_CLOEXEC) < 0)
        return error_system(error, "%s: a pipe could not be made", parent->path);
    if (fcntl(parent->pipe[0], F_SETFL, O_NONBLOCK) < 0)
        return error_system(error, "%s: a pipe could not be made", parent->path);
    parent->shared =
        mmap(NULL, sizeof *parent->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (parent->shared == MAP_FAILED) {
        parent->shared = NULL;
        return error_system(error, "%s: shared memory could not be had", parent->path);
    }
    return 0;
}

static void parent_close(struct parent *parent)
{
    stop_children(parent);
    for (int i = 0; i < 2; i++)
        if (parent->pipe[i] >= 0)
            close(parent->pipe[i]);
    if (parent->shared)
        munmap(parent->shared, sizeof *parent->shared);
}

int store_verify(const char *path, const struct verify_options *options, struct verify_result *result,
                 struct error *error)
{
    struct parent parent = {.path = path, .options = options, .result = result, .pipe = {-1, -1}};
    bool readable = false;
    *result = (struct verify_result){0};
    parent.processes = options->processes > 0 ? options->processes : processor_count();
    if (parent.processes > VERIFY_PROCESSES_MAX)
        parent.processes = VERIFY_PROCESSES_MAX;
    int failed = parent_open(&parent, error);
    if (failed == 0) {
        parent.shared->decode = options->decode;
        failed = survey(&parent, &readable, error);
    }
    if (failed == 0 && readable)
        failed = read_all(&parent, error);
    if (parent.shared) {
        result->values = atomic_load(&parent.shared->values);
        result->bytes = atomic_load(&parent.shared->bytes);
    }
    parent_close(&parent);
    return failed;
}
