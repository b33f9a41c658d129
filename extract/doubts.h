/* doubts.h: warns of files that look like something other than what their names say.
 *
 *     if (doubts_say(&list, "text", error) < 0) ...
 */
#ifndef OFFRAMP_EXTRACT_DOUBTS_H
#define OFFRAMP_EXTRACT_DOUBTS_H

#include "extract/files.h"

/* *found: a file that is read as text holds JSON lines. Each of its first lines is an object then, and the
 * object's member `field` is a string. */
int doubts_json_lines(const struct corpus_file *file, const char *field, bool *found, struct error *error);

/* Warns on stderr of texts that look like JSON lines. The warning names the first and says how many more there
 * are. */
int doubts_say(const struct corpus_list *list, const char *field, struct error *error);

#endif
