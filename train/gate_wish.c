#include "train/gate_wish.h"

#include <string.h>

#include "common/base/cli.h"

static int add(const char *name, struct gate_wish *wish, struct error *error)
{
    struct gate_spec spec;
    if (gate_spec_parse(name, &spec, error) < 0)
        return -1;
    for (int i = 0; i < wish->count; i++) {
        if (wish->spec[i].features == spec.features && wish->spec[i].linear == spec.linear)
            return 0;
    }
    wish->spec[wish->count++] = spec;
    return 0;
}

int gate_wish_parse(const char *text, struct gate_wish *wish, struct error *error)
{
    char **items;
    int count, result = 0;
    *wish = (struct gate_wish){.given = *text != 0};
    if (!*text || strcmp(text, "none") == 0)
        return 0;
    if (parse_list(text, &items, &count, error) < 0)
        return -1;
    for (int i = 0; i < count && result == 0; i++)
        result = add(items[i], wish, error);
    cli_list_free(items, count);
    return result;
}

json_t *gate_wish_to_json(const struct gate_wish *wish)
{
    json_t *array = json_array();
    char name[GATE_NAME_SIZE];
    for (int i = 0; i < wish->count; i++) {
        gate_spec_name(&wish->spec[i], name);
        json_array_append_new(array, json_string(name));
    }
    return array;
}

int gate_wish_keep(const json_t *kept, struct gate_wish *wish, struct error *error)
{
    for (size_t i = 0; !wish->given && i < json_array_size(kept); i++) {
        const char *name = json_string_value(json_array_get(kept, i));
        if (add(name ? name : "", wish, error) < 0)
            return error_prefix(error, "run.json: \"gates\"");
    }
    return 0;
}
