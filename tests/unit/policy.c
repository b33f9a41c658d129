#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/head/policy.h"
#include "tests/test.h"

enum { EXITS = 2, ROWS = 2 };

/* A policy of two exits whose head files lie in `folder`. */
static int make_policy(const char *folder, struct policy_exit exits[EXITS], struct policy_row rows[ROWS],
                       double rates[ROWS][EXITS], struct policy *policy, struct error *error)
{
    const struct policy_exit made[EXITS] = {
        {{2, false}, {"affine", "tied", "2.safetensors", ""}, {EVIDENCE_CONFIDENCE}, {0.75}},
        {{3, true}, {"mlp", "untied", "3.mid.safetensors", ""}, {EVIDENCE_CONFIDENCE}, {1}},
    };
    const double made_rates[ROWS][EXITS] = {{0.5, 0.25}, {0, 0}};
    memcpy(exits, made, sizeof made);
    memcpy(rates, made_rates, sizeof made_rates);
    rows[0] = (struct policy_row){0.5, rates[0], 0.875, 2.5, 1.25};
    rows[1] = (struct policy_row){1, rates[1], NAN, 4, 0.9};
    *policy = (struct policy){.fingerprint = "0123456789abcdef",
                              .layers = 4,
                              .exits = EXITS,
                              .exit = exits,
                              .agreement = 0.95,
                              .cost_head = 0.125,
                              .cost_output = 8,
                              .rows = ROWS,
                              .row = rows};
    for (int e = 0; e < EXITS; e++) {
        char *path = path_join(folder, exits[e].head.file, error);
        if (!path)
            return -1;
        int result = file_write(path, exits[e].head.file, strlen(exits[e].head.file), error);
        if (result == 0)
            result = policy_hash_file(path, exits[e].head.hash, error);
        free(path);
        if (result < 0)
            return -1;
    }
    return 0;
}

static int write_policy(const char *folder, struct error *error)
{
    struct policy_exit exits[EXITS];
    struct policy_row rows[ROWS];
    double rates[ROWS][EXITS];
    struct policy policy;
    if (make_policy(folder, exits, rows, rates, &policy, error) < 0)
        return -1;
    return policy_write(folder, &policy, error);
}

static void check_made(const struct policy *policy, const char *folder)
{
    CHECK(!strcmp(policy->folder, folder));
    CHECK(!strcmp(policy->fingerprint, "0123456789abcdef"));
    CHECK(policy->layers == 4 && policy->cost_head == 0.125 && policy->cost_output == 8);
    REQUIRE(policy->exits == EXITS && policy->rows == ROWS);
    const struct policy_exit *exit = policy->exit;
    CHECK(exit[0].tap.layer == 2 && !exit[0].tap.mid && exit[0].rule.threshold == 0.75);
    CHECK(!strcmp(exit[0].head.kind, "affine") && !strcmp(exit[0].head.output, "tied"));
    CHECK(exit[0].evidence.kind == EVIDENCE_CONFIDENCE);
    CHECK(exit[1].tap.layer == 3 && exit[1].tap.mid && exit[1].rule.threshold == 1);
    CHECK(!strcmp(exit[1].head.kind, "mlp") && !strcmp(exit[1].head.output, "untied"));
    CHECK(!strcmp(exit[1].head.file, "3.mid.safetensors") && strlen(exit[1].head.hash) == 16);
    const struct policy_row *row = policy->row;
    CHECK(row[0].threshold == 0.5 && row[0].exit_rate[0] == 0.5 && row[0].exit_rate[1] == 0.25);
    CHECK(row[0].agreement == 0.875 && row[0].depth == 2.5 && row[0].speedup == 1.25);
    CHECK(row[1].exit_rate[1] == 0 && isnan(row[1].agreement) && row[1].speedup == 0.9);
}

TEST(policy_round_trip)
{
    const char *folder = test_folder();
    struct error error;
    struct policy policy;
    char path[4096];
    snprintf(path, sizeof path, "%s/policy.json", folder);
    REQUIRE_OK(write_policy(folder, &error));
    REQUIRE_OK(policy_read(folder, &policy, &error));
    check_made(&policy, folder);
    policy_free(&policy);
    REQUIRE_OK(policy_read(path, &policy, &error)); /* the file instead of its folder */
    check_made(&policy, folder);
    policy_free(&policy);
    REQUIRE(chdir(folder) == 0);
    REQUIRE_OK(policy_read("policy.json", &policy, &error));
    check_made(&policy, ".");
    policy_free(&policy);
    REQUIRE(chdir("/") == 0);
}

