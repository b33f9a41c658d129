/* process.h: programs that tests start, disturb and wait for.
 *
 *     const char *const arguments[] = {"extract", "--model", ..., NULL};
 *     const pid_t process = process_start(arguments, log, log);
 *     kill(process, SIGTERM);
 *     status = process_await(process);
 */
#ifndef OFFRAMP_TESTS_PROCESS_H
#define OFFRAMP_TESTS_PROCESS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/test.h"

extern char **environ;

/* Starts the program of this build that arguments[0] names; its output and its messages go to files, which may
 * be one. Signals that ask it to stop reach it even where the test ignores one of them (under nohup). -1: it
 * could not be started; the test has failed then. */
static inline pid_t process_start(const char *const *arguments, const char *output, const char *messages)
{
    char program[512];
    const char *build = getenv("BUILD");
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t asking;
    pid_t process = -1;
    snprintf(program, sizeof program, "%s/%s", build ? build : "build", arguments[0]);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (strcmp(output, messages) == 0)
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
    else
        posix_spawn_file_actions_addopen(&actions, 2, messages, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    sigemptyset(&asking);
    sigaddset(&asking, SIGINT);
    sigaddset(&asking, SIGTERM);
    sigaddset(&asking, SIGHUP);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &asking);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    int code =
        posix_spawn(&process, program, &actions, &attributes, (char *const *)(uintptr_t)arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (code != 0)
        test_fail(__FILE__, __LINE__, "%s: %s", program, strerror(code));
    return code == 0 ? process : -1;
}

/* Waits until it has ended; its status as waitpid gives it. */
static inline int process_await(pid_t process)
{
    int status;
    while (waitpid(process, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return status;
}

/* Shows what a program has said. */
static inline void process_print(const char *messages)
{
    struct error ignored;
    char *text = NULL;
    size_t size;
    if (file_read(messages, &text, &size, &ignored) == 0)
        printf("%s", text);
    free(text);
}

/* Starts a program that nothing disturbs. False: it has not ended well; its messages are shown, and the test
 * has failed. */
static inline bool process_run(const char *const *arguments, const char *output, const char *messages)
{
    const int status = process_await(process_start(arguments, output, messages));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    test_fail(__FILE__, __LINE__, "%s ended with status %x", arguments[0], (unsigned)status);
    process_print(messages);
    return false;
}

static inline void wait_seconds(double seconds)
{
    const struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

#endif
