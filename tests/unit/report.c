/* The report: what it says to deploy, that it is whole HTML whatever the run was, and the same bytes for the same run. */
#include <ctype.h>

#include "common/base/file.h"
#include "tests/report_fixture.h"
#include "tests/test.h"

static char folder[4100];

static void make(struct report_fixture *fixture, int trials)
{
    struct error error = {0};
    snprintf(folder, sizeof folder, "%s/run", test_folder());
    if (report_fixture_make(fixture, folder, trials, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
}

/* The page; free() it. */
static char *page_of(const struct report_fixture *fixture)
{
    struct string text = {0};
    html_report_page(&fixture->report, &text);
    if (text.failed)
        test_fail(__FILE__, __LINE__, "out of memory");
    return text.data;
}

/* ---- whole HTML ---- */

enum { DEEPEST = 64, NAME = 24 };

static bool is_void(const char *name)
{
    return !strcmp(name, "meta") || !strcmp(name, "!DOCTYPE");
}

/* Every tag that is opened is closed, in order; quotes and angle brackets are where they belong. NULL, or what is wrong. */
static const char *fault_of(const char *page)
{
    static char stack[DEEPEST][NAME], fault[128];
    int depth = 0;
    for (const char *at = page; *at; at++) {
        char name[NAME] = "";
        size_t length = 0;
        if (*at == '>' && (depth == 0 || strcmp(stack[depth - 1], "style") != 0))
            return "a > outside a tag";
        if (*at != '<')
            continue;
        const bool closes = at[1] == '/';
        const char *from = at + 1 + closes;
        while (length + 1 < sizeof name && (isalnum((unsigned char)from[length]) || from[length] == '!'))
            length++;
        memcpy(name, from, length);
        bool quoted = false;
        for (at = from; *at && (quoted || *at != '>'); at++) {
            quoted = *at == '"' ? !quoted : quoted;
            if (*at == '<')
                return "a < inside a tag";
        }
        if (!*at)
            return "a tag that does not end";
        if (at[-1] == '/' || is_void(name))
            continue;
        if (closes && (depth == 0 || strcmp(stack[depth - 1], name) != 0)) {
            snprintf(fault, sizeof fault, "</%s> closes <%s>", name, depth ? stack[depth - 1] : "nothing");
            return fault;
        }
        if (closes)
            depth--;
        else if (depth < DEEPEST)
            strcpy(stack[depth++], name);
    }
    return depth == 0 ? NULL : "a tag that is not closed";
}

static void check_page(const char *page)
{
    const char *fault = fault_of(page);
    if (fault)
        test_fail(__FILE__, __LINE__, "%s", fault);
    CHECK(!strstr(page, "nan") && !strstr(page, "inf,") && !strstr(page, "(null)"));
    CHECK(!strstr(page, "http:") && !strstr(page, "https:") && !strstr(page, "<script"));
}

static const char *const always[] = {"prefers-color-scheme:dark", "id=\"exits\"", "id=\"trials\"",
                                     "name=\"viewport\"", "SmolLM2 &lt;135M&gt; &amp; &quot;friends&quot;"};

TEST(report_is_whole_for_any_number_of_trials)
{
    static const int counts[] = {0, 1, 2, 24, 200};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct report_fixture fixture;
        make(&fixture, counts[c]);
        char *page = page_of(&fixture);
        REQUIRE(page != NULL);
        check_page(page);
        for (size_t i = 0; i < sizeof always / sizeof always[0]; i++)
            CHECK_TEXT(page, always[i]);
        CHECK((strstr(page, "more</summary>") != NULL) == (counts[c] == 200));
        CHECK((strstr(page, "id=\"failures\"") != NULL) == (counts[c] > 1));
        free(page);
        report_fixture_free(&fixture);
    }
}

TEST(report_has_the_same_bytes)
{
    char *page[2];
    for (int i = 0; i < 2; i++) {
        struct report_fixture fixture;
        make(&fixture, 24);
        page[i] = page_of(&fixture);
        report_fixture_free(&fixture);
        REQUIRE(page[i] != NULL);
    }
    CHECK(!strcmp(page[0], page[1]));
    free(page[0]);
    free(page[1]);
}

/* ---- what it says ---- */

static void check_says(const struct report_fixture *fixture, const char *text)
{
    char *page = page_of(fixture);
    REQUIRE(page != NULL);
    check_page(page);
    CHECK_TEXT(page, text);
    free(page);
}

TEST(report_says_what_to_deploy)
{
    struct report_fixture fixture;
    make(&fixture, 8);
    check_says(&fixture, "<b>Deploy the exits at layers 12 and 24, with a threshold of 0.9.</b>");
    check_says(&fixture, "predicted to come 1.23 times as fast");
    fixture.policy.exits = 1;
    check_says(&fixture, "<b>Deploy the exit at layer 12, with a threshold of 0.9.</b>");
    fixture.row[7].speedup = 0.5;
    check_says(&fixture, "<b>Do not expect speed from the exit at layer 12");
    check_says(&fixture, "at 0.50 times the full model's speed. A check costs as much as 8.1 layers");
    fixture.policy.exits = 0;
    fixture.policy.tried = 1;
    check_says(&fixture, "<b>Deploy no exit: none is predicted to make the model faster.</b>");
    for (int i = 0; i < fixture.policy.rows; i++)
        fixture.row[i].speedup = 0.9 - 0.02 * i; /* the fastest ones agree less often than was asked for */
    check_says(&fixture, "the exit at layer 12, at 0.76 times the full model's speed with a threshold of 0.9.");
    fixture.policy.rows = 0;
    check_says(&fixture, "<b>There is nothing to deploy:</b>");
    report_fixture_free(&fixture);
}

TEST(report_draws_no_agreement_where_no_token_leaves)
{
    struct report_fixture fixture;
    make(&fixture, 8);
    check_says(&fixture, "Depth against agreement");
    for (int i = 0; i < fixture.policy.rows; i++) {
        fixture.rate[i][0] = fixture.rate[i][1] = 0;
        fixture.row[i].agreement = NAN;
    }
    char *page = page_of(&fixture);
    CHECK(!strstr(page, "Depth against agreement"));
    free(page);
    report_fixture_free(&fixture);
}

TEST(report_says_what_failed)
{
    struct report_fixture fixture;
    make(&fixture, 24);
    check_says(&fixture, "Of 24 trials 1 failed and 9 were stopped early");
    check_says(&fixture, "is not a number &lt;after step 7&gt; &amp; the head's &quot;a&quot;");
    report_fixture_free(&fixture);
}

TEST(report_front_has_no_beaten_head)
{
    struct report_fixture fixture;
    make(&fixture, 8);
    check_says(&fixture, "4 of the heads are on the front");
    fixture.board.row[1].held_out.kl = 5; /* of tap 18: tap 12 is cheaper and closer then */
    check_says(&fixture, "3 of the heads are on the front");
    report_fixture_free(&fixture);
}

TEST(report_shows_drafts_apart)
{
    struct report_fixture fixture;
    make(&fixture, 24);
    check_says(&fixture, "<td>50.0 / 42.0 / 40.0 %</td><td>50.0 / 24.0 / 12.0 %</td><td>2.10</td>");
    check_says(&fixture,
               "\">d1</span>18-"); /* in the legend of the curves; not in the chart of held-out losses */
    /* Three drafted: (1 + 0.5 + 0.24 + 0.12) (30 + 8.0) / (38.0 + 3 2.1) */
    check_says(&fixture, "<td>3: 1.86</td><td>1.60x</td>");
    check_says(&fixture, "next word in 50.0 % of the held-out tokens. With 3 drafted before each pass");
    report_fixture_free(&fixture);
}

/* ---- gates ---- */

TEST(report_names_the_gate_that_tells_most)
{
    struct report_fixture fixture;
    make(&fixture, 2);
    for (size_t i = 0; i < fixture.gates.count; i++)
        fixture.gates.gate[i].auc = 0.7;
    fixture.gates.gate[7].auc = 0.8; /* candidates+state at 12; its confidence's is 0.72 */
    fixture.gates.gate[8].auc = 0.9; /* of which nothing is known to compare it with */
    check_says(&fixture, "At layer 12 the <a href=\"#gates\">gate</a> <b>candidates+state</b> tells more");
    fixture.gates.gate[7].auc = 0.7;
    char *page = page_of(&fixture);
    REQUIRE(page != NULL);
    CHECK(!strstr(page, "tells more"));
    free(page);
    report_fixture_free(&fixture);
}

static int read_text(const char *text, struct report_gate_list *gates, struct error *error)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/gates.json", test_folder());
    return file_write(path, text, strlen(text), error) < 0 ? -1 : report_gate_list_read(path, gates, error);
}

