/* The smallest harness that serves: tables of tests, a check that is never
 * compiled out, and one process per test, so that a crash or a hang fails
 * one test and no test sees the globals of another.
 */
#ifndef AB_TESTS_HARNESS_H
#define AB_TESTS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>

struct test {
    const char *name; // the promise it keeps; NULL ends a table
    void (*run)(void);
};

#define TEST(name) {#name, name}
#define TESTS_END {NULL, NULL}

/* Fails the test where `condition` is false, and goes on.  Returns the
 * condition.  Thread: any. */
#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)

/* The same for two integers, which are printed. */
#define CHECK_EQUAL(left, right)                                              \
    check_equal((long long)(left), (long long)(right), #left " == " #right,   \
                __FILE__, __LINE__)

/* Leave a test, a void function, that cannot go on. */
#define REQUIRE(condition)                                                    \
    do {                                                                      \
        if (!CHECK(condition)) {                                              \
            return;                                                           \
        }                                                                     \
    } while (0)

bool check(bool condition, const char *text, const char *file, int line);
bool check_equal(long long left, long long right, const char *text,
                 const char *file, int line);
bool check_failed(void); // has the running test failed?

/* How many times longer everything may take, under a sanitizer or valgrind. */
unsigned slowness(void);

/* Run the tests whose "module.name" contains one of the arguments; all, if
 * there are none.  "--here" runs them in this process, for a debugger.
 * Returns the exit code. */
struct suite {
    const char *module;
    const struct test *tests;
};
int run_suites(const struct suite *suites, int argc, char **argv);

#endif
