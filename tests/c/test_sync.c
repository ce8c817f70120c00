/* Waiting and waking, and the signals of native threads. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "core/sync.h"

#include "support.h"

#include <pthread.h>
#include <signal.h>

static struct ab_mutex mutex;
static struct ab_cond changed;
static int turn;

static void *
take_odd_turns(void *context)
{
    (void)context;
    ab_mutex_lock(&mutex);
    while (turn < 1000) {
        while (turn % 2 == 0) {
            ab_cond_wait(&changed, &mutex);
        }
        turn++;
        ab_cond_signal(&changed);
    }
    ab_mutex_unlock(&mutex);
    return NULL;
}

static void
signal_wakes_who_waits(void)
{
    ab_mutex_init(&mutex);
    ab_cond_init(&changed);
    turn = 0;
    pthread_t other;
    REQUIRE(pthread_create(&other, NULL, take_odd_turns, NULL) == 0);
    ab_mutex_lock(&mutex);
    while (turn < 1000) {
        turn++;
        ab_cond_signal(&changed);
        while (turn % 2 == 1) {
            ab_cond_wait(&changed, &mutex);
        }
    }
    CHECK_EQUAL(turn, 1000);
    ab_mutex_unlock(&mutex);
    pthread_join(other, NULL);
    ab_cond_fini(&changed);
    ab_mutex_fini(&mutex);
}

static void
wait_ends_at_its_deadline_and_not_before(void)
{
    ab_mutex_init(&mutex);
    ab_cond_init(&changed);
    ab_mutex_lock(&mutex);
    int64_t deadline_ns = ab_clock_now_ns() + 300000;
    while (ab_clock_now_ns() < deadline_ns) {
        ab_cond_wait_until(&changed, &mutex,
                           ab_clock_to_system_ns(deadline_ns));
    }
    int64_t late_ns = ab_clock_now_ns() - deadline_ns;
    CHECK(late_ns >= 0 && late_ns < 10 * SECOND);
    // One that has passed ends at once.
    ab_cond_wait_until(&changed, &mutex, deadline_ns - SECOND);
    ab_mutex_unlock(&mutex);
    ab_cond_fini(&changed);
    ab_mutex_fini(&mutex);
}

static sigset_t mask_inside;
static bool has_run;

static void
note_mask(void)
{
    ab_mutex_lock(&mutex);
    pthread_sigmask(SIG_BLOCK, NULL, &mask_inside);
    has_run = true;
    ab_cond_signal(&changed);
    ab_mutex_unlock(&mutex);
}

static void
native_thread_takes_no_signals_but_faults(void)
{
    ab_mutex_init(&mutex);
    ab_cond_init(&changed);
    has_run = false;
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    REQUIRE(ab_thread_start(note_mask) == AB_OK);
    ab_mutex_lock(&mutex);
    while (!has_run) {
        ab_cond_wait(&changed, &mutex);
    }
    ab_mutex_unlock(&mutex);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    const int blocked[] = {SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGCHLD};
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof blocked / sizeof *blocked; i++) {
        CHECK(sigismember(&mask_inside, blocked[i]) == 1);
        CHECK(sigismember(&before, blocked[i]) ==
              sigismember(&after, blocked[i]));
    }
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        CHECK(sigismember(&mask_inside, faults[i]) == 0);
    }
}

const struct test sync_tests[] = {
    TEST(signal_wakes_who_waits),
    TEST(wait_ends_at_its_deadline_and_not_before),
    TEST(native_thread_takes_no_signals_but_faults),
    TESTS_END,
};
