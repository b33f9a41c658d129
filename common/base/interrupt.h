/* interrupt.h: what SIGINT, SIGTERM and SIGHUP do to a program.
 *
 * The first asks it to stop: cli_interrupted() is true from then on, and cli_await() returns. The program looks
 * at it between the parts of its work, keeps what it has, and ends with EXIT_FAILED and a word on how to go on.
 * A second one, half a second later or more, ends the program at once, by that signal: what is committed is on
 * disk. (timeout(1) and job managers send a signal to a process and to its group: the same one twice.)
 *
 * No thread that computes runs a signal handler. oneDNN's generated code for AVX2 uses the stack pointer as an
 * ordinary register, so that the system would write a handler's frame into the heap. All threads block the
 * three signals, and one thread does nothing but wait for them.
 *
 * A SIGHUP or SIGINT that is ignored when the program starts stays ignored: nohup asks for the one, a shell's
 * script for the other in what it starts with &. SIGTERM is always heard. A child that fork makes inherits the
 * block and not the thread: it hears none of the three, and its parent ends it (PR_SET_PDEATHSIG, SIGKILL).
 */
#ifndef OFFRAMP_BASE_INTERRUPT_H
#define OFFRAMP_BASE_INTERRUPT_H

#include <stdbool.h>

/* Called by cli_start, before any thread is started: threads inherit what is blocked. */
void interrupt_listen(void);

/* Whether a signal has asked the program to stop. Any thread may ask, at any time. */
bool cli_interrupted(void);

enum cli_await { AWAIT_READ, AWAIT_WRITE };

/* Waits until a read of the descriptor, or a write of a few bytes, would not block. False: a signal has asked
 * the program to stop. Anything that may wait for somebody else (a terminal, a pipe) waits here first. */
bool cli_await(int descriptor, enum cli_await what);

#endif
