/* interrupt.h: what SIGINT, SIGTERM and SIGHUP do to a program.
 *
 * Do not install a signal handler. A thread that computes must not run one: oneDNN's generated code for AVX2
 * uses the stack pointer as an ordinary register, and the system would write the handler's frame into the heap.
 * So all threads block the three signals, and one thread waits for them.
 *
 * A child that fork makes inherits the block but not the thread. It hears none of the three signals, so its
 * parent must end it (PR_SET_PDEATHSIG, SIGKILL).
 *
 * The first signal asks the program to stop: from then on cli_interrupted() is true, and cli_await() returns.
 * Long work asks between its parts. The program keeps what it has, ends with EXIT_FAILED, and says how to go
 * on. The second signal ends the program at once. What was committed is on disk. It counts only half a second
 * after the first: timeout(1) and job managers send the same signal to a process and to its group.
 *
 * A SIGHUP or SIGINT that is ignored when the program starts stays ignored: nohup sets the first so, and a
 * shell the second for what a script starts with &. SIGTERM is always heard.
 */
#ifndef OFFRAMP_BASE_INTERRUPT_H
#define OFFRAMP_BASE_INTERRUPT_H

#include <stdbool.h>

/* Called by cli_start, before any thread is started, because threads inherit what is blocked. */
void interrupt_listen(void);

/* Whether a signal has asked the program to stop. Any thread may ask, at any time. */
bool cli_interrupted(void);

/* For how many seconds it has been so; 0 where no signal has come. Who would keep what it has, and would take long
 * for it, gives up after STOP_SECONDS: what was kept before is good, too. */
#define STOP_SECONDS 2.0
double cli_interrupted_for(void);

enum cli_await { AWAIT_READ, AWAIT_WRITE };

/* Waits until a read of the descriptor, or a write of a few bytes, does not block. False when a signal has
 * asked the program to stop. Call it before reading from, or writing to, a terminal or a pipe: these may wait
 * for somebody else. */
bool cli_await(int descriptor, enum cli_await what);

#endif
