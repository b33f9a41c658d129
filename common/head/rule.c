#include "common/head/rule.h"

#include <string.h>

#include "common/base/string.h"

static const char *const kind_names[] = {[EVIDENCE_CONFIDENCE] = "confidence"};
enum { KINDS = sizeof kind_names / sizeof *kind_names };

bool rule_lets_leave(const struct exit_rule *rule, enum evidence_kind kind, const struct evidence *evidence)
{
    switch (kind) {
    case EVIDENCE_CONFIDENCE: return evidence->confidence >= rule->threshold;
    }
    return false;
}

const char *evidence_kind_name(enum evidence_kind kind)
{
    return kind_names[kind];
}

int evidence_kind_find(const char *name, enum evidence_kind *kind, struct error *error)
{
    struct string names = {0};
    for (int k = 0; k < KINDS; k++) {
        if (!strcmp(kind_names[k], name)) {
            *kind = (enum evidence_kind)k;
            return 0;
        }
    }
    for (int k = 0; k < KINDS; k++)
        string_print(&names, "%s%s", k ? ", " : "", kind_names[k]);
    if (!string_failed(&names, error))
        error_set(error, "\"%.40s\" is not a kind of evidence (there are: %s)", name, names.data);
    string_free(&names);
    return -1;
}
