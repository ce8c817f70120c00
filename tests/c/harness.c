#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "harness.h"

#include "support.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIME_LIMIT_S 50U // of one test; it ends by SIGALRM

static atomic_bool has_failed;

bool
check(bool condition, const char *text, const char *file, int line)
{
    if (!condition) {
        atomic_store(&has_failed, true);
        fprintf(stderr, "    %s:%d: not so: %s\n", file, line, text);
    }
    return condition;
}

bool
check_equal(long long left, long long right, const char *text,
            const char *file, int line)
{
    if (left != right) {
        atomic_store(&has_failed, true);
        fprintf(stderr, "    %s:%d: not so: %s (%lld and %lld)\n", file, line,
                text, left, right);
    }
    return left == right;
}

bool
check_failed(void)
{
    return atomic_load(&has_failed);
}

unsigned
slowness(void)
{
    const char *text = getenv("AB_TEST_SLOWNESS");
    unsigned long times = text != NULL ? strtoul(text, NULL, 10) : 1;
    return times > 0 && times < 1000 ? (unsigned)times : 1;
}

static bool
run_body(const struct test *test)
{
    atomic_store(&has_failed, false);
    alarm(TIME_LIMIT_S * slowness());
    support_begin();
    test->run();
    support_end();
    alarm(0);
    return !check_failed();
}

static bool
run_apart(const struct test *test)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        exit(run_body(test) ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        fprintf(stderr, "    cannot start a process\n");
        return false;
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "    ended by signal %d (%s)\n", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool
is_chosen(const char *name, int argc, char **argv)
{
    bool has_filter = false;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') {
            continue;
        }
        has_filter = true;
        if (strstr(name, argv[i]) != NULL) {
            return true;
        }
    }
    return !has_filter;
}

static double
now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int
run_suites(const struct suite *suites, int argc, char **argv)
{
    size_t passed = 0, failed = 0;
    bool is_here = argc > 1 && strcmp(argv[1], "--here") == 0;
    for (; suites->module != NULL; suites++) {
        for (const struct test *test = suites->tests; test->name != NULL;
             test++) {
            char name[160];
            snprintf(name, sizeof name, "%s.%s", suites->module, test->name);
            if (!is_chosen(name, argc, argv)) {
                continue;
            }
            double start_s = now_s();
            bool is_good = is_here ? run_body(test) : run_apart(test);
            *(is_good ? &passed : &failed) += 1;
            printf("%s %s (%.3f s)\n", is_good ? "ok  " : "FAIL", name,
                   now_s() - start_s);
        }
    }
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
