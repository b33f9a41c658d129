#include "common/base/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/terminal.h"

#define SAME_SECONDS   0.5 /* signals this close are one */
#define NOTICE_SECONDS 2 /* of stopping without a word */

/* A signal reaches a process, not a part of it: the one exception to having no global state. */
static struct {
    atomic_bool asked;
    double when; /* clock_seconds; set before `asked` */
    int wake; /* an eventfd, readable once asked; -1: nobody listens */
    pthread_t listener;
    sigset_t signals;
} interrupts = {.wake = -1};

/* ---- the thread that waits ---- */

/* The next signal; 0 when none has come within so many seconds. Negative: waits for ever. */
static int next_signal(int seconds)
{
    const struct timespec time = {.tv_sec = seconds};
    int number;
    do
        number = sigtimedwait(&interrupts.signals, NULL, seconds < 0 ? NULL : &time);
    while (number < 0 && errno == EINTR);
    return number < 0 ? 0 : number;
}

/* Says that it may take long, unless nobody reads: that may be what it takes long for. */
static void say_stopping(void)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) == 1 && !(out.revents & (POLLERR | POLLNVAL)))
        dprintf(STDERR_FILENO, "%s%s: stops as soon as it can; another signal ends it at once\n",
                terminal_look().moves        ? TERMINAL_ERASE "\n"
                : isatty(STDERR_FILENO) == 1 ? "\n"
                                             : "",
                program_invocation_short_name);
}

static _Noreturn void end_by(int number)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    sigset_t one;
    if (terminal_look().moves && poll(&out, 1, 0) == 1) /* the prompt comes into their place */
        dprintf(STDERR_FILENO, TERMINAL_ERASE);
    sigemptyset(&one);
    sigaddset(&one, number);
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(number);
    _exit(128 + number); /* the first process of a container does not end by a signal */
}

static void *listen_for_signals(void *unused)
{
    (void)unused;
    next_signal(-1);
    const double first = clock_seconds();
    interrupts.when = first;
    atomic_store(&interrupts.asked, true);
    eventfd_write(interrupts.wake, 1);
    for (bool told = false;;) {
        const int number = next_signal(told ? -1 : NOTICE_SECONDS);
        if (number == 0) {
            say_stopping();
            told = true;
        } else if (clock_seconds() - first >= SAME_SECONDS)
            end_by(number);
    }
    return NULL;
}

/* Runs only in threads that a library started before main: the others block. */
static void pass_on(int number)
{
    pthread_kill(interrupts.listener, number);
}

void interrupt_listen(void)
{
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART}, old;
    sigset_t before;
    sigemptyset(&interrupts.signals);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const bool ignored = sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN;
        if (numbers[i] == SIGTERM || !ignored)
            sigaddset(&interrupts.signals, numbers[i]);
    }
    pthread_sigmask(SIG_BLOCK, &interrupts.signals, &before);
    interrupts.wake = eventfd(0, EFD_CLOEXEC);
    if (interrupts.wake < 0 || pthread_create(&interrupts.listener, NULL, listen_for_signals, NULL) != 0) {
        pthread_sigmask(SIG_SETMASK, &before, NULL); /* signals end the program: what is committed is kept */
        return;
    }
    pthread_detach(interrupts.listener);
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigismember(&interrupts.signals, numbers[i]))
            sigaction(numbers[i], &action, NULL);
}

/* ---- for the others ---- */

bool cli_interrupted(void)
{
    return atomic_load(&interrupts.asked);
}

double cli_interrupted_for(void)
{
    return cli_interrupted() ? clock_seconds() - interrupts.when : 0;
}

bool cli_await(int descriptor, enum cli_await what)
{
    struct pollfd waits[] = {{.fd = descriptor, .events = what == AWAIT_READ ? POLLIN : POLLOUT},
                             {.fd = interrupts.wake, .events = POLLIN}}; /* poll passes over a negative one */
    while (!cli_interrupted())
        if (poll(waits, 2, -1) >= 0 && waits[0].revents)
            return true;
    return false;
}
