#include "common/base/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/test.h"

/* What happens to a process is tried in a child; it ends with one of these, or by a signal. */
enum { CHILD_GOOD = 40, CHILD_BAD };

static int run_child(int (*child)(void))
{
    int status = -1;
    fflush(NULL);
    const pid_t process = fork();
    if (process == 0) {
        alarm(20);
        signal(SIGINT, SIG_DFL); /* whoever runs the test may have these ignored */
        signal(SIGHUP, SIG_DFL);
        _exit(child());
    }
    if (process < 0 || waitpid(process, &status, 0) < 0)
        return -1;
    return status;
}

static bool is_good(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == CHILD_GOOD;
}

static void wait_seconds(double seconds)
{
    const double end = clock_seconds() + seconds;
    while (clock_seconds() < end)
        usleep(1000);
}

static bool becomes_interrupted(void)
{
    for (int i = 0; i < 5000 && !cli_interrupted(); i++)
        usleep(1000);
    return cli_interrupted();
}

static int child_is_asked(int number)
{
    interrupt_listen();
    if (cli_interrupted())
        return CHILD_BAD;
    kill(getpid(), number);
    return becomes_interrupted() ? CHILD_GOOD : CHILD_BAD;
}

static int child_int(void)
{
    return child_is_asked(SIGINT);
}

static int child_term(void)
{
    return child_is_asked(SIGTERM);
}

static int child_hup(void)
{
    return child_is_asked(SIGHUP);
}

TEST(interrupt_first_signal_asks)
{
    CHECK(is_good(run_child(child_int)));
    CHECK(is_good(run_child(child_term)));
    CHECK(is_good(run_child(child_hup)));
}

/* One that comes with the first is the same; one later ends the process. */
static int child_second(void)
{
    interrupt_listen();
    kill(getpid(), SIGTERM);
    if (!becomes_interrupted())
        return CHILD_BAD;
    kill(getpid(), SIGTERM);
    wait_seconds(0.7);
    kill(getpid(), SIGINT);
    wait_seconds(10);
    return CHILD_BAD;
}

TEST(interrupt_second_signal_ends)
{
    const int status = run_child(child_second);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

static void *send_signal(void *unused)
{
    (void)unused;
    wait_seconds(0.05);
    kill(getpid(), SIGTERM);
    return NULL;
}

static int child_waits(void)
{
    int ends[2];
    pthread_t thread;
    interrupt_listen();
    if (pipe(ends) < 0 || write(ends[1], "x", 1) != 1 || !cli_await(ends[0], AWAIT_READ) ||
        !cli_await(ends[1], AWAIT_WRITE))
        return CHILD_BAD;
    char byte;
    if (read(ends[0], &byte, 1) != 1 || pthread_create(&thread, NULL, send_signal, NULL) != 0)
        return CHILD_BAD;
    return cli_await(ends[0], AWAIT_READ) || !cli_interrupted() ? CHILD_BAD : CHILD_GOOD;
}

TEST(interrupt_wakes_who_waits)
{
    CHECK(is_good(run_child(child_waits)));
}

/* At the end of a pipe nothing waits. */
static int child_reads_end(void)
{
    int ends[2];
    interrupt_listen();
    if (pipe(ends) < 0)
        return CHILD_BAD;
    close(ends[1]);
    return cli_await(ends[0], AWAIT_READ) ? CHILD_GOOD : CHILD_BAD;
}

TEST(interrupt_end_of_input_is_read)
{
    CHECK(is_good(run_child(child_reads_end)));
}

/* Whether a signal that was ignored at the start stays so, and SIGTERM is heard all the same. */
static int child_ignores(int number)
{
    signal(number, SIG_IGN);
    interrupt_listen();
    kill(getpid(), number);
    wait_seconds(0.1);
    if (cli_interrupted())
        return CHILD_BAD;
    kill(getpid(), SIGTERM);
    return becomes_interrupted() ? CHILD_GOOD : CHILD_BAD;
}

static int child_under_nohup(void)
{
    return child_ignores(SIGHUP);
}

TEST(interrupt_nohup_is_kept)
{
    CHECK(is_good(run_child(child_under_nohup)));
}

/* A script starts what is before & with SIGINT ignored. */
static int child_of_script(void)
{
    return child_ignores(SIGINT);
}

TEST(interrupt_background_job_is_not_asked)
{
    CHECK(is_good(run_child(child_of_script)));
}

static int child_ignores_term(void)
{
    signal(SIGTERM, SIG_IGN);
    return child_is_asked(SIGTERM);
}

TEST(interrupt_term_is_always_heard)
{
    CHECK(is_good(run_child(child_ignores_term)));
}

static atomic_bool all_blocked = true;

static void *look_at_mask(void *unused)
{
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    sigset_t mask;
    (void)unused;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!sigismember(&mask, numbers[i]))
            atomic_store(&all_blocked, false);
    return NULL;
}

static int child_starts_threads(void)
{
    pthread_t thread;
    interrupt_listen();
    look_at_mask(NULL);
    if (pthread_create(&thread, NULL, look_at_mask, NULL) != 0)
        return CHILD_BAD;
    pthread_join(thread, NULL);
    return atomic_load(&all_blocked) ? CHILD_GOOD : CHILD_BAD;
}

TEST(interrupt_threads_hear_nothing)
{
    CHECK(is_good(run_child(child_starts_threads)));
}

static void *sleep_on(void *unused)
{
    (void)unused;
    for (;;)
        pause();
    return NULL;
}

/* Some libraries start threads before main, which block nothing. */
static int child_of_library(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, sleep_on, NULL) != 0)
        return CHILD_BAD;
    interrupt_listen();
    pthread_kill(thread, SIGTERM);
    return becomes_interrupted() ? CHILD_GOOD : CHILD_BAD;
}

TEST(interrupt_early_threads_pass_it_on)
{
    CHECK(is_good(run_child(child_of_library)));
}

TEST_MAIN
