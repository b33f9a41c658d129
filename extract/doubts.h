/* doubts.h: files of a corpus that are read as they are called, and look like something else.
 *
 *     if (doubts_say(&list, "text", error) < 0) ...
 */
#ifndef OFFRAMP_EXTRACT_DOUBTS_H
#define OFFRAMP_EXTRACT_DOUBTS_H

#include "extract/files.h"

/* Whether a file that is read as text holds JSON lines: each of its first lines is an object whose member `field` is
 * a string. */
int doubts_json_lines(const struct corpus_file *file, const char *field, bool *found, struct error *error);

/* Warns on stderr of files that look like JSON lines: names the first and says how many more there are. */
int doubts_say(const struct corpus_list *list, const char *field, struct error *error);

#endif