/* What reading would refuse is not written. */
TEST(policy_write_checks)
{
    struct policy_exit exits[EXITS];
    struct policy_row rows[ROWS];
    double rates[ROWS][EXITS];
    struct policy policy;
    struct error error;
    const char *folder = test_folder();
    REQUIRE_OK(make_policy(folder, exits, rows, rates, &policy, &error));
    exits[0].rule.threshold = 1.5;
    CHECK(policy_write(folder, &policy, &error) < 0);
    CHECK_TEXT(error.text, "threshold 1.5");
    exits[0].rule.threshold = 0.5;
    exits[0].tap = exits[1].tap;
    CHECK(policy_write(folder, &policy, &error) < 0);
    CHECK_TEXT(error.text, "3.mid follows 3.mid");
    exits[0].tap.layer = 1;
    strcpy(exits[0].head.file, "../x");
    CHECK(policy_write(folder, &policy, &error) < 0);
    CHECK_TEXT(error.text, "not the name of a file in the policy's folder");
    strcpy(exits[0].head.file, "x");
    CHECK(policy_write("/no/such/folder", &policy, &error) < 0);
    CHECK_TEXT(error.text, "/no/such/folder");
}

/* Puts a JSON value at "a/0/b" of an object. */
static void replace(json_t *root, const char *where, const char *text)
{
    char copy[64], *rest = copy;
    snprintf(copy, sizeof copy, "%s", where);
    for (char *name; (name = strsep(&rest, "/"));) {
        json_t *value = rest ? NULL : json_loads(text, JSON_DECODE_ANY, NULL);
        if (json_is_array(root)) {
            const size_t index = (size_t)atoi(name);
            if (value)
                json_array_set_new(root, index, value);
            root = json_array_get(root, index);
        } else {
            if (value)
                json_object_set_new(root, name, value);
            root = json_object_get(root, name);
        }
    }
}

TEST(policy_malformed)
{
    static const struct {
        const char *where, *value, *reason;
    } cases[] = {
        {"version", "0", "of version 0; this program reads versions 1 to 2"},
        {"version", "3", "of version 3; this program reads versions 1 to 2"},
        {"version", "\"1\"", "\"version\" is not an integer"},
        {"model", "\"0123456789abcdeX\"", "not a fingerprint"},
        {"model", "\"0123456789abcdef0\"", "longer than 16"},
        {"model", "null", "\"model\""},
        {"layers", "0", "\"layers\" is 0"},
        {"layers", "2", "exit 2"}, /* the tap 3.mid is not in a model of 2 layers */
        {"exits", "[]", "list of 0 numbers"}, /* the table is of two */
        {"tried", "[\"2\"]", "only a policy without exits has"},
        {"tried", "7", "\"tried\" is not a list"},
        {"tried", "[7]", "\"tried\" is not a list of taps"},
        {"agreement", "1.5", "agreement 1.5"},
        {"agreement", "\"all\"", "\"agreement\" is not a number"},
        {"exits", "{}", "\"exits\" is not a list"},
        {"exits/0", "7", "exit 1"},
        {"exits/0/tap", "\"5\"", "exit 1"},
        {"exits/0/tap", "\"3.mid\"", "3.mid follows 3.mid"},
        {"exits/0/tap", "\"4\"", "3.mid follows final"},
        {"exits/0/head/kind", "\"linear\"", "not a kind of head"},
        {"exits/0/head/kind", "\"draft\"", "a head of kind draft is not an exit"},
        {"exits/0/head/output", "\"own\"", "tied or untied"},
        {"exits/0/head", "null", "\"kind\" is missing"},
        {"exits/0/evidence", "\"confidence\"", "\"evidence\" is not an object"},
        {"exits/0/evidence", "{}", "\"kind\" is missing"},
        {"exits/0/evidence/kind", "\"gate\"", "\"gate\" is not a kind of evidence (there are: confidence)"},
        {"exits/0/evidence/file", "\"x\"", "\"evidence\" has \"file\", which this version does not know"},
        {"exits/0/rule", "0.9", "\"rule\" is not an object"},
        {"exits/0/rule/min_depth", "3", "\"rule\" has \"min_depth\", which this version does not know"},
        {"exits/0/head/file", "\"../2.safetensors\"", "not the name of a file in the policy's folder"},
        {"exits/0/head/file", "\"\"", "not the name of a file in the policy's folder"},
        {"exits/0/head/file", "\"gone.safetensors\"", "gone.safetensors"},
        {"exits/0/head/file", "\"3.mid.safetensors\"", "has the hash"},
        {"exits/0/head/hash", "\"0123\"", "not a hash"},
        {"exits/0/head/hash", "\"0123456789abcdef\"", "made with 0123456789abcdef"},
        {"exits/0/rule/threshold", "-0.1", "threshold -0.1"},
        {"exits/0/rule/threshold", "1.01", "threshold 1.01"},
        {"exits/0/rule/threshold", "\"1\"", "\"threshold\" is not a number"},
        {"costs", "[]", "\"costs\" is missing"},
        {"costs/head", "-1", "the costs head -1"},
        {"table", "{}", "\"table\" is not a list"},
        {"table/0", "[]", "table row 1"},
        {"table/0/exit_rates", "[0.5]", "list of 2 numbers"},
        {"table/0/exit_rates", "[0.5, \"x\"]", "exit rate nan"},
        {"table/0/exit_rates", "[0.9, 0.9]", "sum to 1.8"},
        {"table/0/agreement", "1.2", "agreement 1.2"},
        {"table/0/agreement", "false", "\"agreement\""},
        {"table/0/depth", "5", "depth 5"},
        {"table/0/speedup", "-1", "speedup -1"},
        {"table/0/threshold", "1", "1 follows 1"},
    };
    const char *folder = test_folder();
    struct error error;
    char path[4096];
    snprintf(path, sizeof path, "%s/policy.json", folder);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct policy policy;
        REQUIRE_OK(write_policy(folder, &error));
        json_t *root = json_read(path, &error);
        REQUIRE(root);
        replace(root, cases[c].where, cases[c].value);
        REQUIRE_OK(json_write(path, root, &error));
        json_decref(root);
        if (policy_read(folder, &policy, &error) == 0) {
            test_fail(__FILE__, __LINE__, "%s = %s is accepted", cases[c].where, cases[c].value);
            policy_free(&policy);
            continue;
        }
        CHECK_TEXT(error.text, cases[c].reason);
        CHECK_TEXT(error.text, folder);
    }
}

