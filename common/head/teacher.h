/* teacher.h: what the full model says after each token. This is what exit heads are taught.
 *
 * It is computed from the states after the last layer: final norm, product with the output weight, softmax; and
 * for u (store/target.h) one more product with the output weight. In many models that weight is the largest
 * tensor, and it is needed in two forms. So where weights do not all stay in memory, it is loaded when the
 * teacher is asked, and dropped when the teacher may rest.
 *
 *     teacher_open(model, backend, rows, resident, &teacher, error);
 *     while (...) {
 *         teacher_ask(teacher, queue, states, labels, values, &u, error);    // any number of times
 *         teacher_rest(teacher);
 *     }
 *     teacher_close(teacher);
 */
#ifndef OFFRAMP_HEAD_TEACHER_H
#define OFFRAMP_HEAD_TEACHER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/ends.h"
#include "common/model/model.h"
#include "common/store/target.h"
#include "kernels/ops.h"

/* ---- values of rows, from op_vocab_stats ---- */

struct answer;

/* rows: the most at a time. best: whether the best tokens are wanted. */
int answer_create(struct backend *backend, int64_t rows, bool best, struct answer **answer,
                  struct error *error);
void answer_destroy(struct answer *answer); /* NULL is fine */

/* The outputs of op_vocab_stats from which values of `rows` rows are made. The caller may add u. */
struct vocab_stats answer_stats(const struct answer *answer, int64_t rows);
/* values [rows], after op_vocab_stats has filled those outputs (it needs labels for it). Waits for the
 * queue. Best tokens that are not wanted are -1. */
int answer_read(struct answer *answer, struct queue *queue, int64_t rows, struct target_row *values,
                struct error *error);

/* ---- a whole model's ---- */

struct teacher;

/* rows: the most that it is asked at once. resident: the output weight is loaded here, and stays. */
int teacher_open(const struct model *model, struct backend *backend, int64_t rows, bool resident,
                 struct teacher **teacher, struct error *error);
void teacher_close(struct teacher *teacher); /* NULL is fine */

/* states [M, H]: as the last layer left them. labels [M]: the tokens that come next. Gives values [M] on the
 * host, and u [M, H] on the device, which is the teacher's until it is asked again. Waits for the queue. What a
 * row gets does not depend on the rows beside it as long as there are more than MATMUL_FEW_ROWS. */
int teacher_ask(struct teacher *teacher, struct queue *queue, struct matrix states, const int32_t *labels,
                struct target_row *values, struct matrix *u, struct error *error);

/* The final norm and the output weight, where others ask the model's head, too: the teacher's, until it rests. After a
 * teacher_ask. */
const struct ends *teacher_ends(const struct teacher *teacher);

/* Drops the output weight unless it is resident. The next teacher_ask loads it again. */
void teacher_rest(struct teacher *teacher);

/* Bytes of the output weight in the compute type, in its two forms; and of everything else, for `rows`. */
uint64_t teacher_weight_bytes(const struct model_config *config, enum math math);
uint64_t teacher_working_bytes(const struct model_config *config, int64_t rows);

#endif
