/* gates.h: the gates of a run (common/head/gate.h): for the best head of each tap those that are asked for, fitted to a
 * part of the held-out split, which the heads have not seen, and scored on another part.
 *
 *     RUN/gates/TAP-GATE.safetensors       a gate
 *     RUN/gates/gates.json                 what they are worth (gate_results.h)
 *
 * The split's sequences are cut in the middle. Of the second half, those are left out that go on with a document of
 * the first; where that would be more than half of it, one sequence is left out, and gates.json says that the parts may share a
 * document.
 *
 * What they are worth, on the demo model: affine ridge heads of 81,920 tokens, fitted to 8,192 held-out tokens and scored on
 * 7,680 others. AUC; in layers a check costs 8.1 with the whole vocabulary, 0.8 with the short list, 0.1 with the state:
 *     tap                            6      12     18     24
 *     the head's confidence          .715   .715   .733   .784
 *     confidence                     .733   .729   .743   .802
 *     short-list                     .735   .733   .747   .784
 *     linear                         .751   .719   .728   .697
 *     mlp                            .778   .764   .758   .719
 *     candidates                            .669   .716   .695
 *     candidates+state                      .771   .790   .765
 *     short-list+state               .801   .793   .816   .817
 *     candidates+short-list+state           .788   .807   .811
 * Their mean calibration error is 0.01 to 0.04.
 *
 * `candidates` are the likeliest tokens of the short list at the exit below, so the lowest exit has none.
 *
 * gates.json is written after each tap: a process that is stopped or killed leaves those that are done, and the next
 * one makes the others. A gate of another head, or whose file is gone, is made again.
 */
#ifndef OFFRAMP_TRAIN_GATES_H
#define OFFRAMP_TRAIN_GATES_H

#include "common/base/error.h"
#include "train/evaluate.h"
#include "train/gate_wish.h"
#include "train/leaderboard.h"
#include "train/run_folder.h"

/* What the held-out split must have at least. */
enum { GATES_TOKENS = 1024, GATES_SEQUENCES = 8 };

struct gates_setting {
    struct run_folder *run;
    const struct evaluation_setting *evaluation;
    const struct gate_wish *wish;
};

/* Whether there can be gates: an error says what the held-out split lacks. */
int gates_check(const struct stores *stores, const struct gate_wish *wish, struct error *error);

/* Whether all are there that can be. */
bool gates_are_there(const struct run_folder *run, const struct leaderboard *board, int layers,
                     const struct gate_wish *wish);

/* Makes those that are not there. ERROR_INTERRUPTED: the program was told to stop meanwhile. */
int gates_write(const struct gates_setting *setting, const struct leaderboard *board, struct error *error);

#endif
