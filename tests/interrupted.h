/* interrupted.h: a test program that a signal has asked to stop. Once: what is tested behind it must come
 * last. */
#ifndef OFFRAMP_TESTS_INTERRUPTED_H
#define OFFRAMP_TESTS_INTERRUPTED_H

#include <signal.h>
#include <unistd.h>

#include "common/base/interrupt.h"

static inline bool be_interrupted(void)
{
    if (!cli_interrupted()) {
        interrupt_listen();
        kill(getpid(), SIGTERM);
    }
    for (int i = 0; i < 5000 && !cli_interrupted(); i++)
        usleep(1000);
    return cli_interrupted();
}

#endif
