/* policy_table.h: makes a policy of a run's heads, and shows it.
 *
 * Of the best head of each tap, the policy gets those that pay (policy_search.h). It has no exits where none is
 * predicted to be faster than the full model, unless exits are asked for by name.
 *
 *     count = policy_choose(&board, layers, &wish, rows);            // which trials could be exits
 *     policy_table_write(&setting, &seen, trials, count, &wish, folder, &complete, error);
 *     policy_read(folder, &policy, error);
 *     policy_table_print(&policy, stdout);
 */
#ifndef OFFRAMP_TRAIN_POLICY_TABLE_H
#define OFFRAMP_TRAIN_POLICY_TABLE_H

#include <stdio.h>

#include "common/base/error.h"
#include "common/head/policy.h"
#include "common/model/config.h"
#include "train/evaluate.h"
#include "train/leaderboard.h"
#include "train/observations.h"
#include "train/policy_search.h"

/* Chooses the finished trial with the lowest KL of each tap, in the order of the taps, into best (room for all
 * of the board). Returns how many. Left out are the final tap, which is not an exit, and a tap whose KL is not
 * lower than that of an exit before it. A tap that `wish` names is never left out. */
int policy_choose(const struct leaderboard *board, int layers, const struct policy_wish *wish,
                  const struct leaderboard_row **best);

/* Writes a policy with the heads of its exits, which are some of the trials `best`, by tap, into `folder`, which is
 * made. Evaluates those that nothing was seen of yet (observations.h). *complete is false when the program was told
 * to stop meanwhile. */
int policy_table_write(const struct evaluation_setting *setting, const struct observations *seen,
                       struct trial *const *best, int count, const struct policy_wish *wish, const char *folder,
                       bool *complete, struct error *error);

/* One or two sentences: what the policy's threshold does and whether it is predicted to pay, or why it has no
 * exits. */
void policy_verdict(const struct policy *policy, char *text, size_t size);

/* The table for people, with the verdict. */
void policy_table_print(const struct policy *policy, FILE *stream);

#endif