TEST(report_reads_gates)
{
    struct report_gate_list gates;
    struct error error = {0};
    char path[4200];
    REQUIRE_OK(read_text(
        "{\"version\": 1, \"gates\": [{\"tap\": \"12\", \"trial\": \"t\", \"gate\": \"mlp\", \"auc\": 0.75,"
        "\"fitted\": 5, \"scored\": 6, \"cost\": 0.5, \"file\": \"x\", \"reliability\": ["
        "{\"predicted\": 0.25, \"observed\": 0.5, \"tokens\": 3}, {\"tokens\": 0}]}]}",
        &gates, &error));
    REQUIRE(gates.count == 1);
    CHECK(!strcmp(gates.gate[0].tap, "12") && !strcmp(gates.gate[0].gate, "mlp") && gates.gate[0].auc == 0.75);
    CHECK(gates.gate[0].bins == 2 && gates.gate[0].bin[0].observed == 0.5 && gates.gate[0].bin[1].tokens == 0);
    report_gate_list_free(&gates);
    CHECK(read_text("{\"gates\": [{\"tap\": \"12\", \"trial\": \"t\", \"gate\": \"mlp\", \"auc\": 2}]}", &gates,
                    &error) < 0);
    CHECK_TEXT(error.text, "gate 1: auc is 2, which is not within 0 and 1");
    snprintf(path, sizeof path, "%s/none.json", test_folder());
    REQUIRE_OK(report_gate_list_read(path, &gates, &error));
    CHECK(gates.count == 0);
}

TEST_MAIN
