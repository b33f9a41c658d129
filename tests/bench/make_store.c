/* make_store FOLDER [NAME=VALUE...]: a small finished store to train on (tests/train_fixture.h), for tests
 * and benchmarks that need no model. Names: layers, hidden, intermediate, vocab, rows, train, held_out,
 * seed, shard, shards (numbers), taps, codec, broken (texts). */
#include "tests/train_fixture.h"

#include "common/base/cli.h"

static int set_member(struct train_fixture *fixture, const char *text, struct error *error)
{
    struct {
        const char *name;
        int *value;
    } const members[] = {{"layers", &fixture->layers},
                         {"hidden", &fixture->hidden},
                         {"intermediate", &fixture->intermediate},
                         {"vocab", &fixture->vocab},
                         {"rows", &fixture->rows},
                         {"train", &fixture->train},
                         {"held_out", &fixture->held_out},
                         {"shard", &fixture->shard},
                         {"shards", &fixture->shards}};
    const char *value = strchr(text, '=');
    int64_t number;
    if (!value)
        return error_set(error, "\"%s\" is not NAME=VALUE", text);
    const size_t length = (size_t)(value++ - text);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (strlen(members[i].name) == length && !strncmp(members[i].name, text, length)) {
            if (parse_integer(value, 0, 1 << 30, &number, error) < 0)
                return -1;
            *members[i].value = (int)number;
            return 0;
        }
    }
    if (!strncmp(text, "taps=", 5))
        fixture->taps = value;
    else if (!strncmp(text, "codec=", 6))
        fixture->codec = value;
    else if (!strncmp(text, "seed=", 5))
        fixture->seed = (uint64_t)atoll(value);
    else if (!strncmp(text, "broken=", 7))
        fixture->broken = value;
    else
        return error_set(error, "\"%s\": there is no such name", text);
    return 0;
}

int main(int argc, char **argv)
{
    struct train_fixture fixture = small_fixture;
    struct error error = {0};
    if (argc < 2) {
        fprintf(stderr, "usage: make_store FOLDER [NAME=VALUE...]\n");
        return EXIT_WRONG_USAGE;
    }
    for (int i = 2; i < argc; i++) {
        if (set_member(&fixture, argv[i], &error) < 0) {
            fprintf(stderr, "make_store: %s\n", error.text);
            return EXIT_WRONG_USAGE;
        }
    }
    if (train_fixture_create(&fixture, argv[1], &error) < 0) {
        fprintf(stderr, "make_store: %s\n", error.text);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}