/* A policy of version 1: the head's members and the threshold are the exit's own, "rule" is the kind of
 * evidence. */
static int write_version_1(const char *folder, struct error *error)
{
    struct policy_exit exits[EXITS];
    struct policy_row rows[ROWS];
    double rates[ROWS][EXITS];
    struct policy policy;
    char path[4096], text[4096];
    if (make_policy(folder, exits, rows, rates, &policy, error) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/policy.json", folder);
    snprintf(
        text, sizeof text,
        "{\"version\": 1, \"model\": \"0123456789abcdef\", \"layers\": 4, \"exits\": ["
        "{\"tap\": \"2\", \"kind\": \"affine\", \"output\": \"tied\", \"file\": \"2.safetensors\","
        " \"hash\": \"%s\", \"rule\": \"confidence\", \"threshold\": 0.75},"
        "{\"tap\": \"3.mid\", \"kind\": \"mlp\", \"output\": \"untied\", \"file\": \"3.mid.safetensors\","
        " \"hash\": \"%s\", \"rule\": \"confidence\", \"threshold\": 1}],"
        "\"agreement\": 0.95, \"costs\": {\"layer\": 1, \"head\": 0.125, \"output\": 8}, \"table\": ["
        "{\"threshold\": 0.5, \"exit_rates\": [0.5, 0.25], \"agreement\": 0.875, \"depth\": 2.5, \"speedup\": "
        "1.25},"
        "{\"threshold\": 1, \"exit_rates\": [0, 0], \"agreement\": null, \"depth\": 4, \"speedup\": 0.9}]}",
        exits[0].head.hash, exits[1].head.hash);
    return file_write(path, text, strlen(text), error);
}

TEST(policy_of_version_1)
{
    const char *folder = test_folder();
    struct error error = {0};
    struct policy policy;
    char path[4096];
    REQUIRE_OK(write_version_1(folder, &error));
    REQUIRE_OK(policy_read(folder, &policy, &error));
    check_made(&policy, folder);
    policy_free(&policy);

    snprintf(path, sizeof path, "%s/policy.json", folder);
    json_t *root = json_read(path, &error);
    REQUIRE(root);
    replace(root, "exits/1/rule", "\"gate\"");
    REQUIRE_OK(json_write(path, root, &error));
    json_decref(root);
    CHECK(policy_read(folder, &policy, &error) < 0);
    CHECK_TEXT(error.text, "exit 2: \"gate\" is not a kind of evidence");
}

/* The threshold itself is enough; what is not a number is never. */
TEST(policy_rule)
{
    const struct exit_rule rule = {0.75};
    CHECK(rule_lets_leave(&rule, EVIDENCE_CONFIDENCE, &(struct evidence){.confidence = 0.75}));
    CHECK(rule_lets_leave(&rule, EVIDENCE_CONFIDENCE, &(struct evidence){.confidence = 1}));
    CHECK(!rule_lets_leave(&rule, EVIDENCE_CONFIDENCE, &(struct evidence){.confidence = nextafter(0.75, 0)}));
    CHECK(!rule_lets_leave(&rule, EVIDENCE_CONFIDENCE, &(struct evidence){.confidence = NAN}));
}

/* A policy without exits is one like any other, and says why. */
TEST(policy_without_exits)
{
    double rates[2][2] = {{0.5, 0.25}, {0.25, 0}};
    struct tap tried[] = {{2, false}, {3, true}};
    struct policy_row rows[] = {{0.5, rates[0], 0.875, 2.5, 1.25}, {0.9, rates[1], 0.96, 3.5, 0.93}};
    const struct policy made = {.fingerprint = "0123456789abcdef",
                                .layers = 4,
                                .tried = 2,
                                .tried_tap = tried,
                                .agreement = 0.95,
                                .rows = 2,
                                .row = rows};
    const char *folder = test_folder();
    struct error error = {0};
    struct policy policy;
    char text[512];
    REQUIRE_OK(policy_write(folder, &made, &error));
    REQUIRE_OK(policy_read(folder, &policy, &error));
    CHECK(policy.exits == 0 && policy.tried == 2 && policy_columns(&policy) == 2 && policy.agreement == 0.95);
    CHECK(tap_compare(policy_column(&policy, 1), tried[1]) == 0 && policy.row[1].exit_rate[0] == 0.25);
    policy_reason(&policy, text, sizeof text);
    CHECK_TEXT(text,
               "none was predicted to be faster than the full model (best: 0.93 times its speed at 2, 3.mid "
               "with threshold 0.9)");
    policy.agreement = 0.99;
    policy_reason(&policy, text, sizeof text);
    CHECK_TEXT(text, "none agrees with the full model in 99 % of the tokens that leave (best: 96.0 % at");
    policy.agreement = NAN;
    policy_reason(&policy, text, sizeof text);
    CHECK_TEXT(text, "1.25 times its speed at 2, 3.mid with threshold 0.5");
    policy.row[0].agreement = policy.row[1].agreement = NAN;
    policy_reason(&policy, text, sizeof text);
    CHECK_TEXT(text, "no token was sure enough to leave (tried: 2, 3.mid)");
    policy_free(&policy);

    const struct policy none = {.fingerprint = "0123456789abcdef", .layers = 4, .agreement = 0.95};
    REQUIRE_OK(policy_write(folder, &none, &error));
    REQUIRE_OK(policy_read(folder, &policy, &error));
    policy_reason(&policy, text, sizeof text);
    CHECK_TEXT(text, "no head was trained at a tap before the last layer");
    policy_free(&policy);
}

/* Between the two renames of a file system that cannot exchange folders, the old policy has another name. */
TEST(policy_that_is_being_replaced)
{
    char folder[4096], old[4200], slash[4200];
    struct error error = {0};
    struct policy policy;
    snprintf(folder, sizeof folder, "%s/policy", test_folder());
    snprintf(old, sizeof old, "%s.old", folder);
    snprintf(slash, sizeof slash, "%s/", folder);
    REQUIRE_OK(directory_create(folder, &error));
    REQUIRE_OK(write_policy(folder, &error));
    REQUIRE(rename(folder, old) == 0);
    REQUIRE_OK(policy_read(folder, &policy, &error));
    check_made(&policy, old);
    policy_free(&policy);
    REQUIRE_OK(policy_read(slash, &policy, &error));
    policy_free(&policy);
    REQUIRE_OK(directory_delete(old, &error));
    CHECK(policy_read(folder, &policy, &error) == -1);
    CHECK_TEXT(error.text, folder);
}

/* A policy cut anywhere is an error, never a crash. */
TEST(policy_cut_short)
{
    const char *folder = test_folder();
    struct error error;
    struct policy policy;
    char path[4096], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/policy.json", folder);
    CHECK(policy_read(folder, &policy, &error) < 0);
    CHECK_TEXT(error.text, "policy.json");
    REQUIRE_OK(write_policy(folder, &error));
    REQUIRE_OK(file_read(path, &text, &size, &error));
    for (size_t cut = 0; cut + 2 < size; cut += 37) {
        REQUIRE_OK(file_write(path, text, cut, &error));
        CHECK(policy_read(path, &policy, &error) < 0);
        CHECK_TEXT(error.text, path);
    }
    free(text);
}

TEST_MAIN
