#include "common/store/tap.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

int tap_parse(const char *text, int layers, struct tap *tap, struct error *error)
{
    struct tap found = {0};
    const char *at = text;
    if (strcmp(text, "final") == 0) {
        *tap = (struct tap){.layer = layers};
        return 0;
    }
    while (isdigit((unsigned char)*at) && at - text < 6)
        found.layer = found.layer * 10 + (*at++ - '0');
    found.mid = strcmp(at, ".mid") == 0;
    if (at == text || (*at && !found.mid) || (text[0] == '0' && at - text > 1))
        return error_set(
            error, "\"%s\" is not a tap: write a layer (12), a layer's middle (12.mid), 0 or final", text);
    if (found.layer > layers || (found.mid && found.layer == 0))
        return error_set(error, "tap %s: the model's layers are 1 .. %d", text, layers);
    *tap = found;
    return 0;
}

struct tap tap_target(int layers)
{
    return (struct tap){.layer = layers + 1};
}

int tap_parse_stored(const char *text, int layers, struct tap *tap, struct error *error)
{
    if (strcmp(text, "target") != 0)
        return tap_parse(text, layers, tap, error);
    *tap = tap_target(layers);
    return 0;
}

void tap_name(struct tap tap, int layers, char name[TAP_NAME_SIZE])
{
    if (layers >= 0 && tap.layer > layers)
        snprintf(name, TAP_NAME_SIZE, "target");
    else if (tap.layer == layers && !tap.mid)
        snprintf(name, TAP_NAME_SIZE, "final");
    else
        snprintf(name, TAP_NAME_SIZE, "%d%s", tap.layer, tap.mid ? ".mid" : "");
}

int tap_compare(struct tap a, struct tap b)
{
    if (a.layer != b.layer)
        return a.layer < b.layer ? -1 : 1;
    return (int)b.mid - (int)a.mid;
}
